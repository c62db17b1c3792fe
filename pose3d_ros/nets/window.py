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
  depth error, alike near and far. Which joints to trust for that is learnt too.
- A covariance per joint, learnt from the errors of the rest.

Robots run this for every person of every image, so shapes are written such that few operations come out of the export:
axes are kept and sliced rather than indexed, and reshaped with constant sizes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_linear_bn_eval

SMALLEST_SCALE = 1e-3  # rays: a person of this size would be some 500 m away
WIDEST = 2.0           # rays: a person farther out (a fisheye's border) counts as being there; training ends at 1.7
NEAREST = 0.05         # statures: no joint is taken to be nearer than this to the camera plane
DOUBT = 2.0            # a joint found with confidence 0 is taken to be (1 + this) times less exact
PAST = 96              # features of a frame of the past
TOLD = 7               # features of Look.told
SPEED_AGE = 0.03       # s, added to the age when speeds are formed, so that they stay finite


@dataclass(frozen=True)
class Unit:
    """What the network says in units of the stature, in the frame of the camera that was turned towards the person.

    relative (N, K, 3), root (N, 1, 3); factor (N, K, 3, 3 or 6): covariance = factor factor^T, the first three columns
    a lower triangle; turn (N, 3, 3) maps the camera's frame to this one.
    """

    relative: Tensor
    root: Tensor
    factor: Tensor
    turn: Tensor


class Look(NamedTuple):
    """What the network is shown, as by a camera turned towards the person: T frames of N people, newest first.

    body, mean, scale: of `normalise`; seen, confidence (N, T, J, 1); age (N, T) s; told (N, 1, 7): ray to the person,
    log size, upward direction, kind of joints.
    """

    body: Tensor
    mean: Tensor
    scale: Tensor
    seen: Tensor
    confidence: Tensor
    age: Tensor
    told: Tensor

    def now(self) -> Tensor:
        """Return the newest frame alone (N, 3 J + 7): x, y, confidence of each joint, and what is told."""
        joints = torch.cat([self.body[:, :1], self.confidence[:, :1]], dim=3)
        return torch.cat([joints.reshape(-1, 3 * joints.shape[2]), self.told[:, 0]], dim=1)

    def both_ways(self, other: Sequence[int]) -> Look:
        """Return these people, then their mirror images; other (J): each joint's namesake on the other side."""
        flip = self.body.new_tensor([-1.0, 1.0])
        images = (self.body[:, :, other] * flip, self.mean * flip, self.scale, self.seen[:, :, other],
                  self.confidence[:, :, other], self.age, self.told * self.told.new_tensor([-1.0, 1, 1, -1, 1, 1, 1]))
        return Look(*(torch.cat(pair) for pair in zip(self, images)))


class ResidualBlock(nn.Module):
    """Twice batch norm, ReLU, linear, added to the input (AbsPoseLifter, section 3.2, without dropout)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first_norm, self.first = nn.BatchNorm1d(width), nn.Linear(width, width)
        self.second_norm: nn.Module = nn.BatchNorm1d(width)
        self.second = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(self.first_norm(x).relu())
        return x + self.second(self.second_norm(y).relu())

    def fold(self) -> None:
        """Make the second batch norm part of the linear layer before it."""
        if isinstance(self.second_norm, nn.BatchNorm1d):
            self.first = fuse_linear_bn_eval(self.first, self.second_norm)
            self.second_norm = nn.Identity()


class WindowLifter(nn.Module):
    """2D joints of people, and what else is known of them, to joints in metres.

    rays (N, T, J, 2), confidence (N, T, J), age (N, T) s, up (N, 3), landmarks (N, 1), stature (N, 2) m.
    Newest frame first; a joint or frame with confidence 0 is missing. up: unit vector away from the ground in the
    optical frame, or zeros where it is not known. landmarks: 1 where the joints are what a detector of landmarks
    marks, 0 where they are joint centres. stature: value and standard deviation. Out: relative (N, K, 3) m,
    against the first of the K joints; root (N, 3) m; covariance (N, K, 3, 3) m^2 of the absolute joints. Axes of the
    camera's optical frame. input_points (J, K) makes the input joints from the output joints; mirror_in (J), mirror_out
    (K) name each joint's namesake on the other side. The result is the mean of what comes of the people and of their
    mirror images, so that a mirrored scene gives mirrored people.
    """

    def __init__(self, input_points: Sequence[Sequence[float]], mirror_in: Sequence[int], mirror_out: Sequence[int],
                 frames: int, width: int = 512, blocks: int = 2) -> None:
        super().__init__()
        self.frames = frames
        self.input_points: Tensor
        self.register_buffer('input_points', torch.tensor(input_points, dtype=torch.float32))
        self.mirror_in, self.mirror_out = list(mirror_in), list(mirror_out)
        self.diagonal: Tensor  # (3, 9): where the values on the diagonal of a triangle go; below: those beside it
        self.register_buffer('diagonal', torch.eye(9)[[0, 4, 8]], persistent=False)
        self.below: Tensor
        self.register_buffer('below', torch.eye(9)[[3, 6, 7]], persistent=False)
        self.trust: Tensor  # factor of the standard deviations, measured on validation data
        self.register_buffer('trust', torch.ones(1))
        self.mixed = False  # bfloat16 inside the wide layers, where nearly all the time goes; the ends stay exact
        self.joints_in, self.joints_out = self.input_points.shape
        now, then = 3 * self.joints_in + TOLD, 5 * self.joints_in + 4
        self.past = nn.Sequential(nn.Linear(now + then, 2 * PAST), nn.ReLU(), nn.Linear(2 * PAST, PAST))
        self.first = nn.Linear(now + (frames - 1) * (PAST + 1), width)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)), nn.BatchNorm1d(width), nn.ReLU())
        self.last = small_linear(width, 3 * self.joints_out - 2 + self.joints_in)
        self.doubt = nn.Sequential(nn.Linear(width, 192), nn.ReLU(), small_linear(192, 6 * self.joints_out))

    def forward(self, rays: Tensor, confidence: Tensor, age: Tensor, up: Tensor, landmarks: Tensor,
                stature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        unit = self.unit(rays, confidence, age, up, landmarks, both_ways=True)
        size, sigma = stature[:, None, :1], stature[:, None, 1:]
        turn = unit.turn * size
        relative, root = unit.relative @ turn, unit.root @ turn
        spread = (self.trust * turn.transpose(1, 2))[:, None] @ unit.factor
        along = ((root + relative) * (sigma / size))[..., None]
        covariance = spread @ spread.transpose(2, 3) + along @ along.transpose(2, 3)
        return relative, root.reshape(-1, 3), covariance

    def unit(self, rays: Tensor, confidence: Tensor, age: Tensor, up: Tensor, landmarks: Tensor,
             both_ways: bool = False, through: bool = False) -> Unit:
        """Return the result in units of the stature; the arguments are those of forward.

        both_ways: ask for the mirror images too (it costs training more than it gives). through: have gradients of the
        place reach the pose that it follows from, for losses of both together.
        """
        look, turned, turn = self.look(rays, confidence, age, up, landmarks)
        return self.answer(look, turned, turn, both_ways, through)

    def look(self, rays: Tensor, confidence: Tensor, age: Tensor, up: Tensor,
             landmarks: Tensor) -> tuple[Look, Tensor, Tensor]:
        """Return what the layers are shown, the newest rays (N, J, 2) from the turned camera, and turn (N, 3, 3)."""
        shape = (-1, self.frames, self.joints_in)
        confidence = confidence.clamp(0, 1).reshape(*shape, 1)
        seen = (confidence > 0).to(rays.dtype)
        rays = torch.where(seen > 0, rays, 0 * seen)
        present = seen[:, 0]
        location = rays[:, 0].sum(dim=1, keepdim=True) / present.sum(dim=1, keepdim=True).clamp(min=1)  # (N, 1, 2)
        turn = facing(location.reshape(-1, 2))
        columns = turn.transpose(1, 2)
        directions = rays.reshape(-1, self.frames * self.joints_in, 2) @ columns[:, :2] + columns[:, 2:]
        turned = (directions[..., :2] / directions[..., 2:].clamp(min=NEAREST)).reshape(*shape, 2)
        body, mean, scale = normalise(turned, seen)
        told = torch.cat([location.clamp(-WIDEST, WIDEST), scale[:, 0].log(), up[:, None] @ columns,
                          landmarks[:, None]], dim=2)
        return Look(body, mean, scale, seen, confidence, age, told), turned[:, 0], turn

    def answer(self, look: Look, turned: Tensor, turn: Tensor, both_ways: bool = False, through: bool = False) -> Unit:
        """Return the result of what `look` gave; both_ways, through: as in unit."""
        hidden = self._features(*(look.both_ways(self.mirror_in) if both_ways else look))
        pose, depth, trust, factor = self._answers(self.last(hidden), self.doubt(hidden.detach()), 1 + both_ways)
        weight = look.seen[:, 0] / (1 + DOUBT * (1 - look.confidence[:, 0])) ** 2 * trust.exp()
        # The place is learnt from the pose, not the pose from the place: that bends it towards what suits the depth.
        points = self.input_points @ pose
        if not through:
            points = points.detach()
        distant = distance(turned, points, weight) * depth.exp()
        return Unit(pose, place(turned, points, distant, weight), factor, turn)

    def _answers(self, output: Tensor, doubt: Tensor, ways: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return pose (N, K, 3), log factor of the depth (N, 1, 1), log trust (N, J, 1) and factor (N, K, 3, 3 or 6).

        output, doubt (ways N, .): with two ways the second half is of the mirror images, and the mean is taken.
        What is learnt is bounded so that exp stays finite.
        """
        output = output.reshape(ways, -1, 3 * self.joints_out - 2 + self.joints_in)
        pose = torch.cat([0 * output[..., :3], output[..., 1:3 * self.joints_out - 2]], dim=2)
        pose = pose.reshape(ways, -1, self.joints_out, 3)
        depth = output[..., :1].clamp(-3, 3).mean(dim=0)[:, None]
        trust = output[..., 3 * self.joints_out - 2:].clamp(-6, 3)
        factor = self._triangles(doubt).reshape(ways, -1, self.joints_out, 3, 3)
        if ways == 1:
            return pose[0], depth, trust[0, ..., None], factor[0]
        flip, other = pose.new_tensor([-1.0, 1.0, 1.0]), self.mirror_out
        factors = torch.cat([factor[0], factor[1][:, other] * flip[:, None]], dim=3)
        return (0.5 * (pose[0] + pose[1][:, other] * flip), depth,
                0.5 * (trust[0] + trust[1][:, self.mirror_in])[..., None], 0.5 ** 0.5 * factors)

    def _features(self, body: Tensor, mean: Tensor, scale: Tensor, seen: Tensor, confidence: Tensor, age: Tensor,
                  told: Tensor) -> Tensor:
        """Return the hidden features (N, width); body (N, T, J, 2), mean and scale (N, T, 1, .), told (N, 1, 7).

        Of each past frame: its pose, how the joints moved since, and how the whole body moved and grew.
        """
        older, before = self.frames - 1, age[:, 1:].reshape(-1, self.frames - 1, 1, 1)
        joints = torch.cat([body, confidence], dim=3).reshape(-1, self.frames, 3 * self.joints_in)
        now = torch.cat([joints[:, :1], told], dim=2)
        speed = (body[:, :1] - body[:, 1:]) * (0.2 * seen[:, 1:] * seen[:, :1] / (before + SPEED_AGE))
        moved, grown = (mean[:, 1:] - mean[:, :1]) / scale[:, :1], (scale[:, 1:] / scale[:, :1]).log()
        then = [now.repeat(1, older, 1), joints[:, 1:], speed.reshape(-1, older, 2 * self.joints_in),
                torch.cat([moved, grown, before], dim=3).reshape(-1, older, 4)]
        there = seen[:, 1:].amax(dim=2)                                                         # (N, T - 1, 1)
        with torch.autocast(body.device.type, torch.bfloat16, enabled=self.mixed and self.training):
            past = self.past(torch.cat(then, dim=2)).float()
        past = torch.cat([past * there, there], dim=2).reshape(-1, older * (PAST + 1))
        with torch.autocast(body.device.type, torch.bfloat16, enabled=self.mixed and self.training):
            return self.blocks(self.first(torch.cat([now[:, 0], past], dim=1))).float()

    def _triangles(self, values: Tensor) -> Tensor:
        """Return lower triangular matrices (N, K, 3, 3) in statures of values (N, 6 K); all zero: 5 cm of an adult."""
        values = values.reshape(-1, self.joints_out, 6)
        entries = values[..., :3].clamp(-4, 5).exp() @ self.diagonal + values[..., 3:] @ self.below
        return (0.03 * entries).reshape(-1, self.joints_out, 3, 3)

    def folded(self) -> WindowLifter:
        """Return a copy for export, with batch norms made part of the linear layers before them where that is so."""
        network = copy.deepcopy(self).eval()
        for block in network.blocks:
            if isinstance(block, ResidualBlock):
                block.fold()
        return network


def normalise(rays: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return poses (N, T, J, 2) of mean 0 and variance 1, their mean (N, T, 1, 2) and scale (N, T, 1, 1).

    rays (N, T, J, 2), seen (N, T, J, 1); AbsPoseLifter's equations 2 to 4 over the joints that are seen.
    """
    count = seen.sum(dim=2, keepdim=True).clamp(min=1)
    mean = (rays * seen).sum(dim=2, keepdim=True) / count
    offset = (rays - mean) * seen
    variance = (offset * offset).sum(dim=(2, 3), keepdim=True) / count
    scale = variance.clamp(min=SMALLEST_SCALE ** 2).sqrt()
    return offset / scale, mean, scale


def distance(rays: Tensor, points: Tensor, weight: Tensor) -> Tensor:
    """Return the depth (N, 1, 1) of the root at which points (N, J, 3) against the root come nearest to rays (N, J, 2).

    weight (N, J, 1). Each joint says x_i (R_z + Z_i) = R_x + X_i; of these equations R_z is the least-squares solution.
    """
    total = weight.sum(dim=1, keepdim=True).clamp(min=1e-6)
    both = torch.cat([rays, points[..., :2] - rays * points[..., 2:]], dim=2)
    both = both - (weight * both).sum(dim=1, keepdim=True) / total
    rays, flat = both[..., :2], both[..., 2:]
    weighted = weight * rays
    spread = (weighted * rays).sum(dim=(1, 2), keepdim=True).clamp(min=1e-6)
    depth = (weighted * flat).sum(dim=(1, 2), keepdim=True) / spread
    # Between 1/5 and 5 times what the size in the image says of a standing body, however odd the pose.
    usual = 0.28 * (total / spread).sqrt()
    return torch.minimum(torch.maximum(depth, 0.2 * usual), 5 * usual)


def place(rays: Tensor, points: Tensor, depth: Tensor, weight: Tensor) -> Tensor:
    """Place the root (N, 1, 3) at a depth (N, 1, 1) so that points (N, J, 3) against it meet rays (N, J, 2).

    AbsPoseLifter's equation 5 uses the root's own ray, R_x = r_x R_z. Here every seen joint i says the same of itself,
    R_x + X_i = x_i (R_z + Z_i), and the answers are averaged with weight (N, J, 1), so the root need not be seen.
    """
    answers = rays * (depth + points[..., 2:]).clamp(min=NEAREST) - points[..., :2]
    across = (weight * answers).sum(dim=1, keepdim=True) / weight.sum(dim=1, keepdim=True).clamp(min=1e-6)
    return torch.cat([across, depth.clamp(min=NEAREST)], dim=2)


def facing(location: Tensor) -> Tensor:
    """Return rotations (N, 3, 3) from the camera to one that looks along rays (N, 2); rows: its axes, x being level."""
    x, y = location[:, :1], location[:, 1:]
    level = (1 + x * x).sqrt()
    a, b = 1 / level, 1 / (level * level + y * y).sqrt()
    ab = a * b
    return torch.cat([a, 0 * x, -x * a, -x * y * ab, level * b, -y * ab, x * b, y * b, b], dim=1).reshape(-1, 3, 3)


def small_linear(features_in: int, features_out: int) -> nn.Linear:
    layer = nn.Linear(features_in, features_out)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return layer
