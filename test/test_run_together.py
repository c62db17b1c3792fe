"""`pose3d run --together`: videos of several cameras to one set of people in the world, with errors a user can act on.

People of known place walk before four cameras; the pipelines are replaced by what the cameras see of them.
"""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import fakes
import numpy as np
import pytest
import synthetic

from pose3d_ros.calibration import CalibratedCamera, load_calibration, save_calibration
from pose3d_ros.camera import Camera
from pose3d_ros.cli import run_together
from pose3d_ros.cli.fused_picture import FusedPictures, as_seen, in_camera, likely_up
from pose3d_ros.cli.main import main
from pose3d_ros.cli.places import config_file
from pose3d_ros.cli.recording import COLUMNS, FILES
from pose3d_ros.cli.sample_reference import View as ReferenceView
from pose3d_ros.cli.sample_reference import build_reference
from pose3d_ros.cli.video import VideoReader, VideoWriter
from pose3d_ros.detect import Detector
from pose3d_ros.palette import LEFT
from pose3d_ros.pipeline import Pipeline, Result
from pose3d_ros.records import Frame, Person3D
from pose3d_ros.skeleton import HUMAN17, LIMBS12, select

CAMERA = Camera(320, 240, 225.0, 225.0, 159.5, 119.5)
FPS = 30.0


def looking(place: tuple[float, float, float], at: tuple[float, float, float] = (0.0, 0.0, 1.0)) -> np.ndarray:
    """Return camera_T_world of an upright camera at a place that looks at a point; the world's z is up."""
    ahead = np.subtract(at, place) / np.linalg.norm(np.subtract(at, place))
    right = np.cross(ahead, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = [right, np.cross(ahead, right), ahead]
    pose[:3, 3] = -pose[:3, :3] @ place
    return pose


CAMERAS = {name: CalibratedCamera(CAMERA, looking(place)) for name, place in {
    'a': (4.0, 0.5, 1.6), 'b': (0.5, 4.0, 1.4), 'c': (-4.0, -0.5, 1.8), 'd': (0.0, -4.0, 1.5)}.items()}


def walking(seconds: float) -> np.ndarray:
    """Return the joints (33, 3) m of BLAZEPOSE33 of somebody who walks along x, in the world."""
    joints = synthetic.body(phase=2 * np.pi * seconds)
    return np.stack([0.6 * seconds - 0.4 + joints[:, 2], joints[:, 0], joints[:, 1]], axis=-1)  # ahead, left, up


class Seeing:
    """Stands in for a Pipeline: gives what the frame's camera sees of the walker, without any 3D."""

    def __init__(self) -> None:
        self.closed = 0

    def __call__(self, frame: Frame) -> Result:
        pose = CAMERAS[frame.frame_id].camera_T_world
        points = walking(frame.stamp_ns * 1e-9) @ pose[:3, :3].T + pose[:3, 3]
        person = replace(synthetic.seen(points, frame.camera), id=1)
        return Result([person], [], {'detect': 5.0, 'track': 0.2, 'lift': 1.0, 'refine': 0.1})

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def pipelines(monkeypatch: pytest.MonkeyPatch) -> list[Seeing]:
    """Put the stand-ins in the place of the pipelines and return them, once there are some."""
    made: list[Seeing] = []

    def open_group(count: int, **options: object) -> list[Seeing]:
        made.extend(Seeing() for _ in range(count))
        return made

    monkeypatch.setattr(Pipeline, 'open_group', open_group)
    monkeypatch.setattr(run_together, 'run_together', lambda pipelines, frames: [
        pipeline(frame) for pipeline, frame in zip(pipelines, frames)])
    return made


def footage(folder: Path, names: str = 'abcd', frames: int = 20, fps: float = FPS, size: tuple[int, int] = (320, 240),
            ) -> list[str]:
    """Write a grey video for each camera; return their paths."""
    paths = []
    for name in names:
        writer = VideoWriter(folder / f'{name}.mp4', fps)
        for number in range(frames):
            writer.write(np.full((size[1], size[0], 3), 60 + number, dtype=np.uint8))
        writer.close()
        paths.append(str(folder / f'{name}.mp4'))
    return paths


def calibration(folder: Path, cameras: dict[str, CalibratedCamera] = CAMERAS) -> str:
    save_calibration(folder / 'cameras.yaml', cameras)
    return str(folder / 'cameras.yaml')


def rows_of(out: Path) -> dict[float, dict[str, np.ndarray]]:
    """Return the joints (17, 3) m of people.csv by time and id."""
    found: dict[float, dict[str, np.ndarray]] = {}
    for row in csv.DictReader((out / 'people.csv').read_text().splitlines()):
        assert row['frame_id'] == 'world'
        person = found.setdefault(float(row['stamp_s']), {}).setdefault(row['id'], np.full((17, 3), np.nan))
        if row['x_m']:
            person[HUMAN17.index(row['joint'])] = [float(row[axis]) for axis in ('x_m', 'y_m', 'z_m')]
    return found


def errors_mm(out: Path) -> np.ndarray:
    """Return the errors (T, 12) mm of the limbs of the only person, against the truth."""
    return np.array([
        1e3 * np.linalg.norm(select(person, HUMAN17, LIMBS12) - select(fakes.human17(walking(stamp)), HUMAN17, LIMBS12),
                             axis=-1)
        for stamp, people in rows_of(out).items() for person in people.values()])


def test_all_files_are_there_and_the_people_are_where_they_were(tmp_path: Path, pipelines: list[Seeing]) -> None:
    out = tmp_path / 'out'
    assert main(['run', *footage(tmp_path), '--calibration', calibration(tmp_path), '--together',
                 '--out', str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    assert tuple((out / 'people.csv').read_text().splitlines()[0].split(',')) == COLUMNS
    found = rows_of(out)
    assert len(found) == 20
    assert {name for people in found.values() for name in people} == {'1'}
    errors = errors_mm(out)
    assert np.nanmean(errors) < 20 and np.isfinite(errors).mean() > 0.95
    assert VideoReader(out / 'annotated.mp4').count == 20
    assert cv2.imread(str(out / 'picture.png')).shape[0] > 1500
    summary = json.loads((out / 'summary.json').read_text())
    assert (summary['frames'], summary['frames_with_people']) == (20, 20)
    assert summary['people'] == {'mean': 1.0, 'ids': 1, 'frames_by_number': {'1': 20}}
    assert set(summary['stage_ms']) == {'detect', 'track', 'lift', 'refine', 'fuse'}
    assert summary['stage_ms']['track'] == pytest.approx(0.8)  # four cameras
    assert summary['fps'] > 0 and summary['limb_variation'] < 0.03 and 'matched' in summary['fuser']
    for name in 'abcd':
        camera = summary['cameras'][name]
        assert camera['missing_frames'] == 0 and camera['joints_off_share'] < 0.02
        assert camera['residual_px'] < 1.5
    assert [pipeline.closed for pipeline in pipelines] == [1] * 4


def test_cameras_can_be_named_and_may_begin_at_other_times_with_other_rates(tmp_path: Path, pipelines: list[Seeing],
                                                                            ) -> None:
    slow, fast = footage(tmp_path, 'xy', frames=20, fps=25.0), footage(tmp_path, 'z', frames=40, fps=60.0)
    assert main(['run', *slow, *fast, '--cameras', 'a', 'b', 'c', '--offsets', '0', '0.1', '0.03', '--together',
                 '--calibration', calibration(tmp_path), '--out', str(tmp_path / 'out')]) == 0
    stamps = list(rows_of(tmp_path / 'out'))
    assert stamps[0] >= 0.1 and stamps[-1] <= 0.03 + 39 / 60
    np.testing.assert_allclose(np.diff(stamps), 1 / 25, atol=1e-5)
    assert np.nanmean(errors_mm(tmp_path / 'out')) < 25


def test_a_video_that_breaks_off_leaves_the_people_in_view(tmp_path: Path, pipelines: list[Seeing],
                                                           monkeypatch: pytest.MonkeyPatch,
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    videos = footage(tmp_path)
    whole = VideoReader.numbered
    monkeypatch.setattr(VideoReader, 'numbered', lambda self: (
        entry for entry in whole(self) if self.path.stem != 'b' or entry[0] < 8))
    assert main(['run', *videos, '--calibration', calibration(tmp_path), '--together',
                 '--out', str(tmp_path / 'out')]) == 0
    assert 'b.mp4: 12 of 20 frames could not be decoded' in capsys.readouterr().out
    assert len(rows_of(tmp_path / 'out')) == 20
    assert np.nanmean(errors_mm(tmp_path / 'out')) < 25
    assert json.loads((tmp_path / 'out' / 'summary.json').read_text())['cameras']['b']['missing_frames'] == 12


def test_videos_without_a_single_image_leave_nothing(tmp_path: Path, pipelines: list[Seeing],
                                                     monkeypatch: pytest.MonkeyPatch,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(VideoReader, 'numbered', lambda self: (entry for entry in ()))
    assert main(['run', *footage(tmp_path, 'ab'), '--calibration', calibration(tmp_path), '--together',
                 '--out', str(tmp_path / 'out')]) == 1
    assert 'no images that can be decoded' in capsys.readouterr().err.splitlines()[-1]
    assert list((tmp_path / 'out').iterdir()) == []
    assert all(pipeline.closed for pipeline in pipelines)


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line with which the command gives up."""
    assert main(['run', *arguments]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_what_cannot_be_brought_together_is_refused_in_one_line(tmp_path: Path,
                                                                capsys: pytest.CaptureFixture[str]) -> None:
    a, b, *_ = footage(tmp_path)
    together = ['--together', '--calibration', calibration(tmp_path), '--out', str(tmp_path / 'out')]
    assert 'two cameras' in refused([a, *together], capsys)
    (tmp_path / 'more').mkdir()
    again = footage(tmp_path / 'more', 'a')
    assert "'a' already" in refused([a, *again, *together], capsys)
    other = footage(tmp_path, 'q')
    assert "no camera 'q'" in refused([a, *other, *together], capsys)
    assert '--cameras: 1 given for 2' in refused([a, b, '--cameras', 'a', *together], capsys)
    assert '--offsets: 3 given for 2' in refused([a, b, '--offsets', '0', '0', '0', *together], capsys)
    assert 'no time in common' in refused([a, b, '--offsets', '0', '9', *together], capsys)
    assert '--together' in refused([a, b, '--offsets', '0', '9', *together[1:]], capsys)
    assert '--camera-height' in refused([a, b, '--camera-height', '1', *together], capsys)
    small = footage(tmp_path / 'more', 'b', size=(160, 120))
    assert 'video is 160x120, but the calibration is for 320x240' in refused([a, *small, *together], capsys)
    without = CAMERAS | {'b': CalibratedCamera(CAMERA)}
    together[2] = calibration(tmp_path, without)
    assert "'b' has no camera_T_world" in refused([a, b, *together], capsys)
    assert not (tmp_path / 'out').exists()


def world_person(seconds: float = 0.5) -> Person3D:
    return replace(fakes.standing(), position=fakes.human17(walking(seconds)))


def test_people_of_the_world_are_drawn_where_each_camera_sees_them() -> None:
    person = world_person()
    pictures = FusedPictures(CAMERAS)
    images = {name: np.full((240, 320, 3), 128, dtype=np.uint8) for name in 'abc'}
    drawn, empty = pictures.draw(images, [person]), pictures.draw(images, [])
    across = 4 // pictures.rows
    side = (drawn.shape[1] - 560) // across
    for place, name in enumerate(CAMERAS):
        top, left = place // across * (240 + 4), place % across * side
        tiles = [picture[top:top + 240, left:left + side] for picture in (drawn, empty)]
        assert (tiles[0] != tiles[1]).any() == (name != 'd')  # which gave no image
    pose = CAMERAS['a'].camera_T_world
    assert pose is not None
    wrist = as_seen(in_camera(person, pose), CAMERA).pixels[HUMAN17.index('left_wrist')]
    x, y = np.round(wrist).astype(int)  # small images are shown as they are
    assert (np.abs(drawn[y - 4:y + 5, x - 4:x + 5].astype(int) - LEFT[::-1]).max(axis=-1) < 40).any()


@pytest.mark.parametrize('height', [-0.3, 1.0, 3.0, 8.0])
def test_which_way_is_up_is_told_from_the_cameras_of_one_side(height: float) -> None:
    poses = np.array([looking((x, -3.0, height), (0.5 * x, 0.0, 0.7)) for x in (-2.0, 0.0, 1.0)])
    assert likely_up(poses).argmax() == np.abs(likely_up(poses)).argmax() == 2
    other_world = np.eye(4)
    other_world[:3, :3] = [[1, 0, 0], [0, 0, 1], [0, -1, 0]]  # its y points down
    turned = likely_up(poses @ other_world)
    assert np.abs(turned).argmax() == 1 and turned[1] < 0


def test_who_is_out_of_view_leaves_no_label_there() -> None:
    pictures = FusedPictures(CAMERAS)
    images = {name: np.full((240, 320, 3), 128, dtype=np.uint8) for name in CAMERAS}
    aside = replace(world_person(), position=world_person().position + [0.0, 9.0, 0.0])  # ahead of d, behind b
    drawn, empty = pictures.draw(images, [aside])[:, :-560], pictures.draw(images, [])[:, :-560]
    side = drawn.shape[1] // (4 // pictures.rows)
    changed = [(drawn[:, place * side:][:, :side] != empty[:, place * side:][:, :side]).any() for place in range(4)]
    assert changed == [False, False, False, True]


def test_the_plan_widens_for_people_but_not_for_who_is_nowhere() -> None:
    pictures = FusedPictures(CAMERAS)
    images = {name: np.zeros((240, 320, 3), dtype=np.uint8) for name in CAMERAS}
    before = pictures.draw(images, [])[:, -560:]
    ghost = replace(world_person(), position=world_person().position + 1e6)
    np.testing.assert_array_equal(pictures.draw(images, [ghost])[:, -560:], before)
    pictures.draw(images, [replace(world_person(), position=world_person().position + [9.0, 0.0, 0.0])])
    assert (pictures.draw(images, [])[:, -560:] != before).any()


def test_limbs_of_one_length_are_steady() -> None:
    track = [select(fakes.human17(walking(n / 30)), HUMAN17, LIMBS12) for n in range(15)]
    assert run_together.steadiness([track]) < 1e-9
    assert run_together.steadiness([[(1 + 0.1 * (n % 2)) * joints for n, joints in enumerate(track)]]) > 0.03
    assert np.isnan(run_together.steadiness([track[:5], []]))


@pytest.mark.slow
def test_the_man_on_the_beam_is_one_person_where_four_views_say(sample_dir: Path, models_dir: Path, tmp_path: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the triangulation of the same 2D model, without tracking and filters and with the future known."""
    frames = 40
    cameras = load_calibration(config_file('samples/single_person.yaml'))
    videos = [sample_dir / f'{name}.mp4' for name in cameras]
    monkeypatch.setattr(run_together, 'VideoReader', lambda path: shortened(path, frames))
    assert main(['run', *map(str, videos), '--together', '--out', str(tmp_path),
                 '--calibration', str(config_file('samples/single_person.yaml'))]) == 0
    reference = beam_reference(cameras, videos, frames)
    hips = LIMBS12.indices(['left_hip', 'right_hip'])
    found, errors, ids = rows_of(tmp_path), [], set()
    assert len(found) == frames
    for people, truth in zip(found.values(), reference):
        limbs = {name: select(person, HUMAN17, LIMBS12) for name, person in people.items()}
        there = {name: points for name, points in limbs.items()
                 if np.linalg.norm((points[hips] - truth[hips]).mean(axis=0)) < 0.5}
        if len(there) == 1:
            ids |= there.keys()
            errors.append(np.linalg.norm(next(iter(there.values())) - truth, axis=-1))
    assert len(errors) >= 0.98 * frames and len(ids) == 1
    assert 1e3 * np.nanmean(errors) < 20 and np.isfinite(errors).mean() > 0.95


def shortened(path: Path, frames: int) -> VideoReader:
    video = VideoReader(path)
    video.count = frames
    return video


def beam_reference(cameras: dict[str, CalibratedCamera], videos: list[Path], frames: int) -> np.ndarray:
    """Return the limbs (T, 12, 3) m of the man on the beam, triangulated from all cameras."""
    detectors = Detector.open_group(len(cameras), 'full')
    detections = [[detector(frame) for frame in islice(VideoReader(video).frames(calibrated.camera), frames)]
                  for detector, video, calibrated in zip(detectors, videos, cameras.values())]
    for detector in detectors:
        detector.close()
    return build_reference([ReferenceView(name, calibrated.camera, calibrated.camera_T_world)
                            for name, calibrated in cameras.items() if calibrated.camera_T_world is not None],
                           detections).points
