import fakes
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pose3d_ros.pelvis import body_axes, pelvis_frame


def moved(person, rotation, translation):
    return type(person)(**{**person.__dict__, 'position': person.position @ rotation.T + translation,
                           'covariance': rotation @ person.covariance @ rotation.T})


def test_a_person_facing_the_camera_has_the_chest_towards_it_and_the_spine_up():
    frame = pelvis_frame(fakes.standing(0.4, 3.0, heading=0.0))
    out_of_the_chest, left, up = frame.rotation.T
    np.testing.assert_allclose(out_of_the_chest, (0, 0, -1), atol=1e-9)  # optical frame: z points away from the camera
    np.testing.assert_allclose(left, (1, 0, 0), atol=1e-9)               # the person's left is right in the image
    np.testing.assert_allclose(up, (0, -1, 0), atol=1e-9)
    np.testing.assert_allclose(frame.position, fakes.standing(0.4, 3.0).joint('pelvis'))


def test_the_frame_turns_and_moves_with_the_person():
    rng = np.random.default_rng(0)
    person = fakes.standing()
    at_rest = pelvis_frame(person)
    for _ in range(20):
        rotation, translation = Rotation.random(random_state=rng).as_matrix(), rng.normal(0, 2, 3)
        frame = pelvis_frame(moved(person, rotation, translation))
        np.testing.assert_allclose(frame.rotation, rotation @ at_rest.rotation, atol=1e-9)
        np.testing.assert_allclose(frame.position, rotation @ at_rest.position + translation, atol=1e-9)
        for block in (slice(0, 3), slice(3, 6)):
            np.testing.assert_allclose(frame.covariance[block, block],
                                       rotation @ at_rest.covariance[block, block] @ rotation.T, atol=1e-12)
        np.testing.assert_allclose(Rotation.from_quat(frame.quaternion).as_matrix(), frame.rotation, atol=1e-9)


def test_without_a_hip_the_pelvis_keeps_its_position_but_has_no_rotation():
    frame = pelvis_frame(fakes.standing(missing=('left_hip',)))
    assert np.isfinite(frame.position).all() and np.isfinite(frame.covariance[:3, :3]).all()
    assert np.isnan(frame.rotation).all() and np.isnan(frame.quaternion).all()
    assert np.isnan(frame.covariance[3:]).all() and np.isnan(frame.covariance[:, 3:]).all()


def test_without_the_pelvis_the_middle_of_the_hips_stands_in():
    whole, without = fakes.standing(), fakes.standing(missing=('pelvis', 'spine'))
    np.testing.assert_allclose(pelvis_frame(without).position, pelvis_frame(whole).position, atol=1e-9)
    np.testing.assert_allclose(pelvis_frame(without).rotation, pelvis_frame(whole).rotation, atol=1e-9)


def test_a_person_without_a_trunk_is_nowhere():
    frame = pelvis_frame(fakes.standing(missing=('pelvis', 'left_hip', 'right_hip')))
    assert np.isnan(frame.position).all() and np.isnan(frame.covariance).all()


@pytest.mark.parametrize('spine, hips', [((0, 0, 0), (1, 0, 0)), ((0, 1, 0), (0, 0, 0)), ((0, 1, 0), (0, 0.3, 0)),
                                         ((np.nan, 1, 0), (1, 0, 0))])
def test_what_is_no_body_has_no_axes(spine, hips):
    assert np.isnan(body_axes(np.array(spine, float), np.array(hips, float))).all()


def test_the_rotation_covariance_agrees_with_sampling():
    rng = np.random.default_rng(1)
    person = fakes.standing(heading=0.7)
    frame = pelvis_frame(person)
    pelvis, spine = person.joint('pelvis'), person.joint('spine')
    left, right = person.joint('left_hip'), person.joint('right_hip')
    turns = []
    for _ in range(4000):  # the covariance of fakes: 2 cm of each joint's own on top of what the pelvis has
        noise = rng.normal(0, 0.02, (3, 3))
        rotation = body_axes(spine + noise[0] - pelvis, left + noise[1] - right - noise[2])
        turns.append(Rotation.from_matrix(rotation @ frame.rotation.T).as_rotvec())
    np.testing.assert_allclose(np.cov(np.array(turns).T), frame.covariance[3:, 3:], atol=2.5e-3)
