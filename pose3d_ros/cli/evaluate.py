"""`pose3d evaluate sample | lifter | ...`: figures of accuracy, repeatable by anybody."""

from __future__ import annotations

import argparse
import importlib

SUBJECTS = {
    'sample': ('pose3d_ros.cli.evaluate_sample', 'real footage: four cameras watch one man on a beam'),
    'lifter': ('pose3d_ros.cli.evaluate_lifter', 'the lifter that ships, alone, on held-out motion capture'),
    'errors': ('pose3d_ros.cli.evaluate_errors', "a 2D detector's errors, and the mixture fitted to them"),
    'geometric': ('pose3d_ros.cli.evaluate_geometric', 'the geometry-driven method: its tables, on a recording'),
    'posenet3d': ('pose3d_ros.cli.evaluate_posenet3d', 'PoseNet3D: its tables, on a recording'),
    'attributes': ('pose3d_ros.cli.evaluate_attributes', "front or back of the torso, by a detector's relative depth"),
    'parts_images': ('pose3d_ros.cli.evaluate_parts_images', 'the image network of the parts method, on both domains'),
    'parts': ('pose3d_ros.cli.evaluate_parts', 'body parts that depend on one another: the ablation per joint'),
    'paper': ('pose3d_ros.cli.evaluate_paper', 'AbsPoseLifter as published: the tables of the paper'),
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `evaluate` and what can be evaluated."""
    parser = subparsers.add_parser('evaluate', help='accuracy on the sample footage or on motion capture')
    subjects = parser.add_subparsers(dest='subject', metavar='SUBJECT', required=True)
    for module, _ in SUBJECTS.values():
        importlib.import_module(module).add_parser(subjects)


def run(args: argparse.Namespace) -> int:
    """Evaluate what was asked for."""
    return int(importlib.import_module(SUBJECTS[args.subject][0]).run(args))
