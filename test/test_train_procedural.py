"""Made-up people: bones keep their lengths, feet stay on the floor, nothing jumps, every seed is another."""

from __future__ import annotations

import numpy as np
import pytest

from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.stature import stature
from pose3d_ros.train.body import to_bones
from pose3d_ros.train.figure import Body, two_bones
from pose3d_ros.train.procedural import ACTIVITIES, procedural_clips, procedural_mocap
from pose3d_ros.train.readers.clean import broken_frames
from pose3d_ros.train.readers.clip import Clip

ANKLES = HUMAN17.indices(['left_ankle', 'right_ankle'])


@pytest.fixture(scope='module')
def clips() -> list[Clip]:
    return procedural_clips(seed=7, clips=36, seconds=6.0)


def test_bones_keep_their_lengths_and_statures_are_people_s(clips: list[Clip]) -> None:
    for clip in clips:
        lengths = np.linalg.norm(to_bones(clip.positions)[:, 1:], axis=-1)
        np.testing.assert_allclose(lengths, lengths[:1].repeat(len(lengths), axis=0), atol=1e-9)
    heights = {clip.subject: float(stature(clip.positions[0])) for clip in clips}
    assert len(heights) == 6 and all(1.5 <= height <= 1.9 for height in heights.values())
    assert len({round(height, 3) for height in heights.values()}) == 6


@pytest.mark.parametrize('height', [1.1, 1.72, 2.0])
def test_a_body_has_the_stature_asked_for(height: float) -> None:
    rng = np.random.default_rng(0)
    for body in (Body.of(height), Body.of(height, rng), Body.of(height, rng, 0.1)):
        joints = np.zeros((17, 3))
        for name, length in (('spine', body.lower_back), ('thorax', body.upper_back), ('neck', body.neck),
                             ('head', body.head)):
            joints[HUMAN17.index(name), 2] = joints[HUMAN17.index(HUMAN17.parents[HUMAN17.index(name)]), 2] + length
        for side in ('left', 'right'):
            joints[HUMAN17.index(f'{side}_knee'), 2] = -body.thigh
            joints[HUMAN17.index(f'{side}_ankle'), 2] = -body.leg
        assert float(stature(joints)) == pytest.approx(height, abs=1e-9)


def test_one_foot_is_always_on_the_floor_and_nothing_is_below(clips: list[Clip]) -> None:
    for clip in clips:
        lower = clip.positions[:, ANKLES, 2].min(axis=1)
        assert lower.min() > 0.07 and lower.max() < 0.13, clip.name
        assert clip.positions[..., 2].min() > 0.0, clip.name


def test_motion_is_smooth_and_never_taken_for_broken(clips: list[Clip]) -> None:
    for clip in clips:
        acceleration = np.linalg.norm(np.diff(clip.positions, 2, axis=0), axis=-1) * clip.fps**2
        assert acceleration.max() < 60, clip.name   # m/s^2: what feet do in walking
        assert not any(frames.any() for frames in broken_frames(clip.positions, clip.fps).values()), clip.name


def test_standing_feet_do_not_slide(clips: list[Clip]) -> None:
    for clip in clips:
        ankles = clip.positions[:, ANKLES]
        still = np.linalg.norm(np.diff(ankles, axis=0), axis=-1) * clip.fps < 0.15
        assert (still.any(axis=1)).mean() > 0.7, clip.name


def test_every_activity_shows_what_its_name_says(clips: list[Clip]) -> None:
    def of(activity: str) -> list[np.ndarray]:
        return [clip.positions for clip in clips if f'_{activity}_' in clip.name]

    pelvis, wrists = HUMAN17.index('pelvis'), HUMAN17.indices(['left_wrist', 'right_wrist'])
    assert all(len(of(activity)) == 6 for activity in ACTIVITIES)
    assert all(np.linalg.norm(walk[-1, pelvis] - walk[0, pelvis]) > 1.0 for walk in of('walk'))
    for activity in ('sit_down', 'squat'):
        assert all(body[:, pelvis, 2].min() < 0.7 * body[:, pelvis, 2].max() for body in of(activity))
    assert all((body[:, wrists, 2].max(axis=1) > body[:, HUMAN17.index('neck'), 2]).any() for body in of('wave'))


def test_the_same_seed_is_the_same_and_another_is_not() -> None:
    first, again = (procedural_mocap(seed=3, clips=6, seconds=1.0) for _ in range(2))
    np.testing.assert_array_equal(first.positions, again.positions)
    assert not np.allclose(first.positions, procedural_mocap(seed=4, clips=6, seconds=1.0).positions)


def test_splits_are_different_people_and_frames_of_a_clip_lie_together() -> None:
    parts = {split: procedural_mocap(seed=0, clips=12, seconds=1.0, fps=20.0, split=split)
             for split in ('train', 'val', 'test')}
    assert [len(part) for part in parts.values()] == [160, 40, 40]
    assert len({name for part in parts.values() for name in part.subject}) == 6
    for part in parts.values():
        assert part.fps == 20 and part.positions.dtype == np.float32 and (np.diff(part.clip) >= 0).all()
    with pytest.raises(ValueError, match='val'):
        procedural_mocap(clips=2, split='val')


def test_two_bones_reach_what_is_in_reach_and_point_to_what_is_not() -> None:
    rng = np.random.default_rng(1)
    start, pole = rng.normal(size=(50, 3)), rng.normal(size=(50, 3))
    aim = rng.normal(size=(50, 3))
    aim /= np.linalg.norm(aim, axis=-1, keepdims=True)
    size = np.linspace(0.1, 0.9, 50)[:, None]
    middle, end = two_bones(start, start + size * aim, 0.3, 0.25, pole)
    np.testing.assert_allclose(np.linalg.norm(middle - start, axis=-1), 0.3, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(end - middle, axis=-1), 0.25, atol=1e-9)
    near = size[:, 0] < 0.94 * 0.55
    np.testing.assert_allclose(end[near], (start + size * aim)[near], atol=1e-9)
    assert np.linalg.norm(np.cross(end - start, aim), axis=-1).max() < 1e-9
    bend = middle - start - np.sum((middle - start) * aim, axis=-1, keepdims=True) * aim
    assert (np.sum(bend * pole, axis=-1) > 0).all()
