#!/usr/bin/env python3
"""Keep a measurement, and show all that are kept.

    python benchmarks/results.py keep TOPIC COMMAND...     run COMMAND --json ..., store docs/results/TOPIC.json
    python benchmarks/results.py table                     write docs/results.md, and the figures of README.md, from
                                                           docs/results/*.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / 'docs' / 'results'
PAGE = ROOT / 'docs' / 'results.md'
README = ROOT / 'README.md'
BEGIN, END = '<!-- figures: benchmarks/results.py table -->\n', '<!-- end of figures -->\n'
HEAD = """# Results

Written by `python benchmarks/results.py table` from the files in `results/`; each holds what its command printed, on
the commit and machine it names. Run the command to measure again, or
`python benchmarks/results.py keep TOPIC COMMAND...` to measure and keep.
"""


def keep(topic: str, command: list[str]) -> None:
    """Run a command that takes `--json FILE` and store its figures with their circumstances."""
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / 'figures.json'
        subprocess.run([*command, '--json', str(figures)], check=True, cwd=ROOT)
        KEPT.mkdir(parents=True, exist_ok=True)
        (KEPT / f'{topic}.json').write_text(json.dumps({
            'command': shlex.join(command),
            'commit': commit(),
            'date': datetime.now(timezone.utc).date().isoformat(),
            'machine': machine(),
            'figures': json.loads(figures.read_text()),
        }, indent=2) + '\n')


def commit() -> str:
    """Return the commit measured, marked when the work tree differs from it."""
    head, changed = (subprocess.run(['git', *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout
                     for arguments in (('rev-parse', '--short=12', 'HEAD'), ('status', '--porcelain', '-uno')))
    return head.strip() + ('+changes' if changed.strip() else '')


def machine() -> str:
    """Return processor, cores that may be used, and Python."""
    lines = Path('/proc/cpuinfo').read_text().splitlines() if Path('/proc/cpuinfo').exists() else []
    processor = next((line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')),
                     platform.processor() or platform.machine())
    return f'{processor}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}'


def page() -> str:
    """Return docs/results.md: a section per kept measurement, its figures in a table with a column per variant."""
    sections = [HEAD]
    for path in sorted(KEPT.glob('*.json')):
        kept = json.loads(path.read_text())
        sections.append(f'## {path.stem}\n\n`{kept["command"]}`, commit {kept["commit"]}, {kept["date"]}, '
                        f'{kept["machine"]}\n\n{table(kept["figures"])}')
    return '\n'.join(sections)


def table(figures: dict[str, Any]) -> str:
    """Return figures as a Markdown table; nested objects become columns named by their path."""
    columns: dict[str, dict[str, Any]] = {}

    def collect(values: dict[str, Any], path: str) -> None:
        for key, value in values.items():
            if isinstance(value, dict):
                collect(value, f'{path} {key}'.strip())
            else:
                columns.setdefault(path, {})[key] = value

    collect(figures, '')
    keys = list(dict.fromkeys(key for column in columns.values() for key in column))
    rows = [['figure', *(name or 'all' for name in columns)], ['---', *('---:' for _ in columns)],
            *([key, *(shown(column.get(key)) for column in columns.values())] for key in keys)]
    return ''.join(f'| {" | ".join(row)} |\n' for row in rows)


def readme() -> str:
    """Return README.md with the figures between its two marks made anew."""
    text = README.read_text()
    before, rest = text.split(BEGIN)
    return before + BEGIN + summary() + END + rest.split(END)[1]


def summary() -> str:
    """Return the headline figures as a Markdown table; what has not been kept has no line."""
    kept = {path.stem: json.loads(path.read_text()) for path in KEPT.glob('*.json')}
    rows = []
    if 'sample' in kept:
        figures, command = kept['sample']['figures'], kept['sample']['command']
        rows.append(['real footage, four cameras: frames with exactly one person on the subject; id switches; left and '
                     f'right exchanged | {100 * figures["person_share"]:.1f} %; {figures["id_switches"]}; '
                     f'{100 * figures["swap_share"]:.1f} %', command])
        rows += [[f'the same, 3D from one camera against four, 2D model `{model}`: MPJPE / PA-MPJPE / MRPE | '
                  + ' / '.join(f'{figures[model][key]:.0f}' for key in ('mpjpe_mm', 'pa_mpjpe_mm', 'mrpe_mm')) + ' mm',
                  command] for model in ('full', 'heavy') if model in figures]
    if 'mono' in kept:
        figures, command = kept['mono']['figures'], kept['mono']['command']
        rows.append([f'speed on {figures["cores"]} cores, one person: detect, track and lift; against MediaPipe Pose | '
                     f'{figures["fps"]:.0f} frames/s; {figures["fps_ratio_mediapipe"]:.2f} times', command])
        rows.append([f'delay through ROS 2 at 30 frames/s: p50 / p95 | {figures["latency_p50_ms"]:.0f} / '
                     f'{figures["latency_p95_ms"]:.0f} ms', command])
    return '| what | measured | command |\n| --- | --- | --- |\n' + ''.join(
        f'| {what} | `{command}` |\n' for what, command in rows)


def shown(value: Any) -> str:
    """Return a figure with as many digits as it is worth."""
    if isinstance(value, float):
        return f'{value:.0f}' if abs(value) >= 100 else f'{value:.3g}'
    return '' if value is None else str(value)


def main() -> int:
    """Keep or show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    subparsers = parser.add_subparsers(dest='action', required=True)
    keeping = subparsers.add_parser('keep')
    keeping.add_argument('topic')
    keeping.add_argument('command', nargs=argparse.REMAINDER)
    subparsers.add_parser('table')
    args = parser.parse_args()
    if args.action == 'keep':
        keep(args.topic, args.command)
    PAGE.write_text(page())
    README.write_text(readme())
    print(f'wrote {PAGE.relative_to(ROOT)} and the figures of {README.name}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
