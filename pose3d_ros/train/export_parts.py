"""From the trained parts network and a lifter to the file that robots run: pose from one, place from the other."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from pose3d_ros.attributes import ATTRIBUTE_JOINTS, ATTRIBUTE_MIRROR
from pose3d_ros.lift import ATTRIBUTES, ENGINE_INPUTS, ENGINE_OUTPUTS
from pose3d_ros.nets.parts import CLASSES, PartsLifter, PartsNet
from pose3d_ros.nets.window import WindowLifter
from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.export import ADULTS, SHARE, about_lifters, deviation, random_people
from pose3d_ros.train.metrics import CHI2_3, squared_mahalanobis
from pose3d_ros.train.onnx_file import write_checked
from pose3d_ros.train.samples import Samples

INPUT_NAMES = (*ENGINE_INPUTS, ATTRIBUTES)
ALONG = 2048     # people lifted at a time
HALVINGS = 12    # of the range of factors, 0.2 to 5


def make_lifter(window: WindowLifter, parts: PartsNet) -> PartsLifter:
    """Return both networks as one lifter; its covariances are the window lifter's until they are calibrated."""
    return PartsLifter(copy.deepcopy(window), copy.deepcopy(parts), ATTRIBUTE_MIRROR.tolist()).eval()


@torch.no_grad()
def predict(network: PartsLifter, samples: Samples, stature: NDArray, attributes: NDArray,
            up: NDArray | None = None) -> tuple[NDArray, NDArray, NDArray]:
    """Return relative (N, 17, 3) m, root (N, 3) m and covariance (N, 17, 3, 3) m^2 of samples.

    stature (N, 2) m: value and standard deviation; attributes (N, 9, 3); up (N, 3), None where it is not known.
    """
    up = np.zeros((len(samples), 3)) if up is None else up
    arrays = [np.asarray(array, np.float32) for array in (
        samples.rays, samples.confidence, samples.age, up, samples.landmarks[:, None], stature, attributes)]
    parts = [[output.numpy() for output in network(*(torch.from_numpy(array[i:i + ALONG]) for array in arrays))]
             for i in range(0, len(samples), ALONG)]
    relative, root, covariance = (np.concatenate(part) for part in zip(*parts))
    return relative, root, covariance


def calibrate(network: PartsLifter, samples: Samples, attributes: NDArray,
              stature: tuple[float, float] = ADULTS) -> NDArray[np.float64]:
    """Set the factors of the covariances so that 90 % ellipsoids hold 90 % of these samples, joint by joint.

    samples: people whose statures are distributed as `stature` says (mean and standard deviation, m), which is all
    that the network is told of them. Left and right get one factor. Returns the factors (17,).
    """
    told = np.tile(stature, (len(samples), 1))
    low, high = np.full(len(HUMAN17), 0.2), np.full(len(HUMAN17), 5.0)
    for _ in range(HALVINGS):
        middle = np.sqrt(low * high)
        network.spread.copy_(torch.from_numpy(middle)[:, None, None])
        relative, root, covariance = predict(network, samples, told, attributes)
        inside = squared_mahalanobis(samples.points - root[:, None] - relative,
                                     covariance.astype(np.float64)) <= CHI2_3[SHARE]
        share = inside.mean(axis=0)
        enough = 0.5 * (share + share[HUMAN17.mirror]) >= SHARE
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    network.spread.copy_(torch.from_numpy(high)[:, None, None])
    return high


def export(network: PartsLifter, path: Path, extra: Mapping[str, str],
           stature: tuple[float, float] = ADULTS) -> float:
    """Write the lifter as ONNX, check it, and return its largest deviation from PyTorch in m.

    extra: further metadata, such as the training command and the data. The number of people N is free. Raises
    ExportError (and leaves no file) when ONNX Runtime's outputs differ from PyTorch's by more than 0.1 mm.
    """
    network.eval()
    example = tuple(torch.from_numpy(array) for array in _people(2, np.random.default_rng(0)).values())
    return write_checked(network.folded(), example, path, INPUT_NAMES, ENGINE_OUTPUTS, {
        **about_lifters(stature), 'attribute_joints': json.dumps(ATTRIBUTE_JOINTS),
        'method': 'pose after Not All Parts Are Created Equal (Wang, Huang, Wang, Tao; ICCV 2019), place and '
                  'covariances of the lifter',
        **extra}, lambda file: parity(network, file))


def parity(network: PartsLifter, path: Path, seed: int = 0) -> float:
    """Return the largest difference in m between PyTorch and ONNX Runtime on random people; see export.parity."""
    rng = np.random.default_rng(seed)
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    largest = 0.0
    for people in (1, 7):
        inputs = _people(people, rng)
        with torch.no_grad():
            outputs = [output.numpy() for output in network(*map(torch.from_numpy, inputs.values()))]
        largest = max(largest, deviation(outputs, session.run(list(ENGINE_OUTPUTS), inputs)))
    return largest


def _people(count: int, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Return inputs of random people; of half of them no attributes are known."""
    told = rng.dirichlet(np.ones(CLASSES), (count, len(ATTRIBUTE_JOINTS))) * (rng.random((count, 1, 1)) < 0.5)
    return {**random_people(count, rng), ATTRIBUTES: told.astype(np.float32)}
