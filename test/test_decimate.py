"""Body models of few triangles: the same body, closed, facing outwards, close to the whole one in every pose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from pose3d_ros.body_model import JOINTS, BodyModel
from pose3d_ros.body_model_file import read_body_arrays, write_body_arrays
from pose3d_ros.cli.body_pictures import POSES, pose
from pose3d_ros.decimate import decimate

TRIANGLES = 1200


@pytest.fixture(scope='module')
def whole() -> BodyModel:
    return BodyModel.load()


@pytest.fixture(scope='module')
def made(whole: BodyModel) -> tuple[BodyModel, NDArray[np.intp]]:
    return decimate(whole, TRIANGLES)


@pytest.fixture(scope='module')
def small(made: tuple[BodyModel, NDArray[np.intp]]) -> BodyModel:
    return made[0]


def edges(faces: NDArray) -> NDArray:
    """Return the directed edges (3 F, 2) of triangles."""
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def assert_closed(model: BodyModel) -> None:
    """Every edge has a triangle on either side, turned alike; one piece without tunnels."""
    directed = edges(model.faces)
    assert len(np.unique(directed, axis=0)) == len(directed)
    assert set(map(tuple, directed.tolist())) == set(map(tuple, directed[:, ::-1].tolist()))
    assert len(model) - len(directed) // 2 + len(model.faces) == 2
    assert len(np.unique(model.faces)) == len(model)


def normals(vertices: NDArray, faces: NDArray) -> NDArray:
    """Return the unit normals (F, 3) of triangles."""
    corners = vertices[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return np.asarray(normal / np.linalg.norm(normal, axis=1, keepdims=True))


def points_on(vertices: NDArray, faces: NDArray, steps: int = 8) -> NDArray:
    """Return points (n, 3) all over a surface, some millimetres apart."""
    shares = np.array([(a, b, steps - a - b) for a in range(steps + 1) for b in range(steps + 1 - a)]) / steps
    return np.asarray((shares @ vertices[faces]).reshape(-1, 3))


def test_the_surface_stays_closed_and_has_the_triangles_asked_for(small: BodyModel) -> None:
    assert len(small.faces) in (TRIANGLES - 1, TRIANGLES)
    assert_closed(small)


def test_in_any_pose_and_shape_its_vertices_and_joints_are_those_of_the_whole_model(
        whole: BodyModel, made: tuple[BodyModel, NDArray[np.intp]]) -> None:
    small, kept = made
    rng = np.random.default_rng(1)
    turns = Rotation.random(6 * JOINTS, random_state=2).as_matrix().reshape(6, JOINTS, 3, 3)
    shape = rng.normal(0, 1.5, (6, whole.shapes))
    vertices, joints = whole.pose(turns, shape)
    fewer, same = small.pose(turns, shape)
    np.testing.assert_allclose(fewer, vertices[:, kept], atol=1e-5)
    np.testing.assert_allclose(same, joints, atol=1e-5)


@pytest.mark.parametrize('name', POSES)
def test_it_lies_close_to_the_whole_surface_and_faces_the_same_way(whole: BodyModel, small: BodyModel,
                                                                   name: str) -> None:
    vertices, fewer = whole.pose(pose(name)[None])[0][0], small.pose(pose(name)[None])[0][0]
    gap, _ = cKDTree(points_on(fewer, small.faces)).query(vertices)
    assert np.percentile(gap, 95) < 0.008 and gap.max() < 0.025  # m
    back, _ = cKDTree(vertices).query(points_on(fewer, small.faces, 3))
    assert back.max() < 0.03
    # Of the whole surface around the middle of each triangle, some part at least looks where the triangle looks.
    centres, directions = vertices[whole.faces].mean(axis=1), normals(vertices, whole.faces)
    _, near = cKDTree(centres).query(fewer[small.faces].mean(axis=1), k=8)
    agreement = (directions[near] * normals(fewer, small.faces)[:, None]).sum(axis=-1)
    assert agreement.max(axis=1).min() > 0.3 and np.median(agreement) > 0.9


def test_it_is_a_model_that_can_be_written_and_read(small: BodyModel, tmp_path: Path) -> None:
    write_body_arrays(tmp_path / 'small.npz', small.arrays)
    read = read_body_arrays(tmp_path / 'small.npz')
    np.testing.assert_array_equal(read.faces, small.faces)
    np.testing.assert_array_equal(read.regressor, small.arrays.regressor)


def test_the_same_model_gives_the_same_triangles(small: BodyModel) -> None:
    first, second = (decimate(small, 900)[0].faces for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_hole_keeps_its_border(whole: BodyModel) -> None:
    high = whole.arrays.template[:, 1] > 0.6  # without the top of the head
    faces = whole.faces[~high[whole.faces].any(axis=1)]
    small, kept = decimate(replace(whole, arrays=replace(whole.arrays, faces=faces)), 2000)
    assert len(small.faces) in (1999, 2000)

    def border(triangles: NDArray) -> set[tuple[int, int]]:
        directed = set(map(tuple, edges(triangles).tolist()))
        return {(a, b) for a, b in directed if (b, a) not in directed}

    assert border(kept[small.faces]) == border(faces) != set()


def test_what_cannot_be_merged_further_is_left(small: BodyModel) -> None:
    least, _ = decimate(small, 0)
    assert 4 <= len(least.faces) < 400
    assert_closed(least)
    same, kept = decimate(small, len(small.faces) + 1)
    np.testing.assert_array_equal(same.faces, small.faces)
    assert len(kept) == len(small)
