"""From 2D joints to absolute 3D joints with covariance: one camera, metres in the camera's optical frame.

The network (nets/window.py) is shown one person's joints as rays, with a few moments of the past, and works in units
of that person's stature. Stature is what one camera cannot see: it is assumed (that of adults), given, or learnt later
from the floor, and its uncertainty is part of the covariances.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose3d_ros.camera import Camera
from pose3d_ros.past import AGES, Past
from pose3d_ros.records import JointState, Person2D, Person3D
from pose3d_ros.skeleton import BLAZEPOSE33, HUMAN17, LIMBS12, SKELETONS, Skeleton

if TYPE_CHECKING:
    from pose3d_ros.runtime.engine import Engine, Wanted

SHIPPED = 'lifter.onnx'
ENGINE_INPUTS = ('rays', 'confidence', 'age', 'up', 'landmarks', 'stature')
ENGINE_OUTPUTS = ('relative', 'root', 'covariance')

# What the lifter is shown. `ears` is the point midway between the ears: detectors find it from every side, and it lies
# between the neck and head joints of motion capture.
INPUTS = (*LIMBS12.joints, 'ears')
WINDOW = 1 + len(AGES)    # frames it is shown: the newest, and some of the past
# An input joint that detectors do not give directly is the mean of those they do.
MIDPOINTS = {'ears': ('left_ear', 'right_ear')}
# Where an input joint without a namesake lies on the output skeleton: joint and share.
MADE_OF = {'ears': (('neck', 0.75), ('head', 0.25))}
TORSO = ('left_shoulder', 'right_shoulder', 'left_hip', 'right_hip')
# Output joints without a measurement of their own: they are as sure as these input joints together.
INFERRED_FROM = {
    'pelvis': TORSO,
    'spine': TORSO,
    'thorax': ('left_shoulder', 'right_shoulder'),
    'neck': ('left_shoulder', 'right_shoulder', 'ears'),
    'head': ('left_shoulder', 'right_shoulder', 'ears'),
}
# Skeletons whose hips, ankles and shoulders are landmarks on the body, beside the centres of the joints.
OF_LANDMARKS = (BLAZEPOSE33,)
# A person with less in view is left out: nothing could be said about the distance.
MIN_INPUTS, MIN_TORSO = 4, 2

LEAST_CONFIDENCE = 0.05   # of a joint that has a position at all: 0 would mean missing
GIVEN_SIGMA = 0.03        # m, standard deviation of a stature that somebody measured: bodies of one height differ


class LiftModelError(ValueError):
    """A lifting model that lacks what the lifter must know about it."""


@dataclass(frozen=True)
class Lifted:
    """N people in space, all joints of HUMAN17 (`joints` has the names), in the camera's optical frame.

    position (N, 17, 3) m; covariance (N, 17, 3, 3) m^2 of these absolute positions; state (N, 17) uint8, OBSERVED for
    a joint that was seen itself, INFERRED for all others; confidence (N, 17) in 0..1, 0 for a joint that nothing seen
    speaks for; stature (N,) m that the people are taken to have, and its standard deviation stature_sigma (N,) m.
    People of whom too little was seen are NaN throughout, with state MISSING.
    """

    position: NDArray[np.float64]
    covariance: NDArray[np.float64]
    state: NDArray[np.uint8]
    confidence: NDArray[np.float64]
    stature: NDArray[np.float64]
    stature_sigma: NDArray[np.float64]
    joints: tuple[str, ...] = HUMAN17.joints


@lru_cache(maxsize=8)
def _sources(skeleton: Skeleton) -> NDArray[np.float32]:
    """Return a matrix (13, S), 1 where a joint of the skeleton serves an input joint."""
    matrix = np.zeros((len(INPUTS), len(skeleton)), dtype=np.float32)
    for position, joint in enumerate(INPUTS):
        for name in MIDPOINTS.get(joint, (joint,)):
            if name in skeleton.joints:
                matrix[position, skeleton.index(name)] = 1
    return matrix


def input_rays(skeleton: Skeleton, rays: NDArray, confidence: NDArray) -> tuple[NDArray[np.float32],
                                                                                NDArray[np.float32]]:
    """Return the network's input joints, rays (N, 13, 2) and confidence (N, 13), of people in any skeleton.

    rays (N, S, 2), NaN where missing; confidence (N, S). A joint that the skeleton lacks, or that is NaN, comes back
    with ray and confidence 0.
    """
    seen = np.isfinite(rays[..., 0] + rays[..., 1])
    values = np.empty((*seen.shape, 4), dtype=np.float32)
    values[..., :2] = rays
    values[..., 2] = np.minimum(np.fmax(confidence, LEAST_CONFIDENCE), 1)
    values[..., 3] = 1
    values[~seen] = 0
    total = _sources(skeleton) @ values                                            # (N, 13, 4)
    total[..., :3] /= np.maximum(total[..., 3:], 1)
    return total[..., :2], total[..., 2]


# (13, 2): which input joints count as such, and which as part of the trunk.
_COUNTED = np.array([[1, joint in TORSO] for joint in INPUTS], dtype=np.float32)


def enough_seen(confidence: NDArray) -> NDArray[np.bool_]:
    """Return which people (N,) show enough to be lifted: 4 input joints (N, 13), 2 of them shoulders or hips."""
    return np.asarray(((confidence > 0) @ _COUNTED >= (MIN_INPUTS, MIN_TORSO)).all(axis=1))


@lru_cache(maxsize=1)
def input_points() -> NDArray[np.float64]:
    """Return the matrix (13, 17) that makes the input joints from HUMAN17 joints."""
    matrix = np.zeros((len(INPUTS), len(HUMAN17)))
    for position, joint in enumerate(INPUTS):
        for name, share in MADE_OF.get(joint, ((joint, 1.0),)):
            matrix[position, HUMAN17.index(name)] = share
    return matrix


@lru_cache(maxsize=1)
def _rests_on() -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the shares (17, 13) of input joints in each output joint's confidence, and its state (17,) if seen."""
    matrix = np.zeros((len(HUMAN17), len(INPUTS)), dtype=np.float32)
    for position, joint in enumerate(HUMAN17.joints):
        for name in INFERRED_FROM.get(joint, (joint,)):
            matrix[position, INPUTS.index(name)] = 1
    state = [JointState.INFERRED if joint in INFERRED_FROM else JointState.OBSERVED for joint in HUMAN17.joints]
    return matrix / matrix.sum(axis=1, keepdims=True), np.array(state, dtype=np.uint8)


def joint_states(confidence: NDArray) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return state and confidence (N, 17) of the output joints, from the confidences (N, 13) of the input joints.

    OBSERVED: seen itself. INFERRED: the joints that no detector gives, and those out of view; their confidence is the
    mean of what they are inferred from, 0 for a joint out of view.
    """
    shares, state = _rests_on()
    sure = confidence @ shares.T
    return np.where(sure > 0, state, np.uint8(JointState.INFERRED)), sure.astype(np.float64)


class Lifter:
    """Lifts the people of one image, all at once. State: a short past of each id; `reset()` forgets it.

    stature, stature_sigma: m, what people are taken to measure. dropped: people left out since the start, for showing
    too little.
    """

    def __init__(self, engine: Engine, stature: float | None = None) -> None:
        """Raise LiftModelError when the model does not say what its joints are, or they are not this package's."""
        self.engine = engine
        self.dropped = 0
        self.stature: float
        self.stature_sigma: float
        try:
            inputs, outputs = (tuple(json.loads(engine.metadata[f'{name}_joints'])) for name in ('input', 'output'))
            prior = json.loads(engine.metadata['stature'])
        except KeyError as error:
            raise LiftModelError(f'the lifting model has no metadata {error}: export it with `pose3d export`') from None
        for what, found, wanted in (('is shown', inputs, INPUTS), ('gives', outputs, HUMAN17.joints)):
            if found != wanted:
                raise LiftModelError(f'the lifting model {what} {", ".join(found)}; expected {", ".join(wanted)}')
        self.stature, self.stature_sigma = (stature, GIVEN_SIGMA) if stature else map(float, prior)
        self._past = Past(len(INPUTS))

    @classmethod
    def open(cls, path: str | Path | None = None, engines: Wanted | None = None, stature: float | None = None,
             most: int = 8) -> Lifter:
        """Load the weights that come with the package, or others. Raises EngineError or LiftModelError.

        engines: of its threads, 0 takes one: the network is too small to gain from more. stature: m, of everybody who
        will be seen, if it is known. most: people that are usually lifted at once, at most.
        """
        from pose3d_ros.runtime.engine import Wanted
        from pose3d_ros.runtime.opening import open_engine

        file = Path(path) if path is not None else Path(str(resources.files('pose3d_ros') / 'weights' / SHIPPED))
        engines = engines or Wanted()
        engine = open_engine(file, replace(engines, threads=engines.threads or 1), most=most,
                             inputs=ENGINE_INPUTS, outputs=ENGINE_OUTPUTS)
        engine.warm_up()
        return cls(engine, stature)

    def reset(self) -> None:
        """Forget the past, as after a jump in time."""
        self._past.reset()

    def __call__(self, people: list[Person2D], camera: Camera, stamp_ns: int,
                 up: NDArray | None = None) -> list[Person3D]:
        """Return the people in 3D, in the order given, without those of whom too little is in view (counted).

        The people of one image come from one detector, hence in one skeleton (else ValueError). stamp_ns: exposure
        time; up (3,): unit vector away from the floor in the optical frame, where it is known.
        """
        if not people:
            return []
        skeleton = people[0].skeleton
        if any(person.skeleton is not skeleton for person in people):
            raise ValueError('the people of one image must have one skeleton')
        rays, confidence = input_rays(skeleton, np.stack([person.rays for person in people]),
                                      np.stack([person.joint_confidence for person in people]))
        enough = enough_seen(confidence)
        if not enough.all():
            self.dropped += len(people) - int(enough.sum())
            people = [person for person, is_enough in zip(people, enough) if is_enough]
            if not people:
                return []
            rays, confidence = rays[enough], confidence[enough]
        windows = self._past([person.id for person in people], rays, confidence, stamp_ns)
        position, covariance = self.run(*windows, up, landmarks=skeleton in OF_LANDMARKS)
        state, sure = joint_states(confidence)
        velocity = np.zeros_like(position)
        return [Person3D(HUMAN17, position[i], velocity[i], covariance[i], sure[i], state[i], person.confidence,
                         person.id, person.state, self.stature, self.stature_sigma) for i, person in enumerate(people)]

    def lift(self, keypoints: ArrayLike, confidence: ArrayLike, camera: Camera,
             skeleton: Skeleton | str = 'blazepose33', up: ArrayLike | None = None) -> Lifted:
        """Lift N people of one image without a past.

        keypoints (N, S, 2) px of the image as the camera gives it (distorted), NaN where missing; confidence (N, S) in
        0..1; skeleton: the S joints, or the name of one that the package knows. Raises ValueError for other shapes.
        """
        if isinstance(skeleton, str):
            if skeleton not in SKELETONS:
                raise ValueError(f'skeleton {skeleton!r}: expected one of {", ".join(SKELETONS)}')
            skeleton = SKELETONS[skeleton]
        pixels, sure = np.asarray(keypoints, dtype=np.float64), np.asarray(confidence, dtype=np.float64)
        if pixels.shape != (len(pixels), len(skeleton), 2) or sure.shape != pixels.shape[:2]:
            raise ValueError(f'keypoints {pixels.shape} and confidence {sure.shape}: expected (N, {len(skeleton)}, 2) '
                             f'and (N, {len(skeleton)}) for {skeleton.name}')
        rays, seen = input_rays(skeleton, camera.undistort(pixels), sure)
        enough = enough_seen(seen)
        position = np.full((len(pixels), len(HUMAN17), 3), np.nan)
        covariance = np.full((*position.shape, 3), np.nan)
        if enough.any():
            age = np.zeros((int(enough.sum()), 1), dtype=np.float32)
            position[enough], covariance[enough] = self.run(rays[enough, None], seen[enough, None], age, up,
                                                                  landmarks=skeleton in OF_LANDMARKS)
        state, sure = joint_states(seen)
        state[~enough], sure[~enough] = JointState.MISSING, 0
        return Lifted(position, covariance, state, sure, np.full(len(pixels), self.stature),
                      np.full(len(pixels), self.stature_sigma))

    def run(self, rays: NDArray, confidence: NDArray, age: NDArray, up: ArrayLike | None = None,
            stature: NDArray | None = None, landmarks: NDArray | bool = False) -> tuple[NDArray[np.float64],
                                                                                         NDArray[np.float64]]:
        """Return position (N, 17, 3) m and covariance (N, 17, 3, 3) m^2 of what the network is shown.

        rays (N, T, 13, 2), confidence (N, T, 13), age (N, T) s: newest first, of the ages of past.AGES or fewer;
        up (3,) or (N, 3); stature (N, 2): m, value and standard deviation, instead of the lifter's own; landmarks (N,)
        or one for all: the joints are what a detector of landmarks marks, such as BlazePose, not joint centres.
        """
        count, frames = age.shape
        arrays = {'rays': rays, 'confidence': confidence, 'age': age}
        if frames != WINDOW:
            for name, array in arrays.items():
                arrays[name] = np.zeros((count, WINDOW, *array.shape[2:]), dtype=np.float32)
                arrays[name][:, :frames] = array[:, :WINDOW]
        arrays['up'] = np.zeros((count, 3), dtype=np.float32)
        if up is not None:
            arrays['up'][:] = up
        arrays['landmarks'] = np.zeros((count, 1), dtype=np.float32)
        arrays['landmarks'][:, 0] = landmarks
        arrays['stature'] = np.empty((count, 2), dtype=np.float32)
        arrays['stature'][:] = (self.stature, self.stature_sigma) if stature is None else stature
        output = self.engine.run(arrays)
        position = output['root'][:, None].astype(np.float64) + output['relative']
        return position, output['covariance'].astype(np.float64)
