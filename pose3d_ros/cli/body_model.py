"""`pose3d body-model`: make the free mannequin, convert a file of SMPL, and show what is in a body model."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from pose3d_ros.body_model import MANNEQUIN, BodyModel
from pose3d_ros.body_model_file import BodyArrays, read_body_arrays, write_body_arrays
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.figures import add_json_option, print_table, write_json

SHAPES = 10  # as many as PoseNet3D uses


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `body-model` with make, convert and show."""
    parser = subparsers.add_parser(
        'body-model', help='body models (SMPL): convert yours, make the free mannequin, show one',
        description='Body models: a surface of triangles that follows 24 joints. See docs/models/mannequin.md.')
    actions = parser.add_subparsers(dest='action', metavar='ACTION', required=True)
    make = actions.add_parser('make', help='the mannequin that ships, made anew')
    make.add_argument('--out', type=Path, required=True, metavar='FILE.npz')
    convert = actions.add_parser(
        'convert', help='a file of SMPL (.npz or .pkl), checked, as a plain .npz',
        description='Reads a body model of SMPL, neutral, male or female, and writes it as plain arrays. A .pkl file '
                    'is read without unpickling: nothing in it is run. Its licence stays that of the file you give.')
    convert.add_argument('file', type=Path, metavar='FILE')
    convert.add_argument('--out', type=Path, required=True, metavar='FILE.npz')
    convert.add_argument('--shapes', type=_count, default=SHAPES, metavar='N',
                         help=f'shape components to keep (default {SHAPES})')
    show = actions.add_parser('show', help='what is in a body model, and a picture of it')
    show.add_argument('file', type=Path, nargs='?', default=MANNEQUIN, metavar='FILE.npz',
                      help='default: the mannequin that ships')
    show.add_argument('--png', type=Path, metavar='FILE', help='a picture: three poses, and the shapes')
    add_json_option(show)


def run(args: argparse.Namespace) -> int:
    """Do it. Raises BodyModelError and UserError."""
    return {'make': _make, 'convert': _convert, 'show': _show}[args.action](args)


def _make(args: argparse.Namespace) -> int:
    from pose3d_ros.mannequin.make import make_mannequin

    _write(args.out, make_mannequin())
    return 0


def _convert(args: argparse.Namespace) -> int:
    from pose3d_ros.smpl_pickle import read_smpl_pickle

    if args.out.exists() and args.file.exists() and args.out.samefile(args.file):
        raise UserError(f'{args.out}: is the file that is read; write to another one')
    arrays = (read_smpl_pickle if _is_pickle(args.file) else read_body_arrays)(args.file)
    _write(args.out, replace(arrays, shapedirs=np.ascontiguousarray(arrays.shapedirs[..., :args.shapes])))
    return 0


def _is_pickle(path: Path) -> bool:
    """Tell by content: a zip archive (.npz) begins with PK."""
    try:
        with path.open('rb') as file:
            return file.read(2) != b'PK'
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror or error})') from error


def _write(path: Path, arrays: BodyArrays) -> None:
    if path.suffix != '.npz':
        raise UserError(f'{path}: a body model is an .npz file; name it so')
    try:
        write_body_arrays(path, arrays)
    except OSError as error:
        raise UserError(f'{path}: cannot be written ({error.strerror or error}); choose another place') from error
    print(f'{path}: {len(arrays.template)} vertices, {len(arrays.faces)} triangles, {arrays.shapedirs.shape[2]} '
          f'shapes, {path.stat().st_size / 1e6:.2f} MB')


def _show(args: argparse.Namespace) -> int:
    model = BodyModel.load(args.file)
    vertices, joints = model.rest()
    figures = {'vertices': len(model), 'triangles': len(model.faces), 'shapes': model.shapes,
               'joints_per_vertex': int((model.arrays.weights > 0).sum(axis=1).max()),
               'pose_blend_share': float(np.count_nonzero(model.arrays.posedirs) / model.arrays.posedirs.size),
               'height_m': float(np.ptp(vertices[:, 1])), 'span_m': float(np.ptp(vertices[:, 0])),
               'depth_m': float(np.ptp(vertices[:, 2])), 'hip_width_m': float(np.linalg.norm(joints[1] - joints[2]))}
    print_table([['', model.name], *([name.replace('_', ' '), str(value) if isinstance(value, int) else f'{value:.3f}']
                                     for name, value in figures.items())])
    if args.png:
        from pose3d_ros.cli.body_pictures import write_picture

        write_picture(args.png, model)
        print(f'wrote {args.png}')
    if args.json:
        write_json(args.json, figures)
    return 0


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 400:
        raise argparse.ArgumentTypeError('must be 1 to 400')
    return value
