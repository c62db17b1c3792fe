"""The geometry-driven lifter as an ONNX file: rays in, joints in metres out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from pose3d_ros.nets.geometric import GeometricLifter
from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.onnx_file import write_checked

INPUT, OUTPUT = 'rays', 'joints'
# How far an engine may be from the network, see runtime/check.py: in parts of the person's distance, 15 mm at 3 m.
TOLERANCES = {OUTPUT: {'relative': 0.005, 'per': [0], 'unit': 'm'}}


class ToJoints(nn.Module):
    """Both branches together: rays (N, T, 17, 2) to joints (N, 17, 3) m in the optical frame."""

    def __init__(self, network: GeometricLifter) -> None:
        super().__init__()
        self.network = network

    def forward(self, rays: Tensor) -> Tensor:
        relative, root = self.network(rays)
        return relative + root[:, None]


def export_geometric(network: GeometricLifter, path: Path, extra: Mapping[str, str]) -> float:
    """Write network as ONNX, check it, and return its largest deviation from PyTorch in m.

    Input: rays (N, T, 17, 2), undistorted x/z and y/z, T frames at an even rate of which the middle one is lifted (1,
    but for the temporal backbone); output: joints (N, 17, 3) m in the optical frame; N is free. Raises ExportError (and
    leaves no file) when ONNX Runtime's output differs from PyTorch's by more than 0.1 mm.
    """
    whole = ToJoints(network).eval()
    return write_checked(whole, (torch.from_numpy(_people(2, network.frames, 0)),), path, (INPUT,), (OUTPUT,), {
        'input_joints': json.dumps(HUMAN17.joints), 'output_joints': json.dumps(HUMAN17.joints),
        'skeleton': HUMAN17.name, 'frames': str(network.frames), 'tolerances': json.dumps(TOLERANCES),
        'units': 'rays x/z, y/z in, m out, optical frame (x right, y down, z ahead)',
        'method': 'geometry-driven self-supervision (Li, Li, Jiang, Zhang, Huang, Xu; AAAI 2020)', **extra},
        lambda file: parity(whole, file))


def parity(network: ToJoints, path: Path) -> float:
    """Return the largest difference in m between PyTorch and ONNX Runtime on random people."""
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    largest = 0.0
    for people in (1, 7):
        rays = _people(people, network.network.frames, people)
        with torch.no_grad():
            expected = network(torch.from_numpy(rays)).numpy()
        difference = np.abs(session.run([OUTPUT], {INPUT: rays})[0] - expected).max()
        largest = max(largest, float(np.nan_to_num(difference, nan=np.inf)))
    return largest


def _people(count: int, frames: int, seed: int) -> np.ndarray:
    """Return the rays (N, T, 17, 2) of nobody in particular."""
    return np.random.default_rng(seed).normal(0, 0.15, (count, frames, len(HUMAN17), 2)).astype(np.float32)
