"""AbsPoseLifter as published: its variants, their training, and what they are measured by (sections 3 and 5)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pose3d_ros.nets import absolute
from pose3d_ros.nets.absolute import AbsPoseLifter
from pose3d_ros.train.body import NO_VARIATION
from pose3d_ros.train.error_fit import FittedErrors
from pose3d_ros.train.laboratory import BODIES, LABORATORY, MIXED_FOCAL, Laboratory, Shots, shoot
from pose3d_ros.train.loop import CheckpointError, LoopSettings, Run, fit, read_checkpoint
from pose3d_ros.train.metrics import mpjpe, mrpe, mrpe_axes, pa_mpjpe
from pose3d_ros.train.mocap import Mocap

VALIDATION_SEED = 1000
DRAWN = 16384   # samples drawn at a time

NO_ERRORS, MIXTURE, GAUSSIAN = 'none', 'mixture', 'gaussian'


@dataclass(frozen=True)
class Variant:
    """One way to train, a row of one of the paper's tables.

    location, scale: features of the normalisation layer (Table 1); errors: of the 2D poses trained on (Table 2): none,
    mixture or gaussian; canonical: the loss of Table 5; mixed_focal: another focal length for every person.
    """

    location: bool = True
    scale: bool = True
    errors: str = NO_ERRORS
    canonical: bool = True
    mixed_focal: bool = False


VARIANTS = {
    'baseline': Variant(location=False, scale=False),
    'location': Variant(scale=False),
    'scale': Variant(location=False),
    'exact': Variant(),
    'mixture': Variant(errors=MIXTURE),
    'gaussian': Variant(errors=GAUSSIAN),
    'canonical': Variant(mixed_focal=True),
    'direct': Variant(mixed_focal=True, canonical=False),
}


@dataclass(frozen=True)
class PublishedSettings:
    """The network's size and its training. The paper: width 4096, dropout 0.5, batches of 64 fixed pairs, Rmsprop.

    Here pairs are drawn anew for ever, which asks for no dropout; a quarter of the width learns as well (docs/results).
    """

    width: int = 1024
    dropout: float = 0.0
    batch: int = 256
    body: str = 'recombined'      # of laboratory.BODIES: how recorded bodies are varied
    pose_weight: float = 1.0      # lambda of equation 7, see nets.absolute.loss
    mixed: bool = True            # bfloat16 in the residual blocks
    validation_samples: int = 4096
    loop: LoopSettings = LoopSettings(steps=6000, warm_up=300, learning_rate=1e-3, weight_decay=1e-4, average=0.998,
                                      validate_every=500)


def make_network(variant: Variant, width: int, dropout: float) -> AbsPoseLifter:
    """Return the network of a variant, freshly initialised."""
    return AbsPoseLifter(width=width, dropout=dropout, location=variant.location, scale=variant.scale)


def laboratory_of(variant: Variant) -> Laboratory:
    """Return where a variant is trained and tested."""
    return MIXED_FOCAL if variant.mixed_focal else LABORATORY


def batches(mocap: Mocap, laboratory: Laboratory, errors: FittedErrors | None, batch: int,
            rng: np.random.Generator) -> Iterator[dict[str, NDArray]]:
    """Yield batches for ever, every sample new: with errors as of a detector, half of them flipped."""
    weights = mocap.frame_weights()
    while True:
        drawn = shoot(mocap, max(DRAWN // batch, 1) * batch, rng, laboratory, weights)
        if errors is not None:
            drawn = drawn.with_errors(errors, rng)
        drawn = drawn.flipped(rng.random(len(drawn)) < 0.5)
        for start in range(0, len(drawn), batch):
            part = drawn.where(slice(start, start + batch))
            yield {name: getattr(part, name) for name in ('pixels', 'principal', 'focal', 'points')}


def loss(network: nn.Module, batch: dict[str, Tensor], variant: Variant, pose_weight: float) -> Tensor:
    """Return equation 7 of a batch."""
    depth, relative = network(batch['pixels'], batch['principal'])
    return absolute.loss(depth, relative, batch['points'], batch['focal'], pose_weight, variant.canonical)


def predict(network: nn.Module, shots: Shots, canonical: bool = True, batch: int = 2048) -> NDArray[np.float32]:
    """Return the joints (N, 17, 3) m that a network in evaluation mode gives for shots."""
    joints = absolute.ToAbsolute(network, canonical).eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(shots), batch):
            part = shots.where(slice(start, start + batch))
            parts.append(joints(*(torch.from_numpy(array) for array in (part.pixels, part.principal, part.focal))))
    return torch.cat(parts).numpy()


def figures(predicted: NDArray, truth: NDArray) -> dict[str, float]:
    """Return mpjpe_mm, pa_mpjpe_mm and mrpe_mm (with _x, _y, _z) of all 17 joints (N, 17, 3) m."""
    axes = mrpe_axes(predicted[:, 0], truth[:, 0])
    return {'mpjpe_mm': 1000 * mpjpe(predicted, truth), 'pa_mpjpe_mm': 1000 * pa_mpjpe(predicted, truth),
            'mrpe_mm': 1000 * mrpe(predicted[:, 0], truth[:, 0]),
            **{f'mrpe_{axis}_mm': 1000 * float(value) for axis, value in zip('xyz', axes)}}


def held_out(mocap: Mocap, count: int, laboratory: Laboratory, seed: int) -> Shots:
    """Return shots of people as they were recorded, the same ones for the same seed, from the same cameras."""
    return shoot(mocap, count, np.random.default_rng(seed), replace(laboratory, body=NO_VARIATION))


def weak_perspective_root(shots: Shots, relative: NDArray) -> NDArray:
    """Return the root (N, 3) m by the analytic formula of Mehta et al. (3DV 2017, supplement), for Table 3.

    relative (N, 17, 3) m. If all joints had the depth z, then pixels = f / z * (X, Y) + shift: the z of least squares
    puts the root-relative pose on the image, the mean pixel and the principal point give the rest.
    """
    pixels = (shots.pixels - shots.principal[:, None]) / shots.focal[:, :, None]
    middle, body = pixels.mean(axis=1), relative.mean(axis=1)
    spread, size = pixels - middle[:, None], relative[..., :2] - body[:, None, :2]
    depth = (spread * size).sum(axis=(1, 2)) / np.maximum((spread * spread).sum(axis=(1, 2)), 1e-12)
    return np.concatenate([middle * depth[:, None], depth[:, None]], axis=1) - body


def train_variant(name: str, training: Mocap, validation: Mocap, errors: dict[str, FittedErrors], out: Path,
                  settings: PublishedSettings, minutes: float = math.inf, command: str = '',
                  quiet: bool = False) -> Run:
    """Train a variant in `out`, or continue there. errors: by the names that variants use. Raises CheckpointError."""
    variant = VARIANTS[name]
    torch.manual_seed(settings.loop.seed)
    network = make_network(variant, settings.width, settings.dropout)
    network.mixed = settings.mixed
    model = errors.get(variant.errors)
    laboratory = replace(laboratory_of(variant), body=BODIES[settings.body])
    check = held_out(validation, settings.validation_samples, laboratory, VALIDATION_SEED)
    if model is not None:  # what it will be used on: the errors of the detector itself
        check = check.with_errors(errors[MIXTURE], np.random.default_rng(VALIDATION_SEED))
    identity = {'variant': asdict(variant), 'width': settings.width, 'dropout': settings.dropout,
                'batch': settings.batch, 'body': settings.body, 'pose_weight': settings.pose_weight}
    run = Run(network, settings.loop, identity, command)
    return fit(run, partial(loss, variant=variant, pose_weight=settings.pose_weight),
               partial(batches, training, laboratory, model, settings.batch),
               lambda network: figures(predict(network, check, variant.canonical), check.points), out, minutes, quiet)


def load_variant(path: Path) -> tuple[AbsPoseLifter, Variant, str]:
    """Return the network of a checkpoint, its variant and the command that trained it. Raises CheckpointError."""
    state = read_checkpoint(path)
    try:
        variant = Variant(**state['identity']['variant'])
        network = make_network(variant, state['identity']['width'], 0.0)
        network.load_state_dict(state['result'])
        return network.eval(), variant, str(state['command'])
    except (KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f'{path} is not a checkpoint of AbsPoseLifter ({error})') from error
