"""`pose3d fetch`: get networks and sample footage into the cache."""

from __future__ import annotations

import argparse
import json
import sys

from pose3d_ros.cli.errors import UserError
from pose3d_ros.runtime.catalogue import CATALOGUE, DEFAULT, full_name
from pose3d_ros.runtime.download import FetchError, have_npm
from pose3d_ros.runtime.store import ModelCorrupt, ModelMissing, ModelStore


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the sub-command's options."""
    parser = subparsers.add_parser(
        'fetch', help='get models and sample footage into the cache',
        description='Get networks (converted to ONNX) and sample footage into the cache: '
                    '$XDG_CACHE_HOME/pose3d_ros or ~/.cache/pose3d_ros.')
    parser.add_argument('names', nargs='*', metavar='NAME',
                        help=f'one or more of {", ".join(CATALOGUE)}, or short: detection, lite, full, heavy '
                             f'(default: {", ".join(DEFAULT)})')
    parser.add_argument('--all', action='store_true', help='everything; what needs npm is left out where npm is not')
    parser.add_argument('--force', action='store_true', help='fetch anew what is there already')
    parser.add_argument('--list', action='store_true', help='show what is there and what is not; fetch nothing')
    parser.add_argument('--json', action='store_true', help='print the result as JSON on standard output')


def run(args: argparse.Namespace) -> int:
    """Fetch and print what there is."""
    store = ModelStore()
    if args.list:
        _print({name: _state(store, name) for name in CATALOGUE}, args.json)
        return 0
    names = _chosen(args)
    try:
        fetched = store.fetch(*names, force=args.force)
    except FetchError as error:
        raise UserError(str(error)) from error
    _print({name: {'state': 'ready', 'path': str(path)} for name, path in fetched.items()}, args.json)
    return 0


def _chosen(args: argparse.Namespace) -> list[str]:
    if args.names and args.all:
        raise UserError('give names or --all, not both')
    if args.all:
        names = [name for name, entry in CATALOGUE.items() if entry.package.manager != 'npm' or have_npm()]
        if left_out := [name for name in CATALOGUE if name not in names]:
            print(f'left out, as npm is not installed: {", ".join(left_out)}', file=sys.stderr)
        return names
    try:
        return [full_name(name) for name in args.names] or list(DEFAULT)
    except ValueError as error:
        raise UserError(str(error)) from error


def _state(store: ModelStore, name: str) -> dict[str, str]:
    try:
        return {'state': 'ready', 'path': str(store.path(name))}
    except ModelMissing:
        return {'state': 'missing', 'cure': f'pose3d fetch {name}'}
    except ModelCorrupt:
        return {'state': 'altered', 'cure': f'pose3d fetch --force {name}'}


def _print(states: dict[str, dict[str, str]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(states, indent=1))
        return
    for name, state in states.items():
        print(f'{name:<20} {state["state"]:<8} {state.get("path") or state["cure"]}')
