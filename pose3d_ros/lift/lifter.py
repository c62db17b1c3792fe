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
from pose3d_ros.lift.files import (
    DEFAULT_LIFTER,
    ENGINE_OUTPUTS,
    REQUIRED_INPUTS,
    lifter_file,
)
from pose3d_ros.lift.handover import Handover
from pose3d_ros.lift.joints import OF_LANDMARKS, enough_seen, input_rays, joint_states
from pose3d_ros.lift.network import LiftNetwork, Shown
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
    too little: less than enough_seen() asks of everybody, or than the network needs to place somebody, which then says
    NaN (that of bodies, for example, needs both hips, against which it takes all other joints).

    A robot must not lose people who are half in view: where the network gives bodies, and therefore asks for more of
    people, there may be a spare one, which places those whom it cannot, without a body. spared: how many those were.
    Who passes from one to the other does not jump (Handover).
    """

    def __init__(self, engine: Engine, stature: float | None = None, spare: Engine | None = None) -> None:
        """Raise LiftModelError when a model does not say what its joints are, or they are not this package's."""
        self.engine = engine
        self.dropped = self.spared = 0
        self._networks = [LiftNetwork(each) for each in (engine, spare) if each is not None]
        self._handover, self._given = Handover(), stature
        self.stature, self.stature_sigma = self._networks[0].stature, self._networks[0].stature_sigma
        if stature:
            self.stature, self.stature_sigma = stature, GIVEN_SIGMA

    @classmethod
    def open(cls, lifter: str | Path = DEFAULT_LIFTER, engines: Wanted | None = None, stature: float | None = None,
             most: int = 8) -> Lifter:
        """Load a lifter that comes with the package by its name, or an .onnx file; for one of bodies a spare as well.

        engines: of its threads, 0 takes one: the network is too small to gain from more. stature: m, of everybody who
        will be seen, if it is known. most: people that are usually lifted at once, at most. Raises EngineError or
        LiftModelError.
        """
        from pose3d_ros.runtime.engine import Wanted
        from pose3d_ros.runtime.opening import open_engine

        engines = engines or Wanted()

        def load(name: str | Path) -> Engine:
            return open_engine(lifter_file(name), replace(engines, threads=engines.threads or 1), most=most,
                               inputs=REQUIRED_INPUTS, outputs=ENGINE_OUTPUTS)

        opened = [load(lifter)]
        try:
            if cls(opened[0]).body_model is not None:
                opened.append(load(DEFAULT_LIFTER))
            made = cls(opened[0], stature, *opened[1:])
            for engine in opened:
                engine.warm_up()
        except Exception:
            for engine in opened:
                engine.close()
            raise
        return made

    def another(self) -> Lifter:
        """Return a lifter like this one for another camera: of the same engines, with a past of its own."""
        return Lifter(self.engine, self._given, *(network.engine for network in self._networks[1:]))

    @property
    def engines(self) -> dict[str, Engine]:
        """The networks by what they do: `lift`, and `lift_spare` where there is one."""
        return {name: network.engine for name, network in zip(('lift', 'lift_spare'), self._networks)}

    @property
    def body_model(self) -> tuple[str, str] | None:
        """Name and SHA-256 (of the .npz file) of the model that Person3D.body is of; None: it gives no bodies."""
        return self._networks[0].body_model

    def close(self) -> None:
        """Release the networks, also for lifters made by another()."""
        for engine in self.engines.values():
            engine.close()

    def reset(self) -> None:
        """Forget the past, as after a jump in time."""
        for network in self._networks:
            network.past.reset()
        self._handover.reset()

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
        ids = [person.id for person in people]
        attributes = attributes_of(people) if any(each.takes_attributes for each in self._networks) else None
        shown = Shown(self._stature, up, skeleton in OF_LANDMARKS, attributes)
        # The spare one is asked about everybody: it knows the past of those whom it takes over, and where they were.
        found, *spare = (network(network.past(ids, rays, confidence, stamp_ns), shown) for network in self._networks)
        for other in spare:
            found = found.or_else(other).moved(self._handover(ids, found.position, other.position, stamp_ns))
        placed = found.placed
        self.dropped += len(people) - np.count_nonzero(placed)
        self.spared += np.count_nonzero(found.spare)
        state, sure = joint_states(confidence)
        velocity = np.zeros_like(found.position)
        return [Person3D(HUMAN17, found.position[i], velocity[i], found.covariance[i], sure[i], state[i],
                         person.confidence, person.id, person.state, self.stature, self.stature_sigma, found.bodies[i])
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
            alone = rays[chosen, None], seen[chosen, None], np.zeros((len(chosen), 1), np.float32)
            shown = Shown(self._stature, up, skeleton in OF_LANDMARKS, None if told is None else told[chosen])
            found, *spare = (network(network.past.fit(*alone), shown) for network in self._networks)
            for other in spare:
                found = found.or_else(other)
            placed = enough[chosen] = found.placed
            position[chosen[placed]], covariance[chosen[placed]] = found.position[placed], found.covariance[placed]
            for i in np.flatnonzero(placed):
                body[chosen[i]] = found.bodies[i]
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
        cannot place is NaN: the spare one is not asked.
        """
        network = self._networks[0]
        return network(network.past.fit(rays, confidence, age), Shown(
            self._stature if stature is None else stature, up, landmarks, attributes))[:2]

    @property
    def _stature(self) -> tuple[float, float]:
        return self.stature, self.stature_sigma


def attributes_of(people: list[Person2D]) -> NDArray[np.float32]:
    """Return the pose attributes (N, 9, 3) of people of one skeleton: the detector's own, or what its depth says."""
    told = from_people(people)
    for place, person in zip(told, people):
        if person.attributes is not None:
            place[:] = person.attributes
    return told
