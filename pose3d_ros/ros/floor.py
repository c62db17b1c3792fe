"""Where a camera has the floor: nowhere, as parameters say, or as TF says at the time of each image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pose3d_ros.records import Frame, GroundPlane
from pose3d_ros.ros.params import ParameterError
from pose3d_ros.ros.tf import NoTransformError, Transforms


class Floor:
    """Gives frames their floor. State: none; missed is told of every frame for which the floor is not known."""

    def __init__(self, plane: GroundPlane | None = None, transforms: Transforms | None = None, ground_frame: str = '',
                 tilt_sigma: float = GroundPlane.tilt_sigma, height_sigma: float = GroundPlane.height_sigma) -> None:
        """plane: the floor that a fixed camera has; else transforms: where to ask for ground_frame, whose z = 0 it is.

        tilt_sigma [rad], height_sigma [m]: how exact TF is.
        """
        self._plane, self._transforms, self._ground_frame = plane, transforms, ground_frame
        self._tilt_sigma, self._height_sigma = tilt_sigma, height_sigma

    @classmethod
    def open(cls, values: Mapping[str, Any], listen: Callable[[], Transforms]) -> Floor:
        """Return the floor that parameters of a node say. Raises ParameterError, and TfUnavailableError from listen."""
        source, tilt_sigma = values['ground_source'], float(np.radians(values['ground_tilt_sigma']))
        height_sigma = values['ground_height_sigma']
        if source == 'parameters':
            if values['camera_height'] <= 0:
                raise ParameterError('camera_height: give the height of the camera above the floor in m, or set '
                                     'ground_source to none')
            return cls(GroundPlane.under_camera(values['camera_height'], float(np.radians(values['camera_pitch'])),
                                                float(np.radians(values['camera_roll'])), tilt_sigma, height_sigma))
        if source == 'tf':
            if not values['ground_frame']:
                raise ParameterError('ground_frame: name the frame whose z = 0 is the floor, as base_footprint or odom')
            return cls(None, listen(), values['ground_frame'], tilt_sigma, height_sigma)
        return cls()

    @property
    def source(self) -> str:
        """In words, for diagnostics."""
        if self._transforms is not None:
            return f'TF, frame {self._ground_frame}'
        return 'parameters' if self._plane is not None else 'none'

    def under(self, frame: Frame, missed: Callable[[str, str], None]) -> Frame:
        """Return the frame with its floor; as it was where nobody knows. missed: is told cause and text then."""
        if self._transforms is None:
            return replace(frame, ground=self._plane) if self._plane is not None else frame
        try:
            rotation, translation = self._transforms.lookup(frame.frame_id, self._ground_frame, frame.stamp_ns)
            up = rotation[:, 2]
        except NoTransformError as error:
            missed(error.cause, str(error))
            return frame
        height = float(-up @ translation)
        if height <= 0:
            missed('camera_below_floor', f'the camera {frame.frame_id!r} lies {-height:.2f} m under z = 0 of '
                                         f'{self._ground_frame!r}, which ground_frame says is the floor')
            return frame
        return replace(frame, ground=GroundPlane(up, height, self._tilt_sigma, self._height_sigma))

    def close(self) -> None:
        """Stop listening to TF."""
        if self._transforms is not None:
            self._transforms.close()
