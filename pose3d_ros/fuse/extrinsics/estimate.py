"""Where cameras stand, and how their clocks differ, from the people that they see together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from pose3d_ros.fuse.extrinsics.adjust import adjust, places_of
from pose3d_ros.fuse.extrinsics.chain import all_pairs, chained
from pose3d_ros.fuse.extrinsics.checks import check_pairs, check_result, check_watched
from pose3d_ros.fuse.extrinsics.errors import ExtrinsicsError
from pose3d_ros.fuse.extrinsics.frame import fitted, not_displaced, on_floor, scaled, stature_of
from pose3d_ros.fuse.extrinsics.pairs import best_lag, essential_of, match
from pose3d_ros.fuse.extrinsics.together import GATE, Together, gather, people, with_right_sides
from pose3d_ros.fuse.extrinsics.tracks import Floats, Watched
from pose3d_ros.fuse.triangulate import triangulate

_ROUNDS = 5
_SLACK = 0.0175  # rad; what the angles are off at the start
_LEAST_CHANGE = 0.02  # of a frame; what clocks may still change by at the end


@dataclass(frozen=True)
class ExtrinsicsSettings:
    """How to go about it.

    refine: start from the places that are given, where all cameras have one; else from nothing (the given ones then
    give the world frame only, and its size).
    place_sigma: how well given places are known [m]; 0: they are a start and nothing more. stature [m] of the person
    who is seen most, or baseline (camera, camera, metres): the size of the world, instead of that of given places.
    clocks: estimate the offsets between the cameras' clocks, of most_lag [s] at most. most_frames: so many moments.
    """

    refine: bool = True
    place_sigma: float = 0.03
    stature: float | None = None
    baseline: tuple[str, str, float] | None = None
    clocks: bool = True
    most_lag: float = 0.5
    most_frames: int = 150


@dataclass(frozen=True)
class Agreement:
    """How well cameras agree: median distance [px] of their joints from the points in space, (V,) and of all.

    joints (V,): how many were compared; agreeing (V,): the share within 4 standard deviations.
    """

    per_camera_px: Floats
    median_px: float
    joints: Floats
    agreeing: Floats


@dataclass(frozen=True)
class Extrinsics:
    """camera_T_world (V, 4, 4); offsets (V,) s, what each clock shows more than the first at the same moment.

    before, after: the agreement at the start (from nothing: after the pairs) and at the end. shift [m] and turn [deg]
    (V,) against given poses, NaN where there was none. people, frames: how many, and moments used.
    """

    camera_T_world: Floats  # noqa: N815 (a_T_b: maps b to a)
    offsets: Floats
    before: Agreement
    after: Agreement
    shift: Floats
    turn: Floats
    people: int
    frames: int


def check_settings(names: Sequence[str], given: Mapping[str, Floats], settings: ExtrinsicsSettings) -> None:
    """Raise ExtrinsicsError for a single camera, and where nothing tells the size of the scene."""
    if len(names) < 2:
        raise ExtrinsicsError('one camera: places are found from what two cameras or more see together')
    for name in settings.baseline[:2] if settings.baseline else ():
        if name not in names:
            raise ExtrinsicsError(f'baseline: no camera {name}; there are: {", ".join(names)}')
    if settings.stature is None and settings.baseline is None and len(set(names) & set(given)) < 2:
        raise ExtrinsicsError('the size of the scene is not known: give the stature of the person, or the distance of '
                              'two cameras, or places of two cameras in the calibration')


def estimate(cameras: Sequence[Watched], given: Mapping[str, Floats],
             settings: ExtrinsicsSettings | None = None) -> Extrinsics:
    """Find the places of the cameras.

    given: camera_T_world (4, 4) of the cameras that have one, by name; without any, z is up in the world, and the
    floor is z = 0 (frame.on_floor). Raises ExtrinsicsError where the recording does not tell, with the reason.
    """
    settings = settings or ExtrinsicsSettings()
    check_settings([camera.camera for camera in cameras], given, settings)
    check_watched(cameras)
    known = np.array([given.get(camera.camera, np.full((4, 4), np.nan)) for camera in cameras])
    complete = bool(np.isfinite(known).all())
    if settings.refine and complete:
        start, offsets = known, _offsets(cameras, known, settings)
    else:
        pairs = all_pairs(cameras, settings.most_lag if settings.clocks else 0.0)
        check_pairs(cameras, pairs)
        start, offsets = chained(cameras, pairs)
    own_size = settings.stature is None and settings.baseline is None
    trusted = known if settings.refine and complete and own_size and settings.place_sigma > 0 else None
    poses, offsets, together, first = _adjusted(cameras, start, offsets, trusted, settings)
    if not own_size:
        poses = scaled(poses, _size(cameras, together, poses, settings))
    if np.isfinite(known).all(axis=(1, 2)).any():
        in_place = not_displaced(poses, known)
        if trusted is None or np.isnan(in_place).sum() > np.isnan(known).sum():
            poses = fitted(poses, in_place, keep_size=not own_size)
    after, points = _agreement(cameras, together, poses)
    check_result(cameras, poses, points, after.agreeing)
    if not np.isfinite(known).all(axis=(1, 2)).any():
        poses = on_floor(poses, points)
    turn = np.array([np.degrees(np.arccos(np.clip((np.trace(a[:3, :3] @ b[:3, :3].T) - 1) / 2, -1, 1)))
                     for a, b in zip(poses, known)])
    return Extrinsics(poses, offsets, first, after, np.linalg.norm(places_of(poses) - places_of(known), axis=1), turn,
                      len(np.unique(together.person)), len(np.unique(together.stamp)))


def _adjusted(cameras: Sequence[Watched], poses: Floats, offsets: Floats, trusted: Floats | None,
              settings: ExtrinsicsSettings) -> tuple[Floats, Floats, Together, Agreement]:
    """Adjust until the clocks stand still: poses, offsets, what was used for them, and the agreement before."""
    period = min(camera.period for camera in cameras)
    before: Agreement | None = None
    if trusted is None:
        poses = poses @ np.linalg.inv(poses[0])
    for turn in range(_ROUNDS):
        slack = 0.0 if turn else _SLACK
        together = _gathered(cameras, poses, offsets, settings, slack)
        before = before or _agreement(cameras, together, poses)[0]
        found = adjust(together, poses, settings.clocks, trusted, settings.place_sigma, slack)
        poses, offsets = found.poses, offsets + found.offsets
        if turn and np.abs(found.offsets).max() < _LEAST_CHANGE * period:
            break
    assert before is not None
    return poses, offsets, together.shifted(found.offsets), before


def _gathered(cameras: Sequence[Watched], poses: Floats, offsets: Floats, settings: ExtrinsicsSettings,
              slack: float) -> Together:
    """Return who is seen where, with left and right as they should be. Raises ExtrinsicsError where that is nobody."""
    groups = people(cameras, poses, offsets, slack)
    seen = {camera for group in groups for camera, _ in group}
    if len(seen) < len(cameras):
        lost = ', '.join(watched.camera for camera, watched in enumerate(cameras) if camera not in seen)
        raise ExtrinsicsError(f'nobody whom {lost} sees fits what the other cameras see: no common view, or places '
                              'that are far off; start from nothing, or record where the views overlap')
    return with_right_sides(gather(cameras, groups, offsets, settings.most_frames), poses, slack)


def _offsets(cameras: Sequence[Watched], poses: Floats, settings: ExtrinsicsSettings) -> Floats:
    """Return the offsets of the clocks (V,) s in whole frames, of cameras that stand roughly as known."""
    offsets = np.zeros(len(cameras))
    if not settings.clocks:
        return offsets
    placed = {0}
    while len(placed) < len(cameras):
        best = (-1.0, 0, 0, 0.0)
        for a, b in product(sorted(placed), sorted(set(range(len(cameras))) - placed)):
            b_T_a = poses[b] @ np.linalg.inv(poses[a])
            lag = best_lag(cameras[a], cameras[b], b_T_a, settings.most_lag, _SLACK)
            score = match(cameras[a], cameras[b], essential_of(b_T_a), lag, _SLACK)[1]
            best = max(best, (score, a, b, lag))
        _, a, b, lag = best
        offsets[b] = offsets[a] + lag
        placed.add(b)
    return offsets


def _agreement(cameras: Sequence[Watched], together: Together, poses: Floats) -> tuple[Agreement, Floats]:
    """Return how well cameras agree, and the joints (N, J, 3) in space."""
    result = triangulate(together.rays, poses, together.sigma, gate=GATE)
    focal = np.array([camera.focal for camera in cameras])[:, None, None]
    seen = np.isfinite(together.rays).all(axis=-1) & (np.isfinite(together.rays).all(axis=-1).sum(axis=0) >= 2)
    off = np.where(np.isfinite(result.residual), result.residual * focal, np.inf)
    values = [off[view][seen[view]] for view in range(len(cameras))]
    return Agreement(
        np.array([np.median(value) if len(value) else np.nan for value in values]),
        float(np.median(np.concatenate(values))), seen.sum(axis=(1, 2)).astype(np.float64),
        np.array([float(used[mask].mean()) if mask.any() else 0.0 for used, mask in zip(result.used, seen)])
    ), result.points


def _size(cameras: Sequence[Watched], together: Together, poses: Floats, settings: ExtrinsicsSettings) -> float:
    """Return by how much the world must grow to have the size that is known."""
    if settings.baseline is not None:
        first, second, distance = settings.baseline
        names, places = [camera.camera for camera in cameras], places_of(poses)
        apart = float(np.linalg.norm(places[names.index(first)] - places[names.index(second)]))
        return distance / max(apart, 1e-12)
    height = stature_of(_agreement(cameras, together, poses)[1], together.person)
    if settings.stature is None or not height > 0:
        raise ExtrinsicsError('stature: nobody is seen from shoulders to ankles; give the distance of two cameras')
    return settings.stature / height
