"""Descriptions for the tests, beside the small networks that they tell of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import blob_networks as blobs
import yaml

JOINTS_SIZE, BOXES_SIZE = (192, 256), (320, 320)
TAKEN = {'size': list(JOINTS_SIZE), 'mean': list(blobs.MEAN), 'std': list(blobs.STD)}
HEAT = {'kind': 'joints', 'file': 'heat.onnx', 'input': TAKEN, 'head': {'type': 'heatmap'}, 'joints': 'coco17'}
SIMCC = {'kind': 'joints', 'file': 'simcc.onnx', 'input': TAKEN, 'head': {'type': 'simcc'}, 'joints': 'coco17'}
BOX_INPUT = {'size': list(BOXES_SIZE), 'range': [0, 1]}
BOX_FORMS: dict[str, dict[str, Any]] = {
    'yolov8': {'outputs': {'transposed': True, 'format': 'cxcywh'}},
    'yolov5': {'outputs': {'columns': 'objectness_classes', 'format': 'cxcywh'}},
    'dets': {'outputs': {'boxes': 'out0', 'columns': 'score', 'labels': 'out1'}},
    'detr': {'outputs': {'boxes': 'out0', 'scores': 'out1', 'format': 'cxcywh', 'unit': 'fraction', 'values': 'logit'},
             'person': 1},
}


def boxes(form: str) -> dict[str, Any]:
    return {'kind': 'boxes', 'file': f'{form}.onnx', 'input': BOX_INPUT, **BOX_FORMS[form]}


def export_all(folder: Path) -> Path:
    """Write one network of each form into a folder."""
    blobs.export(blobs.Joints(JOINTS_SIZE, 'heatmap'), JOINTS_SIZE, folder / 'heat.onnx', ['heat'])
    blobs.export(blobs.Joints(JOINTS_SIZE, 'heatmap'), JOINTS_SIZE, folder / 'single.onnx', ['heat'], batch=False)
    blobs.export(blobs.Joints(JOINTS_SIZE, 'simcc'), JOINTS_SIZE, folder / 'simcc.onnx', ['simcc_x', 'simcc_y'])
    for form in BOX_FORMS:
        outputs = ['out0', 'out1'] if form in ('dets', 'detr') else ['out0']
        blobs.export(blobs.Boxes(form), BOXES_SIZE, folder / f'{form}.onnx', outputs)
    return folder


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a description with some keys changed, by path such as input.size; None removes one."""
    document = yaml.safe_load(yaml.safe_dump(dict(base)))
    for path, value in changes.items():
        *sections, name = path.split('.')
        place = document
        for section in sections:
            place = place.setdefault(section, {})
        if value is None:
            place.pop(name, None)
        else:
            place[name] = value
    return document


def write(folder: Path, base: Mapping[str, Any], changes: Mapping[str, Any] | None = None, name: str = 'own') -> Path:
    path = folder / f'{name}.yaml'
    path.write_text(yaml.safe_dump(merged(base, changes or {})))
    return path
