"""The detector's conduct on drawn people, with stand-ins for both networks (drawn_people.py)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drawn_people import Drawn, Landmarks, Search, detector, draw

from pose3d_ros.detect import Detector, DetectSettings, anchors
from pose3d_ros.detect.blazepose import BlazePoseReader
from pose3d_ros.detect.networks import Networks
from pose3d_ros.detect.search import BlazePoseFinder, hide
from pose3d_ros.skeleton import BLAZEPOSE33, COCO17, HUMAN17, LIMBS12, Skeleton


def errors(person, drawn: Drawn) -> np.ndarray:
    return np.linalg.norm(person.pixels - drawn.joints, axis=1)


@pytest.mark.parametrize('drawn', [Drawn(300, 350), Drawn(1100, 500, 60), Drawn(640, 380, 330),
                                   Drawn(640, 400, 200, 0.7), Drawn(500, 300, 100, -1.2)])
def test_a_person_is_found_on_the_first_frame_with_joints_in_place(drawn):
    [person] = detector()(draw([drawn]))
    assert errors(person, drawn).max() < 0.02 * drawn.radius + 2.0
    np.testing.assert_allclose(person.rays[0], (person.pixels[0] - [640, 360]) / 1280)
    assert (person.joint_confidence > 0.5).all() and (person.sigma > 0.0).all() and person.confidence > 0.9
    low, high = drawn.joints.min(axis=0), drawn.joints.max(axis=0)
    np.testing.assert_allclose(person.box, [*low, *high], atol=0.02 * drawn.radius + 2.0)


def test_depth_is_in_pixels_of_the_image():
    near, far = (detector()(draw([Drawn(640, 360, radius)]))[0] for radius in (300, 100))
    left = BLAZEPOSE33.index('left_wrist')
    assert near.depth[left] > 0 > near.depth[BLAZEPOSE33.index('right_wrist')]
    np.testing.assert_allclose(near.depth, 3.0 * far.depth, rtol=0.05, atol=1.0)


def test_a_person_is_followed_through_motion_at_a_bounded_price():
    stage = detector(search_period=10)
    stage(draw([Drawn(200, 360)]))
    all_tiles = stage.counters['tiles']
    for step in range(1, 40):
        drawn = Drawn(200 + 10 * step, 360 - 2 * step, 150 - step, 0.02 * step)
        [person] = stage(draw([drawn]))
        assert errors(person, drawn).max() < 5.0
        searched = stage.counters['tiles'] - all_tiles
        assert searched <= step * len(stage._rounds.visits) / 10 + 1
    assert stage.counters['lost'] == 0 and stage.counters['found'] == 1
    assert max(stage.engines['landmarks'].batches) == 1


def test_portions_of_the_search_are_even_and_one_period_covers_everything():
    stage = detector(search_period=7)
    counts = []
    for _ in range(15):
        stage(draw([]))
        counts.append(stage.counters['tiles'])
    portions = np.diff(counts)
    assert portions.max() - portions.min() <= 1
    assert portions[:7].sum() == portions[7:14].sum() == len(stage._rounds.visits) >= counts[0]


@pytest.mark.parametrize('drawn', [Drawn(100, 200, 70), Drawn(1200, 600, 62), Drawn(640, 360, 340)])
def test_a_newcomer_is_found_within_one_period(drawn):
    stage = detector(search_period=9)
    assert stage(draw([])) == []
    waits = [bool(stage(draw([drawn]))) for _ in range(9)]
    assert waits[-1] and stage.counters['found'] == 1


def test_somebody_small_beside_somebody_large_is_found():
    stage = detector(search_period=9)
    pair = [Drawn(500, 380, 300), Drawn(900, 380, 80)]
    for _ in range(10):
        found = stage(draw(pair))
    assert len(found) == 2
    for drawn in pair:
        assert min(errors(person, drawn).max() for person in found) < 8.0


class ReaderOf(BlazePoseReader):
    """Reads the joints of another skeleton, without depth."""

    def __init__(self, skeleton: Skeleton) -> None:
        super().__init__(Landmarks())
        self.skeleton = skeleton

    def __call__(self, views):
        chosen = BLAZEPOSE33.indices(self.skeleton.joints)
        return [replace(poses, pixels=poses.pixels[:, chosen], confidence=poses.confidence[:, chosen],
                        sigma=poses.sigma[:, chosen], depth=np.full((len(poses), len(chosen)), np.nan))
                for poses in super().__call__(views)]


@pytest.mark.parametrize('skeleton', [COCO17, LIMBS12, Skeleton('few', (
    'left_shoulder', 'right_shoulder', 'left_hip', 'right_hip', 'left_ankle', 'right_ankle'), ())],
    ids=lambda skeleton: skeleton.name)
def test_people_are_found_and_followed_in_any_skeleton(skeleton):
    stage = Detector(Networks(ReaderOf(skeleton), BlazePoseFinder(Search())), DetectSettings(search_period=9))
    for step in range(12):
        pair = [Drawn(500 + 4 * step, 380, 300), Drawn(900, 380, 80)]
        found = stage(draw(pair))
    assert len(found) == 2 and stage.skeleton is skeleton and stage.counters['lost'] == 0
    for drawn in pair:
        joints = drawn.joints[BLAZEPOSE33.indices(skeleton.joints)]
        assert min(np.linalg.norm(person.pixels - joints, axis=1).max() for person in found) < 8.0
    assert all(np.isnan(person.depth).all() and person.skeleton is skeleton for person in found)


@pytest.mark.parametrize('skeleton', [BLAZEPOSE33, COCO17, HUMAN17, LIMBS12, Skeleton(
    'own', ('left_shoulder', 'right_shoulder', 'left_hip', 'tail'), ()), Skeleton('ends', ('hand', 'foot'), ())],
    ids=lambda skeleton: skeleton.name)
def test_who_is_known_is_painted_over_and_the_rest_of_the_crop_is_not(skeleton):
    rng = np.random.default_rng(0)
    body = rng.uniform(80, 140, (len(skeleton), 2))
    crop = np.zeros((224, 224, 3), np.uint8)
    hide(crop, body[None], skeleton)
    trunk = [place for place, joint in zip(body, skeleton.joints, strict=True) if 'hip' in joint or 'shoulder' in joint]
    for x, y in np.round([*trunk, np.mean(trunk or body, axis=0)]).astype(int):
        assert (crop[y, x] == 128).all()
    assert not crop[:60].any() and not crop[165:].any() and not crop[:, :60].any() and not crop[:, 165:].any()


def test_all_people_of_a_frame_are_read_in_one_call():
    stage = detector()
    crowd = [Drawn(x, 360, 120) for x in (200, 500, 800, 1100)]
    for _ in range(16):
        found = stage(draw(crowd))
    assert len(found) == 4
    stage.engines['landmarks'].batches.clear()
    stage(draw(crowd))
    assert stage.engines['landmarks'].batches == [4]


def test_a_loss_starts_one_sweep_at_once_and_the_place_is_watched():
    stage = detector(search_period=12)
    for _ in range(20):
        stage(draw([Drawn(300, 360)]))
    before = stage.counters['tiles']
    assert stage(draw([])) == []
    assert stage.counters['lost'] == 1 and stage.counters['tiles'] - before >= len(stage._rounds.tiles)
    for _ in range(5):
        before = stage.counters['tiles']
        assert stage(draw([])) == []
        assert stage.counters['tiles'] - before <= len(stage._rounds.tiles) / 12 + 2
    stage(draw([Drawn(310, 355)]))  # back where it was lost: searched now, seen with the next frame
    [person] = stage(draw([Drawn(310, 355)]))
    assert errors(person, Drawn(310, 355)).max() < 5.0


def test_losses_in_every_frame_do_not_cost_a_sweep_each():
    stage = detector(search_period=10)
    everything = None
    for step in range(60):
        stage(draw([Drawn(640, 360)] if step % 2 else []))
        everything = everything or stage.counters['tiles']
    assert stage.counters['tiles'] <= everything * (1 + 60 / 10 + 60 / 10) + 60


def test_nobody_in_view_costs_the_portion_only():
    stage = detector(search_period=10)
    for _ in range(31):
        assert stage(draw([])) == []
    rounds = stage._rounds
    assert stage.counters['regions'] == 0
    assert stage.counters['tiles'] == len(rounds.tiles) + 3 * len(rounds.visits)  # the first frame, then three rounds


def test_two_people_who_cross_stay_at_most_two_and_are_two_again():
    stage = detector(search_period=8)
    for step in range(60):
        pair = [Drawn(300 + 12 * step, 360, 150), Drawn(1000 - 12 * step, 350, 130)]
        found = stage(draw(pair))
        assert len(found) <= 2
    assert len(found) == 2


def test_presence_has_hysteresis():
    stage = detector(presence_threshold=0.5, keep_presence=0.2)
    stage.engines['landmarks'].presence = 0.3
    assert stage(draw([Drawn(640, 360)])) == []
    stage.reset()
    stage.engines['landmarks'].presence = 0.6
    assert len(stage(draw([Drawn(640, 360)]))) == 1
    stage.engines['landmarks'].presence = 0.3
    assert len(stage(draw([Drawn(640, 360)]))) == 1
    stage.engines['landmarks'].presence = 0.1
    assert stage(draw([Drawn(640, 360)])) == []
    assert stage.counters['lost'] == 1 and stage.counters['refused'] >= 1


def test_joints_out_of_the_image_are_unknown_and_never_at_its_edge():
    drawn = Drawn(1240, 420, 200)  # the right of the image cuts the body's left side off
    [person] = detector()(draw([drawn]))
    outside = drawn.joints[:, 0] > 1285
    inside = drawn.joints[:, 0] < 1275
    assert outside.any() and inside.any()
    for values in (person.pixels[:, 0], person.rays[:, 0], person.sigma, person.joint_confidence, person.depth):
        assert np.isnan(values[outside]).all() and np.isfinite(values[inside]).all()
    assert errors(person, drawn)[inside].max() < 6.0
    assert 0 <= person.box[0] < person.box[2] <= 1280 and 0 <= person.box[1] < person.box[3] <= 720


def test_a_person_who_walks_out_is_dropped():
    stage = detector()
    for step in range(60):
        found = stage(draw([Drawn(1000 + 10 * step, 360)]))
    assert found == [] and stage.counters['lost'] == 1


@pytest.mark.parametrize('size', [(1, 1), (3, 2), (30, 30), (2000, 5), (5, 2000), (7680, 4320)])
def test_any_size_of_image_works(size):
    stage = detector()
    for _ in range(3):
        assert stage(draw([], *size)) == []


def test_a_person_in_an_8k_image_is_found():
    drawn = Drawn(5000, 2500, 500)
    [person] = detector()(draw([drawn], 7680, 4320))
    assert errors(person, drawn).max() < 20.0


def test_another_size_of_image_starts_anew():
    stage = detector()
    assert len(stage(draw([Drawn(640, 360)]))) == 1
    assert len(stage(draw([Drawn(240, 300)], 640, 640))) == 1
    assert stage.counters['found'] == 2


def test_reset_forgets_and_repeats_exactly():
    stage = detector()
    first = stage(draw([Drawn(640, 360)]))
    stage(draw([Drawn(650, 360)]))
    stage.reset()
    again = stage(draw([Drawn(640, 360)]))
    np.testing.assert_array_equal(first[0].pixels, again[0].pixels)


def test_no_more_than_max_people_the_largest_first():
    stage = detector(max_people=2)
    crowd = [Drawn(x, 360, radius) for x, radius in ((200, 120), (500, 150), (800, 130), (1100, 90))]
    for _ in range(20):
        found = stage(draw(crowd))
        assert len(found) == 2
        assert max(min(errors(person, drawn).max() for person in found) for drawn in crowd[1:3]) < 5.0
    before = stage.counters['tiles']
    stage(draw(crowd))
    assert stage.counters['tiles'] == before  # nobody else is looked for


@pytest.mark.parametrize('wrong', [{'search_period': 0}, {'min_person_height': 0.0}, {'max_people': 0},
                                   {'detection_threshold': 1.0}, {'presence_threshold': 1.5}, {'keep_presence': 0.9},
                                   {'keep_confidence': 0.7}, {'merge_similarity': 0.0}])
def test_settings_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DetectSettings(**wrong)


def test_an_unknown_model_is_refused():
    with pytest.raises(ValueError, match='lite, full, heavy'):
        Detector.open('huge')


def test_a_network_that_overflows_sees_nobody():
    stage = detector()
    assert len(stage(draw([Drawn(640, 360)]))) == 1
    whole = stage.engines['landmarks'].run
    for name in ('landmarks', 'presence', 'heatmap'):
        def broken(inputs, name=name):
            outputs = whole(inputs)
            outputs[name] = np.full_like(outputs[name], np.nan)
            return outputs

        stage.engines['landmarks'].run = broken
        assert stage(draw([Drawn(640, 360)])) == []
        stage.engines['landmarks'].run = whole
        stage.reset()
        assert len(stage(draw([Drawn(640, 360)]))) == 1
    boxes, scores = np.full((1, 2254, 12), np.inf, np.float32), np.full((1, 2254, 1), 5.0, np.float32)
    assert len(anchors.decode(boxes, scores, 0.5)[0]) == 0
