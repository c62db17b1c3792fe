"""The lifter that ships: a short past of one person's 2D joints to absolute 3D joints and how sure they are.

It grew out of AbsPoseLifter (Chang, Moon, Lee; arXiv 1910.12029; nets/absolute.py) and differs in what robots need:
- The input are rays (undistorted, x/z and y/z), the paper's pixels minus principal point (equation 1) divided by the
  focal length. With calibrated cameras the focal-length ambiguity of its section 3.1 is gone: the canonical root depth
  of equation 6 is taken with alpha = 1.
- Every person is seen as by a camera turned straight towards that person. In a wide view the same pose looks different
  at the border and in the middle; here the network need not learn that.
- The size ambiguity cannot be learnt away, so it is kept out: inside, the person's stature is the unit of length, and
  the stature is an input (value and standard deviation) that scales the result and widens its covariance.
- Joints may be missing: mean and scale (equations 3 and 4) are those of the joints that are seen, and confidences are
  part of the input. Some frames of the past come with their age.
- The depth follows from the estimated pose and the rays by least squares, times a learnt factor: that depth is inverse
  to the size in the image (figure 6) is built in, whichever joints are seen, and an error in the factor is a relative
  depth error, alike near and far.
- A covariance per joint, learnt from the errors of the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SMALLEST_SCALE = 1e-3  # rays: a person of this size would be some 500 m away
WIDEST = 2.0           # rays: a person farther out (a fisheye's border) counts as being there; training ends at 1.7
NEAREST = 0.05         # statures: no joint is taken to be nearer than this to the camera plane
DOUBT = 2.0            # a joint found with confidence 0 is taken to be (1 + this) times less exact
OUTLIER = 0.06         # statures: joints this far off count half when the root is placed
SPEED_AGE = 0.03       # s, added to the age when speeds are formed, so that they stay finite


@dataclass(frozen=True)
class Unit:
    """What the network says in units of the stature, in the frame of the camera that was turned towards the person.

    relative (N, K, 3), root (N, 3); factor (N, K, 3, 3) lower triangular: covariance = factor factor^T; turn (N, 3, 3)
    maps the camera's frame to this one.
    """

    relative: Tensor
    root: Tensor
    factor: Tensor
    turn: Tensor


class ResidualBlock(nn.Module):
    """Twice batch norm, ReLU, linear, added to the input (AbsPoseLifter, section 3.2, without dropout)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class WindowLifter(nn.Module):
    """rays (N, T, J, 2), confidence (N, T, J), age (N, T) s, up (N, 3), stature (N, 2) m to joints in metres.

    Newest frame first; a joint or frame with confidence 0 is missing. up: unit vector away from the ground in the
    optical frame, or zeros where it is not known. stature: value and standard deviation. Out: relative (N, K, 3) m,
    against the first of the K joints; root (N, 3) m; covariance (N, K, 3, 3) m^2 of the absolute joints. Axes of the
    camera's optical frame. input_points (J, K) makes the input joints from the output joints.
    """

    def __init__(self, input_points: Sequence[Sequence[float]], frames: int, width: int = 768, blocks: int = 2) -> None:
        super().__init__()
        self.input_points: Tensor
        self.register_buffer('input_points', torch.tensor(input_points, dtype=torch.float32))
        self.trust: Tensor  # factor of the standard deviations, measured on validation data
        self.register_buffer('trust', torch.ones(1))
        self.mixed = False  # bfloat16 inside the wide layers, where nearly all the time goes; the ends stay exact
        joints_in, self.joints_out = self.input_points.shape
        now, then = 3 * joints_in + 3 + 3, 5 * joints_in + 1
        self.past = nn.Sequential(nn.Linear(now + then, 192), nn.ReLU(), nn.Linear(192, 96))
        self.first = nn.Linear(now + (frames - 1) * (96 + 1), width)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.last = nn.Sequential(nn.BatchNorm1d(width), nn.ReLU(), _small(width, 3 * self.joints_out - 2))
        self.doubt = nn.Sequential(nn.Linear(width, 256), nn.ReLU(), _small(256, 6 * self.joints_out))

    def forward(self, rays: Tensor, confidence: Tensor, age: Tensor, up: Tensor,
                stature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        unit = self.unit(rays, confidence, age, up)
        size = stature[:, :1]
        relative = unit.relative @ unit.turn * size[..., None]
        root = (unit.root[:, None] @ unit.turn)[:, 0] * size
        factor = unit.turn.transpose(1, 2)[:, None] @ unit.factor * (self.trust * size)[..., None, None]
        along = (root[:, None] + relative) * (stature[:, 1:] / size)[..., None]
        return relative, root, factor @ factor.transpose(2, 3) + along[..., :, None] * along[..., None, :]

    def unit(self, rays: Tensor, confidence: Tensor, age: Tensor, up: Tensor) -> Unit:
        """Return the result in units of the stature; the arguments are those of forward."""
        confidence = confidence.clamp(0, 1)
        seen = (confidence > 0).to(rays.dtype)[..., None]
        rays = torch.where(seen > 0, rays, torch.zeros_like(rays))
        present = seen[:, 0]
        count = present.sum(dim=1).clamp(min=1)
        location = rays[:, 0].sum(dim=1) / count
        turn = facing(location)
        directions = torch.cat([rays, torch.ones_like(rays[..., :1])], dim=3) @ turn[:, None].transpose(2, 3)
        turned = directions[..., :2] / directions[..., 2:].clamp(min=NEAREST)
        mean = (turned[:, 0] * present).sum(dim=1) / count                                      # equation 3
        centred = (turned - mean[:, None, None]) * seen
        variance = (centred[:, 0] ** 2).sum(dim=(1, 2))[:, None] / count                        # equation 4
        scale = variance.clamp(min=SMALLEST_SCALE ** 2).sqrt()
        body = centred / scale[:, None, None]                                                   # equation 2

        hidden = self._features(body, seen, confidence, age, torch.cat(
            [location.clamp(-WIDEST, WIDEST), scale.log(), (turn @ up[..., None])[..., 0]], dim=1))
        output, doubt = self.last(hidden), self.doubt(hidden.detach())
        relative = torch.cat([torch.zeros_like(output[:, :3]), output[:, 1:]], dim=1).unflatten(1, (-1, 3))
        weight = present / (1 + DOUBT * (1 - confidence[:, 0]))[..., None] ** 2
        points = self.input_points @ relative
        # The learnt factor is bounded so that exp stays finite.
        depth = distance(turned[:, 0], points, weight) * output[:, :1].clamp(-3, 3).exp()
        root = place(turned[:, 0], points, depth, weight)
        return Unit(relative, root, _triangle(doubt.unflatten(1, (-1, 6))), turn)

    def _features(self, body: Tensor, seen: Tensor, confidence: Tensor, age: Tensor, place: Tensor) -> Tensor:
        now = torch.cat([body[:, 0].flatten(1), confidence[:, 0], place], dim=1)
        both = seen[:, 1:] * seen[:, :1]
        speed = (body[:, :1] - body[:, 1:]) * both / (age[:, 1:, None, None] + SPEED_AGE)
        then = torch.cat([body[:, 1:].flatten(2), 0.2 * speed.flatten(2), confidence[:, 1:], age[:, 1:, None]], dim=2)
        there = seen[:, 1:].amax(dim=2)                                                         # (N, T - 1, 1)
        with torch.autocast(body.device.type, torch.bfloat16, enabled=self.mixed and self.training):
            past = self.past(torch.cat([now[:, None].repeat(1, then.shape[1], 1), then], dim=2)).float() * there
        x = self.first(torch.cat([now, past.flatten(1), there[..., 0]], dim=1))
        with torch.autocast(body.device.type, torch.bfloat16, enabled=self.mixed and self.training):
            return self.blocks(x).float()


def distance(rays: Tensor, points: Tensor, weight: Tensor) -> Tensor:
    """Return the depth (N, 1) of the root at which points (N, J, 3) against the root come nearest to rays (N, J, 2).

    weight (N, J, 1). Each joint says x_i (R_z + Z_i) = R_x + X_i; of these equations R_z is the least-squares solution.
    """
    total = weight.sum(dim=1, keepdim=True).clamp(min=1e-6)
    flat = points[..., :2] - rays * points[..., 2:]
    rays, flat = (values - (weight * values).sum(dim=1, keepdim=True) / total for values in (rays, flat))
    spread = (weight * rays * rays).sum(dim=(1, 2))[:, None]
    depth = (weight * rays * flat).sum(dim=(1, 2))[:, None] / spread.clamp(min=1e-6)
    # Between 1/5 and 5 times what the size in the image says of a standing body, however odd the pose.
    usual = 0.28 * (total[:, 0] / spread.clamp(min=1e-6)).sqrt()
    return depth.clamp(min=0.2 * usual, max=5 * usual)


def place(rays: Tensor, points: Tensor, depth: Tensor, weight: Tensor) -> Tensor:
    """Place the root (N, 3) at a depth (N, 1) so that points (N, J, 3) against it meet rays (N, J, 2).

    AbsPoseLifter's equation 5 uses the root's own ray, R_x = r_x R_z. Here every seen joint i says the same of itself,
    R_x + X_i = x_i (R_z + Z_i), and the answers are averaged with weight (N, J, 1), so the root need not be seen. Joints
    that disagree with the others by far more than OUTLIER hardly count (one step of reweighted least squares).
    """
    answers = rays * (depth + points[..., 2]).clamp(min=NEAREST)[..., None] - points[..., :2]
    across = (weight * answers).sum(dim=1) / weight.sum(dim=1).clamp(min=1e-6)
    off = ((answers - across[:, None]) ** 2).sum(dim=2, keepdim=True)
    weight = weight / (1 + off / OUTLIER ** 2)
    across = (weight * answers).sum(dim=1) / weight.sum(dim=1).clamp(min=1e-6)
    return torch.cat([across, depth.clamp(min=NEAREST)], dim=1)


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


def _small(features_in: int, features_out: int) -> nn.Linear:
    layer = nn.Linear(features_in, features_out)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return layer


def _triangle(values: Tensor) -> Tensor:
    """Return lower triangular matrices (N, K, 3, 3) in statures of values (N, K, 6); all zero: 5 cm of an adult."""
    size = (values[..., :3].clamp(-4, 5)).exp() * 0.03
    side = values[..., 3:] * 0.03
    zero = 0 * size[..., 0]
    rows = [size[..., 0], zero, zero, side[..., 0], size[..., 1], zero, side[..., 1], side[..., 2], size[..., 2]]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))
