"""Layers of nets/posenet3d.py as they are exported: copies, with batch norms made part of the layers before them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_linear_bn_eval


class Residual(nn.Module):
    """Two fully connected layers, added to the input; batch norms are part of them."""

    def __init__(self, first: nn.Linear, second: nn.Linear) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x).relu()).relu()


def residuals(branch: nn.Sequential) -> list[Residual]:
    """Return copies of the residual blocks of a branch, which come before its last layer."""
    blocks = []
    for block in list(branch)[:-1]:
        layers = block.layers
        assert isinstance(layers, nn.Sequential)
        blocks.append(Residual(folded(layers[0], layers[1]), folded(layers[2], layers[3])))
    return blocks


def folded(layer: nn.Module, after: nn.Module) -> nn.Linear:
    """Return a layer, or a convolution over all the frames that it is shown, with the batch norm after it.

    Its input are all joints of the first frame, then those of the next.
    """
    assert isinstance(layer, nn.Linear | nn.Conv1d) and isinstance(after, nn.Sequential)
    assert layer.bias is not None and isinstance(after[0], nn.BatchNorm1d)
    weight = layer.weight
    if weight.dim() == 3:
        weight = weight.permute(0, 2, 1).flatten(1)
    return fuse_linear_bn_eval(copied(weight, layer.bias).eval(), copy.deepcopy(after[0]).eval())


def linear(layer: nn.Module) -> nn.Linear:
    """Return a layer that is linear as what it is."""
    assert isinstance(layer, nn.Linear)
    return layer


def copied(weight: Tensor, bias: Tensor) -> nn.Linear:
    """Return a linear layer with copies of a weight and a bias, which is not learnt any more."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer.requires_grad_(False)
