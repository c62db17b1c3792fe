"""From what a camera reported to its view: checked, numbered, and with the place where the camera stood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from pose3d_ros.fuse.observations import LEAST_JOINTS
from pose3d_ros.fuse.views import View
from pose3d_ros.records import Person2D, Person3D
from pose3d_ros.ros.fields import from_people, from_people_2d, stamp_ns
from pose3d_ros.ros.fusion_input import Report
from pose3d_ros.ros.places import Array, Places
from pose3d_ros.ros.tf import NoTransformError
from pose3d_ros.skeleton import LIMBS12

# A place that changes by more than these between two images is no motion of a camera but another place.
_JUMP_M, _JUMP_M_PER_S = 0.15, 4.0
_JUMP_DEG, _JUMP_DEG_PER_S = 10.0, 360.0
_RUN = 1 << 32  # ids of a message have 32 bits
P = TypeVar('P', Person2D, Person3D)


class ReportError(ValueError):
    """A report that cannot be used. cause: a short name to count by; the text says what is wrong and what to do."""

    def __init__(self, cause: str, text: str) -> None:
        super().__init__(text)
        self.cause = cause


@dataclass(frozen=True)
class Sighted:
    """A report that is sound: what a View needs, but for the place. remarks: cause -> text of what was wrong in it."""

    camera: str
    frame_id: str
    stamp_ns: int
    people_2d: list[Person2D]
    people: list[Person3D]
    focal: float
    width: int
    height: int
    at: float
    remarks: dict[str, str]


class ViewMaker:
    """Makes views of reports. State: of each camera when it last reported, runs: how often it began anew, and its last
    place.

    A node that is started again gives ids from 1 to other people than before, so after a silence ids are new ones here.
    """

    def __init__(self, places: Places, silence_s: float) -> None:
        """silence_s: of a camera, after which its ids are not those of before."""
        self._places, self._silence_s = places, silence_s
        self._came: dict[str, float] = {}
        self.runs: dict[str, int] = {}
        self._stood: dict[str, tuple[int, Array]] = {}

    def forget_places(self) -> None:
        """Places have been changed by intention."""
        self._stood.clear()

    def sighted(self, report: Report) -> Sighted:
        """Return what was seen. Raises ReportError."""
        message, camera = report.people_2d, report.camera
        if report.at - self._came.get(camera, report.at) > self._silence_s:
            self.runs[camera] = self.runs.get(camera, 0) + 1
        self._came[camera] = report.at
        focal = float(np.sqrt(message.fx * message.fy)) if message.fx > 0 and message.fy > 0 else 0.0
        if not 0 < focal < np.inf:
            raise ReportError('bad_focal_length', f'{camera}: its focal length is {message.fx:g}, {message.fy:g} px: '
                                                  'calibrate the camera (camera_info)')
        try:
            people_2d = from_people_2d(message)
        except ValueError as error:
            raise ReportError('bad_people_2d', f'{camera}: people_2d cannot be read ({error}): run the same version of '
                                               'pose3d_ros everywhere') from error
        if people_2d and len(set(people_2d[0].skeleton.joints) & set(LIMBS12.joints)) < LEAST_JOINTS:
            raise ReportError('unknown_skeleton', f'{camera}: skeleton {message.skeleton!r} names none of the joints '
                                                  'that are fused, as left_shoulder: rename those of the model')
        remarks = _remarks(camera, people_2d)
        people: list[Person3D] = []
        try:
            people = from_people(report.people) if report.people is not None else []
        except ValueError as error:
            remarks['bad_people'] = (f'{camera}: people cannot be read ({error}), only rays are used: run the same '
                                     'version of pose3d_ros everywhere')
        run = self.runs.get(camera, 0)
        return Sighted(camera, message.header.frame_id, stamp_ns(message.header.stamp), _numbered(people_2d, run),
                       _numbered(people, run), focal, message.width, message.height, report.at, remarks)

    def placed(self, seen: Sighted) -> tuple[View, Mapping[str, str]]:
        """Return the view, and remarks on its place. Raises NoTransformError where the place is not known (yet)."""
        pose = self._places.lookup(seen.camera, seen.frame_id, seen.stamp_ns)
        try:
            view = View(seen.camera, pose, seen.stamp_ns, seen.people_2d, seen.focal, seen.width, seen.height,
                        seen.people)
        except ValueError as error:
            raise NoTransformError('bad_place', str(error)) from error
        before, self._stood[seen.camera] = self._stood.get(seen.camera), (seen.stamp_ns, pose)
        if before is None or not (jump := _jump(pose, before[1], abs(seen.stamp_ns - before[0]) * 1e-9)):
            return view, {}
        return view, {'place_jumps': f'{seen.camera}: its place jumped by {jump}: look for a second publisher of its '
                                     'transform, or a localisation that jumps'}


def _remarks(camera: str, people: list[Person2D]) -> dict[str, str]:
    """Return cause -> text of what is wrong with people although their message can be read."""
    remarks = {}
    ids = [person.id for person in people if person.id]
    if len(ids) > len(set(ids)):
        twice = sorted({id_ for id_ in ids if ids.count(id_) > 1})
        remarks['duplicate_ids'] = (f'{camera}: id {", ".join(map(str, twice))} is given to two people at once: its '
                                    'tracker is at fault, or two nodes publish the same topic')
    said = [person.joint_confidence > 0 for person in people]
    if any((joints & ~np.isfinite(person.rays).all(axis=1)).any() for person, joints in zip(people, said)):
        remarks['rays_not_finite'] = (f'{camera}: rays of joints it is sure of are no numbers: check its calibration '
                                      '(camera_info)')
    if any((joints & ~(person.sigma > 0)).any() for person, joints in zip(people, said)):
        remarks['sigma_not_positive'] = (f'{camera}: sigmas of joints it is sure of are not positive: they are left '
                                         'out')
    return remarks


def _numbered(people: list[P], run: int) -> list[P]:
    """Return people with the ids of a run of their node; 0 stays: no id."""
    if not run:
        return people
    return [replace(person, id=person.id + run * _RUN if person.id else 0) for person in people]


def _jump(pose: Array, before: Array, seconds: float) -> str:
    """Return how far camera_T_common moved in words, '' when a camera can move so far in this time."""
    apart = float(np.linalg.norm(pose[:3, :3].T @ pose[:3, 3] - before[:3, :3].T @ before[:3, 3]))
    cosine = (np.trace(pose[:3, :3].T @ before[:3, :3]) - 1) / 2
    turned = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    if apart < _JUMP_M + _JUMP_M_PER_S * seconds and turned < _JUMP_DEG + _JUMP_DEG_PER_S * seconds:
        return ''
    return f'{apart:.2f} m and {turned:.0f} degrees within {1e3 * seconds:.0f} ms'
