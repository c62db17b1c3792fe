"""`pose3d mocap`: downloads into arrays that training reads; broken frames and files are left out and counted."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from motion_files import write_amc, write_asf, write_bvh
from test_readers_bvh import GIVEN, MIXAMO

from pose3d_ros.cli.main import main
from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.arrays import assign_splits, summarise, write_arrays
from pose3d_ros.train.mocap import MocapError, load_mocap
from pose3d_ros.train.procedural import procedural_clips
from pose3d_ros.train.readers.clean import broken_frames, resample, whole_pieces
from pose3d_ros.train.readers.clip import Clip
from pose3d_ros.train.readers.world import level, rotation_to_z


def clip_of(positions: np.ndarray, fps: float = 120.0, name: str = 'a_1', subject: str = 'a') -> Clip:
    return Clip(name, subject, positions, fps, 'test')


@pytest.fixture(scope='module')
def walk() -> np.ndarray:
    """Somebody who walks (240, 17, 3) m at 120 frames a second."""
    return procedural_clips(seed=2, clips=1, seconds=2.0, fps=120.0)[0].positions


def test_bvh_and_acclaim_files_become_arrays_to_train_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    people = procedural_clips(seed=4, clips=4, seconds=2.0, fps=60.0)
    folder = tmp_path / 'set'
    folder.mkdir()
    for letter, clip in zip('abcd', people):
        write_bvh(folder / f'{letter}_1.bvh', clip.positions, 60.0, MIXAMO)
    write_asf(folder / '07.asf')
    write_amc(folder / '07_01.amc', [{'rhumerus': [0, 0.2 * frame, 0]} for frame in range(121)])
    (folder / 'notes.bvh').write_text('HIERARCHY\nROOT\n')
    out = tmp_path / 'out' / 'arrays.npz'
    status = main(['mocap', str(folder), '--out', str(out), '--json', str(tmp_path / 'figures.json'),
                   '--val', 'a', '--test', 'b', '07'])
    shown = capsys.readouterr()
    assert status == 1                                                     # a file was left out, and it says which
    assert re.search(r'left out: .*notes\.bvh: no MOTION', shown.err)
    assert re.search(r'files left out: 1', shown.out) and re.search(r'07 +test +1 +31 +0\.0 +1\.5', shown.out)
    figures = json.loads((tmp_path / 'figures.json').read_text())
    assert figures['clips'] == 5 and figures['unreadable_files'] == 1 and figures['frames'] == 4 * 60 + 31
    assert figures['val_frames'] == 60 and figures['test_frames'] == 60 + 31
    mocap = load_mocap([out], 'val')
    assert mocap.fps == 30 and mocap.subject == ('a',) and mocap.clip_name == ('a_1',)
    expected = people[0].positions[::2] - np.array([*people[0].positions[::2, 0, :2].mean(axis=0), 0])
    np.testing.assert_allclose(mocap.positions[:, GIVEN], expected[:, GIVEN], atol=1.5e-3)


def test_human36m_keeps_its_own_split_and_is_taken_to_30_frames(tmp_path: Path) -> None:
    clips = procedural_clips(seed=5, clips=2, seconds=4.0, fps=50.0)
    box = np.empty((), dtype=object)
    box[()] = {'S1': {'Walking': clips[0].positions}, 'S9': {'Walking': clips[1].positions}}
    np.savez(tmp_path / 'data_3d_h36m.npz', positions_3d=box)
    assert main(['mocap', str(tmp_path / 'data_3d_h36m.npz'), '--out', str(tmp_path / 'a.npz')]) == 0
    train = load_mocap([tmp_path / 'a.npz'], 'train')
    assert train.subject == ('S1',) and len(train) == 120
    truth = procedural_clips(seed=5, clips=2, seconds=4.0, fps=150.0)[0].positions[::5]  # the same person, at 30
    shift = train.positions[0, 0] - truth[0, 0]
    np.testing.assert_allclose(train.positions[:110] - shift, truth[:110], atol=8e-3)    # walking sums up its steps


@pytest.mark.parametrize(('words', 'told'), [
    ([], 'name files to read'), (['nowhere.bvh'], 'no whole recording'),
    (['--procedural', '0.1', '--val', 'nobody'], "no clip of subject 'nobody'"),
    (['empty'], 'in this folder'),
])
def test_what_cannot_work_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'empty').mkdir()
    assert main(['mocap', *words, '--out', 'a.npz']) == 1
    assert re.search(told, capsys.readouterr().err.strip().splitlines()[-1])
    assert not (tmp_path / 'a.npz').exists()


def test_made_up_people_are_enough_to_try_the_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['mocap', '--procedural', '0.8', '--out', str(tmp_path / 'a.npz')]) == 0
    assert {len(set(load_mocap([tmp_path / 'a.npz'], split).subject)) for split in ('val', 'test')} == {1}
    assert len(set(load_mocap([tmp_path / 'a.npz'], 'train').subject)) == 4
    assert 'nothing in' not in capsys.readouterr().out


def test_a_clean_recording_is_left_as_it_is(walk: np.ndarray) -> None:
    dropped: Counter[str] = Counter()
    [piece] = whole_pieces(clip_of(walk), 30.0, dropped)
    assert piece.name == 'a_1' and piece.fps == 30 and not +dropped
    np.testing.assert_array_equal(piece.positions, walk[::4])


def test_broken_frames_are_cut_out_and_counted_by_reason(walk: np.ndarray) -> None:
    broken = walk.copy()
    broken[0] += 0.5                                                # the pose of the calibration, as in .bvh files
    broken[100, HUMAN17.index('left_wrist')] += 0.3                 # a marker that jumps
    broken[170, HUMAN17.index('right_knee')] = np.nan
    dropped: Counter[str] = Counter()
    pieces = list(whole_pieces(clip_of(broken), 30.0, dropped))
    assert [piece.name for piece in pieces] == ['a_1', 'a_1a', 'a_1b']
    assert sum(len(piece) for piece in pieces) > 0.9 * len(walk) / 4
    assert dropped['missing'] == 1 and 4 <= dropped['jump'] <= 8 and dropped['short'] <= 2
    for piece in pieces:
        assert np.isfinite(piece.positions).all() and not broken_frames(piece.positions, 30)['jump'].any()


def test_sunken_feet_and_knees_bent_forwards_are_broken(walk: np.ndarray) -> None:
    sunken = walk - [0, 0, 0.25]
    assert broken_frames(sunken, 120.0)['floor'].all() and not list(whole_pieces(clip_of(sunken), 30.0))
    crossed = walk.copy()
    hips, heading = walk[:, HUMAN17.index('right_hip')] - walk[:, HUMAN17.index('left_hip')], np.array([0.0, 0.0, 1.0])
    ahead = np.cross(heading, hips / np.linalg.norm(hips, axis=-1, keepdims=True))
    crossed[:, HUMAN17.index('left_ankle')] = (crossed[:, HUMAN17.index('left_knee')] + 0.4 * ahead - [0, 0, 0.1])
    assert broken_frames(crossed, 120.0)['knee'].mean() > 0.9
    assert not broken_frames(walk, 120.0)['knee'].any()


def test_a_cut_in_the_recording_makes_two_pieces_and_crumbs_are_dropped(walk: np.ndarray) -> None:
    dropped: Counter[str] = Counter()
    pieces = list(whole_pieces(clip_of(np.concatenate([walk[:120], walk[:40] + 1.0, walk[120:]])), 30.0, dropped))
    assert len(pieces) == 2 and 36 <= dropped['short'] <= 40


@pytest.mark.parametrize('given', [24.0, 50.0, 100.0, 119.88])
def test_resampling_follows_a_smooth_motion(given: float) -> None:
    t = np.arange(0, 2, 1 / given)
    motion = np.stack([np.sin(4 * t), t**2, 0 * t], axis=-1)[:, None]
    taken = resample(motion, given, 30.0)
    rate = given / round(given / 30) if given > 119 else 30.0  # nearly a multiple: frames are taken
    times = np.arange(len(taken)) / rate
    expected = np.stack([np.sin(4 * times), times**2, 0 * times], axis=-1)[:, None]
    np.testing.assert_allclose(taken, expected, atol=1e-3)
    assert abs(len(taken) - 60) <= 1


def test_splits_are_whole_people_and_do_not_depend_on_the_order(walk: np.ndarray) -> None:
    clips = [clip_of(walk[:30 + 5 * number], 30.0, f's{number}_{trial}', f's{number}')
             for number in range(12) for trial in range(3)]
    split = {clip.name: clip.split for clip in assign_splits(clips)}
    assert split == {clip.name: clip.split for clip in assign_splits(clips[::-1])}
    for number in range(12):
        assert len({split[f's{number}_{trial}'] for trial in range(3)}) == 1
    shares = Counter()
    for clip in clips:
        shares[split[clip.name]] += len(clip) / sum(map(len, clips))
    assert 0.15 <= shares['test'] < 0.45 and 0.08 <= shares['val'] < 0.25 and shares['train'] > 0.4
    by_clip = assign_splits([clip_of(walk[:30], 30.0, f'a_{trial}') for trial in range(10)], by='clip')
    assert {clip.split for clip in by_clip} == {'train', 'val', 'test'}
    assert {clip.split for clip in assign_splits(clips[:3])} == {'train'}   # one person cannot be split


def test_far_away_clips_keep_their_place_in_millimetres(tmp_path: Path, walk: np.ndarray) -> None:
    far = replace(clip_of(walk[::4] + [200.0, -300.0, 0.0], 30.0), split='train')
    write_arrays(tmp_path / 'a.npz', [far], 30.0)
    with np.load(tmp_path / 'a.npz') as data:
        back = data['positions'] + np.append(data['clip_offset_xy'][0], 0)
        np.testing.assert_allclose(1e-3 * back, far.positions, atol=6e-4)
        assert data['positions'].dtype == np.int16 and data['parents'].tolist()[:4] == [-1, 0, 1, 2]
    with pytest.raises(MocapError, match='wrong unit'):
        write_arrays(tmp_path / 'b.npz', [replace(far, positions=1000 * walk)], 30.0)
    assert not (tmp_path / 'b.npz').exists()


def test_the_summary_tells_low_poses_and_stature() -> None:
    clips = [clip for clip in procedural_clips(seed=1, clips=36, fps=10.0) if clip.subject == 'train_0']
    [row] = summarise(clips)
    assert row.clips == 6 and row.minutes == pytest.approx(0.8) and 1.5 <= row.stature <= 1.9
    assert 0 < row.low < 0.4 and row.splits == 'train'


@pytest.mark.parametrize('seed', range(3))
def test_a_camera_s_frame_is_levelled_by_the_feet(seed: int) -> None:
    from scipy.spatial.transform import Rotation
    people = procedural_clips(seed=seed, clips=1, seconds=12.0)[0].positions
    turn = Rotation.from_euler('xyz', [100 + 10 * seed, 20, 5], degrees=True)
    levelled = level(turn.apply(people.reshape(-1, 3)).reshape(people.shape) + [1.0, 2.0, 3.0])
    np.testing.assert_allclose(levelled[..., 2], people[..., 2], atol=0.04)


def test_the_smallest_rotation_to_the_vertical() -> None:
    for up in np.random.default_rng(0).normal(size=(20, 3)).tolist() + [[0, 0, 1], [0, 0, -1]]:
        turn = rotation_to_z(np.array(up))
        np.testing.assert_allclose(turn @ up / np.linalg.norm(up), [0, 0, 1], atol=1e-6)
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-6)
        assert np.linalg.det(turn) == pytest.approx(1)
