"""Training of the lifter: draw samples, step, validate, keep checkpoints."""

from __future__ import annotations

import copy
import csv
import math
import pickle
import time
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from pose3d_ros.lift import input_points, root_position
from pose3d_ros.nets.absolute import AbsPoseLifter, FacingLifter
from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.metrics import mpjpe, mrpe, pa_mpjpe
from pose3d_ros.train.mocap import Mocap
from pose3d_ros.train.samples import EVALUATION, INPUTS, Samples, SampleSettings, make_samples

VALIDATION_SEED = 1000
CHECKPOINT = 'checkpoint.pt'


@dataclass(frozen=True)
class TrainSettings:
    """How long and how: defaults are those of the shipped weights."""

    steps: int = 40000
    batch: int = 256
    pool: int = 16384             # samples drawn at a time
    learning_rate: float = 1e-3
    warm_up: int = 500            # steps over which the learning rate rises
    weight_decay: float = 1e-4
    width: int = 768
    dropout: float = 0.0
    pose_weight: float = 4.0      # lambda of equation 7, for metres against relative depth
    average: float = 0.999        # of the running mean of the weights that is validated and exported
    mixed: bool = True            # bfloat16 in the residual blocks
    validate_every: int = 1000
    validation_samples: int = 8192
    seed: int = 0


class CheckpointError(ValueError):
    """A checkpoint that does not belong to this training run."""


def make_network(width: int, dropout: float = 0.0) -> FacingLifter:
    """Return the lifter for the package's joints, freshly initialised."""
    return FacingLifter(AbsPoseLifter(len(INPUTS), len(HUMAN17), width, dropout=dropout), input_points(INPUTS).tolist())


def loss(relative: Tensor, depth: Tensor, true_relative: Tensor, true_depth: Tensor, pose_weight: float) -> Tensor:
    """Return the L1 loss of equation 7, the depth term on logarithms: relative errors weigh 1 m and 10 m alike."""
    return ((depth.log() - true_depth.log()).abs().mean()
            + pose_weight * (relative - true_relative)[:, 1:].abs().mean())


def batches(mocap: Mocap, samples: SampleSettings, batch: int, pool: int,
            rng: np.random.Generator) -> Iterator[Samples]:
    """Yield batches for ever, every sample new; drawn about `pool` at a time."""
    weights = mocap.frame_weights()
    while True:
        drawn = make_samples(mocap, max(pool // batch, 1) * batch, rng, samples, weights)
        for start in range(0, len(drawn), batch):
            yield drawn.where(slice(start, start + batch))


def predict(network: nn.Module, samples: Samples, batch: int = 4096) -> tuple[NDArray, NDArray]:
    """Return relative (N, 17, 3) m and root depth (N, 1) m for samples, in evaluation mode."""
    was_training = network.training
    network.eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(samples), batch):
            part = samples.where(slice(start, start + batch))
            outputs = network(torch.from_numpy(part.rays), torch.from_numpy(part.confidence))
            parts.append([output.numpy() for output in outputs])
    network.train(was_training)
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def validate(network: nn.Module, samples: Samples) -> dict[str, float]:
    """Return mpjpe_mm, pa_mpjpe_mm, mrpe_mm and depth_error (median, relative) on samples."""
    relative, depth = predict(network, samples)
    root = root_position(samples.rays, samples.confidence, relative, depth[:, 0], INPUTS)
    return {'mpjpe_mm': 1000 * mpjpe(relative, samples.relative),
            'pa_mpjpe_mm': 1000 * pa_mpjpe(relative, samples.relative),
            'mrpe_mm': 1000 * mrpe(root, samples.points[:, 0]),
            'depth_error': float(np.median(np.abs(depth / samples.depth - 1)))}


class Run:
    """One training run: the network, its running mean, the optimiser, and how far they are."""

    def __init__(self, settings: TrainSettings, command: str = '') -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.command = command
        self.network = make_network(settings.width, settings.dropout)
        self.network.lifter.mixed = settings.mixed
        self.average = copy.deepcopy(self.network).eval()
        self.average.lifter.mixed = False
        self.optimiser = torch.optim.AdamW(self.network.parameters(), settings.learning_rate,
                                           weight_decay=settings.weight_decay)
        self.step = 0
        self.seconds = 0.0

    def update(self, samples: Samples, progress: float) -> float:
        """Take one step; progress 0..1 sets the learning rate (warm-up, then half a cosine). Return the loss."""
        rising = min(1.0, (self.step + 1) / self.settings.warm_up)
        rate = self.settings.learning_rate * rising * 0.5 * (1 + math.cos(math.pi * progress))
        for group in self.optimiser.param_groups:
            group['lr'] = rate
        relative, depth = self.network(torch.from_numpy(samples.rays), torch.from_numpy(samples.confidence))
        value = loss(relative, depth, torch.from_numpy(samples.relative), torch.from_numpy(samples.depth),
                     self.settings.pose_weight)
        self.optimiser.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        self._follow()
        return value.item()

    def _follow(self) -> None:
        """Move the running mean of the weights; early on it follows fast."""
        keep = min(self.settings.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, now in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
                if mean.dtype.is_floating_point:
                    mean.lerp_(now, 1 - keep)
                else:
                    mean.copy_(now)

    def save(self, path: Path) -> None:
        """Write a checkpoint, so that a crash while writing leaves the previous one."""
        part = path.with_suffix('.part')
        torch.save({'network': self.network.state_dict(), 'average': self.average.state_dict(),
                    'optimiser': self.optimiser.state_dict(), 'step': self.step, 'seconds': self.seconds,
                    'settings': asdict(self.settings), 'command': self.command}, part)
        part.replace(path)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint. Raises CheckpointError when it was made with other settings."""
        state = read_checkpoint(path)
        ours = asdict(self.settings)
        differing = [name for name in ('width', 'dropout', 'batch', 'seed')
                     if state['settings'].get(name) != ours[name]]
        if differing:
            raise CheckpointError(f'{path} was made with other settings ({", ".join(differing)}); use another --out')
        self.network.load_state_dict(state['network'])
        self.average.load_state_dict(state['average'])
        self.optimiser.load_state_dict(state['optimiser'])
        self.step, self.seconds = state['step'], state['seconds']


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what a checkpoint holds; nothing in it is executed. Raises CheckpointError."""
    if not path.exists():
        raise CheckpointError(f'{path} does not exist: train first (pose3d train absolute)')
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f'{path} is not a checkpoint')
    try:
        return torch.load(path, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(f'{path} is not a checkpoint ({error})') from error


def load_average(path: Path) -> tuple[FacingLifter, str]:
    """Return the averaged network of a checkpoint and the command that trained it. Raises CheckpointError."""
    state = read_checkpoint(path)
    try:
        network = make_network(state['settings']['width'])
        network.load_state_dict(state['average'])
        return network.eval(), str(state['command'])
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f'{path} is not a checkpoint of this lifter ({error})') from error


def limit_threads(count: int) -> None:
    """Let PyTorch use this many processor threads, for as long as the process lives."""
    torch.set_num_threads(count)


def train(mocap: Mocap, validation: Mocap, out: Path, settings: TrainSettings, samples: SampleSettings,
          minutes: float = math.inf, command: str = '', quiet: bool = False) -> Run:
    """Train in `out`: continue from its checkpoint if there is one, log to log.csv, stop after the steps or minutes.

    command: noted in the checkpoint. With a limit in minutes, the learning rate falls over whichever of the two ends
    first.
    """
    out.mkdir(parents=True, exist_ok=True)
    run = Run(settings, command)
    if (out / CHECKPOINT).exists():
        run.load(out / CHECKPOINT)
    check = make_samples(validation, settings.validation_samples, np.random.default_rng(VALIDATION_SEED), EVALUATION)
    stream = batches(mocap, samples, settings.batch, settings.pool, np.random.default_rng([settings.seed, run.step]))
    started = time.monotonic() - run.seconds
    run.network.train()
    with tqdm(total=settings.steps, initial=run.step, unit='step', disable=quiet) as bar:
        recent: list[float] = []
        while run.step < settings.steps and run.seconds < 60 * minutes:
            progress = max(run.step / settings.steps, run.seconds / (60 * minutes))
            recent.append(run.update(next(stream), min(progress, 1.0)))
            run.seconds = time.monotonic() - started
            bar.update()
            last = run.step >= settings.steps or run.seconds >= 60 * minutes
            if last or run.step % settings.validate_every == 0:
                row = {'step': run.step, 'seconds': round(run.seconds, 1), 'loss': float(np.mean(recent)),
                       **validate(run.average, check)}
                recent.clear()
                _log(out / 'log.csv', row)
                run.save(out / CHECKPOINT)
                bar.set_postfix({name: f'{value:.3g}' for name, value in row.items() if name != 'step'})
    return run


def _log(path: Path, row: dict[str, float]) -> None:
    new = not path.exists()
    with path.open('a', newline='') as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow({name: f'{value:.6g}' for name, value in row.items()})
