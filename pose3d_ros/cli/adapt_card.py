"""The card beside a lifter that was adapted: what it is, from what it was made, how good it is and where it is not."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pose3d_ros import __version__
from pose3d_ros.cli.adapt_report import MEASURES
from pose3d_ros.cli.errors import UserError
from pose3d_ros.lift import LIFTERS

if TYPE_CHECKING:
    from pose3d_ros.train.adapt import Report


def write_card(path: Path, report: Report, args: argparse.Namespace, command: str) -> None:
    """Write the card. Raises UserError where it cannot be written."""
    try:
        path.write_text(card_text(report, args, command), encoding='utf-8')
    except OSError as error:
        raise UserError(f'cannot write {path}: {error.strerror or error}') from error


def card_text(report: Report, args: argparse.Namespace, command: str) -> str:
    """Return the card as Markdown."""
    figures: Mapping[str, Any] = report.figures
    held = report.held
    source = (f'the lifter that comes with pose3d_ros {__version__}' if args.lifter in LIFTERS else
              Path(args.lifter).name)
    rehearsed = ', '.join(path.name for path in args.data) if args.data else 'made-up postures'
    rows = '\n'.join(
        f'| {text} | {factor * figures["before"][name]:.{digits}f} | {factor * figures["after"][name]:.{digits}f} |'
        for name, text, digits, factor in MEASURES if name in figures['before'] and name in figures['after'])
    return f'''# lifter.onnx: adapted to one site

The lifting network of pose3d_ros, fine-tuned on a recording of one site's own cameras. Inputs, outputs, licence and
notice: those of the network it was made from (docs/models/lifter.md).

- made from: {source}
- recording: {', '.join(path.name for path in args.recordings)}; cameras {', '.join(held.cameras)}; 2D joints by {
    args.model}
- rehearsed meanwhile: {rehearsed}
- made on {datetime.now(timezone.utc):%Y-%m-%d} by: `{command}`

| on the last {100 * args.hold_out:.0f} % of the recording, held out ({len(held)} sightings) | before | after |
| --- | ---: | ---: |
{rows}

{report.reason}

It was measured where it was made: on these cameras, these people, this place. After cameras were moved or lenses
exchanged, or for other people (children where adults were recorded), measure again, or go back to the one that ships.

Use: parameter `lifter: /path/to/lifter.onnx` of mono_node and multi_node, or `pose3d run --lifter lifter.onnx`.
'''
