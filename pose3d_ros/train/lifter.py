"""Training of the lifter that ships (nets/window.py)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pose3d_ros.lift import INPUTS, WINDOW, input_points
from pose3d_ros.nets.window import Unit, WindowLifter
from pose3d_ros.skeleton import HUMAN17, mirrored
from pose3d_ros.train.loop import CheckpointError, LoopSettings, Run, fit, read_checkpoint
from pose3d_ros.train.metrics import CHI2_3, mpjpe, mrpe, pa_mpjpe, squared_mahalanobis
from pose3d_ros.train.mocap import Mocap
from pose3d_ros.train.samples import EVALUATION, Samples, SampleSettings, detect, make_samples, make_scenes

VALIDATION_SEED = 1000
TAIL = 5.0  # degrees of freedom of the t distribution that errors are taken to have while covariances are learnt


@dataclass(frozen=True)
class LifterSettings:
    """The network and its loss; the defaults are those of the shipped weights."""

    width: int = 512
    blocks: int = 2
    batch: int = 256
    pool: int = 4096               # people drawn at a time
    uses: int = 4                  # of each, every time with other errors, hidden joints and ground
    pose_weight: float = 10.0      # lambda of AbsPoseLifter's equation 7, for statures
    depth_weight: float = 2.0      # of errors of the root's place, relative to its depth
    doubt_weight: float = 0.02     # of the likelihood that covariances are learnt from
    know_up: float = 0.5           # share of people whose upward direction the network is told
    tilt_sd: float = 0.02          # rad, error of that direction
    mixed: bool = True             # bfloat16 in the wide layers
    validation_samples: int = 8192


def make_network(settings: LifterSettings) -> WindowLifter:
    """Return the lifter for the package's joints, freshly initialised."""
    other_side = [INPUTS.index(mirrored(joint)) for joint in INPUTS]
    network = WindowLifter(input_points().tolist(), other_side, HUMAN17.mirror.tolist(), WINDOW, settings.width,
                           settings.blocks)
    network.mixed = settings.mixed
    return network


def batches(mocap: Mocap, samples: SampleSettings, settings: LifterSettings,
            rng: np.random.Generator) -> Iterator[dict[str, NDArray]]:
    """Yield batches for ever: what the network is shown, and the truth, points (B, 17, 3) in statures.

    While some are learnt from, the next are drawn on another core.
    """
    weights = mocap.frame_weights()
    count = max(settings.pool // settings.batch, 1) * settings.batch

    def draw() -> list[dict[str, NDArray]]:
        scenes = make_scenes(mocap, count, rng, samples, weights)
        drawn = []
        for _ in range(settings.uses):
            seen = detect(scenes, rng, samples).where(rng.permutation(count))
            arrays = {'rays': seen.rays, 'confidence': seen.confidence, 'age': seen.age,
                      'up': known_up(seen.up, settings, rng), 'landmarks': seen.landmarks[:, None],
                      'points': seen.points / seen.stature[:, None, None]}
            drawn += [{name: array[start:start + settings.batch] for name, array in arrays.items()}
                      for start in range(0, count, settings.batch)]
        return drawn

    with ThreadPoolExecutor(1) as other_core:
        coming = other_core.submit(draw)
        while True:
            drawn = coming.result()
            coming = other_core.submit(draw)
            yield from drawn


def known_up(up: NDArray, settings: LifterSettings, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return upward directions (B, 3) as a robot may know them: somewhat wrong, and zeros for some."""
    tilted = up + settings.tilt_sd * rng.standard_normal(up.shape, dtype=np.float32)
    tilted /= np.linalg.norm(tilted, axis=-1, keepdims=True)
    return np.where(rng.random((len(up), 1)) < settings.know_up, tilted, np.float32(0))


def loss(network: WindowLifter, batch: dict[str, Tensor], settings: LifterSettings) -> Tensor:
    """Return the loss: relative depth, distance per joint (after equation 7), and what covariances are learnt from."""
    unit = network.unit(batch['rays'], batch['confidence'], batch['age'], batch['up'], batch['landmarks'])
    truth = batch['points'] @ unit.turn.transpose(1, 2)
    root = truth[:, 0]
    depth = (unit.root[:, 0, 2].log() - root[:, 2].clamp(min=1e-2).log()).abs().mean()
    across = (unit.root[:, 0, :2] - root[:, :2]).norm(dim=1) / root[:, 2].clamp(min=1e-2)
    pose = (unit.relative - (truth - truth[:, :1]))[:, 1:].norm(dim=2).mean()
    return (settings.depth_weight * (depth + across.mean()) + settings.pose_weight * pose
            + settings.doubt_weight * unlikelihood(unit, truth))


def unlikelihood(unit: Unit, truth: Tensor) -> Tensor:
    """Return the mean negative log likelihood (without constants) of the joints' errors; only covariances follow it.

    The errors are taken to be t-distributed, so that a few wild ones do not blow up what holds for most.
    """
    error = (truth - unit.root - unit.relative).detach()
    factor = unit.factor
    a, b, c = (factor[..., i, i] for i in range(3))
    x = error[..., 0] / a
    y = (error[..., 1] - factor[..., 1, 0] * x) / b
    z = (error[..., 2] - factor[..., 2, 0] * x - factor[..., 2, 1] * y) / c
    distance = x * x + y * y + z * z
    return ((TAIL + 3) / 2 * torch.log1p(distance / TAIL) + (a * b * c).log()).mean()


@torch.no_grad()
def predict(network: nn.Module, samples: Samples, stature: NDArray, up: NDArray | None = None,
            batch: int = 4096) -> tuple[NDArray, NDArray, NDArray]:
    """Return relative (N, 17, 3) m, root (N, 3) m and covariance (N, 17, 3, 3) m^2 of samples.

    stature (N, 2) m: value and standard deviation; up (N, 3), or None where the network is not to know it.
    """
    network.eval()
    up = np.zeros((len(samples), 3), np.float32) if up is None else up
    arrays = [np.asarray(array, np.float32) for array in (
        samples.rays, samples.confidence, samples.age, up, samples.landmarks[:, None], stature)]
    parts = [[output.numpy() for output in network(*(torch.from_numpy(array[i:i + batch]) for array in arrays))]
             for i in range(0, len(samples), batch)]
    relative, root, covariance = (np.concatenate(part) for part in zip(*parts))
    return relative, root, covariance


def validate(network: nn.Module, samples: Samples) -> dict[str, float]:
    """Return errors in mm where the stature is known, and how far the 90 % ellipsoids are off (1: they hold 90 %)."""
    known = np.stack([samples.stature, np.zeros_like(samples.stature)], axis=1)
    relative, root, covariance = predict(network, samples, known)
    covariance = covariance + 1e-10 * np.eye(3)
    distance = squared_mahalanobis(samples.points - root[:, None] - relative, covariance)
    whole = (samples.confidence[:, 0] > 0).all(axis=1)
    turned = predict(network, samples, known, samples.up)
    return {'mpjpe_mm': 1000 * mpjpe(relative, samples.relative),
            'pa_mpjpe_mm': 1000 * pa_mpjpe(relative, samples.relative),
            'mrpe_mm': 1000 * mrpe(root, samples.root),
            'whole_mpjpe_mm': 1000 * mpjpe(relative[whole], samples.relative[whole]),
            'whole_mrpe_mm': 1000 * mrpe(root[whole], samples.root[whole]),
            'up_mpjpe_mm': 1000 * mpjpe(turned[0], samples.relative),
            'up_mrpe_mm': 1000 * mrpe(turned[1], samples.root),
            'spread_90': float(np.sqrt(np.quantile(distance, 0.9) / CHI2_3[0.9]))}


def train(mocap: Mocap, validation: Mocap, out: Path, settings: LifterSettings, loop: LoopSettings,
          samples: SampleSettings, minutes: float = float('inf'), command: str = '', quiet: bool = False) -> Run:
    """Train in `out`: continue from its checkpoint if there is one, stop after the steps or minutes."""
    torch.manual_seed(loop.seed)
    check = make_samples(validation, settings.validation_samples, np.random.default_rng(VALIDATION_SEED), EVALUATION)
    identity = {'network': 'lifter', 'width': settings.width, 'blocks': settings.blocks, 'batch': settings.batch}
    run = Run(make_network(settings), loop, identity, command)
    return fit(run, lambda network, batch: loss(cast(WindowLifter, network), batch, settings),
               lambda rng: batches(mocap, samples, settings, rng), lambda network: validate(network, check), out,
               minutes, quiet)


def load_trained(path: Path) -> tuple[WindowLifter, str]:
    """Return the trained network of a checkpoint and the command that trained it. Raises CheckpointError."""
    state = read_checkpoint(path)
    try:
        network = make_network(LifterSettings(**{name: state['identity'][name] for name in ('width', 'blocks')}))
        network.load_state_dict(state['result'])
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f'{path} is not a checkpoint of this lifter ({error})') from error
    network.eval()
    return network, str(state['command'])
