"""The order of the stages, and nothing more: detect -> track -> lift -> refine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pose3d_ros.detect import Detector, DetectSettings
from pose3d_ros.lift import Lifter
from pose3d_ros.records import Frame, Person2D, Person3D
from pose3d_ros.refine import Refiner, RefineSettings
from pose3d_ros.runtime.engine import Engine, Wanted
from pose3d_ros.track import Tracker, TrackSettings

T = TypeVar('T')


@dataclass(frozen=True)
class Result:
    """What one frame gave. stage_ms: wall time of each stage by name [ms]."""

    people_2d: list[Person2D]
    people: list[Person3D]
    stage_ms: dict[str, float]


class Pipeline:
    """From one camera's frames to its people, in the camera's optical frame. State lives in the stages."""

    def __init__(self, detect: Detector, track: Tracker, lift: Lifter, refine: Refiner) -> None:
        self.detect = detect
        self.track = track
        self.lift = lift
        self.refine = refine

    @classmethod
    def open(cls, detector_model: str = 'full', engines: Wanted | None = None,
             detect: DetectSettings | None = None, track: TrackSettings | None = None,
             refine: RefineSettings | None = None, stature: float = 0.0) -> Pipeline:
        """Load the models and build the stages.

        detector_model: 'lite', 'full' or 'heavy'. engines: how the networks are computed; by default as well as can be
        done here. stature: m, of everybody who will be seen; 0: not known. Raises ModelMissing, ModelCorrupt or
        EngineError, each naming the cure, and ValueError for a stature that nobody has.
        """
        if stature and not 0.5 <= stature <= 2.5:
            raise ValueError(f'stature is {stature:g} m, expected 0.5 to 2.5 m, or 0 where it is not known')
        return cls(Detector.open(detector_model, engines, settings=detect), Tracker(track),
                   Lifter.open(engines=engines, stature=stature or None), Refiner(refine))

    def __call__(self, frame: Frame) -> Result:
        """Find the people of one frame. Frames come in the order of their stamps (else ValueError: reset first)."""
        stage_ms: dict[str, float] = {}

        def timed(name: str, stage: Callable[[], T]) -> T:
            start = time.perf_counter()
            result = stage()
            stage_ms[name] = 1e3 * (time.perf_counter() - start)
            return result

        detected = timed('detect', lambda: self.detect(frame))
        tracked = timed('track', lambda: self.track(detected, frame.stamp_ns))
        up = frame.ground.up if frame.ground is not None else None
        lifted = timed('lift', lambda: self.lift(tracked, frame.camera, frame.stamp_ns, up))
        refined = timed('refine', lambda: self.refine(lifted, frame.stamp_ns, frame.ground))
        return Result(tracked, refined, stage_ms)

    @property
    def engines(self) -> dict[str, Engine]:
        """The networks by what they do, to ask what computes them."""
        return {**self.detect.engines, 'lift': self.lift.engine}

    @property
    def counters(self) -> dict[str, int]:
        """Counts since the start, by name: those of detection, and what became of the people it found."""
        return {**{f'detect.{name}': count for name, count in self.detect.counters.items() if name != 'frames'},
                'ids_made': self.track.ids_made, 'swaps_corrected': self.track.swaps_corrected,
                'not_lifted': self.lift.dropped}

    def close(self) -> None:
        """End threads and release the networks; the pipeline cannot be called any more."""
        self.detect.close()
        self.lift.engine.close()

    def reset(self) -> None:
        """Forget everything about the past, as after a jump in time."""
        for stage in (self.detect, self.track, self.lift, self.refine):
            stage.reset()
