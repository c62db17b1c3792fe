"""The body model in PyTorch is that in NumPy, and gradients go through it; numbers of a network become rotations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from test_body_model import random_turns, small_arrays

torch = pytest.importorskip('torch')

from pose3d_ros.body_model import JOINTS, BodyModel  # noqa: E402
from pose3d_ros.nets.body_model import BodyModel as TorchBody  # noqa: E402
from pose3d_ros.nets.body_model import rotations_from_6d, rotations_from_matrices  # noqa: E402


def as_tensor(values):
    return torch.tensor(values, dtype=torch.float32)


@pytest.mark.parametrize('shipped', [True, False], ids=['mannequin', 'random numbers'])
def test_it_is_the_same_as_in_numpy(shipped):
    model = BodyModel.load() if shipped else BodyModel(small_arrays())
    rng = np.random.default_rng(0)
    turns, shape, place = random_turns(rng, 5), rng.normal(size=(5, model.shapes)), rng.normal(size=(5, 3))
    body = TorchBody(model.arrays)
    vertices, joints = body(as_tensor(turns), as_tensor(shape), as_tensor(place))
    wanted, at = model.pose(turns, shape, place)
    np.testing.assert_allclose(vertices, wanted, atol=1e-5)
    np.testing.assert_allclose(joints, at, atol=1e-5)
    np.testing.assert_allclose(body.joints(as_tensor(turns), as_tensor(shape), as_tensor(place)), at, atol=1e-5)
    np.testing.assert_allclose(body.regressed(vertices), model.regressed(wanted), atol=1e-5)
    np.testing.assert_array_equal(body.faces, model.faces)
    np.testing.assert_allclose(body(as_tensor(turns))[0], model.pose(turns)[0], atol=1e-5)


def test_one_shape_serves_all_frames_of_a_window():
    body = TorchBody(small_arrays())
    rng = np.random.default_rng(1)
    turns = as_tensor(random_turns(rng, 8)).reshape(2, 4, JOINTS, 3, 3)
    shape, place = as_tensor(rng.normal(size=(2, 1, 3))), as_tensor(rng.normal(size=(2, 4, 3)))
    vertices, joints = body(turns, shape, place)
    assert vertices.shape == (2, 4, 40, 3) and joints.shape == (2, 4, JOINTS, 3)
    for window in range(2):
        for frame in range(4):
            alone, at = body(turns[window, frame], shape[window, 0], place[window, frame])
            torch.testing.assert_close(vertices[window, frame], alone, atol=1e-5, rtol=0)
            torch.testing.assert_close(joints[window, frame], at, atol=1e-5, rtol=0)
    # The other way round: one pose, many shapes; and fewer coefficients than there are.
    many, _ = body(turns[0, 0], as_tensor(rng.normal(size=(6, 2))))
    assert many.shape == (6, 40, 3)


def test_mixtures_of_vertices_need_no_vertices():
    rng = np.random.default_rng(6)
    for arrays in (small_arrays(), small_arrays(posed=0.0), BodyModel.load().arrays):
        body = TorchBody(arrays)
        turns = as_tensor(random_turns(rng, 6)).reshape(2, 3, JOINTS, 3, 3)
        shape = as_tensor(rng.normal(size=(2, 1, body.shapedirs.shape[2])))
        place = as_tensor(rng.normal(size=(2, 3, 3)))
        mixture = torch.softmax(as_tensor(rng.normal(size=(5, len(arrays.template)))), dim=1).requires_grad_()
        direct = mixture @ body(turns, shape, place)[0]
        short = body.mixtures(mixture, turns, shape, place)
        torch.testing.assert_close(short, direct, atol=1e-5, rtol=0)
        wanted, = torch.autograd.grad(direct.square().sum(), mixture)
        found, = torch.autograd.grad(short.square().sum(), mixture)
        torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(body.mixtures(mixture, turns), mixture @ body(turns)[0], atol=1e-5, rtol=0)


def test_gradients_are_those_of_small_steps():
    body = TorchBody(small_arrays(vertices=6)).double()
    rng = np.random.default_rng(2)
    turns = torch.tensor(rng.normal(size=(1, JOINTS, 6)), requires_grad=True)
    shape = torch.tensor(rng.normal(size=(1, 3)), requires_grad=True)
    place = torch.tensor(rng.normal(size=(1, 3)), requires_grad=True)
    lengths = torch.tensor(rng.normal(size=(1, 6, 3)))

    def loss(turns, shape, place):
        vertices, joints = body(rotations_from_6d(turns), shape, place)
        return (vertices * lengths).sum() + joints.square().sum()

    assert torch.autograd.gradcheck(loss, (turns, shape, place), atol=1e-6)


def test_a_fit_finds_the_pose_it_came_from():
    model = BodyModel.load()
    body = TorchBody(model.arrays)
    truth = random_turns(np.random.default_rng(3), 1, 0.3)
    wanted = as_tensor(model.joints(truth))
    numbers = torch.tensor([1.0, 0, 0, 0, 1, 0]).repeat(1, JOINTS, 1).requires_grad_()
    optimiser = torch.optim.LBFGS([numbers], max_iter=60, line_search_fn='strong_wolfe')

    def loss():
        optimiser.zero_grad()
        error = 100 * (body.joints(rotations_from_6d(numbers)) - wanted).square().sum()
        error.backward()
        return error

    optimiser.step(loss)
    found = body.joints(rotations_from_6d(numbers)).detach()
    assert (found - wanted).norm(dim=-1).max() < 0.005


def test_its_arrays_stay_with_it_and_are_not_learned():
    body = TorchBody(small_arrays())
    assert not list(body.parameters()) and not body.state_dict()
    assert {buffer.dtype for buffer in body.buffers()} == {torch.float32, torch.long}


def test_rotations_are_rotations_and_keep_what_already_is_one():
    numbers = torch.tensor(np.random.default_rng(4).normal(size=(500, 6)))
    turns = rotations_from_6d(numbers)
    torch.testing.assert_close(turns @ turns.mT, torch.eye(3, dtype=torch.double).expand(500, 3, 3))
    torch.testing.assert_close(torch.linalg.det(turns), torch.ones(500, dtype=torch.double))
    torch.testing.assert_close(turns[..., 0], torch.nn.functional.normalize(numbers[:, :3], dim=-1))
    own = torch.tensor(Rotation.random(50, random_state=5).as_matrix())
    torch.testing.assert_close(rotations_from_matrices(own), own)
    torch.testing.assert_close(rotations_from_matrices(3.7 * own), own)


@pytest.mark.parametrize('numbers', [
    [0.0] * 6, [1.0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0], [1, 2, 3, 1, 2, 3], [1, 2, 3, -2, -4, -6], [1e-30] * 6,
    [1, 0, 0, 1, 1e-9, 0], [0, 1e-20, 0, 1, 0, 0], [1e18, 0, 0, 0, 1e18, 1e18], [0, 1, 0, 0, 1, 0],
    [0, 0, -2, 0, 0, 5],
])
def test_numbers_without_directions_give_rotations_and_finite_gradients(numbers):
    values = torch.tensor(numbers, dtype=torch.float32, requires_grad=True)
    turn = rotations_from_6d(values)
    torch.testing.assert_close(turn @ turn.mT, torch.eye(3), atol=1e-5, rtol=0)
    assert float(torch.linalg.det(turn.detach())) == pytest.approx(1, abs=1e-5)
    (turn * torch.arange(9.0).reshape(3, 3)).sum().backward()
    assert values.grad is not None and torch.isfinite(values.grad).all()
