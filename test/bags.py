"""Bags for the tests: people who walk between cameras, as nodes would have recorded them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from people_about import FPS, walk
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from scipy.spatial.transform import Rotation

from pose3d_ros.camera import Camera
from pose3d_ros.fuse.extrinsics.tracks import JOINTS
from pose3d_ros.skeleton import BLAZEPOSE33

START_NS = 1_760_000_000_000_000_000  # as of a clock that shows today
FOCAL = 900.0  # px
PEOPLE_2D, IMAGE, COMPRESSED, CAMERA_INFO, TF = (
    'pose3d_ros/msg/People2D', 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage', 'sensor_msgs/msg/CameraInfo',
    'tf2_msgs/msg/TFMessage')

STORE = get_typestore(Stores.ROS2_HUMBLE)
_own: dict[str, Any] = {}
for _path in sorted((Path(__file__).parents[1] / 'msg').glob('*.msg')):
    _own.update(get_types_from_msg(_path.read_text(), f'pose3d_ros/msg/{_path.stem}'))
STORE.register(_own)


def make(kind: str, **fields: Any) -> Any:
    """Return a message of a type, as PEOPLE_2D."""
    return STORE.types[kind](**fields)


def header(stamp_ns: int, frame_id: str) -> Any:
    stamp = make('builtin_interfaces/msg/Time', sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return make('std_msgs/msg/Header', stamp=stamp, frame_id=frame_id)


class BagWriter:
    """Writes a bag into a folder. Use as a context."""

    def __init__(self, path: Path, storage: str = 'mcap') -> None:
        plugin = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}[storage]
        self._writer = Writer(path, version=9, storage_plugin=plugin)
        self._connections: dict[str, Any] = {}

    def __enter__(self) -> BagWriter:
        self._writer.open()
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()

    def write(self, topic: str, kind: str, message: Any, stamp_ns: int) -> None:
        self.write_bytes(topic, kind, STORE.serialize_cdr(message, kind), stamp_ns)

    def write_bytes(self, topic: str, kind: str, data: bytes | memoryview, stamp_ns: int) -> None:
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, kind, typestore=STORE)
        self._writer.write(self._connections[topic], stamp_ns, data)


def forget_definitions(path: Path) -> None:
    """Make an SQLite bag one of Humble, which kept no definitions of messages."""
    database, = path.glob('*.db3')
    with sqlite3.connect(database) as connection:
        connection.execute('DROP TABLE message_definitions')
        connection.execute('UPDATE schema SET schema_version = 3')
    connection.close()
    metadata = path / 'metadata.yaml'
    document = yaml.safe_load(metadata.read_text())
    for topic in document['rosbag2_bagfile_information']['topics_with_message_count']:
        topic['topic_metadata']['type_description_hash'] = ''
    metadata.write_text(yaml.safe_dump(document))


def people_2d(rays: np.ndarray, stamp_ns: int, frame_id: str, ids: Sequence[int] = (), sigma: float = 1.0,
              focal: float = FOCAL) -> Any:
    """Return a People2D of people whose joints JOINTS have these rays (P, J, 2)."""
    joint, person = STORE.types['pose3d_ros/msg/Joint2D'], STORE.types['pose3d_ros/msg/Person2D']
    nan = float('nan')
    places = {int(place): number for number, place in enumerate(BLAZEPOSE33.indices(JOINTS.joints))}
    people = []
    for id_, each in zip(ids or range(1, len(rays) + 1), rays):
        joints = []
        for place in range(len(BLAZEPOSE33)):
            x, y = each[places[place]] if place in places else (nan, nan)
            known = np.isfinite(x)
            joints.append(joint(x=focal * x + 640, y=focal * y + 360, ray_x=float(x), ray_y=float(y),
                                sigma=sigma if known else nan, confidence=0.9 if known else 0.0))
        people.append(person(state=1, id=id_, confidence=0.9, swapped=False, joints=joints,
                             box=np.array([0, 0, 9, 9], dtype=np.float32), TENTATIVE=0, TRACKED=1, PREDICTED=2))
    return make(PEOPLE_2D, header=header(stamp_ns, frame_id), skeleton=BLAZEPOSE33.name,
                joint_names=list(BLAZEPOSE33.joints), width=1280, height=720, fx=focal, fy=focal, people=people)


def rays_of(pose: np.ndarray, seconds: float) -> np.ndarray:
    """Return the rays (1, J, 2) under which a camera sees somebody who walks round."""
    local = walk(np.array([seconds])) @ pose[:3, :3].T + pose[:3, 3]
    return local[..., :2] / local[..., 2:]


def tf_message(parent: str, child: str, parent_T_child: np.ndarray, stamp_ns: int) -> Any:
    x, y, z = (float(value) for value in parent_T_child[:3, 3])
    qx, qy, qz, qw = (float(value) for value in Rotation.from_matrix(parent_T_child[:3, :3]).as_quat())
    transform = make('geometry_msgs/msg/Transform', translation=make('geometry_msgs/msg/Vector3', x=x, y=y, z=z),
                     rotation=make('geometry_msgs/msg/Quaternion', x=qx, y=qy, z=qz, w=qw))
    return make(TF, transforms=[make('geometry_msgs/msg/TransformStamped', header=header(stamp_ns, parent),
                                     child_frame_id=child, transform=transform)])


def camera_info(camera: Camera, stamp_ns: int, frame_id: str) -> Any:
    info = camera.to_info()
    roi = make('sensor_msgs/msg/RegionOfInterest', x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return make(CAMERA_INFO, header=header(stamp_ns, frame_id), height=info['height'], width=info['width'],
                distortion_model=info['distortion_model'], binning_x=0, binning_y=0, roi=roi,
                **{key: np.array(info[key]) for key in 'dkrp'})


def image(pixels: np.ndarray, stamp_ns: int, frame_id: str) -> Any:
    return make(IMAGE, header=header(stamp_ns, frame_id), height=pixels.shape[0], width=pixels.shape[1],
                encoding='bgr8', is_bigendian=0, step=3 * pixels.shape[1], data=pixels.reshape(-1))


def compressed(pixels: np.ndarray, stamp_ns: int, frame_id: str) -> Any:
    return make(COMPRESSED, header=header(stamp_ns, frame_id), format='bgr8; jpeg compressed bgr8',
                data=cv2.imencode('.jpg', pixels)[1])


def record_people(path: Path, poses: dict[str, np.ndarray], seconds: float = 4.0, storage: str = 'mcap',
                  late: dict[str, float] | None = None, stays: bool = False) -> Path:
    """Record /NAME/people_2d of cameras at camera_T_world poses (4, 4). late [s]: what a camera's stamps show more."""
    with BagWriter(path, storage) as bag:
        for frame in range(round(seconds * FPS)):
            time = frame / FPS
            for name, pose in poses.items():
                offset = (late or {}).get(name, 0.0)
                stamp_ns = START_NS + round(1e9 * time)
                message = people_2d(rays_of(pose, 0.0 if stays else time - offset), stamp_ns, f'{name}_optical_frame')
                bag.write(f'/{name}/people_2d', PEOPLE_2D, message, stamp_ns)
    return path
