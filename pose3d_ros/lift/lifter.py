"""From 2D joints to absolute 3D joints with covariance: one camera, metres in the camera's optical frame.

The network (by default nets/window.py) is shown one person's joints as rays, with a few moments of the past, and works
in units of that person's stature. Stature is what one camera cannot see: it is assumed (that of adults), given, or
learnt later from the floor, and its uncertainty is part of the covariances. Other networks may be shown less, or a past
at even steps, and may give the surface of a body with the joints: their files say so (lift/files.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose3d_ros.attributes import ATTRIBUTE_JOINTS, from_people
from pose3d_ros.camera import Camera
from pose3d_ros.lift.bodies import bodies_of
from pose3d_ros.lift.files import (
    ATTRIBUTES,
    DEFAULT_LIFTER,
    ENGINE_OUTPUTS,
    REQUIRED_INPUTS,
    body_model_of,
    lifter_file,
    past_of,
    stature_of,
)
from pose3d_ros.lift.joints import OF_LANDMARKS, enough_seen, input_rays, joint_states
from pose3d_ros.records import BodyPose, JointState, Person2D, Person3D
from pose3d_ros.skeleton import HUMAN17, SKELETONS, Skeleton

if TYPE_CHECKING:
    from pose3d_ros.runtime.engine import Engine, Wanted

GIVEN_SIGMA = 0.03    # m, standard deviation of a stature that somebody measured: bodies of one height differ


@dataclass(frozen=True)
class Lifted:
    """N people in space, all joints of HUMAN17 (`joints` has the names), in the camera's optical frame.

    position (N, 17, 3) m; covariance (N, 17, 3, 3) m^2 of these absolute positions; state (N, 17) uint8, OBSERVED for
    a joint that was seen itself, INFERRED for all others; confidence (N, 17) in 0..1, 0 for a joint that nothing seen
    speaks for; stature (N,) m that the people are taken to have, and its standard deviation stature_sigma (N,) m.
    body: of each of them, None from a lifter that gives none. People of whom too little was seen are NaN throughout,
    with state MISSING and no body.
    """

    position: NDArray[np.float64]
    covariance: NDArray[np.float64]
    state: NDArray[np.uint8]
    confidence: NDArray[np.float64]
    stature: NDArray[np.float64]
    stature_sigma: NDArray[np.float64]
    joints: tuple[str, ...] = HUMAN17.joints
    body: tuple[BodyPose | None, ...] = ()


class Lifter:
    """Lifts the people of one image, all at once. State: a short past of each id; `reset()` forgets it.

    stature, stature_sigma: m, what people are taken to measure. dropped: people left out since the start, for showing
    too little: less than enough_seen() asks of everybody, or than this network needs to place somebody, which then says
    NaN (that of bodies, for example, needs both hips, against which it takes all other joints).
    """

    def __init__(self, engine: Engine, stature: float | None = None) -> None:
        """Raise LiftModelError when the model does not say what its joints are, or they are not this package's."""
        self.engine = engine
        self.dropped = 0
        self.stature, self.stature_sigma = stature_of(engine)
        self._body_model = body_model_of(engine)
        if stature:
            self.stature, self.stature_sigma = stature, GIVEN_SIGMA
        self._takes = frozenset(engine.inputs)
        self._past = past_of(engine)

    @classmethod
    def open(cls, lifter: str | Path = DEFAULT_LIFTER, engines: Wanted | None = None, stature: float | None = None,
             most: int = 8) -> Lifter:
        """Load a lifter that comes with the package by its name, or an .onnx file.

        engines: of its threads, 0 takes one: the network is too small to gain from more. stature: m, of everybody who
        will be seen, if it is known. most: people that are usually lifted at once, at most. Raises EngineError or
        LiftModelError.
        """
        from pose3d_ros.runtime.engine import Wanted
        from pose3d_ros.runtime.opening import open_engine

        engines = engines or Wanted()
        engine = open_engine(lifter_file(lifter), replace(engines, threads=engines.threads or 1), most=most,
                             inputs=REQUIRED_INPUTS, outputs=ENGINE_OUTPUTS)
        try:
            opened = cls(engine, stature)
            engine.warm_up()
        except Exception:
            engine.close()
            raise
        return opened

    @property
    def body_model(self) -> tuple[str, str] | None:
        """Name and SHA-256 (of the .npz file) of the model that Person3D.body is of; None: it gives no bodies."""
        return self._body_model

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
        rays, confidence = input_rays(skeleton, np.array([person.rays for person in people]),
                                      np.array([person.joint_confidence for person in people]))
        enough = enough_seen(confidence)
        if not enough.all():
            self.dropped += len(people) - int(enough.sum())
            people = [person for person, is_enough in zip(people, enough) if is_enough]
            if not people:
                return []
            rays, confidence = rays[enough], confidence[enough]
        windows = self._past([person.id for person in people], rays, confidence, stamp_ns)
        attributes = attributes_of(people) if ATTRIBUTES in self._takes else None
        position, covariance, bodies = self._run(*windows, up, landmarks=skeleton in OF_LANDMARKS,
                                                 attributes=attributes)
        placed = np.isfinite(position.sum(axis=(1, 2)))
        self.dropped += len(people) - np.count_nonzero(placed)
        state, sure = joint_states(confidence)
        velocity = np.zeros_like(position)
        return [Person3D(HUMAN17, position[i], velocity[i], covariance[i], sure[i], state[i], person.confidence,
                         person.id, person.state, self.stature, self.stature_sigma, bodies[i])
                for i, person in enumerate(people) if placed[i]]

    def lift(self, keypoints: ArrayLike, confidence: ArrayLike, camera: Camera,
             skeleton: Skeleton | str = 'blazepose33', up: ArrayLike | None = None,
             attributes: ArrayLike | None = None) -> Lifted:
        """Lift N people of one image without a past.

        keypoints (N, S, 2) px of the image as the camera gives it (distorted), NaN where missing; confidence (N, S) in
        0..1; skeleton: the S joints, or the name of one that the package knows; attributes (N, 9, 3): probabilities,
        zeros or NaN where unknown, for a lifter that takes them (pose3d_ros/attributes.py). Raises ValueError for other
        shapes.
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
        told = None if attributes is None else np.array(attributes, dtype=np.float32)
        if told is not None:
            if told.shape != (len(pixels), len(ATTRIBUTE_JOINTS), 3):
                raise ValueError(f'attributes {told.shape}: expected ({len(pixels)}, {len(ATTRIBUTE_JOINTS)}, 3)')
            told[~np.isfinite(told).all(axis=-1)] = 0
        position = np.full((len(pixels), len(HUMAN17), 3), np.nan)
        covariance = np.full((*position.shape, 3), np.nan)
        body: list[BodyPose | None] = [None] * len(pixels)
        if enough.any():
            chosen = np.flatnonzero(enough)
            windows = self._past.fit(rays[chosen, None], seen[chosen, None], np.zeros((len(chosen), 1), np.float32))
            found, spread, bodies = self._run(*windows, up, landmarks=skeleton in OF_LANDMARKS,
                                              attributes=None if told is None else told[chosen])
            placed = np.isfinite(found.sum(axis=(1, 2)))
            enough[chosen] = placed
            position[chosen[placed]], covariance[chosen[placed]] = found[placed], spread[placed]
            for i in np.flatnonzero(placed):
                body[chosen[i]] = bodies[i]
        state, sure = joint_states(seen)
        state[~enough], sure[~enough] = JointState.MISSING, 0
        return Lifted(position, covariance, state, sure, np.full(len(pixels), self.stature),
                      np.full(len(pixels), self.stature_sigma), body=tuple(body))

    def run(self, rays: NDArray, confidence: NDArray, age: NDArray, up: ArrayLike | None = None,
            stature: NDArray | None = None, landmarks: NDArray | bool = False,
            attributes: NDArray | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return position (N, 17, 3) m and covariance (N, 17, 3, 3) m^2 of what the network is shown.

        rays (N, T, 13, 2), confidence (N, T, 13), age (N, T) s: newest first, of the ages of past.AGES or fewer (what a
        lifter of even steps is shown is interpolated between them); up (3,) or (N, 3); stature (N, 2): m, value and
        standard deviation, instead of the lifter's own; landmarks (N,) or one for all: the joints are what a detector
        of landmarks marks, such as BlazePose, not joint centres; attributes (N, 9, 3): probabilities of the newest
        frame, zeros (or None) where nobody knows; what takes none of them leaves them alone. A person whom the network
        cannot place is NaN.
        """
        return self._run(*self._past.fit(rays, confidence, age), up, stature, landmarks, attributes)[:2]

    def _run(self, rays: NDArray, confidence: NDArray, age: NDArray, up: ArrayLike | None = None,
             stature: NDArray | None = None, landmarks: NDArray | bool = False, attributes: NDArray | None = None,
             ) -> tuple[NDArray[np.float64], NDArray[np.float64], list[BodyPose | None]]:
        """Return position, covariance as run() does, and the bodies, of windows as the network takes them."""
        count, takes = len(age), self._takes
        arrays = {'rays': rays, 'confidence': confidence}
        if 'age' in takes:
            arrays['age'] = age
        if 'up' in takes:
            arrays['up'] = np.zeros((count, 3), dtype=np.float32)
            if up is not None:
                arrays['up'][:] = up
        if 'landmarks' in takes:
            arrays['landmarks'] = np.zeros((count, 1), dtype=np.float32)
            arrays['landmarks'][:, 0] = landmarks
        arrays['stature'] = np.empty((count, 2), dtype=np.float32)
        arrays['stature'][:] = (self.stature, self.stature_sigma) if stature is None else stature
        if ATTRIBUTES in takes:
            arrays[ATTRIBUTES] = np.zeros((count, len(ATTRIBUTE_JOINTS), 3), dtype=np.float32)
            if attributes is not None:
                arrays[ATTRIBUTES][:] = attributes
        output = self.engine.run(arrays)
        position = output['root'][:, None].astype(np.float64) + output['relative']
        bodies: list[BodyPose | None] = bodies_of(output) if self._body_model is not None else [None] * count
        return position, output['covariance'].astype(np.float64), bodies


def attributes_of(people: list[Person2D]) -> NDArray[np.float32]:
    """Return the pose attributes (N, 9, 3) of people of one skeleton: the detector's own, or what its depth says."""
    told = from_people(people)
    for place, person in zip(told, people):
        if person.attributes is not None:
            place[:] = person.attributes
    return told
