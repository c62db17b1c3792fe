"""What happened in front of the four sample cameras: the 2D joints of all of them, triangulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.camera import Camera
from pose3d_ros.fuse.sides import exchanged_views, with_sides
from pose3d_ros.fuse.triangulate import triangulate
from pose3d_ros.records import Person2D
from pose3d_ros.skeleton import BLAZEPOSE33, LIMBS12, select

Floats = NDArray[np.float64]

# The detector's disagreement between views, not its own opinion of itself: one standard deviation, and the most that a
# view may lie off before it is left out of a joint.
SIGMA_PX = 5.0
GATE = 4.0


@dataclass(frozen=True)
class View:
    """One calibrated camera: camera_T_world (4, 4)."""

    name: str
    camera: Camera
    camera_T_world: Floats  # noqa: N815 (a_T_b: maps b to a)


@dataclass(frozen=True)
class Reference:
    """The subject's twelve limb joints over T frames, and how far to trust them.

    points (T, 12, 3) m in the common frame, NaN where fewer than two views agree. reprojection_px: mean distance of the
    views used; dropped_share: of all joints seen by a view, those left out; limb_variation: standard deviation of a
    bone's length over its mean, mean over the eight limb bones; exchanged_share: views and frames whose sides were
    exchanged (any part of the body).
    """

    points: Floats
    reprojection_px: float
    dropped_share: float
    limb_variation: float
    exchanged_share: float

    def in_view(self, view: View) -> Floats:
        """Return the points (T, 12, 3) m in the optical frame of a view."""
        return self.points @ view.camera_T_world[:3, :3].T + view.camera_T_world[:3, 3]


def largest(people: Sequence[Person2D]) -> Person2D | None:
    """Return the person with the largest box: in the sample the subject, who stands in front of all others."""
    return max(people, key=lambda person: float(np.prod(person.box[2:] - person.box[:2])), default=None)


def build_reference(views: Sequence[View], detections: Sequence[Sequence[Sequence[Person2D]]]) -> Reference:
    """Triangulate the subject from detections[view][frame] (lists of people, skeleton BLAZEPOSE33)."""
    frames = min(len(of_view) for of_view in detections)
    pixels = np.full((len(views), frames, len(BLAZEPOSE33), 2), np.nan)
    rays, confidence = pixels.copy(), np.zeros(pixels.shape[:3])
    for position, of_view in enumerate(detections):
        for frame, people in enumerate(of_view[:frames]):
            subject = largest(people)
            if subject is not None:
                pixels[position, frame], rays[position, frame] = subject.pixels, subject.rays
                confidence[position, frame] = np.nan_to_num(subject.joint_confidence)
    poses = np.array([view.camera_T_world for view in views])
    focal = np.array([np.sqrt(view.camera.fx * view.camera.fy) for view in views])[:, None, None]

    exchanged = exchanged_views(rays, poses, SIGMA_PX / focal, BLAZEPOSE33, confidence=confidence, gate=GATE)
    sided = select(with_sides(rays, exchanged, BLAZEPOSE33), BLAZEPOSE33, LIMBS12)
    trust = select(with_sides(confidence, exchanged, BLAZEPOSE33), BLAZEPOSE33, LIMBS12, axis=-1)
    result = triangulate(sided, poses, SIGMA_PX / focal, trust, gate=GATE)
    seen = np.isfinite(sided).all(axis=-1) & np.isfinite(result.points).all(axis=-1)
    return Reference(
        result.points,
        float(np.mean((result.residual * focal)[result.used])) if result.used.any() else float('nan'),
        float(1.0 - result.used.sum() / max(seen.sum(), 1)),
        limb_variation(result.points),
        float(exchanged.any(axis=0).mean()))


def limb_variation(points: Floats) -> float:
    """Return how much bones change their length over the frames of points (T, 12, 3): std / mean, mean over limbs."""
    bones = [(LIMBS12.index(f'{side}_{a}'), LIMBS12.index(f'{side}_{b}')) for side in ('left', 'right')
             for a, b in (('shoulder', 'elbow'), ('elbow', 'wrist'), ('hip', 'knee'), ('knee', 'ankle'))]
    start, end = np.array(bones).T
    length = np.linalg.norm(points[:, end] - points[:, start], axis=-1)  # (T, 8)
    if not np.isfinite(length).any(axis=0).all():
        return float('nan')
    return float(np.mean(np.nanstd(length, axis=0) / np.nanmean(length, axis=0)))
