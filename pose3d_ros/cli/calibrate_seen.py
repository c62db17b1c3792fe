"""What `pose3d calibrate extrinsics` works on, whether from videos or from a bag; and joints detected in images."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pose3d_ros.camera import Camera
from pose3d_ros.cli.engines import wanted
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.joints_file import load_joints, save_joints
from pose3d_ros.cli.progress import progress
from pose3d_ros.fuse.extrinsics.tracks import Floats, Sightings, Watched, sightings
from pose3d_ros.pipeline import Pipeline
from pose3d_ros.records import Frame, Person2D


@dataclass(frozen=True)
class Seen:
    """What each camera saw, and where it stands as far as that is known.

    given: camera_T_world (4, 4) by name, of the cameras that have one. lenses: the intrinsics by name, of the cameras
    of which they are known; the others reported rays. frames: TF frames by name, where known. stamped: the stamps are
    those of clocks (of a bag), not of footage.
    """

    watched: list[Watched]
    given: Mapping[str, Floats]
    lenses: Mapping[str, Camera]
    frames: Mapping[str, str] = field(default_factory=dict)
    stamped: bool = False

    @property
    def names(self) -> list[str]:
        """Of the cameras, in order."""
        return [camera.camera for camera in self.watched]


def check_names(names: Sequence[str], count: int, what: str) -> None:
    """Raise UserError for names of cameras that are not one for each of so many videos or topics."""
    if len(names) != count:
        raise UserError(f'--cameras: {len(names)} given for {count} {what}; give one for each, in order')
    if len(set(names)) < len(names):
        raise UserError(f'two {what} are of one camera ({", ".join(names)}); tell them apart with --cameras')


def detected(args: argparse.Namespace, sources: Mapping[str, Iterable[Frame]], total: int,
             about: str) -> dict[str, Sightings]:
    """Return what each camera sees in its frames: detected, or as kept by an earlier call in a file about the same.

    total: how many frames there are, 0 where nobody knows.
    """
    if args.joints and args.joints.exists():
        return load_joints(args.joints, list(sources), about)
    seen = {name: sightings(people) for name, people in followed(args, sources, total).items()}
    if args.joints:
        save_joints(args.joints, seen, about)
    return seen


def followed(args: argparse.Namespace, sources: Mapping[str, Iterable[Frame]],
             total: int) -> dict[str, list[tuple[int, list[Person2D]]]]:
    """Return the people of each camera's frames with their stamps, detected and followed as a node does.

    args: those of add_model_options and add_engine_options. total: how many frames there are, 0 where nobody knows.
    """
    found: dict[str, list[tuple[int, list[Person2D]]]] = {}
    pipeline = Pipeline.open(detector_model=args.model, search=args.search, engines=wanted(args))
    try:
        with progress(total=total or None, unit='frame') as bar:
            for name, frames in sources.items():
                bar.set_description(name)
                pipeline.reset()
                found[name] = []
                for frame in frames:
                    found[name].append((frame.stamp_ns, pipeline.track(pipeline.detect(frame), frame.stamp_ns)))
                    bar.update()
    finally:
        pipeline.close()
    return found
