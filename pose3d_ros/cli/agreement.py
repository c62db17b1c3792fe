"""How well the people of the world agree with what each camera saw of them, in pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.calibration import CalibratedCamera
from pose3d_ros.cli.fused_picture import in_camera
from pose3d_ros.cli.sample_reference import GATE, SIGMA_PX
from pose3d_ros.fuse.views import View
from pose3d_ros.records import Person3D
from pose3d_ros.skeleton import LIMBS12, select

Floats = NDArray[np.float64]

OFF_PX = GATE * SIGMA_PX  # a joint farther away than this was not used in that camera, or should not have been
_SAME = 0.15              # of the size in the image: who lies nearer than this on average is the same person


class Agreement:
    """Collects the distances between the limb joints that cameras saw and those of fused people, projected."""

    def __init__(self, cameras: Mapping[str, CalibratedCamera]) -> None:
        self._cameras = cameras
        self._distances: dict[str, list[Floats]] = defaultdict(list)

    def add(self, views: Sequence[View], people: Sequence[Person3D]) -> None:
        """Take in what cameras saw at one moment, and the people of the world at that moment."""
        for view in views:
            camera = self._cameras[view.camera].camera
            fused = [select(camera.project(in_camera(person, view.camera_T_world).position), person.skeleton, LIMBS12)
                     for person in people]
            for person in view.people_2d if fused else ():
                seen = select(person.pixels, person.skeleton, LIMBS12)
                known = seen[np.isfinite(seen).all(axis=1)]
                if len(known) < 4:
                    continue
                distances = np.linalg.norm(np.array(fused) - seen, axis=-1)
                distances = distances[np.isfinite(distances).sum(axis=1) >= 4]
                middle = np.nanmedian(distances, axis=1)
                if len(middle) and middle.min() < _SAME * np.linalg.norm(np.ptp(known, axis=0)):
                    nearest = distances[middle.argmin()]
                    self._distances[view.camera].append(nearest[np.isfinite(nearest)])

    def figures(self, camera: str) -> dict[str, float]:
        """Return the median distance [px] of a camera's joints, and the share of those farther than OFF_PX away."""
        distances = np.concatenate([np.zeros(0), *self._distances[camera]])
        if not len(distances):
            return {'residual_px': float('nan'), 'joints_off_share': float('nan')}
        return {'residual_px': round(float(np.median(distances)), 2),
                'joints_off_share': round(float(np.mean(distances > OFF_PX)), 4)}
