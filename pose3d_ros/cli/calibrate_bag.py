"""What cameras saw according to a bag, for `pose3d calibrate extrinsics`: their people_2d, or their images."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence

from pose3d_ros.calibration import load_calibration, load_places
from pose3d_ros.cli.bag import Bag
from pose3d_ros.cli.bag_images import cameras_in_bag, check_order, images_of, lens_of, reports_people
from pose3d_ros.cli.bag_tf import places_in_bag
from pose3d_ros.cli.calibrate_seen import Seen, detected
from pose3d_ros.cli.errors import UserError
from pose3d_ros.fuse.extrinsics.estimate import ExtrinsicsSettings, check_settings
from pose3d_ros.fuse.extrinsics.reported import Reported
from pose3d_ros.fuse.extrinsics.tracks import Floats, watched
from pose3d_ros.ros.fields import from_people_2d, stamp_ns


def seen_in_bag(args: argparse.Namespace, settings: ExtrinsicsSettings) -> Seen:
    """Return what the cameras saw. Raises UserError, CalibrationError and ExtrinsicsError."""
    with Bag(args.recordings[0]) as bag:
        cameras = cameras_in_bag(bag, args.topics, args.cameras)
        if reports_people(bag, cameras):
            return _of_people(bag, cameras, args, settings)
        return _of_images(bag, cameras, args, settings)


def _of_people(bag: Bag, cameras: Mapping[str, str], args: argparse.Namespace, settings: ExtrinsicsSettings) -> Seen:
    """Return what is seen by cameras that reported People2D on topics by name."""
    if args.joints:
        raise UserError('--joints keeps what is detected in images; this bag holds people_2d, which have the joints')
    name_of = {topic: name for name, topic in cameras.items()}
    reported = {name: Reported(name) for name in cameras}
    frames: dict[str, str] = {}
    spans: dict[str, list[int]] = {}
    unusable: dict[str, Counter[str]] = {name: Counter() for name in cameras}
    for topic, message in bag.messages(name_of):
        name, stamp = name_of[topic], stamp_ns(message.header.stamp)
        span = spans.setdefault(name, [stamp, stamp])
        check_order(f'{bag.path}: {topic}', span[1], stamp)
        span[:] = min(span[0], stamp), max(span[1], stamp)
        frames[name] = message.header.frame_id
        try:
            reported[name].add(stamp, from_people_2d(message), float((message.fx * message.fy)**0.5))
        except ValueError as error:
            unusable[name][str(error)] += 1
    for name, topic in cameras.items():
        if not len(reported[name]):
            why = '; '.join(f'{count} messages: {text}' for text, count in unusable[name].most_common(1))
            raise UserError(f'{bag.path}: no people seen in {topic}' + (f' ({why})' if why else '') +
                            '; record while people walk about, or leave it out by --topics')
    given = _given(bag, frames, spans, args)
    check_settings(list(cameras), given, settings)
    lenses = load_calibration(args.calibration) if args.calibration else {}
    return Seen([each.watched() for each in reported.values()], given,
                {name: lenses[name].camera for name in cameras if name in lenses}, frames, stamped=True)


def _of_images(bag: Bag, cameras: Mapping[str, str], args: argparse.Namespace, settings: ExtrinsicsSettings) -> Seen:
    """Return what is detected in the images of cameras, topics by name."""
    known = load_calibration(args.calibration) if args.calibration else {}
    lenses = {name: known[name].camera if name in known else lens_of(bag, topic) for name, topic in cameras.items()}
    frames, spans = {}, {}
    for name, topic in cameras.items():
        first = next(bag.messages([topic]), None)
        if first is None:
            raise UserError(f'{bag.path}: no images in {topic}; leave it out by --topics')
        frames[name] = first[1].header.frame_id
        spans[name] = [stamp_ns(first[1].header.stamp)] * 2
        if args.frame:  # the camera must stand still throughout
            spans[name][1] = max(stamp_ns(message.header.stamp) for _, message in bag.messages([topic]))
    given = _given(bag, frames, spans, args)
    check_settings(list(cameras), given, settings)  # before the long work
    about = f'{", ".join(f"{name} ({topic})" for name, topic in cameras.items())} in {bag.path.name} by {args.model}'
    seen = detected(args, {name: images_of(bag, topic, lenses[name]) for name, topic in cameras.items()}, 0, about)
    return Seen([watched(name, lenses[name], seen[name]) for name in cameras], given, lenses, frames, stamped=True)


def _given(bag: Bag, frames: Mapping[str, str], spans: Mapping[str, Sequence[int]],
           args: argparse.Namespace) -> dict[str, Floats]:
    """Return camera_T_world (4, 4) of the cameras whose place is known: by TF, or by name or frame in a file.

    frames: the optical frames by name of camera. spans: first and last stamp.
    """
    if args.frame:
        return places_in_bag(bag, frames, spans, args.frame)
    if args.places:
        path, places = args.places, load_places(args.places)
    elif args.calibration:
        path, places = args.calibration, {name: camera.camera_T_world
                                          for name, camera in load_calibration(args.calibration).items()
                                          if camera.camera_T_world is not None}
    else:
        return {}
    given = {name: places[key] for name, frame in frames.items() for key in (frame, name) if key in places}
    if places and not given:
        raise UserError(f'{path}: no place of {", ".join(frames)}; it has: {", ".join(places)}; see --cameras')
    return given
