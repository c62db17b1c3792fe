"""People who walk about between cameras, with truth: what `pose3d calibrate extrinsics` is tested on."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from pose3d_ros.fuse.extrinsics.tracks import JOINTS, Track, Watched

FOCAL = 1000.0  # px
FPS = 30.0

# Half a body at rest, m: x ahead, y to its left, z up. 1.75 m tall by the proportions of fuse/extrinsics/frame.py.
_HEIGHT = 1.75
_LEFT = {'shoulder': (0, 0.18, 0.818), 'elbow': (0, 0.22, 0.66), 'wrist': (0.02, 0.24, 0.51), 'hip': (0, 0.1, 0.530),
         'knee': (0.01, 0.1, 0.285), 'ankle': (0, 0.1, 0.039), 'heel': (-0.05, 0.1, 0.01),
         'foot_index': (0.16, 0.12, 0.01), 'index': (0.05, 0.25, 0.46), 'pinky': (0.0, 0.27, 0.47),
         'thumb': (0.06, 0.22, 0.49)}


def body(time: np.ndarray, phase: float = 0.0, swing: float = 1.0) -> np.ndarray:
    """Return joints (T, 22, 3) m of somebody who walks on the spot at times (T,) s; bones keep their lengths."""
    points = np.zeros((len(time), len(JOINTS), 3))
    for number, joint in enumerate(JOINTS.joints):
        side, part = joint.split('_', 1)
        x, y, z = _LEFT[part]
        points[:, number] = (x, y if side == 'left' else -y, z * _HEIGHT)
    for side, sign in (('left', 1.0), ('right', -1.0)):
        angle = swing * sign * np.sin(2 * np.pi * 0.8 * time + phase)
        lower = [JOINTS.index(f'{side}_{part}') for part in ('wrist', 'index', 'pinky', 'thumb')]
        arm = [JOINTS.index(f'{side}_elbow'), *lower]
        leg = [JOINTS.index(f'{side}_{part}') for part in ('knee', 'ankle', 'heel', 'foot_index')]
        _bend(points, JOINTS.index(f'{side}_elbow'), lower, -0.9 - 0.5 * angle)
        _bend(points, JOINTS.index(f'{side}_shoulder'), arm, 0.6 * angle)
        _bend(points, JOINTS.index(f'{side}_knee'), leg[1:], 0.4 + 0.4 * angle)
        _bend(points, JOINTS.index(f'{side}_hip'), leg, -0.5 * angle)
    return points


def walk(time: np.ndarray, centre: tuple[float, float] = (0.0, 0.0), radius: float = 1.0, phase: float = 0.0,
         height: float = _HEIGHT) -> np.ndarray:
    """Return joints (T, 22, 3) m in the world (z up) of somebody who walks round at about 1 m/s."""
    heading = time / max(radius, 0.5) + phase
    spin = Rotation.from_rotvec(np.outer(heading + np.pi / 2, (0, 0, 1))).as_matrix()
    place = np.stack([centre[0] + radius * np.cos(heading), centre[1] + radius * np.sin(heading), 0 * heading], axis=-1)
    return np.einsum('tij,tnj->tni', spin, body(time, phase)) * height / _HEIGHT + place[:, None]


def ring(count: int = 3, distance: float = 4.0, height: float = 1.8, spread: float = 1.2) -> np.ndarray:
    """Return camera_T_world (V, 4, 4) of cameras around the origin, `spread` rad apart, that look 0.9 m high."""
    return np.array([looking((distance * np.cos(angle), distance * np.sin(angle), height + 0.3 * number))
                     for number, angle in enumerate(spread * np.arange(count))])


def looking(place: tuple[float, float, float], at: tuple[float, float, float] = (0.0, 0.0, 0.9)) -> np.ndarray:
    """Return camera_T_world (4, 4) of a camera at a place (m) that looks at a point, upright."""
    ahead = np.array(at) - place
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, (0, 0, 1))
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(ahead, right), ahead])
    pose[:3, 3] = -pose[:3, :3] @ place
    return pose


def watch(poses: np.ndarray, people: list, seconds: float = 6.0, noise: float = 0.0, outliers: float = 0.0,
          late: tuple[float, ...] = (), seed: int = 0) -> list[Watched]:
    """Return what cameras see of people, functions of time (T,) s that give joints (T, 22, 3).

    noise [px]; outliers: share of joints that lie anywhere within 150 px; late: by how many frames more each camera's
    clock shows.
    """
    rng = np.random.default_rng(seed)
    stamps = np.arange(round(seconds * FPS)) / FPS
    cameras = []
    for number, pose in enumerate(poses):
        offset = late[number] / FPS if late else 0.0
        tracks = []
        for person in people:
            local = person(stamps - offset) @ pose[:3, :3].T + pose[:3, 3]
            rays = local[..., :2] / local[..., 2:] + noise / FOCAL * rng.standard_normal((*local.shape[:2], 2))
            wrong = rng.random(rays.shape[:2]) < outliers
            rays = rays + np.where(wrong[..., None], rng.uniform(-150, 150, rays.shape) / FOCAL, 0.0)
            tracks.append(Track(stamps, rays, np.full(rays.shape[:2], max(noise, 2.0) / FOCAL)))
        order = rng.permutation(len(tracks))  # each camera numbers the people as it likes
        cameras.append(Watched(f'cam{number}', FOCAL, [tracks[i] for i in order]))
    return cameras


def errors(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return the largest turn [deg] and shift [m] of cameras (V, 4, 4), both seen from the first."""
    found, truth = (poses @ np.linalg.inv(poses[0]) for poses in (found, truth))
    turn = max(np.degrees(Rotation.from_matrix(a[:3, :3] @ b[:3, :3].T).magnitude()) for a, b in zip(found, truth))
    places = [np.linalg.inv(poses)[:, :3, 3] for poses in (found, truth)]
    return float(turn), float(np.linalg.norm(places[0] - places[1], axis=1).max())


def _bend(points: np.ndarray, pivot: int, moved: list[int], angle: np.ndarray) -> None:
    """Turn joints about another one, about the body's left-right axis."""
    spin = Rotation.from_rotvec(np.stack([0 * angle, angle, 0 * angle], axis=-1)).as_matrix()
    about = points[:, pivot, None]
    points[:, moved] = np.einsum('tij,tnj->tni', spin, points[:, moved] - about) + about
