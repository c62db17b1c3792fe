"""`pose3d demo --multi`: several videos as cameras, a node for each (or one for all), and fusion_node, recorded.

All are processes of their own that meet over DDS only. The videos play in step at the pace of the fused people: each
frame waits until the people of the one before came out of the fusion. So nothing is lost however slow the machine is,
all machines fuse the same sets, and the delay is that of cameras that deliver all at once, which is the worst case. Of
videos of unlike rates the slowest sets the pace. Where one ends before the others, fusion waits for it for some seconds
(FUSION_IN_STEP), which shows in the delay, and goes on with the others.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pose3d_ros.cli import engines, floor
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.nodes import Processes, interrupted_by_termination, node_command, private_domain, require_ros
from pose3d_ros.cli.performance import HELD, perform
from pose3d_ros.cli.places import config_file
from pose3d_ros.cli.run_together import cameras_of
from pose3d_ros.cli.video import VideoReader
from pose3d_ros.ros.in_step import FUSION_IN_STEP, VIDEO_IN_STEP
from pose3d_ros.ros.params import Parameter, ParameterError
from pose3d_ros.runtime.store import ModelStore

_CALIBRATION = 'samples/single_person.yaml'
_SAMPLE = ('cam01', 'cam02', 'cam03', 'cam04')


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of several cameras."""
    group = parser.add_argument_group('several cameras')
    group.add_argument('--multi', nargs='*', type=Path, metavar='VIDEO',
                       help='the videos of several cameras, fused (default: the four of the sample footage); results '
                            'in out/demo-multi')
    group.add_argument('--cameras', nargs='+', default=[], metavar='NAME',
                       help='which camera of the calibration file each video is of; by default the one named like it')
    group.add_argument('--one-process', action='store_true',
                       help='one multi_node for all cameras instead of a mono_node for each')


def run(args: argparse.Namespace) -> int:
    """Run the nodes on the videos and wait for the recording."""
    if args.video or args.camera:
        raise UserError('--video and --camera are for one camera; name the videos behind --multi, and their cameras '
                        'with --cameras')
    if floor.floor_of(args) is not None:
        raise UserError('--camera-height is for one camera; with --multi all places come from the calibration file')
    videos = args.multi or [Path(ModelStore().path('sample')) / f'{name}.mp4' for name in _SAMPLE]
    if args.multi and not args.calibration:
        raise UserError('--multi with videos of yours needs --calibration FILE, with the places of the cameras')
    calibration = (args.calibration or config_file(_CALIBRATION)).resolve()
    cameras = cameras_of(calibration, videos, args.cameras)
    try:
        Parameter('camera', ['front'], '').check(list(cameras))
    except ParameterError as error:
        raise UserError(f'{error}; rename it in {calibration}') from None
    played = {name: VideoReader(path) for name, path in zip(cameras, videos)}
    for name, video in played.items():
        video.check_size(cameras[name].camera)
    for model in engines.shipped_models(args):
        ModelStore().path(model)
    require_ros()
    out = args.out or Path('out/demo-multi')
    with interrupted_by_termination(), private_domain() as environment:
        print(f'{", ".join(cameras)}: {max(video.count for video in played.values())} frames; ROS_DOMAIN_ID='
              f'{environment["ROS_DOMAIN_ID"]} while it runs', flush=True)
        with Processes(environment) as processes:
            _play(processes, args, played, calibration, out)
    show(out)
    return 0


def _play(processes: Processes, args: argparse.Namespace, videos: Mapping[str, VideoReader], calibration: Path,
          out: Path) -> None:
    """Start all processes and return when the recording is complete."""
    params = args.params or config_file('multi.yaml')
    names = list(videos)
    arrangement = 'multi_node' if args.one_process else 'mono_node'
    recorder = processes.start('recorder', [
        sys.executable, '-m', 'pose3d_ros.cli.recorder_fused', '--out', str(out), '--calibration', str(calibration),
        '--videos', *(str(video.path) for video in videos.values()), '--cameras', *names,
        '--about', json.dumps({'model': args.model, 'nodes': arrangement})], talks=True)
    networks: dict[str, Any] = {**floor.node_parameters(args), **engines.node_parameters(args)}
    if args.one_process:
        workers = {'multi_node': node_command('multi_node', params, cameras=names, **networks)}
    else:  # the nodes work at the same time: each takes its share of the cores
        networks.setdefault('threads', max(1, (os.cpu_count() or 1) // len(names)))
        workers = {f'{name}/mono_node': node_command('mono_node', params, f'/{name}', **networks) for name in names}
    workers['fusion_node'] = node_command('fusion_node', params, cameras=names, extrinsics_source='file',
                                          calibration=str(calibration), **FUSION_IN_STEP)
    players = {f'{name}/video_node': node_command(
        'video_node', params, f'/{name}', {'people': '/people'}, video=str(video.path), calibration=str(calibration),
        camera_name=name, frame_id=name, **VIDEO_IN_STEP, **HELD) for name, video in videos.items()}
    for process, command in {**workers, **players}.items():
        processes.start(process, command)
    perform(processes, recorder, list(workers), list(players), max(video.count for video in videos.values()))


def show(out: Path) -> None:
    """Print what a recording says about itself."""
    summary = json.loads((out / 'summary.json').read_text())
    latency = summary['latency_ms']
    print(f'{summary["frames_with_people"]} of {summary["frames"]} frames with people, from '
          f'{summary["cameras_with_people"]} cameras on average, {summary["fps"]} frames/s, newest image to people '
          f'p50 {latency["p50"]} ms, p95 {latency["p95"]} ms, on {summary["provider"]}')
    for name, purpose in (('picture.png', 'the fused people in all views, from above and from the side'),
                          ('people.csv', 'every joint in metres, in the common frame'), ('summary.json', 'figures')):
        if (out / name).exists():
            print(f'  {out / name}  {purpose}')
