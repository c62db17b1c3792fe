"""The images of cameras in a bag, and what the cameras are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pose3d_ros.camera import Camera
from pose3d_ros.cli.bag import Bag
from pose3d_ros.cli.calibrate_seen import check_names
from pose3d_ros.cli.errors import UserError
from pose3d_ros.records import Frame
from pose3d_ros.ros.fields import camera_from_info, stamp_ns
from pose3d_ros.ros.images import ImageError, decode_compressed, decode_image

PEOPLE_2D = 'pose3d_ros/msg/People2D'
IMAGE, COMPRESSED, CAMERA_INFO = (f'sensor_msgs/msg/{name}' for name in ('Image', 'CompressedImage', 'CameraInfo'))
_BACK_NS = 10**9  # stamps that go back further: two recordings in one


def camera_names(topics: Sequence[str]) -> list[str]:
    """Return what the cameras are called: the namespaces of their topics, less what all have in common.

    /robot/front/color/image_raw and /robot/left/color/image_raw are of front and left.
    """
    parts = [_base(topic).strip('/').split('/')[:-1] for topic in topics]
    for end in (0, -1):
        while len(parts) > 1 and all(parts) and len({each[end] for each in parts}) == 1:
            for each in parts:
                del each[end]
    return ['_'.join(each) or 'camera' for each in parts]


def cameras_in_bag(bag: Bag, topics: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Return the topics of the cameras of a bag by name: those given, else all of People2D.

    names: of the cameras, in the order of the topics; where there are none, as the topics are called. Raises UserError.
    """
    topics = topics or bag.of_type([PEOPLE_2D])
    if not topics:
        raise UserError(f'{bag.path}: no topic of type {PEOPLE_2D}; record people_2d of the cameras, or name their '
                        f'images by --topics: {", ".join(bag.of_type([IMAGE, COMPRESSED])) or "there are none"}')
    bag.check(topics, (PEOPLE_2D, IMAGE, COMPRESSED))
    if len({bag.topics[topic] == PEOPLE_2D for topic in topics}) > 1:
        raise UserError('--topics: give People2D or images, not both')
    names = names or camera_names(topics)
    check_names(names, len(topics), 'topics')
    return dict(zip(names, topics))


def reports_people(bag: Bag, cameras: Mapping[str, str]) -> bool:
    """Tell whether the cameras (topics by name) reported people, not images."""
    return all(bag.topics[topic] == PEOPLE_2D for topic in cameras.values())


def lens_of(bag: Bag, topic: str) -> Camera:
    """Return the intrinsics of the images on a topic: the first camera_info beside it."""
    parent, _, last = _base(topic).rpartition('/')
    beside = f'{parent}/camera_info'
    if beside not in bag.topics:
        raise UserError(f'{bag.path}: no topic {beside}, which has the intrinsics of {topic}; record it too, or give '
                        '--calibration')
    bag.check([beside], [CAMERA_INFO])
    first = next(bag.messages([beside]), None)
    if first is None:
        raise UserError(f'{bag.path}: no message in {beside}; record it too, or give --calibration')
    return camera_from_info(first[1], 'rect' in last, beside)


def images_of(bag: Bag, topic: str, camera: Camera) -> Iterator[Frame]:
    """Yield the images of a topic, less those without a stamp or that cannot be decoded; one at least must be left."""
    decode = decode_compressed if bag.topics[topic] == COMPRESSED else decode_image
    newest, good, bad = 0, 0, Counter[str]()
    for _, message in bag.messages([topic]):
        stamp = stamp_ns(message.header.stamp)
        if stamp == 0:
            bad['its stamp is 0; have the driver fill header.stamp'] += 1
            continue
        check_order(f'{bag.path}: {topic}', newest, stamp)
        if stamp <= newest:
            continue  # recorded twice, or overtaken
        newest = stamp
        try:
            image = decode(message)
        except ImageError as error:
            bad[str(error)] += 1
            continue
        if image.shape[:2] != (camera.height, camera.width):
            raise UserError(f'{bag.path}: {topic} is {image.shape[1]}x{image.shape[0]}, but its intrinsics are for '
                            f'{camera.width}x{camera.height}; calibrate at the size that is recorded')
        good += 1
        yield Frame(image, stamp, camera, message.header.frame_id)
    if bad:
        text, count = bad.most_common(1)[0]
        if not good:
            raise UserError(f'{bag.path}: {topic}: none of the images can be used: {text}')
        print(f'{topic}: {sum(bad.values())} images left out, {count} of them: {text}')


def check_order(where: str, newest: int, stamp: int) -> None:
    """Raise UserError for a stamp that lies far behind the newest one."""
    if stamp < newest - _BACK_NS:
        raise UserError(f'{where}: stamps go back by {(newest - stamp) * 1e-9:.1f} s: the clock was set back, or a bag '
                        'was played twice while this one was recorded; record again')


def _base(topic: str) -> str:
    return topic.removesuffix('/compressed')
