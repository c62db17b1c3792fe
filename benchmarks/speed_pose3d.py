"""One round of detect, track, lift and refine per line of standard input, over frames loaded beforehand. Run by
mono.py: python speed_pose3d.py MODEL CALIBRATION VIDEO...
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import onnxruntime

from pose3d_ros import __version__
from pose3d_ros.calibration import load_calibration
from pose3d_ros.cli.video import VideoReader
from pose3d_ros.pipeline import Pipeline


def main() -> None:
    """Say what is ready, then answer every line with the seconds of one round and the frames with a person."""
    cameras = load_calibration(sys.argv[2])
    videos = [list(VideoReader(Path(path)).frames(cameras[Path(path).stem].camera)) for path in sys.argv[3:]]
    pipeline = Pipeline.open(detector_model=sys.argv[1], runtime='cpu')
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
