"""The 3D Human Pose Machine: poses from a person's past and present, and a projector that they must agree with.

Wang, Lin, Jiang, Qian, Wei: 3D Human Pose Machines with Self-supervised Learning (section 3). Three functions of
equation 1 are here: Psi_T lifts what was seen with two LSTM layers, Psi_C regresses the pose that comes of it once
more, Psi_P projects that into the image. What the correction at test time makes of the last two is nets/correction.py;
Psi_R, which sees images, is nets/machine_images.py. For robots the detector is given, so `Machine` begins with joints.

Units are those of nets/window.py: statures, against the pelvis, before a camera turned towards the person. A projected
pose has no place and size of its own, for Psi_P is not told how far away a person is: of the joints that it is made of,
the mean is 0 and the variance 1.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import fuse_linear_bn_eval

WIDTH = 1024      # as published
LAYERS = 2        # of the LSTM
DROPOUT = 0.3     # delta of section 3.3: chance of a joint to be zero
LONGEST_S = 1.0   # a longer time between two frames is shown as this
USUAL_S = 0.1     # unit in which it is shown


class MinMax(nn.Module):
    """Max-min normalisation (section 4.1): values (..., axes) to 0..1 by the extremes of the training frames."""

    def __init__(self, axes: int) -> None:
        super().__init__()
        self.low: Tensor
        self.register_buffer('low', -torch.ones(axes))
        self.span: Tensor
        self.register_buffer('span', 2 * torch.ones(axes))

    def forward(self, values: Tensor) -> Tensor:
        return (values - self.low) / self.span

    def back(self, values: Tensor) -> Tensor:
        """Return the values that came out of forward as these."""
        return values * self.span + self.low

    @torch.no_grad()
    def fit(self, values: Tensor, beyond: float = 0.0) -> None:
        """Take the extremes of values (..., axes), but for a share of them beyond either: people may be very near."""
        flat = values.reshape(-1, len(self.low)).sort(dim=0).values
        last = len(flat) - 1
        low, high = flat[round(beyond * last)], flat[round((1 - beyond) * last)]
        self.low.copy_(low)
        self.span.copy_((high - low).clamp(min=1e-6))


class Memory(nn.Module):
    """Two LSTM layers without peepholes (section 3.2), whose state is the caller's: one per person.

    state (N, LAYERS, 2, width): hidden values and cell of each layer; zeros for whom nothing is remembered.
    recurrent: without it, fully connected layers of the same width in place of the LSTM (section 4.4.2).
    """

    def __init__(self, width: int, recurrent: bool = True) -> None:
        super().__init__()
        self.width, self.recurrent = width, recurrent
        self.layers: nn.Module
        if recurrent:
            self.layers = nn.LSTM(width, width, LAYERS, batch_first=True)
        else:
            self.layers = nn.Sequential(*(layer for _ in range(LAYERS) for layer in (nn.Linear(width, width),
                                                                                     nn.ReLU())))

    def start(self, people: int) -> Tensor:
        """Return the state of so many people of whom nothing is remembered."""
        return torch.zeros(people, LAYERS, 2, self.width)

    def forward(self, shown: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return what is made of clips (N, T, width), alike in shape, oldest frame first, and the state after them."""
        state = self.start(len(shown)).to(shown) if state is None else state
        if not isinstance(self.layers, nn.LSTM):
            return self.layers(shown), state
        hidden, cell = (state[:, :, part].transpose(0, 1).contiguous() for part in range(2))
        found, (hidden, cell) = self.layers(shown, (hidden, cell))
        return found, torch.stack([hidden, cell], dim=2).transpose(0, 1)

    def step(self, shown: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same for one frame (N, width), of operations that every runtime has."""
        if not self.recurrent:
            return self.layers(shown), state
        after = []
        for layer in range(LAYERS):
            weight, recurrent, bias, other = (self.layers.get_parameter(f'{name}_l{layer}') for name in (
                'weight_ih', 'weight_hh', 'bias_ih', 'bias_hh'))
            gates = (functional.linear(shown, weight, bias + other)
                     + functional.linear(state[:, layer, 0], recurrent))
            take, keep, new, show = gates.split(self.width, dim=1)
            cell = keep.sigmoid() * state[:, layer, 1] + take.sigmoid() * new.tanh()
            shown = show.sigmoid() * cell.tanh()
            after.append(torch.stack([shown, cell], dim=1))
        return shown, torch.stack(after, dim=1)


class Transformer(nn.Module):
    """Psi_T from the adapted features on: memory, then an output layer for the joints but the first, the pelvis."""

    def __init__(self, joints: int, width: int, recurrent: bool = True) -> None:
        super().__init__()
        self.joints = joints
        self.memory = Memory(width, recurrent)
        self.last = nn.Linear(width, 3 * (joints - 1))

    def forward(self, shown: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return normalised poses (N, T, 3 (K - 1)) of adapted features (N, T, width), hidden values, and the state."""
        hidden, state = self.memory(shown, state)
        return self.last(hidden), hidden, state

    def step(self, shown: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return normalised poses (N, 3 (K - 1)) of one frame (N, width), and the state."""
        hidden, state = self.memory.step(shown, state)
        return self.last(hidden), state


class Regression(nn.Module):
    """Psi_C: two fully connected layers from one normalised pose to another.

    skip: whether they say what is to be added to the pose (not in the paper, where they say the pose).
    """

    def __init__(self, features: int, width: int, skip: bool = False) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(features, width), nn.BatchNorm1d(width)
        self.second, self.skip = nn.Linear(width, features), skip

    def forward(self, pose: Tensor, whole: Tensor | None = None) -> Tensor:
        """pose (M, C), perhaps with joints dropped; whole (M, C): the same with all its joints, to be added to."""
        found = self.second(self.norm(self.first(pose)).relu())
        return found + (pose if whole is None else whole) if self.skip else found


class Projection(nn.Module):
    """Psi_P: four fully connected layers from a normalised pose into the image, with an identity mapping around two."""

    def __init__(self, features: int, width: int, coordinates: int) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Linear(features, width), nn.BatchNorm1d(width)
        self.second, self.second_norm = nn.Linear(width, width), nn.BatchNorm1d(width)
        self.third, self.third_norm = nn.Linear(width, width), nn.BatchNorm1d(width)
        self.last = nn.Linear(width, coordinates)

    def forward(self, pose: Tensor) -> Tensor:
        shown = self.first_norm(self.first(pose)).relu()
        hidden = self.second_norm(self.second(shown)).relu()
        return self.last(shown + self.third_norm(self.third(hidden)).relu())


class Projector(nn.Module):
    """The 3D-to-2D projector module (section 3.3) with the normalisation of both kinds of poses.

    joints: K of a pose (.., K, 3), of which the first, the pelvis, is 0; points: J of a projected one (.., J, 2).
    dropout: chance of each joint of what Psi_C is given to be zero while training. Leading axes are free.
    """

    def __init__(self, joints: int, points: int, width: int = WIDTH, dropout: float = DROPOUT,
                 skip: bool = False) -> None:
        super().__init__()
        self.joints, self.points, self.dropout = joints, points, dropout
        self.pose_range, self.flat_range = MinMax(3), MinMax(2)
        features = 3 * (joints - 1)
        self.regression = Regression(features, width, skip)
        self.projection = Projection(features, width, 2 * points)

    def regress(self, pose: Tensor) -> Tensor:
        """Return Psi_C's pose (..., K, 3) of one, both in statures."""
        whole = self.normalised(pose)
        dropped = whole
        if self.training and self.dropout:
            kept = torch.rand(len(whole), self.joints - 1, 1, device=whole.device) >= self.dropout
            dropped = (whole.reshape(-1, self.joints - 1, 3) * kept).reshape(whole.shape)
        return self.posed(self.regression(dropped, whole)).reshape(pose.shape)

    def project(self, pose: Tensor) -> Tensor:
        """Return Psi_P's projection (..., J, 2) of poses (..., K, 3) in statures: joints of mean 0 and variance 1."""
        return self.flat_range.back(self.projection(self.normalised(pose)).reshape(*pose.shape[:-2], self.points, 2))

    def normalised(self, pose: Tensor) -> Tensor:
        """Return poses (..., K, 3) as the layers take them, (M, 3 (K - 1))."""
        return self.pose_range(pose[..., 1:, :]).reshape(-1, 3 * (self.joints - 1))

    def posed(self, values: Tensor) -> Tensor:
        """Return poses (M, K, 3) of what the layers say, (M, 3 (K - 1))."""
        joints = self.pose_range.back(values.reshape(-1, self.joints - 1, 3))
        return torch.cat([0 * joints[:, :1], joints], dim=1)

    def folded(self) -> Projector:
        """Return a copy for export and for corrections, with the batch norms made part of the layers before them."""
        projector = copy.deepcopy(self).eval()
        for part, names in ((projector.regression, (('first', 'norm'),)),
                            (projector.projection, tuple((name, f'{name}_norm')
                                                         for name in ('first', 'second', 'third')))):
            for layer, norm in names:
                if isinstance(getattr(part, norm), nn.BatchNorm1d):
                    setattr(part, layer, fuse_linear_bn_eval(getattr(part, layer), getattr(part, norm)))
                    setattr(part, norm, nn.Identity())
        return projector


class Steps(NamedTuple):
    """What the functions of equation 1 say of clips: Psi_T's pose and Psi_C's (N, T, K, 3) in statures, Psi_P's
    projection (N, T, J, 2), and joints in the image that were told without projecting (section 4.4.1), or None."""

    pose: Tensor
    regressed: Tensor
    projected: Tensor
    told: Tensor | None


class Machine(nn.Module):
    """Joints of people as they come, frame by frame, to poses: the keypoint version.

    features: numbers that a frame of a person is shown as (window.Look.now: joints as by a camera turned towards the
    person, confidences, where that camera looks; more may follow). The time since the person's last frame is shown too,
    so that frame rates may vary; 0 for the first. tells: for the multi-task network that the paper compares with, a
    layer that tells joints in the image from the hidden values.
    """

    def __init__(self, features: int, joints: int = 17, points: int = 13, width: int = WIDTH, dropout: float = DROPOUT,
                 recurrent: bool = True, skip: bool = False, tells: bool = False) -> None:
        super().__init__()
        self.features, self.width = features, width
        self.encoder = nn.Sequential(nn.Linear(features + 1, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.transformer = Transformer(joints, width, recurrent)
        self.projector = Projector(joints, points, width, dropout, skip)
        self.teller = nn.Linear(width, 2 * points) if tells else None
        xavier(self)

    def start(self, people: int) -> Tensor:
        """Return the state (N, 2, 2, width) of so many people of whom nothing is remembered."""
        return self.transformer.memory.start(people)

    def forward(self, features: Tensor, since: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return Psi_T's pose (N, K, 3) in statures of one frame, and the state (N, 2, 2, width) after it.

        features (N, F); since (N, 1) s: time since the frame that the state is of; state (N, 2, 2, width).
        """
        values, state = self.transformer.step(self.encoder(_shown(features, since)), state)
        return self.projector.posed(values), state

    def lift(self, features: Tensor, since: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return Psi_T's pose (N, T, K, 3) of clips, and the hidden values (N, T, width); arguments as in clip."""
        values, hidden, _ = self.transformer(self.encoder(_shown(features, since[..., None])), state)
        return self.projector.posed(values).reshape(*features.shape[:2], self.projector.joints, 3), hidden

    def tell(self, hidden: Tensor) -> Tensor | None:
        """Return joints in the image (N, T, J, 2) without projecting, where there is a layer for it."""
        if self.teller is None:
            return None
        told = self.teller(hidden).reshape(*hidden.shape[:2], self.projector.points, 2)
        return self.projector.flat_range.back(told)

    def clip(self, features: Tensor, since: Tensor, state: Tensor | None = None) -> Steps:
        """Return everything for clips: features (N, T, F), oldest frame first, since (N, T) s."""
        pose, hidden = self.lift(features, since, state)
        regressed = self.projector.regress(pose)
        return Steps(pose, regressed, self.projector.project(regressed), self.tell(hidden))

    def folded(self) -> Machine:
        """Return a copy for export."""
        network = copy.deepcopy(self).eval()
        network.projector = network.projector.folded()
        return network


def _shown(features: Tensor, since: Tensor) -> Tensor:
    """Return what the encoder takes; features (..., F), since (..., 1) s."""
    return torch.cat([features, since.clamp(0, LONGEST_S) / USUAL_S], dim=-1)


def xavier(network: nn.Module) -> None:
    """Initialise weights as published (Glorot, Bengio 2010); LSTM layers begin by remembering.

    A Psi_C that says what to add begins by adding little.
    """
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
        elif 'bias' in name and 'norm' not in name:
            nn.init.zeros_(parameter)
    for module in network.modules():
        if isinstance(module, Regression) and module.skip:
            nn.init.normal_(module.second.weight, std=0.01)
        if isinstance(module, nn.LSTM):
            with torch.no_grad():
                for layer in range(LAYERS):
                    bias = module.get_parameter(f'bias_ih_l{layer}')
                    bias[module.hidden_size:2 * module.hidden_size] = 1.0
