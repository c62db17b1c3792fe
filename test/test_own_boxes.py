"""One's own person detector finds people in the forms in which such networks are exported."""

from __future__ import annotations

from pathlib import Path

import blob_networks as blobs
import numpy as np
import own_files
import pytest
from blob_networks import Person

from pose3d_ros.detect.box_outputs import BoxOutputs
from pose3d_ros.detect.boxes import BoxFinder, suppress
from pose3d_ros.detect.description import load_description
from pose3d_ros.detect.finder import View
from pose3d_ros.detect.finds import BODY_CIRCLE, MID_HIP, box_overlap
from pose3d_ros.detect.own import open_finder
from pose3d_ros.runtime.engine import Wanted
from pose3d_ros.skeleton import COCO17

CPU = Wanted(runtime='cpu', threads=1)
PEOPLE = [Person(300.3, 250.7, 300.0), Person(110.0, 230.2, 200.0)]
NOBODY = np.zeros((0, 17, 2))


@pytest.fixture(scope='session')
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_files.export_all(tmp_path_factory.mktemp('own_networks'))


def opened(networks: Path, folder: Path, form: str = 'yolov8', **changes) -> BoxFinder:
    base = own_files.boxes(form)
    return open_finder(own_files.write(folder, base, {'file': str(networks / base['file']), **changes}), CPU)


def search(finder: BoxFinder, image: np.ndarray, tiles: np.ndarray | None = None, threshold: float = 0.5):
    height, width = image.shape[:2]
    planned = finder.plan(width, height, 1 / 6) if tiles is None else tiles
    found, = finder([View(image, planned, NOBODY, COCO17)], threshold)
    return found


def assert_found(found, people: list[Person], least: float = 0.9) -> None:
    assert len(found) == len(people)
    overlap = box_overlap(found.boxes, np.array([person.box for person in people]))
    assert sorted(overlap.argmax(axis=1)) == list(range(len(people)))
    assert overlap.max(axis=1).min() > least


@pytest.mark.parametrize('form', list(own_files.BOX_FORMS))
def test_people_are_found_once_each_whatever_the_form(form: str, networks: Path, tmp_path: Path) -> None:
    found = search(opened(networks, tmp_path, form), blobs.paint(PEOPLE))
    assert_found(found, PEOPLE)
    assert found.scores.min() > 0.8 and found.scores.max() <= 1.0


@pytest.mark.parametrize('changes', [{'input.batch': 1}, {'fit': 'stretch'}, {'input.fill': 0}, {'nms': 0.4}],
                         ids=lambda changes: next(iter(changes)))
def test_other_ways_to_run_it_find_the_same_people(changes, networks: Path, tmp_path: Path) -> None:
    assert_found(search(opened(networks, tmp_path, **changes), blobs.paint(PEOPLE)), PEOPLE, 0.85)


def test_a_find_is_a_circle_about_the_body(networks: Path, tmp_path: Path) -> None:
    person = PEOPLE[0]
    found = search(opened(networks, tmp_path), blobs.paint([person]))
    middle, rim = found.points[0, MID_HIP], found.points[0, BODY_CIRCLE]
    assert np.linalg.norm(middle - [person.x, person.y]) < 0.05 * person.height
    assert abs(np.linalg.norm(rim - middle) - person.height / 2) < 0.1 * person.height
    assert abs(rim[0] - middle[0]) < 1e-6 and rim[1] < person.joints[:, 1].min()  # above the head


def test_views_go_through_together_and_in_bounded_parts(networks: Path, tmp_path: Path) -> None:
    finder = opened(networks, tmp_path)
    sizes, run = [], finder.engine.run
    finder.engine.run = lambda inputs: sizes.append(len(inputs['image'])) or run(inputs)
    images = [blobs.paint([person]) for person in PEOPLE]
    found = finder([View(image, finder.plan(640, 480, 1 / 6), NOBODY, COCO17) for image in images], 0.5)
    assert sizes == [2]
    for finds, person in zip(found, PEOPLE):
        assert_found(finds, [person])
    tiles = np.repeat(finder.plan(640, 480, 1 / 6), 19, axis=0)
    assert_found(search(finder, images[0], tiles), [PEOPLE[0]])
    assert sizes[1:] == [8, 8, 3]


def test_the_threshold_of_the_description_is_the_half_of_the_node(networks: Path, tmp_path: Path) -> None:
    image = blobs.paint(PEOPLE)  # the network says 0.9
    assert len(search(opened(networks, tmp_path, threshold=0.89), image)) == 2
    assert len(search(opened(networks, tmp_path, threshold=0.91), image)) == 0
    assert len(search(opened(networks, tmp_path, threshold=0.91), image, threshold=0.4)) == 2


def test_the_class_that_is_not_a_person_is_not_found(networks: Path, tmp_path: Path) -> None:
    assert len(search(opened(networks, tmp_path, person=1, threshold=0.3), blobs.paint(PEOPLE))) == 0


@pytest.mark.parametrize(('width', 'height', 'least'), [(1920, 1080, 0.1), (640, 480, 1 / 6), (480, 640, 0.05),
                                                        (1280, 400, 0.2), (320, 320, 1.0)])
@pytest.mark.parametrize('size', [[320, 320], [640, 384], [256, 416]])
def test_every_person_fits_a_tile_in_which_he_is_large_enough(width: int, height: int, least: float, size: list[int],
                                                              networks: Path, tmp_path: Path) -> None:
    finder = opened(networks, tmp_path)
    document = own_files.merged(own_files.boxes('yolov8'), {'input.size': size, 'smallest': 0.12,
                                                            'file': str(networks / 'yolov8.onnx')})
    finder.description = load_description(own_files.write(tmp_path, document, name='planned'))
    tiles = finder.plan(width, height, least)
    wide, high = finder._view(1.0)
    random = np.random.default_rng(0)
    for share in np.geomspace(least, 1.0, 12):
        tall = share * height * 0.999
        x, y = random.uniform(0, max(width - tall / 2, 0)), random.uniform(0, height - tall)
        side = tiles[:, 2]
        left, top = tiles[:, 0] - side * (wide - 1) / 2, tiles[:, 1] - side * (high - 1) / 2
        right = min(x + tall / 2, width)
        holds = ((left <= x + 1e-6) & (top <= y + 1e-6) & (left + side * wide >= right - 1e-6)
                 & (top + side * high >= y + tall - 1e-6) & (tall >= 0.119 * side * high))
        assert holds.any(), f'nobody looks for a person {tall:.0f} px high at {x:.0f}, {y:.0f}'
    assert len(tiles) <= 60 and (np.diff(tiles[:, 2]) <= 1e-9).all()


def test_an_image_too_small_has_no_tiles(networks: Path, tmp_path: Path) -> None:
    assert opened(networks, tmp_path).plan(20, 400, 0.2).shape == (0, 3)


def test_somebody_cut_by_a_tile_is_given_whole_by_another(networks: Path, tmp_path: Path) -> None:
    finder = opened(networks, tmp_path)
    image = blobs.paint([Person(500, 300, 300)], 1280, 720)
    tiles = np.array([[-160.0, -440.0, 1600.0], [0.0, 60.0, 480.0], [450.0, 60.0, 480.0]])  # two cut him in half
    assert_found(search(finder, image, tiles), [Person(500, 300, 300)], 0.85)


def test_boxes_that_are_none_are_left_out(networks: Path, tmp_path: Path) -> None:
    finder = opened(networks, tmp_path)
    rows = np.array([[[160, 160, 40, 100, 0.9, 0], [np.nan, 160, 40, 100, 0.9, 0], [160, 160, np.inf, 100, 0.9, 0],
                      [60, 60, 0.1, 0.1, 0.9, 0], [260, 160, 40, 100, np.nan, 0], [60, 160, -40, -90, 0.9, 0]]])
    finder.engine.run = lambda inputs: {'out0': rows.transpose(0, 2, 1)}
    found = search(finder, np.zeros((320, 320, 3), np.uint8), np.array([[0.0, 0.0, 320.0]]))
    np.testing.assert_allclose(found.boxes, [[139.5, 109.5, 179.5, 209.5]], atol=1e-6)


def test_grids_that_are_not_decoded_yet(networks: Path, tmp_path: Path) -> None:
    """As YOLOX is exported: cells of 8, 16, 32 px; offsets in cells, logarithms of sizes."""
    path = own_files.write(tmp_path, own_files.boxes('yolov8'), {
        'outputs.strides': [8, 16, 32], 'outputs.transposed': False, 'outputs.columns': 'objectness_classes',
        'file': str(networks / 'yolov8.onnx'), 'input.size': [320, 256]})
    engine = open_finder(own_files.write(tmp_path, own_files.boxes('yolov8'),
                                         {'file': str(networks / 'yolov8.onnx')}, 'other'), CPU).engine
    outputs = BoxOutputs(load_description(path), engine)
    cells = 40 * 32 + 20 * 16 + 10 * 8
    rows = np.zeros((1, cells, 7), np.float32)
    place = 40 * 32 + 5 * 20 + 7  # the second grid: row 5, column 7
    rows[0, place] = [0.25, 0.5, np.log(3.0), np.log(6.0), 0.8, 0.5, 0.1]
    outputs.check({'out0': rows})
    boxes, scores = outputs.decode({'out0': rows}, 0)
    centre, size = np.array([7.25, 5.5]) * 16, np.array([3.0, 6.0]) * 16
    np.testing.assert_allclose(boxes[place], [*(centre - size / 2), *(centre + size / 2)], rtol=1e-5)
    np.testing.assert_allclose(scores[place], 0.4, rtol=1e-6)


def test_an_output_without_boxes_is_nobody(networks: Path, tmp_path: Path) -> None:
    finder = opened(networks, tmp_path, 'dets')
    finder.engine.run = lambda inputs: {'out0': np.zeros((1, 0, 5), np.float32), 'out1': np.zeros((1, 0), np.int64)}
    assert len(search(finder, np.zeros((320, 320, 3), np.uint8), np.array([[0.0, 0.0, 320.0]]))) == 0


def test_suppression_keeps_the_best_and_those_apart() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [5, 0, 15, 10], [100, 0, 110, 10]], float)
    kept = suppress(boxes, np.array([0.5, 0.9, 0.7, 0.6]), 0.5)
    np.testing.assert_array_equal(kept, [1, 2, 3])
    assert len(suppress(boxes, np.array([0.5, 0.9, 0.7, 0.6]), 0.3)) == 2
    assert len(suppress(np.zeros((0, 4)), np.zeros(0), 0.5)) == 0
