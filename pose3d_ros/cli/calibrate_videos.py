"""What cameras see in their videos, for `pose3d calibrate extrinsics`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pose3d_ros.calibration import CalibratedCamera, load_calibration, load_places
from pose3d_ros.cli.calibrate_seen import Seen, check_names, detected
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.video import VideoReader
from pose3d_ros.fuse.extrinsics.estimate import ExtrinsicsSettings, check_settings
from pose3d_ros.fuse.extrinsics.tracks import watched


def seen_in_videos(args: argparse.Namespace, settings: ExtrinsicsSettings) -> Seen:
    """Return what the cameras saw, one in each video. Raises UserError, CalibrationError and ExtrinsicsError."""
    cameras = cameras_of(args.calibration, args.places, args.recordings, args.cameras)
    videos = {name: VideoReader(path) for name, path in zip(cameras, args.recordings)}
    for name, video in videos.items():
        video.check_size(cameras[name].camera)
    given = {name: camera.camera_T_world for name, camera in cameras.items() if camera.camera_T_world is not None}
    check_settings(list(cameras), given, settings)  # before the long work
    about = ', '.join(f'{name} ({video.path.name}, {video.width}x{video.height}, {video.count} frames)'
                      for name, video in videos.items()) + f' by {args.model}'
    seen = detected(args, {name: video.frames(cameras[name].camera) for name, video in videos.items()},
                    sum(video.count for video in videos.values()), about)
    return Seen([watched(name, camera.camera, seen[name]) for name, camera in cameras.items()], given,
                {name: camera.camera for name, camera in cameras.items()})


def cameras_of(calibration: Path, places: Path | None, videos: Sequence[Path],
               names: Sequence[str]) -> dict[str, CalibratedCamera]:
    """Return the camera of each video by name, with the place it has in `places` (or in the calibration itself)."""
    known, elsewhere = load_calibration(calibration), load_places(places) if places else None
    names = list(names) or [video.stem for video in videos]
    check_names(names, len(videos), 'videos')
    cameras = {}
    for name in names:
        for path, listed in ((calibration, known), (places, elsewhere)):
            if listed is not None and name not in listed:
                raise UserError(f'{path}: no camera {name!r}; it has: {", ".join(listed)}; see --cameras')
        cameras[name] = known[name] if elsewhere is None else replace(known[name], camera_T_world=elsewhere[name])
    return cameras
