"""Evidence of pose attributes as an image network or a detector would give it, for people whose pose is known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose3d_ros.attributes import (
    ATTRIBUTE_JOINTS,
    ATTRIBUTE_MIRROR,
    BACK,
    FRONT,
    KIND_OF,
    KINDS,
    ON_PLANE,
    PLANE_JOINTS,
    labels,
    probabilities,
)
from pose3d_ros.lift import INPUTS
from pose3d_ros.train.error_fit import ErrorModelError, read_model

Floats = NDArray[np.float64]

SHIPPED = 'blazepose_full_attributes'
# Wang et al., Table 4: Human3.6M, mixed training with domain adaptation; 0.84 in the mean of these.
PAPER_ACCURACY = {'head': 0.794, 'elbow': 0.826, 'wrist': 0.884, 'knee': 0.859, 'ankle': 0.836}
# Who takes a joint in front for anything else takes it for one on the plane, mostly.
_NEAR_MISS = 0.8
_TRUNK = [INPUTS.index(joint) for joint in PLANE_JOINTS[:4]]
_LIMBS = [INPUTS.index('ears' if joint == 'head' else joint) for joint in ATTRIBUTE_JOINTS]


@dataclass(frozen=True)
class AttributeErrors:
    """A detector's signed distances to the torso plane, in trunk lengths: seen = gain true + bias + error.

    bias (9,), covariance (9, 9) of the error: of ATTRIBUTE_JOINTS, alike on both sides; a torso plane that is off moves
    many joints at once. usual (5, Q): quantiles at (i + 1/2) / Q of the true distances of KINDS in everyday motion,
    from which probabilities follow. source: which detector, on what.
    """

    gain: float
    bias: Floats
    covariance: Floats
    usual: Floats
    source: str

    def __post_init__(self) -> None:
        joints = len(ATTRIBUTE_JOINTS)
        for name, shape in (('bias', (joints,)), ('covariance', (joints, joints)), ('usual', (len(KINDS), -1))):
            found = getattr(self, name).shape
            if len(found) != len(shape) or any(a not in (b, -1) for a, b in zip(shape, found)):
                raise ErrorModelError(f'{name} is {found}, expected {shape}')
        if not np.linalg.eigvalsh(self.covariance)[0] > 0:
            raise ErrorModelError('covariance is not positive definite')

    def sample(self, distances: ArrayLike, rng: np.random.Generator) -> Floats:
        """Return seen distances (N, 9) for true ones (N, 9), both in trunk lengths; NaN stays NaN."""
        true = np.asarray(distances, dtype=np.float64)
        error = rng.standard_normal(true.shape) @ np.linalg.cholesky(self.covariance).T
        return np.asarray(self.gain * true + self.bias + error)

    def of_kind(self, kind: int) -> tuple[float, float]:
        """Return bias and standard deviation of one of KINDS."""
        joint = int(np.argmax(kind == KIND_OF))
        return float(self.bias[joint]), float(np.sqrt(self.covariance[joint, joint]))

    def to_json(self) -> str:
        """Return the model as JSON text, for `from_json`."""
        content = {
            'source': self.source, 'unit': 'trunk length', 'joints': list(ATTRIBUTE_JOINTS),
            'gain': round(self.gain, 4), 'bias': np.round(self.bias, 4).tolist(),
            'covariance': np.round(self.covariance, 6).tolist(),
            'usual': {kind: np.round(values, 3).tolist() for kind, values in zip(KINDS, self.usual)}}
        lines = (f' {json.dumps(name)}: {json.dumps(value)}' for name, value in content.items())
        return '{\n' + ',\n'.join(lines) + '\n}\n'

    @classmethod
    def from_json(cls, text: str) -> AttributeErrors:
        """Read what `to_json` wrote. Raises ErrorModelError."""
        try:
            content = json.loads(text)
            if tuple(content['joints']) != ATTRIBUTE_JOINTS:
                raise ErrorModelError(f'joints are {content["joints"]}, expected {", ".join(ATTRIBUTE_JOINTS)}')
            return cls(float(content['gain']), np.array(content['bias'], dtype=np.float64),
                       np.array(content['covariance'], dtype=np.float64),
                       np.array([content['usual'][kind] for kind in KINDS], dtype=np.float64), str(content['source']))
        except ErrorModelError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise ErrorModelError(f'not a model of attribute errors: {error}') from error


def load_attribute_errors(name: str | Path = SHIPPED) -> AttributeErrors:
    """Return the model that comes with the package, or that of a .json file. Raises ErrorModelError."""
    return read_model(name, AttributeErrors.from_json, 'attribute errors')


def simulated(distances: ArrayLike, evidence: AttributeErrors | Mapping[str, float] | float,
              rng: np.random.Generator) -> NDArray[np.float32]:
    """Return probabilities (N, 9, 3) of front, back, on-plane, as evidence for people whose pose is known.

    distances (N, 9): attributes.relative_distances of the joints, NaN where unknown (gives zeros). evidence: a
    detector's errors, which go the way of attributes.from_person; or how often labels are right (of each of KINDS or of
    all), which gives certain statements, sometimes wrong, as the paper's image network does.
    """
    if isinstance(evidence, AttributeErrors):
        return probabilities(evidence.sample(distances, rng)).astype(np.float32)
    return confused(labels(distances), evidence, rng)


def confused(truth: ArrayLike, accuracy: Mapping[str, float] | float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return labels (N, 9), -1 where unknown, as probabilities 0 and 1 (N, 9, 3), right in such a share of the cases.

    accuracy: in 0..1, of each of KINDS or of all. Where wrong, front and back turn to on-plane, seldom into each
    other; on-plane turns to front or back.
    """
    right = np.asarray(truth)
    share = (np.array([accuracy[kind] for kind in KINDS])[KIND_OF] if isinstance(accuracy, Mapping)
             else np.full(len(ATTRIBUTE_JOINTS), accuracy))
    if not ((share >= 0) & (share <= 1)).all():
        raise ValueError(f'accuracy is {accuracy}, expected 0 to 1')
    which = rng.random(right.shape)
    opposite = np.where(right == FRONT, BACK, FRONT)
    wrong = np.where(right == ON_PLANE, np.where(which < 0.5, FRONT, BACK),
                     np.where(which < _NEAR_MISS, ON_PLANE, opposite))
    said = np.where(rng.random(right.shape) < share, right, wrong)
    return ((said[..., None] == np.arange(3)) & (right >= 0)[..., None]).astype(np.float32)


def knowable(confidence: NDArray) -> NDArray[np.bool_]:
    """Return of which ATTRIBUTE_JOINTS (N, 9) a detector could say anything that sees the input joints so.

    confidence (N, 13) of lift.INPUTS, 0 where hidden: it takes the joint itself, both shoulders and both hips.
    """
    seen = np.asarray(confidence) > 0
    return np.asarray(seen[:, _LIMBS] & seen[:, _TRUNK].all(axis=1, keepdims=True))


def symmetric(values: Floats) -> Floats:
    """Return (9,) or (9, 9) of ATTRIBUTE_JOINTS, averaged with its mirror image."""
    other = values[ATTRIBUTE_MIRROR] if values.ndim == 1 else values[ATTRIBUTE_MIRROR][:, ATTRIBUTE_MIRROR]
    return np.asarray(0.5 * (values + other))
