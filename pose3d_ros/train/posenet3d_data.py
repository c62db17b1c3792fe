"""Clips of 2D poses to train PoseNet3D on: what cameras detected, turned to the person. No 3D pose comes in here.

Beside the 2D joints a camera's upward direction is used (of a recording: what it stands at; of a robot: TF), so that
people can be turned about the vertical.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pose3d_ros.lift import input_points
from pose3d_ros.nets.posenet3d import HIPS, SHOULDERS
from pose3d_ros.nets.posenet3d_clips import IN_FRONT
from pose3d_ros.nets.window import facing
from pose3d_ros.train.recording import Recording


def joint_points() -> NDArray[np.float64]:
    """Return the matrix (14, 17) that makes the joints of nets/posenet3d.py from HUMAN17."""
    given = input_points()
    return np.concatenate([given, given[list(SHOULDERS)].mean(axis=0, keepdims=True)])


@dataclass(frozen=True)
class Clips:
    """F moments seen by V cameras, each as by a camera turned to the root of the person.

    rays (F, V, 14, 2) against the root, 0 where missing; seen (F, V, 14): 1 where known; up (F, V, 3): unit vector away
    from the floor; turn (F, V, 3, 3): from the camera; first, last (F,): the ends of each moment's clip.
    """

    rays: NDArray[np.float32]
    seen: NDArray[np.float32]
    up: NDArray[np.float32]
    turn: NDArray[np.float32]
    first: NDArray[np.intp]
    last: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.rays)

    def around(self, moments: NDArray, length: int, before: int) -> NDArray[np.intp]:
        """Return the moments (B, length) from `before` frames before moments (B,) on; ends of clips are repeated."""
        wanted = moments[:, None] + np.arange(length) - before
        return np.clip(wanted, self.first[moments, None], self.last[moments, None])

    def windows(self, moments: NDArray, views: NDArray, length: int,
                before: int | None = None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return clips (B, length, 14, 2) and seen (B, length, 14) of moments (B,) as views (B,) have them.

        before: how many frames of a clip lie before its moment; by default it is in the middle.
        """
        chosen = self.around(moments, length, length // 2 if before is None else before)
        return self.rays[chosen, views[:, None]], self.seen[chosen, views[:, None]]


def clips_of(recording: Recording) -> Clips:
    """Return the clips of a recording."""
    matrix = joint_points()
    rays = np.einsum('kj,fvjc->fvkc', matrix, recording.rays.astype(np.float64))
    known = np.einsum('kj,fvj->fvk', matrix > 0, recording.confidence <= 0) == 0
    flat, seen, turn = turned(rays, known)
    up = np.einsum('fvij,vj->fvi', turn, recording.camera_T_world[:, :3, 2])
    first, last = recording.ends
    return Clips(flat.astype(np.float32), seen.astype(np.float32), up.astype(np.float32), turn.astype(np.float32),
                 first, last)


def turned(rays: NDArray, known: NDArray[np.bool_]) -> tuple[NDArray, NDArray[np.bool_], NDArray]:
    """Return rays (..., 14, 2) against the root as by a camera turned to it, what is seen, and the turn (..., 3, 3).

    rays (..., 14, 2), known (..., 14). A person without both hips has no root: nothing is seen of it. For robots
    nets/posenet3d_clips.look does the same (a test compares).
    """
    root = rays[..., HIPS, :].mean(axis=-2)
    whole = known[..., HIPS[0]] & known[..., HIPS[1]]
    turn = facing(torch.from_numpy(np.where(whole[..., None], root, 0).reshape(-1, 2))).numpy()
    turn = turn.reshape(*root.shape[:-1], 3, 3)
    ways = np.concatenate([rays, np.ones_like(rays[..., :1])], axis=-1) @ np.swapaxes(turn, -1, -2)
    flat = ways[..., :2] / np.maximum(ways[..., 2:], IN_FRONT)
    flat = flat - flat[..., HIPS, :].mean(axis=-2, keepdims=True)
    seen = known & whole[..., None]
    return np.where(seen[..., None], flat, 0), seen, turn
