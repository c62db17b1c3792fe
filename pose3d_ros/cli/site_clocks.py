"""Whether the clocks of a site's cameras agree: what one shows later than another, adapting would take for posture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from pose3d_ros.cli.errors import UserError
from pose3d_ros.fuse.extrinsics.pairs import best_lag, essential_of, match
from pose3d_ros.fuse.extrinsics.tracks import JOINTS, LEAST_SIGMA_PX, Track, Watched
from pose3d_ros.fuse.views import View
from pose3d_ros.skeleton import select

REFUSED_S = 0.15     # s, that clocks must differ by to be refused: of somebody who walks, the width of a hand
NOTED_S = 0.06       # s, to be told of
_MOST_S = 0.6        # s, that is searched
_SLACK = 0.01        # rad, one standard deviation of the angles at which cameras stand
_MOST_TRACKS = 5     # of a camera, the longest: enough to tell, and the time it takes grows with the square
_LEAST_IMAGES = 20   # of a track
_LEAST_JOINTS = 200  # that two cameras must agree on at a lag, in all images together, to believe it
_STILL = 1e-6        # m and of rotations: a camera of which the pose changes by more moves


def check_clocks(views: Mapping[str, Sequence[View]], starts: Sequence[float] = ()) -> None:
    """Raise UserError for recordings without a time in common, and for cameras whose clock is far off.

    starts: of videos, when each begins [s], in the order of the views. Only cameras that stand still are compared; of
    others the pose would have to be of the moment that is sought.
    """
    cure = 'say when each begins: --offsets' if starts else 'synchronise their clocks (NTP or PTP), and record again'
    _check_spans({name: images for name, images in views.items() if images}, cure)
    late = {name: lag for name, lag in lags(views).items() if abs(lag) >= NOTED_S}
    if not late:
        return
    told = 'cameras are not synchronised: ' + ', '.join(
        f'what {name} shows is stamped {abs(lag):.2f} s {"later" if lag > 0 else "earlier"} than by the others'
        for name, lag in late.items())
    if starts:
        better = np.array([start - late.get(name, 0.0) for name, start in zip(views, starts)])
        cure = '--offsets ' + ' '.join(f'{start:.2f}' for start in better - better.min()) + ' would be right'
    if max(map(abs, late.values())) >= REFUSED_S:
        raise UserError(f'{told}; {cure}')
    print(f'{told}; {cure}')


def lags(views: Mapping[str, Sequence[View]]) -> dict[str, float]:
    """Return what the clock of each camera that stands still shows more [s] than those of the others, mostly.

    Of none where the cameras contradict each other: then it is not the clocks, or what they see is too coarse to tell.
    """
    start = min((images[0].stamp_ns for images in views.values() if images), default=0)
    seen = {name: _watched(name, images, start) for name, images in views.items() if images and _still(images)}
    seen = {name: each for name, each in seen.items() if each.tracks}
    pairs, found, slack = [], [], []
    for a, b in combinations(seen, 2):
        pose = views[b][0].camera_T_world @ np.linalg.inv(views[a][0].camera_T_world)
        lag = best_lag(seen[a], seen[b], pose, _MOST_S, _SLACK)
        if match(seen[a], seen[b], essential_of(pose), lag, _SLACK)[1] >= _LEAST_JOINTS:
            period = max(seen[a].period, seen[b].period)
            pairs.append([float(name == b) - float(name == a) for name in seen])
            found.append(lag if abs(lag) > 1.5 * period else 0.0)  # it is sought in such steps
            slack.append(2 * period)
    if not pairs:
        return {}
    clocks = np.linalg.lstsq(np.array(pairs), np.array(found), rcond=None)[0]
    if (np.abs(np.array(pairs) @ clocks - found) > slack).any():
        return {}
    most = np.sort(clocks)[(len(clocks) - 1) // 2]  # what most of them show; of two, one
    return {name: float(clock - most) for name, clock in zip(seen, clocks)}


def _check_spans(views: Mapping[str, Sequence[View]], cure: str) -> None:
    """Raise UserError for a camera that recorded at a time at which no other did."""
    for name, images in views.items():
        others = [other for key, other in views.items() if key != name]
        if others and not any(other[0].stamp_ns <= images[-1].stamp_ns and images[0].stamp_ns <= other[-1].stamp_ns
                              for other in others):
            away = min(max(other[0].stamp_ns - images[-1].stamp_ns, images[0].stamp_ns - other[-1].stamp_ns)
                       for other in others)
            raise UserError(f'{name} has no time in common with another camera: {away * 1e-9:.1f} s lie between what '
                            f'they recorded; {cure}')


def _still(images: Sequence[View]) -> bool:
    return all(np.abs(image.camera_T_world - images[0].camera_T_world).max() < _STILL for image in images)


def _watched(name: str, images: Sequence[View], start: int) -> Watched:
    """Return the longest tracks of a camera, times in seconds after a stamp."""
    rows: dict[int, list[tuple[float, np.ndarray, np.ndarray]]] = {}
    for image in images:
        for person in image.people_2d:
            sigma = np.maximum(select(person.sigma, person.skeleton, JOINTS, axis=-1), LEAST_SIGMA_PX) / image.focal
            rays = np.where(np.isfinite(sigma)[:, None], select(person.rays, person.skeleton, JOINTS), np.nan)
            row = (image.stamp_ns - start) * 1e-9, rays, np.nan_to_num(sigma, nan=1.0)
            rows.setdefault(person.id, []).append(row)
    longest = sorted((each for key, each in rows.items() if key and len(each) >= _LEAST_IMAGES), key=len)
    tracks = [Track(*(np.array(column) for column in zip(*each))) for each in longest[:-_MOST_TRACKS - 1:-1]]
    return Watched(name, images[0].focal, tracks)
