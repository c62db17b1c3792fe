"""The mannequin that ships: that it is closed, symmetric, of human size, bends well, and is what the command makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from pose3d_ros.body_model import MANNEQUIN, BodyModel
from pose3d_ros.body_model_file import read_body_arrays
from pose3d_ros.cli.body_pictures import POSES, pose, turns
from pose3d_ros.cli.main import main
from pose3d_ros.draw_mesh import draw_mesh, turned
from pose3d_ros.mannequin.shapes import COMPONENTS, STATURE_STEP
from pose3d_ros.mannequin.skin import MOST_JOINTS
from pose3d_ros.skeleton import SMPL24

MIRROR = np.array([-1.0, 1.0, 1.0])


@pytest.fixture(scope='module')
def model() -> BodyModel:
    return BodyModel.load()


def volume(vertices: NDArray, faces: NDArray) -> float:
    a, b, c = (vertices[faces[:, corner]].astype(float) for corner in range(3))
    return float((np.cross(a, b) * c).sum() / 6)


def height_of(vertices: NDArray) -> float:
    return float(np.ptp(vertices[:, 1]))


def test_the_skin_is_one_closed_surface_that_faces_outwards(model: BodyModel) -> None:
    faces = model.faces
    assert 2000 <= len(model) <= 4000
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges, count = np.unique(np.sort(directed, axis=1), axis=0, return_counts=True)
    assert (count == 2).all() and len(np.unique(directed, axis=0)) == len(directed)
    assert len(model) - len(edges) + len(faces) == 2  # a sphere, as far as topology goes: in one piece, no tunnels
    assert 0.045 < volume(model.arrays.template, faces) < 0.085  # m^3: about a kilogram per litre


def test_it_has_the_size_and_the_stance_of_smpl_s_rest_pose(model: BodyModel) -> None:
    vertices, joints = model.rest()
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    assert high[1] - low[1] == pytest.approx(1.70, abs=0.005)
    assert high[0] - low[0] == pytest.approx(1.73, abs=0.03)   # arms to the sides
    at = {joint: joints[SMPL24.index(joint)] for joint in SMPL24.joints}
    np.testing.assert_allclose(at['pelvis'], 0, atol=1e-6)
    assert at['left_wrist'][0] > 0.6 and at['head'][1] > 0.5
    nose = vertices[vertices[:, 1] > at['head'][1]][:, 2]
    assert nose.max() - at['head'][2] > 0.1 and at['left_foot'][2] > at['left_ankle'][2] + 0.1  # facing +z
    # Proportions of adults (Winter): leg, upper arm, forearm in statures.
    leg = np.linalg.norm(at['left_knee'] - at['left_hip']) + np.linalg.norm(at['left_ankle'] - at['left_knee'])
    assert leg / 1.70 == pytest.approx(0.47, abs=0.02)
    assert np.linalg.norm(at['left_elbow'] - at['left_shoulder']) / 1.70 == pytest.approx(0.165, abs=0.02)
    assert np.linalg.norm(at['left_wrist'] - at['left_elbow']) / 1.70 == pytest.approx(0.146, abs=0.01)


def test_its_hips_lie_nearer_to_the_middle_than_where_people_mark_hips(model: BodyModel) -> None:
    vertices, joints = model.rest()
    hip = joints[SMPL24.index('left_hip')]
    around = vertices[abs(vertices[:, 1] - hip[1]) < 0.02]
    assert hip[0] < 0.45 * around[:, 0].max()


def test_left_and_right_are_mirror_images(model: BodyModel) -> None:
    arrays = model.arrays
    gap, other = cKDTree(arrays.template).query(arrays.template * MIRROR)
    assert gap.max() < 1e-6
    np.testing.assert_allclose(arrays.weights[other][:, SMPL24.mirror], arrays.weights, atol=1e-6)
    np.testing.assert_allclose(arrays.shapedirs[other] * MIRROR[:, None], arrays.shapedirs, atol=4e-5)
    np.testing.assert_allclose(model.rest()[1][SMPL24.mirror] * MIRROR, model.rest()[1], atol=1e-6)


def test_weights_are_smooth_and_few(model: BodyModel) -> None:
    weights, faces = model.arrays.weights, model.faces
    assert weights.min() >= 0 and ((weights > 0).sum(axis=1) <= MOST_JOINTS).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    a, b = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).T
    jump = abs(weights[a] - weights[b]).sum(axis=1) / 2
    assert jump.max() < 0.55 and np.quantile(jump, 0.99) < 0.4
    assert (weights.max(axis=0) > 0.85).all()  # every joint has a part of its own


def test_the_regressor_is_convex_and_finds_the_joints_of_every_shape(model: BodyModel) -> None:
    from pose3d_ros.mannequin.proportions import rest_joints

    regressor = model.arrays.regressor
    assert regressor.min() >= 0
    np.testing.assert_allclose(regressor.sum(axis=1), 1, atol=1e-6)
    wanted = rest_joints() - rest_joints()[0]
    np.testing.assert_allclose(model.rest()[1], wanted, atol=1e-5)
    np.testing.assert_allclose(model.rest([2.0])[1], wanted * (1 + 2 * STATURE_STEP), atol=1e-4)
    for component in range(len(COMPONENTS)):  # whatever the shape, joints stay inside and sides stay sides
        joints = model.rest(2.5 * np.eye(10)[component])[1]
        np.testing.assert_allclose(joints[0], 0, atol=1e-5)
        np.testing.assert_allclose(joints[SMPL24.mirror] * MIRROR, joints, atol=1e-4)


def test_shapes_do_what_their_names_say(model: BodyModel) -> None:
    def bodies(name: str) -> tuple[tuple[NDArray, NDArray], tuple[NDArray, NDArray]]:
        one = np.eye(10)[COMPONENTS.index(name)]
        return model.rest(-1.5 * one), model.rest(1.5 * one)

    def length(joints: NDArray, a: str, b: str) -> float:
        return float(np.linalg.norm(joints[SMPL24.index(a)] - joints[SMPL24.index(b)]))

    (small, _), (tall, _) = bodies('stature')
    assert height_of(tall) - height_of(small) == pytest.approx(3 * STATURE_STEP * 1.70, abs=1e-3)
    (thin, thin_joints), (stout, stout_joints) = bodies('girth')
    assert volume(stout, model.faces) > 1.4 * volume(thin, model.faces)
    assert height_of(stout) == pytest.approx(height_of(thin), abs=0.01)
    np.testing.assert_allclose(stout_joints, thin_joints, atol=0.03)
    (low, low_joints), (high, high_joints) = bodies('long legs, short trunk')
    assert length(high_joints, 'left_hip', 'left_ankle') > length(low_joints, 'left_hip', 'left_ankle') + 0.06
    assert height_of(high) == pytest.approx(height_of(low), abs=0.01)
    for name, ends, least in (('long arms', ('left_shoulder', 'left_wrist'), 0.05),
                              ('broad shoulders', ('left_shoulder', 'right_shoulder'), 0.06),
                              ('broad hips', ('left_hip', 'right_hip'), 0.015)):
        (_, before), (_, after) = bodies(name)
        assert length(after, *ends) > length(before, *ends) + least, name


@pytest.mark.parametrize('name', [name for name in POSES if name != 'rest'])
def test_poses_of_daily_life_keep_the_volume(model: BodyModel, name: str) -> None:
    vertices, _ = model.pose(pose(name)[None])
    assert volume(vertices[0], model.faces) == pytest.approx(volume(model.arrays.template, model.faces), rel=0.06)


@pytest.mark.parametrize(('joint', 'angles', 'least'), [
    ('left_elbow', (0, -120, 0), 0.6), ('left_elbow', (90, 0, 0), 0.75), ('left_knee', (110, 0, 0), 0.6),
    ('left_shoulder', (90, 0, 0), 0.75), ('right_shoulder', (0, 0, 70), 0.6),
])
def test_no_joint_collapses(model: BodyModel, joint: str, angles: tuple[float, float, float], least: float) -> None:
    """However a joint is bent or twisted, its skin stays away from it: no pinched elbow, no wrung shoulder."""
    def clearance(rotations: NDArray) -> float:
        vertices, joints = model.pose(rotations[None])
        return float(np.linalg.norm(vertices[0][ring] - joints[0, SMPL24.index(joint)], axis=1).mean())

    index = SMPL24.index(joint)
    share = model.arrays.weights[:, index]
    ring = (share > 0.25) & (share < 0.75) & (model.arrays.weights[:, model.parents[index]] > 0.2)
    assert ring.sum() > 10
    assert clearance(turns({joint: angles})) > least * clearance(turns({}))


def test_the_pictures_show_it(model: BodyModel, tmp_path: Path) -> None:
    front, back = (draw_mesh(model.arrays.template, model.faces, turned(angle), (120, 160), 2.0, (0, -0.08, 0))
                   for angle in (0, 180))
    covered = (front < 240).any(axis=-1)
    assert 0.06 < covered.mean() < 0.3
    assert (covered & ~covered[:, ::-1]).mean() < 0.01          # symmetric
    assert abs(front.astype(int) - back[:, ::-1]).max() > 20    # a front and a back
    assert main(['body-model', 'show', '--png', str(tmp_path / 'a.png'), '--json', str(tmp_path / 'a.json')]) == 0
    assert (tmp_path / 'a.png').stat().st_size > 10000 and '"vertices"' in (tmp_path / 'a.json').read_text()


def test_the_command_makes_the_file_that_ships(tmp_path: Path) -> None:
    assert MANNEQUIN.stat().st_size < 1.5e6
    assert main(['body-model', 'make', '--out', str(tmp_path / 'made.npz')]) == 0
    made, shipped = read_body_arrays(tmp_path / 'made.npz'), read_body_arrays(MANNEQUIN)
    np.testing.assert_array_equal(made.faces, shipped.faces)
    np.testing.assert_array_equal(made.parents, shipped.parents)
    # Not to the last bit: processors and versions of NumPy round differently.
    for name, tolerance in (('template', 1e-5), ('weights', 1e-4), ('regressor', 1e-5), ('shapedirs', 3e-5),
                            ('posedirs', 1e-3)):
        np.testing.assert_allclose(getattr(made, name), getattr(shipped, name), atol=tolerance, err_msg=name)
