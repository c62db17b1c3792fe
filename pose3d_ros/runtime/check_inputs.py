"""What an engine is shown when it is compared with its reference: drawn people, people as joints, or random numbers.

Everything is made here from fixed seeds, so that a check needs no file and says the same everywhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.runtime.check_figure import drawn_person
from pose3d_ros.runtime.engine import EngineError

Shape = tuple['int | None', ...]

# What pixels become where a file does not say what it takes: mean and standard deviation of photographs in RGB, with
# which nearly all networks of others are trained (ImageNet).
_MEAN, _STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
_USUAL_SIZE = (256, 192)    # px, height and width where both are free
_USUAL_LENGTH = 16          # of other free axes
_USUAL_STEP_S = 0.1         # between the moments of a person
_FLOAT = 1
_TYPES = {_FLOAT: np.float32, 2: np.uint8, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64}

# A standing person, m from the middle of the hips, in the optical frame of a camera that sees the front.
_BODY = {
    'pelvis': (0, 0, 0), 'spine': (0, -0.23, 0.01), 'thorax': (0, -0.48, 0), 'neck': (0, -0.56, -0.03),
    'head': (0, -0.68, -0.03), 'ears': (0, -0.62, -0.01), 'nose': (0, -0.62, -0.11),
    'left_shoulder': (0.17, -0.46, 0), 'left_elbow': (0.22, -0.18, 0.02), 'left_wrist': (0.23, 0.06, -0.06),
    'left_hip': (0.1, 0, 0), 'left_knee': (0.11, 0.42, -0.02), 'left_ankle': (0.11, 0.84, 0.02)}
_BODY.update({name.replace('left', 'right'): (-x, y, z) for name, (x, y, z) in list(_BODY.items()) if 'left' in name})
_SEATED = {'knee': (0.14, 0.04, -0.42), 'ankle': (0.14, 0.46, -0.40), 'wrist': (0.16, -0.02, -0.3)}
_WALK = (0.5, 0.0, -0.3)    # m/s
_LEVEL, _SLOPE = 0.06, 25.0    # m before or behind the torso, where a joint begins to count as such; 1/m, how surely


def inputs_for(metadata: Mapping[str, str], shapes: Mapping[str, Shape], most: int,
               kinds: Mapping[str, int] | None = None) -> list[dict[str, NDArray]]:
    """Return batches of inputs (by name) for a network, of 1, 3 and `most` people or images.

    metadata: of the file; 'input_range' ('0..1', '-1..1', '0..255'), 'input_channels' ('RGB', 'BGR') and 'input_size'
    ('HEIGHTxWIDTH', where the shape leaves it free) say what images are like, 'input_joints' and
    'attribute_joints' (JSON) what joints are; 'step_s' [s] that the moments of a person are so far apart, and the first
    one repeated where there is no past.
    shapes: of each input; None for a free axis. A network whose batch is fixed gets that one. kinds: the inputs' types
    as ONNX numbers them, float32 by default; images in bytes are 0..255. Raises EngineError for metadata that cannot be
    read and for types that are none of numbers.
    """
    types = {name: _type(name, (kinds or {}).get(name, _FLOAT)) for name in shapes}
    counts = sorted({1, min(3, most), most})
    fixed = {shape[0] for shape in shapes.values() if shape and shape[0] is not None}
    if fixed:
        counts = [max(fixed)]
    batches, step_s = [], _step(metadata)
    for seed, count in enumerate(counts):
        people = _People(_joints(metadata, 'input_joints') or tuple(_BODY), _joints(metadata, 'attribute_joints'),
                         _frames(shapes), count, seed, step_s)
        batches.append({name: np.ascontiguousarray(_input(name, shape, people, metadata, seed, types[name]),
                                                   dtype=types[name]) for name, shape in shapes.items()})
    return batches


def _type(name: str, kind: int) -> np.dtype:
    if kind not in _TYPES:
        raise EngineError(f'the input {name!r} is of type {kind} of ONNX, for which no test inputs can be made; export '
                          'the network with float32 inputs')
    return np.dtype(_TYPES[kind])


def _input(name: str, shape: Shape, people: _People, metadata: Mapping[str, str], seed: int,
           dtype: np.dtype) -> NDArray:
    count = len(people.age)
    if len(shape) == 4 and 3 in (shape[1], shape[3]):
        return _images(shape, count, {'input_range': '0..255', **metadata} if dtype.kind in 'iu' else metadata, seed)
    if name in _OF_PEOPLE:
        found = _OF_PEOPLE[name](people)
        if len(shape) == found.ndim and all(size in (None, given) for size, given in zip(shape, found.shape)):
            return found
    full = [count, *(size or _USUAL_LENGTH for size in shape[1:])] if shape else []
    return np.random.default_rng([seed, sum(name.encode())]).normal(0, 1, full)


def _images(shape: Shape, count: int, metadata: Mapping[str, str], seed: int) -> NDArray:
    """Return drawn people, as the network takes them; every third image is an empty room."""
    first = shape[1] == 3    # channels first
    height, width = _image_size(shape[2:] if first else shape[1:3], metadata)
    images = np.stack([drawn_person(height, width, 100 * seed + number, empty=number % 3 == 2)
                       for number in range(count)]) / 255
    limits = metadata.get('input_range')
    if limits is None:
        images = (images - _MEAN) / _STD
    else:
        match = re.fullmatch(r'(-?[\d.]+)\.\.(-?[\d.]+)', limits)
        if match is None:
            raise EngineError(f"metadata input_range {limits!r} of the model is not like '0..1'; correct it")
        low, high = map(float, match.groups())
        images = low + (high - low) * images
    if metadata.get('input_channels', 'RGB').upper() == 'BGR':
        images = images[..., ::-1]
    return images.transpose(0, 3, 1, 2) if first else images


def _image_size(axes: Shape, metadata: Mapping[str, str]) -> tuple[int, int]:
    match = re.fullmatch(r'(\d+)x(\d+)', metadata.get('input_size', ''))
    usual = tuple(map(int, match.groups())) if match else _USUAL_SIZE
    height, width = (size or other for size, other in zip(axes, usual))
    return height, width


class _People:
    """Joints (N, T, J, 3) m of people in the optical frame, newest first; seen (N, T, J) in 0..1; age (N, T) s.

    attributes (N, A, 3): probabilities that a joint is in front of the torso, behind it or level with it; zeros for
    every fourth person, as where a detector does not tell.
    """

    def __init__(self, joints: tuple[str, ...], attribute_joints: tuple[str, ...], frames: int, count: int,
                 seed: int, step_s: float | None = None) -> None:
        """step_s: between the moments, which are repeated for people without a past; None: of any ages."""
        rng = np.random.default_rng([seed, count])
        self.age = np.tile((step_s or _USUAL_STEP_S) * np.arange(frames), (count, 1))
        self.attributes = np.zeros((count, len(attribute_joints), 3))
        self.seen = rng.uniform(0.5, 1, (count, frames, len(joints)))
        position = np.empty((count, 1, len(joints), 3))
        for number in range(count):
            seated = number % 2 == 1
            body = np.array([_place(joint, seated) for joint in joints], dtype=float)
            if number % 4 != 3:
                self.attributes[number] = _attributes(attribute_joints, seated)
            angle = rng.uniform(-np.pi, np.pi) * (number > 0)
            cos, sin = np.cos(angle), np.sin(angle)
            body = body @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
            body += rng.normal(0, 0.01, body.shape)
            position[number] = body + [rng.uniform(-0.8, 0.8), rng.uniform(-0.1, 0.3), rng.uniform(2.2, 6)]
            if number % 3 == 1:                                            # the feet are out of view
                self.seen[number][:, [joint.endswith(('ankle', 'knee')) for joint in joints]] = 0
            if number % 3 == 2:                                            # an arm is hidden, no past
                self.seen[number][:, [joint in ('left_elbow', 'left_wrist') for joint in joints]] = 0
                self.seen[number, 1:] = 0 if step_s is None else self.seen[number, :1]
        numbers = np.arange(count)
        walks = (numbers % 2 == 0) & ((numbers % 3 != 2) | (step_s is None))    # a repeated moment is one moment
        moving = np.where(walks, 1.0, 0.0)[:, None, None, None]
        self.position = position - moving * self.age[:, :, None, None] * np.array(_WALK)
        up = np.array([0, -1, 0]) + rng.normal(0, 0.1, (count, 3))
        self.up = up / np.linalg.norm(up, axis=1, keepdims=True) * (np.arange(count) % 4 != 3)[:, None]
        self.landmarks = (np.arange(count) % 2 == 0)[:, None].astype(float)
        self.stature = np.stack([rng.uniform(1.5, 1.9, count), rng.uniform(0.03, 0.1, count)], axis=1)

    @property
    def rays(self) -> NDArray:
        """Return x / z and y / z (N, T, J, 2), 0 where a joint is missing."""
        return self.position[..., :2] / self.position[..., 2:] * (self.seen > 0)[..., None]


_FOCAL, _PRINCIPAL = 1100.0, (640.0, 360.0)    # px
_OF_PEOPLE = {
    'rays': lambda people: people.rays,
    'confidence': lambda people: people.seen,
    'age': lambda people: people.age,
    'up': lambda people: people.up,
    'landmarks': lambda people: people.landmarks,
    'stature': lambda people: people.stature,
    'attributes': lambda people: people.attributes,
    'pixels': lambda people: (_FOCAL * people.position[..., :2] / people.position[..., 2:] + _PRINCIPAL)[:, 0],
    'principal_point': lambda people: np.tile(_PRINCIPAL, (len(people.age), 1)),
    'focal_length': lambda people: np.full((len(people.age), 1), _FOCAL),
}


def _frames(shapes: Mapping[str, Shape]) -> int:
    """Return how many moments of a person a network is shown."""
    return next((shapes[name][1] or 1 for name in ('age', 'confidence') if len(shapes.get(name, ())) > 1), 1)


def _step(metadata: Mapping[str, str]) -> float | None:
    """Return the seconds between the moments that a network is shown, None where they need not be even."""
    try:
        return float(metadata['step_s']) if 'step_s' in metadata else None
    except ValueError as error:
        raise EngineError(f"metadata step_s {metadata['step_s']!r} of the model is no number; correct it") from error


def _joints(metadata: Mapping[str, str], name: str) -> tuple[str, ...]:
    try:
        joints = json.loads(metadata.get(name, '[]'))
    except ValueError as error:
        raise EngineError(f'metadata {name} of the model is not JSON ({error}); correct it') from error
    return tuple(joints)


def _place(joint: str, seated: bool) -> tuple[float, float, float]:
    side, _, part = joint.partition('_')
    if seated and part in _SEATED:
        x, y, z = _SEATED[part]
        return (x if side == 'left' else -x, y, z)
    return _BODY.get(joint, (0.0, -0.3, 0.0))


def _attributes(joints: tuple[str, ...], seated: bool) -> NDArray:
    """Return probabilities (A, 3) of front, back and level with the torso; the front is where the camera stands."""
    ahead = -np.array([_place(joint, seated)[2] for joint in joints]).reshape(-1)
    front, back = (1 / (1 + np.exp(_SLOPE * (_LEVEL - side * ahead))) for side in (1, -1))
    return np.stack([front, back, 1 - front - back], axis=1)
