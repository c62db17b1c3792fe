"""`pose3d calibrate extrinsics` from bags: as good as from videos, and errors a user can act on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import bags
import numpy as np
import pytest
from people_about import FPS, errors, looking, ring, walk
from scipy.spatial.transform import Rotation

from pose3d_ros.calibration import load_calibration, load_places, save_places
from pose3d_ros.camera import Camera
from pose3d_ros.cli import calibrate_seen
from pose3d_ros.cli.main import main
from pose3d_ros.fuse.extrinsics.tracks import JOINTS
from pose3d_ros.records import Frame, Person2D

NAMES = ('front', 'left', 'right')
TRUTH = ring(3)
POSES = dict(zip(NAMES, TRUTH))


@pytest.fixture(scope='module', params=['mcap', 'sqlite3'])
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bags.record_people(tmp_path_factory.mktemp('people') / 'bag', POSES, 3.0, request.param)


def call(bag: Path, out: Path, *more: str) -> int:
    return main(['calibrate', 'extrinsics', str(bag), '--out', str(out), *more])


def off(poses: np.ndarray, turn: float = 0.01, shift: float = 0.03) -> np.ndarray:
    """Return the poses (V, 4, 4) as somebody might have measured them."""
    rng = np.random.default_rng(0)
    result = poses.copy()
    result[:, :3, :3] = Rotation.from_rotvec(rng.normal(0, turn, (len(poses), 3))).as_matrix() @ poses[:, :3, :3]
    result[:, :3, 3] += rng.normal(0, shift, (len(poses), 3))
    return result


def found(path: Path) -> np.ndarray:
    places = load_places(path)
    assert list(places) == list(NAMES)
    return np.array(list(places.values()))


def test_from_nothing_places_come_back_and_no_intrinsics_are_made_up(
        recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / 'out.yaml'
    assert call(recorded, out, '--stature', '1.75', '--in-step') == 0
    turn, shift = errors(found(out), TRUTH)
    assert turn < 0.1 and shift < 0.02
    assert 'camera_matrix' not in out.read_text()
    assert 'clock ms' in capsys.readouterr().out


def test_places_of_a_file_are_refined_and_the_tf_is_that_of_the_messages(recorded: Path, tmp_path: Path) -> None:
    start, out, launch = tmp_path / 'start.yaml', tmp_path / 'out.yaml', tmp_path / 'tf.launch.py'
    save_places(start, dict(zip(NAMES, off(TRUTH))))
    assert call(recorded, out, '--places', str(start), '--place-sigma', '0', '--in-step',
                '--static-tf', str(launch)) == 0
    before, after = errors(off(TRUTH), TRUTH), errors(found(out), TRUTH)
    assert after[0] < 0.1 < before[0] and after[1] < before[1] / 2
    assert "'left_optical_frame'" in launch.read_text()


def test_a_late_clock_is_found_in_stamps_of_today(tmp_path: Path) -> None:
    bag = bags.record_people(tmp_path / 'bag', POSES, 3.0, late={'right': 0.05})
    figures = tmp_path / 'figures.json'
    assert call(bag, tmp_path / 'out.yaml', '--stature', '1.75', '--json', str(figures)) == 0
    values = json.loads(figures.read_text())
    assert values['right.clock_s'] == pytest.approx(0.05, abs=0.002)
    assert values['left.clock_s'] == pytest.approx(0.0, abs=0.002)


def record_tf(path: Path, camera_at: Callable[[float], np.ndarray], known: range = range(-2, 92)) -> Path:
    """Record people, and TF: hall -> base (moving) -> the cameras, which stand as TRUTH is off in hall.

    camera_at(seconds): hall_T_base (4, 4). known: the frames at which TF comes; people from 0 to 89.
    """
    with bags.BagWriter(path) as bag:
        for name, pose in zip(NAMES, off(TRUTH, 0.005, 0.01)):
            message = bags.tf_message('base', f'{name}_optical_frame', np.linalg.inv(pose), bags.START_NS)
            bag.write('/tf_static', bags.TF, message, bags.START_NS)
        for number in range(-2, 92):
            stamp = bags.START_NS + round(number * 1e9 / FPS)
            if number in known:
                bag.write('/tf', bags.TF, bags.tf_message('hall', 'base', camera_at(number / FPS), stamp), stamp)
            for name, pose in POSES.items() if 0 <= number < 90 else ():
                message = bags.people_2d(bags.rays_of(pose, number / FPS), stamp, f'{name}_optical_frame')
                bag.write(f'/{name}/people_2d', bags.PEOPLE_2D, message, stamp)
    return path


@pytest.mark.parametrize('known', [range(-2, 92), range(4, 80, 7)], ids=['all the time', 'begins late, ends early'])
def test_tf_in_the_bag_is_a_start_and_gives_the_frame(tmp_path: Path, known: range) -> None:
    hall_T_base = np.eye(4)
    hall_T_base[:3, :3], hall_T_base[:3, 3] = Rotation.from_rotvec([0, 0, 0.7]).as_matrix(), (3.0, -1.0, 0.0)
    bag = record_tf(tmp_path / 'bag', lambda _: hall_T_base, known)
    out, launch = tmp_path / 'out.yaml', tmp_path / 'tf.launch.py'
    assert call(bag, out, '--frame', 'hall', '--in-step', '--place-sigma', '0', '--static-tf', str(launch)) == 0
    poses = found(out)
    turn, shift = errors(poses, TRUTH)
    assert turn < 0.1 and shift < 0.05  # the size is that of the start
    assert np.allclose(poses, TRUTH @ np.linalg.inv(hall_T_base), atol=0.05)
    assert "'hall'" in launch.read_text()


@pytest.mark.parametrize('path', [lambda seconds: 0.5 * seconds, lambda seconds: 0.5 * np.sin(np.pi * seconds / 1.5)],
                         ids=['away', 'there and back'])
def test_cameras_that_move_in_the_frame_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                    path: Callable[[float], float]) -> None:
    def driving(seconds: float) -> np.ndarray:
        pose = np.eye(4)
        pose[0, 3] = path(seconds)
        return pose

    bag, out = record_tf(tmp_path / 'bag', driving), tmp_path / 'out.yaml'
    assert call(bag, out, '--frame', 'hall') == 1
    assert 'front moves in hall' in capsys.readouterr().err
    assert call(bag, out, '--frame', 'moon') == 1
    assert "'moon'" in capsys.readouterr().err
    assert not out.exists()
    assert call(bag, out, '--frame', 'base', '--in-step') == 0  # the frame that moves with them


CAMERAS = {name: Camera(64, 48, 600.0 + number, 600.0 + number, 31.5, 23.5, 'plumb_bob', (0.1, 0.0, 0.0, 0.0, 0.0))
           for number, name in enumerate(NAMES)}


class Seeing:
    """Stands in for a Pipeline: sees who walks there. A frame's camera tells whose it is."""

    detected = 0

    def detect(self, frame: Frame) -> list[Person2D]:
        self.detected += 1
        pose = POSES[next(name for name, camera in CAMERAS.items() if camera == frame.camera)]
        local = walk(np.array([(frame.stamp_ns - bags.START_NS) * 1e-9]))[0] @ pose[:3, :3].T + pose[:3, 3]
        rays = local[:, :2] / local[:, 2:]
        one = np.ones(len(JOINTS))
        return [Person2D(JOINTS, frame.camera.distort(rays), rays, 0.1 * one, one, 0 * one,
                         np.array([0.0, 0.0, 10.0, 20.0]), 0.9, 1)]

    def track(self, people: list[Person2D], stamp_ns: int) -> list[Person2D]:
        return people

    def reset(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('images') / 'bag'
    with bags.BagWriter(path) as bag:
        for number in range(60):
            stamp = bags.START_NS + round(number * 1e9 / FPS)
            for name, camera in CAMERAS.items():
                driving = np.linalg.inv(POSES[name])
                driving[0, 3] += 0.01 * number
                bag.write('/tf', bags.TF, bags.tf_message('hall', f'{name}_optical_frame', driving, stamp), stamp)
                pixels = np.full((48, 64, 3), number, dtype=np.uint8)
                message = bags.image(pixels, stamp, f'{name}_optical_frame')
                if name == 'left' and number in (7, 8):
                    message.encoding = 'nonsense'
                if name == 'right':
                    bag.write(f'/robot/{name}/image_raw/compressed', bags.COMPRESSED,
                              bags.compressed(pixels, stamp, f'{name}_optical_frame'), stamp)
                else:
                    bag.write(f'/robot/{name}/image_raw', bags.IMAGE, message, stamp)
                if name != 'right' or number == 30:
                    bag.write(f'/robot/{name}/camera_info', bags.CAMERA_INFO,
                              bags.camera_info(camera, stamp, f'{name}_optical_frame'), stamp)
        bag.write('/lonely/image_raw', bags.IMAGE, bags.image(pixels, stamp, 'lonely'), stamp)
    return path


def test_images_are_detected_in_with_the_lens_of_camera_info(images: Path, tmp_path: Path,
                                                             monkeypatch: pytest.MonkeyPatch,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    seeing = Seeing()
    monkeypatch.setattr(calibrate_seen.Pipeline, 'open', lambda **options: seeing)
    out = tmp_path / 'out.yaml'
    topics = ['/robot/front/image_raw', '/robot/left/image_raw', '/robot/right/image_raw/compressed']
    assert call(images, out, '--stature', '1.75', '--in-step', '--topics', *topics) == 0
    assert seeing.detected == 3 * 60 - 2
    cameras = load_calibration(out)
    assert {name: camera.camera for name, camera in cameras.items()} == CAMERAS
    turn, shift = errors(np.array([camera.camera_T_world for camera in cameras.values()]), TRUTH)
    assert turn < 0.1 and shift < 0.02
    assert '2 images left out' in capsys.readouterr().out
    assert call(images, out, '--stature', '1.75', '--topics', topics[0], '/lonely/image_raw') == 1
    assert 'no topic /lonely/camera_info' in capsys.readouterr().err
    assert call(images, out, '--stature', '1.75') == 1
    assert '--topics: /lonely/image_raw, /robot/front/image_raw' in capsys.readouterr().err
    assert call(images, out, '--frame', 'hall', '--topics', *topics) == 1
    assert 'front moves in hall' in capsys.readouterr().err


@pytest.mark.parametrize(('more', 'reason'), [
    (['--topics', '/back/people_2d'], 'no topic /back/people_2d; it has: /front/people_2d'),
    (['--cameras', 'a', 'b'], '2 given for 3 topics'),
    (['--topics', '/front/people_2d'], 'one camera: places are found'),
    ([], 'the size of the scene is not known'),
    (['--frame', 'map'], 'no /tf nor /tf_static'),
    (['--joints', 'x.npz', '--stature', '1.75'], 'people_2d, which have the joints'),
    (['more.mp4', '--stature', '1.75'], 'one bag at a time')])
def test_what_is_asked_wrongly_is_said(recorded: Path, tmp_path: Path, more: list[str], reason: str,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['calibrate', 'extrinsics', str(recorded), *more, '--out', str(tmp_path / 'out.yaml')]) == 1
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith('pose3d: ')]
    assert len(error) == 1 and reason in error[0]


def test_bags_that_do_not_tell_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / 'out.yaml'
    size = ('--stature', '1.75')
    assert call(bags.record_people(tmp_path / 'still', POSES, 1.0, stays=True), out, *size) == 1
    assert 'nobody moves' in capsys.readouterr().err
    nobody = tmp_path / 'nobody'
    with bags.BagWriter(nobody) as bag:
        for name in NAMES:
            message = bags.people_2d(np.zeros((0, len(JOINTS), 2)), bags.START_NS, name)
            bag.write(f'/{name}/people_2d', bags.PEOPLE_2D, message, bags.START_NS)
    assert call(nobody, out, *size) == 1
    assert 'no people seen in /front/people_2d; record while people walk about' in capsys.readouterr().err
    blind = tmp_path / 'blind'
    with bags.BagWriter(blind) as bag:
        message = bags.people_2d(bags.rays_of(TRUTH[0], 0.0), bags.START_NS, 'front', focal=900.0)
        message.fx = 0.0
        bag.write('/front/people_2d', bags.PEOPLE_2D, message, bags.START_NS)
    assert call(blind, out, *size) == 1
    assert 'the focal length is 0.0 px' in capsys.readouterr().err
    twice = tmp_path / 'twice'
    with bags.BagWriter(twice) as bag:
        for number, stamp in enumerate([bags.START_NS + 9 * 10**9, bags.START_NS]):
            message = bags.people_2d(bags.rays_of(looking((4, 0, 2)), 0.0), stamp, 'front')
            bag.write('/front/people_2d', bags.PEOPLE_2D, message, bags.START_NS + number)
    assert call(twice, out, *size) == 1
    assert 'stamps go back by 9.0 s' in capsys.readouterr().err
    assert not out.exists()
