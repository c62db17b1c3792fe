"""Which networks there are, where their files lie, and how much the pipeline gives each at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pose3d_ros.cli.errors import UserError
from pose3d_ros.detect.detector import DetectSettings, regions_at_once
from pose3d_ros.detect.search import BATCH
from pose3d_ros.lift import BODY_OUTPUTS, DEFAULT_LIFTER, LIFTERS, lifter_file
from pose3d_ros.runtime.catalogue import CATALOGUE, full_name
from pose3d_ros.runtime.onnx_header import read_header
from pose3d_ros.runtime.store import ModelCorrupt, ModelMissing, ModelStore

SEARCH = 'pose_detection'
# The lifters that ship, by the name of their network and file, which are those of their engines: what `lifter` says.
OUR_LIFTERS = {lifter_file(name).stem: name for name in LIFTERS}
LIFTER = lifter_file(DEFAULT_LIFTER).stem
MODELS = (*OUR_LIFTERS, *(name for name, entry in CATALOGUE.items() if entry.outputs))
DEFAULT = (SEARCH, 'pose_landmark_full', LIFTER)
MAX_PEOPLE = DetectSettings().max_people
AT_ONCE = 8  # what open_engine() takes where nothing is said: for files of which nothing is known


@dataclass(frozen=True)
class Network:
    """A network's file. most: people (regions, tiles) that the pipeline gives it at once, part of its engine's key."""

    name: str
    path: Path
    most: int


def at_hand(store: ModelStore | None = None) -> dict[str, Path]:
    """Return the files of all networks of this package that are there and sound, by name."""
    found = {}
    for name in MODELS:
        try:
            found[name] = _path(name, store or ModelStore())
        except (ModelMissing, ModelCorrupt):
            continue  # whoever needs it is told so elsewhere
    return {name: path for name, path in found.items() if path.is_file()}


def network(name: str, max_people: int, cameras: int, store: ModelStore | None = None) -> Network:
    """Return a network as the nodes will open it.

    name: of the catalogue (also short), of a lifter that ships, an .onnx file, or the .yaml that describes a model of
    one's own. max_people: the parameter of the node; cameras: of one process. Raises UserError, ModelMissing,
    ModelCorrupt, and DescriptionError for a .yaml.
    """
    regions = regions_at_once(DetectSettings(max_people=max_people), cameras)
    if name.endswith('.yaml'):
        return _described(Path(name), regions)
    if name.endswith('.onnx'):
        if not Path(name).is_file():
            raise UserError(f'there is no model file {name}')
        return Network(Path(name).stem, Path(name), AT_ONCE)
    known = model_name(name)
    return Network(known, _path(known, store or ModelStore()),
                   BATCH if known == SEARCH else max_people if known in OUR_LIFTERS else regions)


def lifters(name: str, max_people: int, cameras: int, store: ModelStore | None = None) -> list[Network]:
    """Return what the nodes will open to lift: the lifter and, beside one of bodies, its spare (lift/lifter.py).

    name: their parameter `lifter`. Errors: see network(); EngineError for a file that is no network.
    """
    first = replace(network(name, max_people, cameras, store), most=max_people)
    gives = {output.name for output in read_header(first.path).outputs}
    if not gives.issuperset(BODY_OUTPUTS):
        return [first]
    return [first, replace(network(DEFAULT_LIFTER, max_people, cameras, store), most=max_people)]


def model_name(name: str) -> str:
    """Return the name under which the engines of a network are kept, whether its file is there or not.

    name: as for network(). Raises UserError, and DescriptionError for a .yaml.
    """
    if name.endswith('.yaml'):
        return _described(Path(name), AT_ONCE).name
    if name.endswith('.onnx'):
        return Path(name).stem
    try:
        known = name if name in OUR_LIFTERS else lifter_file(name).stem if name in LIFTERS else full_name(name)
    except ValueError:
        known = ''
    if known not in MODELS:
        raise UserError(f'{name!r} is none of {", ".join(MODELS)}, nor an .onnx or .yaml file')
    return known


def _described(path: Path, regions: int) -> Network:
    from pose3d_ros.detect.boxes import BoxFinder
    from pose3d_ros.detect.description import BoxesDescription, load_description
    from pose3d_ros.detect.own import network_file

    description = load_description(path)
    file = network_file(description)
    most = BoxFinder.AT_ONCE if isinstance(description, BoxesDescription) else regions
    return Network(file.stem, file, description.input.batch or most)


def _path(name: str, store: ModelStore) -> Path:
    return lifter_file(OUR_LIFTERS[name]) if name in OUR_LIFTERS else store.path(name)
