"""AbsPoseLifter as published (Chang, Moon, Lee; arXiv 1910.12029): one 2D pose in pixels to an absolute 3D pose.

The network gives the root-relative pose and the canonical root depth, that is the depth divided by the focal length;
`absolute` turns them into joints in the camera's frame. Units here: pixels, metres, and mm/px for the canonical depth,
so that what is learned is of the order of one (4.4 at 5 m and 1145 px).

Published for 2D poses of the same joints that come out, all of them found. What ships with the package, for half-seen
people and any detector, is another network (nets/window.py).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

PER_MM = 1e-3        # m: canonical depths are counted in mm/px
PIXEL_UNIT = 256.0   # px: in which location and scale enter the first layer, beside normalised joints of order one
SMALLEST_SCALE = 1e-2  # px: a person of no size at all stays finite


class Normalise(nn.Module):
    """The normalisation layer, equations 1-4: pixels (N, J, 2) to features (N, 2J + 2 location + 1 scale).

    location, scale: whether mean and standard deviation are kept as features (the variants of Table 1). They are
    divided by the constant PIXEL_UNIT, which the following linear layer can undo: only the step size depends on it.
    """

    def __init__(self, location: bool = True, scale: bool = True) -> None:
        super().__init__()
        self.location, self.scale = location, scale

    def forward(self, pixels: Tensor, principal: Tensor) -> Tensor:
        shifted = pixels - principal[:, None]                                                   # equation 1
        mean = shifted.mean(dim=1)                                                              # equation 3
        centred = shifted - mean[:, None]
        scale = centred.square().sum(dim=2).mean(dim=1, keepdim=True).clamp(min=SMALLEST_SCALE ** 2).sqrt()  # eq. 4
        features = [(centred / scale[:, None]).flatten(1)]                                      # equation 2
        if self.location:
            features.append(mean / PIXEL_UNIT)
        if self.scale:
            features.append(scale / PIXEL_UNIT)
        return torch.cat(features, dim=1)


class ResidualBlock(nn.Module):
    """Twice batch norm, dropout, ReLU, linear; the result is added to the input (section 3.2)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.BatchNorm1d(width), nn.Dropout(dropout), nn.ReLU(), nn.Linear(width, width)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class AbsPoseLifter(nn.Module):
    """pixels (N, J, 2), principal point (N, 2) to canonical root depth (N, 1) mm/px and relative pose (N, J, 3) m.

    Axes of the camera's optical frame: x right, y down, z forward. The root is the first joint, 0 in the relative pose.
    """

    def __init__(self, joints: int = 17, width: int = 4096, blocks: int = 2, dropout: float = 0.5,
                 location: bool = True, scale: bool = True) -> None:
        super().__init__()
        self.joints = joints
        self.mixed = False  # bfloat16 inside the residual blocks while training; the ends stay exact
        self.normalise = Normalise(location, scale)
        self.first = nn.Linear(2 * joints + 2 * location + scale, width)
        self.blocks = nn.Sequential(*(ResidualBlock(width, dropout) for _ in range(blocks)))
        self.last = nn.Linear(width, 3 * joints - 2)
        nn.init.normal_(self.last.weight, std=0.01)
        nn.init.zeros_(self.last.bias)

    def forward(self, pixels: Tensor, principal: Tensor) -> tuple[Tensor, Tensor]:
        x = self.first(self.normalise(pixels, principal))
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.mixed and self.training):
            x = self.blocks(x)
        output = self.last(x.float())
        pose = torch.cat([torch.zeros_like(output[:, :3]), output[:, 1:]], dim=1)
        return output[:, :1], pose.unflatten(1, (self.joints, 3))


class ToAbsolute(nn.Module):
    """What is exported: pixels (N, J, 2), principal point (N, 2), focal length (N, 1) px to joints (N, J, 3) m."""

    def __init__(self, network: nn.Module, canonical: bool = True) -> None:
        super().__init__()
        self.network, self.canonical = network, canonical

    def forward(self, pixels: Tensor, principal: Tensor, focal: Tensor) -> Tensor:
        depth, relative = self.network(pixels, principal)
        return absolute(depth if self.canonical else 1000 * depth / focal, relative, pixels, principal, focal)


def absolute(depth: Tensor, relative: Tensor, pixels: Tensor, principal: Tensor, focal: Tensor) -> Tensor:
    """Return the joints (N, J, 3) m in the camera's frame (equations 5 and 6).

    depth (N, 1) canonical, mm/px; relative (N, J, 3) m; pixels (N, J, 2), of which the root's are used; principal
    (N, 2) px; focal (N, 1) px.
    """
    across = (pixels[:, 0] - principal) * depth * PER_MM                                        # equation 5
    root = torch.cat([across, focal * depth * PER_MM], dim=1)                                   # equation 6
    return root[:, None] + relative


def loss(depth: Tensor, relative: Tensor, points: Tensor, focal: Tensor, pose_weight: float = 1.0,
         canonical: bool = True) -> Tensor:
    """Return equation 7 for true joints (N, J, 3) m and focal length (N, 1) px.

    depth (N, 1) mm/px, relative (N, J, 3) m as the network gives them. pose_weight is lambda. The paper's is 10^3, in
    units that it does not name; with mm/px and m, 1 makes a metre of root depth (at 1000 px) and a metre of any other
    coordinate count alike. canonical=False: the network's depth is taken as the root depth in m ("w/o canonical loss"
    in Table 5).
    """
    true_depth = points[:, 0, 2:]
    target = true_depth / (PER_MM * focal) if canonical else true_depth
    off = (relative - (points - points[:, :1])).abs().sum(dim=(1, 2))
    return (depth - target).abs().mean() + pose_weight * off.mean()
