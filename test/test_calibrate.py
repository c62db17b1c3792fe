"""`pose3d calibrate extrinsics`: from videos to a calibration, with errors a user can act on.

Somebody of known place walks before three cameras; the detector is replaced by what the cameras see of him.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from people_about import FPS, errors, ring, walk

from pose3d_ros.calibration import CalibratedCamera, load_calibration, save_calibration
from pose3d_ros.camera import Camera
from pose3d_ros.cli import calibrate_seen
from pose3d_ros.cli.main import main
from pose3d_ros.cli.video import VideoWriter
from pose3d_ros.fuse.extrinsics.tracks import JOINTS
from pose3d_ros.records import Frame, Person2D

POSES = ring(3)
NAMES = ('left', 'middle', 'right')
# the focal lengths differ, so that a frame's camera tells whose frame it is
CAMERAS = {name: Camera(64, 48, 600.0 + number, 600.0 + number, 31.5, 23.5, 'plumb_bob', (0.0,) * 5)
           for number, name in enumerate(NAMES)}
FRAMES = 60


class Seeing:
    """Stands in for a Pipeline. late: frames by which the clock of each camera shows more."""

    def __init__(self, late: dict[str, float] | None = None, stays: bool = False) -> None:
        self.late, self.stays, self.detected, self.closed = late or {}, stays, 0, False

    def detect(self, frame: Frame) -> list[Person2D]:
        self.detected += 1
        name = next(name for name, camera in CAMERAS.items() if camera == frame.camera)
        pose = POSES[NAMES.index(name)]
        time = 0.0 if self.stays else frame.stamp_ns * 1e-9 - self.late.get(name, 0.0) / FPS
        local = walk(np.array([time]))[0] @ pose[:3, :3].T + pose[:3, 3]
        rays = local[:, :2] / local[:, 2:]
        one = np.ones(len(JOINTS))
        return [Person2D(JOINTS, frame.camera.distort(rays), rays, 0.1 * one, one, 0 * one,
                         np.array([0.0, 0.0, 10.0, 20.0]), 0.9, 1)]

    def track(self, people: list[Person2D], stamp_ns: int) -> list[Person2D]:
        return people

    def reset(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


@pytest.fixture(scope='module')
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder, paths = tmp_path_factory.mktemp('videos'), []
    for name in NAMES:
        writer = VideoWriter(folder / f'{name}.mp4', FPS)
        for _ in range(FRAMES):
            writer.write(np.full((48, 64, 3), 90, dtype=np.uint8))
        writer.close()
        paths.append(str(folder / f'{name}.mp4'))
    return paths


@pytest.fixture
def seeing(monkeypatch: pytest.MonkeyPatch) -> Seeing:
    stand_in = Seeing()
    monkeypatch.setattr(calibrate_seen.Pipeline, 'open', lambda **options: stand_in)
    return stand_in


def written(path: Path, poses: np.ndarray | None) -> str:
    save_calibration(path, {name: CalibratedCamera(camera, None if poses is None else poses[number])
                            for number, (name, camera) in enumerate(CAMERAS.items())})
    return str(path)


def places(path: Path) -> np.ndarray:
    return np.array([camera.camera_T_world for camera in load_calibration(path).values()])


def call(videos: list[str], calibration: str, out: Path, *more: str) -> int:
    return main(['calibrate', 'extrinsics', *videos, '--calibration', calibration, '--out', str(out), *more])


def test_from_videos_alone_to_a_calibration(videos: list[str], seeing: Seeing, tmp_path: Path,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / 'out.yaml'
    assert call(videos, written(tmp_path / 'in.yaml', None), out, '--stature', '1.75', '--in-step') == 0
    turn, shift = errors(places(out), POSES)
    assert turn < 0.1 and shift < 0.02
    assert {name: camera.camera for name, camera in load_calibration(out).items()} == CAMERAS
    assert seeing.closed
    table = capsys.readouterr().out
    assert all(name in table for name in NAMES) and f'wrote {out}' in table


def test_late_cameras_are_named_and_the_figures_written(videos: list[str], seeing: Seeing, tmp_path: Path) -> None:
    seeing.late = {'right': 1.4}
    figures = tmp_path / 'figures.json'
    assert call(videos, written(tmp_path / 'in.yaml', POSES), tmp_path / 'out.yaml', '--max-offset', '0.1',
                '--json', str(figures)) == 0
    values = json.loads(figures.read_text())
    # its clock shows more at the same moment, so it began before the first camera
    assert values['right.began_s'] == pytest.approx(-1.4 / FPS, abs=0.05 / FPS)
    assert values['left.began_s'] == 0.0
    assert values['frames'] > 40 and values['reprojection_px'] < 0.1
    assert values['middle.moved_m'] < 0.02 and values['middle.turned_deg'] < 0.3


def test_joints_are_kept_and_used_again(videos: list[str], seeing: Seeing, tmp_path: Path,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    calibration, joints = written(tmp_path / 'in.yaml', POSES), tmp_path / 'joints.npz'
    first, second = tmp_path / 'first.yaml', tmp_path / 'second.yaml'
    assert call(videos, calibration, first, '--joints', str(joints), '--in-step') == 0
    assert seeing.detected == 3 * FRAMES
    assert call(videos, calibration, second, '--joints', str(joints), '--in-step') == 0
    assert seeing.detected == 3 * FRAMES
    assert np.array_equal(places(first), places(second))
    assert call(videos[:2], calibration, second, '--joints', str(joints)) == 1
    assert 'give another --joints' in capsys.readouterr().err
    joints.write_bytes(b'none')
    assert call(videos, calibration, second, '--joints', str(joints)) == 1
    assert 'give another --joints' in capsys.readouterr().err


def test_places_of_another_file_and_static_tf(videos: list[str], seeing: Seeing, tmp_path: Path) -> None:
    launch, out = tmp_path / 'tf.launch.py', tmp_path / 'out.yaml'
    assert call(videos, written(tmp_path / 'in.yaml', None), out, '--places', written(tmp_path / 'places.yaml', POSES),
                '--in-step', '--static-tf', str(launch), '--parent', 'hall') == 0
    assert np.allclose(places(out), POSES, atol=1e-3)
    assert "'hall'" in launch.read_text() and 'middle_optical_frame' in launch.read_text()


def test_footage_that_does_not_tell_leaves_one_line_and_no_file(
        videos: list[str], seeing: Seeing, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seeing.stays = True
    out = tmp_path / 'out.yaml'
    assert call(videos, written(tmp_path / 'in.yaml', POSES), out) == 1
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith('pose3d: ')]
    assert len(error) == 1 and 'nobody moves' in error[0]
    assert not out.exists()


@pytest.mark.parametrize(('more', 'reason'), [
    (['--cameras', 'left', 'middle'], '2 given for 3 videos'),
    (['--cameras', 'left', 'middle', 'middle'], 'two videos are of one camera'),
    (['--cameras', 'left', 'middle', 'back'], "no camera 'back'; it has: left, middle, right"),
    (['--baseline', 'left', 'front', '2'], 'no camera front; there are: left, middle, right'),
    (['--baseline', 'left', 'middle', 'far'], 'expected two cameras and their distance in metres'),
    (['--static-tf', 'tf.launch.py', '--parent', '/map'], "'/map' is no TF frame"),
    (['--out', '.'], '.: is a folder; give the file to write'),
])
def test_what_is_asked_wrongly_is_said(videos: list[str], seeing: Seeing, tmp_path: Path, more: list[str], reason: str,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    assert call(videos, written(tmp_path / 'in.yaml', POSES), tmp_path / 'out.yaml', *more) == 1
    assert reason in capsys.readouterr().err
    assert not seeing.detected


@pytest.mark.parametrize(('more', 'reason'), [
    (['--stature', '3'], 'expected metres, 0.5 to 2.5'), (['--stature', 'tall'], 'expected metres, 0.5 to 2.5'),
    (['--place-sigma', '-1'], 'expected a number from 0 on'),
    (['--stature', '1.7', '--baseline', 'left', 'right', '2'], 'not allowed with argument')])
def test_values_that_cannot_be_are_wrong_usage(videos: list[str], tmp_path: Path, more: list[str], reason: str,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call(videos, 'in.yaml', tmp_path / 'out.yaml', *more)
    assert ended.value.code == 2 and reason in capsys.readouterr().err


def test_a_recording_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['calibrate', 'extrinsics', str(tmp_path / 'my_bag'), '--out', str(tmp_path / 'out.yaml')]) == 1
    assert 'my_bag: is not there' in capsys.readouterr().err
