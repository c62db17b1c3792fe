"""What robots run of PoseNet3D: rays of one person's joints to that person's joints and body, in metres.

The networks of nets/posenet3d.py work in units of their own, before a camera turned to the person. Here what they say
is joined, the newest frame of a clip being the one that is asked about; the stature, which one camera cannot see, gives
metres; and the distance follows from the rays by least squares, as in nets/window.py. All that is constant once trained
is made when this is built, from copies, so that the exported file is small and has few operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pose3d_ros.nets.body_model import BodyModel
from pose3d_ros.nets.folded import copied, folded, linear, residuals
from pose3d_ros.nets.posed_points import SHORTEST, PosedPoints, orthonormal_columns
from pose3d_ros.nets.posenet3d import (
    HIPS,
    JOINTS,
    LARGEST_SCALE,
    MIRROR,
    MODEL_JOINTS,
    NEAREST,
    SHAPES,
    Adaptation,
    C,
    PoseNet3D,
    middle,
    normalised,
)
from pose3d_ros.nets.posenet3d_clips import IN_FRONT, INPUTS, Look, look
from pose3d_ros.nets.window import DOUBT, distance, place
from pose3d_ros.skeleton import HUMAN17, LIMBS12, SMPL24, SMPL24_TO_HUMAN17

ON_RAYS = 0.5       # of the way that a seen joint is moved to its ray (0.5 and 1 are alike on validation people)
# Joints of HUMAN17 that the networks' joints lack (their `neck` is another one), and which of SMPL24 they are.
MIDLINE = {ours: SMPL24.index(theirs) for theirs, ours in SMPL24_TO_HUMAN17.items()
           if ours not in LIMBS12.joints and theirs != 'pelvis'}
SIZES = ('body', 'chain', 'both')


class Said(NamedTuple):
    """What the networks say of N people, in units, before the turned camera, against the middle of the hips.

    joints (N, 14, 3): of teacher and student together; midline (N, 4, 3): MIDLINE and the top of the head; columns
    (N, 24, 3, 3): those of the body's rotations; shape (N, 10); scale (N, 1): units per metre of the body model; tall
    (N, 1): how many units the body is at rest; root (N, 1, 3): of the model.
    """

    joints: Tensor
    midline: Tensor
    columns: Tensor
    shape: Tensor
    scale: Tensor
    tall: Tensor
    root: Tensor


class PoseNet3DLifter(nn.Module):
    """2D joints of people over S frames, newest first, to joints and bodies in metres.

    rays (N, S, 13, 2), confidence (N, S, 13), 0 where missing, stature (N, 2) m: value and standard deviation. Out, in
    the camera's optical frame: relative (N, 17, 3) m of HUMAN17 against the pelvis; root (N, 3) m; covariance
    (N, 17, 3, 3) m^2 of the absolute joints; rotations (N, 24, 3, 3), shape (N, 10), scale (N, 1) and body_root (N, 3)
    m of the body, as records.BodyPose has them. Of somebody without both hips in the frame that is asked about,
    relative, root, covariance and body_root are NaN; frames of the past without them are taken to be as the one after.

    frame: the one that is asked about, from the oldest; by default the newest. repeat: how often the newest is shown
    again, for of frames in the middle the networks know more (S = T - repeat); by default, if it is the newest that is
    asked about, so often that it is in the middle. size: where metres come from, of SIZES: the student's body (its
    height at rest is the stature), bones of the joints (train/export_posenet3d.set_bones), or the geometric mean.
    """

    def __init__(self, net: PoseNet3D, adaptation: Adaptation, model: BodyModel, inferred_from: Sequence[Sequence[int]],
                 frame: int | None = None, size: str = 'body', repeat: int | None = None) -> None:
        """inferred_from: of each joint of HUMAN17, which inputs it rests on. The networks are copied."""
        super().__init__()
        if size not in SIZES:
            raise ValueError(f'size {size!r}: expected one of {", ".join(SIZES)}')
        self.frames, self.size, self.kind = net.frames, size, adaptation.kind
        if repeat is None:
            repeat = net.frames // 2 if frame is None else 0
        self.shown = net.frames - repeat
        self.frame = self.shown - 1 if frame is None else frame
        self.units_per_metre = net.units_per_metre
        self._copy_backbone(net)
        with torch.no_grad():
            self._copy_teacher(net)
            self._copy_student(net)
            adapted = {'none': MODEL_JOINTS, 'linear': range(len(SMPL24)), 'convex': ()}[self.kind]
            self.points = PosedPoints(model, adaptation.mixture if self.kind == 'convex' else None,
                                      [*adapted, 0, *MIDLINE.values()], SHAPES)
            if self.kind == 'linear':
                rows = torch.arange(3 * len(SMPL24)).reshape(-1, 3)[MODEL_JOINTS].flatten()
                self.linear = copied(adaptation.weight[rows], adaptation.bias[rows])
        self.order: Tensor     # (T,): which of the frames shown
        self.register_buffer('order', torch.arange(self.shown - 1, -repeat - 1, -1).clamp(min=0), persistent=False)
        self.other: Tensor     # (14,): each joint's namesake on the other side
        self.register_buffer('other', torch.tensor(MIRROR), persistent=False)
        self.flip: Tensor
        self.register_buffer('flip', torch.tensor([-1.0, 1.0, 1.0]), persistent=False)
        self.assembly: Tensor  # (17, 18): HUMAN17 from joints and midline
        self.register_buffer('assembly', _assembly(), persistent=False)
        rests = torch.zeros(INPUTS, len(HUMAN17))
        for joint, inputs in enumerate(inferred_from):
            rests[list(inputs), joint] = 1 / len(inputs)
        self.rests: Tensor     # (13, 17)
        self.register_buffer('rests', rests, persistent=False)
        # Errors in statures, before the turned camera: variances of joints that rest on what was not all seen, and of
        # those that do, (2, 17, 9); of the distance, relative, of people not seen whole, and of others. Statures per
        # unit of length of CHAIN.
        self.spread: Tensor
        self.register_buffer('spread', (0.05 ** 2 * torch.eye(3)).flatten().repeat(2, len(HUMAN17), 1))
        self.depth_variance: Tensor
        self.register_buffer('depth_variance', torch.full((2,), 0.05 ** 2))
        self.bones: Tensor
        self.register_buffer('bones', torch.full((len(CHAIN),), 1 / len(CHAIN)))

    def forward(self, rays: Tensor, confidence: Tensor, stature: Tensor) -> tuple[Tensor, ...]:
        look = self.look(rays, confidence)
        said = self.ask(look)
        size, sigma = stature[:, None, :1], stature[:, None, 1:]
        statures = self.statures_per_unit(said)[:, None]                               # (N, 1, 1)
        joints, root = self.on_rays(look, said, statures, self.placed(look, said, statures))
        absent = torch.where(look.whole > 0, 0.0, torch.nan)
        back = look.turn * size                                                        # turned: x @ turn
        # Whatever the joints say of a unit, the body is as tall as the person: its rest height is the stature.
        own = 1 / said.tall.clamp(min=SHORTEST)[:, None]
        joints = self.assembly @ torch.cat([joints, own * said.midline], dim=1)
        relative, place_m = joints @ back, root @ back
        along = relative + place_m
        covariance = self._covariance(look, back, along, sigma / size) + absent[..., None]
        body_root = (root + own * said.root) @ back
        grow = said.scale * own[:, 0] * stature[:, :1]
        turned = said.columns[:, :1] @ look.turn[:, None]
        rotations = torch.cat([turned, said.columns[:, 1:]], dim=1).transpose(2, 3)
        return (relative + absent, (place_m + absent).reshape(-1, 3), covariance, rotations, said.shape, grow,
                (body_root + absent).reshape(-1, 3))

    def look(self, rays: Tensor, confidence: Tensor) -> Look:
        """Return what the networks are shown; the arguments are those of forward."""
        return look(rays, confidence, self.shown, self.shown - 1 - self.frame, self.order)

    def ask(self, look: Look) -> Said:
        """Return what the networks say of the frame that is asked about: the mean of both ways round, but the body.

        The joints of people in a mirror are those of the people, mirrored, which nobody taught the networks.
        """
        flip = self.flip
        said = self.answers(torch.cat([look.clip, look.clip.index_select(2, self.other) * flip[:2]]),
                            torch.cat([look.seen, look.seen.index_select(2, self.other)]))
        sizes = ((len(JOINTS), 3), (len(MIDLINE) + 1, 3), (len(SMPL24), 3, 3), (SHAPES,), (1,), (1,), (1, 3))
        joints, midline, columns, shape, scale, tall, root = (
            each.reshape(2, -1, *size) for each, size in zip(said, sizes))
        return Said(0.5 * (joints[0] + joints[1].index_select(1, self.other) * flip),
                    0.5 * (midline[0] + midline[1] * flip), columns[0], shape[0], scale[0],
                    (tall[0] * tall[1]).sqrt(), root[0])

    def answers(self, clip: Tensor, seen: Tensor) -> Said:
        """Return what the networks say of clips as they are; the arguments are those of Look."""
        clip, _ = normalised(clip, seen)
        seen = seen[..., None]
        shown = torch.cat([C * clip, seen], dim=3)
        hidden = self.near(shown.reshape(-1, self.taps, self.frames // self.taps * 3 * len(JOINTS))).relu()
        width = hidden.shape[2]
        deeper = self.narrow(self.wide(hidden.reshape(-1, self.taps * width)).relu()).relu()
        features = hidden[:, self.taps // 2] + deeper
        told = self.teacher(features).reshape(-1, len(JOINTS), 3)
        depth = (C + told[..., 2:]).clamp(min=NEAREST)
        flat = torch.where(seen[:, self.frame] > 0, clip[:, self.frame], 0.1 * told[..., :2])
        teacher = torch.cat([flat * depth, depth], dim=2)
        teacher = teacher - middle(teacher)

        told = self.student(features)
        shape, scale, turns = told.split([SHAPES, 1, told.shape[1] - SHAPES - 1], dim=1)
        columns = orthonormal_columns(turns.reshape(-1, 2, len(SMPL24), 3))
        scale = self.units_per_metre * scale.clamp(-LARGEST_SCALE, LARGEST_SCALE).exp()
        points, height = self.points(columns, shape)
        points = scale[..., None] * points
        more = 2 + len(MIDLINE)
        joints, root, midline = points.split([points.shape[1] - more, 1, more - 1], dim=1)
        if self.kind == 'linear':
            # b is in metres of the model; what it adds is against the model's root.
            joints = (joints - root) / scale[..., None]
            joints = scale[..., None] * self.linear(joints.reshape(-1, 3 * len(SMPL24))).reshape(-1, len(JOINTS), 3)
            midline, root = midline - root, 0 * root
        centre = middle(joints)
        return Said(0.5 * (teacher + joints - centre), midline - centre, columns, shape, scale, scale * height,
                    root - centre)

    def statures_per_unit(self, said: Said) -> Tensor:
        """Return (N, 1): how many statures a unit is."""
        starts, ends = zip(*CHAIN)
        bones = (said.joints[:, list(starts)] - said.joints[:, list(ends)]).square().sum(dim=2).sqrt()
        body, chain = said.tall, bones @ self.bones[:, None]
        units = {'body': lambda: body, 'chain': lambda: chain, 'both': lambda: (body * chain).sqrt()}[self.size]()
        return 1 / units.clamp(min=SHORTEST)

    def placed(self, look: Look, said: Said, statures: Tensor) -> Tensor:
        """Return the root (N, 1, 3) in statures, before the turned camera."""
        points = statures * said.joints[:, :INPUTS]
        weight = look.seen[:, self.frame, :INPUTS, None] / (1 + DOUBT * (1 - look.sure)) ** 2
        return place(look.flat, points, distance(look.flat, points, weight), weight)

    def on_rays(self, look: Look, said: Said, statures: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
        """Return joints (N, 14, 3) and root (N, 1, 3) in statures with seen joints moved towards their rays.

        To the networks everybody is C units away. How much larger what is nearer looks, depends on the real distance.
        """
        inputs, more = (statures * said.joints).split([INPUTS, 1], dim=1)
        there = look.flat * (root[..., 2:] + inputs[..., 2:]).clamp(min=IN_FRONT) - root[..., :2]
        moved = (ON_RAYS * look.seen[:, self.frame, :INPUTS, None]) * (there - inputs[..., :2])
        joints = torch.cat([torch.cat([inputs[..., :2] + moved, inputs[..., 2:]], dim=2), more], dim=1)
        centre = middle(joints)
        return joints - centre, root + centre

    def _covariance(self, look: Look, back: Tensor, along: Tensor, relative_sigma: Tensor) -> Tensor:
        """Return covariances (N, 17, 3, 3) m^2; along (N, 17, 3) m: the joints."""
        seen = look.seen[:, self.frame, None, :INPUTS]
        rests = (seen @ self.rests > 0.99).to(back.dtype)                                        # (N, 1, 17)
        whole = (seen.sum(dim=2, keepdim=True) > INPUTS - 0.5).to(back.dtype)
        own = self.spread[0] + rests.reshape(-1, len(HUMAN17), 1) * (self.spread[1] - self.spread[0])
        own = back.transpose(1, 2)[:, None] @ own.reshape(-1, len(HUMAN17), 3, 3) @ back[:, None]
        deep = self.depth_variance[0] + whole * (self.depth_variance[1] - self.depth_variance[0])
        share = (deep + relative_sigma.square())[..., None]
        return own + share * (along[..., None] @ along[:, :, None])

    def _copy_backbone(self, net: PoseNet3D) -> None:
        """Take over the backbone. Its convolutions see every third of the frames by itself: layers do the same."""
        backbone = net.backbone
        self.taps = backbone.first.kernel_size[0]
        self.near, self.wide, self.narrow = (folded(layer, after) for layer, after in zip(
            (backbone.first, backbone.wide, backbone.narrow), backbone.after))

    def _copy_teacher(self, net: PoseNet3D) -> None:
        """Take over the teacher, of its answers those of the frame that is asked about."""
        last = linear(net.teacher[-1])
        rows = torch.arange(len(last.bias)).reshape(net.frames, -1)[self.frame]
        self.teacher = nn.Sequential(*residuals(net.teacher), copied(last.weight[rows], last.bias[rows]))

    def _copy_student(self, net: PoseNet3D) -> None:
        """Take over the student: of one frame, and of its matrices the two columns that decide, I added."""
        last, ahead = linear(net.student[-1]), SHAPES + 1
        turns = (torch.arange(len(last.bias) - ahead) + ahead).reshape(net.frames, len(SMPL24), 3, 3)[self.frame]
        rows = torch.cat([torch.arange(ahead), turns.permute(2, 0, 1)[:2].flatten()])
        weight, bias = last.weight[rows].clone(), last.bias[rows].clone()
        bias[ahead:] += torch.eye(3)[:2, None].expand(2, len(SMPL24), 3).flatten()
        upright = torch.ones(2, len(SMPL24), 3)
        upright[:, 0] = net.upright.diagonal()
        weight[ahead:] *= upright.flatten()[:, None]
        bias[ahead:] *= upright.flatten()
        self.student = nn.Sequential(*residuals(net.student), copied(weight, bias))


# Of what a person's stature is made in the image, for size 'chain'.
CHAIN = tuple((JOINTS.index(a), JOINTS.index(b)) for a, b in (
    ('left_hip', 'left_knee'), ('right_hip', 'right_knee'), ('left_knee', 'left_ankle'), ('right_knee', 'right_ankle'),
    ('left_shoulder', 'left_hip'), ('right_shoulder', 'right_hip'), ('neck', 'ears')))


def _assembly() -> Tensor:
    """Return the matrix (17, 18) that makes HUMAN17 from the networks' joints, MIDLINE and the top of the head."""
    names = [*JOINTS[:-2], '', '', *MIDLINE, 'head']
    matrix = torch.zeros(len(HUMAN17), len(names))
    for row, joint in enumerate(HUMAN17.joints):
        if joint == 'pelvis':
            matrix[row, list(HIPS)] = 0.5
        else:
            matrix[row, names.index(joint)] = 1
    return matrix
