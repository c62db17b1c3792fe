"""From the rays of a person's joints to the clips that PoseNet3D is shown: train/posenet3d_data.py for robots."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pose3d_ros.nets.posenet3d import HIPS, JOINTS, SHOULDERS, middle
from pose3d_ros.nets.window import facing

INPUTS = len(JOINTS) - 1
IN_FRONT = 0.05     # of directions, along the axis of a camera turned to a person


class Look(NamedTuple):
    """What the networks are shown: clip (N, T, 14, 2) against the root, oldest first, 0 where missing; seen (N, T, 14).

    flat (N, 13, 2) and sure (N, 13, 1): the rays of the frame that is asked about, by a camera turned to the root, and
    confidences, both 0 where missing; turn (N, 3, 3): from the camera to that one; whole (N, 1, 1): 1 where both hips
    are seen.
    """

    clip: Tensor
    seen: Tensor
    flat: Tensor
    sure: Tensor
    turn: Tensor
    whole: Tensor


def look(rays: Tensor, confidence: Tensor, shown: int, now: int, order: Tensor) -> Look:
    """Return what the networks are shown of S frames, newest first: rays (N, S, 13, 2), confidence (N, S, 13).

    shown: S; now: the frame that is asked about; order (T,): which of the frames make the clip, oldest first.
    """
    count = len(JOINTS)
    confidence = confidence.clamp(0, 1).reshape(-1, shown, INPUTS, 1)
    seen = (confidence > 0).to(rays.dtype)
    values = torch.cat([torch.where(seen > 0, rays, 0 * seen), seen], dim=3)
    left, right = (values[:, :, joint:joint + 1] for joint in SHOULDERS)
    neck = torch.cat([0.5 * (left + right)[..., :2], left[..., 2:] * right[..., 2:]], dim=3)
    values = torch.cat([values, neck], dim=2)                                      # (N, S, 14, 3)
    whole = (values[:, :, HIPS[0]:HIPS[0] + 1, 2:] * values[:, :, HIPS[1]:HIPS[1] + 1, 2:])
    values = torch.cat(_filled(values, whole), dim=1)
    root = middle(values[..., :2])
    turn = facing(root.reshape(-1, 2))
    columns = turn.transpose(1, 2)
    ways = values[..., :2].reshape(-1, count, 2) @ columns[:, :2] + columns[:, 2:]
    flat = (ways[..., :2] / ways[..., 2:].clamp(min=IN_FRONT)).reshape(-1, shown, count, 2)
    seen = values[..., 2:]
    clip = torch.cat([(flat - middle(flat)) * seen, seen], dim=3).index_select(1, order)
    return Look(clip[..., :2], clip[..., 2], (flat * seen)[:, now, :INPUTS], confidence[:, now],
                turn.reshape(-1, shown, 9)[:, now].reshape(-1, 3, 3), whole[:, now])


def _filled(values: Tensor, whole: Tensor) -> list[Tensor]:
    """Return frames (N, 1, 14, 3) of values (N, S, 14, 3), newest first; for one without both hips, the newer one."""
    frames, there = list(values.split(1, dim=1)), (whole > 0).split(1, dim=1)
    for number in range(1, len(frames)):
        frames[number] = torch.where(there[number], frames[number], frames[number - 1])
    return frames
