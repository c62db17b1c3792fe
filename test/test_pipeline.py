"""The flow through the stages, with a detector that reports known people instead of looking at pixels."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic import CAMERA, body, placed, seen

from pose3d_ros.lift import Lifter
from pose3d_ros.pipeline import Pipeline
from pose3d_ros.records import Frame, GroundPlane, JointState
from pose3d_ros.refine import Refiner
from pose3d_ros.runtime.engine import Wanted
from pose3d_ros.track import Tracker


@pytest.fixture(scope='module')
def lifter():
    return Lifter.open(engines=Wanted(threads=1))


class Scripted:
    """Stands in for a detector: gives the people of the script, one list per frame."""

    def __init__(self, script):
        self.script = iter(script)
        self.resets = 0
        self.counters = {'frames': 0, 'lost': 0}

    def __call__(self, frame):
        return next(self.script)

    def reset(self):
        self.resets += 1


def frames(count):
    image = np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8)
    return [Frame(image, int(k * 1e9 / 30), CAMERA, 'camera') for k in range(count)]


def pipeline(script, lifter):
    return Pipeline(Scripted(script), Tracker(), lifter, Refiner())


def test_people_keep_their_id_from_detection_to_space(lifter):
    couple = [[seen(placed(body(k / 5), -1.0, 4.0)), seen(placed(body(k / 4), 1.0, 5.0))] for k in range(12)]
    for frame, result in zip(frames(12), map(pipeline(couple, lifter), frames(12)), strict=True):
        assert [person.id for person in result.people] == [person.id for person in result.people_2d] == [1, 2]
        assert set(result.stage_ms) == {'detect', 'track', 'lift', 'refine'}
        for person, ahead in zip(result.people, (4.0, 5.0), strict=True):
            assert abs(person.joint('pelvis')[2] / ahead - 1) < 0.3, frame.stamp_ns


def test_nobody_in_view_gives_nobody(lifter):
    result = pipeline([[]], lifter)(frames(1)[0])
    assert result.people == [] and result.people_2d == []


def test_joints_out_of_view_are_inferred_and_less_sure_through_all_stages(lifter):
    half = seen(placed(body(), 0.0, 3.0, camera_height=0.9))
    half = replace(half, pixels=half.pixels.copy(), rays=half.rays.copy())
    legs = half.skeleton.indices(['left_knee', 'right_knee', 'left_ankle', 'right_ankle'])
    half.pixels[legs] = np.nan
    half.rays[legs] = np.nan
    (person,) = pipeline([[half]], lifter)(frames(1)[0]).people
    assert np.isfinite(person.position).all() and np.isfinite(person.covariance).all()
    spread = np.trace(person.covariance - person.covariance[0], axis1=1, axis2=2)   # against the pelvis
    shown, gone = person.skeleton.index('left_wrist'), person.skeleton.indices(['left_knee', 'right_ankle'])
    assert person.joint_state[shown] == JointState.OBSERVED
    assert (person.joint_state[gone] == JointState.INFERRED).all() and (person.joint_confidence[gone] < 0.5).all()
    assert spread[person.skeleton.index('right_ankle')] > spread[shown]


def test_the_floor_of_a_frame_reaches_the_lifter_and_tells_how_tall_people_are(lifter):
    tall = [[seen(placed(1.06 * body(k / 3), 0.3, 4.0, camera_height=1.5))] for k in range(40)]
    floor = GroundPlane(np.array([0.0, -1.0, 0.0]), 1.5)
    told, asked, bare = [], [], pipeline(tall, lifter)

    class Listening(Lifter):
        def __call__(self, people, camera, stamp_ns, up=None):
            asked.append(up)
            return super().__call__(people, camera, stamp_ns, up)

    flow = pipeline(tall, Listening(lifter.engine))
    for frame in frames(40):
        (person,) = flow(replace(frame, ground=floor)).people
        (other,) = bare(frame).people
        told.append((person.height, person.height_sigma))
    assert all(up is floor.up for up in asked)
    assert (other.height, other.height_sigma) == (lifter.stature, lifter.stature_sigma)
    assert told[-1][0] > lifter.stature + 0.02 and told[-1][1] < lifter.stature_sigma
    assert abs(person.joint('pelvis')[2] - 4.0) < abs(other.joint('pelvis')[2] - 4.0)


def test_reset_reaches_the_stages_and_ids_go_on(lifter):
    someone = seen(placed(body(), 0.0, 4.0))
    flow = pipeline([[someone]] * 3, lifter)
    before = flow(frames(3)[2]).people[0].id
    flow.reset()
    after = flow(frames(1)[0]).people[0].id  # earlier than before: only a reset makes that right
    assert flow.detect.resets == 1
    assert after > before


def test_counters_tell_what_became_of_people(lifter):
    someone, dropped = seen(placed(body(), 0.0, 4.0)), lifter.dropped
    hand = replace(someone, pixels=someone.pixels.copy(), rays=np.full_like(someone.rays, np.nan))
    hand.pixels[:] = np.nan
    flow = pipeline([[someone, hand]], lifter)
    result = flow(frames(1)[0])
    assert len(result.people_2d) == 2 and len(result.people) == 1
    assert flow.counters == {'detect.lost': 0, 'ids_made': 2, 'swaps_corrected': 0, 'not_lifted': dropped + 1}
