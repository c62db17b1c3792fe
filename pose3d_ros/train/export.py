"""From a trained lifter to the file that robots run: ONNX, normalisation inside, joint names in the metadata."""

from __future__ import annotations

import json
import subprocess
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from pose3d_ros import __version__
from pose3d_ros.lift import Uncertainty
from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.samples import INPUTS

OPSET = 17              # what TensorRT 8.5 (JetPack 5) still reads
PARITY_LIMIT_M = 1e-4
CMU_NOTICE = ('The data used in this project was obtained from mocap.cs.cmu.edu. '
              'The database was created with funding from NSF EIA-0196217.')


class ExportError(RuntimeError):
    """The exported file does not compute what the network does."""


def export(network: nn.Module, path: Path, uncertainty: Uncertainty, extra: Mapping[str, str]) -> float:
    """Write network (rays, confidence -> relative, depth) as ONNX, check it, and return its largest deviation in m.

    extra: further metadata, such as the training command and the data. The number of people N is free. Raises
    ExportError (and leaves no file) when ONNX Runtime's outputs differ from PyTorch's by more than 0.1 mm.
    """
    network.eval()
    part = path.with_suffix('.part')
    path.parent.mkdir(parents=True, exist_ok=True)
    example = (torch.rand(2, len(INPUTS), 2), torch.ones(2, len(INPUTS)))
    with warnings.catch_warnings():
        # The older of PyTorch's two exporters: the newer one writes no file that TensorRT 8.5 reads.
        warnings.simplefilter('ignore', DeprecationWarning)
        torch.onnx.export(network, example, str(part), opset_version=OPSET, dynamo=False,
                          input_names=['rays', 'confidence'], output_names=['relative', 'depth'],
                          dynamic_axes={name: {0: 'N'} for name in ('rays', 'confidence', 'relative', 'depth')})
    model = onnx.load(str(part))
    onnx.helper.set_model_props(model, {
        'input_joints': json.dumps(INPUTS), 'output_joints': json.dumps(HUMAN17.joints), 'skeleton': HUMAN17.name,
        'uncertainty': uncertainty.to_json(), 'version': __version__,
        'units': 'm, optical frame (x right, y down, z ahead)',
        'method': 'AbsPoseLifter (Chang, Moon, Lee; arXiv 1910.12029), rays, masked joints', 'notice': CMU_NOTICE,
        'licence': 'Apache-2.0', **extra})
    onnx.checker.check_model(model)
    onnx.save(model, str(part))
    difference = parity(network, part)
    if not difference <= PARITY_LIMIT_M:
        part.unlink()
        raise ExportError(f'ONNX Runtime and PyTorch differ by {1000 * difference:.3f} mm; not exported')
    part.replace(path)
    return difference


def parity(network: nn.Module, path: Path, seed: int = 0) -> float:
    """Return the largest difference in m between PyTorch and ONNX Runtime on random people, whole and in part.

    Of the depth, the difference is taken relative to the depth, as if at 1 m.
    """
    rng = np.random.default_rng(seed)
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    largest = 0.0
    for people in (1, 7):
        rays = rng.normal(0, 0.2, (people, len(INPUTS), 2)).astype(np.float32)
        confidence = (rng.uniform(0.1, 1, rays.shape[:2]) * (rng.random(rays.shape[:2]) < 0.8)).astype(np.float32)
        with torch.no_grad():
            relative, depth = (output.numpy() for output in
                               network(torch.from_numpy(rays), torch.from_numpy(confidence)))
        relative_onnx, depth_onnx = session.run(['relative', 'depth'], {'rays': rays, 'confidence': confidence})
        differences = [np.abs(relative - relative_onnx).max(), np.abs(depth_onnx / depth - 1).max()]
        largest = max(largest, float(np.nan_to_num(differences, nan=np.inf).max()))
    return largest


def git_commit() -> str:
    """Return the commit of the checkout, with '+' when it has changes; '' outside of one."""
    here = Path(__file__).parent
    def git(*command: str) -> str:
        return subprocess.run(['git', *command], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
    try:
        return git('rev-parse', '--short', 'HEAD') + ('+' if git('status', '--porcelain', '--', str(here)) else '')
    except (OSError, subprocess.CalledProcessError):
        return ''
