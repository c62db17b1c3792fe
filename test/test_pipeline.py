"""The flow through the stages, with a detector that reports known people instead of looking at pixels."""

from dataclasses import replace

import drawn_people
import numpy as np
import pytest
from drawn_people import Drawn, draw
from echo_lifter import SHA256, SHOWN, write_echo
from synthetic import CAMERA, body, placed, seen
from walkers import hide

from pose3d_ros.detect import Detector
from pose3d_ros.draw import draw_people, draw_scene
from pose3d_ros.lift import Lifter
from pose3d_ros.pipeline import Pipeline, run_together
from pose3d_ros.records import Frame, GroundPlane, JointState, Person2D
from pose3d_ros.refine import Refiner
from pose3d_ros.runtime import opening
from pose3d_ros.runtime.engine import EngineError, Wanted
from pose3d_ros.skeleton import BLAZEPOSE33, COCO17, LIMBS12, Skeleton, select
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


# A skeleton of somebody's own: few joints, one of one side only, some that nobody else has, and no bones.
OWN = Skeleton('own', ('head_top', 'left_shoulder', 'right_shoulder', 'left_hand', 'left_hip', 'right_hip',
                       'right_knee', 'left_big_toe', 'right_big_toe'), ())


def in_joints_of(skeleton: Skeleton, person: Person2D) -> Person2D:
    """Return the person as a detector of this skeleton sees it: joints of its own lie on the nose, without depth."""
    nose = person.skeleton.index('nose')

    def chosen(values, axis):
        picked = select(values, person.skeleton, skeleton, axis)
        missing = np.array([joint not in person.skeleton.joints for joint in skeleton.joints])
        picked[missing] = values[nose]
        return picked

    return replace(person, skeleton=skeleton, pixels=chosen(person.pixels, -2), rays=chosen(person.rays, -2),
                   sigma=chosen(person.sigma, -1), joint_confidence=chosen(person.joint_confidence, -1),
                   depth=np.full(len(skeleton), np.nan))


@pytest.mark.parametrize('skeleton', [COCO17, LIMBS12, OWN], ids=lambda skeleton: skeleton.name)
def test_people_in_any_skeleton_flow_through_all_stages(lifter, skeleton):
    walk = [[in_joints_of(skeleton, seen(placed(body(k / 4), -1.0 + 0.02 * k, 4.0)))] for k in range(20)]
    walk[10] = [walk[10][0].mirrored()]
    flow = pipeline(walk, lifter)
    for k, frame in enumerate(frames(20)):
        result = flow(frame)
        (flat,), (person,) = result.people_2d, result.people
        assert flat.id == person.id == 1 and flat.skeleton is skeleton and flat.swapped == (k == 10)
        assert np.isfinite(person.position).all() and np.isfinite(person.covariance).all()
        # The sides are again those of the scene: towards the camera, the left is on the right of the image.
        assert person.joint('left_shoulder')[0] > person.joint('right_shoulder')[0]
        assert abs(person.joint('pelvis')[2] / 4.0 - 1) < 0.3
    assert draw_people(frame.image, result.people_2d, result.people).any() and draw_scene(result.people).any()


@pytest.mark.parametrize('spared', [True, False])
def test_bodies_flow_through_all_stages_and_who_gets_none_is_counted(tmp_path, spared):
    opened = Lifter.open(write_echo(tmp_path / 'echo.onnx'), Wanted('cpu', threads=1))
    flow = pipeline([[seen(placed(body(k / 4), -1.0 + 0.02 * k, 4.0)),
                      hide(seen(placed(body(k / 4), 1.0, 4.0)), 'ear')] for k in range(5)],
                    opened if spared else Lifter(opened.engine))
    assert flow.body_model == ('mannequin', SHA256)
    for frame in frames(5):
        result = flow(frame)
        person, *others = result.people
        assert len(result.people_2d) == 2 and person.id == 1
        assert [(other.id, other.body) for other in others] == [(2, None)] * spared
        assert all(abs(other.joint('pelvis')[2] / 4.0 - 1) < 0.3 and other.height == person.height for other in others)
        # The echo's pelvis joint is the newest ray of a shoulder, (x, y, confidence), beyond the root.
        shoulder = result.people_2d[0].rays[BLAZEPOSE33.index(SHOWN)]
        np.testing.assert_allclose(person.joint('pelvis') - person.body.root + [0.1, 0, 0], [*shoulder, 0.9], atol=1e-5)
    assert (flow.counters['not_lifted'], flow.counters['lifted_without_body']) == ((0, 5) if spared else (5, 0))
    assert pipeline([], Lifter.open(engines=Wanted('cpu', threads=1))).body_model is None


def test_a_group_shares_the_spare_network_too_and_each_camera_has_its_own_past(monkeypatch, tmp_path):
    closed = []

    class Opened:
        """An engine, and what is closed."""

        def __init__(self, path, wanted, **options):
            self._engine = open_engine(path, wanted, **options)

        def __getattr__(self, name):
            return getattr(self._engine, name)

        def close(self):
            closed.append(self)

    open_engine = opening.open_engine
    monkeypatch.setattr(opening, 'open_engine', Opened)
    monkeypatch.setattr(Detector, 'open_group', lambda count, *_, settings, search: [
        drawn_people.detector() for _ in range(count)])
    group = Pipeline.open_group(2, lifter=str(write_echo(tmp_path / 'echo.onnx')), stature=1.8,
                                engines=Wanted('cpu', threads=1))
    first, second = (flow.engines for flow in group)
    assert list(first) == ['search', 'landmarks', 'lift', 'lift_spare']
    assert all(first[name] is second[name] for name in ('lift', 'lift_spare'))
    half = [hide(replace(seen(placed(body(k / 4), 0.05 * k, 4.0)), id=1), 'ear') for k in range(20)]
    for k, person in enumerate(half):
        group[0].lift([person], CAMERA, int(k * 1e9 / 30))
        (alone,) = group[1].lift([replace(person, id=k + 2)], CAMERA, int(k * 1e9 / 30))    # a stranger each time
    (known,) = group[1].lift([half[-1]], CAMERA, int(1e9))
    np.testing.assert_allclose(known.position, alone.position, atol=1e-9)
    assert alone.height == 1.8 and group[0].lift.spared == 20
    group[0].close()
    assert not closed
    group[1].close()
    assert closed == [first['lift'], first['lift_spare']]


def drawn(count, lifter, shared=True):
    """Return pipelines of detectors that see drawn people: sharing their networks, or each with its own."""
    networks = drawn_people.networks()
    lifters = [Lifter(lifter.engine) for _ in range(count)]
    return [Pipeline(Detector(networks if shared else drawn_people.networks()), Tracker(), each, Refiner())
            for each in lifters]


def test_pipelines_of_a_group_give_what_each_gives_alone(lifter):
    group, alone = drawn(2, lifter), drawn(2, lifter, shared=False)
    for k in range(8):
        views = [replace(draw([Drawn(400 + 10 * k + 300 * camera, 360)]), stamp_ns=int(k * 1e9 / 30))
                 for camera in range(2)]
        if k == 5:  # the second camera's clock begins anew: nothing is computed until it is reset
            views[1] = replace(views[1], stamp_ns=0)
            before = group[0].counters
            with pytest.raises(ValueError, match='time went back'):
                run_together(group, views)
            assert group[0].counters == before
            group[1].reset()
            alone[1].reset()
        if k > 5:
            views[1] = replace(views[1], stamp_ns=views[1].stamp_ns - int(5e9 / 30))
        for result, flow, view in zip(run_together(group, views), alone, views, strict=True):
            (person,), (other,) = result.people, flow(view).people
            assert person.id == other.id
            np.testing.assert_allclose(person.position, other.position, atol=1e-9)
    with pytest.raises(ValueError, match='1 frames for 2'):
        run_together(group, views[:1])


def test_networks_of_a_group_are_those_of_its_first_and_end_with_its_last(monkeypatch, lifter):
    closed = []

    class Counting:
        inputs, outputs, metadata = lifter.engine.inputs, lifter.engine.outputs, lifter.engine.metadata
        input_shapes = lifter.engine.input_shapes

        def close(self):
            closed.append(self)

    monkeypatch.setattr(Detector, 'open_group', lambda count, *_, settings, search: [
        drawn_people.detector() for _ in range(count)])
    monkeypatch.setattr(Lifter, 'open', lambda path, engines, stature, most: Lifter(Counting(), stature))
    first, second = Pipeline.open_group(2, stature=1.8)
    assert first.engines['lift'] is second.engines['lift'] and second.lift.stature == first.lift.stature == 1.8
    assert first.skeleton.name == 'blazepose33'
    first.close()
    first.close()
    assert not closed
    second.close()
    assert len(closed) == 1


def test_a_lifter_that_cannot_be_opened_leaves_no_detector_open(monkeypatch):
    stage = drawn_people.detector()

    def failing(*_, **__):
        raise EngineError('no weights')

    monkeypatch.setattr(Detector, 'open_group', lambda *_, **__: [stage])
    monkeypatch.setattr(Lifter, 'open', failing)
    with pytest.raises(EngineError, match='no weights'):
        Pipeline.open()
    assert [engine.closed for engine in stage.engines.values()] == [1, 1]
