"""What an exported network is and what was checked, in a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_SHOWN = 70  # characters of a metadata value


def tell(path: Path, deviation_m: float, *more: str) -> None:
    """Print an exported file's inputs, outputs and metadata, and how far it is from PyTorch; more: lines besides."""
    import onnx

    from pose3d_ros.train.onnx_file import PARITY_LIMIT_M

    model = onnx.load(str(path))
    print(f'{path}: {path.stat().st_size / 1e6:.1f} MB, ONNX opset {model.opset_import[0].version}')
    for title, tensors in (('inputs', model.graph.input), ('outputs', model.graph.output)):
        print(f'  {title:<9} {", ".join(_tensor(tensor) for tensor in tensors)}')
    print('  metadata')
    for entry in model.metadata_props:
        value = ' '.join(entry.value.split())
        print(f'    {entry.key:<17} {value if len(value) <= _SHOWN else value[:_SHOWN - 3] + "..."}')
    print(f'  checked   the file is valid ONNX; within {1000 * deviation_m:.4f} mm of PyTorch on 1 and on 7 random '
          f'people (limit {1000 * PARITY_LIMIT_M:g} mm)')
    for line in more:
        print(f'  {line}')
    print(f'  next      pose3d build-engines {path} (TensorRT), pose3d evaluate --help')


def _tensor(tensor: Any) -> str:
    axes = [axis.dim_param or str(axis.dim_value) for axis in tensor.type.tensor_type.shape.dim]
    return f'{tensor.name} ({", ".join(axes)})'
