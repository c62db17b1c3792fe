"""The body model: what skinning must do whatever the body, how fast it does it, and files that are refused."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pose3d_ros.body_model import JOINTS, MANNEQUIN, BodyModel, load_body_model
from pose3d_ros.body_model_file import BodyArrays, BodyModelError, read_body_arrays, write_body_arrays
from pose3d_ros.records import BodyPose
from pose3d_ros.skeleton import HUMAN17, SMPL24, SMPL24_TO_HUMAN17, select

IDENTITY = np.tile(np.eye(3), (1, JOINTS, 1, 1))


@pytest.fixture(scope='module')
def model() -> BodyModel:
    return BodyModel.load()


def random_turns(rng: np.random.Generator, people: int, size: float = 0.5) -> NDArray:
    return Rotation.from_rotvec(rng.normal(0, size, (people * JOINTS, 3))).as_matrix().reshape(people, JOINTS, 3, 3)


def small_arrays(seed: int = 0, vertices: int = 40, shapes: int = 3, posed: float = 1.0) -> BodyArrays:
    """Return a body model of random numbers: nothing in it is zero or symmetric by accident."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(JOINTS) * 0.2, vertices)
    regressor = rng.dirichlet(np.ones(vertices) * 0.2, JOINTS)
    posedirs = rng.normal(0, 0.02, (vertices, 3, 207)) * (rng.random((vertices, 3, 207)) < posed)
    parents = [SMPL24.index(parent) if parent else -1 for parent in SMPL24.parents]
    template, shapedirs = rng.normal(0, 0.5, (vertices, 3)), rng.normal(0, 0.05, (vertices, 3, shapes))
    arrays = (template, shapedirs, posedirs, regressor, weights)
    return BodyArrays(*(values.astype(np.float32) for values in arrays), parents=np.array(parents),
                      faces=rng.permuted(np.tile(np.arange(vertices), (20, 1)), axis=1)[:, :3].astype(np.int32))


def slow_pose(arrays: BodyArrays, turns: NDArray, shape: NDArray, place: NDArray) -> tuple[NDArray, NDArray]:
    """Return vertices and joints of one person as the paper's equations say it, joint by joint and vertex by vertex."""
    shaped = arrays.template + arrays.shapedirs @ shape
    rest = arrays.regressor @ shaped
    posed = shaped + arrays.posedirs @ (turns[1:] - np.eye(3)).ravel()
    chains = []
    for joint in range(JOINTS):
        parent = int(arrays.parents[joint])
        own = np.eye(4)
        own[:3, :3] = turns[joint]
        own[:3, 3] = rest[joint] - (rest[parent] if parent >= 0 else 0)
        chains.append(chains[parent] @ own if parent >= 0 else own)
    vertices = np.zeros_like(posed)
    for joint, chain in enumerate(chains):
        moved = (posed - rest[joint]) @ chain[:3, :3].T + chain[:3, 3]
        vertices += arrays.weights[:, joint, None] * moved
    return vertices + place, np.array([chain[:3, 3] for chain in chains]) + place


@pytest.mark.parametrize('posed', [1.0, 0.05, 0.0], ids=['dense', 'sparse', 'none'])
def test_skinning_is_that_of_the_equations(posed: float) -> None:
    arrays = small_arrays(posed=posed)
    rng = np.random.default_rng(1)
    turns, shape, place = random_turns(rng, 11, 1.5), rng.normal(size=(11, 3)), rng.normal(size=(11, 3))
    vertices, joints = BodyModel(arrays).pose(turns, shape, place)
    for person in range(11):
        wanted, at = slow_pose(arrays, turns[person], shape[person], place[person])
        np.testing.assert_allclose(vertices[person], wanted, atol=2e-5)
        np.testing.assert_allclose(joints[person], at, atol=2e-5)


def test_the_rest_pose_is_the_template(model: BodyModel) -> None:
    vertices, joints = model.pose(IDENTITY)
    np.testing.assert_allclose(vertices[0], model.arrays.template, atol=1e-6)
    np.testing.assert_allclose(joints[0], model.regressed(vertices)[0], atol=1e-6)


def test_turning_the_root_turns_the_body_as_a_whole(model: BodyModel) -> None:
    rng = np.random.default_rng(2)
    turns, shape = random_turns(rng, 1), rng.normal(size=10)
    turned = turns.copy()
    whole = Rotation.from_rotvec([0.3, -2.0, 0.7]).as_matrix()
    turned[0, 0] = whole @ turns[0, 0]
    (before, at_before), (after, at_after) = model.pose(turns, shape), model.pose(turned, shape, [1.0, 2.0, 3.0])
    root = at_before[0, 0]
    np.testing.assert_allclose(after[0], (before[0] - root) @ whole.T + root + [1, 2, 3], atol=1e-5)
    np.testing.assert_allclose(at_after[0], (at_before[0] - root) @ whole.T + root + [1, 2, 3], atol=1e-5)


def test_only_what_lies_beyond_a_joint_moves_with_it(model: BodyModel) -> None:
    turns = IDENTITY.copy()
    turns[0, SMPL24.index('left_elbow')] = Rotation.from_rotvec([0, -1.5, 0]).as_matrix()
    vertices, joints = model.pose(turns)
    moved = np.linalg.norm(vertices[0] - model.arrays.template, axis=1) > 1e-5
    assert moved.any() and model.arrays.template[moved, 0].min() > 0.3
    rest = model.rest()[1]
    still = [joint for joint in SMPL24.joints if joint not in ('left_wrist', 'left_hand')]
    np.testing.assert_allclose(joints[0, SMPL24.indices(still)], rest[SMPL24.indices(still)], atol=1e-6)
    assert joints[0, SMPL24.index('left_wrist'), 2] > 0.2  # the forearm points ahead


def test_bones_keep_their_lengths_in_every_pose(model: BodyModel) -> None:
    rng = np.random.default_rng(3)
    shape = rng.normal(size=10)
    joints = model.joints(random_turns(rng, 20, 1.5), shape)
    parents = model.parents[1:]
    lengths = np.linalg.norm(joints[:, 1:] - joints[:, parents], axis=-1)
    rest = model.rest(shape)[1]
    np.testing.assert_allclose(lengths, np.tile(np.linalg.norm(rest[1:] - rest[parents], axis=-1), (20, 1)), atol=1e-5)


def test_quaternions_and_matrices_agree_and_so_do_joints_alone(model: BodyModel) -> None:
    rng = np.random.default_rng(4)
    turns, shape, place = random_turns(rng, 9, 1.0), rng.normal(size=(9, 10)), rng.normal(size=(9, 3))
    quaternions = Rotation.from_matrix(turns.reshape(-1, 3, 3)).as_quat().reshape(9, JOINTS, 4)
    vertices, joints = model.pose(turns, shape, place)
    other = model.pose(quaternions, shape, place)
    np.testing.assert_allclose(other[0], vertices, atol=1e-5)
    np.testing.assert_allclose(model.joints(quaternions, shape, place), joints, atol=1e-5)
    # One at a time is the same as all together, and missing coefficients are zero.
    np.testing.assert_allclose(model.pose(turns[4:5], shape[4], place[4])[0][0], vertices[4], atol=1e-5)
    np.testing.assert_array_equal(model.pose(turns[:1], [1.5])[0], model.pose(turns[:1], [1.5] + [0] * 9)[0])


@pytest.mark.parametrize(('rotations', 'shape', 'place', 'message'), [
    (np.eye(3), None, None, r'expected \(N, 24, 3, 3\)'),
    (np.full((1, 24, 3, 3), np.nan), None, None, 'no rotation'),
    (2 * IDENTITY, None, None, 'no rotation'),
    (IDENTITY * [1, 1, -1], None, None, 'mirror image'),
    (np.zeros((1, 24, 4)), None, None, 'length one'),
    (IDENTITY, np.zeros(11), None, 'b up to 10'),
    (IDENTITY, np.zeros((2, 10)), None, 'N = 1'),
    (IDENTITY, [np.nan], None, 'not finite'),
    (IDENTITY, None, np.zeros((2, 3)), 'translation'),
    (IDENTITY, None, [0, np.inf, 0], 'not finite'),
])
def test_wrong_input_is_refused(model: BodyModel, rotations: NDArray, shape: NDArray | None, place: NDArray | None,
                                message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.pose(rotations, shape, place)
    with pytest.raises(ValueError, match=message):
        model.joints(rotations, shape, place)


def test_nobody_is_a_number_of_people_too(model: BodyModel) -> None:
    vertices, joints = model.pose(np.zeros((0, JOINTS, 3, 3)))
    assert vertices.shape == (0, len(model), 3) and joints.shape == (0, JOINTS, 3)


def test_skinning_takes_less_than_two_milliseconds_per_person(model: BodyModel) -> None:
    rng = np.random.default_rng(5)
    turns, shape, place = random_turns(rng, 4), rng.normal(size=(4, 10)), np.zeros((4, 3))
    took = []
    for _ in range(40):  # the quietest: other work on the machine is not ours
        start = time.perf_counter()
        model.pose(turns, shape, place)
        took.append((time.perf_counter() - start) / 4)
    assert min(took) < 2e-3


def test_joints_that_are_the_same_place_go_over_by_place_and_not_by_name(model: BodyModel) -> None:
    joints = model.rest()[1]
    human = select(joints, SMPL24, HUMAN17)
    for ours, theirs in SMPL24_TO_HUMAN17.items():
        np.testing.assert_array_equal(human[HUMAN17.index(theirs)], joints[SMPL24.index(ours)])
    assert np.isnan(human[HUMAN17.index('head')]).all() and np.isfinite(human).sum() == 3 * len(SMPL24_TO_HUMAN17)
    back = select(human, HUMAN17, SMPL24)
    for joint in SMPL24_TO_HUMAN17:
        np.testing.assert_array_equal(back[SMPL24.index(joint)], joints[SMPL24.index(joint)])
    assert np.isnan(back[SMPL24.index('spine3')]).all()


def test_a_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    arrays = small_arrays()
    write_body_arrays(tmp_path / 'own.npz', arrays)
    read = read_body_arrays(tmp_path / 'own.npz')
    for name in ('template', 'shapedirs', 'posedirs', 'regressor', 'weights', 'parents', 'faces'):
        np.testing.assert_array_equal(getattr(read, name), getattr(arrays, name))
    with np.load(tmp_path / 'own.npz') as file:
        assert file['kintree_table'].dtype == np.uint32 and file['kintree_table'][0, 0] == 2 ** 32 - 1


def changed(key: str, change: Callable[[NDArray], NDArray]) -> Callable[[dict], None]:
    return lambda found: found.update({key: change(found[key].copy())})


def with_value(position: tuple, value: float) -> Callable[[NDArray], NDArray]:
    def change(values: NDArray) -> NDArray:
        values[position] = value
        return values
    return change


@pytest.mark.parametrize(('spoil', 'message'), [
    (lambda found: found.pop('weights'), 'lacks weights'),
    (changed('v_template', lambda v: v[:, :2]), r'v_template is \(40, 2\)'),
    (changed('v_template', with_value((3, 1), np.nan)), 'v_template holds a value that is not finite'),
    (changed('v_template', lambda v: v * 100), 'in metres'),
    (changed('v_template', lambda v: v.astype(str)), 'expected numbers'),
    (changed('shapedirs', lambda v: v[:7]), r'shapedirs is \(7, 3, 3\)'),
    (changed('posedirs', lambda v: v[..., :72]), 'posedirs'),
    (changed('J_regressor', lambda v: v[:22]), r'J_regressor is \(22, 40\)'),
    (changed('J_regressor', lambda v: 2 * v), 'J_regressor has a row'),
    (changed('weights', lambda v: v * 0.9), 'do not sum to 1'),
    (changed('weights', with_value((0, 0), -1.0)), 'negative, or do not sum'),
    (changed('kintree_table', with_value((0, 5), 9)), 'joint 5 the parent 9'),
    (changed('kintree_table', with_value((0, 5), 5)), 'no loops'),
    (changed('kintree_table', with_value((0, 0), 3)), 'first joint'),
    (changed('kintree_table', lambda v: v[:, ::-1]), 'numbers its joints'),
    (changed('f', with_value((0, 0), 40)), 'vertices 0 to 40|but there are 40'),
    (changed('f', lambda v: v.astype(float)), 'whole numbers'),
    (lambda found: found.update(weights=np.array([{'a': 1}], dtype=object)), 'pickled objects'),
])
def test_broken_files_are_refused_by_name(tmp_path: Path, spoil: Callable[[dict], None], message: str) -> None:
    path = tmp_path / 'broken.npz'
    write_body_arrays(path, small_arrays())
    with np.load(path) as file:
        found = dict(file)
    spoil(found)
    np.savez(path, **found)
    with pytest.raises(BodyModelError, match=message) as error:
        BodyModel.load(path)
    assert 'broken.npz' in str(error.value)


def test_what_is_no_npz_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BodyModelError, match='No such file'):
        read_body_arrays(tmp_path / 'none.npz')
    np.save(tmp_path / 'single.npy', np.zeros(3))
    (tmp_path / 'pickle.npz').write_bytes(b'\x80\x02cos\nsystem\n(S"false"\ntR.')
    write_body_arrays(tmp_path / 'half.npz', small_arrays())
    whole = (tmp_path / 'half.npz').read_bytes()
    (tmp_path / 'half.npz').write_bytes(whole[:4000])
    (tmp_path / 'worn.npz').write_bytes(whole[:2000] + bytes(500) + whole[2500:])
    for name, message in (('single.npy', 'convert'), ('pickle.npz', 'convert'), ('half.npz', 'not a whole'),
                          ('worn.npz', 'damaged')):
        with pytest.raises(BodyModelError, match=message):
            read_body_arrays(tmp_path / name)


def test_a_model_with_one_vertex_more_skins_it_like_its_neighbour(model: BodyModel) -> None:
    arrays = model.arrays
    twice = replace(arrays, **{name: np.concatenate([values, values[-1:]]) for name, values in (
        ('template', arrays.template), ('shapedirs', arrays.shapedirs), ('posedirs', arrays.posedirs),
        ('weights', arrays.weights))}, regressor=np.pad(arrays.regressor, ((0, 0), (0, 1))))
    vertices = BodyModel(twice).pose(random_turns(np.random.default_rng(6), 1))[0][0]
    np.testing.assert_array_equal(vertices[-1], vertices[-2])


def test_bodies_are_read_in_the_body_model_that_they_are_in_or_not_at_all(tmp_path: Path) -> None:
    write_body_arrays(tmp_path / 'other.npz', small_arrays())
    digests = {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in (MANNEQUIN, tmp_path / 'other.npz')}
    other = tmp_path / 'other.npz'
    assert len(load_body_model(other, ('other', digests[other].upper()))) == 40
    for path in (None, MANNEQUIN):
        assert load_body_model(path, ('mannequin', digests[MANNEQUIN])).name == 'mannequin'
        with pytest.raises(BodyModelError, match=r"mannequin.* not the body model .*'other'.*--body-model"):
            load_body_model(path, ('other', digests[other]))
    with pytest.raises(BodyModelError, match=r"other\.npz: is not .*'mannequin'.*--body-model"):
        load_body_model(other, ('mannequin', digests[MANNEQUIN]))
    with pytest.raises(BodyModelError, match=r"no\.npz: cannot be read.*'other'"):
        load_body_model(tmp_path / 'no.npz', ('other', digests[other]))


def test_people_are_placed_by_their_root_joint_and_in_their_size(model: BodyModel) -> None:
    rng = np.random.default_rng(8)
    turns, shapes, roots = random_turns(rng, 2), rng.normal(size=(2, 10)), rng.normal(0, 3, (2, 3))
    scales = [0.6, 1.1]
    bodies = [BodyPose(*values) for values in zip(turns, shapes, scales, roots)]
    vertices, joints = model.placed(bodies)
    for number, body in enumerate(bodies):
        own, at = model.pose(body.rotations[None], body.shape)
        np.testing.assert_allclose(vertices[number], body.root + body.scale * (own[0] - at[0, 0]), atol=1e-5)
        np.testing.assert_allclose(joints[number, 0], body.root, atol=1e-6)
        larger = model.scaled(body.scale)
        moved, there = larger.pose(body.rotations[None], body.shape, body.root - larger.rest(body.shape)[1][0])
        np.testing.assert_allclose(moved[0], vertices[number], atol=1e-5)
        np.testing.assert_allclose(there[0], joints[number], atol=1e-5)
    resized, _ = model.placed([bodies[0].resized(1.2, np.array([0, 0, 0.5]))])
    np.testing.assert_allclose(resized[0], 1.2 * vertices[0] + [0, 0, 0.5], atol=1e-5)
    assert [len(part) for part in model.placed([])] == [0, 0]
