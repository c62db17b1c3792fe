"""`pose3d bench`: how long networks and the pipeline take here, on every runtime that can be used."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from pose3d_ros.cli.bench.turns import Candidate, CandidateFailed, Times, Worker, take_turns
from pose3d_ros.cli.bench.worker import PIPELINE, Job
from pose3d_ros.cli.engines import add_lifter_option, add_model_options
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.figures import add_json_option, print_table, write_json
from pose3d_ros.cli.networks import MODELS, OUR_LIFTERS, network
from pose3d_ros.cli.progress import progress
from pose3d_ros.detect import DetectSettings
from pose3d_ros.lift import DEFAULT_LIFTER, LIFTERS
from pose3d_ros.runtime.engine import PRECISIONS, Wanted
from pose3d_ros.runtime.store import ModelCorrupt, ModelMissing, ModelStore

RUNTIMES = ('cpu', 'cuda', 'tensorrt')
ROUNDS = 5
STAGES = ('detect', 'track', 'lift', 'refine')
_BUILT_S = 5.0        # opening that took longer built the engine, which happens once
_PIPELINE_SHARE = 3   # of the time, against one network
_CAUTION = 'On a busy computer look at p50, and compare only what one run measured: candidates take turns in it.'


@dataclass(frozen=True)
class Subject:
    """What is measured on every runtime: a network, or the pipeline; see Job."""

    name: str
    file: str
    sizes: tuple[int, ...]
    most: int = 8
    dtype: str = 'float32'
    search: str = 'blazepose'
    lifter: str = DEFAULT_LIFTER

    def job(self, runtime: str, precision: str, threads: int) -> Job:
        """Return it as a job. A lifter takes one thread of itself, as in the pipeline."""
        threads = threads or (1 if self.name in OUR_LIFTERS else 0)
        return Job(self.name, self.file, Wanted(runtime, precision, threads), self.sizes, self.most, self.dtype,
                   self.search, self.lifter)


@dataclass
class Report:
    """What came of it. times: by what it ran on ('cpu', 'cuda', 'tensorrt_fp16') and subject; refused: reason to the
    subjects and runtimes that it holds for.
    """

    times: dict[tuple[str, str], Times] = field(default_factory=dict)
    refused: dict[str, list[str]] = field(default_factory=dict)

    def refuse(self, what: str, reason: str) -> None:
        """Note why something is not measured."""
        self.refused.setdefault(reason, []).append(what)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `bench`."""
    parser = subparsers.add_parser(
        'bench', help='how long networks and the pipeline take here', epilog=_CAUTION,
        description='Time each network in batches, and the whole pipeline by number of people, on each runtime that '
                    'can be used; each in a process of its own, taking turns. Runtimes that cannot be used are listed '
                    'with the reason.')
    parser.add_argument('--models', nargs='+', metavar='NAME',
                        help=f'detection, lite, full, heavy, a lifter ({", ".join(LIFTERS)}), or files: an .onnx, or '
                             'the .yaml of a model of your own (default: all that are in the cache, and the lifters)')
    add_model_options(parser)
    add_lifter_option(parser)
    parser.add_argument('--runtimes', nargs='+', choices=RUNTIMES, default=list(RUNTIMES), help='default: all')
    parser.add_argument('--precision', default='auto', choices=PRECISIONS, help='of TensorRT engines (default: auto)')
    parser.add_argument('--batch', nargs='+', type=_count, default=[1, 2, 4, 8], metavar='N', help='default: 1 2 4 8')
    parser.add_argument('--people', nargs='*', type=_count, default=[1, 2, 4, 8], metavar='N',
                        help='in the pipeline\'s frames, 8 at most (default: 1 2 4 8); none: no pipeline')
    parser.add_argument('--threads', type=int, default=0, metavar='N', help='on the CPU, per network (0: chosen)')
    parser.add_argument('--seconds', type=float, default=60.0, metavar='S',
                        help='of measuring, opening not counted (default: 60)')
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print, and write the JSON file."""
    if args.people and max(args.people) > 8:
        raise UserError(f'--people {max(args.people)}: the frames hold 8 at most')
    if not args.seconds > 0:
        raise UserError(f'--seconds {args.seconds:g}: give more than 0')
    report, load = Report(), os.getloadavg()[0]
    subjects = chosen_networks(args, ModelStore(), report)
    if args.people:
        subjects.append(Subject(PIPELINE, args.model, tuple(dict.fromkeys(args.people)), search=args.search,
                                lifter=args.lifter))
    measure(subjects, args.runtimes, args.precision, args.threads, args.seconds, report)
    figures = {'cores': len(os.sched_getaffinity(0)), 'load_before': load, 'load_after': os.getloadavg()[0],
               **flat_figures(report)}
    show(report)
    print(f'\n{figures["cores"]} cores; load {load:.1f} before, {figures["load_after"]:.1f} after. {_CAUTION}')
    if args.json:
        write_json(args.json, figures)
    if not report.times:
        raise UserError('nothing could be measured; the reasons stand above')
    return 0


def chosen_networks(args: argparse.Namespace, store: ModelStore, report: Report) -> list[Subject]:
    """Return the networks to be measured; what is not in the cache is refused. Raises UserError for what is nothing."""
    names = args.models or [*MODELS, *(file for file in (args.model, args.search) if file.endswith('.yaml'))]
    subjects: dict[str, Subject] = {}
    for name in names:
        try:
            subject = subject_of(name, tuple(dict.fromkeys(args.batch)), store)
        except (ModelMissing, ModelCorrupt) as error:
            report.refuse(name, str(error))
            continue
        if subjects.setdefault(subject.name, subject) != subject:
            raise UserError(f'{name}: another network is called {subject.name} too; rename one of the files')
    return list(subjects.values())


def subject_of(name: str, batches: tuple[int, ...], store: ModelStore | None = None) -> Subject:
    """Return a network by name or file, opened as the node opens it; see cli/networks.py for the errors."""
    found = network(name, DetectSettings.max_people, cameras=1, store=store)
    dtype = 'float32'
    if name.endswith('.yaml'):
        from pose3d_ros.detect.description import load_description
        dtype = load_description(Path(name)).input.type
    return Subject(found.name.replace('.', '_'), str(found.path), batches, found.most, dtype)


def measure(subjects: Sequence[Subject], runtimes: Sequence[str], precision: str, threads: int, seconds: float,
            report: Report, open_candidate: Callable[[Job], Candidate] = Worker) -> None:
    """Measure all subjects on all runtimes into the report; of one subject, the runtimes take turns."""
    shares = {subject: _PIPELINE_SHARE if subject.name == PIPELINE else 1 for subject in subjects}
    for subject in subjects:
        share = seconds * shares[subject] / sum(shares.values())
        with ExitStack() as opened:
            candidates: dict[str, Candidate] = {}
            for runtime in runtimes:
                try:
                    candidate = once_built(subject.job(runtime, precision, threads), open_candidate)
                except CandidateFailed as failure:
                    report.refuse(f'{subject.name} on {runtime}', str(failure))
                    continue
                opened.callback(candidate.close)
                candidates[label(runtime, candidate)] = candidate
            blocks = ROUNDS * sum(len(candidate.about['sizes']) for candidate in candidates.values())
            with progress(total=blocks, desc=subject.name, unit='block', leave=False) as bar:
                measured = take_turns(candidates, share, ROUNDS, lambda bar=bar: bar.update())  # type: ignore[misc]
        for ran_on, times in measured.items():
            report.times[ran_on, subject.name] = times
            if times.failure:
                report.refuse(f'{subject.name} on {ran_on} (further calls)', times.failure)


def once_built(job: Job, open_candidate: Callable[[Job], Candidate]) -> Candidate:
    """Open a candidate; where that built an engine, open it again, so that its first call is that of every later start.

    How long the first opening took is then about['prepare_s'].
    """
    candidate = open_candidate(job)
    took = candidate.about['open_ms'] / 1e3
    if job.wanted.runtime != 'tensorrt' or took < _BUILT_S:
        return candidate
    candidate.close()
    candidate = open_candidate(job)
    candidate.about['prepare_s'] = took
    return candidate


def label(runtime: str, candidate: Candidate) -> str:
    """Return what a candidate runs on; TensorRT with the precision that it really has."""
    return f'{runtime}_{candidate.about["precision"]}' if runtime == 'tensorrt' else runtime


def flat_figures(report: Report) -> dict[str, float | str]:
    """Return everything under flat names: RUNTIME.NETWORK.batch_4_p50_ms, RUNTIME.pipeline_4.detect_p50_ms, ..."""
    figures: dict[str, float | str] = {}
    for (ran_on, name), times in report.times.items():
        for key in ('first_call_ms', 'open_ms', 'prepare_s', 'memory_mb', 'gpu_memory_mb', 'precision'):
            if key in times.about:
                figures[f'{ran_on}.{name}.{key}'] = times.about[key]
        for size, values in times.figures().items():
            place = f'{name}_{size}.' if name == PIPELINE else f'{name}.batch_{size}_'
            figures |= {f'{ran_on}.{place}{key}': value for key, value in values.items()}
    return figures


def show(report: Report) -> None:
    """Print the report as tables."""
    networks = [['network', 'on', 'batch', 'p50 ms', 'p95 ms', 'p99 ms', 'ms each', 'calls']]
    openings = [['opening', 'on', 'precision', 'first call ms', 'memory MB', 'GPU memory MB']]
    people = [['pipeline', 'on', 'people', 'p50 ms', 'p95 ms', 'p99 ms', *STAGES, 'found']]
    for (ran_on, name), times in sorted(report.times.items(), key=lambda item: item[0][::-1]):
        about = times.about
        openings.append([name, ran_on, about['precision'], f'{about["first_call_ms"]:.0f}',
                         f'{about["memory_mb"]:.0f}', _number(about, 'gpu_memory_mb', 0)])
        for size, values in times.figures().items():
            row = [name, ran_on, str(size), *(_number(values, f'p{share}_ms', 2) for share in (50, 95, 99))]
            if name == PIPELINE:
                people.append([*row, *(_number(values, f'{stage}_p50_ms', 2) for stage in STAGES),
                               f'{values["people_found"]:.1f}'])
            else:
                networks.append([*row, f'{values["p50_ms"] / size:.2f}', str(len(times.values[size]['total']))])
    for table in (networks, people, openings):
        if len(table) > 1:
            print()
            print_table(table)
    if report.refused:
        print('\nNot measured:')
        for reason, what in report.refused.items():
            print(f'  {", ".join(what)}: {reason}')


def _number(values: Mapping[str, float], key: str, digits: int) -> str:
    return f'{values[key]:.{digits}f}' if key in values else ''


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'{text}: give 1 or more')
    return number
