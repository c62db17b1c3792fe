"""The teacher's network trained with labels, to compare PoseNet3D with; the method itself imports nothing of this."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pose3d_ros.nets.posenet3d import HEAD, HIPS, normalised
from pose3d_ros.train.loop import Run, fit
from pose3d_ros.train.posenet3d import TeacherSettings, TeacherTraining, identity_of, watch
from pose3d_ros.train.posenet3d_data import Clips, clips_of, joint_points
from pose3d_ros.train.recording import Recording, RecordingError


def true_joints(recording: Recording, clips: Clips, truth: NDArray, moments: NDArray,
                views: NDArray) -> NDArray[np.float32]:
    """Return the true joints (..., 14, 3) m against the root, in the frame of the camera turned to each person.

    truth (F, 17, 3) m in the recording's world; moments (...,) as views (...,) have them.
    """
    turn = clips.turn[moments, views].astype(np.float64) @ recording.camera_T_world[views, :3, :3]
    joints = (joint_points() @ truth[moments]) @ np.swapaxes(turn, -1, -2)
    return np.asarray(joints - joints[..., list(HIPS), :].mean(axis=-2, keepdims=True), dtype=np.float32)


def supervised_loss(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the mean distance of joints from the truth, in units: the true head is 1 from the root in the mean."""
    truth = batch['joints']
    clip, _ = normalised(batch['clip'])
    size = truth[:, :, HEAD].norm(dim=-1).mean(dim=1)
    return (network(clip) - truth / size[:, None, None, None]).norm(dim=-1).mean()


def train_supervised(recording: Recording, truth: NDArray, validation: Recording, out: Path, settings: TeacherSettings,
                     minutes: float = math.inf, command: str = '', quiet: bool = False) -> Run:
    """Train in `out` with labels: truth (F, 17, 3) m of the recording's moments, in its world.

    Raises RecordingError where the truth is another recording's, or where joints are missing.
    """
    clips, watched = clips_of(recording), clips_of(validation)
    if len(truth) != len(recording):
        raise RecordingError(f'the truth has {len(truth)} moments, the recording {len(recording)}: not its own')
    if not clips.seen.min() > 0:
        raise RecordingError('joints are missing; labels are compared on people seen whole')
    torch.manual_seed(settings.loop.seed)
    run = Run(TeacherTraining(settings), settings.loop, identity_of(settings), command)

    def batches(rng: np.random.Generator) -> Iterator[dict[str, NDArray]]:
        while True:
            moments = rng.integers(len(clips), size=settings.batch)
            views = rng.integers(clips.rays.shape[1], size=settings.batch)
            around = clips.around(moments, settings.frames, settings.frames // 2)
            everywhere = np.broadcast_to(views[:, None], around.shape)
            yield {'clip': clips.rays[around, everywhere],
                   'joints': true_joints(recording, clips, truth, around, everywhere)}

    return fit(run, supervised_loss, batches, lambda network: watch(network, watched, settings, out, run.step), out,
               minutes, quiet)
