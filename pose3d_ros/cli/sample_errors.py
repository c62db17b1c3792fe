"""What a 2D detector gets wrong on the sample footage, against the other three cameras."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.cli.sample_reference import GATE, SIGMA_PX, View, largest
from pose3d_ros.fuse.sides import exchanged_views, with_sides
from pose3d_ros.fuse.triangulate import triangulate
from pose3d_ros.records import Person2D
from pose3d_ros.skeleton import BLAZEPOSE33, HUMAN17, LIMBS12

Floats = NDArray[np.float64]

# Which landmarks stand for joints of HUMAN17 that BlazePose does not have. The trunk's are means of what it has; for
# the top of the neck and of the head the middle of the ears is the nearest of kin.
_HIPS, _SHOULDERS = ('left_hip', 'right_hip'), ('left_shoulder', 'right_shoulder')
STAND_INS = {'pelvis': _HIPS, 'thorax': _SHOULDERS, 'spine': (*_HIPS, *_SHOULDERS),
             'neck': ('left_ear', 'right_ear'), 'head': ('left_ear', 'right_ear')}

MEASURED = HUMAN17.indices(list(LIMBS12.joints))      # what the detector gives itself

Detections = Sequence[Sequence[Sequence[Person2D]]]   # of each view, of each frame


def detector_errors(views: Sequence[View], tested: Detections, trusted: Detections, stature: float) -> Floats:
    """Return the errors (V, T, 17, 2) of the tested detections, in units of the person's stature in the image.

    The reference of a view is what the trusted detections of all other views triangulate to, so that no view vouches
    for itself; its own error is part of the result. stature: of the subject, m. NaN where one of the two is missing.
    """
    rays, _ = _subject(tested)
    others, confidence = _subject(trusted)
    frames = min(rays.shape[1], others.shape[1])
    rays, others, confidence = rays[:, :frames], others[:, :frames], confidence[:, :frames]
    poses = np.array([view.camera_T_world for view in views])
    sigma = np.array([SIGMA_PX / np.sqrt(view.camera.fx * view.camera.fy) for view in views])[:, None, None]
    exchanged = exchanged_views(others, poses, sigma, BLAZEPOSE33, confidence=confidence, gate=GATE)
    others = with_sides(others, exchanged, BLAZEPOSE33)
    confidence = with_sides(confidence, exchanged, BLAZEPOSE33)

    weights = _to_human17()
    hips = BLAZEPOSE33.indices(list(_HIPS))
    errors = np.full((len(views), frames, len(HUMAN17), 2), np.nan)
    for view in range(len(views)):
        rest = [other for other in range(len(views)) if other != view]
        world = triangulate(others[rest], poses[rest], sigma[rest], confidence[rest], gate=GATE).points
        points = world @ poses[view, :3, :3].T + poses[view, :3, 3]
        off = rays[view] - points[..., :2] / points[..., 2:]
        size = stature / points[:, hips, 2].mean(axis=1)
        errors[view] = np.stack([(off[:, weight > 0] * weight[weight > 0, None]).sum(axis=1) for weight in weights],
                                axis=1) / size[:, None, None]
    return errors


def autocorrelation(errors: Floats, lag: int) -> float:
    """Return the correlation of errors (V, T, J, 2) with those `lag` frames later, nothing removed from them."""
    before, after = errors[:, :-lag], errors[:, lag:]
    both = np.isfinite(before + after)
    before, after = np.where(both, before, 0), np.where(both, after, 0)
    return float((before * after).sum() / np.sqrt(np.square(before).sum() * np.square(after).sum()))


def _to_human17() -> Floats:
    """Return the weight (17, 33) of each landmark in each joint."""
    weights = np.zeros((len(HUMAN17), len(BLAZEPOSE33)))
    for position, joint in enumerate(HUMAN17.joints):
        landmarks = STAND_INS.get(joint, (joint,))
        weights[position, BLAZEPOSE33.indices(list(landmarks))] = 1 / len(landmarks)
    return weights


def _subject(detections: Detections) -> tuple[Floats, Floats]:
    """Return rays (V, T, 33, 2) and confidence (V, T, 33) of the subject; NaN and 0 where it was not found."""
    frames = min(len(of_view) for of_view in detections)
    rays = np.full((len(detections), frames, len(BLAZEPOSE33), 2), np.nan)
    confidence = np.zeros(rays.shape[:3])
    for position, of_view in enumerate(detections):
        for frame, people in enumerate(of_view[:frames]):
            subject = largest(people)
            if subject is not None:
                rays[position, frame] = subject.rays
                confidence[position, frame] = np.nan_to_num(subject.joint_confidence)
    return rays, confidence
