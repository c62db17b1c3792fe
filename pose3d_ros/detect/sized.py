"""Networks that are exported for images of any size, made ones of the size that their description says.

Runtimes prepare themselves for a shape before the first image comes: an engine is built for it, checked and warmed at
it. So a file with free axes is copied once, with the size written into it; the copy is kept beside the other models.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

from pose3d_ros.detect.description import Description, DescriptionError
from pose3d_ros.runtime.onnx_header import read_header
from pose3d_ros.runtime.store import default_cache_dir


def sized(description: Description, folder: Path | None = None) -> Path:
    """Return the network's file, or a copy of a fixed size where the file leaves the size free.

    folder: of the copies, by default in the cache; where it cannot be written to, a temporary one serves. Raises
    DescriptionError where a copy cannot be made, EngineError for a file that is no network.
    """
    header, name, shape = read_header(description.file), description.input.name, description.input.shape
    taken = next((spec for spec in header.inputs if name in ('', spec.name)), None)
    if taken is None or len(taken.shape) != 1 + len(shape) or None not in taken.shape[1:]:
        return description.file
    try:
        import onnx
    except ImportError:
        raise DescriptionError(f'{description.source}: {description.file.name} takes images of any size, and is made '
                               "one of a fixed size by the package onnx: run 'pip install onnx', or export it with a "
                               'fixed size') from None
    folder = folder or default_cache_dir() / 'sized'
    digest = hashlib.sha256(description.file.read_bytes()).hexdigest()[:16]
    copy = folder / f'{description.file.stem}-{"x".join(map(str, shape))}-{digest}.onnx'
    if copy.is_file():
        return copy
    model = onnx.load(str(description.file))
    free = next(value for value in model.graph.input if value.name == taken.name)
    for dim, size in zip(free.type.tensor_type.shape.dim[1:], shape):
        if not dim.HasField('dim_value'):
            dim.dim_value = size
    try:
        return _kept(model, copy)
    except OSError as error:  # a full disk, a read-only cache: the copy need not last
        try:
            return _kept(model, Path(tempfile.mkdtemp(prefix='pose3d_ros_')) / copy.name)
        except OSError:
            raise DescriptionError(f'{description.source}: {description.file.name} takes images of any size, and a '
                                   f'copy for {list(description.input.size)} cannot be written to {folder} '
                                   f'({error.strerror}); make room there, or export it with a fixed size') from None


def _kept(model: Any, file: Path) -> Path:
    """Write an ONNX model to a file, whole or not at all; return the file. Raises OSError."""
    import onnx

    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = file.with_suffix(f'.{os.getpid()}.part')
    try:
        onnx.save(model, str(part))
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return file
