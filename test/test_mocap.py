"""Motion capture files and the variation of recorded bodies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from procedural import motion, standing, write_mocap

from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.stature import stature
from pose3d_ros.train.body import NO_VARIATION, BodyVariation, mirror, to_bones, to_positions, vary
from pose3d_ros.train.mocap import HUMAN36M_NAMES, Mocap, MocapError, load_mocap

ANKLES = HUMAN17.indices(['left_ankle', 'right_ankle'])


@pytest.mark.parametrize('names', ['human36m', 'own'])
def test_a_file_is_read_in_metres_by_joint_name_whatever_its_order(tmp_path: Path, names: str) -> None:
    order = np.random.default_rng(0).permutation(17)
    listed = np.array([HUMAN36M_NAMES[joint] if names == 'human36m' else joint for joint in HUMAN17.joints])[order]
    positions = np.round(1000 * np.concatenate([motion(40)] * 3)).astype(np.int16)[:, order]
    mocap = load_mocap([write_mocap(tmp_path / 'a.npz', positions=positions, joint_names=listed)], 'val')
    assert mocap.subject == ('b',)
    np.testing.assert_allclose(mocap.positions, motion(40), atol=6e-4)


def test_several_files_are_one_source_without_the_subjects_left_out(tmp_path: Path) -> None:
    first = write_mocap(tmp_path / 'a.npz', frames=10)
    second = write_mocap(tmp_path / 'b.npz', frames=30, subject=np.array(['x', 'y', 'z']), unit='m',
                         positions=np.concatenate([motion(30)] * 3))
    mocap = load_mocap([first, second], 'train')
    assert mocap.subject == ('a', 'x') and np.bincount(mocap.clip).tolist() == [10, 30]
    assert load_mocap([first, second], 'train', leave_out=['a']).subject == ('x',)
    with pytest.raises(MocapError, match="split 'train'"):
        load_mocap([first, second], 'train', leave_out=['a', 'x'])


def test_the_frame_rate_is_that_of_the_file_and_the_same_for_all(tmp_path: Path) -> None:
    slow, unknown = write_mocap(tmp_path / 'a.npz', fps=10), write_mocap(tmp_path / 'b.npz')
    assert load_mocap([slow], 'train').fps == 10 and load_mocap([unknown], 'train').fps == 30
    with pytest.raises(MocapError, match='10, 30'):
        load_mocap([slow, unknown], 'train')


def test_a_long_recording_does_not_crowd_out_the_others() -> None:
    clip = np.repeat([0, 1, 2], [9000, 100, 900])
    mocap = Mocap(np.zeros((10000, 17, 3), np.float32), clip, ('p', 'q', 'r'), ('long', 'short', 'other'))
    weights = mocap.frame_weights()
    assert weights.sum() == pytest.approx(1)
    shares = np.bincount(clip, weights=weights)
    assert shares[0] < 0.75 and shares[1] > 0.05


@pytest.mark.parametrize(('changes', 'told'), [
    ({'unit': 'furlong'}, 'furlong'), ({'split': None}, 'split'),
    ({'clip_start': np.array([0, 5, 9, 10])}, 'clip_start'),
    ({'joint_names': np.array(['Hip'] * 17)}, 'pelvis'), ({'positions': np.zeros((120, 17, 2))}, r'\(120, 17, 2\)'),
])
def test_an_unusable_file_is_refused_with_its_name_and_the_reason(tmp_path: Path, changes: dict, told: str) -> None:
    path = write_mocap(tmp_path / 'broken.npz', **changes)
    with pytest.raises(MocapError, match=rf'broken\.npz.*{told}'):
        load_mocap([path], 'train')


def test_something_that_is_no_npz_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'notes.npz'
    path.write_text('not an archive')
    with pytest.raises(MocapError, match=r'notes.*pose3d mocap'):
        load_mocap([path], 'train')
    with pytest.raises(MocapError, match='nowhere'):
        load_mocap([tmp_path / 'nowhere.npz'], 'train')


def test_bones_and_positions_are_two_ways_to_say_the_same() -> None:
    poses = motion(5)
    np.testing.assert_allclose(to_positions(to_bones(poses)), poses, atol=1e-12)


def test_the_mirror_image_exchanges_left_and_right_and_keeps_the_heading() -> None:
    pose = standing(0.7)[None]
    image = mirror(pose)
    left, right = (HUMAN17.index(f'{side}_shoulder') for side in ('left', 'right'))
    assert image[0, left, 0] < image[0, right, 0]  # as in the recordings: facing +y, the right hand is on the +x side
    np.testing.assert_allclose(mirror(image), pose)
    assert not np.allclose(image, pose)


def test_no_variation_only_moves_the_pelvis_over_the_origin() -> None:
    poses = motion(6) + np.array([3.0, -2.0, 0.0])
    varied = vary(poses, poses[::-1], np.random.default_rng(0), NO_VARIATION)
    np.testing.assert_allclose(varied, motion(6) - motion(6)[:, :1] * [1, 1, 0], atol=1e-6)


def test_statures_follow_the_distribution_asked_for() -> None:
    poses = np.repeat(motion(20), 100, axis=0)
    settings = replace(BodyVariation(), stature_mean=1.7, stature_sd=0.1, stature_range=(1.5, 1.8))
    sizes = stature(vary(poses, poses, np.random.default_rng(0), settings))
    assert sizes.min() > 1.499 and sizes.max() < 1.801
    assert np.mean(sizes) == pytest.approx(1.68, abs=0.02)


def test_varied_people_stay_people() -> None:
    """Nobody flies or sinks, bones keep plausible lengths, and left stays left of right."""
    poses = np.repeat(motion(30), 30, axis=0)
    rng = np.random.default_rng(1)
    varied = vary(poses, poses[rng.permutation(len(poses))], rng, replace(BodyVariation(), crouch=0.5))
    assert np.isfinite(varied).all() and varied.dtype == np.float32
    lowest = varied[..., 2].min(axis=1)
    assert (lowest > -0.02).all() and (lowest < 0.2).all()
    bones = np.linalg.norm(to_bones(varied), axis=-1) / stature(varied)[:, None]
    own = np.linalg.norm(to_bones(poses), axis=-1) / stature(poses)[:, None]
    ratio = bones[:, 1:] / own[:, 1:]
    assert ratio.min() > 0.6 and ratio.max() < 2.0


def test_seated_and_squatting_people_bend_their_knees_the_right_way() -> None:
    poses = np.repeat(standing()[None], 200, axis=0)
    settings = replace(NO_VARIATION, crouch=1.0)
    varied = vary(poses, poses, np.random.default_rng(2), settings)
    assert np.median(varied[:, 0, 2]) < 0.75                     # the pelvis comes down
    hip, knee, ankle = (HUMAN17.index(f'left_{joint}') for joint in ('hip', 'knee', 'ankle'))
    ahead = varied[:, knee, 1] - 0.5 * (varied[:, hip, 1] + varied[:, ankle, 1])
    assert (ahead > 0).mean() > 0.95                             # the person faces +y: knees go to +y
    assert (varied[:, ANKLES, 2].min(axis=1) > 0.04).all()


def test_lent_arms_keep_this_body_s_lengths_and_the_other_s_pose() -> None:
    pose, other = standing()[None], standing(1.5)[None]
    varied = vary(pose, other, np.random.default_rng(3), replace(NO_VARIATION, swap_arms=1.0))
    elbow, shoulder = HUMAN17.index('left_elbow'), HUMAN17.index('left_shoulder')
    lengths = [np.linalg.norm(p[0, elbow] - p[0, shoulder]) for p in (pose, varied)]
    assert lengths[0] == pytest.approx(lengths[1], abs=1e-6)
    changed = np.abs(varied - (pose - pose[:, :1] * [1, 1, 0])).max(axis=(0, 2)) > 0.02
    arms = np.array([any(part in joint for part in ('elbow', 'wrist')) for joint in HUMAN17.joints])
    assert changed[arms].any() and not changed[~arms].any()
