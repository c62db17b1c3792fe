"""The ablation of the 3D Human Pose Machine (table 5): which training each row takes, and how it is tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from pose3d_ros.lift import input_points
from pose3d_ros.nets.correction import Correction, CorrectionSettings, LearnedCorrection, PinholeCorrection
from pose3d_ros.nets.machine import Machine
from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.machine import errors_mm
from pose3d_ros.train.machine_data import Clips

FORMS = ('learned', 'pinhole', 'direct')  # Psi_P as published; the true projection on Psi_C, or on the pose itself
ALONG = 256   # clips predicted at a time


@dataclass(frozen=True)
class Variant:
    """One row.

    training: of machine.TRAININGS; test: whose pose counts, Psi_T's (`pose`), Psi_C's (`regressed`) or that after the
    correction (`corrected`); alone: every frame as if it were the first; truth: corrected with the true joints in the
    image; published: mm of table 5.
    """

    purpose: str
    training: str = 'full'
    test: str = 'corrected'
    alone: bool = False
    truth: bool = False
    published: float = 0.0


VARIANTS = {
    'no_correction': Variant('without self-supervised correction in training and test', 'no_correction', 'pose',
                             published=80.15),
    'no_test_correction': Variant('without correction at test', test='regressed', published=67.63),
    'no_projection': Variant('joints in the image told, not projected (multi-task)', 'no_projection', 'pose',
                             published=86.80),
    'no_temporal': Variant('one frame in training and test, no LSTM', 'no_temporal', alone=True, published=90.83),
    'single_frame': Variant('one frame at test', alone=True, published=67.70),
    'full': Variant('the method', published=63.67),
    'gt_2d': Variant('corrected with the true joints in the image', truth=True, published=59.41),
}
# The comparisons of the paper: each row is worse than the one it is compared with.
COMPARISONS = (('no_correction', 'no_test_correction'), ('no_test_correction', 'full'), ('no_projection', 'full'),
               ('no_temporal', 'full'), ('single_frame', 'full'), ('full', 'gt_2d'))


@dataclass(frozen=True)
class Result:
    """mpjpe_mm; discarded: share of frames whose correction went too far (section 3.3)."""

    mpjpe_mm: float
    discarded: float


def make_correction(network: Machine, form: str, settings: CorrectionSettings) -> Correction:
    """Return a correction with a trained projector. Raises ValueError for another form."""
    if form not in FORMS:
        raise ValueError(f'form {form!r}: expected one of {", ".join(FORMS)}')
    folded = network.projector.folded()
    if form == 'learned':
        return LearnedCorrection(folded, HUMAN17.joints, settings).eval()
    return PinholeCorrection(folded, HUMAN17.joints, settings, input_points().tolist(), form == 'direct').eval()


def evaluate(name: str, network: Machine, clips: Clips, correction: Correction) -> Result:
    """Return the figures of a row; network: one of the row's training. Errors as in machine.errors_mm."""
    variant = VARIANTS[name]
    pose, discarded = predict(network, clips, variant, correction)
    return Result(errors_mm(pose, clips), discarded)


@torch.no_grad()
def predict(network: Machine, clips: Clips, variant: Variant, correction: Correction) -> tuple[NDArray, float]:
    """Return poses (N, T, 17, 3) in statures, and the share of frames whose correction was discarded."""
    network.eval()
    parts, kept = [], []
    for start in range(0, len(clips), ALONG):
        part = clips.where(slice(start, start + ALONG))
        shown = part.frame_by_frame() if variant.alone else part
        steps = network.clip(torch.from_numpy(shown.features), torch.from_numpy(shown.since))
        pose = steps.regressed if variant.test == 'regressed' else steps.pose
        if variant.test == 'corrected':
            # Directly, poses are pulled from what Psi_C says, which is what the other forms begin with too.
            begin = steps.regressed if getattr(correction, 'direct', False) else steps.pose
            rays, confidence = (part.truth, part.known) if variant.truth else (part.rays, part.confidence)
            flat = [torch.from_numpy(array.reshape(-1, *array.shape[2:])) for array in (rays, confidence)]
            height = torch.from_numpy(np.repeat(part.stature, part.since.shape[1])[:, None])
            found = correction(begin.reshape(-1, *begin.shape[2:]), *flat, height)
            pose = found.pose
            kept.append(found.kept.numpy())
        parts.append(pose.reshape(*part.since.shape, -1, 3).numpy())
    return np.concatenate(parts), float(1 - np.concatenate(kept).mean()) if kept else 0.0


def curve(network: Machine, clips: Clips, form: str, rates: Sequence[float],
          updates: Sequence[int] = (1, 2, 4), projection: float = 1.0) -> dict[tuple[float, int], Result]:
    """Return the figures of `full` for every rate and number of updates; projection: rate of Psi_P over that of Psi_C.

    The learning rate of the correction is chosen by this, on validation data (section 3.3: few updates, a large rate).
    """
    settings = CorrectionSettings(rate=0.0)
    return {(rate, count): evaluate('full', network, clips, make_correction(network, form, replace(
        settings, rate=rate, projection_rate=projection * rate, updates=count))) for rate in rates for count in updates}
