"""The training loop that all networks share: step, validate, keep checkpoints, and continue from them.

What is trained comes in as callables: batches of arrays, a loss, a validation. A run that is stopped and continued ends
with the weights of a run that was not (as long as it is limited by steps): at each checkpoint all random numbers start
anew from the seed and the step.
"""

from __future__ import annotations

import copy
import csv
import json
import math
import pickle
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

CHECKPOINT = 'checkpoint.pt'
LOG = 'log.csv'

Batch = Mapping[str, NDArray]
Batches = Callable[[np.random.Generator], Iterator[Batch]]     # an endless stream, all its chance from the generator
Loss = Callable[[nn.Module, dict[str, Tensor]], Tensor]        # network in training mode, one batch: a scalar
Validate = Callable[[nn.Module], dict[str, float]]             # network in evaluation mode: figures for the log


@dataclass(frozen=True)
class LoopSettings:
    """How long and how."""

    steps: int = 20000
    optimiser: str = 'adamw'      # or 'rmsprop', which AbsPoseLifter was published with
    learning_rate: float = 1e-3
    schedule: str = 'cosine'      # half a cosine down to 0; 'steps': a tenth for the last third (AbsPoseLifter);
                                  # 'thirds': a tenth for the second, a hundredth for the last
    warm_up: int = 500            # steps over which the learning rate rises
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)   # of adamw
    clip: float = 1.0             # largest norm of the gradient, of each group of weights
    average: float = 0.999        # of the running mean of the weights, which is validated and exported; 0: no mean
    validate_every: int = 1000    # steps between checkpoints
    seed: int = 0


class CheckpointError(ValueError):
    """A checkpoint that does not belong to this training run."""


class TrainingError(RuntimeError):
    """A training that came to nothing, such as a loss that is not a number."""


class Run:
    """One training run: the network, the running mean of its weights, the optimiser, and how far they are.

    network starts with the weights it comes with: seed PyTorch before making it. identity: what must be the same to
    continue from a checkpoint (JSON values), such as width and variant. rates: weights whose names begin so learn at
    their own share of the learning rate, such as those of a discriminator.
    """

    def __init__(self, network: nn.Module, settings: LoopSettings, identity: Mapping[str, Any] | None = None,
                 command: str = '', device: str = 'cpu', rates: Mapping[str, float] | None = None) -> None:
        self.settings = settings
        self.identity = json.loads(json.dumps({**(identity or {}), 'seed': settings.seed,
                                               'optimiser': settings.optimiser}))
        self.command = command
        self.device = device
        self.network = network.to(device).train()
        self.mean = copy.deepcopy(self.network).eval() if settings.average else None
        self.optimiser = _optimiser(self.network, settings, rates or {})
        self.step = 0
        self.seconds = 0.0

    @property
    def result(self) -> nn.Module:
        """The network to validate and export, in evaluation mode (until the next step, where there is no mean)."""
        return self.network.eval() if self.mean is None else self.mean

    def update(self, loss: Loss, batch: Batch, progress: float) -> float:
        """Take one step; progress 0..1 sets the learning rate. Return the loss."""
        for group in self.optimiser.param_groups:
            group['lr'] = group.get('share', 1.0) * self.settings.learning_rate * learning_rate_factor(
                self.settings, self.step, progress)
        self.network.train()
        value = loss(self.network, {name: torch.from_numpy(array).to(self.device) for name, array in batch.items()})
        self.optimiser.zero_grad(set_to_none=True)
        value.backward()
        for group in self.optimiser.param_groups:
            nn.utils.clip_grad_norm_(group['params'], self.settings.clip)
        self.optimiser.step()
        self.step += 1
        self._follow()
        return value.item()

    def _follow(self) -> None:
        """Move the running mean of the weights; early on it follows fast."""
        if self.mean is None:
            return
        keep = min(self.settings.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, now in zip(self.mean.state_dict().values(), self.network.state_dict().values(), strict=True):
                if mean.dtype.is_floating_point:
                    mean.lerp_(now, 1 - keep)
                else:
                    mean.copy_(now)

    def generator(self) -> np.random.Generator:
        """Return the chance that rules from this step on, NumPy's, and set PyTorch's (dropout) alike."""
        torch.manual_seed(1_000_003 * self.settings.seed + self.step)
        return np.random.default_rng([self.settings.seed, self.step])

    def save(self, path: Path) -> None:
        """Write a checkpoint, so that a crash while writing leaves the previous one."""
        part = path.with_suffix('.part')
        torch.save({'network': self.network.state_dict(), 'result': self.result.state_dict(),
                    'optimiser': self.optimiser.state_dict(), 'step': self.step, 'seconds': self.seconds,
                    'identity': self.identity, 'command': self.command}, part)
        part.replace(path)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint. Raises CheckpointError when it was made by another kind of run."""
        state = read_checkpoint(path)
        theirs = state.get('identity', {})
        differing = [name for name in {**theirs, **self.identity} if theirs.get(name) != self.identity.get(name)]
        if differing:
            raise CheckpointError(f'{path} was made with other settings ({", ".join(differing)}); use another --out')
        try:
            self.network.load_state_dict(state['network'])
            if self.mean is not None:
                self.mean.load_state_dict(state['result'])
            self.optimiser.load_state_dict(state['optimiser'])
            self.step, self.seconds = state['step'], state['seconds']
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(f'{path} is not a checkpoint of this network ({error}); use another --out') from error


def _optimiser(network: nn.Module, settings: LoopSettings, rates: Mapping[str, float]) -> torch.optim.Optimizer:
    rate, decay = settings.learning_rate, settings.weight_decay
    groups: dict[str, list[nn.Parameter]] = {'': [], **{prefix: [] for prefix in rates}}
    for name, parameter in network.named_parameters():
        groups[next((prefix for prefix in rates if name.startswith(prefix)), '')].append(parameter)
    parts = [{'params': parameters, 'share': rates.get(prefix, 1.0)} for prefix, parameters in groups.items()]
    if settings.optimiser == 'adamw':
        # Fused is 4 times faster on a CPU.
        return torch.optim.AdamW(parts, rate, settings.betas, weight_decay=decay, fused=True)
    if settings.optimiser == 'rmsprop':
        return torch.optim.RMSprop(parts, rate, weight_decay=decay)
    raise ValueError(f'optimiser {settings.optimiser!r}: expected adamw or rmsprop')


def learning_rate_factor(settings: LoopSettings, step: int, progress: float) -> float:
    """Return the learning rate at a step over the highest; progress 0..1: how much of the training is over."""
    rising = min(1.0, (step + 1) / max(settings.warm_up, 1))
    if settings.schedule == 'cosine':
        return rising * 0.5 * (1 + math.cos(math.pi * progress))
    if settings.schedule == 'steps':
        return rising * (1.0 if progress < 2 / 3 else 0.1)
    if settings.schedule == 'thirds':
        return rising * 0.1 ** min(int(3 * progress), 2)
    raise ValueError(f'schedule {settings.schedule!r}: expected cosine, steps or thirds')


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what a checkpoint holds; nothing in it is executed. Raises CheckpointError."""
    if not path.exists():
        raise CheckpointError(f'{path} does not exist: train first (pose3d train)')
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f'{path} is not a checkpoint')
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(f'{path} is not a checkpoint ({error})') from error


def limit_threads(count: int) -> None:
    """Let PyTorch use this many processor threads, for as long as the process lives."""
    torch.set_num_threads(count)


def fit(run: Run, loss: Loss, batches: Batches, validate: Validate, out: Path, minutes: float = math.inf,
        quiet: bool = False) -> Run:
    """Train in `out`: continue from its checkpoint if there is one, log to log.csv, stop after the steps or minutes.

    With a limit in minutes, the learning rate falls over whichever of the two ends first. Raises CheckpointError, and
    TrainingError when the loss is no longer a number (the last good checkpoint stays).
    """
    settings = run.settings
    out.mkdir(parents=True, exist_ok=True)
    if (out / CHECKPOINT).exists():
        run.load(out / CHECKPOINT)
    started = time.monotonic() - run.seconds
    with tqdm(total=settings.steps, initial=run.step, unit='step', desc=out.name, disable=quiet,
              mininterval=0.2 if sys.stderr.isatty() else 10.0) as bar:
        while run.step < settings.steps and run.seconds < 60 * minutes:
            stream, losses = batches(run.generator()), []
            while True:
                progress = max(run.step / settings.steps, run.seconds / (60 * minutes))
                losses.append(run.update(loss, next(stream), min(progress, 1.0)))
                run.seconds = time.monotonic() - started
                bar.update()
                if (run.step % settings.validate_every == 0 or run.step >= settings.steps
                        or run.seconds >= 60 * minutes):
                    break
            if not np.isfinite(losses).all():
                raise TrainingError(f'{out}: the loss was not a number near step {run.step}; '
                                    'try a smaller learning rate')
            row = {'step': run.step, 'seconds': run.seconds, 'loss': float(np.mean(losses)), **validate(run.result)}
            run.seconds = time.monotonic() - started
            _log(out / LOG, row)
            run.save(out / CHECKPOINT)
            bar.set_postfix({name: f'{value:.3g}' for name, value in row.items() if name not in ('step', 'seconds')})
    return run


def _log(path: Path, row: Mapping[str, float]) -> None:
    new = not path.exists()
    with path.open('a', newline='') as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow({name: f'{value:.6g}' for name, value in row.items()})
