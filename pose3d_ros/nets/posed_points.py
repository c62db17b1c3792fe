"""Points of a posed body model by constants and few operations: joints, sums of vertices and the top of the head.

nets/body_model.py makes all this for training. What robots run needs some twenty points and no surface, so the sums
over vertices are taken once, when it is exported: linear blending lets a sum of vertices be a sum over the 24 joints.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pose3d_ros.nets.body_model import BodyModel
from pose3d_ros.nets.folded import copied
from pose3d_ros.skeleton import SMPL24

JOINTS = len(SMPL24)
HEAD = SMPL24.index('head')
SHORTEST = 1e-6   # of what is divided by


class PosedPoints(nn.Module):
    """K points of a body model: the rows of a mixture of its vertices, some of its joints, and the highest vertex.

    The highest vertex of the body at rest goes with the joint `head`. Without weights that could be learnt.
    """

    @torch.no_grad()
    def __init__(self, model: BodyModel, mixture: Tensor | None, joints: Sequence[int], shapes: int) -> None:
        """mixture (M, V): rows that sum to 1, None for none; joints: indices of SMPL24; shapes: coefficients used."""
        super().__init__()
        generations = _generations(model.parents)
        self.order: Tensor    # joints by generations
        self.register_buffer('order', torch.tensor([joint for each in generations for joint in each]), persistent=False)
        self.sizes = [len(generation) for generation in generations]
        self.row: Tensor      # of each joint by generations, where its parent is among those one generation up
        self.register_buffer('row', torch.tensor([0] + [
            before.index(model.parents[joint]) for before, generation in zip(generations, generations[1:])
            for joint in generation]), persistent=False)
        self.corner: Tensor   # makes rotations and places matrices (4, 4)
        self.register_buffer('corner', torch.tensor([0.0, 0.0, 0.0, 1.0])[:, None], persistent=False)
        # Which of the rotations' numbers pose blend shapes are multiplied by, in the order of forward().
        joint, number = model.posed_features // 9 + 1, model.posed_features % 9
        self.used: Tensor
        self.register_buffer('used', joint * 9 + number % 3 * 3 + number // 3, persistent=False)

        parts = [_of_joints(model, joints, shapes), _of_top(model, shapes)]
        if mixture is not None:
            parts.insert(0, _of_mixture(model, mixture, shapes))
        base, by_shape, by_pose = (torch.cat(each) for each in zip(*parts))           # (K, 24, 4), (.., S), (.., F)
        self.count = len(base)
        same = (number % 3 == number // 3).to(base)                                   # I has ones there
        base = base - by_pose @ same
        inside = torch.cat([by_shape, by_pose], dim=3)[:, self.order].flatten(0, 2)   # (K * 96, S + F)
        self.inside = copied(inside, base[:, self.order].flatten())
        offsets, by_shape = model.joint_template.clone(), model.joint_shapedirs[..., :shapes].clone()
        offsets[1:] -= model.joint_template[model.parents[1:]]
        by_shape[1:] -= model.joint_shapedirs[model.parents[1:], :, :shapes]
        top, bottom = int(model.template[:, 1].argmax()), int(model.template[:, 1].argmin())
        height, tall = (each[top, 1] - each[bottom, 1] for each in (model.template, model.shapedirs[..., :shapes]))
        self.rest = copied(torch.cat([by_shape.flatten(0, 1), tall[None]]),
                            torch.cat([offsets.flatten(), height[None]]))

    def forward(self, columns: Tensor, shape: Tensor) -> tuple[Tensor, Tensor]:
        """Return points (N, K, 3) and the height at rest (N, 1), both in m of the model.

        columns (N, 24, 3, 3): the columns of the joints' rotations against their parents, one after the other (their
        transposes, that is); shape (N, S).
        """
        rest = self.rest(shape)
        local = torch.cat([columns, rest[:, :-1].reshape(-1, JOINTS, 1, 3)], dim=2)
        local = torch.cat([local, self.corner + 0 * local[..., :1]], dim=3).index_select(1, self.order)
        parts = local.split(self.sizes, dim=1)
        placed = [parts[0]]
        for part, row in zip(parts[1:], self.row.split(self.sizes)[1:]):
            placed.append(part @ placed[-1].index_select(1, row))
        frames = torch.cat(placed, dim=1)[..., :3].reshape(-1, 4 * JOINTS, 3)
        turns = columns.reshape(-1, 9 * JOINTS).index_select(1, self.used)
        inside = self.inside(torch.cat([shape, turns], dim=1)).reshape(-1, self.count, 4 * JOINTS)
        return inside @ frames, rest[:, -1:]


def _generations(parents: Sequence[int]) -> list[list[int]]:
    """Return the joints by how many parents they have; a joint's parent is one generation above it."""
    depth = [0] * len(parents)
    for joint in range(1, len(parents)):
        depth[joint] = depth[parents[joint]] + 1
    return [[joint for joint in range(len(parents)) if depth[joint] == level] for level in range(max(depth) + 1)]


Parts = tuple[Tensor, Tensor, Tensor]
"""How points (M) hang on the joints: (M, 24, 4), and what shape (M, 24, 4, S) and pose (M, 24, 4, F) change of it.

x, y, z in the frame of the joint, against the joint, times the weight; and the weight itself."""


def _of_mixture(model: BodyModel, mixture: Tensor, shapes: int) -> Parts:
    weight = mixture @ model.weights                                               # (M, 24)
    parts = (mixture[:, None] * model.weights.T).flatten(0, 1)                     # (M * 24, V)
    rest = (parts @ model.template).unflatten(0, (-1, JOINTS)) - weight[..., None] * model.joint_template
    by_shape = (parts @ model.shapedirs[..., :shapes].flatten(1)).reshape(-1, JOINTS, 3, shapes)
    by_shape = by_shape - weight[..., None, None] * model.joint_shapedirs[..., :shapes]
    some = parts.index_select(1, model.posed_vertices)
    features = len(model.posed_features)
    by_pose = (some @ model.posedirs.transpose(0, 1).flatten(1)).reshape(-1, JOINTS, features, 3).mT
    return (torch.cat([rest, weight[..., None]], dim=2), nn.functional.pad(by_shape, (0, 0, 0, 1)),
            nn.functional.pad(by_pose, (0, 0, 0, 1)))


def _of_joints(model: BodyModel, joints: Sequence[int], shapes: int) -> Parts:
    base = torch.zeros(len(joints), JOINTS, 4)
    base[range(len(joints)), list(joints), 3] = 1
    return base, base.new_zeros(*base.shape, shapes), base.new_zeros(*base.shape, len(model.posed_features))


def _of_top(model: BodyModel, shapes: int) -> Parts:
    base, by_shape, by_pose = _of_joints(model, [HEAD], shapes)
    top = int(model.template[:, 1].argmax())
    base[0, HEAD, :3] = model.template[top] - model.joint_template[HEAD]
    by_shape[0, HEAD, :3] = (model.shapedirs[top] - model.joint_shapedirs[HEAD])[:, :shapes]
    return base, by_shape, by_pose


def orthonormal_columns(pairs: Tensor) -> Tensor:
    """Return the columns (N, 24, 3, 3) of rotations, one after the other, from two (N, 2, 24, 3) that decide."""
    first, second = pairs[:, 0], pairs[:, 1]
    first = first / first.square().sum(dim=2, keepdim=True).sqrt().clamp(min=SHORTEST)
    second = second - (first * second).sum(dim=2, keepdim=True) * first
    second = second / second.square().sum(dim=2, keepdim=True).sqrt().clamp(min=SHORTEST)
    ahead, behind = ([1, 2, 0], [2, 0, 1])
    third = first[..., ahead] * second[..., behind] - first[..., behind] * second[..., ahead]
    return torch.stack([first, second, third], dim=2)
