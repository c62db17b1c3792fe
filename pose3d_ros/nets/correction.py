"""Self-supervised correction at test time: a pose pulled towards what the detector saw, without autograd.

Wang, Lin, Jiang, Qian, Wei: 3D Human Pose Machines with Self-supervised Learning, equations 3 and 4: of every frame,
copies of Psi_C and Psi_P are updated twice by back-propagation of the difference between projected and detected joints,
Psi_C is asked again, and the copies are thrown away. Robots have no autograd, so the backward pass of the few layers is
written out here, and the whole is one graph of plain operations for any number of people.

No copies are made either. For one person the gradient of a layer's weights is the outer product of delta, the gradient
of what the layer says, and x, what it was shown. After updates k with rate eta the person's own layer says of x

    W x + b - eta sum_k delta_k (x_k . x + 1),    and backwards    W^T delta - eta sum_k x_k (delta_k . delta),

which needs W, shared by all, and a few vectors per person. Batch norms are part of the layers before them (`folded`):
what is updated are the weights that the file holds.

Residuals are weighted: a joint that the detector does not trust must not pull. Psi_P does not know where a person is
and how large in the image: what was detected is moved and scaled to fit the first projection, so that only the pose is
left to differ. `PinholeCorrection` has the true projection in place of Psi_P, for rays say what it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pose3d_ros.nets.machine import Projector, Regression
from pose3d_ros.nets.window import DOUBT, NEAREST, distance, place

ROBUST = ('pelvis', 'left_shoulder', 'right_shoulder', 'left_hip', 'right_hip')  # section 3.3


@dataclass(frozen=True)
class CorrectionSettings:
    """How far and when. rate: eta of Psi_C, or of the pose where that is what changes; projection_rate: of Psi_P.

    updates: back-propagations; converged_m: epsilon, robust joints that move less in an update have arrived;
    discarded_m: tau, where they have moved farther in all, nothing is changed.
    """

    rate: float
    projection_rate: float = 0.0
    updates: int = 2
    converged_m: float = 0.005
    discarded_m: float = 0.020


class Corrected(NamedTuple):
    """pose (N, K, 3) in statures; moved (N, 1) m: the mean way of the robust joints; kept (N, 1): 0 where discarded."""

    pose: Tensor
    moved: Tensor
    kept: Tensor


class OwnLayer:
    """A fully connected layer that every person has an own copy of, none of which is written down."""

    def __init__(self, layer: nn.Linear, rate: float) -> None:
        self.weight, self.bias, self.rate = layer.weight, layer.bias, rate
        self._terms: list[tuple[Tensor, Tensor]] = []
        self._shown: Tensor
        self._delta: Tensor

    def forward(self, shown: Tensor) -> Tensor:
        """Return what each person's layer says of x (N, in): (N, out)."""
        self._shown = shown
        said = functional.linear(shown, self.weight, self.bias)
        for delta, before in self._terms:
            said = said - self.rate * ((before * shown).sum(dim=1, keepdim=True) + 1) * delta
        return said

    def seen(self, delta: Tensor) -> None:
        """Take in the gradient (N, out) of what was said last, for the next update."""
        self._delta = delta

    def back(self, delta: Tensor) -> Tensor:
        """Take it in, and return the gradient (N, in) of what was shown last."""
        self.seen(delta)
        slope = delta @ self.weight
        for other, before in self._terms:
            slope = slope - self.rate * (other * delta).sum(dim=1, keepdim=True) * before
        return slope

    def update(self) -> None:
        """Take one step against the gradient."""
        if self.rate:
            self._terms.append((self._delta, self._shown))


class OwnRegression:
    """Psi_C of every person's own."""

    def __init__(self, regression: Regression, rate: float) -> None:
        self.first, self.second = OwnLayer(regression.first, rate), OwnLayer(regression.second, rate)
        self.skip = regression.skip

    def forward(self, pose: Tensor) -> Tensor:
        before = self.first.forward(pose)
        self.on = (before > 0).to(pose.dtype)
        found = self.second.forward(before.relu())
        return found + pose if self.skip else found

    def update(self, delta: Tensor) -> None:
        """Take one step; delta: the gradient of the normalised pose that was said last."""
        self.first.seen(self.second.back(delta) * self.on)
        self.first.update()
        self.second.update()


class OwnPose:
    """The pose itself in place of Psi_C's weights."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.changes: list[Tensor] = []

    def forward(self, pose: Tensor) -> Tensor:
        for change in self.changes:
            pose = pose - self.rate * change
        return pose

    def update(self, delta: Tensor) -> None:
        """Take one step; delta: the gradient of the normalised pose."""
        self.changes.append(delta)


class OwnProjection:
    """Psi_P of every person's own, and the residual of what it says; target: made of the first projection."""

    def __init__(self, projector: Projector, rate: float, rays: Tensor, weight: Tensor) -> None:
        layers = projector.projection
        self.first, self.second, self.third, self.last = (
            OwnLayer(layer, rate) for layer in (layers.first, layers.second, layers.third, layers.last))
        self.range, self.rays, self.weight = projector.flat_range, rays, weight
        self.target: Tensor | None = None

    def slope(self, pose: Tensor) -> Tensor:
        """Return the gradient of the loss (N, C) with respect to normalised poses (N, C), and take one step."""
        first = self.first.forward(pose)
        shown = first.relu()
        second = self.second.forward(shown)
        third = self.third.forward(second.relu())
        said = self.last.forward(shown + third.relu()).reshape(-1, *self.rays.shape[1:])
        if self.target is None:
            self.target = self.range(aligned(self.rays, self.range.back(said), self.weight))
        delta = (2 * self.weight * (said - self.target)).reshape(-1, self.last.weight.shape[0])
        through = self.last.back(delta)
        inner = self.third.back(through * (third > 0).to(pose.dtype))
        around = through + self.second.back(inner * (second > 0).to(pose.dtype))
        slope = self.first.back(around * (first > 0).to(pose.dtype))
        for layer in (self.first, self.second, self.third, self.last):
            layer.update()
        return slope


class Correction(nn.Module, ABC):
    """What both forms have in common: the updates, and what becomes of them.

    projector: folded; joints: the names of the pose's joints. Shapes of forward: pose (N, K, 3) in statures against the
    pelvis, as any lifter says it; rays (N, J, 2), both before a camera turned towards the person; confidence (N, J), 0
    where a joint is missing; stature (N, 1) m, in which the limits are judged.
    """

    def __init__(self, projector: Projector, joints: Sequence[str], settings: CorrectionSettings) -> None:
        super().__init__()
        if any(isinstance(module, nn.BatchNorm1d) for module in projector.modules()):
            raise ValueError('corrections are made of folded projectors: projector.folded()')
        self.projector, self.settings = projector, settings
        share = torch.tensor([[joint in ROBUST] for joint in joints], dtype=torch.float32)
        self.share: Tensor  # (K, 1): of each joint in what is watched
        self.register_buffer('share', share / share.sum(), persistent=False)

    @abstractmethod
    def forward(self, pose: Tensor, rays: Tensor, confidence: Tensor, stature: Tensor) -> Corrected:
        """Return the corrected poses."""

    def decided(self, poses: Sequence[Tensor], stature: Tensor) -> Corrected:
        """Return the result of poses (N, K, 3) before and after every update (section 3.3, the heuristic strategy).

        Updates end when the robust joints converge, and all are discarded where these have gone too far. The pelvis is
        one of the five, as published; it does not move in poses against the pelvis.
        """
        result, going = poses[0], torch.ones_like(stature)
        for before, after in zip(poses, poses[1:]):
            result = torch.where(going[..., None] > 0, after, result)
            going = going * (self._way(after - before, stature) >= self.settings.converged_m).to(going.dtype)
        moved = self._way(result - poses[0], stature)
        kept = (moved <= self.settings.discarded_m).to(moved.dtype)
        return Corrected(torch.where(kept[..., None] > 0, result, poses[0]), moved, kept)

    def _way(self, change: Tensor, stature: Tensor) -> Tensor:
        """Return how far (N, 1) m the robust joints went on average; change (N, K, 3) in statures."""
        return ((change * change).sum(dim=2, keepdim=True).sqrt() * self.share).sum(dim=1) * stature


class LearnedCorrection(Correction):
    """The correction as published: both Psi_C and Psi_P of the frame are updated (equations 3 and 4)."""

    def forward(self, pose: Tensor, rays: Tensor, confidence: Tensor, stature: Tensor) -> Corrected:
        start, settings = self.projector.normalised(pose), self.settings
        regression = OwnRegression(self.projector.regression, settings.rate)
        projection = OwnProjection(self.projector, settings.projection_rate, rays, weights(confidence))
        said = [regression.forward(start)]
        for _ in range(settings.updates):
            regression.update(projection.slope(said[-1]))
            said.append(regression.forward(start))
        return self.decided([self.projector.posed(values) for values in said], stature)


class PinholeCorrection(Correction):
    """The same with the true projection; what changes is Psi_C, or with `direct` the pose itself, without Psi_C.

    points (J, K) makes the joints that are seen from those of the pose (lift.input_points). The place of the body is
    found anew before every update, and held fixed in it.
    """

    def __init__(self, projector: Projector, joints: Sequence[str], settings: CorrectionSettings,
                 points: Sequence[Sequence[float]], direct: bool = False) -> None:
        super().__init__(projector, joints, settings)
        self.direct = direct
        self.points: Tensor
        self.register_buffer('points', torch.tensor(points, dtype=torch.float32), persistent=False)

    def forward(self, pose: Tensor, rays: Tensor, confidence: Tensor, stature: Tensor) -> Corrected:
        start, weight, settings = self.projector.normalised(pose), weights(confidence), self.settings
        changing = OwnPose(settings.rate) if self.direct else OwnRegression(self.projector.regression, settings.rate)
        poses = [self.projector.posed(changing.forward(start))]
        for _ in range(settings.updates):
            slope = self.slope(poses[-1], rays, weight)[:, 1:] * self.projector.pose_range.span
            changing.update(slope.reshape(start.shape))
            poses.append(self.projector.posed(changing.forward(start)))
        return self.decided(poses, stature)

    def slope(self, pose: Tensor, rays: Tensor, weight: Tensor) -> Tensor:
        """Return the gradient (N, K, 3) of the loss with respect to poses in statures.

        The loss: squared distances between joints and rays at the body's depth, in statures, weight (N, J, 1).
        """
        points = self.points @ pose
        root = place(rays, points, distance(rays, points, weight), weight)
        there = root + points
        depth, near = there[..., 2:].clamp(min=NEAREST), (there[..., 2:] > NEAREST).to(pose.dtype)
        flat = there[..., :2] / depth
        pull = 2 * weight * root[..., 2:] ** 2 * (flat - rays) / depth
        along = -(pull * flat).sum(dim=2, keepdim=True) * near
        return self.points.transpose(0, 1) @ torch.cat([pull, along], dim=2)


def weights(confidence: Tensor) -> Tensor:
    """Return how much (N, J, 1) each joint pulls, together 1 (0 of nobody is seen), of confidences (N, J).

    Inverse variances, for a joint found with confidence 0 is (1 + DOUBT) times less exact, times the confidence: what
    is not trusted at all does not pull.
    """
    confidence = confidence.clamp(0, 1)
    weight = confidence / (1 + DOUBT * (1 - confidence)) ** 2
    return (weight / weight.sum(dim=1, keepdim=True).clamp(min=1e-6))[..., None]


def aligned(rays: Tensor, projected: Tensor, weight: Tensor) -> Tensor:
    """Return rays (N, J, 2) moved and scaled to fit projected joints (N, J, 2) by least squares; weight (N, J, 1).

    Weights sum to 1, or are all 0. However odd the projection, the scale is at least half of what the spreads say.
    """
    here, there = (weight * rays).sum(dim=1, keepdim=True), (weight * projected).sum(dim=1, keepdim=True)
    off, wanted = rays - here, projected - there
    size = (weight * off * off).sum(dim=(1, 2), keepdim=True).clamp(min=1e-9)
    usual = ((weight * wanted * wanted).sum(dim=(1, 2), keepdim=True) / size).sqrt()
    scale = (weight * off * wanted).sum(dim=(1, 2), keepdim=True) / size
    return torch.maximum(scale, 0.5 * usual) * off + there
