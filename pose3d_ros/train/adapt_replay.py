"""What a lifter that is adapted must not forget: people anywhere, not only those of the site."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pose3d_ros.nets.window import WindowLifter
from pose3d_ros.train.lifter import LifterSettings, known_up, loss, predict
from pose3d_ros.train.mocap import Mocap
from pose3d_ros.train.procedural import procedural_mocap
from pose3d_ros.train.samples import SampleSettings, make_samples

CHECKED = 1024      # of them, never learnt from, on which forgetting is measured
# What an answer may be off from the old one, in statures: pose, relative depth, and the factors of covariances.
POSE_WEIGHT, DEPTH_WEIGHT, FACTOR_WEIGHT = 10.0, 2.0, 2.0


class Replay:
    """Samples of people anywhere. With motion capture, the truth is learnt; with made-up people, what was answered.

    Made-up people do not move as people do, so their truth would teach something wrong: only the old network's answers
    to them are to stay. old: a copy of the network as it was.
    """

    def __init__(self, network: WindowLifter, mocap: Mocap | None, seed: int, samples: int) -> None:
        self.old = copy.deepcopy(network).eval()
        self.name = 'made up' if mocap is None else f'{len(mocap)} frames of motion capture'
        self.truth = mocap is not None
        self.settings = LifterSettings(mixed=False)
        rng = np.random.default_rng([seed, 77])
        mocap = procedural_mocap(seed) if mocap is None else mocap
        self.samples = make_samples(mocap, samples, rng, SampleSettings(), mocap.frame_weights())
        self.up = known_up(self.samples.up, self.settings, rng)
        self.learnt = max(samples - CHECKED, samples // 2)
        self._teacher = copy.deepcopy(self.old).requires_grad_(False)

    def draw(self, count: int, rng: np.random.Generator) -> dict[str, NDArray]:
        """Return a batch of samples, some of whom the network is told the upward direction of."""
        rows, samples = rng.integers(self.learnt, size=count), self.samples
        return {'rays': samples.rays[rows], 'confidence': samples.confidence[rows], 'age': samples.age[rows],
                'up': self.up[rows], 'landmarks': samples.landmarks[rows, None],
                'points': samples.points[rows] / samples.stature[rows, None, None]}

    def loss(self, network: WindowLifter, batch: dict[str, Tensor]) -> Tensor:
        """Return how far a network is from the truth, or from what was answered before."""
        if self.truth:
            return loss(network, batch, self.settings)
        told = shown(batch)
        with torch.no_grad():
            wanted = self._teacher.unit(*told)
        unit = network.unit(*told)
        depth = (unit.root[:, 0, 2] / wanted.root[:, 0, 2]).log().abs().mean()
        return (POSE_WEIGHT * (unit.relative - wanted.relative).norm(dim=2).mean() + DEPTH_WEIGHT * depth
                + FACTOR_WEIGHT * (unit.factor - wanted.factor).abs().mean())

    def errors(self, network: WindowLifter) -> dict[str, float]:
        """Return the mean errors [mm] on samples that were not learnt from, their statures being known."""
        samples = self.samples.where(slice(self.learnt, None))
        known = np.stack([samples.stature, np.zeros_like(samples.stature)], axis=1)
        relative, root, _ = predict(network, samples, known)
        return {'mpjpe_mm': 1e3 * float(np.linalg.norm(relative - samples.relative, axis=-1).mean()),
                'mrpe_mm': 1e3 * float(np.linalg.norm(root - samples.root, axis=-1).mean())}


def shown(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return what WindowLifter.unit takes, of a batch."""
    return batch['rays'], batch['confidence'], batch['age'], batch['up'], batch['landmarks']
