"""Between the records of pose3d_ros and ROS messages, without loss beyond float32."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Quaternion, Vector3
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from pose3d_ros.camera import Camera
from pose3d_ros.msg import Bodies3D, Body3D, Joint2D, Joint3D, People2D, People3D
from pose3d_ros.msg import Person2D as Person2DMsg
from pose3d_ros.msg import Person3D as Person3DMsg
from pose3d_ros.pelvis import pelvis_frame
from pose3d_ros.records import BodyPose, Person2D, Person3D
from pose3d_ros.ros.fields import camera_from_info, from_bodies, from_people, from_people_2d, stamp_ns
from pose3d_ros.skeleton import BLAZEPOSE33, HUMAN17, SMPL24, Skeleton

_UPPER_TRIANGLE = np.triu_indices(3)  # xx xy xz yy yz zz

__all__ = ['camera_from_info', 'from_bodies', 'from_people', 'from_people_2d', 'stamp_ns', 'to_bodies', 'to_info',
           'to_people', 'to_people_2d', 'to_stamp']


def to_stamp(nanoseconds: int) -> Time:
    """Return nanoseconds as a message's stamp."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return Time(sec=seconds, nanosec=rest)


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


def to_people_2d(people: Sequence[Person2D], camera: Camera, header: Header,
                 skeleton: Skeleton = BLAZEPOSE33) -> People2D:
    """Return the message of the people in one image of the camera."""
    if people:
        skeleton = people[0].skeleton
    return People2D(header=header, skeleton=skeleton.name, joint_names=list(skeleton.joints), width=camera.width,
                    height=camera.height, fx=camera.fx, fy=camera.fy, people=[_to_person_2d(p) for p in people])


def to_bodies(people: Sequence[Person3D], header: Header, model: tuple[str, str]) -> Bodies3D:
    """Return the message of the bodies of those people who have one.

    header: as of their People3D; model: name of the body model that they are in, and SHA-256 of its file.
    """
    name, digest = model
    return Bodies3D(header=header, model=name, model_sha256=digest, joint_names=list(SMPL24.joints),
                    bodies=[_to_body(person, person.body) for person in people if person.body is not None])


def _to_body(person: Person3D, body: BodyPose) -> Body3D:
    turns = Rotation.from_matrix(body.rotations).as_quat()
    turns[turns[:, 3] < 0] *= -1
    message = Body3D(state=int(person.state), id=person.id, confidence=float(person.confidence),
                     rotations=[Quaternion(x=x, y=y, z=z, w=w) for x, y, z, w in turns.tolist()],
                     shape=body.shape.astype(np.float32), scale=float(body.scale))
    message.pelvis.position = _to_point(body.root)
    message.pelvis.orientation = message.rotations[0]
    return message


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
    message.joints = [_to_joint(*values) for values in zip(
        person.joint_state.tolist(), person.position.tolist(), person.velocity.tolist(),
        person.covariance[:, _UPPER_TRIANGLE[0], _UPPER_TRIANGLE[1]].astype(np.float32),
        np.nan_to_num(person.joint_confidence).tolist())]
    return message


def _to_joint(state: int, position: list[float], velocity: list[float], covariance: NDArray[np.float32],
              confidence: float) -> Joint3D:
    joint = Joint3D(state=state, covariance=covariance, confidence=confidence)
    point, moves = joint.position, joint.velocity  # filled where they are: making messages is what takes time here
    point.x, point.y, point.z = position
    moves.x, moves.y, moves.z = velocity
    return joint


def _pelvis_velocity(person: Person3D) -> NDArray[np.float64]:
    """Return the velocity (3,) m/s of the pelvis: of its joint, or the mean of the hips; NaN while unknown."""
    names = ('pelvis',) if 'pelvis' in person.skeleton.joints else ('left_hip', 'right_hip')
    return np.asarray(person.velocity[person.skeleton.indices(names)].mean(axis=0))


def _to_person_2d(person: Person2D) -> Person2DMsg:
    rows = np.column_stack([person.pixels, person.rays, person.sigma, np.nan_to_num(person.joint_confidence)])
    return Person2DMsg(
        state=int(person.state), id=person.id, confidence=float(person.confidence), swapped=person.swapped,
        box=person.box.astype(np.float32),
        joints=[Joint2D(x=x, y=y, ray_x=ray_x, ray_y=ray_y, sigma=sigma, confidence=confidence)
                for x, y, ray_x, ray_y, sigma, confidence in rows.tolist()])


def _to_point(values: NDArray[np.float64]) -> Point:
    x, y, z = values.tolist()
    return Point(x=x, y=y, z=z)


def _to_vector(values: NDArray[np.float64]) -> Vector3:
    x, y, z = values.tolist()
    return Vector3(x=x, y=y, z=z)
