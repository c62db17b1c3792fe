"""Size and world frame of an arrangement of cameras that is known but for these."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pose3d_ros.fuse.extrinsics.adjust import places_of
from pose3d_ros.fuse.extrinsics.tracks import JOINTS, Floats

# Mid-shoulder to mid-hip, hip to knee, knee to ankle, over stature: 0.288 + 0.245 + 0.246 (Winter 2009, after Drillis
# and Contini). From person to person it varies by 2 %.
CHAIN_SHARE = 0.779
_FAR_BETTER = 0.3     # of the misfit of all cameras is left
_LEAST_UPRIGHT = 10  # moments at which somebody is seen from shoulders to ankles


def stature_of(points: Floats, person: NDArray[np.intp]) -> float:
    """Return the stature, in the units of joints (N, J, 3), of the person (N,) who was seen most; NaN without any."""
    def at(*names: str) -> Floats:
        return points[:, JOINTS.indices(names)].mean(axis=1)

    def length(a: Floats, b: Floats) -> Floats:
        return np.asarray(np.linalg.norm(a - b, axis=-1))

    legs = [length(at(f'{side}_hip'), at(f'{side}_knee')) + length(at(f'{side}_knee'), at(f'{side}_ankle'))
            for side in ('left', 'right')]
    trunk = length(at('left_shoulder', 'right_shoulder'), at('left_hip', 'right_hip'))
    chain = trunk + np.mean(legs, axis=0)
    known = np.isfinite(chain)
    if not known.any():
        return float('nan')
    most = np.bincount(person[known]).argmax()
    return float(np.median(chain[known & (person == most)])) / CHAIN_SHARE


def scaled(poses: Floats, factor: float) -> Floats:
    """Return camera_T_world (V, 4, 4) of a world that is that much larger."""
    result = poses.copy()
    result[:, :3, 3] *= factor
    return result


def fitted(poses: Floats, given: Floats, keep_size: bool) -> Floats:
    """Return camera_T_world (V, 4, 4) in the world of the given ones, by the best fit of those that are not NaN.

    What is fitted are the places and, as far apart from them as the cameras are from each other, points on the axes;
    keep_size: do not change the size. One given camera keeps its pose exactly.
    """
    known = np.isfinite(given).all(axis=(1, 2))
    ours, theirs = poses[known], given[known]
    here, there = places_of(ours), places_of(theirs)
    apart_here, apart_there = (places - places.mean(axis=0) for places in (here, there))
    spread_here, spread_there = (float(np.sqrt(np.mean(np.sum(a**2, axis=1)))) for a in (apart_here, apart_there))
    size = 1.0 if keep_size or spread_here < 1e-9 else spread_there / spread_here
    turns = np.einsum('vji,vjk->ik', theirs[:, :3, :3], ours[:, :3, :3])  # the turn of each camera, summed
    u, _, vt = np.linalg.svd(size * apart_there.T @ apart_here + max(spread_there, 1.0)**2 * turns)
    turn = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
    if not keep_size and spread_here > 1e-9:
        size = float(np.sum(apart_there * (apart_here @ turn.T)) / np.sum(apart_here**2))
    places = size * (places_of(poses) - here.mean(axis=0)) @ turn.T + there.mean(axis=0)
    result = np.tile(np.eye(4), (len(poses), 1, 1))
    result[:, :3, :3] = poses[:, :3, :3] @ turn.T
    result[:, :3, 3] = -np.einsum('vij,vj->vi', result[:, :3, :3], places)
    return result


def not_displaced(poses: Floats, given: Floats) -> Floats:
    """Return the given poses (V, 4, 4), NaN for a camera that alone stands elsewhere than is said of it.

    Of three cameras or more, one that was knocked must not take the others along when the world is fitted: it is left
    out where the others fit far better without it.
    """
    known = np.flatnonzero(np.isfinite(given).all(axis=(1, 2)))
    if len(known) < 3:
        return given
    misfits = []
    for left_out in known:
        others = given.copy()
        others[left_out] = np.nan
        misfits.append((_misfit(fitted(poses, others, keep_size=False), others), left_out, others))
    misfit, _, others = min(misfits)
    return others if misfit < _FAR_BETTER * _misfit(fitted(poses, given, keep_size=False), given) else given


def _misfit(poses: Floats, given: Floats) -> float:
    """Return how far the worst camera is from where it is said to be, as the distance of points 1 m along its axes."""
    known = np.isfinite(given).all(axis=(1, 2))
    ends = np.array([[1.0, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1]]).T
    here, there = (np.linalg.inv(each[known]) @ ends for each in (poses, given))
    return float(np.linalg.norm((here - there)[:, :3], axis=1).max())


def on_floor(poses: Floats, points: Floats) -> Floats:
    """Return camera_T_world (V, 4, 4) of a world with z up and the floor at z = 0, its origin under the first camera.

    Up is where people have their shoulders over their ankles, the floor where their lowest joints are: joints (N, J, 3)
    in the world of poses. y is where the first camera looks if it is level: the world is turned no more than it must.
    The same poses where nobody is seen whole.
    """
    at = {name: points[:, JOINTS.indices([f'left_{name}', f'right_{name}'])].mean(axis=1)
          for name in ('shoulder', 'ankle')}
    heights = at['shoulder'] - at['ankle']
    heights = heights[np.isfinite(heights).all(axis=1)]
    if len(heights) < _LEAST_UPRIGHT:
        return poses
    up = np.median(heights / np.linalg.norm(heights, axis=1, keepdims=True), axis=0)
    up /= np.linalg.norm(up)
    axis, cosine = np.cross(up, (0.0, 0.0, 1.0)), float(up[2])
    sine = float(np.linalg.norm(axis))
    axis = axis / sine if sine > 1e-9 else np.array([1.0, 0.0, 0.0])
    turn = Rotation.from_rotvec(np.arctan2(sine, cosine) * axis).as_matrix()
    feet = points[np.isfinite(points[:, JOINTS.indices(['left_ankle', 'right_ankle'])]).all(axis=(1, 2))]
    world_T_new = np.eye(4)
    world_T_new[:3, :3] = turn.T
    world_T_new[:3, 3] = places_of(poses[:1])[0]
    floor = float(np.median(np.nanmin((feet - world_T_new[:3, 3]) @ up, axis=1)))
    world_T_new[:3, 3] += floor * up
    return np.asarray(poses @ world_T_new)
