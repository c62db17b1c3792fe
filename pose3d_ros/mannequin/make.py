"""The free mannequin: a body model made by formulas, in SMPL's layout, owned by nobody else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.body_model_file import BodyArrays
from pose3d_ros.mannequin import proportions as figure
from pose3d_ros.mannequin.field import body
from pose3d_ros.mannequin.shapes import shape_directions
from pose3d_ros.mannequin.skin import joint_regressor, pose_corrections, skin_weights
from pose3d_ros.mannequin.surface import mirror_images, relaxed, split, surface_nets, ticks
from pose3d_ros.skeleton import SMPL24

_SHAPE_FRACTION = 2.0 ** -16  # m: shape directions are whole multiples, which pack well


def make_mannequin() -> BodyArrays:
    """Return the mannequin. The same always; it takes some seconds.

    The pelvis is at the origin for every shape.
    """
    vertices, faces, other = _skin()
    joints = figure.rest_joints()
    weights = skin_weights(vertices, faces, other)
    regressor = joint_regressor(vertices, weights, joints)
    shapes = shape_directions(vertices, weights)
    shapes -= np.einsum('v,vcb->cb', regressor[0], shapes)
    shapes = np.round(shapes / _SHAPE_FRACTION) * _SHAPE_FRACTION
    parents = [SMPL24.index(parent) if parent else -1 for parent in SMPL24.parents]
    return BodyArrays(
        template=(vertices - joints[0]).astype(np.float32), shapedirs=shapes.astype(np.float32),
        posedirs=pose_corrections(vertices, weights, joints).astype(np.float32),
        regressor=regressor.astype(np.float32), weights=weights.astype(np.float32),
        parents=np.array(parents, dtype=np.intp), faces=faces.astype(np.int32))


def _skin() -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.intp]]:
    """Return vertices (V, 3), faces (F, 3), and for each vertex the index of its mirror image."""
    spans = (figure.GRID_X, figure.GRID_Y, figure.GRID_Z)
    x, y, z = (ticks(span, start) for span, start in zip(spans, figure.GRID_FROM))
    vertices, quads = surface_nets(body, (np.concatenate([-x[::-1], x]), y, z))
    other = mirror_images(vertices)
    vertices = relaxed(body, vertices, quads, other)
    return vertices, split(vertices, quads), other
