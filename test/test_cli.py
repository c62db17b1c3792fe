"""The `pose3d` command: errors a user can act on, and files that are whole or not there."""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from pose3d_ros.camera import Camera
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.figures import print_table, write_json
from pose3d_ros.cli.floor import add_floor_options, floor_of, node_parameters
from pose3d_ros.cli.main import COMMANDS, main
from pose3d_ros.cli.picture import Moment, draw_picture, level
from pose3d_ros.cli.places import config_file
from pose3d_ros.cli.recording import COLUMNS, FILES, Recording, percentiles
from pose3d_ros.cli.run import camera_for
from pose3d_ros.cli.video import VideoReader, VideoWriter
from pose3d_ros.records import GroundPlane, JointState, Person3D, PersonState
from pose3d_ros.skeleton import HUMAN17

SECOND = 1_000_000_000


def person(identity: int = 1, distance: float = 3.0) -> Person3D:
    """Return somebody who stands with a missing left wrist, `distance` in front of the camera."""
    position = np.zeros((17, 3))
    position[:, 1] = np.linspace(0.8, -0.8, 17)
    position[:, 2] = distance
    state = np.full(17, JointState.OBSERVED, dtype=np.uint8)
    confidence, covariance = np.full(17, 0.9), np.tile(0.01 * np.eye(3), (17, 1, 1))
    missing = HUMAN17.index('left_wrist')
    position[missing] = np.nan
    covariance[missing] = np.nan
    state[missing], confidence[missing] = JointState.MISSING, 0.0
    return Person3D(HUMAN17, position, np.full((17, 3), np.nan), covariance, confidence, state, 0.9, identity,
                    PersonState.TRACKED)


def image(shade: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.full((height, width, 3), shade, dtype=np.uint8)


def write_video(path: Path, frames: int = 6, width: int = 64, height: int = 48) -> Path:
    writer = VideoWriter(path, 30.0)
    for number in range(frames):
        writer.write(image(20 * number, width, height))
    writer.close()
    return path


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines
    assert not any('Traceback' in line for line in lines)
    return lines[-1]


def test_help_lists_every_command_and_imports_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(['--help'])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


@pytest.mark.parametrize('command', ['demo', 'run', 'fetch', 'build-engines', 'doctor', 'evaluate', 'mocap', 'bench'])
def test_no_command_of_a_robot_needs_pytorch(command: str) -> None:
    code = ("import sys; sys.modules['torch'] = None; from pose3d_ros.cli.main import build_parser; "
            f"build_parser('{command}')")
    subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, timeout=60)


def test_missing_pytorch_is_one_line_with_the_cure(monkeypatch: pytest.MonkeyPatch,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(COMMANDS, 'train', ('torch_needed', ''))
    monkeypatch.setattr('importlib.import_module', lambda name: exec("raise ModuleNotFoundError('no', name='torch')"))
    assert main(['train']) == 1
    assert 'make train-env' in last_line(capsys)


def test_an_interrupt_while_a_compiled_module_loads_is_one_line(monkeypatch: pytest.MonkeyPatch,
                                                                capsys: pytest.CaptureFixture[str]) -> None:
    def loading(name: str) -> None:
        raise ImportError('initialization failed') from cause

    monkeypatch.setattr('importlib.import_module', loading)
    cause: BaseException = KeyboardInterrupt()
    assert main(['run']) == 130
    assert last_line(capsys) == 'pose3d: interrupted'
    cause = OSError('no such library')
    with pytest.raises(ImportError):
        main(['run'])


def test_missing_models_name_the_command_that_gets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert main(['evaluate', 'sample']) == 1
    assert 'pose3d fetch' in last_line(capsys)
    video = write_video(tmp_path / 'cam01.mp4')
    assert main(['run', str(video), '--calibration', str(config_file('samples/single_person.yaml')),
                 '--out', str(tmp_path / 'out')]) == 1
    assert 'pose3d fetch' in last_line(capsys)


def test_wrong_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calibration = str(config_file('samples/single_person.yaml'))
    assert main(['run', str(tmp_path / 'no.mp4'), '--calibration', calibration]) == 1
    assert 'no.mp4: no such video' in last_line(capsys)
    (tmp_path / 'text.mp4').write_text('not a video')
    assert main(['run', str(tmp_path / 'text.mp4'), '--calibration', calibration]) == 1
    assert 'text.mp4: cannot be read' in last_line(capsys)
    video = str(write_video(tmp_path / 'other.mp4'))
    assert main(['run', video, '--calibration', str(tmp_path / 'no.yaml')]) == 1
    assert 'no.yaml' in last_line(capsys)
    assert main(['run', video, '--calibration', calibration]) == 1
    assert '--camera' in last_line(capsys)


def test_a_video_of_another_size_than_the_calibration_is_refused(tmp_path: Path) -> None:
    video = VideoReader(write_video(tmp_path / 'cam01.mp4'))
    camera = camera_for(config_file('samples/single_person.yaml'), '', video.path).camera
    with pytest.raises(UserError, match='64x48.*1080x1920'):
        next(video.frames(camera))


def test_frames_carry_the_time_of_the_video(tmp_path: Path) -> None:
    video = VideoReader(write_video(tmp_path / 'v.mp4', frames=4))
    camera = Camera(64, 48, 50.0, 50.0, 31.5, 23.5)
    assert [round(frame.stamp_ns * 30 / SECOND) for frame in video.frames(camera)] == [0, 1, 2, 3]
    assert video.count == 4


def test_a_recording_leaves_all_files_and_nothing_else(tmp_path: Path) -> None:
    with Recording(tmp_path, 30.0, 5) as recording:
        for number in range(5):
            stamp = number * SECOND // 30
            recording.add_people(stamp, 'camera', [person(7)] if number else [])
            recording.add_image(stamp, image(40 * number))
        recording.finish({'fps': 12.5, 'latency_ms': percentiles([])})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    summary = json.loads((tmp_path / 'summary.json').read_text())
    assert summary == {'frames': 5, 'frames_with_people': 4, 'fps': 12.5,
                       'latency_ms': {'p50': None, 'p95': None, 'p99': None}}
    rows = list(csv.DictReader((tmp_path / 'people.csv').read_text().splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 4 * 17
    wrist = next(row for row in rows if row['joint'] == 'left_wrist')
    assert wrist['x_m'] == wrist['sigma_m'] == '' and wrist['joint_state'] == 'MISSING'
    pelvis = rows[0]
    assert (pelvis['joint'], pelvis['id'], pelvis['person_state']) == ('pelvis', '7', 'TRACKED')
    assert float(pelvis['z_m']) == 3.0 and float(pelvis['sigma_m']) == pytest.approx(0.1)
    assert VideoReader(tmp_path / 'annotated.mp4').count == 5
    assert cv2.imread(str(tmp_path / 'picture.png')) is not None


def test_an_error_leaves_no_file_that_looks_whole(tmp_path: Path) -> None:
    (tmp_path / 'summary.json').write_text('{"frames": 100}')  # of a recording before
    with pytest.raises(RuntimeError, match='lost'), Recording(tmp_path, 30.0, 5) as recording:
        recording.add_people(0, 'camera', [person()])
        recording.add_image(0, image(0))
        raise RuntimeError('lost')
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='file'):
        Recording(tmp_path / 'file' / 'out', 30.0, 5)


def test_the_picture_shows_people_where_they_are_and_does_without_them() -> None:
    empty = draw_picture([Moment(0, image(0), []), Moment(SECOND, image(0), [])])
    near = draw_picture([Moment(0, image(0), [person(distance=2.0)]), Moment(SECOND, image(0), [])])
    far = draw_picture([Moment(0, image(0), [person(distance=2.0)]), Moment(SECOND, image(0), [person(distance=6.0)])])
    assert empty.ndim == near.ndim == 3
    assert near.shape == far.shape
    assert (near != far).any()


def test_levelling_stands_people_upright() -> None:
    tilt = np.radians(30)
    camera_T_world = np.eye(4)  # looks along the world's y, tilted down by 30 degrees
    camera_T_world[:3, :3] = [[1, 0, 0], [0, -np.sin(tilt), -np.cos(tilt)], [0, np.cos(tilt), -np.sin(tilt)]]
    levelled = level(camera_T_world[:3, 2]) @ camera_T_world[:3, :3]  # from the world to the level camera
    np.testing.assert_allclose(levelled, [[1, 0, 0], [0, 0, -1], [0, 1, 0]], atol=1e-12)
    straight_down = np.eye(4)
    straight_down[:3, :3] = np.diag([1, -1, -1])
    with pytest.raises(ValueError, match='straight'):
        level(straight_down[:3, 2])


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_floor_options(parser)
    return parser.parse_args(words)


def test_the_floor_of_the_options_is_that_of_the_node() -> None:
    given = options('--camera-height', '1.2', '--camera-pitch', '-10', '--camera-roll', '5', '--stature', '1.72')
    plane = floor_of(given)
    assert plane is not None
    np.testing.assert_allclose(plane.up, GroundPlane.under_camera(1.2, np.radians(-10), np.radians(5)).up)
    assert node_parameters(given) == {'stature': 1.72, 'ground_source': 'parameters', 'camera_height': 1.2,
                                      'camera_pitch': -10.0, 'camera_roll': 5.0}
    assert floor_of(options()) is None and node_parameters(options()) == {}


@pytest.mark.parametrize('words', [
    ('--camera-pitch', '10'), ('--stature', '172'), ('--camera-height', '-1'), ('--camera-height', 'nan'),
    ('--camera-height', '1', '--camera-pitch', '100')])
def test_a_floor_that_cannot_be_is_refused_by_the_name_of_the_option(words: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=words[-2]):
        floor_of(options(*words))


def test_percentiles_are_those_of_the_values() -> None:
    assert percentiles(list(range(101))) == {'p50': 50.0, 'p95': 95.0, 'p99': 99.0}


def test_json_is_strict_and_tables_line_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(tmp_path / 'new' / 'f.json', {'mpjpe_mm': float('nan'), 'heavy': {'mpjpe_mm': 3.5}})
    assert json.loads((tmp_path / 'new' / 'f.json').read_text()) == {'mpjpe_mm': None, 'heavy': {'mpjpe_mm': 3.5}}
    with pytest.raises(UserError, match='f.json'):
        write_json(tmp_path / 'new' / 'f.json' / 'g.json', {})
    print_table([['name', 'mm'], ['a', '1'], ['long name', '100']])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].endswith('  1') and len(lines[2]) == len(lines[3])
