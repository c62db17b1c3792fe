"""What one camera reports of one moment, as fusion takes it: its people, and where it stood."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.records import Person2D, Person3D


@dataclass(frozen=True)
class View:
    """The people one camera saw at stamp_ns.

    camera: its name, the same in every call. camera_T_world (4, 4): maps points of the common frame into the optical
    frame, at this stamp (a camera may move). people_2d: with the camera's own ids (0 where there are none). people:
    their mono 3D in the optical frame with the same ids; may hold fewer, or none. focal: px, what turns a sigma in
    pixels into one of rays. width, height: px. Raises ValueError for a transform that is not rigid or a focal length
    that is not positive.
    """

    camera: str
    camera_T_world: NDArray[np.float64]  # noqa: N815 (a_T_b: maps b to a)
    stamp_ns: int
    people_2d: list[Person2D]
    focal: float
    width: int
    height: int
    people: list[Person3D] = field(default_factory=list)

    def __post_init__(self) -> None:
        pose = self.camera_T_world if self.camera_T_world.shape == (4, 4) else np.zeros((4, 4))
        rotation = pose[:3, :3]
        if not (np.abs(rotation @ rotation.T - np.eye(3)).max() < 1e-3 and np.linalg.det(rotation) > 0
                and np.isfinite(pose).all() and np.allclose(pose[3], (0, 0, 0, 1))):
            raise ValueError(f'{self.camera}: camera_T_world is no rigid transform (4, 4): {pose}')
        if not (np.isfinite(self.focal) and self.focal > 0):
            raise ValueError(f'{self.camera}: the focal length is {self.focal} px; expected a positive number')
