"""Which networks, and what computes them: options of the commands that run the pipeline."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pose3d_ros.lift import DEFAULT_LIFTER, LIFTERS, LiftModelError, lifter_name
from pose3d_ros.runtime.engine import PRECISIONS, RUNTIMES, Wanted

BLAZEPOSE = ('lite', 'full', 'heavy')


def add_model_options(parser: argparse.ArgumentParser, model: str = 'full') -> None:
    """Add --model, by default the one given, and --search."""
    parser.add_argument('--model', type=_joint_model, default=model, metavar='NAME',
                        help=f'2D joints: lite, full or heavy (default: {model}), or the .yaml of a model of your own')
    parser.add_argument('--search', type=_search_model, default='blazepose', metavar='NAME',
                        help='search for people: blazepose (default), or the .yaml of a model of your own')


def add_lifter_option(parser: argparse.ArgumentParser, what: str = 'what lifts 2D joints to 3D') -> None:
    """Add --lifter; what: said in its help."""
    parser.add_argument('--lifter', type=lifter_option, default=DEFAULT_LIFTER, metavar='NAME|FILE',
                        help=f'{what}: {", ".join(LIFTERS)}, or an .onnx file, as of pose3d adapt (default: '
                             f'{DEFAULT_LIFTER})')


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add --runtime, --precision and --threads."""
    parser.add_argument('--runtime', default='auto', choices=RUNTIMES,
                        help='what computes the networks (default: the best that can be used here)')
    parser.add_argument('--precision', default='auto', choices=PRECISIONS,
                        help='of TensorRT engines (default: fp16, or what passes the check)')
    parser.add_argument('--threads', type=int, default=0, metavar='N', help='on the CPU, per network (0: chosen)')


def wanted(args: argparse.Namespace) -> Wanted:
    """Return what the options ask for. Raises EngineError for what cannot be."""
    return Wanted(args.runtime, args.precision, args.threads)


def shipped_models(args: argparse.Namespace) -> list[str]:
    """Return which models of the store --model and --search need."""
    return ([f'pose_landmark_{args.model}'] if args.model in BLAZEPOSE else []) + (
        ['pose_detection'] if args.search == 'blazepose' else [])


def node_parameters(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options of models and engines as parameters of mono_node, without those left at their defaults."""
    parameters = {'detector_model': args.model, 'search_model': args.search, 'lifter': args.lifter,
                  'runtime': args.runtime, 'precision': args.precision, 'threads': args.threads}
    defaults = {'detector_model': 'full', 'search_model': 'blazepose', 'lifter': DEFAULT_LIFTER,
                'runtime': 'auto', 'precision': 'auto', 'threads': 0}
    return {name: value for name, value in parameters.items() if value != defaults[name]}


def lifter_option(text: str) -> str:
    """Return the name of a lifter that ships, or a file that can be one with its whole path; for argparse."""
    try:
        lifter_name(text)
    except LiftModelError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if text in LIFTERS:
        return text
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f'{text}: is not there; `pose3d adapt` writes one')
    return str(Path(text).absolute())


def _joint_model(text: str) -> str:
    return _one_of(text, BLAZEPOSE)


def _search_model(text: str) -> str:
    return _one_of(text, ('blazepose',))


def _one_of(text: str, names: tuple[str, ...]) -> str:
    if text not in names and not text.endswith('.yaml'):
        raise argparse.ArgumentTypeError(f'{text!r} is none of {", ".join(names)}, nor a .yaml file')
    return text
