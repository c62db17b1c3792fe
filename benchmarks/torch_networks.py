"""The networks of this package twice: as the ONNX file that runs, and as a PyTorch module with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from numpy.typing import NDArray
from onnx_in_torch import OnnxInTorch
from torch import nn

from pose3d_ros.nets.absolute import AbsPoseLifter, ToAbsolute
from pose3d_ros.runtime.store import ModelStore
from pose3d_ros.train.export import export
from pose3d_ros.train.export_published import export_published
from pose3d_ros.train.lifter import LifterSettings, make_network

BLAZEPOSE = ('pose_detection', 'pose_landmark_lite', 'pose_landmark_full', 'pose_landmark_heavy')
LIFTERS = ('lifter', 'published_1024')


def pair(name: str, folder: Path) -> tuple[Path, nn.Module]:
    """Return the ONNX file and the module of a network. Those of lifters, with random weights, are made in folder.

    The lifter has the shape of the one that ships. Raises ModelMissing for a network that has not been fetched.
    """
    torch.manual_seed(0)
    path = folder / f'{name}.onnx'
    if name == 'lifter':
        lifter = make_network(LifterSettings()).eval()
        export(lifter, path, {})
        return path, lifter.folded()
    if name == 'published_1024':
        published = AbsPoseLifter(width=1024).eval()
        export_published(published, True, path, {})
        return path, ToAbsolute(published).eval()
    path = ModelStore().path(name)
    return path, OnnxInTorch(path).eval().to(memory_format=torch.channels_last)  # what PyTorch is fastest with


def torch_call(network: nn.Module, inputs: dict[str, NDArray]) -> Callable[[], object]:
    """Return a call of a module on inputs that are tensors already, as those of ONNX Runtime are arrays."""
    tensors = [torch.from_numpy(array) for array in inputs.values()]
    tensors = [tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 and tensor.shape[1] == 3
               else tensor for tensor in tensors]

    def call() -> object:
        with torch.inference_mode():
            return network(*tensors)

    return call
