"""`pose3d`: find the sub-command, import only its module, and turn what users can put right into one line."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys

from pose3d_ros import __version__
from pose3d_ros.cli.errors import UserError

# name: (module, what it is for). Only the module of the command asked for is imported: `pose3d run` needs no PyTorch.
COMMANDS = {
    'demo': ('pose3d_ros.cli.demo', 'the ROS nodes on a video (the sample, or yours), recorded into a folder'),
    'run': ('pose3d_ros.cli.run', '3D people of video files, without ROS'),
    'fetch': ('pose3d_ros.cli.fetch', 'get models and sample footage into the cache'),
    'build-engines': ('pose3d_ros.cli.build_engines', 'prepare TensorRT engines in advance; list and clear them'),
    'calibrate': ('pose3d_ros.cli.calibrate', 'where the cameras stand, from the people that they see together'),
    'adapt': ('pose3d_ros.cli.adapt', 'fine-tune the lifter to your own cameras (needs PyTorch)'),
    'convert': ('pose3d_ros.cli.convert', 'show and convert calibrations of other tools; static TF from them'),
    'body-model': ('pose3d_ros.cli.body_model', 'body models (SMPL): convert yours, make the free mannequin, show one'),
    'doctor': ('pose3d_ros.cli.doctor.command', 'what is installed, which engines work, what is wrong and the cure'),
    'evaluate': ('pose3d_ros.cli.evaluate', 'accuracy on the sample footage or on motion capture'),
    'mocap': ('pose3d_ros.cli.mocap', 'motion capture as downloaded, into arrays to train on'),
    'record': ('pose3d_ros.cli.record', 'film motion capture with virtual cameras: 2D to train on without labels'),
    'render': ('pose3d_ros.cli.render', 'pictures of people posed by motion capture, with their joints'),
    'train': ('pose3d_ros.cli.train', 'train a lifting network (needs PyTorch)'),
    'bench': ('pose3d_ros.cli.bench.command', 'how long networks and the pipeline take here'),
    'export': ('pose3d_ros.cli.export', 'export a trained network to ONNX (needs PyTorch)'),
}
_INTERRUPTED = 128 + signal.SIGINT
_NEEDS_TORCH = ("this needs PyTorch, which robots do without: run 'make train-env' in a checkout, "
                "or pip install 'pose3d_ros[train]'")
_NEEDS_ROS = ("ROS 2 is not at hand: run 'make build' and '. scripts/env.sh' in a checkout, "
              "or source your ROS installation's setup.bash and that of your workspace")


def build_parser(command: str | None) -> argparse.ArgumentParser:
    """Return the parser; of the sub-commands, only `command` gets its options (and its imports)."""
    parser = argparse.ArgumentParser(prog='pose3d', description='Where the people in front of a camera are, in metres.')
    parser.add_argument('--version', action='version', version=f'pose3d {__version__}')
    subparsers = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    for name, (module, purpose) in COMMANDS.items():
        if name == command:
            importlib.import_module(module).add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=purpose)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run a sub-command and return its exit status: 0 well, 1 failed, 2 wrong usage, 130 interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    command = next((word for word in argv if not word.startswith('-')), None)
    try:
        args = build_parser(command).parse_args(argv)
        if command is None:
            return 2
        return int(importlib.import_module(COMMANDS[command][0]).run(args))
    except ModuleNotFoundError as error:
        cure = _cure_for_missing(error.name or '')
        if cure is None:
            raise
        return _fail(f'{error}: {cure}')
    except KeyboardInterrupt:
        return _fail('interrupted', _INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe, such as `| head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        if isinstance(error, ImportError) and _was_interrupted(error):
            return _fail('interrupted', _INTERRUPTED)
        if not isinstance(error, _user_errors()):
            raise
        return _fail(str(error))


def _was_interrupted(error: BaseException | None) -> bool:
    """Tell whether an interrupt lies behind an error: compiled modules make an ImportError of one that meets them."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _user_errors() -> tuple[type[Exception], ...]:
    """Return the errors whose message is meant for the user (imported late: they bring the stages with them)."""
    from pose3d_ros.body_model_file import BodyModelError
    from pose3d_ros.camera import CalibrationError
    from pose3d_ros.detect.description import DescriptionError
    from pose3d_ros.fuse.extrinsics.errors import ExtrinsicsError
    from pose3d_ros.lift import LiftModelError
    from pose3d_ros.runtime.download import FetchError
    from pose3d_ros.runtime.engine import EngineError
    from pose3d_ros.runtime.store import ModelCorrupt, ModelMissing
    return (UserError, BodyModelError, CalibrationError, DescriptionError, EngineError, ExtrinsicsError, FetchError,
            LiftModelError, ModelMissing, ModelCorrupt)


def _cure_for_missing(module: str) -> str | None:
    package = module.split('.', 1)[0]
    if package in ('torch', 'onnxscript'):
        return _NEEDS_TORCH
    if package in ('rclpy', 'rosidl_parser', 'sensor_msgs', 'diagnostic_msgs') or module == 'pose3d_ros.msg':
        return _NEEDS_ROS
    if package == 'rosbags':
        return 'reading bags needs it: pip install rosbags'
    return None


def _fail(message: str, status: int = 1) -> int:
    print(f'pose3d: {message.strip()}', file=sys.stderr)
    return status


if __name__ == '__main__':
    sys.exit(main())
