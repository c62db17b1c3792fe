"""Bags: read whole or refused with a reason, whatever they are stored as."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import bags
import numpy as np
import pytest
from people_about import ring

from pose3d_ros.camera import Camera
from pose3d_ros.cli.bag import Bag, is_bag
from pose3d_ros.cli.bag_images import camera_names, images_of
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.main import main
from pose3d_ros.fuse.extrinsics.reported import Reported
from pose3d_ros.fuse.extrinsics.tracks import JOINTS
from pose3d_ros.records import Person2D, PersonState
from pose3d_ros.ros.fields import from_people_2d, stamp_ns

POSES = dict(zip(('front', 'left'), ring(2)))


@pytest.fixture(scope='module', params=['mcap', 'sqlite3', 'humble'])
def bag_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('bags') / request.param
    bags.record_people(path, POSES, 0.5, 'mcap' if request.param == 'mcap' else 'sqlite3')
    if request.param == 'humble':
        bags.forget_definitions(path)
    return path


def storage_of(path: Path) -> Path:
    file, = (each for each in path.iterdir() if each.suffix in ('.mcap', '.db3'))
    return file


def test_our_messages_come_back_as_they_were_recorded(bag_path: Path) -> None:
    for path in (bag_path, storage_of(bag_path)):
        with Bag(path) as bag:
            assert bag.topics == {f'/{name}/people_2d': bags.PEOPLE_2D for name in POSES}
            messages = list(bag.messages(['/left/people_2d']))
        assert [topic for topic, _ in messages] == ['/left/people_2d'] * 15
        for number, (_, message) in enumerate(messages):
            assert stamp_ns(message.header.stamp) == bags.START_NS + round(1e9 * number / 30)
            person, = from_people_2d(message)
            rays = person.rays[person.skeleton.indices(JOINTS.joints)]
            assert np.allclose(rays, bags.rays_of(POSES['left'], number / 30)[0], atol=1e-6)
            assert np.isnan(person.rays[0]).all()  # the nose, which nobody saw


@pytest.mark.ros
def test_what_ros_itself_wrote_is_read(tmp_path: Path) -> None:
    pytest.importorskip('rclpy')
    pytest.importorskip('pose3d_ros.msg')
    from rclpy.serialization import serialize_message
    from std_msgs.msg import Header
    from synthetic import CAMERA, body, placed, seen

    from pose3d_ros.ros.convert import to_people_2d, to_stamp

    person = seen(placed(body(), 0.3, 3.0))
    header = Header(stamp=to_stamp(bags.START_NS + 7), frame_id='front')
    data = serialize_message(to_people_2d([person], CAMERA, header))
    with bags.BagWriter(tmp_path / 'bag') as writer:
        writer.write_bytes('/front/people_2d', bags.PEOPLE_2D, data, bags.START_NS)
    with Bag(tmp_path / 'bag') as bag:
        (_, message), = bag.messages(bag.topics)
    again, = from_people_2d(message)
    assert stamp_ns(message.header.stamp) == bags.START_NS + 7 and message.header.frame_id == 'front'
    assert np.allclose(again.rays, person.rays, atol=1e-6, equal_nan=True)


def test_a_bag_cut_off_is_refused_in_one_line(bag_path: Path, tmp_path: Path) -> None:
    whole = storage_of(bag_path)
    data = whole.read_bytes()
    broken = tmp_path / f'broken{whole.suffix}'
    for size in (0, 5, 100, len(data) // 3, 2 * len(data) // 3):
        broken.write_bytes(data[:size])
        with pytest.raises(UserError, match='cannot be read') as error, Bag(broken) as bag:
            list(bag.messages(bag.topics))
        assert 'record again' in str(error.value) and '\n' not in str(error.value)


def test_bytes_that_flipped_never_crash(bag_path: Path, tmp_path: Path) -> None:
    whole = storage_of(bag_path)
    rng = np.random.default_rng(0)
    broken = tmp_path / f'broken{whole.suffix}'
    refused = 0
    for _ in range(25):
        data = bytearray(whole.read_bytes())
        for place in rng.integers(0, len(data), 20):
            data[place] = rng.integers(256)
        broken.write_bytes(data)
        try:
            with Bag(broken) as bag:
                list(bag.messages(bag.topics))
        except UserError:
            refused += 1
    assert refused > 0


def test_a_recording_that_was_killed_has_no_metadata_and_is_read_from_its_file(tmp_path: Path) -> None:
    path = bags.record_people(tmp_path / 'bag', POSES, 0.1)
    (path / 'metadata.yaml').unlink()
    with Bag(path) as bag:
        assert len(list(bag.messages(bag.topics))) == 6


@pytest.mark.parametrize(('name', 'reason'), [
    ('nowhere', 'is not there'), ('empty', 'is no bag: there is no metadata.yaml'), ('old.bag', 'rosbags-convert'),
    ('notes.txt', 'is no bag; give the folder'), ('text.mcap', 'cannot be read')])
def test_what_is_no_bag_is_said(tmp_path: Path, name: str, reason: str) -> None:
    path = tmp_path / name
    if path.suffix:
        path.write_text('nothing of this kind')
    elif name == 'empty':
        path.mkdir()
    with pytest.raises(UserError, match=reason):
        Bag(path)


def test_topics_that_are_missing_or_of_another_type_are_named_with_those_that_are_there(bag_path: Path) -> None:
    with Bag(bag_path) as bag:
        with pytest.raises(UserError, match=r'no topic /right/people_2d; it has: /front/people_2d \(pose3d_ros'):
            bag.check(['/right/people_2d'], [bags.PEOPLE_2D])
        with pytest.raises(UserError, match='is pose3d_ros/msg/People2D, not sensor_msgs/msg/Image'):
            bag.check(['/left/people_2d'], [bags.IMAGE])


def test_where_the_library_is_missing_the_cure_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    imported = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith('rosbags'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, '__import__', without)
    assert main(['calibrate', 'extrinsics', str(tmp_path), '--out', str(tmp_path / 'out.yaml')]) == 1
    assert 'pip install rosbags' in capsys.readouterr().err


def test_videos_are_told_from_bags(tmp_path: Path) -> None:
    assert is_bag(tmp_path) and is_bag(Path('a.mcap')) and is_bag(Path('a.db3')) and not is_bag(Path('a.mp4'))


@pytest.mark.parametrize(('topics', 'names'), [
    (['/front/people_2d', '/left/people_2d'], ['front', 'left']),
    (['/robot/front/people_2d', '/robot/left/people_2d'], ['front', 'left']),
    (['/front/color/image_raw', '/left/color/image_raw/compressed'], ['front', 'left']),
    (['/hall/front/people_2d', '/yard/front/people_2d', '/yard/left/people_2d'],
     ['hall_front', 'yard_front', 'yard_left']),
    (['/people_2d', '/left/people_2d'], ['camera', 'left']),
    (['/front/people_2d'], ['front']),
    (['/front/people_2d', '/front/people_2d_again'], ['camera', 'camera'])])
def test_cameras_are_called_as_their_namespaces_differ(topics: list[str], names: list[str]) -> None:
    assert camera_names(topics) == names


def person(id_: int = 1, state: PersonState = PersonState.TRACKED, ray: float = 0.1) -> Person2D:
    joints = len(JOINTS)
    return Person2D(JOINTS, np.full((joints, 2), np.nan), np.full((joints, 2), ray), np.ones(joints), np.ones(joints),
                    np.ones(joints), np.zeros(4), 0.9, id_, state)


def test_what_is_kept_of_reports_is_bounded_measured_and_once() -> None:
    reported = Reported('front', window_s=2.0)
    for number in range(100):
        stamp = bags.START_NS + number * 10**8
        reported.add(stamp, [person(), person(0), person(2, PersonState.PREDICTED)], 900.0)
        reported.add(stamp, [person()], 900.0)  # the same message once more
    seen = reported.sightings()
    assert set(seen.ids) == {1} and len(seen.ids) == 21 and (np.diff(seen.stamps_ns) > 0).all()
    few = Reported('front', most=10)
    for number in range(100):
        few.add(number, [person()], 900.0)
    assert len(few) == 10


def test_rays_that_are_none_are_not_seen_and_a_clock_set_back_begins_anew() -> None:
    reported = Reported('front')
    reported.add(bags.START_NS, [person()], 900.0)
    reported.add(bags.START_NS - 10 * 10**9, [person(ray=float('inf'))], 900.0)
    seen = reported.sightings()
    assert len(seen.ids) == 1 and np.isnan(seen.pixels).all()
    with pytest.raises(ValueError, match='focal length is 0'):
        reported.add(bags.START_NS, [], 0.0)


@pytest.mark.parametrize(('stamps', 'left'), [((0, 5, 0, 6), 2), ((0, 0), 0)])
def test_images_without_a_stamp_are_left_out_and_told(stamps: tuple[int, ...], left: int, tmp_path: Path,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    with bags.BagWriter(tmp_path / 'bag') as writer:
        for number, stamp in enumerate(stamps):
            pixels = np.zeros((8, 10, 3), dtype=np.uint8)
            writer.write('/front/image_raw', bags.IMAGE, bags.image(pixels, stamp, 'front'), number)
    camera = Camera(10, 8, 10.0, 10.0, 4.5, 3.5)
    with Bag(tmp_path / 'bag') as bag:
        if left:
            assert [frame.stamp_ns for frame in images_of(bag, '/front/image_raw', camera)] == [5, 6]
            assert '2 images left out, 2 of them: its stamp is 0' in capsys.readouterr().out
        else:
            with pytest.raises(UserError, match=r'header\.stamp'):
                list(images_of(bag, '/front/image_raw', camera))
