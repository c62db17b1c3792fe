"""`pose3d calibrate extrinsics`: where cameras stand, from the people that they see together."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pose3d_ros.calibration import CalibratedCamera, load_calibration, save_calibration, static_transform_launch
from pose3d_ros.cli.engines import add_engine_options, add_model_options, wanted
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.figures import add_json_option, print_table, write_json
from pose3d_ros.cli.joints_file import load_joints, save_joints
from pose3d_ros.cli.progress import progress
from pose3d_ros.cli.video import VideoReader
from pose3d_ros.fuse.extrinsics.estimate import Extrinsics, ExtrinsicsSettings, check_settings, estimate
from pose3d_ros.fuse.extrinsics.tracks import Sightings, sightings, watched
from pose3d_ros.pipeline import Pipeline


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `calibrate extrinsics`."""
    parser = subparsers.add_parser('calibrate', help='where the cameras stand, from the people that they see together',
                                   description='Calibrate from footage of people; no board is needed.')
    kinds = parser.add_subparsers(dest='kind', metavar='KIND', required=True)
    extrinsics = kinds.add_parser(
        'extrinsics', help='places of cameras with known intrinsics',
        description='Find where cameras stand, and how their clocks differ, from videos of people walking about where '
                    'two cameras or more see them. Refines the places of the calibration; without any it starts from '
                    'nothing. Exit status 1 and the reason where the footage does not tell.')
    extrinsics.add_argument('videos', nargs='+', type=Path, metavar='VIDEO')
    extrinsics.add_argument('--calibration', type=Path, required=True, metavar='FILE',
                            help='intrinsics of all cameras, and places to start from')
    extrinsics.add_argument('--places', type=Path, metavar='FILE',
                            help='places to start from, of another file (default: those of --calibration)')
    extrinsics.add_argument('--cameras', nargs='+', default=[], metavar='NAME',
                            help='of the videos, in order (default: as the videos are called)')
    extrinsics.add_argument('--out', type=Path, required=True, metavar='OUT.yaml')
    extrinsics.add_argument('--from-nothing', action='store_true',
                            help='do not start from the places; they still give the world frame, and the size')
    extrinsics.add_argument('--place-sigma', type=_not_negative, default=0.05, metavar='M',
                            help='how well the places are known (default: 0.05 m); 0: a start and nothing more')
    size = extrinsics.add_mutually_exclusive_group()
    size.add_argument('--stature', type=_stature, metavar='M', help='of the person seen most: gives the size')
    size.add_argument('--baseline', nargs=3, metavar=('A', 'B', 'M'), help='cameras A and B are M metres apart')
    extrinsics.add_argument('--in-step', action='store_true', help='the cameras are synchronised: no time offsets')
    extrinsics.add_argument('--max-offset', type=_not_negative, default=0.5, metavar='S',
                            help='time offset to look for between cameras (default: 0.5 s)')
    extrinsics.add_argument('--joints', type=Path, metavar='FILE.npz',
                            help='keep the detected joints there; if it exists, use them instead of detecting')
    extrinsics.add_argument('--static-tf', type=Path, metavar='FILE.launch.py', help='also write a launch file of TF')
    extrinsics.add_argument('--parent', default='world', metavar='FRAME', help='TF frame of the world (default: world)')
    add_model_options(extrinsics)
    extrinsics.set_defaults(model='heavy')
    add_engine_options(extrinsics)
    add_json_option(extrinsics)


def run(args: argparse.Namespace) -> int:
    """Calibrate, print a table and write the files. Raises ExtrinsicsError, CalibrationError and UserError."""
    settings = ExtrinsicsSettings(
        refine=not args.from_nothing, place_sigma=args.place_sigma, stature=args.stature,
        baseline=_baseline(args.baseline), clocks=not args.in_step, most_lag=args.max_offset)
    cameras = cameras_of(args.calibration, args.places, args.videos, args.cameras)
    videos = {name: VideoReader(path) for name, path in zip(cameras, args.videos)}
    for name, video in videos.items():
        video.check_size(cameras[name].camera)
    given = {name: camera.camera_T_world for name, camera in cameras.items() if camera.camera_T_world is not None}
    check_settings(list(cameras), given, settings)  # before the long work
    seen = _joints(args, videos, cameras)
    found = estimate([watched(name, camera.camera, seen[name]) for name, camera in cameras.items()], given, settings)
    show(list(cameras), found)
    placed = {name: replace(camera, camera_T_world=pose)
              for (name, camera), pose in zip(cameras.items(), found.camera_T_world)}
    _write(args, placed, found)
    if args.json:
        write_json(args.json, figures(list(cameras), found))
    return 0


def cameras_of(calibration: Path, places: Path | None, videos: Sequence[Path],
               names: Sequence[str]) -> dict[str, CalibratedCamera]:
    """Return the camera of each video by name, with the place it has in `places` (or in the calibration itself)."""
    known, elsewhere = load_calibration(calibration), load_calibration(places) if places else None
    if names and len(names) != len(videos):
        raise UserError(f'--cameras: {len(names)} given for {len(videos)} videos; give one for each, in order')
    names = list(names) or [video.stem for video in videos]
    if len(set(names)) < len(names):
        raise UserError(f'two videos are of one camera ({", ".join(names)}); tell them apart with --cameras')
    cameras = {}
    for name in names:
        for path, listed in ((calibration, known), (places, elsewhere)):
            if listed is not None and name not in listed:
                raise UserError(f'{path}: no camera {name!r}; it has: {", ".join(listed)}; see --cameras')
        cameras[name] = known[name] if elsewhere is None else replace(
            known[name], camera_T_world=elsewhere[name].camera_T_world)
    return cameras


def show(names: Sequence[str], found: Extrinsics) -> None:
    """Print a line per camera, and what was used."""
    rows = [['camera', 'px before', 'px after', 'joints', 'fitting %', 'moved mm', 'turned deg', 'began ms']]
    for position, name in enumerate(names):
        rows.append([name, f'{found.before.per_camera_px[position]:.1f}', f'{found.after.per_camera_px[position]:.1f}',
                     f'{found.after.joints[position]:.0f}', f'{100 * found.after.agreeing[position]:.1f}',
                     _or_dash(1e3 * found.shift[position], '.0f'), _or_dash(found.turn[position], '.2f'),
                     f'{round(-1e3 * found.offsets[position], 1) + 0.0:.1f}'])
    print_table(rows)
    print(f'{found.people} people at {found.frames} moments; px: median distance of a joint from its point in '
          f'space, {found.before.median_px:.1f} before and {found.after.median_px:.1f} after;\n'
          'began: when the first frame was taken, after that of the first camera (pose3d run --offsets takes seconds)')


def figures(names: Sequence[str], found: Extrinsics) -> dict[str, Any]:
    """Return what the table says, flat: NAME.key for each camera."""
    values: dict[str, Any] = {'reprojection_before_px': found.before.median_px,
                              'reprojection_px': found.after.median_px, 'people': found.people,
                              'frames': found.frames}
    for position, name in enumerate(names):
        each = {'before_px': found.before.per_camera_px, 'after_px': found.after.per_camera_px,
                'joints': found.after.joints, 'agreeing_share': found.after.agreeing, 'moved_m': found.shift,
                'turned_deg': found.turn, 'began_s': 0.0 - found.offsets}
        values.update({f'{name}.{key}': float(column[position]) for key, column in each.items()})
    return values


def _joints(args: argparse.Namespace, videos: Mapping[str, VideoReader],
            cameras: Mapping[str, CalibratedCamera]) -> dict[str, Sightings]:
    """Return what each camera sees: detected, or as kept by an earlier call."""
    about = ', '.join(f'{name} ({video.path.name}, {video.width}x{video.height}, {video.count} frames)'
                      for name, video in videos.items()) + f' by {args.model}'
    if args.joints and args.joints.exists():
        return load_joints(args.joints, list(videos), about)
    seen = {}
    pipeline = Pipeline.open(detector_model=args.model, search=args.search, engines=wanted(args))
    try:
        with progress(total=sum(video.count for video in videos.values()) or None, unit='frame') as bar:
            for name, video in videos.items():
                bar.set_description(name)
                pipeline.reset()
                frames = []
                for frame in video.frames(cameras[name].camera):
                    frames.append((frame.stamp_ns, pipeline.track(pipeline.detect(frame), frame.stamp_ns)))
                    bar.update()
                seen[name] = sightings(frames)
    finally:
        pipeline.close()
    if args.joints:
        save_joints(args.joints, seen, about)
    return seen


def _write(args: argparse.Namespace, cameras: Mapping[str, CalibratedCamera], found: Extrinsics) -> None:
    began = ', '.join(f'{name} {0.0 - offset:.4f}' for name, offset in zip(cameras, found.offsets))
    launch = static_transform_launch(cameras, args.parent) if args.static_tf else ''
    try:
        save_calibration(args.out, cameras, f'Places from people, by pose3d calibrate extrinsics: median reprojection '
                                            f'{found.after.median_px:.1f} px.\nFirst frames began at, s: {began}')
        if args.static_tf:
            args.static_tf.parent.mkdir(parents=True, exist_ok=True)
            args.static_tf.write_text(launch, encoding='utf-8')
    except OSError as error:
        raise UserError(f'{error.filename}: cannot be written ({error.strerror}); choose another place') from error
    print(f'wrote {args.out}' + (f' and {args.static_tf}' if args.static_tf else ''))


def _or_dash(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else '-'


def _baseline(words: Sequence[str] | None) -> tuple[str, str, float] | None:
    if words is None:
        return None
    try:
        metres = float(words[2])
    except ValueError:
        metres = float('nan')
    if not 0 < metres < 1e3 or words[0] == words[1]:
        raise UserError(f'--baseline {" ".join(words)}: expected two cameras and their distance in metres')
    return words[0], words[1], metres


def _stature(text: str) -> float:
    value = float(text)
    if not 0.5 <= value <= 2.5:
        raise argparse.ArgumentTypeError('expected metres, 0.5 to 2.5')
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not 0 <= value < np.inf:
        raise argparse.ArgumentTypeError('expected a number from 0 on')
    return value
