"""People over time, by id: the size learned from the floor under their feet, and their motion."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pose3d_ros.motion import Motion, MotionNoise
from pose3d_ros.records import GroundPlane, Person3D
from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.stature_filter import Sized, StatureFilter

_PELVIS = HUMAN17.index('pelvis')    # of people with bodies: those of lifters


@dataclass(frozen=True)
class RefineSettings:
    """Noise assumed by the motion filter (constant velocity, white acceleration).

    acceleration: one standard deviation of a joint's acceleration [m/s^2]. jitter: frame-to-frame noise of a joint
    across the line of sight, per metre of distance [m/m]; depth_jitter: along it. forget_s: the motion of an unseen
    person or joint is forgotten after this time [s]. smoothing: False publishes the measured joints, with the filter's
    velocity.
    """

    acceleration: float = 12.0
    jitter: float = 0.004
    depth_jitter: float = 0.012
    forget_s: float = 0.5
    smoothing: bool = True


class Refiner:
    """Sizes and filters people over time by id. State: the stature and the motion of each id; `reset()` forgets both.

    The covariance becomes smaller only by what the floor says of a person's size and distance. Smoothing leaves it as
    it is: the lifter's errors hardly change from frame to frame, so that averaging frames does not lessen them.
    """

    def __init__(self, settings: RefineSettings | None = None) -> None:
        self.settings = settings or RefineSettings()
        self._statures = StatureFilter()
        self._motions: dict[int, Motion] = {}

    def reset(self) -> None:
        """Forget everybody, as after a jump in time."""
        self._statures.reset()
        self._motions = {}

    def __call__(self, people: list[Person3D], stamp_ns: int, ground: GroundPlane | None = None) -> list[Person3D]:
        """Return the people in their size, with filtered position (J, 3) m and velocity (J, 3) m/s.

        A body goes where its person's pelvis goes, and is of its person's size.
        stamp_ns: exposure time. ground: the floor in this image, None where it is not known.
        """
        forget_ns = self.settings.forget_s * 1e9
        self._motions = {id_: motion for id_, motion in self._motions.items() if stamp_ns - motion.stamp_ns < forget_ns}
        return [self._filter(sized, stamp_ns) for sized in self._statures(people, stamp_ns, ground)]

    def _filter(self, sized: Sized, stamp_ns: int) -> Person3D:
        person, motion = sized.person, self._motions.get(sized.person.id)
        if motion is None:
            settings = self.settings
            noise = MotionNoise(settings.acceleration, settings.jitter, settings.depth_jitter, settings.forget_s)
            motion = self._motions[person.id] = Motion(len(person.skeleton), noise, stamp_ns)
        motion.resize(sized.grow, sized.shift)
        motion.update(person.position, stamp_ns)
        missing = np.isnan(person.position)
        smoothed = np.where(missing, np.nan, motion.position) if self.settings.smoothing else person.position
        body = person.body
        if body is not None:
            moved = np.nan_to_num(smoothed[_PELVIS] - person.position[_PELVIS])
            body = replace(body, root=body.root + moved)
        return replace(person, position=smoothed, velocity=np.where(missing, np.nan, motion.velocity), body=body)
