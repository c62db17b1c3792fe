"""What cameras of one place saw of people, and where they were, from videos or a bag: what `pose3d adapt` learns from.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.calibration import load_calibration, load_places
from pose3d_ros.camera import Camera
from pose3d_ros.cli.bag import Bag, is_bag
from pose3d_ros.cli.bag_images import cameras_in_bag, check_order, images_of, lens_of, reports_people
from pose3d_ros.cli.bag_tf import paths_in_bag
from pose3d_ros.cli.calibrate_seen import followed
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.people_file import Seen, load_begun, load_people, save_people
from pose3d_ros.cli.run_together import cameras_of
from pose3d_ros.cli.synchronised import Synchronised
from pose3d_ros.cli.video import VideoReader
from pose3d_ros.fuse.views import View
from pose3d_ros.records import Frame
from pose3d_ros.ros.fields import from_people_2d, stamp_ns

Image = NDArray[np.uint8]
Moments = Mapping[str, Sequence[int]]  # stamps [ns] by camera
Lenses = Mapping[str, Camera]
_ASKED_NS = 3600 * 10**9  # from the first image on, within which TF must know the cameras at some time


@dataclass(frozen=True)
class Footage:
    """views: of each camera in the order of time. lenses: what projects into its images; an ideal camera where only
    rays were recorded. images: gives the images taken at stamps, by camera and stamp; none where none were recorded.
    """

    views: dict[str, list[View]]
    lenses: Lenses
    images: Callable[[Moments], dict[tuple[str, int], Image]]


def footage_of(args: argparse.Namespace, joints: Path) -> Footage:
    """Return what was recorded. joints: file that keeps what is detected in images; what it holds is not detected
    again. Raises UserError and CalibrationError.
    """
    if any(is_bag(path) for path in args.recordings):
        if len(args.recordings) > 1:
            raise UserError('one bag at a time: give one folder or file of a bag, or videos only')
        if args.offsets:
            raise UserError('--offsets is for videos; the images of a bag have stamps')
        return _of_bag(args, joints)
    for option, value in (('--topics', args.topics), ('--frame', args.frame)):
        if value:
            raise UserError(f'{option} is for bags; videos have none')
    if args.calibration is None:
        raise UserError('videos need --calibration, with the intrinsics and places of their cameras')
    return _of_videos(args, joints)


def _of_videos(args: argparse.Namespace, joints: Path) -> Footage:
    cameras = cameras_of(args.calibration, args.recordings, args.cameras)
    videos = {name: VideoReader(path) for name, path in zip(cameras, args.recordings)}
    lenses = {name: camera.camera for name, camera in cameras.items()}
    for name, video in videos.items():
        video.check_size(lenses[name])
    if args.offsets and len(args.offsets) != len(videos):
        raise UserError(f'--offsets: {len(args.offsets)} given for {len(videos)} videos; give one for each, in order')
    Synchronised(videos, args.offsets)  # refuses videos without a time in common, before the long work
    offsets = args.offsets or [0.0] * len(videos)
    starts = {name: round(1e9 * (offset - min(offsets))) for name, offset in zip(videos, offsets)}
    about = ', '.join(f'{name} ({video.path.name}, {video.width}x{video.height}, {video.count} frames)'
                      for name, video in videos.items())
    seen = _kept_or_followed(args, joints, {name: video.frames(lenses[name]) for name, video in videos.items()}, lenses,
                             max(video.count for video in videos.values()), about)
    places = {name: camera.camera_T_world for name, camera in cameras.items() if camera.camera_T_world is not None}
    views = {name: _views(name, [(stamp + starts[name], people) for stamp, people in seen[name]], lenses[name],
                          [places[name]] * len(seen[name])) for name in videos}

    def images(moments: Moments) -> dict[tuple[str, int], Image]:
        found = {}
        for name, stamps in moments.items():
            wanted = {round((stamp - starts[name]) * videos[name].fps * 1e-9): stamp for stamp in stamps}
            for number, image in videos[name].numbered() if wanted else ():
                if number in wanted:
                    found[name, wanted[number]] = image
                if number >= max(wanted):
                    break
        return found

    return Footage(views, lenses, images)


def _of_bag(args: argparse.Namespace, joints: Path) -> Footage:
    if (args.frame is None) == (args.calibration is None):
        raise UserError('a bag needs the places of its cameras: give --frame, a frame of the TF in it that they are '
                        'known in, or --calibration, a file of `pose3d calibrate extrinsics` (and not both)')
    with Bag(args.recordings[0]) as bag:
        cameras = cameras_in_bag(bag, args.topics, args.cameras)
        if len(cameras) < 2:
            raise UserError(f'{bag.path}: one camera ({", ".join(cameras)}): adaptation compares what two or more see '
                            'of the same people; record them together')
        if reports_people(bag, cameras):
            return _of_people(bag, cameras, args)
        return _of_images(bag, cameras, args, joints)


def _of_people(bag: Bag, cameras: Mapping[str, str], args: argparse.Namespace) -> Footage:
    """Return what cameras reported as People2D on topics by name."""
    if args.joints:
        raise UserError('--joints keeps what is detected in images; this bag holds people_2d, which have the joints')
    name_of = {topic: name for name, topic in cameras.items()}
    seen: Seen = {name: [] for name in cameras}
    frames: dict[str, str] = {}
    lenses: dict[str, Camera] = {}
    unusable = Counter[str]()
    for topic, message in bag.messages(name_of):
        name, stamp = name_of[topic], stamp_ns(message.header.stamp)
        newest = seen[name][-1][0] if seen[name] else stamp - 1
        check_order(f'{bag.path}: {topic}', newest, stamp)
        if stamp <= newest:
            continue  # recorded twice, or overtaken
        try:
            seen[name].append((stamp, from_people_2d(message)))
            lenses.setdefault(name, Camera(message.width, message.height, message.fx, message.fy,
                                           (message.width - 1) / 2, (message.height - 1) / 2))
        except ValueError as error:  # of joints that do not fit, or a camera that is none
            unusable[f'{topic}: {error}'] += 1
            continue
        frames[name] = message.header.frame_id
    for name, topic in cameras.items():
        if not any(people for _, people in seen[name]):
            why = '; '.join(f'{count} messages: {text}' for text, count in unusable.most_common(1))
            raise UserError(f'{bag.path}: no people seen in {topic}' + (f' ({why})' if why else '') +
                            '; record while people walk about, or leave it out by --topics')
    return Footage(_placed(bag, seen, frames, lenses, args), lenses, lambda moments: {})


def _of_images(bag: Bag, cameras: Mapping[str, str], args: argparse.Namespace, joints: Path) -> Footage:
    """Return what is detected in the images of cameras, topics by name."""
    lenses, frames, stamps = {}, {}, {}
    known = load_calibration(args.calibration) if args.calibration else {}
    for name, topic in cameras.items():
        lenses[name] = known[name].camera if name in known else lens_of(bag, topic)
        first = next(bag.messages([topic]), None)
        if first is None:
            raise UserError(f'{bag.path}: no images in {topic}; leave it out by --topics')
        frames[name], stamps[name] = first[1].header.frame_id, [stamp_ns(first[1].header.stamp)]
    # Before the long work; at the first image alone would not do, since recordings of TF may begin a little later.
    _poses(bag, frames, {name: range(first, first + _ASKED_NS, _ASKED_NS // 7200) for name, (first,) in stamps.items()},
           args)
    # With the time of the first image: another recording may have the same name.
    about = ', '.join(f'{name} ({topic} from {stamps[name][0] * 1e-9:.3f} s on)' for name, topic in cameras.items())
    about += f' in {bag.path.name}'
    seen = _kept_or_followed(args, joints, {name: images_of(bag, topic, lenses[name])
                                            for name, topic in cameras.items()}, lenses, 0, about)
    views = _placed(bag, seen, frames, lenses, args)
    path = bag.path

    def images(moments: Moments) -> dict[tuple[str, int], Image]:
        found = {}
        with Bag(path) as again:
            for name, wanted in moments.items():
                for frame in images_of(again, cameras[name], lenses[name]) if wanted else ():
                    if frame.stamp_ns in wanted:
                        found[name, frame.stamp_ns] = frame.image
                    if frame.stamp_ns >= max(wanted):
                        break
        return found

    return Footage(views, lenses, images)


def _kept_or_followed(args: argparse.Namespace, joints: Path, sources: Mapping[str, Iterable[Frame]], lenses: Lenses,
                      total: int, about: str) -> Seen:
    """Return the people of each camera, detected, or as kept by an earlier call in a file about the same.

    total: images of each camera, 0 where nobody knows. Every camera that is done is kept at once: detecting takes most
    of the time.
    """
    about += f' by {args.model}' + (f', found by {args.search}' if args.search != 'blazepose' else '')
    if joints.exists():
        print(f'people as kept in {joints}')
        return _through(lenses, load_people(joints, list(sources), about))
    begun = joints.with_name(f'{joints.stem}.begun.npz')
    seen = load_begun(begun, list(sources), about)
    if seen:
        print(f'people of {", ".join(seen)} as kept in {begun}')
    for name in [name for name in sources if name not in seen]:
        seen |= followed(args, {name: sources[name]}, total)
        save_people(begun, seen, about)
    begun.replace(joints)
    return _through(lenses, {name: seen[name] for name in sources})


def _through(lenses: Lenses, seen: Seen) -> Seen:
    """Return people with the rays of their pixels: those in a file may be of an earlier calibration."""
    return {name: [(stamp, [replace(person, rays=lenses[name].undistort(person.pixels)) for person in people])
                   for stamp, people in images] for name, images in seen.items()}


def _placed(bag: Bag, seen: Seen, frames: Mapping[str, str], lenses: Lenses,
            args: argparse.Namespace) -> dict[str, list[View]]:
    """Return the views of cameras where they were, without images of which that is not known."""
    poses = _poses(bag, frames, {name: [stamp for stamp, _ in images] for name, images in seen.items()}, args)
    views = {name: _views(name, images, lenses[name], list(poses[name])) for name, images in seen.items()}
    for name, images in seen.items():
        lost = len(images) - len(views[name])
        if lost:
            print(f'{name}: {lost} of {len(images)} images left out: TF has no place of it then')
    return views


def _poses(bag: Bag, frames: Mapping[str, str], stamps: Moments,
           args: argparse.Namespace) -> Mapping[str, NDArray[np.float64]]:
    """Return camera_T_world (N, 4, 4) by name at stamps (N): by TF, or by name or frame in a file."""
    if args.frame:
        return paths_in_bag(bag, frames, stamps, args.frame)
    places = load_places(args.calibration)
    poses = {}
    for name, frame in frames.items():
        key = next((key for key in (frame, name) if key in places), None)
        if key is None:
            raise UserError(f'{args.calibration}: no place of {name}; it has: {", ".join(places)}; see --cameras')
        poses[name] = np.tile(places[key], (len(stamps[name]), 1, 1))
    return poses


def _views(name: str, images: Sequence[tuple[int, list]], lens: Camera, poses: Sequence[NDArray]) -> list[View]:
    focal = float(np.sqrt(lens.fx * lens.fy))
    return [View(name, pose, stamp, people, focal, lens.width, lens.height)
            for (stamp, people), pose in zip(images, poses) if np.isfinite(pose).all()]
