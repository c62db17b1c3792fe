"""All people of all views as arrays, in the joints that every skeleton names (LIMBS12)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.fuse.views import View
from pose3d_ros.records import Person2D
from pose3d_ros.skeleton import HUMAN17, LIMBS12, select

Floats = NDArray[np.float64]

LIMB = HUMAN17.indices(LIMBS12.joints)   # (12,) where the limbs are in HUMAN17
LEAST_JOINTS = 3                         # a sighting of fewer says too little about who it is
_SAME_JOINT = 2.0                        # sigmas; two joints of one view so near to each other are one
_LEAST_CONFIDENCE = 0.1                  # a joint below is a guess of the detector
_WIDEST = 100.0                          # a ray farther out, within 0.6 degrees of the image plane, is no measurement


@dataclass(frozen=True)
class Observations:
    """N people as seen by V views.

    view (N,) index of the view; key: (camera, id) of each, id 0 where the camera has none; rays (N, 12, 2), NaN where
    not seen; sigma (N, 12) of rays, NaN likewise; confidence (N, 12); score (N,) of the person; age (N,) s, how long
    before the time of fusion (negative: after); rotation (N, 3, 3), shift (N, 3) of camera_T_world; center (N, 3) m of
    the camera; mono (N, 17, 3) m and mono_covariance (N, 17, 3, 3) of HUMAN17 in the common frame, NaN where unknown.
    """

    view: NDArray[np.intp]
    key: list[tuple[str, int]]
    rays: Floats
    sigma: Floats
    confidence: Floats
    score: Floats
    age: Floats
    rotation: Floats
    shift: Floats
    center: Floats
    mono: Floats
    mono_covariance: Floats

    def __len__(self) -> int:
        return len(self.view)

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Which joints (N, 12) were seen."""
        return np.isfinite(self.sigma)


def usable(views: Sequence[View], stamp_ns: int, max_age_s: float, counters: Counter[str]) -> list[View]:
    """Return the views near enough in time, one of each camera (the newest), in the order of their names."""
    newest: dict[str, View] = {}
    for view in views:
        if abs(stamp_ns - view.stamp_ns) > max_age_s * 1e9:
            counters['views_late'] += 1
        elif view.camera not in newest or view.stamp_ns > newest[view.camera].stamp_ns:
            newest[view.camera] = view
    return [newest[name] for name in sorted(newest)]


def observe(views: Sequence[View], stamp_ns: int, counters: Counter[str]) -> Observations:
    """Return the people of the views as arrays; those of whom too little was seen are left out.

    An id that a view gives twice stays with the person the detector is surer of; the other has none.
    """
    chosen = [(index, view, person, id_) for index, view in enumerate(views)
              for person, id_ in _with_ids(view.people_2d, counters)]
    count = len(chosen)
    values = np.full((count, 12, 4), np.nan)
    for skeleton in {person.skeleton for _, _, person, _ in chosen}:
        rows = [n for n, (_, _, person, _) in enumerate(chosen) if person.skeleton == skeleton]
        people = [chosen[n][2] for n in rows]
        own = np.empty((len(rows), len(skeleton), 4))
        own[..., :2] = [p.rays for p in people]
        own[..., 2], own[..., 3] = [p.sigma for p in people], [p.joint_confidence for p in people]
        values[rows] = select(own, skeleton, LIMBS12)
    rays, sigma, trust = values[..., :2], values[..., 2], values[..., 3]
    focal = np.array([view.focal for _, view, _, _ in chosen])
    seen = (np.abs(rays) < _WIDEST).all(axis=-1) & (sigma > 0) & np.isfinite(sigma) & (trust >= _LEAST_CONFIDENCE)
    enough = seen.sum(axis=1) >= LEAST_JOINTS
    counters['too_little_seen'] += int(count - enough.sum())
    score = np.nan_to_num(np.array([person.confidence for _, _, person, _ in chosen]))
    enough &= ~_again(np.array([index for index, _, _, _ in chosen]), np.where(seen[..., None], rays, np.nan),
                      sigma / focal[:, None], score, counters)
    mono, spread = _mono(chosen)
    pose = np.array([view.camera_T_world for _, view, _, _ in chosen]).reshape(count, 4, 4)
    rotation, shift = pose[:, :3, :3], pose[:, :3, 3]
    keep = np.flatnonzero(enough)
    return Observations(
        np.array([index for index, _, _, _ in chosen], dtype=np.intp)[keep],
        [(chosen[n][1].camera, chosen[n][3]) for n in keep],
        np.where(seen[..., None], rays, np.nan)[keep],
        np.where(seen, sigma, np.nan)[keep] / focal[keep, None],
        np.where(seen, np.minimum(trust, 1.0), 0.0)[keep],
        score[keep],
        np.array([(stamp_ns - view.stamp_ns) * 1e-9 for _, view, _, _ in chosen])[keep],
        rotation[keep], shift[keep], -np.einsum('nji,nj->ni', rotation, shift)[keep], mono[keep], spread[keep])


def _with_ids(people: Sequence[Person2D], counters: Counter[str]) -> list[tuple[Person2D, int]]:
    """Return the people and the ids to be believed, 0 for the less sure one of two with the same."""
    owner: dict[int, int] = {}
    for index, person in enumerate(people):
        if person.id and (person.id not in owner or person.confidence > people[owner[person.id]].confidence):
            owner[person.id] = index
    result = []
    for index, person in enumerate(people):
        own = not person.id or owner[person.id] == index
        counters['duplicate_ids'] += not own
        result.append((person, person.id if own else 0))
    return result


def _again(view: NDArray[np.intp], rays: Floats, sigma: Floats, score: Floats,
           counters: Counter[str]) -> NDArray[np.bool_]:
    """Return which people (N,) another of the same view covers joint by joint: two detections of one person."""
    again = np.zeros(len(view), dtype=bool)
    first, second = np.nonzero(np.triu(view[:, None] == view, 1))
    off = np.linalg.norm(rays[first] - rays[second], axis=-1) / sigma[first]
    known = np.isfinite(off)
    close = known & (off < _SAME_JOINT)
    same = (known.sum(axis=1) >= LEAST_JOINTS) & (close.sum(axis=1) > 0.7 * known.sum(axis=1))
    for a, b in zip(first[same], second[same], strict=True):
        if not again[a] and not again[b]:
            again[b if score[b] <= score[a] else a] = True
    counters['duplicates'] += int(again.sum())
    return again


def _mono(chosen: list[tuple[int, View, Person2D, int]]) -> tuple[Floats, Floats]:
    """Return mono 3D (N, 17, 3) and covariance (N, 17, 3, 3) in the common frame; NaN where there is none."""
    position, spread = np.full((len(chosen), 17, 3), np.nan), np.full((len(chosen), 17, 3, 3), np.nan)
    by_id = {(index, person.id): person for index, view in {index: view for index, view, _, _ in chosen}.items()
             for person in view.people if person.skeleton == HUMAN17}
    rows = [n for n, (index, _, _, id_) in enumerate(chosen) if id_ and (index, id_) in by_id]
    if not rows:
        return position, spread
    people = [by_id[chosen[n][0], chosen[n][3]] for n in rows]
    pose = np.stack([chosen[n][1].camera_T_world for n in rows])
    rotation = pose[:, :3, :3]
    position[rows] = (np.array([person.position for person in people]) - pose[:, None, :3, 3]) @ rotation
    spread[rows] = _turned(np.array([person.covariance for person in people]), rotation)
    known = np.isfinite(position.sum(axis=-1) + spread.sum(axis=(-1, -2)))
    return np.where(known[..., None], position, np.nan), np.where(known[..., None, None], spread, np.nan)


def _turned(covariance: Floats, rotation: Floats) -> Floats:
    """Return R^T C R of symmetric C (K, J, 3, 3) and R (K, 3, 3); all rows of a camera at once."""
    count, joints = covariance.shape[:2]
    once = (covariance.reshape(count, -1, 3) @ rotation).reshape(covariance.shape)
    return (np.swapaxes(once, -1, -2).reshape(count, -1, 3) @ rotation).reshape(count, joints, 3, 3)
