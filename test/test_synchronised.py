"""Images of several videos by time: rates, beginnings, lengths, and frames that cannot be decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.synchronised import Synchronised
from pose3d_ros.cli.video import VideoReader, VideoWriter

BITS = 6  # bars of an image, which tell its number


def video(path: Path, frames: int, fps: float = 30.0) -> VideoReader:
    """Return a video whose images tell their number: a bar per bit, white or black."""
    writer = VideoWriter(path, fps)
    for number in range(frames):
        bars = [255 * (number >> bit & 1) for bit in range(BITS)]
        writer.write(np.tile(np.repeat(np.array(bars, dtype=np.uint8), 16)[None, :, None], (48, 1, 3)))
    writer.close()
    return VideoReader(path)


def number_of(image: np.ndarray) -> int:
    """Return the number of an image."""
    return sum(1 << bit for bit in range(BITS) if image[:, 16 * bit + 4:16 * bit + 12].mean() > 128)


def numbers(footage: Synchronised) -> list[dict[str, int]]:
    """Return the numbers of the images of each moment."""
    return [{name: number_of(image) for name, (_, image) in shots.images.items()} for shots in footage]


def damage(path: Path, first: float, last: float) -> None:
    """Overwrite the part of the images' data between two shares of it."""
    content = bytearray(path.read_bytes())
    start, size = content.find(b'mdat') + 4, len(content)
    end = content.find(b'moov')
    end = end if end > start else size
    content[start + int(first * (end - start)):start + int(last * (end - start))] = \
        b'\xff' * (int(last * (end - start)) - int(first * (end - start)))
    path.write_bytes(content)


def test_equal_videos_go_in_step(tmp_path: Path) -> None:
    footage = Synchronised({name: video(tmp_path / f'{name}.mp4', 10) for name in 'ab'})
    assert (footage.count, footage.fps) == (10, 30.0)
    assert numbers(footage) == [{'a': n, 'b': n} for n in range(10)]
    assert [round(shots.stamp_ns * 30 / 1e9) for shots in footage] == list(range(10))


def test_the_shortest_is_the_end(tmp_path: Path) -> None:
    footage = Synchronised({'a': video(tmp_path / 'a.mp4', 20), 'b': video(tmp_path / 'b.mp4', 7)})
    assert numbers(footage) == [{'a': n, 'b': n} for n in range(7)]
    assert footage.missing == {'a': 0, 'b': 0}


@pytest.mark.parametrize(('fast', 'slow'), [(60.0, 30.0), (30.0, 25.0), (30.0, 29.97), (50.0, 12.5)])
def test_the_slowest_sets_the_pace_and_the_others_give_the_nearest_image(tmp_path: Path, fast: float,
                                                                         slow: float) -> None:
    footage = Synchronised({'fast': video(tmp_path / 'f.mp4', 50, fast), 'slow': video(tmp_path / 's.mp4', 20, slow)})
    assert footage.fps == pytest.approx(slow, rel=1e-3)
    shots = list(footage)
    assert len(shots) == footage.count > 10
    for number, moment in enumerate(shots):
        assert moment.images['slow'][0] == pytest.approx(moment.stamp_ns, abs=2)
        stamp, image = moment.images['fast']
        assert abs(stamp - moment.stamp_ns) <= 0.5001e9 / fast
        assert number_of(image) == round(stamp * 1e-9 * fast)
        assert moment.stamp_ns == round(number / footage.fps * 1e9)


def test_offsets_put_the_videos_on_one_clock(tmp_path: Path) -> None:
    videos = {'a': video(tmp_path / 'a.mp4', 20), 'b': video(tmp_path / 'b.mp4', 20)}
    footage = Synchronised(videos, [0.0, 5 / 30])
    assert numbers(footage) == [{'a': n + 5, 'b': n} for n in range(15)]
    shots = next(iter(footage))
    assert shots.stamp_ns == shots.images['b'][0] == pytest.approx(5e9 / 30, abs=2)
    with pytest.raises(UserError, match='no time in common.*--offsets'):
        Synchronised(videos, [0.0, 2.0])


def test_frames_that_cannot_be_decoded_are_missing_and_nothing_shifts(tmp_path: Path) -> None:
    whole = video(tmp_path / 'a.mp4', 24)
    video(tmp_path / 'b.mp4', 24)
    damage(tmp_path / 'b.mp4', 0.1, 0.3)
    footage = Synchronised({'a': whole, 'b': VideoReader(tmp_path / 'b.mp4')})
    found = numbers(footage)
    assert [moment['a'] for moment in found] == list(range(24))
    seen = [(moment['a'], moment['b']) for moment in found if 'b' in moment]
    assert 0 < footage.missing['b'] == 24 - len(seen) < 24
    # a damaged image may show anything, the whole ones behind it are in their places
    assert seen[-1] == (23, 23) and seen[0] == (0, 0)


def test_a_video_that_ends_before_its_header_says_leaves_the_others_alone(tmp_path: Path) -> None:
    whole = video(tmp_path / 'a.mp4', 24)
    short = video(tmp_path / 'b.mp4', 8)
    short.count = 24
    footage = Synchronised({'a': whole, 'b': short})
    found = numbers(footage)
    assert [moment['a'] for moment in found] == list(range(24))
    assert [moment['b'] for moment in found if 'b' in moment] == list(range(8))
    assert footage.missing == {'a': 0, 'b': 16}


def test_videos_that_do_not_say_how_long_they_are_end_with_the_first(tmp_path: Path) -> None:
    videos = {'a': video(tmp_path / 'a.mp4', 12), 'b': video(tmp_path / 'b.mp4', 5)}
    for reader in videos.values():
        reader.count = 0
    assert numbers(Synchronised(videos)) == [{'a': n, 'b': n} for n in range(5)]
