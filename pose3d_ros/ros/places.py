"""Where the cameras stand: as TF says at the time of each image, or as a calibration file says for good."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.calibration import load_places
from pose3d_ros.ros.params import ParameterError
from pose3d_ros.ros.tf import NoTransformError, Transforms

Array = NDArray[np.float64]


class Places:
    """Gives cameras their place in the common frame. State: of a file, the places; update() and reload() change it."""

    def __init__(self, frame: str, transforms: Transforms | None = None, path: str = '') -> None:
        """frame: the common one. transforms: where to ask; else path: a calibration file. Raises CalibrationError."""
        self._frame, self._transforms, self._path = frame, transforms, path
        self._places: Mapping[str, Array] = {} if transforms is not None else load_places(path)
        self._updated = False

    @classmethod
    def open(cls, values: Mapping[str, Any], listen: Callable[[], Transforms]) -> Places:
        """Return the places that parameters of a node say: extrinsics_source, calibration and frame.

        Raises ParameterError, CalibrationError of the file, and TfUnavailableError from listen.
        """
        if not values['frame']:
            raise ParameterError('frame: name the common frame of the cameras, as map')
        if values['extrinsics_source'] == 'tf':
            return cls(values['frame'], listen())
        if not values['calibration']:
            raise ParameterError('calibration: name the file with the places of the cameras, or set extrinsics_source '
                                 'to tf')
        return cls(values['frame'], path=values['calibration'])

    @property
    def source(self) -> str:
        """In words, for diagnostics."""
        if self._transforms is not None:
            return f'TF, frame {self._frame}'
        return f'file {self._path}' + (', changed since by calibration' if self._updated else '')

    def lookup(self, camera: str, frame_id: str, stamp_ns: int) -> Array:
        """Return camera_T_common (4, 4): maps points (m) of the common frame to the optical frame of the camera.

        camera: its name; frame_id, stamp_ns: of the image. A file has it under the name of the camera, or else under
        that of its frame. Raises NoTransformError where the place is not known, or not at this time.
        """
        if self._transforms is None:
            place = self._places.get(camera, self._places.get(frame_id))
            if place is None:
                raise NoTransformError(
                    'no_place', f'{self._path} has no place of camera {camera!r} (frame {frame_id!r}), it has: '
                                f'{", ".join(self._places)}; calibrate it, or rename it')
            return place.copy()
        if not frame_id:
            raise NoTransformError('no_frame_id', f'what comes from camera {camera!r} has no frame_id, which TF needs; '
                                                  'set it in the driver of the camera')
        rotation, translation = self._transforms.lookup(frame_id, self._frame, stamp_ns)
        place = np.eye(4)
        place[:3, :3], place[:3, 3] = rotation, translation
        return place

    def update(self, places: Mapping[str, Array]) -> None:
        """Let camera_T_common (4, 4) hold from now on for these cameras.

        Raises ParameterError where TF is the source.
        """
        self._check_changeable()
        self._places = {**self._places, **{name: np.array(place) for name, place in places.items()}}
        self._updated = True

    def reload(self) -> None:
        """Read the file again, in place of all that was known; when that fails, that stays.

        Raises CalibrationError, and ParameterError where TF is the source.
        """
        self._check_changeable()
        self._places = load_places(self._path)
        self._updated = False

    def close(self) -> None:
        """Stop listening to TF."""
        if self._transforms is not None:
            self._transforms.close()

    def _check_changeable(self) -> None:
        if self._transforms is not None:
            raise ParameterError('extrinsics_source is tf: places change by publishing other transforms; for those of '
                                 'a file set it to file')
