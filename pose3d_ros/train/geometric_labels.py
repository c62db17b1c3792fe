"""What the geometry-driven lifter is compared with, which needs 3D poses: an adversarial prior, and full supervision.

The self-supervised training (train/geometric.py) imports nothing of this.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from pose3d_ros.nets.geometric import Critic
from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.filming import about_up
from pose3d_ros.train.geometric import GeometricLoss, GeometricSettings, identity_of, make_network, pairs, watch
from pose3d_ros.train.geometric_variants import settings_of
from pose3d_ros.train.loop import Run, fit
from pose3d_ros.train.recording import Recording, RecordingError

PARENTS = [HUMAN17.index(parent) if parent else 0 for parent in HUMAN17.parents]
PRIOR_WEIGHT = 5000.0  # of the adversarial term, against squared thousandths of a ray
PENALTY = 10.0         # of the critic's slope, as Gulrajani et al. have it


class AdversarialLoss(GeometricLoss):
    """Re-projection, and a critic that knows unpaired 3D poses (the paper's Reproj+ADV).

    The critic is a Wasserstein one with gradient penalty (Gulrajani et al., NeurIPS 2017), as in Wandt and Rosenhahn
    2019: one that only tells real from false has nothing to say to poses ten times too large.
    """

    def __call__(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        relative, root = network(torch.cat([batch['window_1'], batch['window_2']]))
        first, second = (relative + root[:, None]).chunk(2)
        value = self.value(first, second, batch)
        size = value.detach()
        upright = relative @ batch['to_world']
        critic = network.critic
        assert isinstance(critic, Critic)
        judged = judgement(critic, batch['real'], upright.detach(), batch['between'])
        if not self.pretraining:
            fixed = {name: parameter.detach() for name, parameter in critic.named_parameters()}
            value = value - PRIOR_WEIGHT * functional_call(critic, fixed, (upright,)).mean()
        # All gradients together are cut to one length: for a steady pace, the critic's must be a steady share of them.
        return value + (judged - judged.detach()) * size


def judgement(critic: Critic, real: Tensor, made: Tensor, between: Tensor) -> Tensor:
    """Return the critic's loss on real poses and those that were made (N, 17, 3) m.

    between (N, 1, 1) in 0..1: where from the one to the other its slope is held at 1.
    """
    mixed = (real * between + made * (1 - between)).requires_grad_()
    slope = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)[0].flatten(1).norm(dim=1)
    return critic(made).mean() - critic(real).mean() + PENALTY * (slope - 1).square().mean()


def with_prior(stream: Iterator[dict[str, NDArray]], recording: Recording, prior: NDArray,
               rng: np.random.Generator) -> Iterator[dict[str, NDArray]]:
    """Yield the batches with 3D poses of anybody, real (2 B, 17, 3) m, turned anyhow about the vertical.

    to_world (2 B, 3, 3) turns the network's poses upright, and anyhow too; between (2 B, 1, 1): see judgement.
    """
    rotation = recording.camera_T_world[:, :3, :3]
    for batch in stream:
        count = 2 * len(batch['window_1'])
        real = prior[rng.integers(len(prior), size=count)]
        real = (real - real[:, :1]) @ about_up(rng.uniform(0, 2 * np.pi, count))
        views = np.concatenate([batch['first'], batch['second']])
        turned = rotation[views] @ about_up(rng.uniform(0, 2 * np.pi, count))
        yield {**batch, 'real': real.astype(np.float32), 'to_world': turned.astype(np.float32),
               'between': rng.random((count, 1, 1), dtype=np.float32)}


def train_adversarial(recording: Recording, validation: Recording, prior: NDArray, out: Path,
                      settings: GeometricSettings, minutes: float = math.inf, command: str = '',
                      quiet: bool = False) -> Run:
    """Train with re-projection and the prior: 3D poses (M, 17, 3) m of people, z up, unpaired with the recording."""
    settings = settings_of('adversarial', settings)
    torch.manual_seed(settings.loop.seed)
    network = make_network(settings)
    network.critic = Critic(PARENTS)
    run = Run(network, settings.loop, identity_of(settings), command)
    return fit(run, AdversarialLoss(settings, run),
               lambda rng: with_prior(pairs(recording, settings, network.frames, rng), recording, prior, rng),
               lambda network: watch(network, validation, settings, out, run), out, minutes, quiet)


def supervised_loss(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the mean distance of joints against the root, and of the root, from the truth [m]."""
    relative, root = network(batch['window'])
    truth = batch['joints']
    return ((relative - (truth - truth[:, :1])).norm(dim=2)[:, 1:].mean() + (root - truth[:, 0]).norm(dim=1).mean())


def train_supervised(recording: Recording, truth: NDArray, validation: Recording, out: Path,
                     settings: GeometricSettings, minutes: float = math.inf, command: str = '',
                     quiet: bool = False) -> Run:
    """Train the same network with labels: truth (F, 17, 3) m of the recording's moments, in its world.

    Raises RecordingError where the truth is another recording's.
    """
    if len(truth) != len(recording):
        raise RecordingError(f'the truth has {len(truth)} moments, the recording {len(recording)}: not its own')
    settings = settings_of('supervised', settings)
    torch.manual_seed(settings.loop.seed)
    network = make_network(settings)
    run = Run(network, settings.loop, identity_of(settings), command)

    def batches(rng: np.random.Generator) -> Iterator[dict[str, NDArray]]:
        count = len(recording.camera_T_world)
        while True:
            moments = rng.integers(len(recording), size=2 * settings.batch)
            views = rng.integers(count, size=2 * settings.batch)
            yield {'window': recording.windows(moments, views, network.frames),
                   'joints': seen_by(recording, truth, moments, views)}

    return fit(run, supervised_loss, batches, lambda network: watch(network, validation, settings, out, run), out,
               minutes, quiet)


def seen_by(recording: Recording, truth: NDArray, moments: NDArray, views: NDArray) -> NDArray[np.float32]:
    """Return the true joints (B, 17, 3) m in the optical frames of views (B,)."""
    pose = recording.camera_T_world[views]
    return np.asarray(truth[moments] @ np.swapaxes(pose[:, :3, :3], 1, 2) + pose[:, None, :3, 3], dtype=np.float32)
