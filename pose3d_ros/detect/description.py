"""The description of one's own network, a YAML file: what it takes and gives, so that it can stand in for BlazePose.

    kind: joints                       # or boxes
    file: rtmpose-m.onnx
    input: {size: [192, 256], mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, 57.375]}
    head: {type: simcc, split_ratio: 2.0}
    joints: coco17

All keys: description_keys.py, docs/own_models.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pose3d_ros.detect.description_keys import KEYS, KINDS, REQUIRED, closest, flat, sections_of
from pose3d_ros.skeleton import BLAZEPOSE33, COCO17, HUMAN17, LIMBS12, SKELETONS, Skeleton


class DescriptionError(ValueError):
    """A description cannot be used: names the file, the key, what stands there, what should, and the cure."""


@dataclass(frozen=True)
class InputDescription:
    """What the network takes; see KEYS. size: (width, height) px; name '': the only input."""

    name: str
    size: tuple[int, int]
    layout: str
    channels: str
    type: str
    range: tuple[float, float]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fill: int
    batch: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one crop."""
        width, height = self.size
        return (3, height, width) if self.layout == 'NCHW' else (height, width, 3)


@dataclass(frozen=True)
class JointsDescription:
    """A network that gives the joints of one person in a crop; see KEYS."""

    source: Path
    file: Path
    input: InputDescription
    skeleton: Skeleton
    head: str
    outputs: tuple[str, ...]
    attributes: str
    values: str
    grid: str
    split_ratio: float
    refine: str
    padding: float
    turned: bool
    unseen: float
    sure: float
    sigma_least: float
    sigma_gain: float


@dataclass(frozen=True)
class BoxesDescription:
    """A network that gives boxes about people; see KEYS. An output's name is '' where there is none of its own."""

    source: Path
    file: Path
    input: InputDescription
    boxes: str
    scores: str
    labels: str
    columns: str
    transposed: bool
    strides: tuple[int, ...]
    format: str
    unit: str
    values: str
    person: int
    threshold: float
    nms: float
    fit: str
    smallest: float


Description = JointsDescription | BoxesDescription


def load_description(path: str | Path) -> Description:
    """Read a description and find its ONNX file. Raises DescriptionError."""
    path = Path(path).expanduser()
    document = _read(path)
    kind = document.get('kind')
    if kind not in KINDS:
        raise DescriptionError(f'{path}: kind is {_shown(kind)}, expected {" or ".join(KINDS)}; write what the '
                               'network gives')
    values = _values(path, document, str(kind))
    file = _model(path, values['file'], values['sha256'])
    return (_joints if kind == 'joints' else _boxes)(path, file, _input(path, values, str(kind)), values)


def wrong(path: Path, key: str, found: Any, expected: str, cure: str = '') -> DescriptionError:
    """Return the error about the value of a key."""
    return DescriptionError(f'{path}: {key} is {_shown(found)}, expected {expected}' + (f'; {cure}' if cure else ''))


def _shown(value: Any) -> str:
    return 'missing' if value is None else repr(value)


def _read(path: Path) -> Mapping[Any, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise DescriptionError(f'{path}: cannot be read ({error.strerror}); check the path') from None
    except UnicodeDecodeError:
        raise DescriptionError(f'{path}: is not a text file; give the YAML description, not the network') from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist, say
        mark = getattr(error, 'problem_mark', None)
        where = f' in line {mark.line + 1}' if mark else ''
        reason = getattr(error, 'problem', None) or ' '.join(str(error).split())
        raise DescriptionError(f'{path}: is not valid YAML{where} ({reason}); see docs/own_models.md') from None
    if not isinstance(document, Mapping):
        raise DescriptionError(f'{path}: is empty or not a mapping; see docs/own_models.md for an example')
    return document


def _values(path: Path, document: Mapping[Any, Any], kind: str) -> dict[str, Any]:
    """Return the values of all keys of a kind, checked one by one."""
    keys = {key.path: key for key in KEYS if kind in key.kinds}
    sections = sections_of(kind)
    given = flat(document, sections)
    for name, value in given.items():
        if name in sections:
            inside = ', '.join(key.rsplit('.', 1)[1] for key in keys if key.startswith(f'{name}.'))
            raise wrong(path, name, value, f'a mapping with keys of: {inside}')
        if name not in keys:
            other = any(key.path == name for key in KEYS)
            hint = f'; it is not a key of kind {kind}' if other else closest(name, [*keys, *sections])
            raise DescriptionError(f'{path}: {name} is no key of a description{hint} (all keys: '
                                   'docs/own_models.md)')
    values = {}
    for name, key in keys.items():
        if given.get(name) is None:
            if key.default is REQUIRED:
                raise wrong(path, name, None, key.form.expected, f'write {key.text}')
            values[name] = key.default
            continue
        try:
            values[name] = key.form.read(given[name])
        except ValueError as error:
            raise wrong(path, name, given[name], key.form.expected, str(error)) from None
    return values


def _model(path: Path, name: str, sha256: str) -> Path:
    file = path.parent / Path(name).expanduser()
    if not file.is_file():
        raise wrong(path, 'file', name, f'an ONNX file at {file}',
                    'put it there, or write its path from the folder of the description')
    if sha256:
        with file.open('rb') as stream:
            digest = hashlib.sha256()
            for part in iter(lambda: stream.read(1 << 20), b''):
                digest.update(part)
        if digest.hexdigest() != sha256:
            raise DescriptionError(f'{path}: sha256 is {sha256}, but {file} has {digest.hexdigest()}; get the file '
                                   'again, or correct sha256 if this is the file that you want')
    return file


def _input(path: Path, values: dict[str, Any], kind: str) -> InputDescription:
    taken = {name.split('.', 1)[1]: value for name, value in values.items() if name.startswith('input.')}
    low, high = taken['range']
    if low == high:
        raise wrong(path, 'input.range', list(taken['range']), 'two different numbers')
    if not all(min(low, high) <= mean <= max(low, high) for mean in taken['mean']):
        raise wrong(path, 'input.mean', list(taken['mean']), f'values within input.range ({low:g} .. {high:g})',
                    'means of about 0.45 belong to range: [0, 1], means of about 115 to range: [0, 255]')
    plain = taken['range'] == (0.0, 255.0) and not any(taken['mean']) and set(taken['std']) == {1.0}
    contrast = abs(high - low) / np.array(taken['std'])
    if contrast.max() > 300.0 or contrast.min() < 0.05:
        raise wrong(path, 'input.std', list(taken['std']), f'values that fit input.range ({low:g} .. {high:g})',
                    'std of about 0.22 belongs to range: [0, 1], std of about 57 to range: [0, 255]')
    if taken['type'] == 'uint8' and not plain:
        raise wrong(path, 'input.type', 'uint8', 'float32 or float16 where there is a range, mean or std',
                    'a network that takes bytes scales them itself: remove range, mean and std')
    if taken['fill'] is None:
        taken['fill'] = 0 if kind == 'joints' else 114
    return InputDescription(**taken)


def _joints(path: Path, file: Path, taken: InputDescription, values: dict[str, Any]) -> JointsDescription:
    simcc = values['head.type'] == 'simcc'
    outputs = values['head.outputs']
    if outputs and len(outputs) != 1 + simcc:
        raise wrong(path, 'head.outputs', list(outputs), 'the names of x and of y' if simcc else 'one name')
    if values['confidence.unseen'] >= values['confidence.sure']:
        raise wrong(path, 'confidence.unseen', values['confidence.unseen'],
                    f'less than confidence.sure ({values["confidence.sure"]:g})')
    least = values['sigma.least']
    return JointsDescription(
        source=path, file=file, input=taken, skeleton=_skeleton(path, values['joints'], values['bones']),
        head=values['head.type'], outputs=outputs, attributes=values['head.attributes'], values=values['head.values'],
        grid=values['head.grid'], split_ratio=values['head.split_ratio'], refine=values['head.refine'],
        padding=values['crop.padding'], turned=values['crop.turned'], unseen=values['confidence.unseen'],
        sure=values['confidence.sure'], sigma_least=taken.size[1] / 128.0 if least is None else least,
        sigma_gain=values['sigma.gain'])


def _skeleton(path: Path, joints: str | tuple[str, ...], bones: tuple[tuple[str, str], ...]) -> Skeleton:
    """Return a known skeleton by its name, or one of the names listed, called as the file is."""
    if isinstance(joints, str):
        if joints not in SKELETONS:
            raise wrong(path, 'joints', joints, f'one of {", ".join(SKELETONS)}, or a list of names',
                        closest(joints, list(SKELETONS)).strip('; '))
        known = SKELETONS[joints]
        _check_bones(path, known.joints, bones)
        return replace(known, bones=bones) if bones else known
    listed = set(joints)
    if path.stem in SKELETONS:
        raise DescriptionError(f'{path}: a list of joints is called as the file is, and {path.stem} is a known one; '
                               f'rename the file, or write joints: {path.stem}')
    usual = sorted({joint for skeleton in (COCO17, BLAZEPOSE33, HUMAN17) for joint in skeleton.joints})
    for side in ('left_', 'right_'):
        other = 'right_' if side == 'left_' else 'left_'
        for joint in joints:
            if joint.startswith(side) and other + joint[len(side):] not in listed:
                raise wrong(path, 'joints', joint, f'{other + joint[len(side):]} beside it',
                            'a pair is named left_X, right_X')
    for joint in LIMBS12.joints:
        if ('hip' in joint or 'shoulder' in joint) and joint not in listed:
            raise wrong(path, 'joints', list(joints), f'{joint} among them, by which people are followed',
                        f'known names: {", ".join(usual)}')
    _check_bones(path, joints, bones)
    return Skeleton(path.stem, joints, bones or tuple((a, b) for a, b in LIMBS12.bones if {a, b} <= listed))


def _check_bones(path: Path, joints: tuple[str, ...], bones: tuple[tuple[str, str], ...]) -> None:
    for bone in bones:
        for joint in bone:
            if joint not in joints:
                raise wrong(path, 'bones', list(bone), f'joints of the list; {joint!r} is none',
                            closest(joint, list(joints)).strip('; '))


def _boxes(path: Path, file: Path, taken: InputDescription, values: dict[str, Any]) -> BoxesDescription:
    apart, columns = values['outputs.scores'], values['outputs.columns']
    if apart and columns not in (None, 'none'):
        raise wrong(path, 'outputs.columns', columns, f'none, as outputs.scores is {apart!r}', 'remove one of the two')
    if not apart and columns == 'none':
        raise wrong(path, 'outputs.scores', None, 'the output with the scores, as outputs.columns is none')
    if values['outputs.labels'] and columns == 'score_label':
        raise wrong(path, 'outputs.labels', values['outputs.labels'], 'no such key, as outputs.columns is score_label')
    strides = values['outputs.strides']
    if strides and (values['outputs.format'], values['outputs.unit']) != ('cxcywh', 'input'):
        raise wrong(path, 'outputs.format', values['outputs.format'], 'cxcywh, with outputs.unit: input, as '
                    'outputs.strides is given')
    return BoxesDescription(
        source=path, file=file, input=taken, boxes=values['outputs.boxes'], scores=apart,
        labels=values['outputs.labels'], columns=columns or ('none' if apart else 'classes'),
        transposed=values['outputs.transposed'], strides=strides, format=values['outputs.format'],
        unit=values['outputs.unit'], values=values['outputs.values'], person=values['person'],
        threshold=values['threshold'], nms=values['nms'], fit=values['fit'], smallest=values['smallest'])
