"""One's own networks in place of BlazePose's: opened from their descriptions."""

from __future__ import annotations

from pathlib import Path

from pose3d_ros.detect.boxes import BoxFinder
from pose3d_ros.detect.description import (
    BoxesDescription,
    Description,
    DescriptionError,
    JointsDescription,
    load_description,
)
from pose3d_ros.detect.sized import sized
from pose3d_ros.detect.top_down import TopDownReader
from pose3d_ros.runtime.engine import Wanted
from pose3d_ros.runtime.onnx_header import read_header
from pose3d_ros.runtime.opening import open_engine

_TYPES = {1: 'float32', 2: 'uint8', 10: 'float16'}  # by their numbers in onnx.proto


def open_reader(path: str | Path, wanted: Wanted | None = None, most: int = 8) -> TopDownReader:
    """Open the network of joints that a description (kind: joints) tells of.

    most: people read at once, usually. Raises DescriptionError naming the file, the key and the cure, EngineError for a
    network that cannot be opened.
    """
    description = load_description(path)
    if not isinstance(description, JointsDescription):
        raise DescriptionError(f"{path}: kind is 'boxes', expected 'joints'; name this file as the search instead")
    engine = open_engine(network_file(description), wanted, most=description.input.batch or most)
    try:
        return TopDownReader(description, engine)
    except BaseException:
        engine.close()
        raise


def open_finder(path: str | Path, wanted: Wanted | None = None) -> BoxFinder:
    """Open the person detector that a description (kind: boxes) tells of. Raises as open_reader."""
    description = load_description(path)
    if not isinstance(description, BoxesDescription):
        raise DescriptionError(f"{path}: kind is 'joints', expected 'boxes'; name this file as the detector's model "
                               'instead')
    engine = open_engine(network_file(description), wanted, most=description.input.batch or BoxFinder.AT_ONCE)
    try:
        return BoxFinder(description, engine)
    except BaseException:
        engine.close()
        raise


def network_file(description: Description) -> Path:
    """Return the file to open. Raises DescriptionError where its input is of another type than is described."""
    inputs, name = read_header(description.file).inputs, description.input.name
    for taken in (spec for spec in inputs if spec.name == name or not name and len(inputs) == 1):
        kind = _TYPES.get(taken.kind, f'another type (number {taken.kind} of ONNX)')
        if kind != description.input.type:
            cure = f'write input.type: {kind}' if taken.kind in _TYPES else 'it is not an input for images'
            raise DescriptionError(f'{description.source}: input.type is {description.input.type!r}, but input '
                                   f'{taken.name!r} of the network takes {kind}; {cure}')
    return sized(description)
