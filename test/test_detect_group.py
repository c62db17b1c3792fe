"""Several cameras that share their networks: the same people as each alone, in one call of each network."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_people import Drawn, Landmarks, Search, detector, draw, networks

from pose3d_ros.detect import Detector, DetectSettings, together
from pose3d_ros.detect.blazepose import BlazePoseReader
from pose3d_ros.detect.search import BlazePoseFinder
from pose3d_ros.runtime.engine import EngineError

SETTINGS = {'search_period': 8, 'max_people': 3}
SIZES = ((1280, 720), (640, 640), (800, 600))


def group(count=3, **settings):
    shared = networks()
    return [Detector(shared, DetectSettings(**{**SETTINGS, **settings})) for _ in range(count)]


def scene(camera, step):
    """Return what a camera sees at a step: somebody who walks, somebody who comes and goes, at times nobody."""
    width, height = SIZES[camera]
    people = [Drawn(0.2 * width + 8 * step, 0.5 * height, 0.2 * height)]
    if (step + 5 * camera) % 15 > 6:
        people.append(Drawn(0.8 * width - 3 * step, 0.55 * height, 0.15 * height))
    return draw([] if (step + 3 * camera) % 20 == 0 else people, width, height)


def same(people, others):
    assert len(people) == len(others)
    for person, other in zip(people, others, strict=True):
        for name in ('pixels', 'rays', 'sigma', 'joint_confidence', 'depth', 'box', 'confidence'):
            np.testing.assert_array_equal(getattr(person, name), getattr(other, name))


def test_a_group_sees_exactly_what_each_camera_sees_alone():
    cameras, alone = group(), [detector(**SETTINGS) for _ in SIZES]
    most = 0
    for step in range(32):
        frames = [scene(camera, step) for camera in range(len(SIZES))]
        for found, stage, frame in zip(together(cameras, frames), alone, frames, strict=True):
            same(found, stage(frame))
            most = max(most, len(found))
    assert most == 2
    for camera, stage in zip(cameras, alone, strict=True):
        assert camera.counters == stage.counters and camera.counters['lost'] > 0


@pytest.mark.parametrize('count', [1, 2, 5])
def test_each_network_is_called_once_for_all_cameras(count):
    cameras = group(count, search_period=60)
    walk = [[draw([Drawn(200 + 5 * step, 360), Drawn(900, 300 + camera, 120)]) for camera in range(count)]
            for step in range(25)]
    for frames in walk[:10]:
        together(cameras, frames)
    read, searched = (engine.batches for engine in (cameras[0].engines['landmarks'], cameras[0].engines['search']))
    calls = []
    for frames in walk[10:]:
        read.clear()
        together(cameras, frames)
        for camera in cameras:
            if camera._ahead is not None:
                camera._ahead.result()
        assert read == [2 * count]
        calls.append(len(searched))
    assert calls[-1] > calls[0] and np.diff(calls).max() == 1


def test_a_camera_without_an_image_and_a_reset_leave_the_others_alone():
    cameras, alone = group(), [detector(**SETTINGS) for _ in SIZES]
    rng = np.random.default_rng(3)
    for step in range(28):
        present = [camera for camera in range(len(SIZES)) if rng.random() < 0.7]
        if step == 12:
            cameras[1].reset()
            alone[1].reset()
        frames = [scene(camera, step) for camera in present]
        found = together([cameras[camera] for camera in present], frames)
        for camera, people, frame in zip(present, found, frames, strict=True):
            same(people, alone[camera](frame))


def test_an_odd_image_disturbs_no_other_camera():
    cameras, alone = group(2), detector(**SETTINGS)
    odd = [draw([], *size) for size in ((1, 1), (2000, 5), (30, 30), (1280, 720))]
    odd[3].image[:] = 255
    for step in range(24):
        frame = scene(0, step)
        same(together(cameras, [frame, odd[step % 4]])[0], alone(frame))


@pytest.mark.parametrize('network', ['landmarks', 'search'])
def test_after_a_network_failed_all_cameras_go_on(network):
    cameras = group(2)
    frames = [draw([Drawn(400, 360)]), draw([Drawn(800, 360)])]
    for _ in range(5):
        together(cameras, frames)
    engine = cameras[0].engines[network]

    def failing(inputs):
        raise EngineError('out of memory')

    engine.run = failing
    with pytest.raises(EngineError, match='out of memory'):
        for _ in range(10):  # the search fails in its thread: the frame after that hears of it
            together(cameras, frames)
    del engine.run
    for _ in range(3):
        try:
            found = together(cameras, frames)
        except EngineError:  # each camera hears once of the portion that failed
            continue
    assert [len(people) for people in found] == [1, 1]
    assert all(camera.counters['lost'] == 0 for camera in cameras)


def test_networks_end_with_the_last_camera():
    cameras = group()
    engines = list(cameras[0].engines.values())
    together(cameras[1:], [scene(1, 0), scene(2, 0)])
    cameras[0].close()
    cameras[0].close()
    assert [engine.closed for engine in engines] == [0, 0]
    assert together(cameras[1:], [scene(1, 1), scene(2, 1)])[0]
    for camera in cameras:
        camera.close()
    assert [engine.closed for engine in engines] == [1, 1]


def test_what_is_no_group_is_refused_before_anything_is_computed():
    cameras, stranger = group(2), detector(**SETTINGS)
    other = Detector(cameras[0].networks, DetectSettings())
    frame = scene(0, 1)
    for detectors, frames, message in (([cameras[0], stranger], [frame] * 2, 'open_group'),
                                       ([cameras[0], other], [frame] * 2, 'open_group'),
                                       ([cameras[0], cameras[0]], [frame] * 2, '2 frames for 1'),
                                       (cameras, [frame], '1 frames for 2')):
        with pytest.raises(ValueError, match=message):
            together(detectors, frames)
    assert cameras[0].counters['frames'] == 0 and together([], []) == []
    with pytest.raises(ValueError, match='1 or more'):
        Detector.open_group(0)


class Opened:
    """Stands in for the opening of networks, and keeps what was opened, for how many at once, and what was warmed."""

    def __init__(self, monkeypatch):
        self.most, self.warm, self.store = {}, [], self
        monkeypatch.setattr('pose3d_ros.detect.networks.open_engine', self.engine)
        monkeypatch.setattr('pose3d_ros.detect.own.open_reader', lambda path, wanted, most: BlazePoseReader(
            self.engine(path, wanted, most=most)))
        monkeypatch.setattr('pose3d_ros.detect.own.open_finder', lambda path, wanted: BlazePoseFinder(
            self.engine(path, wanted, most=1)))

    def path(self, name):
        return name

    def engine(self, path, wanted, *, most):
        if path == 'broken.yaml':
            raise EngineError('broken')
        self.most[path] = most
        self.last = Search() if path in ('pose_detection', 'my.yaml') else Landmarks()
        self.last.warm_up = lambda: self.warm.append(path)
        return self.last


def test_networks_are_opened_for_the_people_of_all_cameras_and_warmed(monkeypatch):
    opened = Opened(monkeypatch)
    cameras = Detector.open_group(3, 'lite', store=opened, settings=DetectSettings(max_people=4))
    assert len({camera.networks for camera in cameras}) == 1 and len(cameras) == 3
    assert opened.most == {'pose_landmark_lite': 3 * (4 + 3), 'pose_detection': 8}
    assert sorted(opened.warm) == sorted(opened.most)


def test_descriptions_of_own_networks_are_opened_as_such(monkeypatch):
    opened = Opened(monkeypatch)
    camera = Detector.open('joints.yaml', store=opened, search='my.yaml')
    assert set(opened.most) == set(opened.warm) == {'joints.yaml', 'my.yaml'}
    assert len(camera(draw([Drawn(640, 360)]))) == 1
    with pytest.raises(ValueError, match='lite, full, heavy'):
        Detector.open('huge', store=opened)
    with pytest.raises(ValueError, match='blazepose'):
        Detector.open('full', store=opened, search='yolo')


def test_a_search_that_cannot_be_opened_leaves_nothing_open(monkeypatch):
    opened = Opened(monkeypatch)
    with pytest.raises(EngineError, match='broken'):
        Detector.open('full', store=opened, search='broken.yaml')
    assert opened.last.closed == 1
