"""From the trained lifter to the file that robots run: ONNX, normalisation inside, joint names in the metadata."""

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
from numpy.typing import NDArray

from pose3d_ros import __version__
from pose3d_ros.lift import ENGINE_INPUTS, ENGINE_OUTPUTS, INPUTS, WINDOW
from pose3d_ros.nets.window import WindowLifter
from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.lifter import predict
from pose3d_ros.train.metrics import coverage
from pose3d_ros.train.samples import Samples

OPSET = 17              # what TensorRT 8.5 (JetPack 5) still reads
PARITY_LIMIT_M = 1e-4
ADULTS = (1.70, 0.10)   # m, mean and standard deviation of the stature of people nobody measured (Europe, America)
SHARE = 0.9
CMU_NOTICE = ('The data used in this project was obtained from mocap.cs.cmu.edu. '
              'The database was created with funding from NSF EIA-0196217.')


class ExportError(RuntimeError):
    """The exported file does not compute what the network does."""


def calibrate(network: WindowLifter, samples: Samples, stature: tuple[float, float] = ADULTS) -> float:
    """Set the network's trust, so that its 90 % ellipsoids hold 90 % of these samples' joints; return the factor.

    samples: people whose statures are distributed as `stature` says (mean and standard deviation, m), which is all
    that the network is told of them.
    """
    def inside(trust: float) -> float:
        network.trust.fill_(trust)
        relative, root, covariance = predict(network, samples, np.tile(stature, (len(samples), 1)))
        return coverage(samples.points - root[:, None] - relative, covariance.astype(np.float64), SHARE)

    low, high = 0.1, 100.0
    for _ in range(14):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if inside(middle) < SHARE else (low, middle)
    network.trust.fill_(high)
    return high


def export(network: WindowLifter, path: Path, extra: Mapping[str, str],
           stature: tuple[float, float] = ADULTS) -> float:
    """Write the network as ONNX, check it, and return its largest deviation from PyTorch in m.

    extra: further metadata, such as the training command and the data. The number of people N is free. Raises
    ExportError (and leaves no file) when ONNX Runtime's outputs differ from PyTorch's by more than 0.1 mm.
    """
    network.eval()
    part = path.with_suffix('.part')
    path.parent.mkdir(parents=True, exist_ok=True)
    example = tuple(torch.from_numpy(array) for array in _people(2, np.random.default_rng(0)).values())
    with warnings.catch_warnings():
        # The older of PyTorch's two exporters: the newer one writes no file that TensorRT 8.5 reads.
        warnings.simplefilter('ignore', DeprecationWarning)
        torch.onnx.export(network.folded(), example, str(part), opset_version=OPSET, dynamo=False,
                          input_names=list(ENGINE_INPUTS), output_names=list(ENGINE_OUTPUTS),
                          dynamic_axes={name: {0: 'N'} for name in (*ENGINE_INPUTS, *ENGINE_OUTPUTS)})
    model = onnx.load(str(part))
    onnx.helper.set_model_props(model, {
        'input_joints': json.dumps(INPUTS), 'output_joints': json.dumps(HUMAN17.joints), 'skeleton': HUMAN17.name,
        'stature': json.dumps(stature), 'version': __version__,
        'units': 'm, s, optical frame (x right, y down, z ahead)',
        'method': 'after AbsPoseLifter (Chang, Moon, Lee; arXiv 1910.12029): rays, a short past, covariances',
        'notice': CMU_NOTICE, 'licence': 'Apache-2.0', **extra})
    onnx.checker.check_model(model)
    onnx.save(model, str(part))
    difference = parity(network, part)
    if not difference <= PARITY_LIMIT_M:
        part.unlink()
        raise ExportError(f'ONNX Runtime and PyTorch differ by {1000 * difference:.3f} mm; not exported')
    part.replace(path)
    return difference


def parity(network: WindowLifter, path: Path, seed: int = 0) -> float:
    """Return the largest difference in m between PyTorch and ONNX Runtime on random people, whole and in part.

    Of the root's place and of standard deviations, the difference is taken relative to the distance, as if at 1 m.
    """
    rng = np.random.default_rng(seed)
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    largest = 0.0
    for people in (1, 7):
        inputs = _people(people, rng)
        with torch.no_grad():
            outputs = [output.numpy() for output in network(*map(torch.from_numpy, inputs.values()))]
        again = session.run(list(ENGINE_OUTPUTS), inputs)
        far = np.linalg.norm(outputs[1], axis=-1).clip(1)
        differences = [np.abs(a - b).reshape(people, -1).max(axis=1) / scale
                       for a, b, scale in zip(outputs, again, (1, far, far ** 2))]
        largest = max(largest, float(np.nan_to_num(differences, nan=np.inf).max()))
    return largest


def _people(count: int, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Return inputs of random people, some of whose joints and frames are missing."""
    confidence = rng.uniform(0.1, 1, (count, WINDOW, len(INPUTS))) * (rng.random((count, WINDOW, len(INPUTS))) < 0.8)
    confidence[:, 3:] = 0
    up = rng.normal(0, 1, (count, 3))
    arrays = {'rays': rng.normal(0, 0.2, (*confidence.shape, 2)), 'confidence': confidence,
              'age': np.tile(0.1 * np.arange(WINDOW), (count, 1)), 'up': up / np.linalg.norm(up, axis=1)[:, None],
              'landmarks': rng.integers(0, 2, (count, 1)), 'stature': np.tile([1.7, 0.1], (count, 1))}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def git_commit() -> str:
    """Return the commit of the checkout, with '+' when it has changes; '' outside of one."""
    here = Path(__file__).parent
    def git(*command: str) -> str:
        return subprocess.run(['git', *command], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
    try:
        return git('rev-parse', '--short', 'HEAD') + ('+' if git('status', '--porcelain', '--', str(here)) else '')
    except (OSError, subprocess.CalledProcessError):
        return ''
