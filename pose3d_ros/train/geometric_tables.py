"""The tables of the geometry-driven method on our data: which variant is tested on what, and what is compared."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.nets.geometric import GeometricLifter
from pose3d_ros.stature import stature
from pose3d_ros.train.body import PELVIS
from pose3d_ros.train.error_fit import FittedErrors
from pose3d_ros.train.geometric import (
    PREDICTIONS,
    GeometricSettings,
    crossview_errors,
    load_trained,
    predict,
    predict_rays,
    watched,
)
from pose3d_ros.train.geometric_labels import seen_by
from pose3d_ros.train.geometric_variants import VARIANTS, VIEWS_SEED
from pose3d_ros.train.loop import CHECKPOINT, LOG, read_checkpoint
from pose3d_ros.train.metrics import mpjpe, mrpe, n_mpjpe, pa_mpjpe
from pose3d_ros.train.mocap import Mocap
from pose3d_ros.train.recording import Recording, RecordingError
from pose3d_ros.train.views import estimated_extrinsics, from_first, pose_errors
from pose3d_ros.train.virtual_camera import ROBOT, CameraDistribution, look

Figures = dict[str, float]


@dataclass(frozen=True)
class TrainedVariant:
    """A variant as it came out of training, in its folder; step and seconds of it."""

    network: GeometricLifter
    settings: GeometricSettings
    folder: Path
    step: int
    seconds: float


def load_variants(folder: Path) -> dict[str, TrainedVariant]:
    """Return the variants found in a folder by name, in the order of VARIANTS. Raises CheckpointError."""
    found = {}
    for name in VARIANTS:
        path = folder / name / CHECKPOINT
        if path.exists():
            network, settings, _ = load_trained(path)
            state = read_checkpoint(path)
            found[name] = TrainedVariant(network, settings, path.parent, int(state['step']), float(state['seconds']))
    return found


def figures(relative: NDArray, root: NDArray, truth: NDArray) -> Figures:
    """Return the measures [mm] of joints against the root (B, 17, 3) and roots (B, 3) m; truth (B, 17, 3) m."""
    return {'mpjpe_mm': 1e3 * mpjpe(relative, truth), 'pa_mpjpe_mm': 1e3 * pa_mpjpe(relative, truth),
            'n_mpjpe_mm': 1e3 * n_mpjpe(relative, truth), 'mrpe_mm': 1e3 * mrpe(root, truth[:, PELVIS])}


def on_recording(variant: TrainedVariant, recording: Recording, truth: NDArray) -> Figures:
    """Return the measures on all views of a recording with its truth (F, 17, 3) m; cross-view errors are medians."""
    if len(truth) != len(recording):
        raise RecordingError(f'the truth has {len(truth)} moments, the recording {len(recording)}: not its own')
    count = len(recording.camera_T_world)
    moments, views = np.repeat(np.arange(len(recording)), count), np.tile(np.arange(count), len(recording))
    relative, root = predict(variant.network, recording, moments, views)
    _, across = crossview_errors(recording, moments, views, relative + root[:, None])
    focal = recording.focal[(views[:, None] + np.arange(1, count)) % count]
    return {**figures(relative, root, seen_by(recording, truth, moments, views)),
            'crossview_px': float(np.nanmedian(across * focal[..., None]))}


@dataclass(frozen=True)
class Strangers:
    """People in view of cameras that the network was not trained with: rays (B, 17, 2), points (B, 17, 3) m."""

    rays: NDArray[np.float32]
    points: NDArray[np.float32]

    @classmethod
    def draw(cls, mocap: Mocap, count: int, errors: FittedErrors | None, rng: np.random.Generator,
             cameras: CameraDistribution = ROBOT) -> Strangers:
        """Draw about count recorded people, those who are seen whole, with the errors of a detector."""
        poses = mocap.positions[rng.choice(len(mocap), count, p=mocap.frame_weights())]
        poses = poses - np.array([[1, 1, 0]], np.float32) * poses[:, PELVIS:PELVIS + 1]
        views = look(poses, rng, cameras)
        views = views.where(np.flatnonzero(views.visible.all(axis=1)))
        rays = views.rays
        if errors is not None:
            rays = rays + errors.sample(stature(views.points) / views.points[:, PELVIS, 2], rng)
        return cls(rays.astype(np.float32), views.points)


def on_strangers(variant: TrainedVariant, people: Strangers) -> Figures:
    """Return the measures on people who stand still before other cameras."""
    rays = np.repeat(people.rays[:, None], variant.network.frames, axis=1)
    return {'n': len(people.rays), **figures(*predict_rays(variant.network, rays), people.points)}


def extrinsics_figures(recording: Recording) -> Figures:
    """Return how far extrinsics that are estimated from a recording's people are from the given ones [deg].

    As the variant `estimated` has them, where it was trained on this recording.
    """
    given = from_first(recording)
    estimated = estimated_extrinsics(recording, np.linalg.norm(given[:, :3, 3], axis=1),
                                     np.random.default_rng(VIEWS_SEED))
    turned, aside = pose_errors(estimated, given)
    return {'rotation_mean_deg': float(turned.mean()), 'rotation_max_deg': float(turned.max()),
            'direction_mean_deg': float(aside.mean()), 'direction_max_deg': float(aside.max())}


def curves(variant: TrainedVariant, validation: Recording, truth: NDArray) -> dict[str, NDArray]:
    """Return by steps of training: step (S,), log_loss (S,), mpjpe_mm (S,) of the recording that it was watched on."""
    if len(truth) != len(validation):
        raise RecordingError(f'the truth has {len(truth)} moments, the recording {len(validation)}: not its own')
    target = seen_by(validation, truth, *watched(validation, variant.settings.watched))
    with (variant.folder / LOG).open(newline='') as file:
        rows = list(csv.DictReader(file))
    step = np.array([int(row['step']) for row in rows])
    errors = []
    for each in step:
        with np.load(variant.folder / PREDICTIONS / f'{each:06d}.npz', allow_pickle=False) as kept:
            errors.append(1e3 * mpjpe(kept['relative'], target))
    loss = np.array([float(row['loss']) for row in rows])
    return {'step': step, 'log_loss': np.log10(np.maximum(loss, 1.0)), 'mpjpe_mm': np.array(errors)}


def compare(found: Mapping[str, Figures]) -> Figures:
    """Return the comparisons of the paper's Table 1, of what was trained: ratios of MPJPE."""
    pairs = {'reprojection_over_transform': ('reprojection_only', 'transform'),
             'adversarial_over_transform': ('adversarial', 'transform'),
             'transform_over_augmented': ('transform', 'augmented'),
             'transform_over_supervised': ('transform', 'supervised'),
             'estimated_over_transform': ('estimated', 'transform'), 'pelvis_over_transform': ('pelvis', 'transform')}
    return {name: found[a]['mpjpe_mm'] / found[b]['mpjpe_mm'] for name, (a, b) in pairs.items()
            if a in found and b in found}
