"""The detector's conduct on drawn people, with stand-ins for both networks that see nothing but the drawing.

A drawn person is a red disc at the middle of the hips and a green one of the same size above the head, at the radius of
the body's circle. The stand-in for the search answers, as the real one, for the largest person in a tile only.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import pytest

from pose3d_ros.camera import Camera
from pose3d_ros.detect import Detector, DetectSettings, anchors, blazepose, people
from pose3d_ros.detect.anchors import Finds
from pose3d_ros.detect.blazepose import Poses
from pose3d_ros.records import Frame
from pose3d_ros.skeleton import BLAZEPOSE33, LIMBS12

DISC = 0.1  # radius of the discs over the radius of the body's circle
# A standing body in units of that radius, x to the image's right and y down from the mid-hip, left side of the body
# to the right of the image.
BODY = {'nose': (0, -0.8), 'left_eye': (0.04, -0.84), 'left_ear': (0.08, -0.82), 'left_mouth': (0.03, -0.75),
        'left_shoulder': (0.2, -0.6), 'left_elbow': (0.3, -0.3), 'left_wrist': (0.32, 0.0), 'left_hip': (0.12, 0.0),
        'left_knee': (0.13, 0.45), 'left_ankle': (0.14, 0.88), 'left_heel': (0.13, 0.93),
        'left_foot_index': (0.2, 0.95), 'left_pinky': (0.33, 0.05), 'left_index': (0.34, 0.06),
        'left_thumb': (0.3, 0.05)}
BODY.update({'left_eye_inner': (0.02, -0.84), 'left_eye_outer': (0.06, -0.84)})
BODY.update({name.replace('left', 'right'): (-x, y) for name, (x, y) in BODY.items() if name.startswith('left')})
TEMPLATE = np.array([BODY[name] for name in BLAZEPOSE33.joints])


@dataclass(frozen=True)
class Drawn:
    """A drawn person: the mid-hip in px, the radius of the circle in px, the lean in rad."""

    x: float
    y: float
    radius: float = 150.0
    lean: float = 0.0

    def place(self, points: np.ndarray) -> np.ndarray:
        cos, sin = np.cos(self.lean), np.sin(self.lean)
        return np.array([self.x, self.y]) + self.radius * points @ np.array([[cos, sin], [-sin, cos]])

    @property
    def joints(self) -> np.ndarray:
        return self.place(TEMPLATE)


def draw(drawn: list[Drawn], width: int = 1280, height: int = 720) -> Frame:
    image = np.zeros((height, width, 3), np.uint8)
    for person in drawn:
        for point, colour in (((0, 0), (0, 0, 255)), ((0, -1), (0, 255, 0))):
            centre = tuple(int(round(v * 16)) for v in person.place(np.array(point, float)))
            cv2.circle(image, centre, int(DISC * person.radius * 16), colour, -1, cv2.LINE_AA, 4)
    return Frame(image, 0, Camera(width, height, width, width, width / 2, height / 2))


def seen_in(planes: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Return hip, rim (px of the crop) and radius of the drawn people of a crop (3, S, S) in 0..1, largest first."""
    discs = []
    for plane in planes[:2]:
        count, _, stats, centres = cv2.connectedComponentsWithStats((plane > 0.7).astype(np.uint8))
        discs.append([(centres[i], np.sqrt(stats[i, cv2.CC_STAT_AREA] / np.pi)) for i in range(1, count)])
    found = []
    for hip, size in discs[0]:
        for rim, other in discs[1]:
            radius = np.linalg.norm(rim - hip)
            if 0.75 < size / other < 1.33 and 0.8 < size / (DISC * radius) < 1.25:
                found.append((hip, rim, radius))
    return sorted(found, key=lambda seen: -seen[2])


@dataclass
class Search:
    """Sees the largest person of a tile, if it is large enough."""

    provider: str = 'none'
    tiles: int = 0

    def run(self, inputs):
        batch = inputs['image']
        assert batch.dtype == np.float32 and batch.shape[1:] == (3, 224, 224) and np.abs(batch).max() <= 1.0
        self.tiles += len(batch)
        boxes, scores = zip(*(self.answer((planes + 1.0) / 2.0) for planes in batch))
        return {'boxes': np.stack(boxes), 'scores': np.stack(scores)}

    def answer(self, planes):
        seen = [person for person in seen_in(planes) if 2.0 * person[2] >= 0.38 * 224]
        if not seen:
            return anchors.encode(Finds.none(), np.zeros(0, int))
        hip, rim, _ = seen[0]
        points = np.stack([hip, rim, rim, rim])[None] / 224
        box = np.concatenate([points[0, 1] - 0.1, points[0, 1] + 0.1])[None]
        return anchors.encode(Finds(box, points, np.array([0.9])), np.array([100]))


@dataclass
class Landmarks:
    """Sees the person nearest to the middle of a region; `doubtful` lowers the presence it gives."""

    provider: str = 'none'
    batches: list[int] = field(default_factory=list)
    presence: float = 0.99

    def run(self, inputs):
        batch = inputs['image']
        assert batch.dtype == np.float32 and batch.shape[1:] == (3, 256, 256) and batch.min() >= 0.0
        self.batches.append(len(batch))
        outputs = [self.answer(planes) for planes in batch]
        return {name: np.stack([output[name] for output in outputs]) for name in outputs[0]}

    def answer(self, planes):
        points = np.full((39, 5), 5.0, np.float32)
        heat = np.full((39, 64, 64), -10.0, np.float32)
        seen = min(seen_in(planes), key=lambda person: np.linalg.norm(person[0] - 128.0), default=None)
        if seen is None:
            points[:] = 0.0
            points[:, :2] = 128.0
            return {'landmarks': points.reshape(-1), 'presence': np.array([0.01], np.float32), 'heatmap': heat}
        hip, rim, radius = seen
        lean = np.arctan2(rim[0] - hip[0], hip[1] - rim[1])
        points[:33, :2] = Drawn(*hip, radius, lean).joints
        points[33:35, :2] = hip, rim
        points[:33, 2] = 100.0 * TEMPLATE[:, 0]
        cells = 4.0 * np.arange(64)
        squared = ((cells - points[:, None, None, 0]) ** 2 + (cells[:, None] - points[:, None, None, 1]) ** 2)
        return {'landmarks': points.reshape(-1), 'presence': np.array([self.presence], np.float32),
                'heatmap': (2.0 - squared / 15.0).astype(np.float32)}


def detector(**settings) -> Detector:
    return Detector(Search(), Landmarks(), DetectSettings(**settings))


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
        assert searched <= step * all_tiles / 10 + 1
    assert stage.counters['lost'] == 0 and stage.counters['found'] == 1
    assert max(stage._landmarks.engine.batches) == 1


def test_portions_of_the_search_are_even_and_one_period_covers_everything():
    stage = detector(search_period=7)
    counts = []
    for _ in range(15):
        stage(draw([]))
        counts.append(stage.counters['tiles'])
    portions = np.diff(counts)
    assert portions.max() - portions.min() <= 1
    assert portions[:7].sum() == portions[7:14].sum() == counts[0]


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


def test_all_people_of_a_frame_are_read_in_one_call():
    stage = detector()
    crowd = [Drawn(x, 360, 120) for x in (200, 500, 800, 1100)]
    for _ in range(16):
        found = stage(draw(crowd))
    assert len(found) == 4
    stage._landmarks.engine.batches.clear()
    stage(draw(crowd))
    assert stage._landmarks.engine.batches == [4]


def test_a_loss_starts_one_sweep_at_once_and_the_place_is_watched():
    stage = detector(search_period=12)
    for _ in range(20):
        stage(draw([Drawn(300, 360)]))
    before = stage.counters['tiles']
    assert stage(draw([])) == []
    assert stage.counters['lost'] == 1 and stage.counters['tiles'] - before >= len(stage._search._tiles)
    for _ in range(5):
        before = stage.counters['tiles']
        assert stage(draw([])) == []
        assert stage.counters['tiles'] - before <= len(stage._search._tiles) / 12 + 2
    [person] = stage(draw([Drawn(310, 355)]))  # back where it was lost: seen at once
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
    assert stage.counters['regions'] == 0 and stage.counters['tiles'] == 4 * len(stage._search._tiles)


def test_two_people_who_cross_stay_at_most_two_and_are_two_again():
    stage = detector(search_period=8)
    for step in range(60):
        pair = [Drawn(300 + 12 * step, 360, 150), Drawn(1000 - 12 * step, 350, 130)]
        found = stage(draw(pair))
        assert len(found) <= 2
    assert len(found) == 2


def test_presence_has_hysteresis():
    stage = detector(presence_threshold=0.5, keep_presence=0.2)
    stage._landmarks.engine.presence = 0.3
    assert stage(draw([Drawn(640, 360)])) == []
    stage.reset()
    stage._landmarks.engine.presence = 0.6
    assert len(stage(draw([Drawn(640, 360)]))) == 1
    stage._landmarks.engine.presence = 0.3
    assert len(stage(draw([Drawn(640, 360)]))) == 1
    stage._landmarks.engine.presence = 0.1
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


def test_no_more_than_max_people():
    stage = detector(max_people=2)
    for _ in range(20):
        assert len(stage(draw([Drawn(x, 360, 120) for x in (200, 500, 800, 1100)]))) <= 2


@pytest.mark.parametrize('wrong', [{'search_period': 0}, {'min_person_height': 0.0}, {'max_people': 0},
                                   {'detection_threshold': 1.0}, {'presence_threshold': 1.5}, {'keep_presence': 0.9},
                                   {'keep_confidence': 0.7}, {'merge_similarity': 0.0}])
def test_settings_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DetectSettings(**wrong)


def test_an_unknown_model_is_refused():
    with pytest.raises(ValueError, match='lite, full, heavy'):
        Detector.open('huge')


def poses_of(drawn: list[Drawn], person: float = 0.9) -> Poses:
    pixels = np.zeros((len(drawn), 39, 2))
    for row, one in zip(pixels, drawn):
        row[:33] = one.joints
        row[33], row[34] = one.place(np.zeros(2)), one.place(np.array([0.0, -1.0]))
    scale = np.array([one.radius * 2.3 / 256 for one in drawn])
    ones = np.ones(pixels.shape[:2])
    return Poses(crop=pixels, pixels=pixels, depth=0.0 * ones, visibility=ones, presence=ones, peak=0.9 * ones,
                 spread=3.5 * scale[:, None] * ones, shift=0.0 * ones, person=np.full(len(drawn), person), scale=scale)


def test_similarity_tells_the_same_person_from_another_and_does_not_mind_the_sides():
    poses = poses_of([Drawn(300, 300), Drawn(306, 303, 153), Drawn(420, 300)])
    turned = poses.pixels.copy()
    turned[1, :33] = turned[1, BLAZEPOSE33.mirror]
    for pixels in (poses.pixels, turned):
        alike = people.similarity(Poses(**{**vars(poses), 'pixels': pixels}))
        np.testing.assert_allclose(np.diag(alike), 1.0)
        np.testing.assert_allclose(alike, alike.T)
        assert alike[0, 1] > 0.9 and alike[0, 2] < 0.3


def test_of_duplicates_the_known_or_much_better_one_stays():
    poses = poses_of([Drawn(300, 300), Drawn(304, 300), Drawn(700, 300)])
    known = np.array([False, True, False])
    assert people.without_duplicates(poses, known, 0.5, 1280, 720).tolist() == [1, 2]
    better = Poses(**{**vars(poses), 'person': np.array([1.0, 0.3, 1.0])})
    assert people.without_duplicates(better, known, 0.5, 1280, 720).tolist() == [0, 2]


def test_a_crooked_body_on_the_legs_of_another_is_no_newcomer():
    poses = poses_of([Drawn(400, 300), Drawn(420, 415, 40, 0.2)])
    limbs = BLAZEPOSE33.indices(LIMBS12.joints)
    poses.pixels[1, limbs] = poses.pixels[0, BLAZEPOSE33.index('left_knee')] + np.arange(12)[:, None]
    share = people.claimed(poses)
    assert share[1, 0] > 0.6 > share[0, 1]
    known = np.array([True, False])
    assert people.without_duplicates(poses, known, 0.5, 1280, 720).tolist() == [0]
    assert people.without_duplicates(poses, np.array([True, True]), 0.5, 1280, 720).tolist() == [0, 1]


def test_sigma_grows_and_confidence_falls_with_a_weak_or_wide_peak():
    poses = poses_of([Drawn(300, 300)])
    for change in ({'peak': 0.3 * poses.peak}, {'spread': 1.5 * poses.spread}):
        worse = Poses(**{**vars(poses), **change})
        assert (people.sigma(worse) > 1.2 * people.sigma(poses)).all()
        assert (1.0 - people.confidence(worse) > 2.0 * (1.0 - people.confidence(poses))).all()
    assert (people.confidence(poses) <= 1.0).all() and (people.confidence(poses) >= 0.0).all()


def test_poses_join_and_select():
    first, second = poses_of([Drawn(300, 300)]), poses_of([Drawn(500, 300), Drawn(700, 300)])
    both = Poses.join(first, second)
    assert len(both) == 3 and len(Poses.join(both, Poses.none())) == 3
    np.testing.assert_array_equal(both[np.array([2])].pixels[0], second.pixels[1])
    assert both.pixels.shape[1] == blazepose.POINTS
