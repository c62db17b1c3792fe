"""`pose3d export NETWORK`: a trained network as the ONNX file that robots run."""

from __future__ import annotations

import argparse
import importlib

from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.train import NETWORKS

# Where networks are exported that are not where they are trained.
EXPORTS = NETWORKS | {'posenet3d': 'pose3d_ros.cli.export_posenet3d'}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `export` and its networks."""
    parser = subparsers.add_parser('export', help='export a trained network to ONNX (needs PyTorch)')
    networks = parser.add_subparsers(dest='network', metavar='NETWORK', required=True)
    for module in EXPORTS.values():
        importlib.import_module(module).add_export_parser(networks)


def run(args: argparse.Namespace) -> int:
    """Export, check, and say what was checked. Raises UserError where a file cannot be written."""
    try:
        return int(importlib.import_module(EXPORTS[args.network]).export(args))
    except OSError as error:
        raise UserError(f'cannot write {error.filename or "the file"}: {error.strerror or error}') from error
