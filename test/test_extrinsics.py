"""Places of cameras from people: what comes back of a known scene, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from people_about import FPS, errors, looking, ring, walk, watch
from scipy.spatial.transform import Rotation

from pose3d_ros.fuse.extrinsics import estimate as estimate_module
from pose3d_ros.fuse.extrinsics.adjust import _Problem, places_of
from pose3d_ros.fuse.extrinsics.errors import ExtrinsicsError
from pose3d_ros.fuse.extrinsics.estimate import Extrinsics, ExtrinsicsSettings, estimate
from pose3d_ros.fuse.extrinsics.frame import fitted, on_floor, scaled, stature_of
from pose3d_ros.fuse.extrinsics.together import gather, people, points_of
from pose3d_ros.fuse.extrinsics.tracks import JOINTS, Watched

RING = ring(3)
APART = float(np.linalg.norm(np.diff(places_of(RING)[:2], axis=0)))
# Frames that clocks may be off with noise, as RMS over recordings: 0.04 over eight of them, single ones up to 0.08.
CLOCK_RMS = 0.05
HELD = ExtrinsicsSettings(clocks=False, baseline=('cam0', 'cam1', APART), most_frames=50)


def named(poses: np.ndarray) -> dict[str, np.ndarray]:
    return {f'cam{number}': pose for number, pose in enumerate(poses)}


def off_by(poses: np.ndarray, degrees: float, metres: float, seed: int = 0) -> np.ndarray:
    """Return poses (V, 4, 4) of cameras that were turned and moved at random, by so much each."""
    rng = np.random.default_rng(seed)
    moved = []
    for pose in poses:
        change = np.eye(4)
        turn, shift = (vector / np.linalg.norm(vector) for vector in rng.standard_normal((2, 3)))
        change[:3, :3] = Rotation.from_rotvec(np.radians(degrees) * turn).as_matrix()
        change[:3, 3] = metres * shift
        moved.append(change @ pose)
    return np.array(moved)


def late(found: Extrinsics) -> np.ndarray:
    """Return the offsets in frames."""
    return found.offsets * FPS


def rms(off: list[np.ndarray]) -> float:
    """Return the RMS of what clocks (V,) are off, over recordings and all cameras but the first, which is exact."""
    return float(np.sqrt(np.mean(np.array(off)[:, 1:] ** 2)))


def test_from_nothing_a_scene_without_noise_comes_back_exactly() -> None:
    turn, shift = errors(estimate(watch(RING, [walk]), {}, HELD).camera_T_world, RING)
    assert turn < 1e-6 and shift < 1e-6


def test_from_nothing_with_noise_and_outliers_it_comes_back_closely() -> None:
    found = estimate(watch(RING, [walk], noise=3.0, outliers=0.1, seconds=4.0), {}, HELD)
    turn, shift = errors(found.camera_T_world, RING)
    assert turn < 0.3 and shift < 0.04
    assert np.all((found.after.agreeing > 0.85) & (found.after.agreeing < 0.95))  # the outliers are known as such


def test_an_error_of_the_clock_of_a_fraction_of_a_frame_is_found() -> None:
    settings, errors_of_clocks = replace(HELD, clocks=True, most_lag=0.1), []
    for seed in range(3):
        found = estimate(watch(RING, [walk], noise=3.0, late=(0.0, 0.37, -1.4), seconds=4.0, seed=seed), {}, settings)
        errors_of_clocks.append(late(found) - (0.0, 0.37, -1.4))
        turn, shift = errors(found.camera_T_world, RING)
        assert turn < 0.3 and shift < 0.04
    assert rms(errors_of_clocks) < CLOCK_RMS


def test_what_remains_is_measured_with_the_clocks_that_were_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate_module, '_ROUNDS', 1)  # no second round that would hide the first step
    found = estimate(watch(RING, [walk], late=(0.0, 0.37, -0.4)), named(RING), ExtrinsicsSettings(most_frames=50))
    assert np.abs(late(found) - (0.0, 0.37, -0.4)).max() < 0.05
    assert found.after.median_px < 0.1 * found.before.median_px


def test_clocks_that_are_held_stay() -> None:
    found = estimate(watch(RING, [walk], noise=1.0, late=(0.0, 0.37, 0.0)), {}, HELD)
    assert np.array_equal(found.offsets, np.zeros(3))


def test_a_clock_many_frames_late_is_found_to_a_fraction_of_a_frame_from_places_as_well() -> None:
    settings = ExtrinsicsSettings(most_lag=0.4, most_frames=50)
    found = [estimate(watch(RING, [walk], noise=2.0, late=(0.0, 9.3, 0.0), seed=seed), named(RING), settings)
             for seed in range(4)]
    assert rms([late(each) - (0.0, 9.3, 0.0) for each in found]) < CLOCK_RMS


def test_places_that_are_off_are_put_right_and_keep_the_world() -> None:
    given = off_by(RING, 0.7, 0.01)
    found = estimate(watch(RING, [walk], noise=3.0), named(given), ExtrinsicsSettings(clocks=False, most_frames=50))
    assert errors(found.camera_T_world, RING)[0] < 0.4 * errors(given, RING)[0]
    # the places hold the world where it is known to be
    assert np.linalg.norm(places_of(found.camera_T_world) - places_of(given), axis=1).max() < 0.05
    assert found.before.median_px > 1.5 * found.after.median_px
    assert np.all(found.turn > 0.1)


def test_cameras_of_other_rates_with_gaps_and_joints_out_of_view() -> None:
    cameras = watch(RING, [walk], noise=2.0)
    track = cameras[2].tracks[0]
    rays = track.rays.copy()
    rays[60:75] = np.nan
    rays[90:150, JOINTS.lower] = np.nan
    cameras[2] = replace(cameras[2], tracks=[replace(track, stamps=track.stamps[1::2], rays=rays[1::2],
                                                     sigma=track.sigma[1::2])])
    found = estimate(cameras, {}, replace(HELD, clocks=True, most_lag=0.1))
    turn, shift = errors(found.camera_T_world, RING)
    assert turn < 0.3 and shift < 0.04
    assert np.abs(late(found)).max() < 0.1


def test_people_are_told_apart_whatever_their_numbers() -> None:
    both = [walk, lambda time: walk(time, (0.5, 0.5), 0.8, 2.0)]
    found = estimate(watch(RING, both, noise=3.0, seed=3, seconds=3.0), {}, HELD)
    turn, shift = errors(found.camera_T_world, RING)
    assert found.people == 2 and turn < 0.3 and shift < 0.04


def test_a_camera_that_names_the_sides_the_other_way_round_for_a_while() -> None:
    cameras = watch(RING, [walk], noise=2.0)
    track = cameras[1].tracks[0]
    rays = track.rays.copy()
    rays[40:70] = rays[40:70][:, JOINTS.mirror]
    cameras[1] = replace(cameras[1], tracks=[replace(track, rays=rays)])
    found = estimate(cameras, {}, HELD)
    turn, shift = errors(found.camera_T_world, RING)
    assert turn < 0.3 and shift < 0.04 and found.after.agreeing[1] > 0.98


def test_a_chain_of_pairs_connects_cameras_that_never_see_the_same() -> None:
    poses = ring(4)
    cameras = watch(poses, [walk], noise=1.0)
    for number, part in ((0, slice(0, 90)), (3, slice(90, 180))):  # 1 and 2 see everything
        track = cameras[number].tracks[0]
        cameras[number] = replace(cameras[number], tracks=[replace(
            track, stamps=track.stamps[part], rays=track.rays[part], sigma=track.sigma[part])])
    turn, shift = errors(estimate(cameras, {}, HELD).camera_T_world, poses)
    assert turn < 0.3 and shift < 0.04


def test_the_size_follows_from_the_stature() -> None:
    small = estimate(watch(RING, [lambda time: walk(time, height=1.5)]), {}, replace(HELD, baseline=None, stature=1.5))
    assert np.linalg.norm(np.diff(places_of(small.camera_T_world)[:2], axis=0)) == pytest.approx(APART, rel=0.01)


def test_the_size_follows_from_the_baseline() -> None:
    found = estimate(watch(RING, [walk]), {}, replace(HELD, baseline=('cam2', 'cam0', 3.0)))
    places = places_of(found.camera_T_world)
    assert np.linalg.norm(places[2] - places[0]) == pytest.approx(3.0)


def test_without_places_the_world_is_the_floor_that_people_walk_on() -> None:
    poses = estimate(watch(RING, [walk], noise=2.0), {}, HELD).camera_T_world
    places = places_of(poses)
    assert np.allclose(places[0, :2], 0.0)  # the origin is under the first camera
    assert np.allclose(places[:, 2], places_of(RING)[:, 2], atol=0.1)
    tilt = np.degrees(np.arccos(np.clip(np.sum(poses[:, :3, 2] * RING[:, :3, 2], axis=1), -1, 1)))
    assert tilt.max() < 1.0  # of up, as the cameras have it
    assert poses[0][2, 1] > 0.9  # and y is where the first camera looks


@pytest.mark.parametrize(('count', 'refine', 'degrees'), [(3, False, 20.0), (4, False, 20.0), (4, True, 2.0)])
def test_a_camera_that_was_knocked_away_does_not_take_the_world_along(count: int, refine: bool, degrees: float) -> None:
    poses = ring(count)
    given = named(poses)
    given['cam1'] = off_by(poses[1:2], degrees, 0.3)[0]
    found = estimate(watch(poses, [walk], noise=2.0), given,
                     ExtrinsicsSettings(refine=refine, clocks=False, most_frames=50))
    assert np.allclose(places_of(found.camera_T_world), places_of(poses), atol=0.08)
    assert found.shift[1] > 0.2 and np.delete(found.turn, 1).max() < 1.0


def test_a_world_without_people_seen_whole_stays_as_it_is() -> None:
    points = np.random.default_rng(0).normal(size=(50, len(JOINTS), 3))
    points[:, JOINTS.index('left_ankle')] = np.nan
    assert on_floor(RING, points) is RING


def test_from_nothing_the_world_and_the_size_are_those_of_given_places() -> None:
    found = estimate(watch(RING, [walk]), named(RING), ExtrinsicsSettings(refine=False, clocks=False))
    assert np.allclose(found.camera_T_world, RING, atol=1e-6)


def test_the_best_fit_undoes_any_move_of_the_world() -> None:
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = Rotation.from_rotvec((0.3, -1.2, 2.0)).as_matrix(), (3.0, -2.0, 1.0)
    assert np.allclose(fitted(scaled(RING @ world, 0.4), RING, keep_size=False), RING)
    assert np.allclose(fitted(RING @ world, RING, keep_size=True), RING)
    one = np.full_like(RING, np.nan)
    one[1] = RING[1]
    assert np.allclose(fitted(RING @ world, one, keep_size=True), RING)


def test_the_jacobian_is_that_of_the_residuals() -> None:
    cameras = watch(RING, [walk], noise=3.0, seconds=0.5)
    start = off_by(RING, 2.0, 0.05)
    together = gather(cameras, people(cameras, RING, np.zeros(3)), np.zeros(3), 3)
    adjusting = _Problem(together, start @ np.linalg.inv(start[0]), points_of(together, RING @ np.linalg.inv(RING[0])),
                         True, None)
    x = adjusting.start + 0.01 * np.random.default_rng(0).standard_normal(len(adjusting.start))
    exact, step = adjusting.jacobian(x).toarray(), 1e-6
    for unknown in np.linspace(0, len(x) - 1, 60).astype(int):
        change = np.zeros(len(x))
        change[unknown] = step
        slope = (adjusting.residuals(x + change) - adjusting.residuals(x - change)) / (2 * step)
        assert np.allclose(exact[:, unknown], slope, rtol=1e-4, atol=1e-3 * max(1.0, np.abs(slope).max()))


def test_stature_of_a_known_body() -> None:
    points = walk(np.linspace(0, 3, 20), height=1.62)
    assert stature_of(points, np.zeros(20, dtype=np.intp)) == pytest.approx(1.62, rel=0.01)


def short() -> list[Watched]:
    return watch(RING, [walk], seconds=0.2)


def blind() -> list[Watched]:
    cameras = watch(RING, [walk])
    return [*cameras[:2], replace(cameras[2], tracks=[])]


def apart() -> list[Watched]:
    cameras = watch(ring(4), [walk])
    for number, part in enumerate((slice(0, 90), slice(0, 90), slice(90, 180), slice(90, 180))):
        track = cameras[number].tracks[0]
        cameras[number] = replace(cameras[number], tracks=[replace(
            track, stamps=track.stamps[part], rays=track.rays[part], sigma=track.sigma[part])])
    return cameras



SAME_PLACE = np.array([looking((4, 0, 1.8)), looking((4, 0.01, 1.8), (0.0, 0.3, 0.9)), looking((0, 4, 1.8))])


@pytest.mark.parametrize(('cameras', 'reason'), [
    (lambda: watch(RING[:1], [walk]), 'one camera'),
    (short, 'too few frames with people'),
    (blind, r'cam2: too few frames with people \(0'),
    (lambda: watch(RING, [lambda time: walk(0 * time)], noise=1.0), 'nobody moves'),
    (lambda: watch(RING, [lambda time: walk(time) * (1, 0, 0) + (0, 0, 1)], noise=1.0), 'nearly in one line'),
    (lambda: watch(RING, [lambda time: walk(time) * (1, 0, 1)], noise=1.0), 'nearly in one plane'),
    (lambda: watch(SAME_PLACE, [walk], noise=2.0), 'baseline is too short'),
    (apart, 'no common view: what cam2, cam3 and cam0, cam1 see'),
    (lambda: watch(RING, [walk], late=(0.0, 60.0, 0.0), seconds=3.0, noise=2.0), 'do not agree: only .* of cam1'),
])
def test_a_recording_that_does_not_tell_is_refused_with_the_reason(cameras, reason: str) -> None:
    with pytest.raises(ExtrinsicsError, match=reason) as caught:
        estimate(cameras(), {}, HELD)
    assert '\n' not in str(caught.value)


def test_without_anything_that_gives_the_size_it_is_refused() -> None:
    with pytest.raises(ExtrinsicsError, match='give the stature'):
        estimate(watch(RING, [walk]), {}, replace(HELD, baseline=None))


def test_a_baseline_between_unknown_cameras_is_refused() -> None:
    with pytest.raises(ExtrinsicsError, match='no camera left'):
        estimate(watch(RING, [walk]), {}, replace(HELD, baseline=('left', 'cam0', 1.0)))


def test_places_that_are_far_off_are_refused_with_the_cure() -> None:
    with pytest.raises(ExtrinsicsError, match='start from nothing'):
        estimate(watch(RING, [walk]), named(off_by(RING, 25.0, 0.5)), ExtrinsicsSettings(clocks=False))
