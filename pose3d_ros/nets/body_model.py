"""The body model of pose3d_ros/body_model.py in PyTorch: differentiable, in batches, on any device.

And the rotations that a network gives: numbers made orthonormal by Gram and Schmidt, so that every output is a rotation
(PoseNet3D, section 3.3: "a differentiable ortho-normalization").
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pose3d_ros.body_model_file import BodyArrays

_SHORT = 1e-4      # a vector shorter than this gives no direction
_PARALLEL = 1e-3   # sine of the angle below which a second vector gives none


class BodyModel(nn.Module):
    """A body model as a layer without weights of its own; its arrays are buffers, float32."""

    template: Tensor
    shapedirs: Tensor
    posedirs: Tensor
    posed_vertices: Tensor
    posed_features: Tensor
    regressor: Tensor
    weights: Tensor
    faces: Tensor
    joint_template: Tensor
    joint_shapedirs: Tensor

    def __init__(self, arrays: BodyArrays) -> None:
        super().__init__()
        self.parents: list[int] = arrays.parents.tolist()
        regressor = torch.tensor(arrays.regressor)
        template, shapedirs = torch.tensor(arrays.template), torch.tensor(arrays.shapedirs)
        posedirs = torch.tensor(arrays.posedirs)
        # Most of a mannequin's are zero.
        moved = posedirs.ne(0).any(dim=2).any(dim=1).nonzero()[:, 0]
        used = posedirs.ne(0).any(dim=1).any(dim=0).nonzero()[:, 0]
        for name, value in (
                ('template', template), ('shapedirs', shapedirs), ('regressor', regressor),
                ('posedirs', posedirs[moved][..., used].permute(2, 0, 1)), ('posed_vertices', moved),
                ('posed_features', used), ('weights', torch.tensor(arrays.weights)),
                ('faces', torch.tensor(arrays.faces, dtype=torch.long)), ('joint_template', regressor @ template),
                ('joint_shapedirs', torch.einsum('jv,vcb->jcb', regressor, shapedirs))):
            self.register_buffer(name, value.contiguous(), persistent=False)  # they live in a file of their own

    def forward(self, rotations: Tensor, shape: Tensor | None = None, translation: Tensor | None = None,
                ) -> tuple[Tensor, Tensor]:
        """Return vertices (..., V, 3) and joints (..., 24, 3) in m.

        rotations (..., 24, 3, 3): of each joint against its parent, taken to be orthonormal. shape (..., b), b up to B;
        translation (..., 3) m. Leading sizes broadcast, so one shape may serve all frames of a window.
        """
        turns, places, rest_joints = self._kinematics(rotations, shape, translation)
        rest = self.template
        if shape is not None:
            rest = rest + torch.einsum('vcb,...b->...vc', self.shapedirs[..., :shape.shape[-1]], shape)
        rest = rest.expand(*turns.shape[:-3], *self.template.shape)
        if len(self.posed_vertices):
            change = (self._feature(rotations) @ self.posedirs.flatten(1)).unflatten(-1, (-1, 3))
            change = change.expand(*rest.shape[:-2], *change.shape[-2:])
            rest = rest.index_add(rest.dim() - 2, self.posed_vertices, change)
        shift = places - (turns @ rest_joints[..., None])[..., 0]
        transforms = torch.cat([turns, shift[..., None]], dim=-1).flatten(-2)  # (..., 24, 12)
        blended = (transforms.mT @ self.weights.T).unflatten(-2, (3, 4))       # (..., 3, 4, V)
        moved = (blended[..., :3, :] * rest.mT[..., None, :, :]).sum(dim=-2) + blended[..., 3, :]
        return moved.mT, places

    def mixtures(self, mixture: Tensor, rotations: Tensor, shape: Tensor | None = None,
                 translation: Tensor | None = None) -> Tensor:
        """Return mixture @ vertices, (..., K, 3) m, without making the vertices.

        mixture (K, V): sums of vertices with rows that sum to 1, such as a regressor that is being learned (W' of the
        paper's equation 7); gradients reach it. Other arguments as of forward(). Linear blending lets the sum over
        vertices be taken first, once for all people: with many frames this is far less work and memory.
        """
        turns, places, rest_joints = self._kinematics(rotations, shape, translation)
        parts = (mixture[:, None] * self.weights.T).flatten(0, 1)        # (K * 24, V)
        rest = (parts @ self.template).unflatten(0, (len(mixture), -1))  # (K, 24, 3)
        if shape is not None:
            by_shape = (parts @ self.shapedirs[..., :shape.shape[-1]].flatten(1)).reshape(-1, shape.shape[-1])
            rest = rest + (shape @ by_shape.T).unflatten(-1, rest.shape)
        if len(self.posed_vertices):
            some = mixture.index_select(1, self.posed_vertices)[:, None] * self.weights[self.posed_vertices].T
            moved = some.flatten(0, 1) @ self.posedirs.transpose(0, 1).flatten(1)
            by_pose = moved.unflatten(-1, (-1, 3)).transpose(0, 1).flatten(1)   # (features, K * 24 * 3)
            rest = rest + (self._feature(rotations) @ by_pose).unflatten(-1, rest.shape[-3:])
        shift = places - (turns @ rest_joints[..., None])[..., 0]
        return torch.einsum('...jcd,...kjd->...kc', turns, rest) + (mixture @ self.weights) @ shift

    def _feature(self, rotations: Tensor) -> Tensor:
        """Return what pose blend shapes are multiplied by (..., features): rotations less I, where any is not zero."""
        return (rotations[..., 1:, :, :] - torch.eye(3, device=rotations.device, dtype=rotations.dtype)).flatten(-3)[
            ..., self.posed_features]

    def joints(self, rotations: Tensor, shape: Tensor | None = None, translation: Tensor | None = None) -> Tensor:
        """Return the joints (..., 24, 3) m alone; arguments as of forward()."""
        return self._kinematics(rotations, shape, translation)[1]

    def regressed(self, vertices: Tensor) -> Tensor:
        """Return the joints (..., 24, 3) m that J_regressor sees in vertices (..., V, 3): the paper's J = W V."""
        return self.regressor @ vertices

    def _kinematics(self, rotations: Tensor, shape: Tensor | None, translation: Tensor | None,
                    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return rotations against the world (..., 24, 3, 3), places (..., 24, 3), and places at rest (..., 24, 3)."""
        leading = rotations.shape[:-3]
        rest = self.joint_template
        if shape is not None:
            rest = rest + torch.einsum('jcb,...b->...jc', self.joint_shapedirs[..., :shape.shape[-1]], shape)
            leading = torch.broadcast_shapes(leading, shape.shape[:-1])
        if translation is not None:
            leading = torch.broadcast_shapes(leading, translation.shape[:-1])
        rest = rest.expand(*leading, *rest.shape[-2:])
        rotations = rotations.expand(*leading, *rotations.shape[-3:])
        turns, places = [rotations[..., 0, :, :]], [rest[..., 0, :]]
        if translation is not None:
            places[0] = places[0] + translation
        for joint, parent in enumerate(self.parents[1:], 1):
            offset = (rest[..., joint, :] - rest[..., parent, :])[..., None]
            places.append(places[parent] + (turns[parent] @ offset)[..., 0])
            turns.append(turns[parent] @ rotations[..., joint, :, :])
        return torch.stack(turns, dim=-3), torch.stack(places, dim=-2), rest


def rotations_from_6d(values: Tensor) -> Tensor:
    """Return rotations (..., 3, 3) of which the first two columns come from values (..., 6), by Gram and Schmidt.

    The representation of Zhou, Barnes, Lu, Yang, Li, "On the continuity of rotation representations in neural networks"
    (CVPR 2019): 1 0 0 0 1 0 is the identity. Where a vector is zero or both are parallel, a fixed direction stands in:
    the result is a rotation for all finite values, and gradients are finite.
    """
    first = _directed(values[..., :3], _axis(0, values))
    second = values[..., 3:6]
    across = second - (first * second).sum(dim=-1, keepdim=True) * first
    usable = across.norm(dim=-1, keepdim=True) > _PARALLEL * second.norm(dim=-1, keepdim=True)
    # The axis that is farthest from the first column is never parallel to it.
    least = torch.nn.functional.one_hot(first.abs().argmin(dim=-1), 3).to(values.dtype)
    spare = least - (first * least).sum(dim=-1, keepdim=True) * first
    spare = spare / spare.norm(dim=-1, keepdim=True)
    second = _directed(torch.where(usable, across, torch.zeros_like(across)), spare)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)


def rotations_from_matrices(values: Tensor) -> Tensor:
    """Return the rotations (..., 3, 3) of matrices (..., 3, 3) as a network gives them (the paper's 9 numbers a joint).

    The first two columns decide; the third follows from them.
    """
    return rotations_from_6d(torch.cat([values[..., 0], values[..., 1]], dim=-1))


def _axis(index: int, like: Tensor) -> Tensor:
    return torch.eye(3, dtype=like.dtype, device=like.device)[index]


def _directed(vectors: Tensor, spare: Tensor) -> Tensor:
    """Return unit vectors (..., 3), the spare one (..., 3) where a vector is too short to have a direction."""
    long_enough = vectors.detach().norm(dim=-1, keepdim=True) > _SHORT
    safe = torch.where(long_enough, vectors, spare)  # before the division: a gradient through 0/0 would be NaN
    return safe / safe.norm(dim=-1, keepdim=True)
