"""A skinned body: 24 rotations and a few shape numbers to a surface of triangles and the joints in it.

The model of Loper, Mahmood, Romero, Pons-Moll, Black, "SMPL: A Skinned Multi-Person Linear Model" (SIGGRAPH Asia 2015),
in that project's own names of arrays, as PoseNet3D uses it (section 3.3): a template is changed by shape and by pose,
and its vertices follow the joints by linear blend skinning. Metres; rest pose: arms to the sides, y up, facing +z, so
that +x is the body's left. nets/body_model.py is the same in PyTorch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix
from scipy.spatial.transform import Rotation

from pose3d_ros.body_model_file import BodyArrays, BodyModelError, read_body_arrays
from pose3d_ros.records import BodyPose
from pose3d_ros.skeleton import SMPL24

JOINTS = len(SMPL24)
MANNEQUIN = Path(__file__).parent / 'weights' / 'mannequin.npz'

_AT_ONCE = 8              # people skinned together: as many as stay in the processor's cache
_SPARSE_BELOW = 0.3       # share of pose_directions that is not zero below which a sparse product is the faster one
_ORTHONORMAL = 1e-3


@dataclass(frozen=True)
class BodyModel:
    """A body model: arrays as read and checked by read_body_arrays, and what is worked out of them once."""

    arrays: BodyArrays
    name: str = ''

    @classmethod
    def load(cls, path: Path = MANNEQUIN) -> BodyModel:
        """Read an .npz file in SMPL's layout (without pickles). Raises BodyModelError that names file and cure."""
        return cls(read_body_arrays(path), Path(path).stem)

    @property
    def shapes(self) -> int:
        """How many shape coefficients (B) there are."""
        return self.arrays.shapedirs.shape[2]

    @property
    def faces(self) -> NDArray[np.int32]:
        """Triangles (F, 3): indices of vertices, counter-clockwise seen from outside."""
        return self.arrays.faces

    @property
    def parents(self) -> NDArray[np.intp]:
        """The parent (24,) of each joint, -1 for the root; a parent comes before its children."""
        return self.arrays.parents

    def __len__(self) -> int:
        return len(self.arrays.template)

    def pose(self, rotations: ArrayLike, shape: ArrayLike | None = None, translation: ArrayLike | None = None,
             ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the vertices (N, V, 3) and joints (N, 24, 3) in m of N people.

        rotations: of each joint against its parent (the root: against the world), as matrices (N, 24, 3, 3) or as
        quaternions (N, 24, 4), x y z w. shape (N, b) or (b,), b up to B: coefficients, the rest is zero; None: all
        zero. translation (N, 3) or (3,) m is added to everything. Raises ValueError for other shapes, values that are
        not finite and matrices that are no rotations.
        """
        matrices, coefficients, shift = self._checked(rotations, shape, translation)
        vertices = np.empty((len(matrices), len(self), 3), dtype=np.float32)
        joints = np.empty((len(matrices), JOINTS, 3), dtype=np.float32)
        for start in range(0, len(matrices), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            turns, joints[part] = self._kinematics(matrices[part], coefficients[part], shift[part])
            self._skin(matrices[part], coefficients[part], turns, vertices[part])
        return vertices, joints

    def joints(self, rotations: ArrayLike, shape: ArrayLike | None = None, translation: ArrayLike | None = None,
               ) -> NDArray[np.float32]:
        """Return the joints (N, 24, 3) in m alone: pose() without the surface."""
        return self._kinematics(*self._checked(rotations, shape, translation))[1]

    def regressed(self, vertices: ArrayLike) -> NDArray[np.float32]:
        """Return the joints (..., 24, 3) m that J_regressor sees in vertices (..., V, 3): the paper's J = W V."""
        return self.arrays.regressor @ np.asarray(vertices, dtype=np.float32)

    def rest(self, shape: ArrayLike | None = None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return vertices (V, 3) and joints (24, 3) in m of one person of a shape (b,) in the rest pose."""
        vertices, joints = self.pose(np.eye(3, dtype=np.float32)[None, None].repeat(JOINTS, axis=1), shape)
        return vertices[0], joints[0]

    def placed(self, bodies: Sequence[BodyPose]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the vertices (N, V, 3) and joints (N, 24, 3) in m of people in the frame that their bodies are in."""
        if not bodies:
            return np.zeros((0, len(self), 3), dtype=np.float32), np.zeros((0, JOINTS, 3), dtype=np.float32)
        vertices, joints = self.pose(np.stack([body.rotations for body in bodies]),
                                     np.stack([body.shape for body in bodies]))
        scale = np.array([body.scale for body in bodies], dtype=np.float32)[:, None, None]
        move = np.stack([body.root for body in bodies]).astype(np.float32)[:, None] - scale * joints[:, :1]
        return scale * vertices + move, scale * joints + move

    def scaled(self, scale: float) -> BodyModel:
        """Return the model of a body that is so many times as large, in the same rotations and shape."""
        changed = {name: np.asarray(getattr(self.arrays, name) * np.float32(scale))
                   for name in ('template', 'shapedirs', 'posedirs')}
        return replace(self, arrays=replace(self.arrays, **changed))

    def _kinematics(self, matrices: NDArray, coefficients: NDArray, shift: NDArray) -> tuple[NDArray, NDArray]:
        """Return what each joint does to the points of its part, (N, 3, 4, 24), and where the joints are (N, 24, 3)."""
        rest = self._rest_joints + np.tensordot(coefficients, self._joint_directions, axes=(1, 2))
        offsets = rest.copy()
        offsets[:, 1:] -= rest[:, self.parents[1:]]
        turns, places = matrices.copy(), offsets
        places[:, 0] += shift
        for children, parents in self._generations:
            upper = turns[:, parents]
            turns[:, children] = upper @ matrices[:, children]
            places[:, children] = places[:, parents] + (upper @ offsets[:, children, :, None])[..., 0]
        transforms = np.empty((len(matrices), JOINTS, 3, 4), dtype=np.float32)
        transforms[..., :3] = turns
        transforms[..., 3] = places - (turns @ rest[..., None])[..., 0]
        return transforms.transpose(0, 2, 3, 1), places

    def _skin(self, matrices: NDArray, coefficients: NDArray, transforms: NDArray, out: NDArray) -> None:
        """Write the skinned vertices (n, V, 3). Rows are coordinates, columns vertices: what BLAS reads in one go."""
        size, count = len(matrices), len(self)
        rest = coefficients @ self._shape_rows + self._template_row
        if self._pose_rows is not None:
            feature = (matrices[:, 1:] - np.eye(3, dtype=np.float32)).reshape(size, -1)
            rest += _product(feature, self._pose_rows)
        rest = rest.reshape(size, 3, count)
        blended = (transforms.reshape(size * 12, JOINTS) @ self._weight_rows).reshape(size, 3, 4, count)
        moved = blended[:, :, 3]
        for axis in range(3):
            blended[:, :, axis] *= rest[:, axis, None]
            moved += blended[:, :, axis]
        out[:] = moved.transpose(0, 2, 1)

    def _checked(self, rotations: ArrayLike, shape: ArrayLike | None, translation: ArrayLike | None,
                 ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        matrices = _as_matrices(np.asarray(rotations))
        size = len(matrices)
        coefficients = np.zeros((size, self.shapes), dtype=np.float32)
        if shape is not None:
            given = np.atleast_1d(np.asarray(shape, dtype=np.float32))
            if given.ndim > 2 or given.shape[-1] > self.shapes or (given.ndim == 2 and len(given) != size):
                raise ValueError(f'shape is {given.shape}, expected (N, b) or (b,) with N = {size} and b up to '
                                 f'{self.shapes}')
            coefficients[:, :given.shape[-1]] = given
        shift = np.zeros((size, 3), dtype=np.float32)
        if translation is not None:
            moved = np.asarray(translation, dtype=np.float32)
            if moved.shape not in ((3,), (size, 3)):
                raise ValueError(f'translation is {moved.shape}, expected (3,) or ({size}, 3)')
            shift[:] = moved
        if not (np.isfinite(coefficients).all() and np.isfinite(shift).all()):
            raise ValueError('shape or translation holds a value that is not finite')
        return matrices, coefficients, shift

    @cached_property
    def _rest_joints(self) -> NDArray[np.float32]:
        return self.arrays.regressor @ self.arrays.template

    @cached_property
    def _joint_directions(self) -> NDArray[np.float32]:
        """How the joints (24, 3, B) move with shape: so that joints need no surface."""
        return np.einsum('jv,vcb->jcb', self.arrays.regressor, self.arrays.shapedirs, optimize=True)

    @cached_property
    def _template_row(self) -> NDArray[np.float32]:
        return np.ascontiguousarray(self.arrays.template.T).ravel()

    @cached_property
    def _shape_rows(self) -> NDArray[np.float32]:
        return np.ascontiguousarray(self.arrays.shapedirs.transpose(2, 1, 0)).reshape(self.shapes, -1)

    @cached_property
    def _pose_rows(self) -> NDArray[np.float32] | csr_matrix | None:
        """Pose blend shapes: None if there are none; (207, 3 V), or sparse and (3 V, 207) if few are not zero."""
        directions = self.arrays.posedirs
        share = np.count_nonzero(directions) / directions.size
        if share == 0:
            return None
        rows = np.ascontiguousarray(directions.transpose(2, 1, 0)).reshape(directions.shape[2], -1)
        return csr_matrix(rows.T) if share < _SPARSE_BELOW else rows

    @cached_property
    def _weight_rows(self) -> NDArray[np.float32]:
        return np.ascontiguousarray(self.arrays.weights.T)

    @cached_property
    def _generations(self) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Joints with their parents, generation by generation: nine products instead of 23."""
        generation = np.zeros(JOINTS, dtype=np.intp)
        for joint, parent in enumerate(self.parents.tolist()[1:], 1):
            generation[joint] = generation[parent] + 1
        groups = [np.flatnonzero(generation == number) for number in range(1, generation.max() + 1)]
        return [(group, self.parents[group]) for group in groups]


def load_body_model(path: Path | None, wanted: tuple[str, str]) -> BodyModel:
    """Read the body model that bodies are in: wanted is its name, and the SHA-256 of its file.

    path: None takes the mannequin that ships. Raises BodyModelError for a file that is not that one: its numbers would
    make other people of the same rotations and shape.
    """
    name, digest = wanted
    file = MANNEQUIN if path is None else path
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise BodyModelError(f'{file}: cannot be read ({error.strerror or error}); give the .npz file of the body '
                             f'model {name!r} that the lifter was trained with') from error
    if found != digest.lower():
        which = 'the mannequin that ships is' if path is None else f'{file}: is'
        raise BodyModelError(f"{which} not the body model that this lifter's bodies are in ({name!r}, SHA-256 "
                             f'{digest[:12]}..., here {found[:12]}...); give the .npz file that it was trained with '
                             '(--body-model, parameter body_model)')
    return BodyModel.load(file)


def _product(feature: NDArray, directions: NDArray | csr_matrix) -> NDArray[np.float32]:
    """Return the change (n, 3 V) by features (n, 207): each kind of matrix the way round in which it is fast."""
    return (directions @ feature.T).T if isinstance(directions, csr_matrix) else feature @ directions


def _as_matrices(rotations: NDArray) -> NDArray[np.float32]:
    """Return rotations (N, 24, 3, 3) float32 from matrices or quaternions. Raises ValueError."""
    if rotations.ndim == 3 and rotations.shape[1:] == (JOINTS, 4):
        norms = np.linalg.norm(rotations, axis=-1)
        if not (np.isfinite(norms).all() and (abs(norms - 1) < _ORTHONORMAL).all()):
            raise ValueError('rotations hold a quaternion that is not of length one')
        matrices = Rotation.from_quat(rotations.reshape(-1, 4)).as_matrix().reshape(-1, JOINTS, 3, 3)
        return matrices.astype(np.float32)
    if rotations.ndim != 4 or rotations.shape[1:] != (JOINTS, 3, 3):
        raise ValueError(f'rotations are {rotations.shape}, expected (N, {JOINTS}, 3, 3), or (N, {JOINTS}, 4) '
                         'quaternions')
    matrices = rotations.astype(np.float32)
    product = matrices @ matrices.swapaxes(-1, -2)
    # Negated, so that NaN is refused too.
    if not (abs(product - np.eye(3, dtype=np.float32)) < _ORTHONORMAL).all():
        raise ValueError('rotations hold a matrix that is no rotation: its rows are not orthonormal')
    if not (np.linalg.det(matrices) > 0).all():
        raise ValueError('rotations hold a mirror image: a matrix with determinant -1')
    return matrices
