"""AbsPoseLifter (Chang, Moon, Lee; arXiv 1910.12029): one 2D pose to an absolute 3D pose.

AbsPoseLifter is the published network, but for what a robot's camera makes possible or necessary:
- The input are rays (undistorted, x/z and y/z), that is the paper's pixels minus principal point (equation 1), divided
  by the focal length. With calibrated cameras the focal-length ambiguity of section 3.1 is gone: the canonical root
  depth of equation 6 is taken with alpha = 1 and equals the root depth in metres.
- Joints may be missing. Mean and scale (equations 3 and 4) are those of the joints that are seen, missing ones are 0
  after normalisation, and the confidences (0: missing) are part of the input.
- What the network gives is the logarithm of depth times scale: that depth is inverse to the size in the image (figure
  6) is built in, and an error in the output is a relative depth error, alike near and far.

FacingLifter, which ships, shows it every person as a camera would that looks straight at that person. In a wide view
the same pose looks different at the border and in the middle; here the network need not learn that.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pose3d_ros.lift import DOUBT_SIGMA, NEAREST

SMALLEST_SCALE = 1e-3  # rays: a person of this size would be some 500 m away
WIDEST = 2.0           # rays: a person farther out (a fisheye's border) counts as being there; training ends at 1.7


class Normalise(nn.Module):
    """Section 3.1: rays (N, J, 2) and confidence (N, J) to features (N, 3J + 3) and scale (N, 1).

    location (N, 2) takes the place of the mean among the features.
    """

    def forward(self, rays: Tensor, confidence: Tensor, location: Tensor | None = None) -> tuple[Tensor, Tensor]:
        rays, confidence, seen = without_missing(rays, confidence)
        count = seen.sum(dim=1).clamp(min=1)
        mean = rays.sum(dim=1) / count                                                # equation 3
        centred = (rays - mean[:, None]) * seen
        variance = (centred * centred).sum(dim=(1, 2))[:, None] / count               # equation 4
        scale = variance.clamp(min=SMALLEST_SCALE ** 2).sqrt()
        normalised = (centred / scale[:, None]).flatten(1)                            # equation 2
        return torch.cat([normalised, mean if location is None else location, scale.log(), confidence], dim=1), scale


class ResidualBlock(nn.Module):
    """Twice batch norm, dropout, ReLU, linear, added to the input (section 3.2)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.BatchNorm1d(width), nn.Dropout(dropout), nn.ReLU(), nn.Linear(width, width)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class AbsPoseLifter(nn.Module):
    """rays (N, J, 2), confidence (N, J) to the pose relative to the root (N, K, 3) m and the root depth (N, 1) m.

    Axes of the camera's optical frame: x right, y down, z forward. The root is the first of the K joints, 0 by
    construction. Paper: width 4096, two blocks, dropout 0.5, for fixed training pairs; here pairs are drawn anew for
    ever, which asks for less of both.
    """

    def __init__(self, joints_in: int, joints_out: int, width: int = 768, blocks: int = 2,
                 dropout: float = 0.0) -> None:
        super().__init__()
        self.joints_out = joints_out
        self.mixed = False  # bfloat16 inside the residual blocks, where nearly all the time goes; the ends stay exact
        self.normalise = Normalise()
        self.first = nn.Linear(3 * joints_in + 3, width)
        self.blocks = nn.Sequential(*(ResidualBlock(width, dropout) for _ in range(blocks)))
        output = nn.Linear(width, 3 * joints_out - 2)
        nn.init.normal_(output.weight, std=0.01)
        nn.init.zeros_(output.bias)
        self.last = nn.Sequential(nn.BatchNorm1d(width), nn.ReLU(), output)

    def forward(self, rays: Tensor, confidence: Tensor, location: Tensor | None = None) -> tuple[Tensor, Tensor]:
        features, scale = self.normalise(rays, confidence, location)
        x = self.first(features)
        if self.mixed:
            with torch.autocast(x.device.type, torch.bfloat16):
                x = self.blocks(x)
        else:
            x = self.blocks(x)
        output = self.last(x)
        relative = torch.cat([torch.zeros_like(output[:, :3]), output[:, 1:]], dim=1).unflatten(1, (self.joints_out, 3))
        # A root depth further than a factor of e^4 from the image scale is no person; the bound keeps exp finite.
        return relative, output[:, :1].clamp(-4, 4).exp() / scale


class FacingLifter(nn.Module):
    """An AbsPoseLifter that sees every person from a camera turned towards that person; in and out as there.

    input_points (J, K): makes the input joints from the output joints. It is needed to turn the root back, of which the
    inner network gives the depth only: equation 5, averaged over the joints that are seen.
    """

    def __init__(self, lifter: AbsPoseLifter, input_points: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self.lifter = lifter
        self.input_points: Tensor
        self.register_buffer('input_points', torch.tensor(input_points, dtype=torch.float32))

    def forward(self, rays: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor]:
        rays, confidence, seen = without_missing(rays, confidence)
        location = rays.sum(dim=1) / seen.sum(dim=1).clamp(min=1)
        turn = facing(location)
        directions = torch.cat([rays, torch.ones_like(rays[..., :1])], dim=2) @ turn.transpose(1, 2)
        turned = directions[..., :2] / directions[..., 2:].clamp(min=NEAREST) * seen
        relative, depth = self.lifter(turned, confidence, location.clamp(-WIDEST, WIDEST))

        points = self.input_points @ relative
        z = (depth + points[..., 2]).clamp(min=NEAREST)[..., None]
        weight = seen / (1 + DOUBT_SIGMA * (1 - confidence))[..., None] ** 2
        across = (weight * (turned * z - points[..., :2])).sum(dim=1) / weight.sum(dim=1).clamp(min=1e-6)
        root = torch.cat([across, depth], dim=1)[:, None] @ turn
        return relative @ turn, root[:, 0, 2:].clamp(min=NEAREST)


def without_missing(rays: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return rays and confidence with 0 for missing joints, whatever they held, and seen (N, J, 1): 1 or 0."""
    present = confidence > 0
    rays = torch.where(present[..., None], rays, torch.zeros_like(rays))
    return rays, torch.where(present, confidence, torch.zeros_like(confidence)), present[..., None].to(rays.dtype)


def facing(location: Tensor) -> Tensor:
    """Return rotations (N, 3, 3) from the camera to one that looks along the rays location (N, 2), its x axis level.

    Rows are the turned camera's x, y and z axes.
    """
    x, y = location[:, :1], location[:, 1:]
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    level = (1 + x * x).sqrt()
    length = (1 + x * x + y * y).sqrt()
    right = torch.cat([one, zero, -x], dim=1) / level
    down = torch.cat([-x * y, level * level, -y], dim=1) / (level * length)
    ahead = torch.cat([x, y, one], dim=1) / length
    return torch.stack([right, down, ahead], dim=1)
