"""`pose3d run`: the pipeline of the node over video files, without ROS."""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.calibration import CalibratedCamera, load_calibration
from pose3d_ros.cli import run_together
from pose3d_ros.cli.bodies import Bodies, add_body_options, given_options, over_image
from pose3d_ros.cli.body_export import BodyOutput, remove_exports, stage_of
from pose3d_ros.cli.engines import add_engine_options, add_lifter_option, add_model_options, wanted
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.floor import add_floor_options, floor_of
from pose3d_ros.cli.picture import draw_picture, level
from pose3d_ros.cli.progress import progress
from pose3d_ros.cli.recording import Recording, percentiles
from pose3d_ros.cli.video import VideoReader
from pose3d_ros.draw import draw_people
from pose3d_ros.pipeline import Pipeline
from pose3d_ros.records import GroundPlane


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `run`."""
    parser = subparsers.add_parser(
        'run', help='3D people of video files, without ROS',
        description='Find the 3D people of video files and leave people.csv, annotated.mp4, picture.png and '
                    'summary.json in a folder per video, or in one folder for several cameras together. A lifter that '
                    'gives bodies adds bodies.npz, and the files of --mesh and --bvh (docs/bodies.md).')
    parser.add_argument('videos', nargs='+', type=Path, metavar='VIDEO')
    parser.add_argument('--calibration', type=Path, required=True, metavar='FILE',
                        help='of ROS, OpenCV, Kalibr, Pose2Sim, aniposelib, Qualisys or our own (docs/calibration.md)')
    parser.add_argument('--camera', default='', metavar='NAME',
                        help='which camera of the calibration file; by default the one named like the video')
    parser.add_argument('--out', type=Path, default=Path('out/run'), metavar='DIR', help='default: out/run')
    group = parser.add_argument_group('several cameras', 'that filmed the same people at the same time')
    group.add_argument('--together', action='store_true',
                       help='bring what all videos show together to one set of people in the world of the calibration '
                            'file, which must have the place of every camera')
    group.add_argument('--cameras', nargs='+', default=[], metavar='NAME',
                       help='which camera each video is of, in order; by default the one named like the video')
    group.add_argument('--offsets', nargs='+', type=float, default=[], metavar='S',
                       help='when each video begins, in seconds on a common clock; by default all at once')
    add_model_options(parser)
    add_lifter_option(parser)
    add_body_options(parser)
    add_floor_options(parser)
    add_engine_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the pipeline over every video."""
    ground = floor_of(args)
    if args.together:
        if ground is not None or args.camera:
            raise UserError('--camera and --camera-height are for one camera; with --together all places come from the '
                            'calibration file, and --cameras says which camera each video is of')
        if option := given_options(args):
            raise UserError(f'{option} is for one camera: people fused of several have joints and no body. Run each '
                            'video by itself, without --together')
        return run_together.run(args)
    if args.cameras or args.offsets:
        raise UserError('--cameras and --offsets are for several videos --together')
    folders = [args.out / video.stem if len(args.videos) > 1 else args.out for video in args.videos]
    if len(set(folders)) < len(folders):
        raise UserError('two of the videos have the same name: their results would overwrite each other')
    jobs = [(VideoReader(video), camera_for(args.calibration, args.camera, video)) for video in args.videos]
    pipeline = Pipeline.open(detector_model=args.model, search=args.search, engines=wanted(args), stature=args.stature,
                             lifter=args.lifter)
    output = BodyOutput.of(args, pipeline.body_model)
    for (video, camera), folder in zip(jobs, folders):
        pipeline.reset()
        _run_one(pipeline, video, camera, ground, folder, output)
    return 0


def camera_for(calibration: Path, name: str, video: Path) -> CalibratedCamera:
    """Return the camera called name; without a name the only one of the file, or the one named like the video."""
    cameras = load_calibration(calibration)
    chosen = name or (next(iter(cameras)) if len(cameras) == 1 else video.stem)
    if chosen not in cameras:
        raise UserError(f'{calibration}: no camera {chosen!r}; choose one with --camera: {", ".join(cameras)}')
    return cameras[chosen]


def level_of(camera: CalibratedCamera, ground: GroundPlane | None) -> NDArray[np.float64] | None:
    """Return the rotation (3, 3) that levels the camera's view, None where neither floor nor calibration tell."""
    up = camera.camera_T_world[:3, 2] if camera.camera_T_world is not None else None
    up = up if ground is None else ground.up
    return None if up is None or abs(up[2]) > 0.99 else level(up)


def _run_one(pipeline: Pipeline, video: VideoReader, camera: CalibratedCamera, ground: GroundPlane | None,
             folder: Path, output: BodyOutput | None) -> None:
    stage_ms: dict[str, list[float]] = defaultdict(list)
    started = time.perf_counter()
    picture = partial(draw_picture, levelled=level_of(camera, ground))
    bodies, model = Bodies(), None if output is None else output.drawn
    remove_exports(folder)
    with Recording(folder, video.fps, video.count, picture) as recording:
        for frame in progress(video.frames(camera.camera), total=video.count or None, unit='frame',
                              desc=video.path.stem):
            result = pipeline(replace(frame, ground=ground))
            recording.add_people(frame.stamp_ns, frame.frame_id, result.people)
            bodies.add(frame.stamp_ns, result.people)
            image = over_image(frame.image, frame.camera, model, result.people)
            recording.add_image(frame.stamp_ns, draw_people(image, result.people_2d, result.people))
            for stage, milliseconds in result.stage_ms.items():
                stage_ms[stage].append(milliseconds)
        if not recording.frames:
            raise UserError(f'{video.path}: holds no frame that can be decoded')
        summary = {'fps': round(recording.frames / (time.perf_counter() - started), 1),
                   'stage_ms': {stage: percentiles(values)['p50'] for stage, values in stage_ms.items()},
                   'video': str(video.path)}
        if output is not None:
            summary['bodies'] = output.write(folder, bodies.table(), stage_of(camera, ground), video.fps)
        recording.finish(summary)
    print(f'{recording.frames_with_people} of {recording.frames} frames with people; see {folder}')
