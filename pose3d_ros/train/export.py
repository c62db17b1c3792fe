"""From the trained lifter to the file that robots run: ONNX, normalisation inside, joint names in the metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from pose3d_ros.lift import ENGINE_INPUTS, ENGINE_OUTPUTS, INPUTS, WINDOW
from pose3d_ros.nets.window import WindowLifter
from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.lifter import predict
from pose3d_ros.train.metrics import coverage
from pose3d_ros.train.onnx_file import write_checked
from pose3d_ros.train.samples import Samples

ADULTS = (1.70, 0.10)   # m, mean and standard deviation of the stature of people nobody measured (Europe, America)
SHARE = 0.9
# How far an engine may be from the network, see runtime/check.py: joints against the pelvis, the root in parts of its
# distance (half a percent: 15 mm at 3 m, a tenth of what one camera is off there), covariances in parts of their
# largest entry.
TOLERANCES = {
    'relative': {'absolute': 0.005, 'unit': 'm'},
    'root': {'relative': 0.005, 'per': [0], 'unit': 'm'},
    'covariance': {'absolute': 1e-6, 'relative': 0.05, 'per': [0, 1], 'unit': 'm^2'}}


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
    example = tuple(torch.from_numpy(array) for array in random_people(2, np.random.default_rng(0)).values())
    return write_checked(network.folded(), example, path, ENGINE_INPUTS, ENGINE_OUTPUTS, {
        **about_lifters(stature),
        'method': 'after AbsPoseLifter (Chang, Moon, Lee; arXiv 1910.12029): rays, a short past, covariances',
        **extra}, lambda file: parity(network, file))


def about_lifters(stature: tuple[float, float]) -> dict[str, str]:
    """Return the metadata that every lifter of pose3d_ros.lift has; stature: of unmeasured people and its sigma [m]."""
    return {'input_joints': json.dumps(INPUTS), 'output_joints': json.dumps(HUMAN17.joints), 'skeleton': HUMAN17.name,
            'stature': json.dumps(stature), 'tolerances': json.dumps(TOLERANCES),
            'units': 'm, s, optical frame (x right, y down, z ahead)'}


def parity(network: WindowLifter, path: Path, seed: int = 0) -> float:
    """Return the largest difference in m between PyTorch and ONNX Runtime on random people, whole and in part.

    Of the root's place and of standard deviations, the difference is taken relative to the distance, as if at 1 m.
    """
    rng = np.random.default_rng(seed)
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    largest = 0.0
    for people in (1, 7):
        inputs = random_people(people, rng)
        with torch.no_grad():
            outputs = [output.numpy() for output in network(*map(torch.from_numpy, inputs.values()))]
        largest = max(largest, deviation(outputs, session.run(list(ENGINE_OUTPUTS), inputs)))
    return largest


def deviation(outputs: Sequence[NDArray], again: Sequence[NDArray]) -> float:
    """Return the largest difference in m between two times relative, root and covariance; see parity."""
    far = np.linalg.norm(outputs[1], axis=-1).clip(1)
    differences = [np.abs(a - b).reshape(len(far), -1).max(axis=1) / scale
                   for a, b, scale in zip(outputs, again, (1, far, far ** 2))]
    return float(np.nan_to_num(differences, nan=np.inf).max())


def random_people(count: int, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Return inputs of random people, some of whose joints and frames are missing."""
    confidence = rng.uniform(0.1, 1, (count, WINDOW, len(INPUTS))) * (rng.random((count, WINDOW, len(INPUTS))) < 0.8)
    confidence[:, 3:] = 0
    up = rng.normal(0, 1, (count, 3))
    arrays = {'rays': rng.normal(0, 0.2, (*confidence.shape, 2)), 'confidence': confidence,
              'age': np.tile(0.1 * np.arange(WINDOW), (count, 1)), 'up': up / np.linalg.norm(up, axis=1)[:, None],
              'landmarks': rng.integers(0, 2, (count, 1)), 'stature': np.tile([1.7, 0.1], (count, 1))}
    return {name: array.astype(np.float32) for name, array in arrays.items()}
