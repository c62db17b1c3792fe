"""One's own networks in place of BlazePose's: opened from their descriptions."""

from __future__ import annotations

from pathlib import Path

from pose3d_ros.detect.boxes import BoxFinder
from pose3d_ros.detect.description import BoxesDescription, DescriptionError, JointsDescription, load_description
from pose3d_ros.detect.sized import sized
from pose3d_ros.detect.top_down import TopDownReader
from pose3d_ros.runtime.engine import EngineError, Wanted
from pose3d_ros.runtime.opening import open_engine


def open_reader(path: str | Path, wanted: Wanted | None = None, most: int = 8) -> TopDownReader:
    """Open the network of joints that a description (kind: joints) tells of.

    most: people read at once, usually. Raises DescriptionError naming the file, the key and the cure, EngineError for a
    network that cannot be opened.
    """
    description = load_description(path)
    if not isinstance(description, JointsDescription):
        raise DescriptionError(f"{path}: kind is 'boxes', expected 'joints'; name this file as the search instead")
    engine = open_engine(sized(description), wanted, most=description.input.batch or most)
    try:
        return TopDownReader(description, engine)
    except (DescriptionError, EngineError):
        engine.close()
        raise


def open_finder(path: str | Path, wanted: Wanted | None = None) -> BoxFinder:
    """Open the person detector that a description (kind: boxes) tells of. Raises as open_reader."""
    description = load_description(path)
    if not isinstance(description, BoxesDescription):
        raise DescriptionError(f"{path}: kind is 'joints', expected 'boxes'; name this file as the detector's model "
                               'instead')
    engine = open_engine(sized(description), wanted, most=description.input.batch or BoxFinder.AT_ONCE)
    try:
        return BoxFinder(description, engine)
    except (DescriptionError, EngineError):
        engine.close()
        raise
