"""The image network as an ONNX file: crops of people in, heat maps and pose attributes out, normalisation inside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from pose3d_ros.attributes import ATTRIBUTE_JOINTS, CLASSES
from pose3d_ros.nets.hourglass import MultiTaskNet
from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.onnx_file import write_checked

INPUT, OUTPUTS = 'image', ('heatmaps', 'attributes')
# How far an engine may be from the network, see runtime/check.py: of hills about 1 high, and of probabilities.
TOLERANCES = {name: {'absolute': 0.05} for name in OUTPUTS}


class ToMaps(nn.Module):
    """Images (N, 3, S, S) RGB of 0..255 to the last heat maps (N, 17, S/4, S/4) and probabilities (N, 9, 3)."""

    def __init__(self, network: MultiTaskNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        answers = self.network(images)
        return answers.heatmaps[-1], answers.attributes.softmax(dim=2)


def export_images(network: MultiTaskNet, path: Path, extra: Mapping[str, str]) -> float:
    """Write the network as ONNX, and beside it the description by which it serves as an own model; return the largest
    deviation from PyTorch, of heights and probabilities.

    Raises ExportError (and leaves no file) where that is over 0.0001.
    """
    whole = ToMaps(network).eval()
    deviation = write_checked(whole, (_images(2, network.size, 0),), path, (INPUT,), OUTPUTS, {
        'input_size': json.dumps([network.size, network.size]), 'output_joints': json.dumps(HUMAN17.joints),
        'skeleton': HUMAN17.name, 'attribute_joints': json.dumps(ATTRIBUTE_JOINTS),
        'attribute_classes': json.dumps(CLASSES), 'tolerances': json.dumps(TOLERANCES),
        'units': 'RGB of 0..255 in; hills about 1 high, cell i at px 4 i + 1.5, and probabilities out',
        'method': 'Not All Parts Are Created Equal (Wang, Huang, Wang, Tao; ICCV 2019), section 3.1', **extra},
        lambda file: parity(whole, file))
    path.with_suffix('.yaml').write_text(description(path.name, network.size))
    return deviation


def description(file: str, size: int) -> str:
    """Return the description of the file as a network of joints (docs/own_models.md)."""
    bones = '\n'.join(f'  - [{a}, {b}]' for a, b in HUMAN17.bones)
    return f"""# The image network of pose3d: 17 joints as heat maps, and pose attributes.
kind: joints
file: {file}
input:
  size: [{size}, {size}]
  channels: RGB
head:
  type: heatmap
  outputs: [{OUTPUTS[0]}]
  attributes: {OUTPUTS[1]}
  grid: centres
joints: [{', '.join(HUMAN17.joints)}]
bones:
{bones}
"""


def parity(network: ToMaps, path: Path) -> float:
    """Return the largest difference between PyTorch and ONNX Runtime on noise, of heights and of probabilities."""
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    largest = 0.0
    for count in (1, 7):
        images = _images(count, network.network.size, count)
        with torch.no_grad():
            expected = [output.numpy() for output in network(images)]
        found = session.run(list(OUTPUTS), {INPUT: images.numpy()})
        off = max(float(np.nan_to_num(np.abs(a - b).max(), nan=np.inf)) for a, b in zip(expected, found))
        largest = max(largest, off)
    return largest


def _images(count: int, size: int, seed: int) -> Tensor:
    """Return images (count, 3, size, size) of noise, smooth as pictures are rather than of independent pixels."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (count, 3, 8, 8)).astype(np.float32)
    return nn.functional.interpolate(torch.from_numpy(coarse), (size, size), mode='bilinear').round()
