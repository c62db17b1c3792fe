"""The network of a lifter as it is asked: what it takes, the past that it is shown, and what it says of people."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose3d_ros.attributes import ATTRIBUTE_JOINTS
from pose3d_ros.lift.bodies import bodies_of
from pose3d_ros.lift.files import ATTRIBUTES, body_model_of, past_of, stature_of
from pose3d_ros.past import Windows
from pose3d_ros.records import BodyPose
from pose3d_ros.skeleton import HUMAN17

if TYPE_CHECKING:
    from pose3d_ros.runtime.engine import Engine

_PELVIS = HUMAN17.index('pelvis')


class Shown(NamedTuple):
    """What is known of N people beside their joints, as Lifter.run takes it; stature (2,) or (N, 2) m."""

    stature: ArrayLike
    up: ArrayLike | None = None
    landmarks: NDArray | bool = False
    attributes: NDArray | None = None


class Places(NamedTuple):
    """Where a network sees N people: position (N, 17, 3) m, covariance (N, 17, 3, 3) m^2, and their bodies.

    NaN is whom it cannot place; spare (N,): whom a spare network placed, see Lifter.
    """

    position: NDArray[np.float64]
    covariance: NDArray[np.float64]
    bodies: list[BodyPose | None]
    spare: NDArray[np.bool_]

    @property
    def placed(self) -> NDArray[np.bool_]:
        """Which people (N,) have a place."""
        return np.isfinite(self.position.sum(axis=(1, 2)))

    def or_else(self, other: Places) -> Places:
        """Return these places, and of people who have none those of a spare network, without a body."""
        placed = self.placed
        return Places(np.where(placed[:, None, None], self.position, other.position),
                      np.where(placed[:, None, None, None], self.covariance, other.covariance),
                      [body if own else None for body, own in zip(self.bodies, placed)], ~placed & other.placed)

    def moved(self, by: NDArray) -> Places:
        """Return the people with their joints moved (N, 17, 3) m, and bodies as their pelvis is."""
        bodies = [None if body is None else body.resized(1.0, shift)
                  for body, shift in zip(self.bodies, by[:, _PELVIS])]
        return self._replace(position=self.position + by, bodies=bodies)


class LiftNetwork:
    """One network of a lifter. State: a short past of each id (`past`), which is its own though the engine is shared.

    stature, stature_sigma: m, what its file takes people to measure.
    """

    def __init__(self, engine: Engine) -> None:
        """Raise LiftModelError when the model does not say what its joints are, or they are not this package's."""
        self.engine = engine
        self.stature, self.stature_sigma = stature_of(engine)
        self.body_model = body_model_of(engine)
        self.past = past_of(engine)
        self._takes = frozenset(engine.inputs)

    @property
    def takes_attributes(self) -> bool:
        """Whether it makes use of the attributes of a pose."""
        return ATTRIBUTES in self._takes

    def __call__(self, windows: Windows, shown: Shown) -> Places:
        """Return where the people of windows are that `past` made."""
        rays, confidence, age = windows
        count, takes = len(age), self._takes
        arrays = {'rays': rays, 'confidence': confidence}
        if 'age' in takes:
            arrays['age'] = age
        if 'up' in takes:
            arrays['up'] = np.zeros((count, 3), dtype=np.float32)
            if shown.up is not None:
                arrays['up'][:] = shown.up
        if 'landmarks' in takes:
            arrays['landmarks'] = np.zeros((count, 1), dtype=np.float32)
            arrays['landmarks'][:, 0] = shown.landmarks
        arrays['stature'] = np.empty((count, 2), dtype=np.float32)
        arrays['stature'][:] = shown.stature
        if self.takes_attributes:
            arrays[ATTRIBUTES] = np.zeros((count, len(ATTRIBUTE_JOINTS), 3), dtype=np.float32)
            if shown.attributes is not None:
                arrays[ATTRIBUTES][:] = shown.attributes
        output = self.engine.run(arrays)
        position = output['root'][:, None].astype(np.float64) + output['relative']
        bodies: list[BodyPose | None] = bodies_of(output) if self.body_model is not None else [None] * count
        return Places(position, output['covariance'].astype(np.float64), bodies, np.zeros(count, dtype=np.bool_))
