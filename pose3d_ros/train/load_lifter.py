"""From the file that robots run back to the network that can be trained: the lifter of an ONNX file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from torch import Tensor, nn

from pose3d_ros.lift import ATTRIBUTES, ENGINE_INPUTS, INPUTS, lifter_file
from pose3d_ros.nets.window import ResidualBlock, WindowLifter
from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.export import parity
from pose3d_ros.train.lifter import LifterSettings, make_network
from pose3d_ros.train.onnx_file import PARITY_LIMIT_M

CURE = 'give a lifter that `pose3d export lifter` or `pose3d adapt` wrote, or none for the default'


class LifterFileError(ValueError):
    """An ONNX file that holds no lifter of this package; the message names it, the reason and the cure."""


class FrozenNorm(nn.BatchNorm1d):
    """A batch norm that stays what it is: neither its statistics nor its factors are learnt any more.

    A recording of one site says little about the statistics of people anywhere, and batches of two sources would mix.
    """

    def train(self, mode: bool = True) -> FrozenNorm:
        """Stay in evaluation mode."""
        super().train(False)
        return self


def load_lifter(path: Path | None = None) -> tuple[WindowLifter, dict[str, str]]:
    """Return the network of a file (None: the one that ships) and the file's metadata.

    The network is in the form that was exported, with the batch norms that could be folded folded and the others
    frozen; it can be trained and exported again. Raises LifterFileError, also where it does not compute what the file
    does (to 0.1 mm).
    """
    path = lifter_file() if path is None else path
    try:
        model = onnx.load(str(path))
    except (OSError, DecodeError) as error:
        raise LifterFileError(f'{path} is no readable ONNX file ({error}); {CURE}') from error
    inputs = {value.name for value in model.graph.input}
    if ATTRIBUTES in inputs:
        raise LifterFileError(f'{path} is a lifter of parts, which cannot learn from a site; {CURE}')
    if not set(ENGINE_INPUTS) <= inputs:
        raise LifterFileError(f'{path} is another network than the lifter: it is not shown '
                              f'{", ".join(ENGINE_INPUTS)}; {CURE}')
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    for what, wanted in (('input', INPUTS), ('output', HUMAN17.joints)):
        if tuple(json.loads(metadata.get(f'{what}_joints', '[]'))) != tuple(wanted):
            raise LifterFileError(f'{path}: its {what} joints are not those of this version; {CURE}')
    weights = _weights(model)
    try:
        blocks = 1 + max(int(name.split('.')[1]) for name in weights if name.endswith('.first_norm.weight'))
        network = make_network(LifterSettings(width=len(weights['first.weight']), blocks=blocks, mixed=False)).eval()
        network = network.folded()
        network.load_state_dict({name: weights[name] for name in network.state_dict()
                                 if not name.endswith('num_batches_tracked')}, strict=False)
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        raise LifterFileError(f'{path} does not hold the layers of the lifter ({error}); {CURE}') from error
    _freeze(network)
    off = parity(network, path)
    if not off <= PARITY_LIMIT_M:
        raise LifterFileError(f'{path}: its weights, read back, are off by {1000 * off:.1f} mm; {CURE}')
    return network, metadata


def fingerprint(path: Path | None = None) -> str:
    """Return what tells a lifter's file (None: the one that ships) from others. Raises LifterFileError."""
    path = lifter_file() if path is None else path
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise LifterFileError(f'{path} cannot be read ({error.strerror}); {CURE}') from error


def _weights(model: onnx.ModelProto) -> dict[str, Tensor]:
    """Return the tensors of a file by their names in the network.

    A linear layer on more than two axes is exported as a product with a nameless transposed matrix, to which a bias of
    known name is added.
    """
    weights = {tensor.name: torch.from_numpy(np.array(numpy_helper.to_array(tensor)))
               for tensor in model.graph.initializer}
    made_by = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        for bias, other in zip(node.input, reversed(node.input)) if node.op_type == 'Add' else ():
            product = made_by.get(other)
            if bias in weights and bias.endswith('.bias') and product is not None and product.op_type == 'MatMul':
                weights[bias.removesuffix('bias') + 'weight'] = weights[product.input[1]].T.contiguous()
    return weights


def _freeze(network: WindowLifter) -> None:
    """Exchange the batch norms that are left for such as cannot be trained."""
    for holder in (network.blocks, *(block for block in network.blocks if isinstance(block, ResidualBlock))):
        for name, layer in list(holder.named_children()):
            if isinstance(layer, nn.BatchNorm1d):
                frozen = FrozenNorm(layer.num_features, layer.eps)
                frozen.load_state_dict(layer.state_dict())
                setattr(holder, name, frozen.train(False).requires_grad_(False))
