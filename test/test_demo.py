"""The demo: children that are watched and stopped, and (with ROS) the whole way from video to files."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pose3d_ros.calibration import load_calibration, save_calibration
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.main import main
from pose3d_ros.cli.nodes import Processes, interrupted_by_termination, private_domain
from pose3d_ros.cli.places import config_file
from pose3d_ros.cli.recording import FILES
from pose3d_ros.cli.video import VideoReader, VideoWriter

SAMPLE_CAMERAS = str(config_file('samples/single_person.yaml'))
SLEEP = [sys.executable, '-c', 'import time; time.sleep(60)']
STUBBORN = [sys.executable, '-c', 'import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); '
            'print("up", flush=True); time.sleep(60)']


def alive(pid: int) -> bool:
    """Tell whether a process runs (a zombie does not)."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def test_a_process_that_fails_is_reported_with_its_last_words() -> None:
    with Processes(os.environ) as processes:
        processes.start('poet', [sys.executable, '-c', 'import sys; print("once upon a time"); sys.exit("no ending")'])
        with pytest.raises(UserError, match=r'(?s)poet died \(exit status 1\).*once upon a time.*no ending'):
            wait_for(lambda: processes.ended('poet'))


def test_a_process_that_is_killed_is_reported_by_signal() -> None:
    with Processes(os.environ) as processes:
        process = processes.start('victim', SLEEP)
        assert processes.ended('victim') is False
        process.kill()
        with pytest.raises(UserError, match='SIGKILL'):
            wait_for(lambda: processes.ended('victim'))


def test_leaving_stops_every_process_even_stubborn_ones() -> None:
    with Processes(os.environ, grace_s=1.0) as processes:
        pids = [processes.start('sleeper', SLEEP).pid, processes.start('stubborn', STUBBORN).pid]
        wait_for(lambda: 'up' in processes.last_words('stubborn'))
    assert not any(alive(pid) for pid in pids)


def test_children_do_not_outlive_a_parent_that_is_killed() -> None:
    code = ('import os, sys, time; from pose3d_ros.cli.nodes import Processes\n'
            'with Processes(os.environ) as processes:\n'
            f'    print(processes.start("sleeper", {SLEEP!r}).pid, flush=True)\n'
            '    time.sleep(60)\n')
    parent = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    wait_for(lambda: not alive(child))


def test_two_demos_have_two_domains_on_this_computer_only() -> None:
    with private_domain() as first, private_domain() as second:
        assert first['ROS_DOMAIN_ID'] != second['ROS_DOMAIN_ID']
        assert first.get('ROS_AUTOMATIC_DISCOVERY_RANGE') == 'LOCALHOST' or first.get('ROS_LOCALHOST_ONLY') == '1'


def shortened(video: Path, frames: int, folder: Path) -> Path:
    """Return a video of the first frames of another."""
    writer = VideoWriter(folder / video.name, 60.0)
    for _, image in zip(range(frames), (image for _, image in VideoReader(video).numbered())):
        writer.write(image)
    writer.close()
    return folder / video.name


@pytest.fixture
def short_video(sample_dir: Path, models_dir: Path, tmp_path: Path) -> Path:
    """Return the first 15 frames of the sample's first camera."""
    return shortened(sample_dir / 'cam01.mp4', 15, tmp_path)


def demo_of(video: Path, out: Path) -> list[str]:
    return [sys.executable, '-m', 'pose3d_ros.cli.main', 'demo', '--video', str(video), '--calibration',
            SAMPLE_CAMERAS, '--camera', 'cam01', '--out', str(out)]


@pytest.mark.ros
def test_demo_brings_every_frame_of_a_video_through_ros(short_video: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    done = subprocess.run(demo_of(short_video, out), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    summary = json.loads((out / 'summary.json').read_text())
    assert (summary['frames'], summary['frames_with_people']) == (15, 15)
    assert summary['messages'] == {'people_2d': 15, 'markers': 15, 'image_annotated': 15}
    assert 0 < summary['latency_ms']['p50'] <= summary['latency_ms']['p95'] < 5000
    assert summary['fps'] > 0 and summary['provider']
    assert {'detect', 'track', 'lift', 'refine'} <= set(summary['stage_ms'])
    rows = list(csv.DictReader((out / 'people.csv').read_text().splitlines()))
    assert len({row['stamp_s'] for row in rows}) == 15
    distances = [float(row['z_m']) for row in rows if row['joint'] == 'pelvis' and row['id'] == '1']
    assert 2.0 < np.median(distances) < 6.0  # he stands at about 3.4 m
    assert VideoReader(out / 'annotated.mp4').count == 15


@pytest.mark.ros
@pytest.mark.parametrize('arrangement', ['mono_node', 'multi_node'])
def test_several_cameras_are_fused_over_ros_frame_by_frame(sample_dir: Path, models_dir: Path, tmp_path: Path,
                                                           arrangement: str) -> None:
    videos = [str(shortened(sample_dir / f'cam0{number}.mp4', 6, tmp_path)) for number in (1, 3)]
    out, one = tmp_path / 'out', ['--one-process'] if arrangement == 'multi_node' else []
    done = subprocess.run([
        sys.executable, '-m', 'pose3d_ros.cli.main', 'demo', '--multi', *videos, '--calibration', SAMPLE_CAMERAS,
        '--out', str(out), *one],
        capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == ['people.csv', 'picture.png', 'summary.json']
    summary = json.loads((out / 'summary.json').read_text())
    assert summary['nodes'] == arrangement and summary['provider']
    assert summary['reports'] == {'cam01': 6, 'cam03': 6}
    assert summary['frames'] == summary['frames_with_people'] == 6 and summary['cameras_with_people'] == 2
    assert summary['fusion']['sets'] == 6 and summary['fusion']['views_per_set'] == 2
    assert 0 < summary['latency_ms']['p50'] <= summary['latency_ms']['p95'] < 5000
    rows = list(csv.DictReader((out / 'people.csv').read_text().splitlines()))
    pelvis = np.array([[float(row[axis]) for axis in ('x_m', 'y_m', 'z_m')] for row in rows
                       if row['joint'] == 'pelvis' and row['id'] == '1'])
    np.testing.assert_allclose(pelvis[-1], [-1.3, -0.1, 0.9], atol=0.3)  # where he stands on the beam


@pytest.mark.parametrize('wrong, words', [
    (['--cameras', 'cam01'], 'say --multi'), (['--multi', 'a.mp4'], 'needs --calibration'),
    (['--multi', '--camera', 'cam01'], 'for one camera'), (['--multi', '--camera-height', '1'], 'for one camera'),
    (['--multi', 'cam01.mp4', '--calibration', SAMPLE_CAMERAS], 'two cameras at least')])
def test_options_that_do_not_go_together_are_refused(wrong: list[str], words: str,
                                                     capsys: pytest.CaptureFixture[str], models_dir: Path) -> None:
    assert main(['demo', *wrong]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.ros
def test_cameras_of_unlike_rates_count_for_the_set_they_go_with() -> None:
    from pose3d_ros.cli.recorder_fused import cameras_with_people  # imports rclpy

    reports = {'fast': dict.fromkeys(range(1, 41), 1), 'slow': dict.fromkeys(range(4, 41, 4), 2), 'blind': {4: 0}}
    assert cameras_with_people(reports, range(4, 41, 4)) == 2.0
    assert cameras_with_people(reports, range(1, 41)) == 1.25
    assert cameras_with_people(reports, []) == 0.0


def test_cameras_whose_names_no_topic_can_have_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    renamed = tmp_path / 'cameras.yaml'
    save_calibration(renamed, dict(zip(('left', 'front-left'), load_calibration(SAMPLE_CAMERAS).values())))
    videos = ['left.mp4', 'front-left.mp4']
    assert main(['demo', '--multi', *videos, '--calibration', str(renamed)]) == 1
    assert f"'front-left' cannot be part of a topic: use letters, digits and single underscores, and begin with no " \
           f'digit; rename it in {renamed}' in capsys.readouterr().err


@pytest.mark.ros
def test_an_interrupted_demo_stops_its_nodes_and_leaves_nothing_half_done(short_video: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    demo = subprocess.Popen(demo_of(short_video, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    children = Path(f'/proc/{demo.pid}/task/{demo.pid}/children')
    wait_for(lambda: len(children.read_text().split()) >= 2 and out.exists())
    pids = [int(pid) for pid in children.read_text().split()]
    demo.send_signal(signal.SIGTERM)
    _, said = demo.communicate(timeout=30)
    assert demo.returncode == 130
    assert 'Traceback' not in said
    assert not any(alive(pid) for pid in pids)
    assert list(out.iterdir()) == []


@pytest.mark.ros
def test_a_node_that_dies_ends_the_demo_with_its_reason(short_video: Path, tmp_path: Path) -> None:
    params = tmp_path / 'params.yaml'
    params.write_text('/**/mono_node:\n  ros__parameters:\n    max_poeple: 3\n')
    done = subprocess.run([*demo_of(short_video, tmp_path / 'out'), '--params', str(params)], capture_output=True,
                          text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert 'mono_node' in done.stderr and 'max_people' in done.stderr
    assert 'Traceback' not in done.stderr
    assert not (tmp_path / 'out' / 'summary.json').exists()


def test_termination_is_handled_like_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt), interrupted_by_termination():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)


def wait_for(condition, seconds: float = 20.0) -> None:  # noqa: ANN001
    """Return as soon as condition() is true; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
