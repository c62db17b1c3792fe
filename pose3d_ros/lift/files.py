"""Which lifters come with the package, and what an ONNX file has to be to be a lifter."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from pose3d_ros.attributes import ATTRIBUTE_JOINTS
from pose3d_ros.lift.joints import INPUTS
from pose3d_ros.past import AGES, EvenPast, Past
from pose3d_ros.skeleton import HUMAN17

if TYPE_CHECKING:
    from pose3d_ros.runtime.engine import Engine

# The lifters that ship: what `lifter` calls them, and their file in pose3d_ros/weights.
LIFTERS = {'window': 'lifter.onnx', 'parts': 'parts.onnx', 'posenet3d': 'posenet3d.onnx'}
DEFAULT_LIFTER = 'window'

ENGINE_INPUTS = ('rays', 'confidence', 'age', 'up', 'landmarks', 'stature')
REQUIRED_INPUTS = ('rays', 'confidence', 'stature')    # a lifter is shown what else of them it takes
ENGINE_OUTPUTS = ('relative', 'root', 'covariance')
# Further outputs of lifters that give bodies (records.BodyPose), all or none: (N, 24, 3, 3), (N, b), (N, 1), (N, 3) m.
BODY_OUTPUTS = ('rotations', 'shape', 'scale', 'body_root')
ATTRIBUTES = 'attributes'    # a further input (N, 9, 3) of some lifters: probabilities as pose3d_ros/attributes.py has
WINDOW = 1 + len(AGES)       # frames a lifter is shown: the newest, and some of the past

_STEPS_S, _MOST_FRAMES = (1e-3, 10.0), 1000    # what windows at even steps may be like

_CURE = f'choose {", ".join(LIFTERS)}, or a file of this version of `pose3d export` or `pose3d adapt`'


class LiftModelError(ValueError):
    """A name that no lifter has, or a file that is none or lacks what must be known about it; names the cure."""


def lifter_name(lifter: str) -> str:
    """Return a name or file that can be a lifter, as it is; raise LiftModelError naming what is possible."""
    if lifter not in LIFTERS and not lifter.endswith('.onnx'):
        raise LiftModelError(f'lifter {lifter!r} is none of {", ".join(LIFTERS)}, nor an .onnx file')
    return lifter


def lifter_file(lifter: str | Path = DEFAULT_LIFTER) -> Path:
    """Return the file of a lifter: of one that ships by its name, or the .onnx file itself.

    Raises LiftModelError for what can be neither; whether the file is there is not looked at.
    """
    name = lifter_name(str(lifter))
    return Path(str(resources.files('pose3d_ros') / 'weights' / LIFTERS[name])) if name in LIFTERS else Path(name)


def stature_of(engine: Engine) -> tuple[float, float]:
    """Return the stature that a lifter takes unmeasured people to have, and its standard deviation (m).

    Raises LiftModelError where the file lacks metadata, wants what nobody can show it, or is for other joints.
    """
    wanted = [('is shown', 'input_joints', INPUTS), ('gives', 'output_joints', HUMAN17.joints)]
    if ATTRIBUTES in engine.inputs:
        wanted.append(('takes the attributes of', 'attribute_joints', ATTRIBUTE_JOINTS))
    if unknown := [name for name in engine.inputs if name not in (*ENGINE_INPUTS, ATTRIBUTES)]:
        raise LiftModelError(f'the lifting model wants the input {unknown[0]!r}, which this version does not give; '
                             f'{_CURE}')
    try:
        for what, name, joints in wanted:
            found = tuple(json.loads(engine.metadata[name]))
            if found != joints:
                raise LiftModelError(f'the lifting model {what} {", ".join(map(str, found))}; expected '
                                     f'{", ".join(joints)}; {_CURE}')
        name = 'stature'
        value, sigma = map(float, json.loads(engine.metadata[name]))
    except LiftModelError:
        raise
    except KeyError as error:
        raise LiftModelError(f'the lifting model has no metadata {error}: export it with `pose3d export`') from None
    except (TypeError, ValueError) as error:
        raise LiftModelError(f'metadata {name} of the lifting model cannot be read ({error}); {_CURE}') from error
    return value, sigma


def past_of(engine: Engine) -> Past | EvenPast:
    """Return what gathers the past that a lifter is shown.

    Where metadata `step_s` [s] is there, that is `frames` frames at even steps, else frames of about past.AGES. Raises
    LiftModelError for numbers that cannot be, or that do not fit the file's inputs.
    """
    past: Past | EvenPast
    if 'step_s' in engine.metadata:
        frames, told = round(_number(engine, 'frames', 1, _MOST_FRAMES)), 'its metadata say'
        past = EvenPast(len(INPUTS), _number(engine, 'step_s', *_STEPS_S), frames)
    elif 'age' in engine.inputs:
        frames, told = WINDOW, 'this version shows it'
        past = Past(len(INPUTS))
    else:
        raise LiftModelError("the lifting model has neither metadata 'step_s' nor the input 'age', so that its frames "
                             f'are of no known moments; {_CURE}')
    sizes = [size for size in engine.input_shapes['rays'][1:2] if size not in (None, frames)]
    if sizes:
        raise LiftModelError(f'the lifting model takes {sizes[0]} frames, but {told} {frames}; {_CURE}')
    return past


def _number(engine: Engine, name: str, least: float, most: float) -> float:
    """Return a number of the metadata, within limits. Raises LiftModelError."""
    if name not in engine.metadata:
        raise LiftModelError(f'the lifting model has no metadata {name!r}: export it with `pose3d export`')
    try:
        value = float(engine.metadata[name])
    except ValueError:
        value = float('nan')
    if not least <= value <= most:
        raise LiftModelError(f'metadata {name} of the lifting model is {engine.metadata[name]!r}, expected {least:g} '
                             f'to {most:g}; {_CURE}')
    return value


def body_model_of(engine: Engine) -> tuple[str, str] | None:
    """Return name and SHA-256 (of the .npz file) of the body model that a lifter's bodies are of; None without bodies.

    Raises LiftModelError where the file gives some of the outputs of a body, or does not say of which model it is.
    """
    given = [name for name in BODY_OUTPUTS if name in engine.outputs]
    if not given:
        return None
    if lacking := [name for name in BODY_OUTPUTS if name not in given]:
        raise LiftModelError(f'the lifting model gives {", ".join(given)} of a body, but not {", ".join(lacking)}; '
                             f'{_CURE}')
    found = {name: engine.metadata.get(name, '') for name in ('body_model', 'body_model_sha256')}
    if lacking := [name for name, value in found.items() if not value]:
        raise LiftModelError(f'the lifting model gives bodies and has no metadata {lacking[0]!r}: export it with '
                             '`pose3d export`')
    name, digest = found.values()
    if not re.fullmatch('[0-9a-f]{64}', digest):
        raise LiftModelError(f'metadata body_model_sha256 of the lifting model is {digest!r}, expected 64 hexadecimal '
                             f'digits; {_CURE}')
    return name, digest
