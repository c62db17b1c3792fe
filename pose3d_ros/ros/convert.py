"""Between the records of pose3d_ros and ROS messages, without loss beyond float32."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Vector3
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from pose3d_ros.camera import Camera
from pose3d_ros.msg import Joint2D, Joint3D, People2D, People3D
from pose3d_ros.msg import Person2D as Person2DMsg
from pose3d_ros.msg import Person3D as Person3DMsg
from pose3d_ros.pelvis import pelvis_frame
from pose3d_ros.records import Person2D, Person3D, PersonState
from pose3d_ros.skeleton import BLAZEPOSE33, HUMAN17, SKELETONS, Skeleton

_UPPER_TRIANGLE = np.triu_indices(3)  # xx xy xz yy yz zz
_BOTH_TRIANGLES = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])


def stamp_ns(stamp: Time) -> int:
    """Return a message's stamp in nanoseconds."""
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


def to_stamp(nanoseconds: int) -> Time:
    """Return nanoseconds as a message's stamp."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return Time(sec=seconds, nanosec=rest)


def camera_from_info(info: CameraInfo, rectified: bool, topic: str) -> Camera:
    """Return the camera of the images that belong to a CameraInfo. Raises CalibrationError naming the topic."""
    roi = info.roi
    return Camera.from_info(info.width, info.height, info.k, info.d, info.distortion_model, info.r, info.p,
                            info.binning_x, info.binning_y, (roi.x_offset, roi.y_offset, roi.width, roi.height),
                            rectified, topic)


def to_info(camera: Camera, header: Header) -> CameraInfo:
    """Return the CameraInfo of a camera's raw images."""
    return CameraInfo(header=header, **camera.to_info())


def to_people(people: Sequence[Person3D], header: Header, skeleton: Skeleton = HUMAN17) -> People3D:
    """Return the message of 3D people; header: stamp of their image and frame of their joints.

    All people have one skeleton; the one given is named when nobody is there.
    """
    if people:
        skeleton = people[0].skeleton
    return People3D(header=header, skeleton=skeleton.name, joint_names=list(skeleton.joints),
                    people=[_to_person(person) for person in people])


def from_people(message: People3D) -> list[Person3D]:
    """Return the people of a message. Raises ValueError for names that are not the skeleton's, or a wrong number."""
    skeleton = _skeleton(message.skeleton, message.joint_names)
    return [_from_person(person, skeleton) for person in message.people]


def to_people_2d(people: Sequence[Person2D], camera: Camera, header: Header,
                 skeleton: Skeleton = BLAZEPOSE33) -> People2D:
    """Return the message of the people in one image of the camera."""
    if people:
        skeleton = people[0].skeleton
    return People2D(header=header, skeleton=skeleton.name, joint_names=list(skeleton.joints), width=camera.width,
                    height=camera.height, fx=camera.fx, fy=camera.fy, people=[_to_person_2d(p) for p in people])


def from_people_2d(message: People2D) -> list[Person2D]:
    """Return the people of a message; their relative depth, which the message does not carry, is NaN."""
    skeleton = _skeleton(message.skeleton, message.joint_names)
    return [_from_person_2d(person, skeleton) for person in message.people]


def _skeleton(name: str, joints: Sequence[str]) -> Skeleton:
    skeleton = SKELETONS.get(name)
    if skeleton is None:  # of somebody's own model: a set of names, without bones
        return Skeleton(name, tuple(joints), ())
    if tuple(joints) != skeleton.joints:
        raise ValueError(f'the joint names of the message are not those of skeleton {name}')
    return skeleton


def _to_person(person: Person3D) -> Person3DMsg:
    message = Person3DMsg(state=int(person.state), id=person.id, confidence=float(person.confidence),
                          height=float(person.height), height_sigma=float(person.height_sigma))
    pelvis = pelvis_frame(person)
    message.pelvis.pose.position = _to_point(pelvis.position)
    orientation = message.pelvis.pose.orientation
    orientation.x, orientation.y, orientation.z, orientation.w = pelvis.quaternion.tolist()
    message.pelvis.covariance = pelvis.covariance.ravel()
    message.velocity.twist.linear = _to_vector(_pelvis_velocity(person))
    message.velocity.twist.angular = _to_vector(np.full(3, np.nan))  # not estimated
    message.velocity.covariance = np.full(36, np.nan)
    message.joints = [
        Joint3D(state=state, position=_to_point(position), velocity=_to_vector(velocity), covariance=covariance,
                confidence=confidence)
        for state, position, velocity, covariance, confidence in zip(
            person.joint_state.tolist(), person.position, person.velocity,
            person.covariance[:, _UPPER_TRIANGLE[0], _UPPER_TRIANGLE[1]].astype(np.float32),
            np.nan_to_num(person.joint_confidence).tolist())]
    return message


def _pelvis_velocity(person: Person3D) -> NDArray[np.float64]:
    """Return the velocity (3,) m/s of the pelvis: of its joint, or the mean of the hips; NaN while unknown."""
    names = ('pelvis',) if 'pelvis' in person.skeleton.joints else ('left_hip', 'right_hip')
    return np.asarray(person.velocity[person.skeleton.indices(names)].mean(axis=0))


def _from_person(message: Person3DMsg, skeleton: Skeleton) -> Person3D:
    joints = message.joints
    _check_count(len(joints), skeleton)
    covariance = np.array([joint.covariance for joint in joints], dtype=np.float64)[:, _BOTH_TRIANGLES]
    return Person3D(
        skeleton=skeleton,
        position=np.array([(j.position.x, j.position.y, j.position.z) for j in joints]),
        velocity=np.array([(j.velocity.x, j.velocity.y, j.velocity.z) for j in joints]),
        covariance=covariance,
        joint_confidence=np.array([joint.confidence for joint in joints]),
        joint_state=np.array([joint.state for joint in joints], dtype=np.uint8),
        confidence=message.confidence, id=message.id, state=PersonState(message.state), height=message.height,
        height_sigma=message.height_sigma)


def _to_person_2d(person: Person2D) -> Person2DMsg:
    rows = np.column_stack([person.pixels, person.rays, person.sigma, np.nan_to_num(person.joint_confidence)])
    return Person2DMsg(
        state=int(person.state), id=person.id, confidence=float(person.confidence), swapped=person.swapped,
        box=person.box.astype(np.float32),
        joints=[Joint2D(x=x, y=y, ray_x=ray_x, ray_y=ray_y, sigma=sigma, confidence=confidence)
                for x, y, ray_x, ray_y, sigma, confidence in rows.tolist()])


def _from_person_2d(message: Person2DMsg, skeleton: Skeleton) -> Person2D:
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


def _to_point(values: NDArray[np.float64]) -> Point:
    x, y, z = values.tolist()
    return Point(x=x, y=y, z=z)


def _to_vector(values: NDArray[np.float64]) -> Vector3:
    x, y, z = values.tolist()
    return Vector3(x=x, y=y, z=z)
