"""From the views of a site's cameras to samples: windows as the lifter gets them, and who is who across cameras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation

from pose3d_ros.camera import Camera
from pose3d_ros.fuse.fuser import Fuser
from pose3d_ros.fuse.views import View
from pose3d_ros.lift import INPUTS, Lifter, input_rays, lifter_file
from pose3d_ros.records import Person2D, Person3D
from pose3d_ros.runtime.engine import Engine, Wanted
from pose3d_ros.runtime.opening import open_engine
from pose3d_ros.skeleton import HUMAN17, LIMBS12, select
from pose3d_ros.train.site import SiteError, SiteRecording

APART_NS = 150_000_000    # images of a camera farther apart are not interpolated between
SAME_NS = 5_000_000       # images nearer to a moment are taken to be of that moment
RECOGNISED_M = 0.12       # m, at the distance of a fused person, within which half of his joints have to lie
LEAST_DEPTH_M = 0.1
LEAST_SHARED = 4          # joints that another camera must have seen for a sample to be kept
MOST_SAMPLES = 30_000     # more are thinned out evenly: neighbours in time show nearly the same
_LIMBS = HUMAN17.indices(LIMBS12.joints)


class _Listening:
    """An engine that keeps what it was shown last: by it the windows are those of the lifter and no others."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.metadata = engine, engine.metadata
        self.inputs, self.outputs, self.input_shapes = engine.inputs, engine.outputs, engine.input_shapes
        self.shown: dict[str, NDArray] = {}

    def run(self, inputs: Mapping[str, NDArray]) -> Mapping[str, NDArray]:
        self.shown = {name: np.array(value) for name, value in inputs.items()}
        return self.engine.run(self.shown)


@dataclass
class _Sightings:
    """All sightings of one camera, a row each: what the lifter was shown and what the camera detected."""

    frame: list[int] = field(default_factory=list)
    id: list[int] = field(default_factory=list)
    rays: list[NDArray] = field(default_factory=list)          # (T, J, 2)
    confidence: list[NDArray] = field(default_factory=list)    # (T, J)
    age: list[NDArray] = field(default_factory=list)
    up: list[NDArray] = field(default_factory=list)
    landmarks: list[NDArray] = field(default_factory=list)
    sigma: list[NDArray] = field(default_factory=list)         # (J,) of rays
    person: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


def read_site(views: Mapping[str, Sequence[View]], lifter: Path | None = None,
              world_up: Sequence[float] | None = None, most: int = MOST_SAMPLES) -> SiteRecording:
    """Return what can be learnt from: every person in every image whom another camera sees as well.

    views: of each camera in the order of time, its people with the ids of the camera's own tracker. lifter: the
    file that is shown them (None: the one that ships). world_up (3,): away from the floor in the
    common frame; None where the lifter is not going to know it. Raises SiteError.
    """
    names = tuple(sorted(name for name in views if len(views[name])))
    if len(names) < 2:
        raise SiteError(f'{len(names)} camera with images; give recordings of two or more that see the same people')
    engine = _Listening(open_engine(lifter or lifter_file(), Wanted('cpu', threads=1)))
    sightings = {}
    for name in names:
        _in_order(name, views[name])
        sightings[name] = _sightings(views[name], engine, world_up)
    _name_people(names, views, sightings)
    site = _samples(names, views, sightings)
    if not len(site):
        raise SiteError('no person was seen by two cameras at once; check that the cameras share a part of the place, '
                        'that their clocks agree, and the extrinsics (pose3d calibrate)')
    if len(site) > most:
        site = site.where(np.linspace(0, len(site) - 1, most).round().astype(np.intp))
    return site


def strangers(site: SiteRecording) -> list[str]:
    """Return the cameras that share nobody with another one."""
    shared = {site.cameras[index] for index in np.unique(site.camera)}
    return [name for name in site.cameras if name not in shared]


def _in_order(name: str, views: Sequence[View]) -> None:
    stamps = np.array([view.stamp_ns for view in views])
    if (np.diff(stamps) <= 0).any():
        raise SiteError(f'{name}: time stands still or goes back after image {int((np.diff(stamps) <= 0).argmax())}; '
                        'give the images in the order of their stamps')
    if any(view.people_2d for view in views) and not any(
            person.id for view in views for person in view.people_2d):
        raise SiteError(f'{name}: its people have no ids; track them first (the node and `pose3d run` do)')


def _sightings(views: Sequence[View], engine: _Listening, world_up: Sequence[float] | None) -> _Sightings:
    """Return the sightings of a camera as the lifter is shown them."""
    lifter, found = Lifter(engine), _Sightings()  # type: ignore[arg-type]  # all of an engine that it uses
    for number, view in enumerate(views):
        camera = Camera(view.width, view.height, view.focal, view.focal, view.width / 2, view.height / 2)
        up = None if world_up is None else view.camera_T_world[:3, :3] @ np.asarray(world_up, dtype=np.float64)
        people = lifter(view.people_2d, camera, view.stamp_ns, up)
        if people:
            _note(found, number, view, people, engine.shown)
    return found


def _note(found: _Sightings, number: int, view: View, people: list[Person3D], shown: dict[str, NDArray]) -> None:
    by_id: dict[int, Person2D] = {person.id: person for person in view.people_2d}
    for row, person in enumerate(people):
        if not person.id:
            continue
        sigma = by_id[person.id].sigma / view.focal
        own = input_rays(by_id[person.id].skeleton, np.repeat(sigma[:, None], 2, axis=1)[None],
                         by_id[person.id].joint_confidence[None])[0][0, :, 0]
        found.frame.append(number)
        found.id.append(person.id)
        found.sigma.append(own)
        for name in ('rays', 'confidence', 'age', 'up', 'landmarks'):
            getattr(found, name).append(shown[name][row])


def _name_people(names: Sequence[str], views: Mapping[str, Sequence[View]],
                 sightings: Mapping[str, _Sightings]) -> None:
    """Tell each sighting whose it is: fuse at the images of the busiest camera, and take the answer nearest in time.

    By rays alone: the places that single cameras find for people of unusual size contradict each other, and those are
    what is to be learnt from.
    """
    stamps = {name: np.array([view.stamp_ns for view in views[name]]) for name in names}
    clock = stamps[max(names, key=lambda name: len(stamps[name]))]
    fuser, told = Fuser(), []
    nearest = {name: _nearest(stamps[name], clock) for name in names}
    for tick, stamp in enumerate(clock):
        now = [replace(views[name][nearest[name][tick]], people=[]) for name in names]
        people = fuser(now, int(stamp))
        told.append({(view.camera, id_): person for view in now for id_, person in _recognised(view, people, stamp)})
    for name in names:
        ticks = _nearest(clock, stamps[name])
        near = np.abs(clock[ticks] - stamps[name]) <= APART_NS
        found = sightings[name]
        found.person = np.array([told[ticks[frame]].get((name, id_), 0) if near[frame] else 0
                                 for frame, id_ in zip(found.frame, found.id)], dtype=np.int64)


def _recognised(view: View, people: Sequence[Person3D], stamp_ns: int) -> list[tuple[int, int]]:
    """Return pairs of ids, the camera's and the fused one, of those in a view who lie where fused people are.

    Somebody whose sides the camera took for each other is left out: nothing right could be learnt from that.
    """
    here = [person for person in view.people_2d if person.id]
    if not here or not people:
        return []
    late = (view.stamp_ns - stamp_ns) * 1e-9
    fused = np.stack([person.position + late * np.nan_to_num(person.velocity) for person in people])[:, _LIMBS]
    local = fused @ view.camera_T_world[:3, :3].T + view.camera_T_world[:3, 3]
    depth = np.where(local[..., 2:] > LEAST_DEPTH_M, local[..., 2:], np.nan)
    seen = np.stack([select(person.rays, person.skeleton, LIMBS12) for person in here])
    apart, turned = (_middle(np.linalg.norm(local[:, None, :, :2] - seen[None][:, :, order] * depth[:, None], axis=-1))
                     for order in (slice(None), LIMBS12.mirror))                              # (P, N) m
    best = np.fmin(apart, turned)
    rows, columns = linear_sum_assignment(np.minimum(best, 10 * RECOGNISED_M))
    return [(here[column].id, people[row].id) for row, column in zip(rows, columns)
            if apart[row, column] < RECOGNISED_M and not turned[row, column] < 0.5 * apart[row, column]]


def _middle(apart: NDArray) -> NDArray[np.float64]:
    """Return the median (...) of distances (..., 12) that are known, infinity where fewer than half are."""
    enough = np.isfinite(apart).sum(axis=-1) >= apart.shape[-1] // 2
    known = np.where(enough[..., None], apart, 0.0)
    return np.where(enough, np.nanmedian(known, axis=-1), np.inf)


def _nearest(stamps: NDArray, moments: NDArray) -> NDArray[np.intp]:
    """Return which of the stamps (ascending) is nearest to each moment."""
    after = np.clip(np.searchsorted(stamps, moments), 1, max(len(stamps) - 1, 1))
    if len(stamps) == 1:
        return np.zeros(len(moments), dtype=np.intp)
    return np.where(moments - stamps[after - 1] <= stamps[after] - moments, after - 1, after)


def _samples(names: Sequence[str], views: Mapping[str, Sequence[View]],
             sightings: Mapping[str, _Sightings]) -> SiteRecording:
    """Put the sightings of all cameras together, each with what the others saw at its moment."""
    parts = []
    stamps = {name: np.array([view.stamp_ns for view in views[name]], dtype=np.int64) for name in names}
    poses = {name: np.stack([view.camera_T_world for view in views[name]]) for name in names}
    for index, name in enumerate(names):
        own = sightings[name]
        rows = np.flatnonzero(own.person > 0)
        if not len(rows):
            continue
        stamp = stamps[name][np.array(own.frame)[rows]]
        arrays: dict[str, NDArray] = {
            key: np.stack([getattr(own, key)[row] for row in rows]) for key in (
                'rays', 'confidence', 'age', 'up', 'landmarks')}
        arrays |= {'camera': np.full(len(rows), index), 'person': own.person[rows], 'stamp_ns': stamp}
        first, last = stamp.copy(), stamp.copy()
        seen = [_at(stamp, own.person[rows], sightings[other], stamps[other], poses[other]) for other in names]
        for found in seen:
            first, last = np.minimum(first, found[4]), np.maximum(last, found[5])
        arrays |= {'first_ns': first, 'last_ns': last}
        for key, position in (('seen_rays', 0), ('seen_confidence', 1), ('seen_sigma', 2), ('poses', 3)):
            arrays[key] = np.stack([found[position] for found in seen], axis=1)
        others = np.delete(arrays['seen_confidence'] > 0, index, axis=1)
        keep = (others.sum(axis=2) >= LEAST_SHARED).any(axis=1)
        parts.append({key: value[keep] for key, value in arrays.items()})
    if not parts:
        raise SiteError('nobody was recognised in two cameras at once; record people where the views of two overlap, '
                        'and check clocks and extrinsics (pose3d calibrate extrinsics)')
    joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    order = np.lexsort((joined['camera'], joined['stamp_ns']))
    return SiteRecording(tuple(names), np.array([views[name][0].focal for name in names], dtype=np.float32),
                         **{key: value[order] for key, value in joined.items()})


def _at(moment: NDArray, person: NDArray, found: _Sightings, stamps: NDArray,
        poses: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray, NDArray]:
    """Return what a camera saw of persons (N,) at moments (N,), by interpolation between its images.

    rays (N, J, 2), confidence (N, J), 0 where not seen, sigma (N, J), the camera's pose (N, 4, 4), and the stamps (N,)
    of the oldest and the newest image this rests on.
    """
    count, joints = len(moment), len(INPUTS)
    rays, confidence = np.zeros((count, joints, 2), np.float32), np.zeros((count, joints), np.float32)
    sigma = np.zeros((count, joints), np.float32)
    first, last = moment.copy(), moment.copy()
    frames = np.array(found.frame, dtype=np.intp)
    for one in np.unique(person):
        wanted, mine = np.flatnonzero(person == one), np.flatnonzero(found.person == one)
        if not len(mine):
            continue
        when, at = stamps[frames[mine]], moment[wanted]
        after = np.clip(np.searchsorted(when, at), 0, len(when) - 1)
        before = np.where(when[after] > at, np.maximum(after - 1, 0), after)
        exact = np.where(np.abs(when[after] - at) < np.abs(when[before] - at), after, before)
        exact_enough = np.abs(when[exact] - at) <= SAME_NS
        before, after = np.where(exact_enough, exact, before), np.where(exact_enough, exact, after)
        between = (when[before] <= at) & (at <= when[after]) & (when[after] - when[before] <= APART_NS)
        good = exact_enough | between
        wanted, before, after, at = wanted[good], before[good], after[good], at[good]
        share = np.clip((at - when[before]) / np.maximum(when[after] - when[before], 1), 0, 1).astype(np.float32)
        if not len(wanted):
            continue
        a, b = ([np.stack([getattr(found, key)[mine[row]] for row in side])
                 for key in ('rays', 'confidence', 'sigma')] for side in (before, after))
        both = (a[1][:, 0] > 0) & (b[1][:, 0] > 0)
        mixed = (1 - share)[:, None, None] * a[0][:, 0] + share[:, None, None] * b[0][:, 0]
        rays[wanted] = np.where(both[..., None], mixed, 0)
        confidence[wanted] = np.where(both, np.minimum(a[1][:, 0], b[1][:, 0]), 0)
        sigma[wanted] = np.where(both, np.maximum(a[2], b[2]), 0)
        first[wanted], last[wanted] = np.minimum(at, when[before]), np.maximum(at, when[after])
    return rays, confidence, sigma, _poses_at(moment, stamps, poses), first, last


def _poses_at(moment: NDArray, stamps: NDArray, poses: NDArray) -> NDArray[np.float64]:
    """Return camera_T_world (N, 4, 4) at moments (N,): turned and moved evenly between two images."""
    if len(stamps) == 1 or np.abs(poses - poses[0]).max() < 1e-9:
        return np.tile(poses[0], (len(moment), 1, 1))
    after = np.clip(np.searchsorted(stamps, moment), 1, len(stamps) - 1)
    before = after - 1
    share = np.clip((moment - stamps[before]) / (stamps[after] - stamps[before]), 0, 1)
    turn = Rotation.from_matrix(poses[after, :3, :3] @ poses[before, :3, :3].swapaxes(1, 2))
    result = poses[before].copy()
    result[:, :3, :3] = Rotation.from_rotvec(share[:, None] * turn.as_rotvec()).as_matrix() @ poses[before, :3, :3]
    # The place of the camera is what moves evenly, not the translation of the inverse.
    place = [-np.einsum('nji,nj->ni', poses[rows, :3, :3], poses[rows, :3, 3]) for rows in (before, after)]
    centre = (1 - share)[:, None] * place[0] + share[:, None] * place[1]
    result[:, :3, 3] = -np.einsum('nij,nj->ni', result[:, :3, :3], centre)
    return result
