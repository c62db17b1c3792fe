"""Body parts that depend on one another: torso, proximal and distal joints, first from the torso out, then back.

Wang, Huang, Wang, Tao: Not All Parts Are Created Equal (ICCV 2019), section 3.2. Every group of joints has a module of
its own. In block I (equation 4) a group with more freedom is also told where the groups with less freedom were put; in
block II (equation 5) every group is told where the other two are. `plain` and `baseline` are what the paper compares
with: one network for all joints (Martinez et al. 2017), and modules that know nothing of other groups (equation 7).

All variants are the same code: modules in the order in which they are run, with the earlier modules that each listens
to. What all modules are shown goes through one matrix, as wide as all modules together, so that a dependence costs no
more than a small product besides.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_linear_bn_eval

from pose3d_ros.nets.window import Look, WindowLifter, small_linear

VARIANTS = ('plain', 'baseline', 'progressive', 'attributes')
CLASSES = 3  # probabilities of an attribute: front, back, on-plane


@dataclass(frozen=True)
class Part:
    """One module: the joints it places, and the earlier modules that tell it where they put theirs."""

    joints: tuple[int, ...]
    sources: tuple[int, ...] = ()


# Which modules the six of equations 4 and 5 listen to: block I 0, 1, 2, block II 3, 4, 5, torso first.
PROGRESSIVE = ((), (0,), (1, 0), (1, 2), (3, 2), (3, 4))
# Equation 7 at the same depth: the second module of a group refines what the first one said, and hears of no other.
ALONE = ((), (), (), (0,), (1,), (2,))


def parts_of(variant: str, groups: Sequence[Sequence[int]]) -> list[Part]:
    """Return the modules of a variant for three groups of joints. Raises ValueError for another variant."""
    if variant not in VARIANTS:
        raise ValueError(f'variant {variant!r}: expected one of {", ".join(VARIANTS)}')
    if variant == 'plain':
        return [Part(tuple(sorted(joint for group in groups for joint in group)))]
    sources = ALONE if variant == 'baseline' else PROGRESSIVE
    return [Part(tuple(groups[number % len(groups)]), heard) for number, heard in enumerate(sources)]


class Block(nn.Module):
    """Twice linear, batch norm, ReLU, dropout, added to the input (Martinez et al. 2017, section 3.2)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Linear(width, width), nn.BatchNorm1d(width)
        self.second, self.second_norm = nn.Linear(width, width), nn.BatchNorm1d(width)
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop(self.first_norm(self.first(x)).relu())
        return x + self.drop(self.second_norm(self.second(y)).relu())

    def fold(self) -> None:
        """Make the batch norms part of the linear layers before them."""
        for name in ('first', 'second'):
            normed = getattr(self, f'{name}_norm')
            if isinstance(normed, nn.BatchNorm1d):
                setattr(self, name, fuse_linear_bn_eval(getattr(self, name), normed))
                setattr(self, f'{name}_norm', nn.Identity())


class PartsNet(nn.Module):
    """One frame of a person to joints in statures against the pelvis, in the frame of the camera turned to the person.

    variant: of VARIANTS. groups: joint indices of torso, proximal and distal joints, which together are all joints
    but the pelvis, joint 0. features: numbers that a person is shown as (window.Look.now). attributes: joints that have
    one; the variant `attributes` is told of them in every module. width: of a module's hidden layers; plain, one module
    of two blocks, is as much wider as it takes for as many weights. refines: whether it is given a pose to begin with,
    which every module sees, and from which it says how far off its joints are (not in the paper).
    """

    def __init__(self, variant: str, groups: Sequence[Sequence[int]], features: int, attributes: int = 9,
                 width: int = 256, dropout: float = 0.0, refines: bool = False) -> None:
        super().__init__()
        self.variant, self.groups = variant, [list(group) for group in groups]
        self.parts = parts_of(variant, groups)
        self.step = 1 if variant == 'plain' else len(groups)  # modules of a block
        self.told = CLASSES * attributes if variant == 'attributes' else 0
        blocks = 2 if variant == 'plain' else 1
        self.width = 8 * round(math.sqrt(2 * len(groups) / blocks) * width / 8) if variant == 'plain' else width
        order = [joint for part in self.parts[:self.step] for joint in part.joints]
        if sorted(order) != list(range(1, 1 + len(order))):
            raise ValueError(f'groups {self.groups}: expected every joint but the pelvis (0) once')
        self.joints, self.refines = 1 + len(order), refines
        self.columns: Tensor  # where x, y, z of each joint lie in the pelvis and what the modules of a block say
        self.register_buffer('columns', _coordinates([(order.index(joint) + 1) if joint else 0
                                                      for joint in range(self.joints)]), persistent=False)
        self.ordered: Tensor  # and the other way
        self.register_buffer('ordered', _coordinates(order), persistent=False)

        self.first = nn.Linear(features + self.told + refines * len(self.ordered), len(self.parts) * self.width)
        self.heard = nn.ModuleDict({
            str(number): nn.Linear(3 * sum(len(self.parts[source].joints) for source in part.sources), self.width,
                                   bias=False) for number, part in enumerate(self.parts) if part.sources})
        self.norms = nn.ModuleList(nn.BatchNorm1d(self.width) for _ in self.parts)
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()
        self.blocks = nn.ModuleList(nn.Sequential(*(Block(self.width, dropout) for _ in range(blocks)))
                                    for _ in self.parts)
        self.last = nn.ModuleList(small_linear(self.width, 3 * len(part.joints)) for part in self.parts)

    def forward(self, features: Tensor, attributes: Tensor | None = None, pose: Tensor | None = None) -> list[Tensor]:
        """Return the poses (N, 17, 3) of block I and block II; the last is the result (plain has no other).

        features (N, F); attributes (N, 9, 3): probabilities of front, back, on-plane, zeros where unknown; None is
        unknown throughout. Variants without attributes do not look at them. pose (N, 17, 3): to begin with, for a
        network that refines one (ValueError without it).
        """
        shown, start = [features], []
        if self.told:
            told = features.new_zeros(len(features), self.told) if attributes is None else attributes
            shown.append(told.reshape(-1, self.told))
        if self.refines:
            if pose is None:
                raise ValueError('a network that refines a pose needs one')
            shown.append(pose.reshape(-1, 3 * self.joints).index_select(1, self.ordered))
            start = list(shown[-1].split([3 * len(part.joints) for part in self.parts[:self.step]], dim=1))
        parts = self.first(torch.cat(shown, dim=1)).split(self.width, dim=1)
        places: list[Tensor] = []
        for number, part in enumerate(self.parts):
            hidden = parts[number]
            if part.sources:
                hidden = hidden + self.heard[str(number)](torch.cat([places[source] for source in part.sources], dim=1))
            hidden = self.blocks[number](self.drop(self.norms[number](hidden).relu()))
            place = self.last[number](hidden)
            places.append(place + start[number % self.step] if self.refines else place)
        return [self._pose(places[block:block + self.step]) for block in range(0, len(places), self.step)]

    def _pose(self, places: list[Tensor]) -> Tensor:
        """Return joints (N, 17, 3) in their order, the pelvis at 0, of what the modules of a block say."""
        together = torch.cat([0 * places[0][:, :3], *places], dim=1)
        return together.index_select(1, self.columns).reshape(-1, self.joints, 3)

    def folded(self) -> PartsNet:
        """Return a copy for export, with the batch norms made part of the linear layers before them."""
        network = copy.deepcopy(self).eval()
        with torch.no_grad():
            for number, layer in enumerate(network.norms):
                if isinstance(layer, nn.BatchNorm1d):
                    rows = slice(number * network.width, (number + 1) * network.width)
                    scale = layer.weight / (layer.get_buffer('running_var') + layer.eps).sqrt()
                    network.first.weight[rows] *= scale[:, None]
                    bias = network.first.bias[rows] - layer.get_buffer('running_mean')
                    network.first.bias[rows] = bias * scale + layer.bias
                    if str(number) in network.heard:
                        network.heard[str(number)].get_parameter('weight').mul_(scale[:, None])
                    network.norms[number] = nn.Identity()
        for module in network.modules():
            if isinstance(module, Block):
                module.fold()
        return network


class PartsLifter(nn.Module):
    """What robots run: the pose from a PartsNet, the place of the pelvis and the covariances from a WindowLifter.

    Arguments and results are WindowLifter's, and attributes (N, 9, 3) besides: probabilities of front, back, on-plane,
    zeros where unknown. The pose is the mean of what comes of the people and of their mirror images; mirror (9): each
    attribute joint's namesake on the other side. A PartsNet that refines begins with the window lifter's pose, which
    knows of the past. Covariances are the window lifter's, times a factor per joint.
    """

    def __init__(self, window: WindowLifter, parts: PartsNet, mirror: Sequence[int]) -> None:
        super().__init__()
        self.window, self.parts, self.mirror = window, parts, list(mirror)
        self.spread: Tensor  # (17, 1, 1): factors of the standard deviations, measured on validation data
        self.register_buffer('spread', torch.ones(window.joints_out, 1, 1))

    def forward(self, rays: Tensor, confidence: Tensor, age: Tensor, up: Tensor, landmarks: Tensor, stature: Tensor,
                attributes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        look, turned, facing = self.window.look(rays, confidence, age, up, landmarks)
        unit = self.window.answer(look, turned, facing, both_ways=True)
        size, sigma = stature[:, None, :1], stature[:, None, 1:]
        turn = facing * size
        relative, root = self.pose(look, attributes, unit.relative) @ turn, unit.root @ turn
        factor = (self.window.trust * turn.transpose(1, 2))[:, None] @ (self.spread * unit.factor)
        along = ((root + relative) * (sigma / size))[..., None]
        covariance = factor @ factor.transpose(2, 3) + along @ along.transpose(2, 3)
        return relative, root.reshape(-1, 3), covariance

    def pose(self, look: Look, attributes: Tensor, start: Tensor) -> Tensor:
        """Return joints (N, 17, 3) in statures against the pelvis, before the turned camera, and so is start."""
        flip, other = start.new_tensor([-1.0, 1.0, 1.0]), self.window.mirror_out
        now = look.both_ways(self.window.mirror_in).now()
        told = torch.cat([attributes, attributes[:, self.mirror]]) if self.parts.told else None
        begin = torch.cat([start, start[:, other] * flip]) if self.parts.refines else None
        poses = self.parts(now, told, begin)[-1].reshape(2, -1, self.window.joints_out, 3)
        return 0.5 * (poses[0] + poses[1][:, other] * flip)

    def folded(self) -> PartsLifter:
        """Return a copy for export."""
        network = copy.deepcopy(self).eval()
        network.window, network.parts = network.window.folded(), network.parts.folded()
        return network


def _coordinates(joints: Sequence[int]) -> Tensor:
    """Return where x, y and z of joints lie in a row of coordinates."""
    return torch.tensor([3 * joint + axis for joint in joints for axis in range(3)])
