"""From 2D joints to absolute 3D joints: one camera, one frame, metres in the camera's optical frame.

The network (nets/absolute.py, AbsPoseLifter) gives the pose relative to the pelvis and the depth of the pelvis. Where
the pelvis lies across the view follows from all rays at once, so half a body has a root too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.camera import Camera
from pose3d_ros.records import JointState, Person2D, Person3D
from pose3d_ros.skeleton import HUMAN17, LIMBS12, Skeleton, select
from pose3d_ros.stature import stature

if TYPE_CHECKING:
    from pose3d_ros.runtime.engine import Engine

SHIPPED = 'absolute.onnx'
ENGINE_INPUTS, ENGINE_OUTPUTS = ('rays', 'confidence'), ('relative', 'depth')

# What the lifter is shown. `ears` is the point midway between the ears: detectors find it from every side, and it lies
# between the neck and head joints of motion capture.
INPUTS = (*LIMBS12.joints, 'ears')
WINDOW = 5                # frames it is shown at most: the newest, and some of the past
# An input joint that detectors do not give directly is the mean of those they do.
MIDPOINTS = {'ears': ('left_ear', 'right_ear')}
# Where an input joint without a namesake lies on the output skeleton: joint and share.
MADE_OF = {'ears': (('neck', 0.75), ('head', 0.25))}
TORSO = ('left_shoulder', 'right_shoulder', 'left_hip', 'right_hip')
# Output joints without a measurement of their own, and the input joints of which one must be seen to infer them.
INFERRED_FROM = {
    'pelvis': TORSO,
    'spine': TORSO,
    'thorax': ('left_shoulder', 'right_shoulder'),
    'neck': ('left_shoulder', 'right_shoulder', 'ears'),
    'head': ('left_shoulder', 'right_shoulder', 'ears'),
}
# A person with less in view is left out: nothing could be said about the distance.
MIN_INPUTS, MIN_TORSO = 4, 2
WHOLE_BODY = (*TORSO, 'left_knee', 'right_knee', 'left_ankle', 'right_ankle')

LEAST_CONFIDENCE = 0.05   # of a joint that has a position at all: 0 would mean missing
DOUBT_SIGMA = 2.0         # a joint found with confidence 0 is taken to be (1 + this) times less exact
OUTLIER = 0.10            # m: residuals beyond this count for little when the root is placed
NEAREST = 0.1             # m: no joint is taken to be nearer than this to the camera plane


class LiftModelError(ValueError):
    """A lifting model that lacks what the lifter must know about it."""


@dataclass(frozen=True)
class Uncertainty:
    """One standard deviation of what the network gives, measured on validation data and stored in the model file.

    root_depth (J + 1,): relative, of the root depth, by the number of input joints seen. across, along (2, 17) m: of
    each joint against the root, across and along its ray; row 0 for observed joints, row 1 for inferred ones. spread
    (J + 1,): factor of across and along, by the number of input joints seen.
    """

    root_depth: NDArray[np.float64]
    spread: NDArray[np.float64]
    across: NDArray[np.float64]
    along: NDArray[np.float64]

    @classmethod
    def from_json(cls, text: str) -> Uncertainty:
        """Read what to_json wrote."""
        values = json.loads(text)
        return cls(**{part.name: np.asarray(values[part.name], dtype=np.float64) for part in fields(cls)})

    def to_json(self) -> str:
        """Return the values as JSON, for the model's metadata."""
        return json.dumps({part.name: np.round(getattr(self, part.name), 5).tolist() for part in fields(self)})


@lru_cache(maxsize=8)
def _sources(skeleton: Skeleton, inputs: tuple[str, ...]) -> NDArray[np.float64]:
    """Return a matrix (J, S), 1 where a joint of the skeleton serves an input joint."""
    matrix = np.zeros((len(inputs), len(skeleton)))
    for position, joint in enumerate(inputs):
        for name in MIDPOINTS.get(joint, (joint,)):
            if name in skeleton.joints:
                matrix[position, skeleton.index(name)] = 1
    return matrix


def input_rays(skeleton: Skeleton, rays: NDArray, confidence: NDArray,
               inputs: tuple[str, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the network's inputs, rays (N, J, 2) and confidence (N, J), from people's joints in any skeleton.

    rays (N, S, 2), NaN where missing; confidence (N, S). A joint that the skeleton lacks, or that is NaN, comes back
    with ray and confidence 0.
    """
    seen = np.isfinite(rays).all(axis=-1)
    sources = _sources(skeleton, inputs) * seen[:, None]                          # (N, J, S)
    count = np.maximum(sources.sum(axis=-1), 1)
    chosen = sources @ np.where(seen[..., None], rays, 0) / count[..., None]
    sure = (sources @ np.clip(np.nan_to_num(confidence), LEAST_CONFIDENCE, 1)[..., None])[..., 0] / count
    return chosen.astype(np.float32), sure.astype(np.float32)


def enough_seen(confidence: NDArray, inputs: tuple[str, ...]) -> NDArray[np.bool_]:
    """Return which people (N,) show enough to be lifted: 4 input joints, 2 of them shoulders or hips."""
    seen = np.asarray(confidence) > 0
    torso = [inputs.index(joint) for joint in TORSO]
    return (seen.sum(axis=1) >= MIN_INPUTS) & (seen[:, torso].sum(axis=1) >= MIN_TORSO)


@lru_cache(maxsize=8)
def input_points(inputs: tuple[str, ...]) -> NDArray[np.float64]:
    """Return the matrix (J, 17) that makes the input joints from HUMAN17 joints."""
    matrix = np.zeros((len(inputs), len(HUMAN17)))
    for position, joint in enumerate(inputs):
        for name, share in MADE_OF.get(joint, ((joint, 1.0),)):
            matrix[position, HUMAN17.index(name)] = share
    return matrix


def root_position(rays: NDArray, confidence: NDArray, relative: NDArray, depth: NDArray,
                  inputs: tuple[str, ...]) -> NDArray[np.float64]:
    """Place the root so that the pose meets the rays: (N, 3) m in the optical frame.

    rays (N, J, 2) and confidence (N, J), 0 where missing; relative (N, 17, 3) m; depth (N,) m of the root.
    Equation 5 of AbsPoseLifter uses the root's own ray, R_x = r_x R_z. Here every seen joint i says the same of itself,
    R_x + X_i = x_i (R_z + Z_i), and the answers are averaged with weights; so the root need not be seen. Joints that
    disagree with the others by far more than OUTLIER hardly count (one step of reweighted least squares).
    """
    points = input_points(inputs) @ relative.astype(np.float64)
    z = np.maximum(np.asarray(depth, dtype=np.float64)[:, None] + points[..., 2], NEAREST)
    answers = rays * z[..., None] - points[..., :2]
    weight = np.where(confidence > 0, 1 / (1 + DOUBT_SIGMA * (1 - confidence)) ** 2, 0)[..., None]
    for _ in range(2):
        root = (weight * answers).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-9)
        residual = np.linalg.norm(answers - root[:, None], axis=-1, keepdims=True)
        weight = weight / (1 + (residual / OUTLIER) ** 2)
    return np.concatenate([root, np.asarray(depth, dtype=np.float64)[:, None]], axis=1)


@lru_cache(maxsize=8)
def _rests_on(inputs: tuple[str, ...]) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Return which input joints (17, J) each output joint rests on, and its state (17,) if one of them is seen."""
    matrix = np.zeros((len(HUMAN17), len(inputs)))
    for position, joint in enumerate(HUMAN17.joints):
        for name in INFERRED_FROM.get(joint, (joint,)):
            if name in inputs:
                matrix[position, inputs.index(name)] = 1
    state = [JointState.INFERRED if joint in INFERRED_FROM else JointState.OBSERVED for joint in HUMAN17.joints]
    return matrix, np.array(state, dtype=np.uint8)


def joint_states(confidence: NDArray, inputs: tuple[str, ...]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return state and confidence (N, 17) of the output joints, from the confidences (N, J) of the input joints.

    OBSERVED: seen itself. INFERRED: a joint that no detector gives, with one of its INFERRED_FROM seen; its confidence
    is their mean. MISSING: the rest, that is joints out of view.
    """
    sources, state = _rests_on(inputs)
    sure = confidence @ sources.T / np.maximum(sources.sum(axis=1), 1)
    return np.where(sure > 0, state, np.uint8(JointState.MISSING)), sure.astype(np.float64)


def joint_covariance(position: NDArray, state: NDArray, seen: NDArray, sigma: NDArray,
                     uncertainty: Uncertainty) -> NDArray[np.float64]:
    """Return covariances (N, 17, 3, 3) m^2 of absolute positions (N, 17, 3) m.

    state (N, 17); seen (N,) number of input joints seen; sigma (N, 17): standard deviation of the joint's ray, NaN
    where it has none. An error in the root depth moves the whole person along the pelvis' ray; to that come the joint's
    own errors, across its ray (never below what the 2D measurement allows) and along it.
    """
    root = position[:, :1]
    shift = uncertainty.root_depth[seen][:, None, None] * root
    spread = uncertainty.spread[seen][:, None]
    row = (state != JointState.OBSERVED).astype(np.intp)
    joints = np.arange(position.shape[1])
    across = np.fmax(spread * uncertainty.across[row, joints], sigma * np.maximum(position[..., 2], NEAREST)) ** 2
    along = (spread * uncertainty.along[row, joints]) ** 2
    ray = position / np.linalg.norm(position, axis=-1, keepdims=True)
    outer = ray[..., :, None] * ray[..., None, :]
    own = across[..., None, None] * np.eye(3) + (along - across)[..., None, None] * outer
    return own + shift[..., :, None] * shift[..., None, :]


class Lifter:
    """Lifts the people of one image, all at once. dropped: people left out since the start, for showing too little."""

    def __init__(self, engine: Engine) -> None:
        """Raise LiftModelError when the model does not say what its joints and uncertainties are."""
        self.engine = engine
        self.dropped = 0
        try:
            self.inputs = tuple(json.loads(engine.metadata['input_joints']))
            outputs = tuple(json.loads(engine.metadata['output_joints']))
            self.uncertainty = Uncertainty.from_json(engine.metadata['uncertainty'])
        except KeyError as error:
            raise LiftModelError(f'the lifting model has no metadata {error}: export it with `pose3d export`') from None
        if outputs != HUMAN17.joints:
            raise LiftModelError(f'the lifting model gives {", ".join(outputs)}; expected the joints of {HUMAN17.name}')

    @classmethod
    def open(cls, path: str | Path | None = None, runtime: str = 'auto', threads: int = 0) -> Lifter:
        """Load the weights that come with the package, or others. Raises EngineError or LiftModelError."""
        from pose3d_ros.runtime.opening import open_engine

        file = Path(path) if path is not None else Path(str(resources.files('pose3d_ros') / 'weights' / SHIPPED))
        engine = open_engine(file, runtime=runtime, threads=threads, inputs=ENGINE_INPUTS, outputs=ENGINE_OUTPUTS)
        engine.warm_up()
        return cls(engine)

    def __call__(self, people: list[Person2D], camera: Camera) -> list[Person3D]:
        """Return the people in 3D, in the order given, without those of whom too little is in view (counted).

        The people of one image come from one detector, hence in one skeleton (else ValueError).
        """
        if not people:
            return []
        skeleton = people[0].skeleton
        if any(person.skeleton is not skeleton for person in people):
            raise ValueError('the people of one image must have one skeleton')
        rays, confidence = input_rays(skeleton, np.stack([person.rays for person in people]),
                                      np.stack([person.joint_confidence for person in people]), self.inputs)
        enough = enough_seen(confidence, self.inputs)
        self.dropped += len(people) - int(enough.sum())
        if not enough.any():
            return []
        rays, confidence = rays[enough], confidence[enough]
        output = self.engine.run({'rays': rays, 'confidence': confidence})
        chosen = [person for person, is_enough in zip(people, enough) if is_enough]
        return self._assemble(chosen, rays, confidence, output, camera)

    def _assemble(self, people: Sequence[Person2D], rays: NDArray, confidence: NDArray, output: dict[str, NDArray],
                  camera: Camera) -> list[Person3D]:
        root = root_position(rays, confidence, output['relative'], output['depth'][:, 0], self.inputs)
        position = root[:, None] + output['relative']
        state, sure = joint_states(confidence, self.inputs)
        sigma = np.stack([person.sigma for person in people]) / camera.fx
        covariance = joint_covariance(position, state, (confidence > 0).sum(axis=1),
                                      select(sigma, people[0].skeleton, HUMAN17, axis=-1), self.uncertainty)
        whole = [self.inputs.index(joint) for joint in WHOLE_BODY]
        height = np.where((confidence[:, whole] > 0).all(axis=1), stature(position), np.nan)

        missing = state == JointState.MISSING
        position[missing] = np.nan
        covariance[missing] = np.nan
        velocity = np.where(missing[..., None], np.nan, np.zeros_like(position))
        return [Person3D(HUMAN17, position[i], velocity[i], covariance[i], sure[i], state[i], person.confidence,
                         person.id, person.state, float(height[i])) for i, person in enumerate(people)]
