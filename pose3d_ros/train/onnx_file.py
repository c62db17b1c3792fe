"""Networks as ONNX files that are checked before they are kept."""

from __future__ import annotations

import subprocess
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from pose3d_ros import __version__

OPSET = 17              # what TensorRT 8.5 (JetPack 5) still reads
PARITY_LIMIT_M = 1e-4
CMU_NOTICE = ('The data used in this project was obtained from mocap.cs.cmu.edu. '
              'The database was created with funding from NSF EIA-0196217.')


class ExportError(RuntimeError):
    """The exported file does not compute what the network does."""


def write_checked(network: nn.Module, example: tuple[Tensor, ...], path: Path, inputs: Sequence[str],
                  outputs: Sequence[str], metadata: Mapping[str, str], deviation: Callable[[Path], float]) -> float:
    """Write a network as ONNX and return how far its outputs are from PyTorch's, in m.

    example: one tensor per input; the first axis of all inputs and outputs is the number of people, which is free.
    deviation: measures a file against PyTorch [m]. Raises ExportError (and leaves no file) where that is over 0.1 mm.
    """
    part = path.with_suffix('.part')
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # The older of PyTorch's two exporters: the newer one writes no file that TensorRT 8.5 reads.
        warnings.simplefilter('ignore', DeprecationWarning)
        torch.onnx.export(network, example, str(part), opset_version=OPSET, dynamo=False, input_names=list(inputs),
                          output_names=list(outputs), dynamic_axes={name: {0: 'N'} for name in (*inputs, *outputs)})
    model = onnx.load(str(part))
    onnx.helper.set_model_props(model, {'version': __version__, 'notice': CMU_NOTICE, 'licence': 'Apache-2.0',
                                        'commit': git_commit(), **metadata})
    onnx.checker.check_model(model)
    onnx.save(model, str(part))
    difference = deviation(part)
    if not difference <= PARITY_LIMIT_M:
        part.unlink()
        raise ExportError(f'ONNX Runtime and PyTorch differ by {1000 * difference:.3f} mm; not exported')
    part.replace(path)
    return difference


def git_commit() -> str:
    """Return the commit of the checkout, with '+' when it has changes; '' outside of one."""
    here = Path(__file__).parent
    def git(*command: str) -> str:
        return subprocess.run(['git', *command], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
    try:
        return git('rev-parse', '--short', 'HEAD') + ('+' if git('status', '--porcelain', '--', str(here)) else '')
    except (OSError, subprocess.CalledProcessError):
        return ''
