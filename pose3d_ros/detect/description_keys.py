"""The keys of a description of one's own network: what each may hold, and what stands for one that is left out.

One table for everything: the reader (description.py) takes values by it, and docs/own_models.md shows it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

KINDS = ('joints', 'boxes')
REQUIRED = object()  # the default of a key that has none


@dataclass(frozen=True)
class Form:
    """What a value must look like. read: returns it in the program's form, raises ValueError for what does not fit."""

    expected: str
    read: Callable[[Any], Any]


@dataclass(frozen=True)
class Key:
    """A key by its path, such as input.size. kinds: the descriptions that have it. shown: the default in words."""

    path: str
    form: Form
    text: str
    default: Any = REQUIRED
    kinds: tuple[str, ...] = KINDS
    shown: str = ''

    @property
    def default_text(self) -> str:
        """The default as it stands in the documentation."""
        if self.default is REQUIRED:
            return 'needed'
        if self.shown or self.default in ('', None):
            return self.shown
        if isinstance(self.default, bool):
            return str(self.default).lower()
        return f'{list(self.default) if isinstance(self.default, tuple) else self.default}'


def choice(*values: str) -> Form:
    """One of these words."""
    def read(value: Any) -> str:
        if value not in values:
            close = get_close_matches(str(value).lower(), [word.lower() for word in values], 1)
            raise ValueError(f"did you mean '{next(v for v in values if v.lower() == close[0])}'?" if close else '')
        return str(value)
    return Form('one of ' + ', '.join(values), read)


def number(low: float, high: float) -> Form:
    """A number from low to high."""
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError
        return float(value)
    return Form(f'a number in {low:g} .. {high:g}', read)


def whole(low: int, high: int) -> Form:
    """A whole number from low to high."""
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError
        return value
    return Form(f'a whole number in {low} .. {high}', read)


def numbers(count: int, what: str = '', positive: bool = False) -> Form:
    """A list of so many finite numbers; positive: greater than zero."""
    def read(value: Any) -> tuple[float, ...]:
        if not isinstance(value, list) or len(value) != count:
            raise ValueError
        if any(isinstance(v, bool) or not isinstance(v, int | float) or not math.isfinite(v) for v in value):
            raise ValueError
        if positive and min(value) <= 0:
            raise ValueError
        return tuple(float(v) for v in value)
    return Form(f'a list of {count} {"positive " if positive else ""}numbers{what}', read)


def _size(value: Any) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError
    if any(isinstance(v, bool) or not isinstance(v, int) or not 16 <= v <= 4096 for v in value):
        raise ValueError
    return value[0], value[1]


def _strides(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or any(isinstance(v, bool) or not isinstance(v, int) or v < 1 for v in value):
        raise ValueError
    return tuple(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError('put it in quotes' if value is not None else '')
    return value.strip()


def _file(value: Any) -> str:
    if not _text(value):
        raise ValueError
    return _text(value)


def _hash(value: Any) -> str:
    text = _text(value).lower()
    if text and (len(text) != 64 or set(text) - set('0123456789abcdef')):
        raise ValueError
    return text


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _names(value: Any) -> tuple[str, ...]:
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list) or any(not isinstance(name, str) or not name.strip() for name in given):
        raise ValueError
    return tuple(name.strip() for name in given)


def _joints(value: Any) -> str | tuple[str, ...]:
    if isinstance(value, str) and value.strip():
        return value.strip()
    names = _names(value)
    if len(names) < 2:
        raise ValueError
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f'{repeated!r} stands in it twice')
    return names


def _bones(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, list):
        raise ValueError
    pairs = [_names(pair) for pair in value]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError
    return tuple((a, b) for a, b in pairs)


TEXT, SWITCH = Form('text', _text), Form('true or false', _switch)
_J, _B = ('joints',), ('boxes',)

KEYS: tuple[Key, ...] = (
    Key('kind', choice(*KINDS), 'what the network gives: the joints of one person in a crop, or boxes about people'),
    Key('file', Form('the path of an ONNX file', _file), 'the ONNX file, from the folder of the description'),
    Key('sha256', Form('64 hexadecimal digits', _hash), 'SHA-256 of the ONNX file; where given, it is checked', ''),
    Key('about', TEXT, 'where the file comes from, its licence; for people, not read', ''),
    Key('input.name', TEXT, 'name of the input', '', shown='the only one'),
    Key('input.size', Form('[width, height], whole numbers in 16 .. 4096', _size), 'width and height of the input, px'),
    Key('input.layout', choice('NCHW', 'NHWC'), 'order of the axes: batch, channels, height, width', 'NCHW'),
    Key('input.channels', choice('RGB', 'BGR'), 'order of the colours', 'RGB'),
    Key('input.type', choice('float32', 'float16', 'uint8'), 'type of the numbers', 'float32'),
    Key('input.range', numbers(2, ' [black, white]'), 'what black and white become, before mean and std', (0., 255.)),
    Key('input.mean', numbers(3), 'subtracted, in the order of channels and the unit of range', (0., 0., 0.)),
    Key('input.std', numbers(3, positive=True), 'divided by, after mean', (1., 1., 1.)),
    Key('input.fill', whole(0, 255), 'grey of what lies outside the image, 0..255', None,
        shown='0 for joints, 114 for boxes'),
    Key('input.batch', whole(0, 64), 'crops or tiles at once, at most; 0: as many as the file takes', 0),

    Key('joints', Form('the name of a skeleton, or a list of names', _joints),
        'the joints in the order of the outputs: a list, or the name of a known skeleton', kinds=_J),
    Key('bones', Form('a list of pairs of joint names', _bones), 'what to draw: pairs of joints from the list', (), _J,
        'those of the limbs'),
    Key('head.type', choice('heatmap', 'simcc'), 'a map for each joint, or a row for x and one for y', kinds=_J),
    Key('head.outputs', Form('names of outputs', _names), 'heatmap: one name; simcc: that of x, then that of y', (), _J,
        'the first of the file'),
    Key('head.attributes', TEXT, 'output (N, 9, 3) with the probabilities of front, back and on-plane, for a lifter '
        'that takes them (docs/parts.md)', '', _J, 'none'),
    Key('head.values', choice('peak', 'logit', 'softmax', 'distribution'),
        'what the outputs hold: peak: a hill about 1 high; logit: the same before a sigmoid; softmax: scores that a '
        'softmax over the map makes a distribution; distribution: sums to 1', 'peak', _J),
    Key('head.grid', choice('stride', 'corners', 'centres'),
        'heatmap, the pixel of cell i of n over a length of s px: stride: i s/n; corners: i (s - 1)/(n - 1), as of '
        'models with unbiased data processing (UDP); centres: (i + 1/2) s/n - 1/2', 'stride', _J),
    Key('head.split_ratio', number(0.25, 16), 'simcc: bins per pixel', 2.0, _J),
    Key('head.refine', choice('gaussian', 'quarter', 'none'),
        'place between cells: where a Gaussian through the cells about the highest peaks; a quarter of a cell towards '
        'the higher neighbour; none', 'gaussian', _J),
    Key('crop.padding', number(1, 3), 'size of the crop over that of the body, as in training', 1.25, _J),
    Key('crop.turned', SWITCH, 'the crop leans with the person; only for networks that never saw people lie', False,
        _J),
    Key('confidence.unseen', number(0, 0.99), 'height (share, for distributions) up to which a joint is not seen', 0.2,
        _J),
    Key('confidence.sure', number(0.01, 1), 'height from which its confidence is 1; in between it grows evenly', 0.8,
        _J),
    Key('sigma.least', number(0.1, 100), 'standard deviation of a sure joint, px of the crop', None, _J,
        '1/128 of the height'),
    Key('sigma.gain', number(0, 10), 'how much of the width of the hill is added for an unsure one', 0.5, _J),

    Key('outputs.boxes', TEXT, 'output with the boxes', '', _B, 'the first of the file'),
    Key('outputs.scores', TEXT, 'output with the scores (N, K) or (N, K, classes), where they stand apart', '', _B,
        'in that of the boxes'),
    Key('outputs.labels', TEXT, 'output with the class (N, K) of each box, where it stands apart', '', _B, 'none'),
    Key('outputs.columns', choice('classes', 'objectness_classes', 'score', 'score_label', 'none'),
        'what follows the four numbers of a box in its output', None, _B,
        'none where outputs.scores is given, else classes'),
    Key('outputs.transposed', SWITCH, 'the output of the boxes is (N, columns, K) instead of (N, K, columns)', False,
        _B),
    Key('outputs.strides', Form('a list of whole numbers', _strides),
        'px per cell of each grid, where the boxes are not decoded yet: centre = (value + cell) stride, size = '
        'exp(value) stride', (), _B, 'decoded'),
    Key('outputs.format', choice('xyxy', 'xywh', 'cxcywh', 'yxyx'),
        'a box: two corners, a corner and the size, the centre and the size', 'xyxy', _B),
    Key('outputs.unit', choice('input', 'fraction'), 'px of the input, or fractions of it', 'input', _B),
    Key('outputs.values', choice('probability', 'logit', 'softmax'), 'what the scores are', 'probability', _B),
    Key('person', whole(0, 100_000), 'number of the class person', 0, _B),
    Key('threshold', number(0.01, 0.99), 'score from which a box is a person; detection_threshold 0.5 of the node '
        'means this one', 0.4, _B),
    Key('nms', number(0.05, 1), 'overlap (intersection over union) from which two boxes are one person', 0.65, _B),
    Key('fit', choice('letterbox', 'stretch'), 'how the image gets into the input: its shape kept, or not', 'letterbox',
        _B),
    Key('smallest', number(0.02, 1), 'height of the smallest person that the network finds, over its input\'s', 0.1,
        _B),
)


def closest(name: str, known: list[str]) -> str:
    """Return ' (did you mean X?)' for a misspelt name, '' where nothing known is like it."""
    last = name.rsplit('.', 1)[-1]
    close = get_close_matches(name, known, 1, 0.7) or [path for path in known if path.rsplit('.', 1)[-1] == last][:1]
    return f'; did you mean {close[0]!r}?' if close else ''


def flat(document: Mapping[Any, Any], sections: frozenset[str], prefix: str = '') -> dict[str, Any]:
    """Return the values of a nested mapping by their paths, such as input.size; sections: what to go into."""
    values: dict[str, Any] = {}
    for name, value in document.items():
        path = f'{prefix}{name}'
        if path in sections and isinstance(value, Mapping):
            values.update(flat(value, sections, f'{path}.'))
        else:
            values[path] = value
    return values


def sections_of(kind: str) -> frozenset[str]:
    """Return the names that hold further keys, such as 'input'."""
    return frozenset(key.path.rsplit('.', 1)[0] for key in KEYS if kind in key.kinds and '.' in key.path)


def table() -> str:
    """Return the keys as a table in Markdown."""
    rows = ['| Key | For | Default | Meaning |', '| --- | --- | --- | --- |']
    rows += [f'| `{key.path}` | {"both" if len(key.kinds) > 1 else key.kinds[0]} | {key.default_text} | {key.text}; '
             f'{key.form.expected} |' for key in KEYS]
    return '\n'.join(rows)
