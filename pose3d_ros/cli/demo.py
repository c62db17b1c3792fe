"""`pose3d demo`: a video through the ROS nodes, as a camera's images would go, recorded into a folder.

video_node, mono_node and the recorder are processes of their own and meet over DDS only, in a ROS domain that no other
process of this computer uses. The nodes and their parameter file are those of `ros2 launch pose3d_ros mono.launch.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.cli import demo_multi, engines, floor
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.nodes import (
    Processes,
    interrupted_by_termination,
    node_command,
    private_domain,
    require_ros,
)
from pose3d_ros.cli.performance import HELD, perform
from pose3d_ros.cli.places import config_file
from pose3d_ros.cli.run import camera_for, level_of
from pose3d_ros.cli.video import VideoReader
from pose3d_ros.ros.in_step import VIDEO_IN_STEP
from pose3d_ros.runtime.store import ModelStore

_CALIBRATION, _CAMERA = 'samples/single_person.yaml', 'cam01'


@dataclass(frozen=True)
class Source:
    """What to play: a video file, and where its camera's calibration stands."""

    video: Path
    calibration: Path
    camera: str


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `demo`."""
    parser = subparsers.add_parser(
        'demo', help='the ROS nodes on a video (the sample, or yours), recorded into a folder',
        description='Play a video through video_node and mono_node over DDS and leave annotated.mp4, picture.png, '
                    'people.csv and summary.json; with --multi several, through the nodes of their cameras and '
                    'fusion_node, without annotated.mp4.')
    parser.add_argument('--video', type=Path, metavar='FILE', help='default: camera 1 of the sample footage')
    parser.add_argument('--calibration', type=Path, metavar='FILE', help='of the camera that took the video')
    parser.add_argument('--camera', default='', metavar='NAME', help='which camera of the calibration file')
    parser.add_argument('--out', type=Path, metavar='DIR', help='default: out/demo')
    demo_multi.add_options(parser)
    engines.add_model_options(parser)
    engines.add_lifter_option(parser)
    floor.add_floor_options(parser)
    engines.add_engine_options(parser)
    parser.add_argument('--params', type=Path, metavar='FILE',
                        help='of the nodes (default: config/mono.yaml, or multi.yaml with --multi)')


def run(args: argparse.Namespace) -> int:
    """Run the nodes on the video and wait for the recording."""
    if args.multi is not None:
        return demo_multi.run(args)
    if args.cameras or args.one_process:
        raise UserError('--cameras and --one-process are for several cameras; say --multi')
    out = args.out or Path('out/demo')
    ground = floor.floor_of(args)
    source = chosen_source(args.video, args.calibration, args.camera)
    video = VideoReader(source.video)
    camera = camera_for(source.calibration, source.camera, source.video)
    next(video.frames(camera.camera), None)  # sizes agree, or say so now
    for model in engines.shipped_models(args):
        ModelStore().path(model)
    require_ros()
    with interrupted_by_termination(), private_domain() as environment:
        print(f'{source.video.name}: {video.width}x{video.height}, {video.count} frames; ROS_DOMAIN_ID='
              f'{environment["ROS_DOMAIN_ID"]} while it runs', flush=True)
        with Processes(environment) as processes:
            _play(processes, args, source, video, level_of(camera, ground), out)
    show(out)
    return 0


def chosen_source(video: Path | None, calibration: Path | None, camera: str) -> Source:
    """Return the user's video, or camera 1 of the sample. Raises UserError when a video comes without calibration."""
    if video is None:
        name = camera or _CAMERA
        return Source(Path(ModelStore().path('sample')) / f'{name}.mp4', calibration or config_file(_CALIBRATION), name)
    if calibration is None:
        raise UserError('--video needs --calibration FILE: without the camera there are no metres '
                        '(a camera_info YAML of ROS will do)')
    return Source(video, calibration, camera)


def _play(processes: Processes, args: argparse.Namespace, source: Source, video: VideoReader,
          levelled: NDArray[np.float64] | None, out: Path) -> None:
    """Start the three processes and return when the recording is complete."""
    params = args.params or config_file('mono.yaml')
    about = {'video': str(source.video), 'model': args.model}
    recorder = processes.start('recorder', [
        sys.executable, '-m', 'pose3d_ros.cli.recorder', '--out', str(out), '--fps', str(video.fps),
        '--frames', str(video.count), '--about', json.dumps(about),
        '--levelled', json.dumps(None if levelled is None else levelled.tolist())], talks=True)
    processes.start('mono_node', node_command('mono_node', params, **{
        'qos_overrides./image_annotated.publisher.depth': 20,  # the recorder wants every image, late or not
        **floor.node_parameters(args), **engines.node_parameters(args)}))
    processes.start('video_node', node_command(
        'video_node', params, video=str(source.video), calibration=str(source.calibration), camera_name=source.camera,
        **VIDEO_IN_STEP, **HELD))
    perform(processes, recorder, ['mono_node'], ['video_node'], video.count)


def show(out: Path) -> None:
    """Print what a recording says about itself."""
    summary = json.loads((out / 'summary.json').read_text())
    latency = summary['latency_ms']
    print(f'{summary["frames_with_people"]} of {summary["frames"]} frames with people, {summary["fps"]} frames/s, '
          f'image to people p50 {latency["p50"]} ms, p95 {latency["p95"]} ms, on {summary["provider"]}')
    for name, purpose in (('picture.png', 'the camera image, from the side and from above'),
                          ('annotated.mp4', 'the video with skeletons'), ('people.csv', 'every joint in metres'),
                          ('summary.json', 'figures')):
        if (out / name).exists():
            print(f'  {out / name}  {purpose}')
