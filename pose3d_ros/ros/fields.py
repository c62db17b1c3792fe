"""ROS messages -> records. Looks only at the fields, so messages of a bag that is read without ROS will do as well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from pose3d_ros.camera import Camera
from pose3d_ros.records import BodyPose, Person2D, Person3D, PersonState
from pose3d_ros.skeleton import SKELETONS, SMPL24, Skeleton

_BOTH_TRIANGLES = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])  # from xx xy xz yy yz zz


def stamp_ns(stamp: Any) -> int:
    """Return a message's stamp in nanoseconds."""
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


def camera_from_info(info: Any, rectified: bool, topic: str) -> Camera:
    """Return the camera of the images that belong to a CameraInfo. Raises CalibrationError naming the topic."""
    roi = info.roi
    return Camera.from_info(info.width, info.height, info.k, info.d, info.distortion_model, info.r, info.p,
                            info.binning_x, info.binning_y, (roi.x_offset, roi.y_offset, roi.width, roi.height),
                            rectified, topic)


def from_people(message: Any) -> list[Person3D]:
    """Return the people of a People3D. Raises ValueError for names that are not the skeleton's, or a wrong number."""
    skeleton = _skeleton(message.skeleton, message.joint_names)
    return [_from_person(person, skeleton) for person in message.people]


def from_people_2d(message: Any) -> list[Person2D]:
    """Return the people of a People2D; their relative depth, which the message does not carry, is NaN."""
    skeleton = _skeleton(message.skeleton, message.joint_names)
    return [_from_person_2d(person, skeleton) for person in message.people]


def from_bodies(message: Any) -> dict[int, BodyPose]:
    """Return the bodies of a Bodies3D by the ids of their people. Raises ValueError for other joints than SMPL24's."""
    if tuple(message.joint_names) != SMPL24.joints:
        raise ValueError('the joint names of the message are not those of skeleton smpl24')
    return {body.id: _from_body(body) for body in message.bodies}


def _from_body(message: Any) -> BodyPose:
    turns = Rotation.from_quat([(q.x, q.y, q.z, q.w) for q in message.rotations])
    place = message.pelvis.position
    return BodyPose(turns.as_matrix(), np.array(message.shape, dtype=np.float64), float(message.scale),
                    np.array([place.x, place.y, place.z]))


def _skeleton(name: str, joints: Sequence[str]) -> Skeleton:
    skeleton = SKELETONS.get(name)
    if skeleton is None:  # of somebody's own model: a set of names, without bones
        return Skeleton(name, tuple(joints), ())
    if tuple(joints) != skeleton.joints:
        raise ValueError(f'the joint names of the message are not those of skeleton {name}')
    return skeleton


def _from_person(message: Any, skeleton: Skeleton) -> Person3D:
    joints = message.joints
    _check_count(len(joints), skeleton)
    covariance = np.array([joint.covariance for joint in joints], dtype=np.float64).reshape(-1, 6)[:, _BOTH_TRIANGLES]
    return Person3D(
        skeleton=skeleton,
        position=np.array([(j.position.x, j.position.y, j.position.z) for j in joints]),
        velocity=np.array([(j.velocity.x, j.velocity.y, j.velocity.z) for j in joints]),
        covariance=covariance,
        joint_confidence=np.array([joint.confidence for joint in joints]),
        joint_state=np.array([joint.state for joint in joints], dtype=np.uint8),
        confidence=message.confidence, id=message.id, state=PersonState(message.state), height=message.height,
        height_sigma=message.height_sigma)


def _from_person_2d(message: Any, skeleton: Skeleton) -> Person2D:
    joints = message.joints
    _check_count(len(joints), skeleton)
    return Person2D(
        skeleton=skeleton,
        pixels=np.array([(joint.x, joint.y) for joint in joints]),
        rays=np.array([(joint.ray_x, joint.ray_y) for joint in joints]),
        sigma=np.array([joint.sigma for joint in joints]),
        joint_confidence=np.array([joint.confidence for joint in joints]),
        depth=np.full(len(joints), np.nan),
        box=np.array(message.box, dtype=np.float64),
        confidence=message.confidence, id=message.id, state=PersonState(message.state), swapped=message.swapped)


def _check_count(count: int, skeleton: Skeleton) -> None:
    if count != len(skeleton):
        raise ValueError(f'a person of the message has {count} joints, skeleton {skeleton.name} has {len(skeleton)}')
