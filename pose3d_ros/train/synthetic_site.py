"""A site with truth: motion capture walks about between virtual cameras, seen with the errors of a detector.

For measuring and testing adaptation (train/adapt.py), which gets the views alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.fuse.views import View
from pose3d_ros.lift import input_points
from pose3d_ros.records import Person2D, PersonState
from pose3d_ros.skeleton import BLAZEPOSE33, HUMAN17, LIMBS12
from pose3d_ros.stature import stature
from pose3d_ros.train.body import BodyVariation, shift_marks
from pose3d_ros.train.error_fit import FittedErrors
from pose3d_ros.train.filming import about_up
from pose3d_ros.train.mocap import Mocap
from pose3d_ros.train.site import SiteRecording
from pose3d_ros.train.virtual_camera import optical_axes
from pose3d_ros.train.window_random import WindowRandom

MEMORY_S = 0.25    # a detector errs alike for about so long (train/errors.py)
TREMBLE = 0.003    # statures: what changes in every image nevertheless
SIGMA = 0.0105     # statures: what the detector says of itself
AWAY_S = 2.5       # between two takes nobody is there, so that whoever comes next is somebody new to all trackers
NEAREST_M = 0.4
START_NS = 1_000_000_000

_LIMB17, _LIMB33 = HUMAN17.indices(LIMBS12.joints), BLAZEPOSE33.indices(LIMBS12.joints)
_EARS33, _HEAD17 = BLAZEPOSE33.indices(['left_ear', 'right_ear']), HUMAN17.index('head')


@dataclass(frozen=True)
class SiteLayout:
    """Cameras evenly around the middle of the place, looking at look_at_m above it, and who is there, one size each.

    World: z up, floor at 0, m. statures (P,): of the people, who are there all the time; seconds: how long; takes
    after `held_out` of the time from the end come from other clips than those before. Cameras take `rate` images per
    second, each beginning at a moment of its own.
    """

    statures: tuple[float, ...] = (1.70,)
    cameras: int = 4
    height_m: float = 2.2
    distance_m: float = 5.0
    look_at_m: float = 0.9
    area_m: float = 1.5
    focal_px: float = 900.0
    width_px: int = 1280
    height_px: int = 720
    rate: float = 25.0
    seconds: float = 90.0
    held_out: float = 0.4


@dataclass(frozen=True)
class _Take:
    start: float
    positions: NDArray[np.float32]   # (F, 17, 3) m in the world
    rate: float
    number: int

    def at(self, seconds: float) -> NDArray | None:
        """Return the joints (17, 3) at a time, None where the take is over or has not begun."""
        moment = (seconds - self.start) * self.rate
        if not 0 <= moment <= len(self.positions) - 1:
            return None
        before = min(int(moment), len(self.positions) - 2)
        share = moment - before
        return (1 - share) * self.positions[before] + share * self.positions[before + 1]


def poses_around(layout: SiteLayout) -> NDArray[np.float64]:
    """Return camera_T_world (V, 4, 4)."""
    bearing = 2 * np.pi * (np.arange(layout.cameras) + 0.1) / layout.cameras
    drop = np.full(layout.cameras, np.arctan2(layout.look_at_m - layout.height_m, layout.distance_m))
    poses = np.tile(np.eye(4), (layout.cameras, 1, 1))
    poses[:, :3, :3] = optical_axes(drop, np.zeros(layout.cameras)) @ about_up(-bearing - np.pi)
    centre = np.stack([layout.distance_m * np.cos(bearing), layout.distance_m * np.sin(bearing),
                       np.full(layout.cameras, layout.height_m)], axis=-1)
    poses[:, :3, 3] = -np.einsum('vij,vj->vi', poses[:, :3, :3], centre)
    return poses


class SyntheticSite:
    """People who act, and what cameras see of them. views: of each camera; truth is for whoever measures."""

    def __init__(self, mocap: Mocap, layout: SiteLayout, errors: FittedErrors | None, rng: np.random.Generator) -> None:
        self.layout, self.errors = layout, errors
        self.poses = poses_around(layout)
        self._people = [_acted(mocap, layout, size, person, rng) for person, size in enumerate(layout.statures)]
        self.views: dict[str, list[View]] = {}
        for camera in range(layout.cameras):
            offset = rng.uniform(0, 1 / layout.rate)
            self.views[f'camera{camera}'] = self._film(camera, offset, rng)

    def joints(self, stamp_ns: int) -> list[tuple[int, NDArray]]:
        """Return the number of the take and the joints (17, 3) m in the world of everybody there."""
        seconds = (stamp_ns - START_NS) * 1e-9
        there = [(take.number, take.at(seconds)) for takes in self._people for take in takes]
        return [(number, joints) for number, joints in there if joints is not None]

    def truth(self, site: SiteRecording) -> NDArray[np.float64]:
        """Return the true joints (N, 17, 3) m of samples, in the optical frames of their cameras."""
        truth = np.full((len(site), len(HUMAN17), 3), np.nan)
        for row in range(len(site)):
            pose = site.poses[row, site.camera[row]]
            seen = site.confidence[row, 0] > 0
            nearest = np.inf
            for _, joints in self.joints(int(site.stamp_ns[row])):
                local = joints @ pose[:3, :3].T + pose[:3, 3]
                points = input_points() @ local
                off = np.abs(points[:, :2] / points[:, 2:] - site.rays[row, 0])[seen].mean()
                if off < nearest:
                    nearest, truth[row] = off, local
        return truth

    def _film(self, camera: int, offset: float, rng: np.random.Generator) -> list[View]:
        layout, pose = self.layout, self.poses[camera]
        errors: dict[int, NDArray] = {}
        views = []
        for frame in range(int(layout.seconds * layout.rate)):
            stamp = START_NS + round(1e9 * (offset + frame / layout.rate))
            people = []
            for number, joints in self.joints(stamp):
                local = joints @ pose[:3, :3].T + pose[:3, 3]
                if (local[:, 2] < NEAREST_M).any():
                    continue
                errors[number] = self._error(errors.get(number), rng)
                person = self._seen(local, errors[number], number, rng)
                if person is not None:
                    people.append(person)
            views.append(View(f'camera{camera}', pose, stamp, people, layout.focal_px, layout.width_px,
                              layout.height_px))
        return views

    def _error(self, before: NDArray | None, rng: np.random.Generator) -> NDArray:
        """Return errors (17, 2) in statures: the last ones, some of them drawn anew."""
        if self.errors is None:
            return np.zeros((17, 2))
        drawn = self.errors.sample(np.ones(1), rng)[0]
        stays = rng.random((17, 1)) < np.exp(-1 / (MEMORY_S * self.layout.rate))
        return drawn if before is None else np.where(stays, before, drawn)

    def _seen(self, local: NDArray, error: NDArray, number: int, rng: np.random.Generator) -> Person2D | None:
        """Return what the detector makes of joints (17, 3) in the optical frame; None where too little is in view."""
        layout, joints = self.layout, len(BLAZEPOSE33)
        size = float(stature(local)) / float(local[0, 2])
        points = (input_points() @ local)
        shaking = TREMBLE * rng.standard_normal((len(points), 2)) if self.errors is not None else 0.0
        rays = points[:, :2] / points[:, 2:] + size * (error[[*_LIMB17, _HEAD17]] + shaking)
        pixels = layout.focal_px * rays + np.array([layout.width_px, layout.height_px]) / 2
        seen = ((pixels > 0) & (pixels < (layout.width_px, layout.height_px))).all(axis=1)
        if seen.sum() < 5:
            return None
        values = np.full((joints, 4), np.nan)
        sure = rng.uniform(0.6, 1.0, len(points))
        for target, rows in ((_LIMB33, np.arange(12)), (_EARS33, np.array([12, 12]))):
            values[target] = np.concatenate([pixels[rows], rays[rows]], axis=1)
        values[_LIMB33[~seen[:12]]] = np.nan
        if not seen[12]:
            values[_EARS33] = np.nan
        there = np.isfinite(values[:, 0])
        sigma = np.where(there, SIGMA * size * layout.focal_px, np.nan)
        confidence = np.full(joints, np.nan)
        confidence[_LIMB33], confidence[_EARS33] = sure[:12], sure[12]
        box = np.concatenate([np.nanmin(values[:, :2], axis=0), np.nanmax(values[:, :2], axis=0)])
        return Person2D(BLAZEPOSE33, values[:, :2], values[:, 2:], sigma, np.where(there, confidence, np.nan),
                        np.full(joints, np.nan), box, 0.9, number, PersonState.TRACKED)


def _acted(mocap: Mocap, layout: SiteLayout, size: float, person: int, rng: np.random.Generator) -> list[_Take]:
    """Return what one person does, one clip after the other; first those of one part of the clips, later the others."""
    clips = rng.permutation(len(mocap.clip_name))
    share = max(1, round((1 - layout.held_out) * len(clips)))
    change = (1 - layout.held_out) * layout.seconds
    stocks = {False: clips[:share].tolist(), True: clips[share:].tolist() or clips.tolist()}
    takes: list[_Take] = []
    clock = rng.uniform(0, AWAY_S)
    while clock < layout.seconds:
        stock = stocks[clock >= change]
        clip = stock.pop(0)
        stock.append(clip)
        frames = mocap.positions[mocap.clip == clip]
        until = change if clock < change else layout.seconds
        frames = frames[:max(2, int(min(until - clock, 12.0) * mocap.fps))]
        takes.append(_Take(clock, _placed(frames, size, layout, rng), mocap.fps, 1 + 1000 * person + len(takes)))
        clock += len(frames) / mocap.fps + AWAY_S
    return takes


def _placed(frames: NDArray, size: float, layout: SiteLayout, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a clip (F, 17, 3) by a body of another size, somewhere at the place, with joints as detectors mark them.
    """
    frames = frames * (size / float(np.median(stature(frames))))
    marks = BodyVariation(marks=1.0)
    frames, _ = shift_marks(frames, WindowRandom(rng, len(frames)), marks, stature(frames))
    turn = about_up(rng.uniform(0, 2 * np.pi, 1))[0]
    radius, spot = layout.area_m * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
    middle = frames[:, 0, :2].mean(axis=0)
    # Whoever walks far comes back into the place: the path is drawn together about its middle.
    reach = np.linalg.norm(frames[:, 0, :2] - middle, axis=1).max()
    path = frames[:, :1, :2] - middle
    frames = frames - np.concatenate([middle, [0]])
    frames[..., :2] -= path * (1 - min(1.0, layout.area_m / max(reach, 1e-6)))
    return (frames @ turn.T + [radius * np.cos(spot), radius * np.sin(spot), 0]).astype(np.float32)
