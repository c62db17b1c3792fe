"""The listener of `pose3d demo --multi`: writes the people that fusion_node publishes into a folder.

The images of picture.png are taken from the videos by the stamps of the people: four cameras' images over DDS once more
would cost the nodes a core. How it talks with the process that started it: see recorder.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.calibration import CalibratedCamera
from pose3d_ros.cli.fused_picture import FusedPictures
from pose3d_ros.cli.recorder import RecorderNode, collect, run
from pose3d_ros.cli.recording import Recording
from pose3d_ros.cli.run_together import LONGEST, cameras_of, people_figures, steadiness
from pose3d_ros.cli.video import VideoReader
from pose3d_ros.msg import People2D, People3D
from pose3d_ros.ros.convert import from_people, stamp_ns
from pose3d_ros.skeleton import LIMBS12, select

_FUSED_BY = 'fusion_node: fusion'  # the status of the fusion in /diagnostics
_LEFT_OUT = ('latency', 'people', 'sets_per_s')  # of a moment; that of the end is not telling


class FusedRecorder(RecorderNode):
    """Collects one run of fusion_node with the nodes of some cameras."""

    def __init__(self, recording: Recording, cameras: Sequence[str]) -> None:
        super().__init__(recording, [f'/{camera}/video_node' for camera in cameras])
        self._reports: dict[str, Counter[int]] = {camera: Counter() for camera in cameras}  # people seen, by stamp
        self._counts: Counter[int] = Counter()
        self._stamps: list[int] = []  # of the fused people
        self._tracks: dict[int, list[NDArray[np.float64]]] = defaultdict(list)
        for camera in cameras:
            self.hear_camera(f'{camera}/camera_info')
            self.hear(People2D, f'{camera}/people_2d', partial(_count, self._reports[camera]))
        self.hear(People3D, 'people', self._on_people)

    def summary(self) -> dict[str, Any]:
        """Return what is known about the run, besides the counts of frames."""
        providers = {values['provider'] for values in self.diagnostics.values() if values.get('provider')}
        told = next((values for name, values in self.diagnostics.items() if name.endswith(_FUSED_BY)), {})
        return {
            **self.timing(),
            'people': people_figures(self._counts, len(self._tracks)),
            'cameras_with_people': round(cameras_with_people(self._reports, self._stamps), 2),
            'limb_variation': round(steadiness(self._tracks.values()), 4),
            'provider': ', '.join(sorted(providers)) or None,
            'reports': {camera: len(seen) for camera, seen in self._reports.items()},
            'fusion': _figures(told),
        }

    def _on_people(self, message: People3D, info: Any) -> None:
        people = from_people(message)
        self._counts[len(people)] += 1
        self._stamps.append(stamp_ns(message.header.stamp))
        for person in people:
            self._tracks[person.id].append(select(person.position, person.skeleton, LIMBS12))
        self.came(message, info)


def cameras_with_people(reports: Mapping[str, Mapping[int, int]], stamps: Sequence[int]) -> float:
    """Return how many cameras reported people for a fused set, on average over the sets.

    reports: by camera, how many people it saw, by stamp [ns]; stamps: of the sets [ns]. A report goes with the first
    set that is not older, for cameras of unlike rates have stamps of their own.
    """
    order = sorted(stamps)
    seeing = {(camera, int(np.searchsorted(order, stamp)))
              for camera, seen in reports.items() for stamp, people in seen.items() if people and stamp <= order[-1]
              } if order else set()
    return len(seeing) / max(len(order), 1)


def _count(seen: Counter[int], message: People2D) -> None:
    seen[stamp_ns(message.header.stamp)] += len(message.people)


def _figures(told: Mapping[str, str]) -> dict[str, float]:
    """Return the figures in a status of diagnostics that are of the whole run.

    Without its latency too: stamps follow the footage, not the clock.
    """
    figures = {}
    for key, value in told.items():
        with contextlib.suppress(ValueError):  # words
            figures[key] = float(value)
    return {key: value for key, value in figures.items() if not key.startswith(_LEFT_OUT)}


def add_pictures(recording: Recording, pictures: FusedPictures, videos: Mapping[str, VideoReader], start_ns: int
                 ) -> None:
    """Add the images of the moments that picture.png shows, from videos that began at start_ns."""
    wanted = {stamp: {name: round(1e-9 * (stamp - start_ns) * video.fps) for name, video in videos.items()}
              for stamp in recording.pictured}
    images: dict[int, dict[str, NDArray[np.uint8]]] = {stamp: {} for stamp in wanted}
    for name, video in videos.items():
        last = max(numbers[name] for numbers in wanted.values())
        for number, image in video.numbered():
            if number > last:
                break
            for stamp, numbers in wanted.items():
                if numbers[name] == number:
                    images[stamp][name] = image
    for stamp, shots in images.items():
        recording.add_moment(stamp, pictures.draw(shots, recording.pictured[stamp]))


def record(args: argparse.Namespace, cameras: Mapping[str, CalibratedCamera]) -> None:
    """Record one run into a folder."""
    videos = {name: VideoReader(path) for name, path in zip(cameras, args.videos)}
    pictures = FusedPictures(cameras)
    frames = max(video.count for video in videos.values())
    with Recording(args.out, 1.0, frames, pictures.picture, LONGEST) as recording:
        node = FusedRecorder(recording, list(cameras))
        collect(node, frames)
        add_pictures(recording, pictures, videos, node.start_ns)
        recording.finish({**node.summary(), **args.about})
        node.destroy_node()


def main() -> int:
    """Record one run; the exit status is 0 when the folder is complete."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--videos', type=Path, nargs='+', required=True)
    parser.add_argument('--cameras', nargs='+', required=True, help='of the videos, in order')
    parser.add_argument('--calibration', type=Path, required=True)
    parser.add_argument('--about', type=json.loads, default={}, help='JSON object to put into summary.json')
    args, ros_args = parser.parse_known_args()
    cameras = cameras_of(args.calibration, args.videos, args.cameras)
    return run(lambda: record(args, cameras), ros_args)


if __name__ == '__main__':
    sys.exit(main())
