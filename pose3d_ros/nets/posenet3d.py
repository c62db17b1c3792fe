"""PoseNet3D (Tripathi, Ranade, Tyagi, Agrawal; 3DV 2020): a temporal teacher that learns 3D from 2D, and a student that
says the same as a body model. The losses are in train/posenet3d*.py.

Poses are clips of T frames of N = 14 joints, in the paper's unit: the camera has focal length one and looks at the root
(the middle of the hips), which is C = 10 units away; a 2D pose is normalised so that the head is 1 / C from the root in
the mean of the clip. Axes are those of the optical frame: x right, y down, z ahead.

What differs from the paper:
- Every frame is seen as by a camera turned to the root, so that a wide view shows no other poses at its border.
- The pose that is projected after a random rotation is normalised again before the discriminator sees it, as all that
  is real was. (Without it a leaning person is told from the real ones by size alone.)
- A joint may be missing. It is 0 in the input, a channel says so, and the teacher says where it is in the image too.
- The student gives a scale beside the paper's outputs: a body model is in metres, the teacher in the unit above.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pose3d_ros.nets.body_model import BodyModel, rotations_from_matrices
from pose3d_ros.skeleton import LIMBS12, SMPL24, mirrored

C = 10.0      # units between camera and root
NEAREST = 1.0  # units: no joint is lifted to less from the camera (section 3.1)
# What a detector says: twelve limb joints, the middle of the ears for the head, the middle of the shoulders.
JOINTS = (*LIMBS12.joints, 'ears', 'neck')
HIPS = (JOINTS.index('left_hip'), JOINTS.index('right_hip'))
SHOULDERS = (JOINTS.index('left_shoulder'), JOINTS.index('right_shoulder'))
HEAD = JOINTS.index('ears')
MIRROR = [JOINTS.index(mirrored(joint)) for joint in JOINTS]
# The joint of the body model that is nearest to each of them: I(i) of equation 7.
MODEL_JOINTS = [SMPL24.index({'ears': 'head'}.get(joint, joint)) for joint in JOINTS]
BONES = tuple((JOINTS.index(a), JOINTS.index(b)) for a, b in (
    *((f'{side}_{a}', f'{side}_{b}') for side in ('left', 'right') for a, b in (
        ('hip', 'knee'), ('knee', 'ankle'), ('shoulder', 'elbow'), ('elbow', 'wrist'), ('shoulder', 'hip'))),
    ('left_hip', 'right_hip'), ('left_shoulder', 'right_shoulder'), ('neck', 'ears')))
SHAPES = 10    # coefficients of the body model that are learnt
# A head nearer to the root than this share of how far joints are from it (in the mean, squared): somebody who leans
# into the line of sight, whose size the head does not tell.
LEAST_HEAD = 0.5
LARGEST_SCALE = 1.5   # of the logarithm of the student's scale, against an upright body


def middle(pose: Tensor) -> Tensor:
    """Return the root (..., 1, D) of poses (..., 14, D): the middle of the hips."""
    return 0.5 * (pose[..., HIPS[0]:HIPS[0] + 1, :] + pose[..., HIPS[1]:HIPS[1] + 1, :])


def normalised(clip: Tensor, seen: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return clips (B, T, 14, 2) against the root with the head 1 / C from it in the mean, and the factor (B,) to that.

    clip: rays as a camera turned to the root has them, the root being 0; seen (B, T, 14): 1 where known.
    """
    if seen is None:
        seen = torch.ones_like(clip[..., 0])
    head, known = clip[:, :, HEAD].norm(dim=-1), seen[:, :, HEAD]
    size = (head * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)
    squares = (clip.square().sum(dim=-1) * seen).sum(dim=(1, 2)) / seen.sum(dim=(1, 2)).clamp(min=1)
    factor = 1 / (C * torch.maximum(size, LEAST_HEAD * (squares + 1e-12).sqrt()))
    return clip * factor[:, None, None, None], factor


class TemporalBackbone(nn.Module):
    """Clips (B, T, 14, channels) to features (B, width): convolutions over T = 9 frames, or layers for T = 1.

    A convolution of 3 frames, then a residual block of one over every third frame and one of a single frame, each with
    batch norm, ReLU and dropout (section 4.1). The discriminator's has leaky ReLUs and nothing else.
    """

    def __init__(self, frames: int, channels: int, width: int, dropout: float = 0.0, norm: bool = True) -> None:
        super().__init__()
        if frames not in (1, 9):
            raise ValueError(f'{frames} frames: expected 1 or 9')
        size = 3 if frames == 9 else 1
        self.first = nn.Conv1d(len(JOINTS) * channels, width, size)
        self.wide = nn.Conv1d(width, width, size, dilation=3)
        self.narrow = nn.Conv1d(width, width, 1)
        self.after = nn.ModuleList(_after(width, dropout, norm) for _ in range(3))

    def forward(self, clip: Tensor) -> Tensor:
        hidden = self.after[0](self.first(clip.flatten(2).transpose(1, 2)))
        centre = hidden.shape[2] // 2
        deeper = self.after[2](self.narrow(self.after[1](self.wide(hidden))))
        return (hidden[:, :, centre:centre + 1] + deeper)[:, :, 0]


def _after(width: int, dropout: float, norm: bool) -> nn.Module:
    if not norm:
        return nn.LeakyReLU(0.2)
    return nn.Sequential(nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout))


class _Residual(nn.Module):
    """Two fully connected layers, added to the input."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), _after(width, dropout, True),
                                    nn.Linear(width, width), _after(width, dropout, True))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Discriminator(nn.Module):
    """Says of clips (B, T, 14, 2), normalised, how real they are: (B,), before the sigmoid. Without batch norm."""

    def __init__(self, frames: int, width: int) -> None:
        super().__init__()
        self.backbone = TemporalBackbone(frames, 2, width, norm=False)
        self.last = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, 1))

    def forward(self, clip: Tensor) -> Tensor:
        return self.last(self.backbone(C * clip))[:, 0]


class Body(NamedTuple):
    """What the student says: rotations (B, T, 24, 3, 3) in the turned camera, shape (B, 10), scale (B, 1): units per m
    of the body model."""

    rotations: Tensor
    shape: Tensor
    scale: Tensor


class PoseNet3D(nn.Module):
    """The backbone that both share, and the two branches; either may be asked alone.

    clip (B, T, 14, 2) normalised, 0 where missing; seen (B, T, 14), None: all.
    """

    def __init__(self, frames: int = 9, width: int = 1024, dropout: float = 0.25, units_per_metre: float = 1.6) -> None:
        """dropout: not in the student, which only becomes less exact by it. units_per_metre: of the body model at rest,
        which the student's scale starts from.
        """
        super().__init__()
        self.frames, self.units_per_metre = frames, units_per_metre
        self.backbone = TemporalBackbone(frames, 3, width, dropout)
        self.teacher = nn.Sequential(_Residual(width, dropout), _last(width, frames * len(JOINTS) * 3))
        self.student = nn.Sequential(*(_Residual(width, 0.0) for _ in range(4)),
                                     _last(width, SHAPES + 1 + frames * len(SMPL24) * 9))
        self.upright: Tensor  # a body at rest has y up and faces +z; here y is down
        self.register_buffer('upright', torch.diag(torch.tensor([1.0, -1.0, -1.0])), persistent=False)

    def features(self, clip: Tensor, seen: Tensor | None = None) -> Tensor:
        """Return what the branches are shown (B, width)."""
        seen = torch.ones_like(clip[..., 0]) if seen is None else seen
        return self.backbone(torch.cat([C * clip * seen[..., None], seen[..., None]], dim=-1))

    def lift(self, features: Tensor, clip: Tensor, seen: Tensor | None = None) -> Tensor:
        """Return the teacher's joints (B, T, 14, 3) in units against the root: x z, y z and z = max(1, C + offset)."""
        told = self.teacher(features).unflatten(1, (self.frames, len(JOINTS), 3))
        depth = (C + told[..., 2:]).clamp(min=NEAREST)
        flat = clip
        if seen is not None:
            flat = torch.where(seen[..., None] > 0, clip, 0.1 * told[..., :2])
        joints = torch.cat([flat * depth, depth], dim=-1)
        return joints - middle(joints)

    def body(self, features: Tensor, frames: Sequence[int] | None = None) -> Body:
        """Return what the student says of some of the T frames; None: of all."""
        told = self.student(features)
        shape, size, turns = told.split([SHAPES, 1, told.shape[1] - SHAPES - 1], dim=1)
        turns = turns.unflatten(1, (self.frames, len(SMPL24), 3, 3))
        if frames is not None:
            turns = torch.cat([turns[:, frame:frame + 1] for frame in frames], dim=1)
        rotations = rotations_from_matrices(turns + torch.eye(3, device=told.device))
        rotations = torch.cat([(self.upright @ rotations[:, :, 0])[:, :, None], rotations[:, :, 1:]], dim=2)
        return Body(rotations, shape, self.units_per_metre * size.clamp(-LARGEST_SCALE, LARGEST_SCALE).exp())

    def forward(self, clip: Tensor, seen: Tensor | None = None) -> Tensor:
        """Return the teacher's joints."""
        return self.lift(self.features(clip, seen), clip, seen)


def _last(features: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(features, outputs)
    nn.init.normal_(layer.weight, std=0.1 / features ** 0.5)
    nn.init.zeros_(layer.bias)
    return layer


class Adaptation(nn.Module):
    """Joints of the body as the detector means them: semantic joint adaptation (section 3.3.1).

    kind: 'none' (the model's own joints); 'convex' (J' = W' V with convex weights, which start at the model's W);
    'linear' (equation 6: J' = A J + b, which may put joints outside the body). Of W' the 14 rows that are compared are
    kept; the paper has all 24.
    """

    KINDS = ('none', 'linear', 'convex')

    def __init__(self, model: BodyModel, kind: str = 'convex') -> None:
        super().__init__()
        if kind not in self.KINDS:
            raise ValueError(f'adaptation {kind!r}: expected one of {", ".join(self.KINDS)}')
        self.kind = kind
        if kind == 'linear':
            self.weight = nn.Parameter(torch.eye(3 * len(SMPL24)))
            self.bias = nn.Parameter(torch.zeros(3 * len(SMPL24)))
        if kind == 'convex':
            # Every vertex gets a little, so that it can grow: softmax of log W is W.
            self.logits = nn.Parameter((model.regressor[MODEL_JOINTS] + 1e-6).log())

    @property
    def mixture(self) -> Tensor:
        """W' (14, V): rows of weights that are positive and sum to one."""
        return self.logits.softmax(dim=1)

    def forward(self, model: BodyModel, body: Body) -> Tensor:
        """Return joints (B, T, 14, 3) in units against the root."""
        shape = body.shape[:, None]
        if self.kind == 'convex':
            joints = model.mixtures(self.mixture, body.rotations, shape)
        else:
            joints = model.joints(body.rotations, shape)
            joints = joints - joints[..., :1, :]
            if self.kind == 'linear':
                joints = (joints.flatten(-2) @ self.weight.T + self.bias).unflatten(-1, (-1, 3))
            joints = joints[..., MODEL_JOINTS, :]
        return body.scale[:, :, None, None] * (joints - middle(joints))


def units_per_metre(model: BodyModel) -> float:
    """Return how many units a metre of the model at rest is: its head is 1 unit from the middle of its hips."""
    joints = model.joint_template[MODEL_JOINTS]
    return float(1 / (joints - middle(joints))[HEAD].norm())
