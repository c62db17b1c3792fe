"""The order of the stages, and nothing more: detect -> track -> lift -> refine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from pose3d_ros.detect import Detector, DetectSettings, together
from pose3d_ros.lift import DEFAULT_LIFTER, Lifter
from pose3d_ros.records import Frame, Person2D, Person3D
from pose3d_ros.refine import Refiner, RefineSettings
from pose3d_ros.runtime.engine import Engine, Wanted
from pose3d_ros.runtime.sharing import Shared
from pose3d_ros.skeleton import Skeleton
from pose3d_ros.track import Tracker, TrackSettings

T = TypeVar('T')


@dataclass(frozen=True)
class Result:
    """What one frame gave. stage_ms: wall time of each stage by name [ms]; detection is that of all cameras at once."""

    people_2d: list[Person2D]
    people: list[Person3D]
    stage_ms: dict[str, float]


class Pipeline:
    """From one camera's frames to its people, in the camera's optical frame. State lives in the stages."""

    def __init__(self, detect: Detector, track: Tracker, lift: Lifter, refine: Refiner,
                 lifting: Shared | None = None) -> None:
        """lifting: who uses the networks of `lift`, where that is more than this pipeline."""
        self.detect = detect
        self.track = track
        self.lift = lift
        self.refine = refine
        self._lifting = lifting or Shared(lift.close)
        self._lifting.use(self)

    @classmethod
    def open(cls, detector_model: str = 'full', engines: Wanted | None = None,
             detect: DetectSettings | None = None, track: TrackSettings | None = None,
             refine: RefineSettings | None = None, stature: float = 0.0, search: str = 'blazepose',
             lifter: str = DEFAULT_LIFTER) -> Pipeline:
        """Load the models, run them once, and build the stages.

        detector_model: 'lite', 'full', 'heavy', or a .yaml file that describes another network; search: 'blazepose', or
        such a file for what finds people; lifter: one that ships, by its name (lift.LIFTERS), or an .onnx file.
        engines: how the networks are computed; by default as well as can be done here. stature: m, of everybody who
        will be seen; 0: not known. Raises ModelMissing, ModelCorrupt, EngineError or LiftModelError, each naming the
        cure, and ValueError for a stature that nobody has or a description that does not fit.
        """
        return cls.open_group(1, detector_model, engines, detect, track, refine, stature, search,
                              lifter)[0]

    @classmethod
    def open_group(cls, count: int, detector_model: str = 'full', engines: Wanted | None = None,
                   detect: DetectSettings | None = None, track: TrackSettings | None = None,
                   refine: RefineSettings | None = None, stature: float = 0.0,
                   search: str = 'blazepose', lifter: str = DEFAULT_LIFTER) -> list[Pipeline]:
        """Return pipelines for so many cameras that share their networks, for run_together(); see open.

        Each is closed by itself; the networks end with the last of them.
        """
        if stature and not 0.5 <= stature <= 2.5:
            raise ValueError(f'stature is {stature:g} m, expected 0.5 to 2.5 m, or 0 where it is not known')
        detect = detect or DetectSettings()
        detectors = Detector.open_group(count, detector_model, engines, settings=detect, search=search)
        try:
            first = Lifter.open(lifter, engines=engines, stature=stature or None, most=detect.max_people)
        except Exception:
            for detector in detectors:
                detector.close()
            raise
        lifters = [first, *(first.another() for _ in detectors[1:])]
        lifting = Shared(first.close)
        return [cls(detector, Tracker(track), lift, Refiner(refine), lifting)
                for detector, lift in zip(detectors, lifters)]

    def __call__(self, frame: Frame) -> Result:
        """Find the people of one frame. Frames come in the order of their stamps (else ValueError: reset first)."""
        self.track.check(frame.stamp_ns)
        detected, took = _timed(lambda: self.detect(frame))
        return self._place(frame, detected, took)

    def _place(self, frame: Frame, detected: list[Person2D], detect_ms: float) -> Result:
        """Follow the people that were detected in a frame, and place them in space."""
        up = frame.ground.up if frame.ground is not None else None
        tracked, track_ms = _timed(lambda: self.track(detected, frame.stamp_ns))
        lifted, lift_ms = _timed(lambda: self.lift(tracked, frame.camera, frame.stamp_ns, up))
        refined, refine_ms = _timed(lambda: self.refine(lifted, frame.stamp_ns, frame.ground))
        return Result(tracked, refined,
                      {'detect': detect_ms, 'track': track_ms, 'lift': lift_ms, 'refine': refine_ms})

    @property
    def engines(self) -> dict[str, Engine]:
        """The networks by what they do, to ask what computes them."""
        return {**self.detect.engines, **self.lift.engines}

    @property
    def skeleton(self) -> Skeleton:
        """The joints of Result.people_2d."""
        return self.detect.skeleton

    @property
    def body_model(self) -> tuple[str, str] | None:
        """Name and SHA-256 (of the .npz file) of the model that the people's bodies are of; None: there are none."""
        return self.lift.body_model

    @property
    def counters(self) -> dict[str, int]:
        """Counts since the start, by name: those of detection, and what became of the people it found.

        not_lifted: people left out in an image because too little of them was in view to place them (see Lifter);
        lifted_without_body: with a lifter of bodies, people of whom too little was in view for one.
        """
        spared = {} if self.lift.body_model is None else {'lifted_without_body': self.lift.spared}
        return {**{f'detect.{name}': count for name, count in self.detect.counters.items() if name != 'frames'},
                'ids_made': self.track.ids_made, 'swaps_corrected': self.track.swaps_corrected,
                'not_lifted': self.lift.dropped, **spared}

    def close(self) -> None:
        """End threads and release the networks, unless others still use them; it cannot be called any more."""
        self.detect.close()
        self._lifting.let_go(self)

    def reset(self) -> None:
        """Forget everything about the past, as after a jump in time."""
        for stage in (self.detect, self.track, self.lift, self.refine):
            stage.reset()


def run_together(pipelines: Sequence[Pipeline], frames: Sequence[Frame]) -> list[Result]:
    """Find the people of one frame of each of several cameras, with one detection call for all of them.

    pipelines: of one group (Pipeline.open_group), each once; a camera without a new image is left out. The results are
    those of calling each pipeline with its frame. Raises ValueError for other pipelines, and where a camera's time went
    back (reset that one first), before anything is computed: nobody's state has changed then.
    """
    return [place() for place in detect_together(pipelines, frames)]


def detect_together(pipelines: Sequence[Pipeline], frames: Sequence[Frame]) -> list[Callable[[], Result]]:
    """Do what run_together does in common; return what does the rest for each camera, to be called once.

    So the first camera's result can be used before the next one's is there, and no camera's trouble is the others'.
    """
    for pipeline, frame in zip(pipelines, frames):
        pipeline.track.check(frame.stamp_ns)
    detected, took = _timed(lambda: together([pipeline.detect for pipeline in pipelines], frames))
    return [partial(pipeline._place, frame, people, took)
            for pipeline, frame, people in zip(pipelines, frames, detected)]


def _timed(stage: Callable[[], T]) -> tuple[T, float]:
    """Return what a stage gives, and its wall time [ms]."""
    start = time.perf_counter()
    result = stage()
    return result, 1e3 * (time.perf_counter() - start)
