"""Pose attributes on the sample footage: what four cameras say together, and how often a detector agrees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.attributes import ATTRIBUTE_JOINTS, KIND_OF, KINDS, UNKNOWN, relative_distances, seen_distances
from pose3d_ros.cli.sample_reference import GATE, SIGMA_PX, View, largest
from pose3d_ros.fuse.sides import exchanged_views, with_sides
from pose3d_ros.fuse.triangulate import triangulate
from pose3d_ros.records import Person2D
from pose3d_ros.skeleton import BLAZEPOSE33, HUMAN17, select

Floats = NDArray[np.float64]
Detections = Sequence[Sequence[Sequence[Person2D]]]  # of each view, of each frame

_MIDDLES = {'pelvis': ('left_hip', 'right_hip'), 'head': ('left_ear', 'right_ear')}
_LEAST = 1e-6  # a probability this small counts as this much in the log loss


@dataclass(frozen=True)
class Agreement:
    """How often a detector's most likely label is right, by kind of joint (5,); NaN where a kind is never known.

    accuracy; majority: of somebody who always says the joint's most frequent label; brier: mean squared distance
    between probabilities and truth, 0 to 2; log_loss: mean of -log of the true label's probability; known: how many
    labels were compared.
    """

    accuracy: Floats
    majority: Floats
    brier: Floats
    log_loss: Floats
    known: NDArray[np.int64]

    def figures(self, name: str) -> dict[str, float]:
        """Return one of the measures by kind, and its mean over the kinds."""
        values = getattr(self, name)
        return {**{kind: float(value) for kind, value in zip(KINDS, values)}, 'mean': float(np.mean(values))}


def true_distances(views: Sequence[View], trusted: Detections) -> Floats:
    """Return the signed distances (T, 9) in trunk lengths by all views together (skeleton BLAZEPOSE33).

    The head is the middle of the ears: BlazePose has no top of the head. NaN where too few views agree.
    """
    frames = min(len(of_view) for of_view in trusted)
    rays = np.full((len(views), frames, len(BLAZEPOSE33), 2), np.nan)
    confidence = np.zeros(rays.shape[:3])
    for position, of_view in enumerate(trusted):
        for frame, people in enumerate(of_view[:frames]):
            if (subject := largest(people)) is not None:
                rays[position, frame] = subject.rays
                confidence[position, frame] = np.nan_to_num(subject.joint_confidence)
    poses = np.array([view.camera_T_world for view in views])
    sigma = np.array([SIGMA_PX / np.sqrt(view.camera.fx * view.camera.fy) for view in views])[:, None, None]
    exchanged = exchanged_views(rays, poses, sigma, BLAZEPOSE33, confidence=confidence, gate=GATE)
    points = triangulate(with_sides(rays, exchanged, BLAZEPOSE33), poses, sigma,
                         with_sides(confidence, exchanged, BLAZEPOSE33), gate=GATE).points
    body = select(points, BLAZEPOSE33, HUMAN17)
    for joint, ends in _MIDDLES.items():
        body[:, HUMAN17.index(joint)] = points[:, BLAZEPOSE33.indices(ends)].mean(axis=1)
    return relative_distances(body)


def detected_distances(tested: Detections) -> Floats:
    """Return the signed distances (V, T, 9) in trunk lengths that each view's detections speak for; NaN where none."""
    frames = min(len(of_view) for of_view in tested)
    found = np.full((len(tested), frames, len(ATTRIBUTE_JOINTS)), np.nan)
    for position, of_view in enumerate(tested):
        for frame, people in enumerate(of_view[:frames]):
            if (subject := largest(people)) is not None:
                found[position, frame] = seen_distances([subject])[0]
    return found


def agreement(said: Floats, truth: NDArray) -> Agreement:
    """Compare probabilities (..., 9, 3), zeros where unknown, with labels (..., 9), -1 where unknown.

    Kinds count alike on both sides; a joint of unknown probability or label is left out.
    """
    said, truth = said.reshape(-1, *said.shape[-2:]), truth.reshape(-1, truth.shape[-1])
    measures = np.full((4, len(KINDS)), np.nan)
    known = np.zeros(len(KINDS), dtype=np.int64)
    for kind in range(len(KINDS)):
        joints = np.flatnonzero(kind == KIND_OF)
        chance, right = said[:, joints].reshape(-1, 3), truth[:, joints].ravel()
        told = (chance.sum(axis=1) > 0.5) & (right != UNKNOWN)
        known[kind] = told.sum()
        if not told.any():
            continue
        chance, right = chance[told], right[told]
        most = [np.bincount(labels[labels != UNKNOWN], minlength=3) for labels in truth[:, joints].T]
        of_right = chance[np.arange(len(right)), right]
        measures[:, kind] = (
            (chance.argmax(axis=1) == right).mean(), sum(count.max() for count in most) / np.sum(most),
            np.square(chance - np.eye(3)[right]).sum(axis=1).mean(), -np.log(np.maximum(of_right, _LEAST)).mean())
    accuracy, majority, brier, log_loss = measures
    return Agreement(accuracy, majority, brier, log_loss, known)


def reliability(said: Floats, truth: NDArray, bins: int = 5) -> list[tuple[float, float, int]]:
    """Return, for bins of probability, what was said on average, how often it was so, and how many: the same is good.

    said (..., 9, 3) and truth (..., 9) as in agreement.
    """
    told = (said.sum(axis=-1) > 0.5) & (truth != UNKNOWN)
    chance = said[told].ravel()
    came = (truth[told][:, None] == np.arange(3)).ravel()
    which = np.minimum((chance * bins).astype(np.intp), bins - 1)
    return [(float(chance[which == one].mean()), float(came[which == one].mean()), int((which == one).sum()))
            for one in range(bins) if (which == one).any()]
