"""Synthetic scenes with truth: people who walk on a floor, and cameras around them with everything that goes wrong.

World: z up, m. What a camera sees has noise in pixels, outliers, exchanged sides, hidden joints and people, and its own
stamp; its mono 3D has the errors that one camera makes: mostly along the ray, the same for the whole body, lasting.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from synthetic import body

from pose3d_ros.fuse.fuser import Fuser
from pose3d_ros.fuse.observations import LIMB, observe
from pose3d_ros.fuse.triangulate import triangulate
from pose3d_ros.fuse.views import View
from pose3d_ros.records import JointState, Person2D, Person3D, PersonState
from pose3d_ros.skeleton import BLAZEPOSE33, HUMAN17, select

FOCAL, WIDTH, HEIGHT = 900.0, 1280, 720
START_NS = 5_000_000_000
Place = Callable[[float], NDArray]


def human17(joints: NDArray) -> NDArray:
    """Return HUMAN17 (17, 3) of BLAZEPOSE33 joints (33, 3) in the same frame."""
    points = select(joints, BLAZEPOSE33, HUMAN17)

    def mean(name: str) -> NDArray:
        return joints[BLAZEPOSE33.indices([f'left_{name}', f'right_{name}'])].mean(axis=0)

    hips, shoulders, ears = mean('hip'), mean('shoulder'), mean('ear')
    for name, value in (('pelvis', hips), ('spine', (hips + shoulders) / 2), ('thorax', shoulders),
                        ('neck', 0.6 * shoulders + 0.4 * ears), ('head', 1.8 * ears - 0.8 * shoulders)):
        points[HUMAN17.index(name)] = value
    return points.astype(float)


@dataclass(frozen=True)
class Walker:
    """Somebody who walks from start (2,) m with velocity (2,) m/s, of a size against that of `body`."""

    start: tuple[float, float]
    velocity: tuple[float, float] = (0.0, 0.0)
    size: float = 1.0
    heading: float | None = None

    def joints(self, seconds: float) -> NDArray:
        """Return BLAZEPOSE33 joints (33, 3) in the world."""
        speed = float(np.hypot(*self.velocity))
        heading = self.heading if self.heading is not None else float(np.arctan2(self.velocity[1], self.velocity[0]))
        swing = 0.35 if speed > 0.1 else 0.05
        points = self.size * body(2 * np.pi * 0.9 * seconds + 3 * self.start[0], swing)  # x left, y up, z ahead
        ahead, left = np.array([np.cos(heading), np.sin(heading), 0]), np.array([-np.sin(heading), np.cos(heading), 0])
        at = np.array([*np.add(self.start, seconds * np.array(self.velocity)), 0.0])
        return at + points[:, :1] * left + points[:, 1:2] * (0, 0, 1) + points[:, 2:] * ahead


def looking(center: NDArray, target: NDArray) -> NDArray:
    """Return camera_T_world (4, 4) of a level camera at center that looks at target (3,)."""
    ahead = (target - center) / np.linalg.norm(target - center)
    right = np.cross(ahead, (0, 0, 1.0))
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(ahead, right), ahead])
    pose[:3, 3] = -pose[:3, :3] @ center
    return pose


def ring(count: int, radius: float = 5.0, height: float = 2.2) -> list[Place]:
    """Return the places over time of cameras on a ring; not evenly spaced, so that no two face each other."""
    angles = 2 * np.pi * np.arange(count) / max(count, 3) + 0.35 * np.arange(count) / count
    poses = [looking(np.array([radius * np.cos(a), radius * np.sin(a), height]), np.array([0, 0, 1.0])) for a in angles]
    return [lambda _, pose=pose: pose for pose in poses]


@dataclass(frozen=True)
class Trouble:
    """What goes wrong: noise [px]; shares of joints that are outliers, of joints and people hidden, of sides exchanged;
    stamps that differ by up to jitter_s; mono 3D with so much error of depth for the whole body [m/m], and of each
    joint along the ray [m] and across it [m]."""

    noise: float = 5.0
    outliers: float = 0.0
    hidden_joints: float = 0.0
    hidden_people: float = 0.0
    swaps: float = 0.0
    jitter_s: float = 0.0
    mono: bool = True
    mono_depth: float = 0.05
    mono_along: float = 0.06
    mono_across: float = 0.015


class Scene:
    """Walkers before cameras. Each camera gives its own ids, and its mono error of each person lasts about a second."""

    def __init__(self, walkers: list[Walker], cameras: list[Place], trouble: Trouble | None = None, seed: int = 0,
                 rate: float = 25.0) -> None:
        self.walkers, self.cameras, self.trouble, self.rate = walkers, cameras, trouble or Trouble(), rate
        self._rng = np.random.default_rng(seed)
        self._depth_error = self._rng.normal(0, 1, (len(cameras), len(walkers)))
        self._along = self._rng.normal(0, 1, (len(cameras), len(walkers), 17))

    def stamp_ns(self, frame: int) -> int:
        """Return the time of fusion of a frame."""
        return START_NS + round(frame / self.rate * 1e9)

    def truth(self, frame: int) -> NDArray:
        """Return HUMAN17 of everybody (P, 17, 3) at the time of a frame."""
        return np.stack([human17(walker.joints(frame / self.rate)) for walker in self.walkers])

    def views(self, frame: int) -> list[View]:
        """Return what the cameras see in a frame, each a little before its time."""
        keep = np.exp(-1 / self.rate)
        for error in (self._depth_error, self._along):
            error *= keep
            error += np.sqrt(1 - keep**2) * self._rng.normal(size=error.shape)
        return [self._view(index, frame) for index in range(len(self.cameras))]

    def _view(self, index: int, frame: int) -> View:
        late = self._rng.uniform(0, self.trouble.jitter_s) if self.trouble.jitter_s else 0.0
        seconds = frame / self.rate - late
        pose = self.cameras[index](seconds)
        seen, mono = [], []
        for number, walker in enumerate(self.walkers):
            local = walker.joints(seconds) @ pose[:3, :3].T + pose[:3, 3]
            person = self._seen(local, 100 * (index + 1) + number)
            if person is None or self._rng.random() < self.trouble.hidden_people:
                continue
            seen.append(person)
            if self.trouble.mono:
                mono.append(self._mono(human17(local), index, number, person.id))
        return View(f'camera{index}', pose, self.stamp_ns(frame) - round(late * 1e9), seen, FOCAL, WIDTH, HEIGHT, mono)

    def _seen(self, local: NDArray, id_: int) -> Person2D | None:
        rng, trouble = self._rng, self.trouble
        rays = local[:, :2] / local[:, 2:]
        pixels = FOCAL * rays + (WIDTH / 2, HEIGHT / 2) + rng.normal(0, trouble.noise, rays.shape)
        gone = (local[:, 2] < 0.3) | (pixels < 0).any(axis=1) | (pixels > (WIDTH, HEIGHT)).any(axis=1)
        gone |= rng.random(33) < trouble.hidden_joints
        if (~gone).sum() < 8:
            return None
        wrong = rng.random(33) < trouble.outliers
        pixels[wrong] += rng.choice([-1, 1], (wrong.sum(), 2)) * rng.uniform(30, 120, (wrong.sum(), 2))
        pixels[gone] = np.nan
        size = np.concatenate([np.nanmin(pixels, axis=0), np.nanmax(pixels, axis=0)])
        person = Person2D(BLAZEPOSE33, pixels, (pixels - (WIDTH / 2, HEIGHT / 2)) / FOCAL,
                          np.where(gone, np.nan, trouble.noise), np.where(gone, np.nan, 0.9), np.full(33, np.nan), size,
                          0.9, id_, PersonState.TRACKED)
        return replace(person.mirrored(), swapped=False) if rng.random() < trouble.swaps else person

    def _mono(self, local: NDArray, index: int, number: int, id_: int) -> Person3D:
        trouble = self.trouble
        ray = local / np.linalg.norm(local, axis=1, keepdims=True)
        along = trouble.mono_along * self._along[index, number][:, None]
        across = self._rng.normal(0, trouble.mono_across, local.shape)
        position = local * (1 + trouble.mono_depth * self._depth_error[index, number]) + along * ray + across
        covariance = (trouble.mono_depth**2 * position[:, :, None] * position[:, None]
                      + trouble.mono_along**2 * ray[:, :, None] * ray[:, None] + trouble.mono_across**2 * np.eye(3))
        return Person3D(HUMAN17, position, np.zeros((17, 3)), covariance, np.full(17, 0.9),
                        np.full(17, JointState.OBSERVED, dtype=np.uint8), 0.9, id_, PersonState.TRACKED, 1.7, 0.07)


def crowd(count: int, seed: int = 0, speed: float = 1.0) -> list[Walker]:
    """Return people of different sizes who walk through each other's paths about the middle."""
    rng = np.random.default_rng(seed)
    angles = 2 * np.pi * np.arange(count) / count + rng.uniform(-0.1, 0.1, count)
    starts = 1.7 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    aims = rng.uniform(-0.8, 0.8, (count, 2))
    ways = (aims - starts) / np.linalg.norm(aims - starts, axis=1, keepdims=True)
    return [Walker((float(s[0]), float(s[1])), (float(w[0]), float(w[1])), float(size))
            for s, w, size in zip(starts, speed * ways, rng.uniform(0.85, 1.1, count), strict=True)]


def error_of(person: Person3D, truth: NDArray) -> tuple[int, float]:
    """Return whose joints (P, 17, 3) a fused person's are nearest to, and the mean distance of them [m]."""
    distance = np.nanmean(np.linalg.norm(person.position - truth, axis=-1), axis=1)
    return int(distance.argmin()), float(distance.min())


HARD = Trouble(outliers=0.1, hidden_joints=0.1, hidden_people=0.1, swaps=0.1, jitter_s=0.04)
SETTLED = 10   # frames after which people are judged
Change = Callable[[int, list[View]], list[View]]


@dataclass
class Told:
    """What became of a scene: per frame the people, per walker the ids in order, errors [m], time [ms]."""

    people: list[list[Person3D]] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    ids: dict[int, list[int]] = field(default_factory=dict)
    errors: list[float] = field(default_factory=list)
    limb_errors: list[float] = field(default_factory=list)
    inside: list[NDArray] = field(default_factory=list)   # of each person judged, which limbs are in their ellipsoids
    cameras: list[int] = field(default_factory=list)      # and how many cameras saw him
    ghosts: int = 0
    missed: int = 0
    twice: int = 0

    @property
    def switches(self) -> int:
        return sum(sum(a != b for a, b in zip(ids, ids[1:])) for ids in self.ids.values())

    @property
    def error(self) -> float:
        return float(np.mean(self.errors))


def told(scene: Scene, frames: int = 40, fuser: Fuser | None = None, change: Change | None = None,
         near: float = 0.35) -> Told:
    """Run a scene; a person farther than near [m] from everybody is a ghost."""
    fuser, result = fuser or Fuser(), Told()
    for frame in range(frames):
        views = scene.views(frame)
        views = change(frame, views) if change else views
        started = time.perf_counter()
        people = fuser(views, scene.stamp_ns(frame))
        result.ms.append(1e3 * (time.perf_counter() - started))
        truth, found = scene.truth(frame), []
        result.people.append(people)
        for person in people if frame >= SETTLED else ():
            who, error = error_of(person, truth)
            if error > near:
                result.ghosts += 1
                continue
            found.append(who)
            result.ids.setdefault(who, []).append(person.id)
            result.errors.append(error)
            off = (person.position - truth[who])[LIMB]
            result.limb_errors.append(float(np.nanmean(np.linalg.norm(off, axis=-1))))
            chi = np.einsum('ji,ji->j', off, np.linalg.solve(person.covariance[LIMB], off[..., None])[..., 0])
            result.inside.append(chi[np.isfinite(chi)] < 6.251)
            result.cameras.append(sum(who in {seen.id % 100 for seen in view.people_2d} for view in views))
        if frame >= SETTLED:
            result.missed += len(truth) - len(set(found))
            result.twice += len(found) - len(set(found))
    return result


def naive_errors(scene: Scene, frames: int) -> tuple[float, float]:
    """Return the limbs' mean error [m] of averaging mono 3D, and of plain least squares, both told who is who."""
    averaged, plain = [], []
    for frame in range(frames):
        views, truth = scene.views(frame), scene.truth(frame)[:, LIMB]
        seen = observe(views, scene.stamp_ns(frame), Counter())
        who = np.array([id_ % 100 for _, id_ in seen.key])
        poses = np.stack([view.camera_T_world for view in views])
        for number, joints in enumerate(truth):
            members = np.flatnonzero(who == number)
            if len(members) < 2:
                continue
            averaged.append(np.linalg.norm(seen.mono[members][:, LIMB].mean(axis=0) - joints, axis=-1).mean())
            points = triangulate(seen.rays[members], poses[seen.view[members]], 1.0, gate=1e9).points
            plain.append(np.nanmean(np.linalg.norm(points - joints, axis=-1)))
    return float(np.mean(averaged)), float(np.mean(plain))
