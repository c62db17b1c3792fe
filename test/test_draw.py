from dataclasses import replace

import fakes
import numpy as np
import pytest

from pose3d_ros.draw import Bounds, draw_people, draw_scene, draw_view, person_distance, world_sides
from pose3d_ros.palette import LEFT, RIGHT, bone_color, joint_color
from pose3d_ros.records import JointState
from pose3d_ros.skeleton import HUMAN17

GREY = np.full((720, 1280, 3), 128, np.uint8)


def near(image, pixel, color, tolerance=40):
    """Return whether a colour (red, green, blue) is found within 6 px of a place."""
    x, y = np.round(pixel).astype(int)
    patch = image[max(y - 6, 0):y + 7, max(x - 6, 0):x + 7].astype(int)
    return bool((np.abs(patch - np.array(color[::-1])).max(axis=-1) < tolerance).any())


def test_the_skeleton_is_drawn_where_the_joints_are_in_the_colour_of_its_side():
    person = fakes.seen()
    drawn = draw_people(GREY, [person])
    for name, own, other in (('left_wrist', LEFT, RIGHT), ('right_knee', RIGHT, LEFT)):
        pixel = person.pixels[person.skeleton.index(name)]
        assert near(drawn, pixel, own) and not near(drawn, pixel, other)
    assert (GREY == 128).all()  # the image given is left alone


def test_nothing_is_drawn_for_missing_joints_and_people_without_any():
    person = fakes.seen()
    pixels = person.pixels.copy()
    gone = person.skeleton.index('left_wrist')
    before, pixels[gone] = pixels[gone].copy(), np.nan
    fingers = person.skeleton.indices(['left_index', 'left_pinky', 'left_thumb'])
    pixels[fingers] = np.nan
    assert not near(draw_people(GREY, [replace(person, pixels=pixels)]), before, LEFT)
    nobody = replace(person, pixels=np.full_like(pixels, np.nan))
    np.testing.assert_array_equal(draw_people(GREY, [nobody]), GREY)


@pytest.mark.parametrize('size', [(4, 4), (48, 64), (720, 1280), (2160, 3840)])
def test_any_size_of_image_and_any_place_can_be_drawn(size):
    image = np.zeros((*size, 3), np.uint8)
    person = fakes.seen()
    for pixels in (person.pixels, person.pixels * 1e6, -person.pixels, person.pixels * np.inf, person.pixels * 0):
        assert draw_people(image, [replace(person, pixels=pixels)], [fakes.standing()]).shape == image.shape


def test_the_distance_is_that_of_the_person_and_nan_for_nobody():
    assert person_distance(fakes.standing(x=3.0, z=4.0)) == pytest.approx(5.0, abs=0.1)
    assert np.isnan(person_distance(fakes.standing(missing=HUMAN17.joints)))


def test_the_scene_shows_people_to_scale_from_the_side_and_from_above():
    bounds = Bounds(np.array([-2.0, -1.5, 0.0]), np.array([2.0, 1.5, 5.0]))
    apart = [fakes.standing(x=-1.0, z=4.0), fakes.standing(x=1.0, z=2.0, id=2)]

    def columns(view, person, color):
        image = draw_view([person], view, (500, 500), bounds)
        hit = np.abs(image.astype(int) - np.array(color[::-1])).max(axis=-1) < 40
        return np.nonzero(hit)[1].mean(), np.nonzero(hit)[0].mean()

    side = [columns('side', person, LEFT) for person in apart]
    above = [columns('above', person, LEFT) for person in apart]
    assert side[0][0] - side[1][0] == pytest.approx(2 * 500 / 5, abs=6)       # 2 m farther: to the right; 5 m in 500 px
    across, up = above[1][0] - above[0][0], above[1][1] - above[0][1]
    assert 170 < across <= 206                                                # 2 m to the right; the title takes room
    assert up == pytest.approx(across, abs=6)                                 # farther is higher up, at the same scale


def test_joints_that_were_only_inferred_are_drawn_as_thin_lines():
    bounds = Bounds(np.array([-2.0, -1.5, 0.0]), np.array([2.0, 1.5, 5.0]))
    seen, guessed = fakes.standing(heading=1.5), fakes.standing(heading=1.5)
    legs = HUMAN17.indices(['left_knee', 'left_ankle'])
    guessed.joint_state[legs], guessed.joint_confidence[legs] = JointState.INFERRED, 0.0
    gone = fakes.standing(heading=1.5, missing=('left_knee', 'left_ankle'))

    def ink(person):
        return (draw_view([person], 'side', (900, 900), bounds).astype(int).sum(axis=-1) < 600).sum()

    assert ink(gone) < ink(guessed) < 0.5 * (ink(gone) + ink(seen))


def test_the_scene_has_the_size_asked_for_and_takes_nobody_and_nan():
    assert draw_scene([], (801, 401)).shape == (401, 801, 3)
    assert draw_scene([fakes.standing(missing=HUMAN17.joints)], (640, 320)).shape == (320, 640, 3)
    wild = fakes.standing()
    assert draw_scene([replace(wild, position=wild.position * 1e9)], (640, 320)).shape == (320, 640, 3)


def test_bounds_hold_all_joints_and_the_camera():
    people = [fakes.standing(x=-1.0, z=4.0)]
    bounds = Bounds.around(people)
    assert (bounds.low <= 0).all() and (bounds.high >= 0).all()
    assert (people[0].position >= bounds.low).all() and (people[0].position <= bounds.high).all()


def test_colours_go_by_side():
    index = HUMAN17.index
    assert joint_color(HUMAN17, index('left_knee')) == LEFT
    assert bone_color(HUMAN17, index('pelvis'), index('right_hip')) == RIGHT
    assert bone_color(HUMAN17, index('left_hip'), index('right_hip')) == bone_color(HUMAN17, index('pelvis'),
                                                                                     index('spine'))


@pytest.mark.parametrize('up', [(0, 0, 1), (0, 0, -1), (0, 1, 0), (0, -1, 0), (1, 0, 0), (-1, 0, 0),
                                (0.1, -0.97, 0.2)])
def test_the_sides_of_a_world_are_those_of_somebody_who_stands_in_it(up):
    sides = world_sides(np.array(up, float))

    def axes(side):
        return (sign * np.eye(3)[axis] for axis, sign in zip(side.axes, side.signs))

    right, ahead = axes(sides['above'])
    vertical = np.round(up)
    np.testing.assert_array_equal(np.cross(right, ahead), vertical)  # not a mirror image
    across, upwards = axes(sides['side'])
    np.testing.assert_array_equal(upwards, vertical)
    np.testing.assert_array_equal(across, right)


def test_cameras_stand_in_the_plan_where_they_are():
    bounds = Bounds(np.full(3, -3.0), np.full(3, 3.0))
    above = world_sides(np.array([0.0, 0.0, 1.0]))['above']
    pose = np.eye(4)  # at (2, -1, 0), looks along y
    pose[:3, :3] = [[1, 0, 0], [0, 0, -1], [0, 1, 0]]
    pose[:3, 3] = -pose[:3, :3] @ [2.0, -1.0, 0.0]
    plain, with_camera = (draw_view([], above, (600, 632), bounds, cameras)[-600:] for cameras in ({}, {'': pose}))
    changed = (plain != with_camera).any(axis=-1)
    rows, columns = np.nonzero(changed)
    assert columns.mean() == pytest.approx(500, abs=2)
    assert rows.max() == pytest.approx(400, abs=3)  # the eye, from which the wedge opens ahead: upwards
    assert changed[rows.min() + 2].sum() > 10 > changed[rows.max() - 2].sum() > 0
