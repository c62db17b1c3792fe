"""`pose3d build-engines`: prepare TensorRT engines in advance, for images and fleets; list and clear them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from pose3d_ros.cli.asked import asked_for
from pose3d_ros.cli.engines import add_lifter_option
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.kept_engines import Kept, clear, kept_engines
from pose3d_ros.cli.networks import DEFAULT, LIFTER, MAX_PEOPLE, MODELS, Network, at_hand, lifters, model_name, network
from pose3d_ros.cli.progress import progress
from pose3d_ros.lift import DEFAULT_LIFTER
from pose3d_ros.runtime.backend import Backend, Target
from pose3d_ros.runtime.cache import EngineCache
from pose3d_ros.runtime.engine import PRECISIONS, EngineError
from pose3d_ros.runtime.opening import Building

_DOCTOR = '`pose3d doctor` tells more'


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `build-engines`."""
    parser = subparsers.add_parser(
        'build-engines', help='prepare TensorRT engines in advance',
        description='Build, check and keep the TensorRT engines that the nodes will ask for, so that they start at '
                    'once. What is ready already is not built again; Ctrl-C leaves what is ready, and the same command '
                    'continues. Exit status 0 where all are ready, 1 where one is not. See docs/engines.md.')
    parser.add_argument('networks', nargs='*', metavar='NETWORK',
                        help=f'one or more of {", ".join(MODELS)} (or short: detection, lite, full, heavy), .onnx '
                             f'files, .yaml files that describe models of your own (default: {", ".join(DEFAULT)})')
    add_lifter_option(parser, 'with the other networks of the default')
    parser.add_argument('--params', type=Path, metavar='FILE',
                        help='parameter file of the nodes: what they will ask for, instead of names, --precision and '
                             '--max-people')
    parser.add_argument('--all', action='store_true', help='all networks of the package that have been fetched')
    parser.add_argument('--precision', default='auto', choices=PRECISIONS,
                        help='to begin with, as the parameter of the nodes (default: auto); safer ones follow where '
                             'the check fails')
    parser.add_argument('--max-people', type=_count, default=MAX_PEOPLE, metavar='N',
                        help='as the parameter of the nodes (default %(default)s)')
    parser.add_argument('--cameras', type=_count, default=1, metavar='N', help='of one process (default 1)')
    parser.add_argument('--most', type=_count, metavar='N',
                        help='people (or tiles) at once, instead of what follows from the two above')
    listing = parser.add_mutually_exclusive_group()
    listing.add_argument('--list', action='store_true', help='show the engines in the cache; build nothing')
    listing.add_argument('--clear', action='store_true',
                         help='remove the engines of these networks from the cache (none named: all engines)')
    parser.add_argument('--stale', action='store_true',
                        help='with --list or --clear: only those that are not used any more, as they belong to another '
                             'GPU, version or model file')


def run(args: argparse.Namespace) -> int:
    """Build, list or clear."""
    if bool(args.networks) + args.all + (args.params is not None) > 1:
        raise UserError('give networks, --all or --params, not several of them')
    if args.lifter != DEFAULT_LIFTER and (args.networks or args.all or args.params or args.list or args.clear):
        raise UserError('--lifter goes with the default networks; name the lifter among the others instead')
    if args.stale and not (args.list or args.clear):
        raise UserError('--stale goes with --list or --clear')
    if args.list or args.clear:
        return _list_or_clear(args, {model_name(name) for name in args.networks})
    wanted = _wanted(args)
    if not wanted:
        raise UserError(f"{args.params}: runtime is neither 'auto' nor 'tensorrt', so that no engine is used")
    return _build(wanted, building())


def building() -> Building:
    """Return what builds engines, and where they are kept."""
    from pose3d_ros.runtime.trt.backend import TensorRTBackend

    return Building(TensorRTBackend(), EngineCache())


def _wanted(args: argparse.Namespace) -> list[tuple[Network, str]]:
    """Return the networks, each with the precision to begin with."""
    if args.params:
        wanted = asked_for(args.params, args.cameras)
    else:
        names = args.networks or (at_hand() if args.all else [name for name in DEFAULT if name != LIFTER])
        found = [network(name, args.max_people, args.cameras) for name in names]
        if not (args.networks or args.all):
            found += lifters(args.lifter, args.max_people, args.cameras)
        wanted = [(each, args.precision) for each in found]
    if args.all and (left_out := [name for name in MODELS if name not in {each.name for each, _ in wanted}]):
        print(f'left out, as not fetched: {", ".join(left_out)}', file=sys.stderr)
    return [(replace(each, most=args.most or each.most), precision) for each, precision in wanted]


def _build(networks: Sequence[tuple[Network, str]], means: Building) -> int:
    """Prepare one engine after the other; return 0 where all are ready and kept."""
    assert means.backend is not None and means.cache is not None
    if reason := means.backend.why_not():
        raise UserError(f'engines cannot be built here: {reason}. {_DOCTOR}')
    failed = []
    try:
        with _Bar(len(networks)) as bar:
            for each, precision in networks:
                bar.begin(each.name)
                try:
                    verdict, kept = _prepared(each, precision, means, bar)
                except EngineError as error:
                    verdict, kept = f'not ready: {error}', False
                if not kept:
                    failed.append(each.name)
                bar.tell(f'{each.name}: {verdict}')
    except KeyboardInterrupt:
        print('pose3d: what is ready is kept; the same command continues', file=sys.stderr)
        raise
    if failed:
        raise UserError(f'not ready: {", ".join(failed)} (reasons above; such a network is computed by ONNX Runtime '
                        f'where `runtime` is auto). {_DOCTOR}')
    print(f'{_engines(len(networks))} ready in {means.cache.folder}')
    return 0


def _prepared(each: Network, precision: str, means: Building, bar: _Bar) -> tuple[str, bool]:
    """Return what became of an engine, in words, and whether it is in the cache."""
    from pose3d_ros.runtime.manager import prepare

    assert means.backend is not None and means.cache is not None
    prepared = prepare(each.path, means.backend, means.cache, precision=precision, most=each.most, say=bar.say,
                       progress=bar.share, stage=bar.stage, in_process=means.in_process, tools=means.tools)
    prepared.engine.close()
    record = prepared.record
    if prepared.kept:
        return f'built, but not kept: {prepared.kept}', False
    how = f'built in {record.build_s:.0f} s' if bar.has_built else f'ready since {record.built} UTC'
    return f'ready: up to {record.most} at once, {how}; {record.check[-1]}', True


class _Bar:
    """A progress bar over several engines: each counts one, and its description is the step in hand."""

    def __init__(self, count: int) -> None:
        self.has_built = False
        self._bar: tqdm = progress(total=count, unit='engine', miniters=0,
                                   bar_format='{desc} |{bar}| {percentage:3.0f} % [{elapsed}]')
        self._done = -1

    def begin(self, name: str) -> None:
        """Go on to the next engine."""
        self._done += 1
        self.has_built = False
        self._bar.set_description_str(name, refresh=False)
        self.share(0.0)

    def stage(self, text: str) -> None:
        """Take what is being done."""
        self.has_built = True
        self._bar.set_description_str(text, refresh=False)
        self.share(0.0)

    def share(self, share: float) -> None:
        """Take the share of the step that is done, 0..1; a safer precision begins again."""
        self._bar.update(self._done + min(max(share, 0.0), 1.0) - self._bar.n)

    def say(self, text: str) -> None:
        """Write a line above the bar."""
        self._bar.write(text, file=sys.stderr)

    def tell(self, text: str) -> None:
        """Write a result to standard output, above the bar."""
        self._bar.write(text, file=sys.stdout)
        sys.stdout.flush()

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if kind is None:
            self._bar.set_description_str('done', refresh=False)
            self._bar.update(self._done + 1 - self._bar.n)
        self._bar.close()


def _list_or_clear(args: argparse.Namespace, names: set[str]) -> int:
    means = building()
    assert means.backend is not None and means.cache is not None
    target = _target(means.backend)
    if args.stale and target is None:
        print('no GPU with TensorRT here: engines of other GPUs and versions cannot be told apart', file=sys.stderr)
    chosen = [engine for engine in kept_engines(means.cache, target, at_hand())
              if not names or (engine.record is not None and engine.record.model in names)]
    chosen = [engine for engine in chosen if engine.stale or not args.stale]
    if args.list:
        for engine in chosen:
            print(_line(engine))
        print(f'{_engines(len(chosen))} in {means.cache.folder}')
        return 0
    try:
        removed = list(clear(means.cache, chosen, everything=not names and not args.stale))
    except OSError as error:
        raise UserError(f'cannot remove {error.filename}: {error.strerror}; make the folder writable') from error
    print(f'{_engines(len(removed))} removed from {means.cache.folder}')
    return 0


def _target(backend: Backend) -> Target | None:
    if backend.why_not():
        return None
    try:
        return backend.target()
    except EngineError:
        return None


def _line(engine: Kept) -> str:
    if engine.record is None:
        return engine.text
    return f'{engine.record.model}: {engine.text}' + (f' [not used any more: {engine.stale}]' if engine.stale else '')


def _engines(count: int) -> str:
    return f'{count} engine{"" if count == 1 else "s"}'


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 1000:
        raise argparse.ArgumentTypeError('must be 1 to 1000')
    return value
