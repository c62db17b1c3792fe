"""One round of MediaPipe Pose per line of standard input, over frames loaded beforehand. Run by mono.py, in the peer's
environment: python speed_mediapipe.py COMPLEXITY VIDEO...
"""

from __future__ import annotations

import json
import sys
import time

import cv2
import mediapipe


def load(path: str) -> list:
    """Return the images of a video, BGR as cameras give them, forth and back: twice as long without a cut."""
    capture = cv2.VideoCapture(path)
    images = []
    while True:
        ok, image = capture.read()
        if not ok:
            return images + images[::-1]
        images.append(image)


def main() -> None:
    """Say what is ready, then answer every line with the seconds of one round and the frames with a person."""
    videos = [load(path) for path in sys.argv[2:]]
    pose = mediapipe.solutions.pose.Pose(static_image_mode=False, model_complexity=int(sys.argv[1]))
    print(json.dumps({'version': f'MediaPipe {mediapipe.__version__}', 'frames': sum(map(len, videos))}), flush=True)
    for _ in sys.stdin:
        found = 0
        start = time.perf_counter()
        for images in videos:
            pose.reset()
            for image in images:
                found += pose.process(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).pose_landmarks is not None
        print(json.dumps({'seconds': time.perf_counter() - start, 'found': found}), flush=True)


main()
