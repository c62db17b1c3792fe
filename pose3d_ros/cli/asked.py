"""Which engines a parameter file of the nodes asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.networks import SEARCH, Network, lifters, network
from pose3d_ros.detect.detector import DetectSettings
from pose3d_ros.lift import DEFAULT_LIFTER, LiftModelError, lifter_name
from pose3d_ros.runtime.engine import PRECISIONS
from pose3d_ros.runtime.store import ModelStore

# One of these makes a node ours, or its name does.
_OURS = ('detector_model', 'search_model', 'lifter', 'runtime', 'precision', 'max_people')


def asked_for(path: Path, cameras: int = 1, store: ModelStore | None = None) -> list[tuple[Network, str]]:
    """Return the networks that the nodes of a parameter file open on TensorRT, with the wanted precision of each.

    cameras: of one process, where the file does not name them. What a node's section does not name is at its default.
    Raises UserError naming the file, and what network() raises.
    """
    asked: dict[tuple[Network, str], None] = {}
    sections = [section for node, section in _sections(_read(path))
                if node.endswith(('mono_node', 'multi_node')) or any(name in section for name in _OURS)]
    if not sections:
        raise UserError(f'{path}: no ros__parameters with any of {", ".join(_OURS)}; give the file of mono_node, '
                        'such as a copy of config/mono.yaml')
    for section in sections:
        if section.get('runtime', 'auto') in ('auto', 'tensorrt'):
            precision, people, named = _precision(path, section), _people(path, section), section.get('cameras')
            count = len(named) if isinstance(named, list) and named else cameras
            names = (section.get('search_model', 'blazepose'), section.get('detector_model', 'full'))
            for name in names:
                name = SEARCH if name == 'blazepose' else str(name)
                asked[network(name, people, count, store), precision] = None
            for each in lifters(_lifter(path, section), people, count, store):
                asked[each, precision] = None
    return list(asked)


def _read(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f'{path}: {error.strerror or error}') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f'{path} is not valid YAML ({" ".join(str(error).split())})') from error


def _sections(document: Any, node: str = '') -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the name of each node and what stands under its ros__parameters, at whatever depth of namespaces."""
    if isinstance(document, Mapping):
        for name, value in document.items():
            if name == 'ros__parameters' and isinstance(value, Mapping):
                yield node, value
            else:
                yield from _sections(value, str(name))


def _precision(path: Path, section: Mapping[str, Any]) -> str:
    precision = section.get('precision', 'auto')
    if precision not in PRECISIONS:
        raise UserError(f'{path}: precision is {precision!r}, expected one of {", ".join(PRECISIONS)}')
    return str(precision)


def _lifter(path: Path, section: Mapping[str, Any]) -> str:
    try:
        return lifter_name(str(section.get('lifter', DEFAULT_LIFTER)))
    except LiftModelError as error:
        raise UserError(f'{path}: {error}') from error


def _people(path: Path, section: Mapping[str, Any]) -> int:
    people = section.get('max_people', DetectSettings().max_people)
    try:
        return DetectSettings(max_people=people).max_people
    except (TypeError, ValueError) as error:
        raise UserError(f'{path}: max_people: {error}') from error
