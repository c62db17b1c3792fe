#!/usr/bin/env python3
"""Keep a measurement, and show all that are kept.

    python benchmarks/results.py keep TOPIC COMMAND...          run COMMAND --json ..., store docs/results/TOPIC.json
    python benchmarks/results.py keep --part NAME TOPIC COMMAND...
                                                                the same for a topic of several commands: only that
                                                                part's figures are replaced
    python benchmarks/results.py table                          write docs/results.md, and the figures of README.md,
                                                                from docs/results/*.json

The figures of a part become flat: nested objects are joined with dots, and all names start with --prefix, if given.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from headlines import LINES, headlines, owns

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / 'docs' / 'results'
PAGE = ROOT / 'docs' / 'results.md'
README = ROOT / 'README.md'
BEGIN, END = '<!-- figures: benchmarks/results.py table -->\n', '<!-- end of figures -->\n'
HEAD = """# Results

Written by `python benchmarks/results.py table` from the files in `results/`; each holds what its command printed, on
the commit and machine it names. Run the command to measure again, or
`python benchmarks/results.py keep TOPIC COMMAND...` to measure and keep.
What the names mean: [measures.md](measures.md).
"""


def keep(topic: str, command: list[str], part: str = '', prefix: str = '') -> None:
    """Run a command that takes `--json FILE` and store its figures with their circumstances.

    part: of a topic whose figures come from several commands; other parts stay as they are.
    """
    with tempfile.TemporaryDirectory() as folder:
        measured = Path(folder) / 'figures.json'
        subprocess.run([*command, '--json', str(measured)], check=True, cwd=ROOT)
        figures = json.loads(measured.read_text())
    kept: dict[str, Any] = {'command': shlex.join(command), 'commit': commit(),
                            'date': datetime.now(timezone.utc).date().isoformat(), 'machine': machine()}
    KEPT.mkdir(parents=True, exist_ok=True)
    path = KEPT / f'{topic}.json'
    if part:
        before = json.loads(path.read_text()) if path.exists() else {}
        kept = with_part(before, part, kept, {prefix + name: value for name, value in flat(figures).items()})
    else:
        kept['figures'] = figures
    path.write_text(json.dumps(kept, indent=2) + '\n')


def with_part(topic: dict[str, Any], part: str, about: dict[str, str], figures: dict[str, Any]) -> dict[str, Any]:
    """Return a topic {parts, figures} with one part put in place of what it was.

    about: the command and its circumstances. Each part lists the groups of its figures: their names up to the first
    dot, or to the second where there are more. Raises ValueError where another part has figures of the same group.
    """
    parts = dict(topic.get('parts', {}))
    groups = sorted({'.'.join(name.split('.')[:max(1, min(2, name.count('.')))]) for name in figures})
    stale = parts.pop(part, {'groups': ()})
    for other, its in parts.items():
        if both := {group for group in groups if owns(its, group)} | {
                group for group in its['groups'] if owns({'groups': groups}, group)}:
            raise ValueError(f'parts {part} and {other} both have figures of {", ".join(sorted(both))}')
    parts[part] = {**about, 'groups': groups}
    left = {name: value for name, value in topic.get('figures', {}).items() if not owns(stale, name)}
    return {'parts': dict(sorted(parts.items())), 'figures': {**left, **figures}}


def flat(figures: dict[str, Any]) -> dict[str, Any]:
    """Return nested figures under dotted names."""
    result: dict[str, Any] = {}
    for name, value in figures.items():
        if isinstance(value, dict):
            result |= {f'{name}.{inner}': item for inner, item in flat(value).items()}
        else:
            result[name] = value
    return result


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
    """Return docs/results.md: a section per kept measurement, its figures in tables."""
    sections = [HEAD]
    for path in sorted(KEPT.glob('*.json')):
        kept = json.loads(path.read_text())
        if 'parts' not in kept:
            shape = by_group if any('.' in name for name in kept['figures']) else table
            sections.append(f'## {path.stem}\n\n{origin(kept)}\n\n{shape(kept["figures"])}')
            continue
        sections.append(f'## {path.stem}\n')
        for name, part in kept['parts'].items():
            figures = {key: value for key, value in kept['figures'].items() if owns(part, key)}
            sections.append(f'### {path.stem}: {name}\n\n{origin(part)}\n\n{by_group(figures)}')
        sections += [f'![{chart.stem}](results/{path.stem}/{chart.name})\n'
                     for chart in sorted((KEPT / path.stem).glob('*.png'))]
    return '\n'.join(sections)


def origin(kept: dict[str, Any]) -> str:
    """Return where figures come from, in one line."""
    return f'`{readable(kept["command"])}`, commit {kept["commit"]}, {kept["date"]}, {kept["machine"]}'


def by_group(figures: dict[str, Any]) -> str:
    """Return figures with dotted names as Markdown tables with a row per group, the name up to its last dot.

    Groups that have the same figures share a table; figures that one group alone has are listed at the end.
    """
    groups: dict[str, dict[str, Any]] = {}
    for key, value in figures.items():
        group, _, name = key.rpartition('.')
        groups.setdefault(group, {})[name] = value
    owners = Counter(name for values in groups.values() for name in values)
    tables: dict[tuple[str, ...], list[str]] = {}
    single: dict[str, Any] = {}
    for group, values in groups.items():
        names = tuple(name for name in values if group and owners[name] > 1)
        single |= {f'{group}.{name}'.lstrip('.'): value for name, value in values.items() if name not in names}
        if names:
            tables.setdefault(names, []).append(f'| {group} | {" | ".join(shown(values[name]) for name in names)} |\n')
    result = [f'| | {" | ".join(names)} |\n| --- |{" ---: |" * len(names)}\n{"".join(rows)}'
              for names, rows in tables.items()]
    if single:
        result.append(table(single))
    return '\n'.join(result)


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
    for topic in LINES:
        rows += headlines(topic, kept.get(topic, {}))
    return '| what | measured | command |\n| --- | --- | --- |\n' + ''.join(
        f'| {what} | `{readable(command)}` |\n' for what, command in rows)


def readable(command: str) -> str:
    """Return a command without the folders that motion capture lay in here (docs/data.md says where to get it)."""
    return re.sub(r'\S+/(?=\w+\.npz)', '', command)


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
    keeping.add_argument('--part', default='', metavar='NAME')
    keeping.add_argument('--prefix', default='', help='of the names of the figures of a part')
    keeping.add_argument('command', nargs=argparse.REMAINDER)
    subparsers.add_parser('table')
    args = parser.parse_args()
    if args.action == 'keep':
        keep(args.topic, args.command, args.part, args.prefix)
    PAGE.write_text(page())
    README.write_text(readme())
    print(f'wrote {PAGE.relative_to(ROOT)} and the figures of {README.name}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
