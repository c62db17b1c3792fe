"""The types that layers compute in, for TensorRT before 10: later versions take them from the tensors by themselves."""

from __future__ import annotations

import logging
from typing import Any

_LOG = logging.getLogger(__name__)
# Layers that compute nothing in a floating type of their own, or that fix it themselves.
_UNTYPED = ('CONSTANT', 'CAST', 'IDENTITY', 'SHAPE', 'QUANTIZE', 'DEQUANTIZE', 'ASSERTION', 'FILL')
_QUANTISED = ('QUANTIZE', 'DEQUANTIZE')


def choose_types(trt: Any, network: Any, config: Any) -> None:
    """Have the builder compute each layer in the type of its tensors, as strongly typed networks do."""
    flags = trt.BuilderFlag
    layers = [network.get_layer(number) for number in range(network.num_layers)]
    if any(layer.type.name in _QUANTISED for layer in layers):
        # Here the quantising layers decide, and telling others their type would keep them from being quantised.
        config.set_flag(flags.INT8)
        if any(tensor.dtype == trt.DataType.HALF for layer in layers for _, tensor in _outputs(layer)):
            config.set_flag(flags.FP16)
        return
    kinds = [[(number, tensor.dtype) for number, tensor in _outputs(layer)
              if tensor.dtype in (trt.DataType.HALF, trt.DataType.FLOAT)] for layer in layers]
    if not any(kind == trt.DataType.HALF for outputs in kinds for _, kind in outputs):
        return  # full precision is all that is allowed anyway
    config.set_flag(flags.FP16)
    config.set_flag(flags.OBEY_PRECISION_CONSTRAINTS)
    for layer, outputs in zip(layers, kinds):
        if layer.type.name in _UNTYPED or not outputs:
            continue
        layer.precision = outputs[0][1]
        for number, kind in outputs:
            layer.set_output_type(number, kind)


def relax_types(trt: Any, config: Any, reason: str) -> bool:
    """Let the builder leave the types of layers that it has no kernels for; tell whether that can help.

    What that does to the outputs is for the check to find out. reason: why it did not build, for the log.
    """
    flags = trt.BuilderFlag
    if not config.get_flag(flags.OBEY_PRECISION_CONSTRAINTS):
        return False
    _LOG.warning('TensorRT %s does not build with the wanted types, so that some layers may get others: %s',
                 trt.__version__, reason)
    config.clear_flag(flags.OBEY_PRECISION_CONSTRAINTS)
    config.set_flag(flags.PREFER_PRECISION_CONSTRAINTS)
    return True


def _outputs(layer: Any) -> list[tuple[int, Any]]:
    """Return the numbers and tensors of a layer's outputs that are there."""
    found = ((number, layer.get_output(number)) for number in range(layer.num_outputs))
    return [(number, tensor) for number, tensor in found if tensor is not None]
