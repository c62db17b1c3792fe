"""Stand-ins for the node tests: people of known place, and a pipeline that gives them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import synthetic

from pose3d_ros.camera import Camera
from pose3d_ros.pipeline import Result
from pose3d_ros.records import Frame, JointState, Person2D, Person3D, PersonState
from pose3d_ros.skeleton import BLAZEPOSE33, HUMAN17, Skeleton


def human17(points: np.ndarray) -> np.ndarray:
    """Return joints (17, 3) m of HUMAN17 for those of BLAZEPOSE33 (33, 3) m."""
    def at(*names: str) -> np.ndarray:
        return np.mean([points[BLAZEPOSE33.index(name)] for name in names], axis=0)

    hips, shoulders = at('left_hip', 'right_hip'), at('left_shoulder', 'right_shoulder')
    ears = at('left_ear', 'right_ear')
    made = {'pelvis': hips, 'thorax': shoulders, 'spine': (hips + shoulders) / 2,
            'neck': shoulders + 0.6 * (ears - shoulders), 'head': shoulders + 1.65 * (ears - shoulders)}
    return np.array([made[name] if name in made else at(name) for name in HUMAN17.joints])


def standing(x: float = 0.0, z: float = 3.0, heading: float = 0.0, id: int = 1,
             state: PersonState = PersonState.TRACKED, missing: tuple[str, ...] = ()) -> Person3D:
    """Return a person of HUMAN17 who stands at x, z [m] in front of a level camera; missing: joints out of view."""
    position = human17(synthetic.placed(synthetic.body(), x, z, heading))
    joint_state = np.full(17, JointState.OBSERVED, dtype=np.uint8)
    joint_state[HUMAN17.indices(['spine', 'neck', 'head'])] = JointState.INFERRED
    covariance = np.tile(np.diag([1e-3, 1e-3, 4e-2]), (17, 1, 1))
    covariance[:, 0, 1] = covariance[:, 1, 0] = 2e-4
    covariance[HUMAN17.indices([name for name in HUMAN17.joints if name != 'pelvis'])] += np.diag([4e-4] * 3)
    velocity = np.tile((0.5, 0.0, -0.25), (17, 1))
    gone = HUMAN17.indices(list(missing)) if missing else np.zeros(0, dtype=int)
    position[gone], velocity[gone], covariance[gone], joint_state[gone] = np.nan, np.nan, np.nan, JointState.MISSING
    confidence = np.full(17, 0.9)
    confidence[gone] = 0.0
    return Person3D(HUMAN17, position, velocity, covariance, confidence, joint_state, 0.95, id, state, 1.75, 0.06)


def seen(x: float = 0.0, z: float = 3.0, id: int = 1, camera: Camera = synthetic.CAMERA) -> Person2D:
    """Return what a camera sees of that person."""
    person = synthetic.seen(synthetic.placed(synthetic.body(), x, z), camera)
    return Person2D(**{**person.__dict__, 'id': id, 'state': PersonState.TRACKED})


@dataclass
class FakeEngine:
    """What diagnostics ask of an engine."""

    provider: str = 'CPUExecutionProvider'
    precision: str = 'fp32'
    status: str = ''
    remarks: tuple[str, ...] = ()


@dataclass
class FakePipeline:
    """Gives the same people for every frame. delay_s: time it takes; failing: raised instead, while set."""

    engines: dict = field(default_factory=lambda: {'search': FakeEngine(), 'landmarks': FakeEngine()})
    skeleton: Skeleton = BLAZEPOSE33
    counters: dict = field(default_factory=lambda: {'ids_made': 1, 'swaps_corrected': 0})
    body_model: tuple[str, str] | None = None

    people: list[Person3D] = field(default_factory=lambda: [standing()])
    people_2d: list[Person2D] = field(default_factory=lambda: [seen()])
    delay_s: float = 0.0
    failing: Exception | None = None
    resets: int = 0
    closed: bool = False
    frames: list[Frame] = field(default_factory=list)

    def __call__(self, frame: Frame) -> Result:
        self.frames.append(frame)
        time.sleep(self.delay_s)
        if self.failing is not None:
            raise self.failing
        return Result(self.people_2d, self.people, {'detect': 5.0, 'track': 0.2, 'lift': 1.0, 'refine': 0.1})

    def reset(self) -> None:
        self.resets += 1

    def close(self) -> None:
        self.closed = True
