"""One round of detect, track, lift and refine per line of standard input, over frames loaded beforehand. Run by
mono.py: python speed_pose3d.py MODEL MAX_PEOPLE CALIBRATION VIDEO...
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import onnxruntime

from pose3d_ros import __version__
from pose3d_ros.calibration import load_calibration
from pose3d_ros.camera import Camera
from pose3d_ros.cli.video import VideoReader
from pose3d_ros.detect import DetectSettings
from pose3d_ros.pipeline import Pipeline
from pose3d_ros.records import Frame
from pose3d_ros.runtime.engine import Wanted


def load(video: VideoReader, camera: Camera) -> list[Frame]:
    """Return the frames of a video, forth and back: twice as long without a cut."""
    frames = list(video.frames(camera))
    step = frames[1].stamp_ns - frames[0].stamp_ns
    return [replace(frame, stamp_ns=number * step) for number, frame in enumerate(frames + frames[::-1])]


def main() -> None:
    """Say what is ready, then answer every line with the seconds of one round and the frames with a person."""
    model, max_people, calibration, *paths = sys.argv[1:]
    cameras = load_calibration(calibration)
    videos = [load(VideoReader(Path(path)), cameras[Path(path).stem].camera) for path in paths]
    pipeline = Pipeline.open(detector_model=model, engines=Wanted('cpu'),
                             detect=DetectSettings(max_people=int(max_people)))
    print(json.dumps({'version': f'pose3d_ros {__version__} on ONNX Runtime {onnxruntime.__version__}',
                      'frames': sum(map(len, videos))}), flush=True)
    for _ in sys.stdin:
        found = 0
        start = time.perf_counter()
        for frames in videos:
            pipeline.reset()
            for frame in frames:
                found += bool(pipeline(frame).people)
        print(json.dumps({'seconds': time.perf_counter() - start, 'found': found}), flush=True)


main()
