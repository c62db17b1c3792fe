"""The geometry-driven self-supervised lifter (Li, Li, Jiang, Zhang, Huang, Xu; AAAI 2020): two branches, no labels.

One branch lifts a 2D pose to a 3D pose against the root, the other says where the person is; they share no weights.
With both the pose can be put in front of any other camera that saw it, and what that camera detected is the teacher
(losses: train/geometric.py). The paper leaves the second branch after training; here it is exported too, for robots ask
where people are.

One thing differs. The paper's position branch gives the root, and all joints but the root are sums of both branches: an
error of the distance, the same for all joints, can hide in either, and only the root joint tells which. Trained on 2D
alone, that stays in the pose for very long. So here the position branch gives the middle of the joints (the mean), and
the root follows from it and the pose: what moves all joints alike is the position branch's alone. `middle=False` is the
paper's way.

Input are rays (undistorted, x/z and y/z: the paper's pixels with the intrinsics of equation 1 divided out) of the
17 joints of HUMAN17, the root first; output are metres in the camera's optical frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

JOINTS = 17
RAY_UNIT = 0.15   # rays are divided by this for the first layer: a person of 1.7 m at 5 m spreads over about one
FAR_M = 5.0       # places are learnt against this distance straight ahead, so that the first guess is in front


class _Branch(nn.Module):
    """What branches have in common: in training, with `mixed`, their hidden layers compute in bfloat16."""

    mixed = False

    def hidden(self, x: Tensor) -> torch.autocast:
        """Return the context of the hidden layers. The first and the last stay exact: there, millimetres count."""
        return torch.autocast(x.device.type, torch.bfloat16, enabled=self.mixed and self.training)


class ResLinear(_Branch):
    """Martinez et al. 2017, as the paper uses it: a linear layer, residual blocks, a linear layer.

    rays (N, T, 17, 2), of which the middle frame is used; out (N, outputs). With 4 blocks of 1024 it is the paper's
    backbone, with 2 the one of its Table 2.
    """

    def __init__(self, outputs: int, width: int = 1024, blocks: int = 4, dropout: float = 0.25) -> None:
        super().__init__()
        self.first = nn.Linear(2 * JOINTS, width)
        self.blocks = nn.ModuleList(nn.Sequential(*(layer for _ in range(2) for layer in (
            nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)))) for _ in range(blocks))
        self.last = nn.Linear(width, outputs)

    def forward(self, rays: Tensor) -> Tensor:
        x = self.first(rays[:, rays.shape[1] // 2].flatten(1) / RAY_UNIT)
        with self.hidden(x):
            for block in self.blocks:
                x = x + block(x)
        return self.last(x)


class TemporalDilated(_Branch):
    """Pavllo et al. 2019: convolutions over time, each three times as wide as the one before; 3^n frames to one pose.

    rays (N, T, 17, 2) with T = 3^layers, the wanted frame in the middle; out (N, outputs). As only that frame is asked
    for, dilated convolutions are the same as those with stride 3.
    """

    def __init__(self, outputs: int, width: int = 1024, layers: int = 3, dropout: float = 0.25) -> None:
        super().__init__()
        sizes = [2 * JOINTS, *[width] * (layers - 1)]
        self.wide = nn.ModuleList(self._step(size, width, 3, dropout) for size in sizes)
        self.narrow = nn.ModuleList(self._step(width, width, 1, dropout) for _ in sizes[1:])
        self.last = nn.Linear(width, outputs)

    @staticmethod
    def _step(inputs: int, width: int, frames: int, dropout: float) -> nn.Sequential:
        return nn.Sequential(nn.Conv1d(inputs, width, frames, stride=frames), nn.BatchNorm1d(width), nn.ReLU(),
                             nn.Dropout(dropout))

    def forward(self, rays: Tensor) -> Tensor:
        x = self.wide[0](rays.flatten(2).transpose(1, 2) / RAY_UNIT)
        with self.hidden(x):
            for wide, narrow in zip(self.wide[1:], self.narrow, strict=True):
                x = x[:, :, 1::3] + narrow(wide(x))   # the residual is the middle of the three
        return self.last(x[:, :, 0])


BACKBONES = {'paper': (ResLinear, {'blocks': 4}, 1), 'reslinear': (ResLinear, {'blocks': 2}, 1),
             'temporal': (TemporalDilated, {'layers': 3}, 27)}


class GeometricLifter(nn.Module):
    """rays (N, T, 17, 2) to relative (N, 17, 3) m, whose root is 0, and root (N, 3) m."""

    def __init__(self, backbone: str = 'paper', width: int = 1024, dropout: float = 0.25, middle: bool = True) -> None:
        super().__init__()
        if backbone not in BACKBONES:
            raise ValueError(f'backbone {backbone!r}: expected one of {", ".join(BACKBONES)}')
        kind, size, self.frames = BACKBONES[backbone]
        self.lift = kind(3 * 16, width=width, dropout=dropout, **size)
        self.root = kind(3, width=width, dropout=dropout, **size)
        self.middle = middle
        self.ahead: Tensor
        self.register_buffer('ahead', torch.tensor([0.0, 0.0, FAR_M]), persistent=False)

    def forward(self, rays: Tensor) -> tuple[Tensor, Tensor]:
        pose = self.lift(rays).unflatten(1, (16, 3))
        relative = torch.cat([0 * pose[:, :1], pose], dim=1)  # zeros_like would fix the number of people in ONNX files
        root = self.root(rays) + self.ahead
        return relative, root - relative.mean(dim=1) if self.middle else root


class Critic(nn.Module):
    """Tells poses of people (N, 17, 3) m, against the root, from others: the adversarial prior of the paper's Table 1.

    It sees joints, bones and their lengths; out (N, 1), more for what looks more real.
    """

    def __init__(self, parents: Sequence[int], width: int = 256) -> None:
        super().__init__()
        self.parents = list(parents)
        self.layers = nn.Sequential(nn.Linear(7 * len(self.parents), width), nn.LeakyReLU(0.2),
                                    nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, 1))

    def forward(self, poses: Tensor) -> Tensor:
        bones = poses - poses[:, self.parents]
        lengths = (bones.square().sum(dim=2) + 1e-6).sqrt()
        return self.layers(torch.cat([poses.flatten(1), bones.flatten(1), lengths], dim=1))
