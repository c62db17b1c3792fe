"""The multi-task image network of Wang, Huang, Wang, Tao ("Not All Parts Are Created Equal", 2019), section 3.1.

A stacked hourglass (Newell, Yang, Deng; ECCV 2016) gives one heat map per joint after every stack. Its last features,
with the heat maps put back in, are reused to say of nine joints whether they are in front of the torso, behind it or on
its plane; and a domain classifier, behind a layer that reverses the gradient (Ganin, Lempitsky; ICML 2015), sees the
very features that this is told from. As published: 256 px, 256 features, 2 stacks or more, halved 4 times within an
hourglass; here the sizes are arguments, so that a small one for small crops can be trained on a processor core.

Images go in as they are, (N, 3, S, S) RGB of 0..255: the normalisation is the network's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDE = 4           # px per cell of a heat map, as published
CLASSES = 3          # front, back, on the plane
POOLED = 4           # cells to a side of what the attributes are told from
SHARPNESS = 3.0      # of soft_argmax: a Gaussian hill is narrowed by the root of this
FLOOR = 0.02         # of soft_argmax: heights below count as this much
GAMMA = 10.0         # of Ganin's schedule


@dataclass(frozen=True)
class Answers:
    """What the network says of N images, S stacks, J joints.

    heatmaps (S, N, J, h, w), hills about 1 high, the last stack's the best; attributes (N, A, 3) and domain (N, 2):
    logits.
    """

    heatmaps: Tensor
    attributes: Tensor
    domain: Tensor


class Reversal(torch.autograd.Function):
    """Identity on the way there, the gradient times -strength on the way back (Ganin, Lempitsky 2015, section 3)."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def reversed_gradient(features: Tensor, strength: float) -> Tensor:
    """Return the features; what is learnt from them reaches them with the gradient times -strength."""
    return Reversal.apply(features, strength)


def ganin(progress: float, scale: float = 1.0, gamma: float = GAMMA) -> float:
    """Return lambda at a progress of 0..1: scale (2 / (1 + exp(-gamma p)) - 1), so that it begins at 0."""
    return scale * (2.0 / (1.0 + math.exp(-gamma * min(max(progress, 0.0), 1.0))) - 1.0)


class Residual(nn.Module):
    """Newell's residual module: batch norm, ReLU, convolution; 1x1 to half the features, 3x3, 1x1 back."""

    def __init__(self, features_in: int, features_out: int) -> None:
        super().__init__()
        half = features_out // 2
        self.branch = nn.Sequential(
            nn.BatchNorm2d(features_in), nn.ReLU(), nn.Conv2d(features_in, half, 1),
            nn.BatchNorm2d(half), nn.ReLU(), nn.Conv2d(half, half, 3, padding=1),
            nn.BatchNorm2d(half), nn.ReLU(), nn.Conv2d(half, features_out, 1))
        self.skip = nn.Identity() if features_in == features_out else nn.Conv2d(features_in, features_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.branch(x)


class Hourglass(nn.Module):
    """Down `depth` times by two and up again, at every size with a branch that stays there."""

    def __init__(self, features: int, depth: int) -> None:
        super().__init__()
        self.stay, self.down = Residual(features, features), Residual(features, features)
        self.inner: nn.Module = Hourglass(features, depth - 1) if depth > 1 else Residual(features, features)
        self.up = Residual(features, features)

    def forward(self, x: Tensor) -> Tensor:
        low = self.up(self.inner(self.down(functional.max_pool2d(x, 2))))
        return self.stay(x) + functional.interpolate(low, scale_factor=2.0, mode='nearest')


class MultiTaskNet(nn.Module):
    """Images (N, 3, S, S) RGB of 0..255 to heat maps, pose attributes and a guess at the domain.

    size: S px, a multiple of 16; joints J, attributes A; features: a multiple of 4. The hourglass halves its maps down
    to 4 cells or `depth` times, whichever is less.
    """

    def __init__(self, joints: int, attributes: int, size: int = 64, stacks: int = 2, features: int = 48,
                 depth: int = 4) -> None:
        super().__init__()
        if size % 16 or size < 16 or features % 4 or min(stacks, features, depth) < 1:
            raise ValueError(f'size {size}, features {features}, stacks {stacks}, depth {depth}: expected multiples of '
                             '16 px and of 4 features, and 1 or more of the others')
        self.size, self.joints, self.attributes, self.cells = size, joints, attributes, size // STRIDE
        depth = max(min(depth, _halvings(self.cells, POOLED)), 1)
        self.stem = nn.Sequential(
            nn.Conv2d(3, features // 4, 7, stride=2, padding=3), nn.BatchNorm2d(features // 4), nn.ReLU(),
            Residual(features // 4, features // 2), nn.MaxPool2d(2),
            Residual(features // 2, features // 2), Residual(features // 2, features))
        self.hourglasses = nn.ModuleList(nn.Sequential(
            Hourglass(features, depth), Residual(features, features), nn.Conv2d(features, features, 1),
            nn.BatchNorm2d(features), nn.ReLU()) for _ in range(stacks))
        self.heads = nn.ModuleList(_empty(nn.Conv2d(features, joints, 1)) for _ in range(stacks))
        self.features_back = nn.ModuleList(nn.Conv2d(features, features, 1) for _ in range(stacks))
        self.maps_back = nn.ModuleList(nn.Conv2d(joints, features, 1) for _ in range(stacks))
        steps = max(_halvings(self.cells, POOLED), 0)
        self.summary = nn.Sequential(*(layer for _ in range(steps)
                                       for layer in (Residual(features, features), nn.MaxPool2d(2))),
                                     nn.BatchNorm2d(features), nn.ReLU(), nn.Flatten())
        told = features * (self.cells >> steps) ** 2
        self.attribute_head = nn.Linear(told, attributes * CLASSES)
        self.domain_head = nn.Sequential(nn.Linear(told, 64), nn.ReLU(), nn.Linear(64, 2))

    def forward(self, images: Tensor, reversal: float = 0.0) -> Answers:
        """reversal: lambda of the layer before the domain classifier."""
        features, maps = self.stem(images / 127.5 - 1.0), []
        for hourglass, head, back, maps_back in zip(self.hourglasses, self.heads, self.features_back, self.maps_back):
            found = hourglass(features)
            maps.append(head(found))
            features = features + back(found) + maps_back(maps[-1])
        told = self.summary(features)
        return Answers(torch.stack(maps), self.attribute_head(told).reshape(-1, self.attributes, CLASSES),
                       self.domain_head(reversed_gradient(told, reversal)))


def _empty(head: nn.Conv2d) -> nn.Conv2d:
    """Return the head so that its maps are empty at first, as heat maps are nearly everywhere."""
    nn.init.normal_(head.weight, std=0.01)
    assert head.bias is not None
    nn.init.zeros_(head.bias)
    return head


def _halvings(cells: int, least: int) -> int:
    """Return how often a number of cells can be halved evenly without going below least."""
    count = 0
    while cells % 2 == 0 and cells // 2 >= least:
        cells, count = cells // 2, count + 1
    return count


def heat_targets(points: Tensor, cells: int, stride: float = STRIDE, sigma: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return the true heat maps (N, J, cells, cells) of joints (N, J, 2) px, and which joints (N, J) have one.

    Gaussians, 1 high, sigma in cells; cell i lies at px (i + 1/2) stride - 1/2. A joint that is NaN or outside the
    image has none.
    """
    size = cells * stride
    known = (torch.isfinite(points).all(dim=2) & (points >= -0.5).all(dim=2) & (points <= size - 0.5).all(dim=2))
    place = (torch.where(known[..., None], points, torch.zeros_like(points)) + 0.5) / stride - 0.5
    axis = torch.arange(cells, device=points.device, dtype=points.dtype)
    hill = torch.exp(-0.5 * ((axis - place[..., None]) / sigma) ** 2)     # (N, J, 2, cells)
    return hill[:, :, 1, :, None] * hill[:, :, 0, None, :], known


def soft_argmax(heatmaps: Tensor, stride: float = STRIDE, sharpness: float = SHARPNESS) -> Tensor:
    """Return joints (N, J, 2) px of heat maps (N, J, h, w): the mean place under a softmax of the maps.

    Differentiable everywhere but below FLOOR. The softmax is taken of the logarithm of the heights, times the
    sharpness: so a Gaussian hill stays one, and its mean is its peak also between cells; a softmax of the heights
    themselves moves it towards the next cell.
    """
    rows, columns = heatmaps.shape[2:]
    weight = (sharpness * heatmaps.clamp(min=FLOOR).log()).flatten(2).softmax(dim=2).reshape(heatmaps.shape)
    y = torch.arange(rows, device=heatmaps.device, dtype=heatmaps.dtype)
    x = torch.arange(columns, device=heatmaps.device, dtype=heatmaps.dtype)
    cell = torch.stack([(weight.sum(dim=2) * x).sum(dim=2), (weight.sum(dim=3) * y).sum(dim=2)], dim=2)
    return (cell + 0.5) * stride - 0.5
