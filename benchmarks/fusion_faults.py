#!/usr/bin/env python3
"""What fusion does when things go wrong: live faults on real DDS, one after the other in one run.

    python benchmarks/fusion_faults.py [--only NAME...] [--rate 20] [--json FILE]

Four fake mono nodes (test/rig.py: not genlocked, 3 px noise) in processes of their own see three
people who walk in circles, and publish the TF of their cameras; fusion_node and a judge (fusion_judge.py) are processes
too. A fault lasts some seconds and ends; it is survived when, from its beginning until all is well again,

- nobody is there twice, and no ghost, for more than 0.5 s, and nobody is missing for more than 0.5 s;
- nobody's joints are more than 5 cm farther from the truth, on average over the 17, in any message, than in the median
  of the calm seconds before: not only the people whom the fault concerns, everybody. (The second after an interruption
  of everything does not count: cameras come back one by one, and one alone has its mono 3D only.)
- ids stay, except where the fault is longer than a person is remembered, time goes back, or fusion_node itself dies;
- no more than 0.5 s pass without a message, except where there is nothing to fuse, or nobody to do it;
- /diagnostics says so in the words looked for (naming the camera), and says nothing amiss within 10 s after the end.

The first row is no fault: what these measures are by themselves.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1] / 'test')]

import rig as rigs  # noqa: E402
from fusion_judge import BACK_S, GAP_S, Judge, Verdict, judged  # noqa: E402

from pose3d_ros.cli.errors import UserError  # noqa: E402
from pose3d_ros.cli.figures import add_json_option, print_table, write_json  # noqa: E402
from pose3d_ros.cli.nodes import Processes, node_command, private_domain, require_ros  # noqa: E402
from pose3d_ros.cli.places import config_file  # noqa: E402

EXTRA_S, MISSING_S, MOVED_M = 0.5, 0.5, 0.05
CALM_S, AFTER_S, CLEAR_S = 2.0, 2.0, 10.0
START_S = 60.0
VICTIM = 'left'


class Stage:
    """The rig, fusion_node and the judge at work."""

    def __init__(self, processes: Processes, folder: Path, rate: float, tf: bool) -> None:
        self.rig = rigs.Rig(processes, rate, tf)
        self.judge = Judge(processes, self.rig.begin_ns)
        self._processes = processes
        places = folder / 'places.yaml'
        rigs.save_places(places)
        source = {'extrinsics_source': 'tf'} if tf else {'extrinsics_source': 'file', 'calibration': str(places)}
        self._command = node_command('fusion_node', config_file('multi.yaml'), cameras=list(self.rig.cameras),
                                     frame=rigs.FRAME, **source)
        self.start_fusion()

    def start_fusion(self) -> None:
        """Start fusion_node (again)."""
        self._fusion = self._processes.start('fusion_node', self._command)

    def kill_fusion(self) -> None:
        """End fusion_node without a goodbye."""
        self._fusion.kill()
        self._fusion.wait()

    def count(self, name: str) -> int:
        """Return a count that diagnostics show on the line of fusion."""
        lines = [values for line, values in self.judge.values.items() if line.endswith(': fusion')]
        return int(lines[0].get(name, 0)) if lines else 0

    def running(self) -> bool:
        """Tell whether fusion_node runs. Raises UserError where it died by itself."""
        return not self._processes.ended('fusion_node')

    def well(self) -> bool:
        """Tell whether everybody was there lately, and diagnostics had nothing to say last."""
        judge = self.judge
        lately = [message for message in judge.fused[-10:] if message.at > judge.now - 1.0]
        return (len(lately) == 10 and all(len(message.people) == len(rigs.PEOPLE) for message in lately)
                and judge.told_at > judge.now - 2.0 and not any(r.at >= judge.told_at for r in judge.reports))

    def settle(self) -> None:
        """Wait until all is well for the first time. Raises UserError."""
        if not self.judge.wait(START_S, lambda: not self.running() or self.well()):
            said = self.judge.reports[-1].text if self.judge.reports else 'nothing'
            raise UserError(f'fusion did not come to work within {START_S:.0f} s; diagnostics: {said}; last words:\n'
                            f'{self._processes.last_words("fusion_node")}')


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong: begin, and end it; words: what diagnostics must say (a regular expression).
    counted: a count of theirs that may grow instead.

    seconds: how long it lasts. new_ids: people may come back as others. silent: there may be no messages meanwhile.
    """

    name: str
    begin: Callable[[Stage], None]
    end: Callable[[Stage], None]
    words: str
    seconds: float = 4.0
    new_ids: bool = False
    silent: bool = False
    counted: str = ''


def _told(name: str, words: str, **faults: Any) -> Fault:
    """Return a fault of the victim's that its switches make."""
    options = {key: faults.pop(key) for key in ('seconds', 'new_ids', 'silent') if key in faults}
    return Fault(name, lambda stage: stage.rig.tell(VICTIM, **faults), lambda stage: stage.rig.heal(VICTIM), words,
                 **options)


def _nothing(stage: Stage) -> None:
    return


NO_FAULT = Fault('none', _nothing, _nothing, '')
FAULTS = (
    Fault('killed', lambda stage: stage.rig.kill(VICTIM), lambda stage: stage.rig.start(VICTIM),
          f'{VICTIM}: nothing on /{VICTIM}/people_2d'),
    _told('delayed', f'{VICTIM} is left out: it is lagging', delay=0.3),
    _told('drops_30_percent', f'{VICTIM}: .* of its images are missing', drop=0.3),
    _told('no_tf', f'{VICTIM}: no transform', tf=0),
    _told('tf_jump', f'{VICTIM} is not where it says|{VICTIM}.*jump', tf_off=(0.5, 10.0)),
    _told('tf_spikes', f'{VICTIM}.*jump', tf_off=(0.5, 10.0), tf_off_share=0.1),
    _told('stamps_behind', f'{VICTIM} is left out: it is lagging', stamp=-1.0),
    _told('stamps_ahead', f'{VICTIM} is left out: its stamps are .* ahead', stamp=1.0),
    _told('nan_rays', f'{VICTIM}: rays of joints it is sure of are no numbers', nan_rays=1),
    _told('duplicate_ids', f'{VICTIM}: id 1 is given to two people', same_ids=1),
    _told('few_joints', f'{VICTIM}: .*10 joints', few_joints=1),
    _told('knocked', f'{VICTIM} is not where it says', knocked=(0.5, 10.0)),
    Fault('all_silent', lambda stage: stage.rig.tell(silent=1), lambda stage: stage.rig.heal(), 'nothing to fuse for',
          new_ids=True, silent=True),
    Fault('fusion_killed', lambda stage: stage.kill_fusion(), lambda stage: stage.start_fusion(), '', 1.5,
          new_ids=True, silent=True),
    Fault('time_back', lambda stage: stage.rig.tell(stamp=-BACK_S), _nothing, 'nothing is said', 1.0,
          new_ids=True, counted='time_jumps'),
)


@dataclass(frozen=True)
class Outcome:
    """What became of a fault. named: diagnostics said the words (True where none are looked for); cleared_s: after the
    end until they had nothing to say, NaN where that did not come; failures: what was not as it should, in words; said:
    what diagnostics said.
    """

    name: str
    verdict: Verdict
    named: bool
    cleared_s: float
    failures: tuple[str, ...]
    said: tuple[str, ...]


def tried(stage: Stage, fault: Fault, clear_s: float = CLEAR_S) -> Outcome:
    """Wait for a calm time, let the fault happen, and judge."""
    judge = stage.judge
    judge.wait(CLEAR_S, stage.well)
    judge.wait(CALM_S)
    begin = judge.now
    calm = [message for message in judge.fused if message.at > begin - CALM_S]
    counted = stage.count(fault.counted)
    fault.begin(stage)
    judge.wait(fault.seconds)
    end = judge.now
    fault.end(stage)
    judge.wait(AFTER_S)
    cleared = judge.wait(clear_s - AFTER_S, lambda: stage.running() and stage.well())
    done = judge.now
    said = [report for report in judge.reports if begin <= report.at <= done]
    last = max((report.at for report in said), default=end)
    verdict = judged(judge.fused, begin, done, calm, rigs.truth)
    named = not fault.words or any(re.search(fault.words, f'{report.name}: {report.text}') for report in said)
    named = named or bool(fault.counted) and stage.count(fault.counted) > counted
    failures = [f'{what} {value:.2f} > {limit}' for what, value, limit in (
        ('extra_s', verdict.extra_s, EXTRA_S), ('missing_s', 0 if fault.silent else verdict.missing_s, MISSING_S),
        ('gap_s', 0 if fault.silent else verdict.gap_s, GAP_S), ('moved_m', verdict.moved_m, MOVED_M),
        ('ids', 0 if fault.new_ids else verdict.ids, 0)) if value > limit]
    failures += [] if named else ['not named']
    failures += [] if cleared else ['not cleared']
    if not fault.words and fault is NO_FAULT and said:
        failures.append('diagnostics complain')
    texts = tuple(dict.fromkeys(f'{report.name}: {report.text}' for report in said))
    cleared_s = max(last - end, 0.0) if cleared else float('nan')
    return Outcome(fault.name, verdict, named, cleared_s, tuple(failures), texts)


@contextmanager
def staged(environment: dict[str, str], rate: float = rigs.RATE, tf: bool = True) -> Iterator[Stage]:
    """Yield a stage at work; its processes end with the context."""
    with tempfile.TemporaryDirectory() as folder, Processes(environment, grace_s=2.0) as processes:
        stage = Stage(processes, Path(folder), rate, tf)
        stage.settle()
        yield stage


def show(outcomes: Sequence[Outcome]) -> None:
    """Print the table."""
    rows = [['fault', 'survived', 'extra s', 'missing s', 'gap s', 'moved mm', 'ids', 'sets/s', 'named', 'cleared s',
             'why']]
    for outcome in outcomes:
        v = outcome.verdict
        rows.append([outcome.name, 'no' if outcome.failures else 'yes', f'{v.extra_s:.2f}', f'{v.missing_s:.2f}',
                     f'{v.gap_s:.2f}', f'{1e3 * v.moved_m:.0f}', str(v.ids), f'{v.rate_hz:.1f}',
                     'yes' if outcome.named else 'no', f'{outcome.cleared_s:.1f}', '; '.join(outcome.failures)])
    print_table(rows)


def figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return what is kept: how many faults were tried and survived, and the figures of each."""
    real = [outcome for outcome in outcomes if outcome.name != NO_FAULT.name]
    return {'faults': {
        'tried': len(real), 'survived': sum(not outcome.failures for outcome in real),
        **{outcome.name: {'survived': not outcome.failures, **asdict(outcome.verdict), 'named': outcome.named,
                          'cleared_s': outcome.cleared_s} for outcome in outcomes}}}


def main() -> int:
    """Let everything go wrong; the exit status is 0 when all was survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [fault.name for fault in FAULTS]
    parser.add_argument('--only', nargs='+', choices=names, metavar='NAME', help=f'of {", ".join(names)}')
    parser.add_argument('--rate', type=float, default=rigs.RATE, help=f'frames/s of each camera ({rigs.RATE:g})')
    parser.add_argument('--file', action='store_true', help='places from a calibration file instead of TF')
    parser.add_argument('--words', action='store_true', help='also print what diagnostics said')
    add_json_option(parser)
    args = parser.parse_args()
    chosen = [fault for fault in FAULTS
              if fault.name in (args.only or names) and not (args.file and 'tf' in fault.name)]
    outcomes = []
    try:
        require_ros()
        print(f'load before: {os.getloadavg()[0]:.1f}', flush=True)
        with private_domain() as environment, staged(environment, args.rate, not args.file) as stage:
            for fault in (NO_FAULT, *chosen):
                outcomes.append(tried(stage, fault))
                print(f'{fault.name}: {"; ".join(outcomes[-1].failures) or "survived"}', flush=True)
                for text in outcomes[-1].said if args.words else ():
                    print(f'    {text}')
    except UserError as error:
        print(f'fusion_faults.py: {error}', file=sys.stderr)
        return 1
    show(outcomes)
    if args.json:
        write_json(args.json, figures(outcomes))
    return int(any(outcome.failures for outcome in outcomes))


if __name__ == '__main__':
    sys.exit(main())
