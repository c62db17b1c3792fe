"""AbsPoseLifter as published, as an ONNX file: pixels and camera in, joints in metres out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from pose3d_ros.nets.absolute import AbsPoseLifter, ToAbsolute
from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.onnx_file import write_checked

INPUTS, OUTPUT = ('pixels', 'principal_point', 'focal_length'), 'joints'
# How far an engine may be from the network, see runtime/check.py: in parts of the person's distance, 15 mm at 3 m.
TOLERANCES = {OUTPUT: {'relative': 0.005, 'per': [0], 'unit': 'm'}}


def export_published(network: AbsPoseLifter, canonical: bool, path: Path, extra: Mapping[str, str]) -> float:
    """Write network as ONNX, check it, and return its largest deviation from PyTorch in m.

    Inputs: pixels (N, 17, 2) px, principal_point (N, 2) px, focal_length (N, 1) px; output: joints (N, 17, 3) m in the
    optical frame; N is free. Raises ExportError (and leaves no file) when ONNX Runtime's output differs from PyTorch's
    by more than 0.1 mm.
    """
    whole = ToAbsolute(network, canonical).eval()
    return write_checked(whole, tuple(map(torch.from_numpy, _people(2, 0))), path, INPUTS, (OUTPUT,), {
        'input_joints': json.dumps(HUMAN17.joints), 'output_joints': json.dumps(HUMAN17.joints),
        'skeleton': HUMAN17.name, 'tolerances': json.dumps(TOLERANCES),
        'units': 'px in, m out, optical frame (x right, y down, z ahead)',
        'method': 'AbsPoseLifter (Chang, Moon, Lee; arXiv 1910.12029)', **extra}, lambda file: parity(whole, file))


def parity(network: ToAbsolute, path: Path) -> float:
    """Return the largest difference in m between PyTorch and ONNX Runtime on random people."""
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    largest = 0.0
    for people in (1, 7):
        inputs = _people(people, people)
        with torch.no_grad():
            expected = network(*map(torch.from_numpy, inputs)).numpy()
        difference = np.abs(session.run([OUTPUT], dict(zip(INPUTS, inputs)))[0] - expected).max()
        largest = max(largest, float(np.nan_to_num(difference, nan=np.inf)))
    return largest


def _people(count: int, seed: int) -> tuple[np.ndarray, ...]:
    """Return pixels, principal points and focal lengths of nobody in particular."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(500, 150, (count, len(HUMAN17), 2)).astype(np.float32)
    return pixels, np.full((count, 2), 500, np.float32), np.full((count, 1), 1145, np.float32)
