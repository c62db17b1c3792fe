"""What an ONNX file says about itself, read without the `onnx` package and without its weights.

An ONNX file is a protocol buffer: a sequence of fields, each a number (field and kind) and a value; see onnx.proto for
the fields and the description of the wire format of protocol buffers for the rest. Only what is needed is decoded; the
weights are stepped over.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pose3d_ros.runtime.engine import EngineError, cure

# Fields: ModelProto, GraphProto, NodeProto, StringStringEntryProto, ValueInfoProto ... of onnx.proto.
_GRAPH, _METADATA = 7, 14
_NODE, _INITIALIZER, _INPUT, _OUTPUT = 1, 5, 11, 12
_NODE_OUTPUT, _NODE_NAME, _NODE_OPERATOR = 2, 3, 4
_WEIGHT_NAME = 8


@dataclass(frozen=True)
class Spec:
    """An input or output. shape: None for an axis of any size. kind: its type's number in onnx.proto, 1 for float32."""

    name: str
    shape: tuple[int | None, ...]
    kind: int


@dataclass(frozen=True)
class Header:
    """Inputs, outputs and metadata, in the file's order."""

    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """Return a file's header. Raises EngineError for a file that is missing or no ONNX file."""
    try:
        with path.open('rb') as file:
            return header_of(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
    except (OSError, ValueError) as error:
        raise EngineError(f'{path} is not a usable network ({error}); {cure(path)}') from error


def header_of(model: bytes | memoryview) -> Header:
    """Return the header of an ONNX file's content. Raises ValueError for anything else."""
    metadata: dict[str, str] = {}
    graph = None
    for field, value in _fields(memoryview(model)):
        if field == _GRAPH:
            graph = value
        elif field == _METADATA:
            entry = dict(_fields(value))
            metadata[_text(entry.get(1, b''))] = _text(entry.get(2, b''))
    if graph is None:
        raise ValueError('it holds no graph')
    inputs, outputs = [], []
    weights: set[str] = set()
    for field, value in _fields(graph):
        if field == _INPUT:
            inputs.append(_spec(value))
        elif field == _OUTPUT:
            outputs.append(_spec(value))
        elif field == _INITIALIZER:
            weights.update(_text(name) for inner, name in _fields(value) if inner == _WEIGHT_NAME)
    # Files of before 2019 list the weights among the inputs.
    return Header(tuple(spec for spec in inputs if spec.name not in weights), tuple(outputs), metadata)


def node_label(model: bytes, index: int) -> str:
    """Return a node of the graph as people look for it, such as "Conv 'conv_12'"; '' where there is no such node."""
    graph = dict(_fields(memoryview(model))).get(_GRAPH, b'')
    number = -1
    for field, value in _fields(memoryview(graph)):
        number += field == _NODE
        if field == _NODE and number == index:
            node: dict[int, Any] = {}
            for inner, content in _fields(value):
                node.setdefault(inner, content)
            name = node.get(_NODE_NAME) or node.get(_NODE_OUTPUT, b'')
            return f'{_text(node.get(_NODE_OPERATOR, b""))} {_text(name)!r}'
    return ''


def _fields(view: memoryview) -> Iterator[tuple[int, Any]]:
    """Yield field number and value: int for numbers, a memoryview for strings, bytes and messages."""
    place = 0
    while place < len(view):
        key, place = _number(view, place)
        field, kind = key >> 3, key & 7
        if kind == 0:
            value, place = _number(view, place)
            yield field, value
            continue
        if kind == 2:
            size, place = _number(view, place)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError('it is no ONNX file')
        if not field or place + size > len(view):
            raise ValueError('it is cut short or no ONNX file')
        yield field, view[place:place + size]
        place += size


def _number(view: memoryview, place: int) -> tuple[int, int]:
    """Return a number of variable length and the place after it."""
    value = shift = 0
    while place < len(view) and shift < 70:
        byte = view[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise ValueError('it is cut short or no ONNX file')


def _spec(value: memoryview) -> Spec:
    """Return name, type and shape of a ValueInfoProto."""
    info = dict(_fields(value))
    tensor = dict(_fields(dict(_fields(info.get(2, memoryview(b'')))).get(1, memoryview(b''))))
    shape: list[int | None] = []
    for field, axis in _fields(tensor.get(2, memoryview(b''))):
        if field == 1:
            size = dict(_fields(axis)).get(1)
            shape.append(size if isinstance(size, int) and size > 0 else None)
    return Spec(_text(info.get(1, b'')), tuple(shape), tensor.get(1, 0))


def _text(value: Any) -> str:
    if isinstance(value, int):
        raise ValueError('it is no ONNX file')
    return bytes(value).decode('utf-8', 'replace')
