"""`pose3d adapt`: what it reads, what it writes, and errors a user can act on.

Somebody walks before three cameras; training is replaced by what it might have found, but for one test.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import bags
import cv2
import numpy as np
import pytest
from people_about import FPS, ring, walk

from pose3d_ros.calibration import CalibratedCamera, save_calibration, save_places
from pose3d_ros.camera import Camera
from pose3d_ros.cli import calibrate_seen
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.main import main
from pose3d_ros.cli.people_file import load_people, save_people
from pose3d_ros.cli.site_clocks import check_clocks
from pose3d_ros.cli.video import VideoWriter
from pose3d_ros.fuse.extrinsics.tracks import JOINTS
from pose3d_ros.fuse.views import View
from pose3d_ros.lift import INPUTS, lifter_file
from pose3d_ros.records import Frame, Person2D
from pose3d_ros.skeleton import BLAZEPOSE33

torch = pytest.importorskip('torch')

from pose3d_ros.train import adapt  # noqa: E402
from pose3d_ros.train.adapt_judge import figures_of, per_camera  # noqa: E402
from pose3d_ros.train.site import SiteRecording  # noqa: E402

NAMES = ('front', 'left', 'right')
POSES = dict(zip(NAMES, ring(3)))
LENSES = {name: Camera(64, 48, 60.0 + number, 60.0 + number, 31.5, 23.5, 'plumb_bob', (0.0,) * 5)
          for number, name in enumerate(NAMES)}
FRAMES = 60
GREYS = (110, 160, 210)  # of the three videos
OUTPUTS = {'lifter.onnx', 'lifter.md', 'report.html'}


class Training:
    """Stands in for train.adapt.adapt: keeps what it was given, and finds an error that shrinks to a share."""

    def __init__(self, share: float) -> None:
        self.share, self.calls = share, []

    def __call__(self, site: SiteRecording, out: Path, lifter: Path | None, settings: adapt.AdaptSettings,
                 mocap: object, minutes: float, command: str) -> adapt.Report:
        out.mkdir(exist_ok=True)
        self.calls.append((site, lifter, settings, mocap, minutes, command))
        _, held = late_half(site)
        reference = held.reference()
        truth = np.nan_to_num(np.linalg.pinv(adapt.input_points()) @ np.nan_to_num(reference))
        before, after = ((truth + [0, 0, off]).astype(np.float32) for off in (0.5, 0.5 * self.share))
        figures = {name: {**figures_of(joints, reference, held), 'coverage_90': 0.9}
                   for name, joints in (('before', before), ('after', after))}
        gain = 1 - figures['after']['crossview_px'] / figures['before']['crossview_px']
        path = out / 'lifter.onnx'
        if gain > 0:
            path.write_bytes(lifter_file().read_bytes())
        else:
            path.unlink(missing_ok=True)
        (out / 'log.csv').write_text('step,seconds,loss,across,across_before,best\n50,1,2,3,4,3\n100,2,2,2.5,4,2.5\n')
        error = np.ones(len(held))
        return adapt.Report(gain > 0, 'the people lie as far off as before', path if gain > 0 else None, {
            **figures, 'crossview_gain': gain, 'mrpe_gain': gain, 'cameras': per_camera(error, error, held),
            'stature_before_m': [1.7, 0.1], 'stature_after_m': [1.75, 0.09],
            'people': [{'person': 1, 'stature_m': 1.75, 'sigma_m': 0.02, 'samples': 100}]},
            held, before, after, reference)


def late_half(site: SiteRecording) -> tuple[SiteRecording, SiteRecording]:
    """Return the samples before and after the middle of the time."""
    late = site.stamp_ns > (site.stamp_ns.min() + site.stamp_ns.max()) // 2
    return site.where(~late), site.where(late)


@pytest.fixture
def better(monkeypatch: pytest.MonkeyPatch) -> Training:
    training = Training(0.5)
    monkeypatch.setattr(adapt, 'adapt', training)
    return training


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People2D of three cameras, and TF in which all of them move."""
    path = tmp_path_factory.mktemp('people') / 'bag'
    with bags.BagWriter(path) as writer:
        for number in range(FRAMES):
            stamp = bags.START_NS + round(number * 1e9 / FPS)
            map_T_base = np.eye(4)
            map_T_base[0, 3] = 0.3 * number / FPS
            writer.write('/tf', bags.TF, bags.tf_message('map', 'base', map_T_base, stamp), stamp)
            for name, pose in POSES.items():
                if number == 0:
                    message = bags.tf_message('base', f'{name}_optical_frame', np.linalg.inv(pose), stamp)
                    writer.write('/tf_static', bags.TF, message, stamp)
                message = bags.people_2d(bags.rays_of(pose, number / FPS), stamp, f'{name}_optical_frame')
                writer.write(f'/{name}/people_2d', bags.PEOPLE_2D, message, stamp)
    return path


class Seeing:
    """Stands in for a Pipeline: sees who walks there. A frame's camera tells whose it is.

    start_ns: when he starts; most: somebody stops the command after so many images.
    """

    detected, start_ns, most = 0, 0, 10**6

    def detect(self, frame: Frame) -> list[Person2D]:
        if self.detected >= self.most:
            raise KeyboardInterrupt
        self.detected += 1
        pose = POSES[next(name for name, camera in LENSES.items() if camera == frame.camera)]
        local = walk(np.array([(frame.stamp_ns - self.start_ns) * 1e-9]))[0] @ pose[:3, :3].T + pose[:3, 3]
        rays = local[:, :2] / local[:, 2:]
        one = np.ones(len(JOINTS))
        return [Person2D(JOINTS, frame.camera.distort(rays), rays, 0.1 * one, one, 0 * one, np.zeros(4), 0.9, 1)]

    def track(self, people: list[Person2D], stamp_ns: int) -> list[Person2D]:
        return people

    def reset(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def seeing(monkeypatch: pytest.MonkeyPatch) -> Seeing:
    stand_in = Seeing()
    monkeypatch.setattr(calibrate_seen.Pipeline, 'open', lambda **options: stand_in)
    return stand_in


@pytest.fixture(scope='module')
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp('videos')
    for number, name in enumerate(NAMES):
        writer = VideoWriter(folder / f'{name}.mp4', FPS)
        for _ in range(FRAMES):
            writer.write(np.full((48, 64, 3), GREYS[number], dtype=np.uint8))
        writer.close()
    save_calibration(folder / 'cameras.yaml', {name: CalibratedCamera(lens, POSES[name])
                                               for name, lens in LENSES.items()})
    return [*(str(folder / f'{name}.mp4') for name in NAMES), '--calibration', str(folder / 'cameras.yaml')]


def call(out: Path, *words: str) -> int:
    return main(['adapt', *words, '--out', str(out)])


def test_a_bag_with_tf_gives_lifter_card_and_report(bag: Path, tmp_path: Path, better: Training,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    assert call(tmp_path, str(bag), '--frame', 'map', '--json', str(tmp_path / 'f.json'), '--steps', '7') == 0
    assert {path.name for path in tmp_path.iterdir()} >= OUTPUTS
    (site, lifter, settings, mocap, _, command), = better.calls
    assert site.cameras == NAMES and lifter == lifter_file() and mocap is None and settings.steps == 7
    assert command == 'pose3d adapt bag --frame map --hold-out 0.4 --steps 7'
    # The world is that of TF, in which the cameras move: where they see the walker is where he is, in map.
    points = site.reference()
    own = np.linalg.inv(site.poses[np.arange(len(site)), site.camera])
    world = points @ own[:, :3, :3].swapaxes(1, 2) + own[:, None, :3, 3]
    seconds = (site.stamp_ns - bags.START_NS) * 1e-9
    hip = walk(seconds)[:, JOINTS.index('left_hip')] + np.stack([0.3 * seconds, 0 * seconds, 0 * seconds], axis=1)
    assert np.nanmax(np.linalg.norm(world[:, INPUTS.index('left_hip')] - hip, axis=1)) < 0.01
    said = capsys.readouterr().out
    assert 'Better by ' in said and 'lifter:=' in said
    assert 0.2 < json.loads((tmp_path / 'f.json').read_text())['crossview_gain'] < 0.8


def test_the_report_holds_all_by_itself_and_the_card_says_what_the_lifter_is(bag: Path, tmp_path: Path,
                                                                             better: Training) -> None:
    assert call(tmp_path, str(bag), '--frame', 'map') == 0
    text = (tmp_path / 'report.html').read_text()
    assert text.index('Better by') < text.index('<table>')
    assert text.count('data:image/jpeg;base64') == 4 and text.count('data:image/png;base64') == 2
    assert not re.search(r'(src|href)="(?!data:)', text)
    for name in (*NAMES, 'triangulation', 'held out', 'pose3d adapt bag', '1.75'):
        assert name in text
    assert 'is short (1.0 s)' in text
    card = (tmp_path / 'lifter.md').read_text()
    for name in ('comes with pose3d_ros', 'recording: bag', 'front, left, right', 'pose3d adapt bag', 'lifter: '):
        assert name in card


def test_where_nothing_improves_the_old_weights_are_kept_and_the_report_says_so(
        bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(adapt, 'adapt', Training(0.5))
    assert call(tmp_path, str(bag), '--frame', 'map') == 0
    assert {path.name for path in tmp_path.iterdir()} >= OUTPUTS
    monkeypatch.setattr(adapt, 'adapt', Training(1.2))
    assert call(tmp_path, str(bag), '--frame', 'map') == 0
    assert {path.name for path in tmp_path.iterdir()} & OUTPUTS == {'report.html'}
    text = (tmp_path / 'report.html').read_text()
    assert 'thrown away: the people lie as far off as before.' in text and 'Better by' not in text
    # What was tried is nowhere shown as what there is now.
    assert '<th>kept</th><th>tried</th>' in text and 'px kept, ' in text and not re.search('(px|<th>)[ ,]*after', text)
    out = capsys.readouterr().out
    assert 'Kept the old weights' in out and 'lifter:=' not in out.split('Kept', 1)[1]


def test_videos_are_detected_in_once_and_their_frames_are_in_the_report(videos: list[str], tmp_path: Path,
                                                                        better: Training, seeing: Seeing) -> None:
    assert call(tmp_path, *videos, '--offsets', '10', '10', '10') == 0
    assert seeing.detected == 3 * FRAMES
    site = better.calls[0][0]
    assert site.stamp_ns.min() < 1e9  # the first of the videos begins at 0
    text = (tmp_path / 'report.html').read_text()
    pictures = [cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
                for data in re.findall('data:image/jpeg;base64,([^"]+)', text)]
    for picture in pictures:
        paper = (picture > 250).all(axis=2)
        assert min(abs(np.median(picture[~paper]) - grey) for grey in GREYS) < 15
    assert len(pictures) == 4
    assert call(tmp_path, *videos) == 0
    assert seeing.detected == 3 * FRAMES and len(better.calls) == 2
    again = better.calls[1][0]
    assert np.allclose(site.rays, again.rays, atol=1e-6) and np.allclose(site.seen_sigma, again.seen_sigma)


def test_people_come_back_from_a_file_as_they_were(tmp_path: Path) -> None:
    seen = Seeing()
    people = {name: [(stamp, seen.detect(Frame(np.zeros((48, 64, 3), np.uint8), stamp, lens)) if stamp else [])
                     for stamp in (0, 10**7)] for name, lens in LENSES.items()}
    save_people(tmp_path / 'p.npz', people, 'walk')
    back = load_people(tmp_path / 'p.npz', NAMES, 'walk')
    for name in NAMES:
        assert [(stamp, len(each)) for stamp, each in back[name]] == [(0, 0), (10**7, 1)]
        for field in ('pixels', 'rays', 'sigma', 'joint_confidence', 'id', 'state', 'swapped'):
            assert np.array_equal(getattr(back[name][1][1][0], field), getattr(people[name][1][1][0], field))
        assert back[name][1][1][0].skeleton.joints == JOINTS.joints
    full = replace(people['front'][1][1][0], skeleton=BLAZEPOSE33, **{
        name: np.zeros((33, 2)) if name in ('pixels', 'rays') else np.zeros(33)
        for name in ('pixels', 'rays', 'sigma', 'joint_confidence', 'depth')})
    save_people(tmp_path / 'q.npz', {'front': [(0, [full])]}, 'walk')
    assert load_people(tmp_path / 'q.npz', ['front'], 'walk')['front'][0][1][0].skeleton is BLAZEPOSE33


def test_real_training_in_few_steps_runs_and_decides(bag: Path, tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapt, 'AdaptSettings', partial(adapt.AdaptSettings, replay_samples=64))
    assert call(tmp_path, str(bag), '--frame', 'map', '--steps', '3', '--json', str(tmp_path / 'f.json')) == 0
    figures = json.loads((tmp_path / 'f.json').read_text())
    text = (tmp_path / 'report.html').read_text()
    assert (tmp_path / 'lifter.onnx').exists() == (tmp_path / 'lifter.md').exists() == ('Better by' in text)
    assert figures['steps'] == 3 and np.isfinite(figures['crossview_gain'])


@pytest.mark.parametrize(('words', 'reason'), [
    ([], 'needs the places of its cameras: give --frame'),
    (['--frame', 'map', '--calibration', 'x.yaml'], 'and not both'),
    (['--frame', 'moon'], "TF has no place of front in moon"),
    (['--frame', 'map', '--topics', '/front/people_2d'], 'one camera (front)'),
    (['--frame', 'map', '--topics', '/back/people_2d'], 'no topic /back/people_2d'),
    (['--frame', 'map', '--offsets', '0'], '--offsets is for videos'),
    (['--frame', 'map', '--joints', 'x.npz'], 'people_2d, which have the joints'),
    (['--frame', 'map', '--cameras', 'a', 'b'], '2 given for 3 topics'),
    (['more.mp4', '--frame', 'map'], 'one bag at a time')])
def test_what_is_asked_wrongly_of_a_bag_is_said_in_one_line(bag: Path, tmp_path: Path, better: Training,
                                                           words: list[str], reason: str,
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    assert call(tmp_path / 'out', str(bag), *words) == 1
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and reason in error[0]
    assert not better.calls and not (tmp_path / 'out').exists()


def test_what_is_wrong_with_videos_is_said_before_detecting(videos: list[str], tmp_path: Path, seeing: Seeing,
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    for words, reason in ((videos[:3], 'videos need --calibration'), ([videos[0], *videos[3:]], 'two cameras at least'),
                          ([*videos, '--offsets', '0', '99', '0'], 'no time in common'),
                          ([*videos, '--offsets', '0'], '1 given for 3 videos'),
                          ([*videos, '--frame', 'map'], '--frame is for bags')):
        assert call(tmp_path / 'out', *words) == 1
        assert reason in capsys.readouterr().err
    save_people(tmp_path / 'other.npz', {}, 'somebody else')
    assert call(tmp_path / 'out', *videos, '--joints', str(tmp_path / 'other.npz')) == 1
    assert 'holds the people of somebody else' in capsys.readouterr().err
    for words in (['--hold-out', '1'], ['--lifter', 'none.onnx'], ['--minutes', '0'], ['--steps', '0']):
        with pytest.raises(SystemExit):
            call(tmp_path / 'out', *videos, *words)
    assert not seeing.detected


def test_places_of_a_file_are_taken_and_people_nobody_shares_are_refused(bag: Path, tmp_path: Path, better: Training,
                                                                         capsys: pytest.CaptureFixture[str]) -> None:
    save_places(tmp_path / 'places.yaml', POSES)
    assert call(tmp_path / 'out', str(bag), '--calibration', str(tmp_path / 'places.yaml')) == 0
    site = better.calls[0][0]
    assert np.allclose(site.poses[0], [POSES[name] for name in site.cameras])
    save_places(tmp_path / 'two.yaml', {name: POSES[name] for name in NAMES[:2]})
    assert call(tmp_path / 'out', str(bag), '--calibration', str(tmp_path / 'two.yaml')) == 1
    assert 'no place of right' in capsys.readouterr().err


def test_the_shipped_lifter_is_never_written_to(bag: Path, tmp_path: Path, better: Training) -> None:
    before = lifter_file().read_bytes()
    assert call(tmp_path, str(bag), '--frame', 'map') == 0
    assert lifter_file().read_bytes() == before


def test_stopped_while_detecting_the_same_command_detects_in_the_cameras_that_are_left(
        videos: list[str], tmp_path: Path, better: Training, seeing: Seeing) -> None:
    seeing.most = round(1.5 * FRAMES)
    assert call(tmp_path, *videos) == 130
    assert not (tmp_path / 'people.npz').exists() and not better.calls
    seeing.most = 10**6
    assert call(tmp_path, *videos) == 0
    assert seeing.detected == round(1.5 * FRAMES) + 2 * FRAMES  # the first camera once
    assert not [path for path in tmp_path.iterdir() if 'begun' in path.name]
    assert call(tmp_path / 'at once', *videos) == 0
    stopped, at_once = (call_[0] for call_ in better.calls)
    assert stopped.fingerprint() == at_once.fingerprint()


@pytest.mark.parametrize(('storage', 'kind'), [('mcap', bags.IMAGE), ('sqlite3', bags.COMPRESSED)])
def test_images_of_a_bag_teach_what_the_videos_do(storage: str, kind: str, videos: list[str], tmp_path: Path,
                                                  better: Training, seeing: Seeing,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    assert call(tmp_path / 'videos', *videos) == 0
    topics = record_images(tmp_path / 'bag', storage, kind, tf_from=3)
    seeing.start_ns = bags.START_NS
    words = [str(tmp_path / 'bag'), '--topics', *topics, '--frame', 'map']
    assert call(tmp_path / 'out', *words) == 0
    assert 'right: 3 of 60 images left out: TF has no place of it then' in capsys.readouterr().out
    film, bag_ = (call_[0] for call_ in better.calls)
    same = np.isin(film.stamp_ns, bag_.stamp_ns - bags.START_NS) & (film.stamp_ns > 0.2e9)
    late = bag_.stamp_ns - bags.START_NS > 0.2e9
    assert late.sum() == same.sum() > 2.5 * FRAMES
    for name in ('camera', 'person', 'seen_rays', 'poses'):
        assert np.allclose(getattr(film.where(same), name), getattr(bag_.where(late), name), atol=1e-6)
    record_images(tmp_path / 'bag', storage, kind, start_ns=bags.START_NS + 10**9)  # another, of the same name
    assert call(tmp_path / 'out', *words) == 1
    assert 'holds the people of' in capsys.readouterr().err


def record_images(path: Path, storage: str, kind: str, tf_from: int = 0, start_ns: int = bags.START_NS) -> list[str]:
    """Record grey images; return the topics. tf_from: the image from which on TF knows where the last camera is."""
    shutil.rmtree(path, ignore_errors=True)
    ending = '/compressed' if kind == bags.COMPRESSED else ''
    write = bags.compressed if kind == bags.COMPRESSED else bags.image
    with bags.BagWriter(path, storage) as writer:
        for number in range(FRAMES):
            stamp = start_ns + round(number * 1e9 / FPS)
            for grey, name in zip(GREYS, NAMES):
                frame = f'{name}_optical_frame'
                message = bags.tf_message('map', frame, np.linalg.inv(POSES[name]), stamp)
                if name == NAMES[-1] and number >= tf_from:
                    writer.write('/tf', bags.TF, message, stamp)
                elif number == 0 and name != NAMES[-1]:
                    writer.write('/tf_static', bags.TF, message, stamp)
                writer.write(f'/{name}/camera_info', bags.CAMERA_INFO,
                             bags.camera_info(LENSES[name], stamp, frame), stamp)
                pixels = np.full((48, 64, 3), grey, dtype=np.uint8)
                writer.write(f'/{name}/image_raw{ending}', kind, write(pixels, stamp, frame), stamp)
    return [f'/{name}/image_raw{ending}' for name in NAMES]


def test_people_that_were_kept_are_seen_through_the_lenses_of_today(videos: list[str], tmp_path: Path,
                                                                    better: Training, seeing: Seeing) -> None:
    assert call(tmp_path, *videos) == 0
    save_calibration(tmp_path / 'new.yaml', {name: CalibratedCamera(replace(lens, fx=1.02 * lens.fx), POSES[name])
                                             for name, lens in LENSES.items()})
    assert call(tmp_path, *videos[:3], '--calibration', str(tmp_path / 'new.yaml')) == 0
    assert seeing.detected == 3 * FRAMES
    old, new = (call_[0].seen_rays for call_ in better.calls)
    assert np.allclose(new[..., 0], old[..., 0] / 1.02, atol=1e-6)


def test_clocks_that_differ_are_refused_with_the_cure(tmp_path: Path, better: Training,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    late = bags.record_people(tmp_path / 'late', POSES, 2.0, late={'left': 0.3})
    save_places(tmp_path / 'places.yaml', POSES)
    assert call(tmp_path / 'out', str(late), '--calibration', str(tmp_path / 'places.yaml')) == 1
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and 'what left shows is stamped 0.30 s later than by the others' in error[0]
    assert not better.calls
    with pytest.raises(UserError, match='left shows is stamped 0.20 s later .* --offsets 0.00 0.00 0.00'):
        check_clocks(watched(left=0.2), [1.0, 1.2, 1.0])
    with pytest.raises(UserError, match='right has no time in common with another camera: 7.0 s lie between'):
        check_clocks(watched(right=9.0))
    check_clocks(watched(left=0.1))
    assert 'left shows is stamped 0.10 s later' in capsys.readouterr().out
    check_clocks(watched())
    assert not capsys.readouterr().out


def watched(**late: float) -> dict[str, list[View]]:
    """Return what cameras show of the walker in two seconds; late [s]: what a camera's stamps show more."""
    views: dict[str, list[View]] = {}
    one = np.ones(len(JOINTS))
    for name, pose in POSES.items():
        for number in range(round(2 * FPS)):
            rays = bags.rays_of(pose, number / FPS)[0]
            person = Person2D(JOINTS, 900 * rays, rays, one, one, 0 * one, np.zeros(4), 0.9, 1)
            stamp = round((number / FPS + late.get(name, 0.0)) * 1e9)
            views.setdefault(name, []).append(View(name, pose, stamp, [person], 900.0, 1280, 720))
    return views


def test_a_lifter_to_start_from_is_checked_first_and_never_overwritten(
        videos: list[str], tmp_path: Path, seeing: Seeing, capsys: pytest.CaptureFixture[str]) -> None:
    own, wrong = tmp_path / 'lifter.onnx', tmp_path / 'wrong.onnx'
    own.write_bytes(lifter_file().read_bytes())
    wrong.write_bytes(b'none')
    for path, reason in ((own, 'would be overwritten'), (wrong, 'is no readable ONNX file')):
        assert call(tmp_path, *videos, '--lifter', str(path)) == 1
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1 and reason in error[0]
    assert own.exists() and not seeing.detected
