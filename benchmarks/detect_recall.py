#!/usr/bin/env python3
"""How many people does the search find, and how many that are not there?

    python benchmarks/detect_recall.py [--model full] [--scenes 60] [--json FILE]

Cut-outs of the man in the sample footage are pasted at random places, whole, into person-free parts of the same
footage. For each image size and height of the person (as a fraction of the image height): the share found on the first
frame (one full sweep), the share found within one search period, and the people reported where nobody is. `beside` has
a person of half the height in view as well: the search network answers for the most prominent person, so the
small one is harder to see. `empty` shows the background only.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pose3d_ros.camera import Camera
from pose3d_ros.detect import Detector, DetectSettings
from pose3d_ros.records import Frame, Person2D
from pose3d_ros.runtime.store import ModelStore
from pose3d_ros.skeleton import BLAZEPOSE33

SIZES = ((1920, 1080), (1080, 1920), (640, 480))
HEIGHTS = {'sixth': 1 / 6, 'quarter': 1 / 4, 'half': 1 / 2, 'whole': 0.95}
# Parts of the videos in which nobody is at any time: camera, x0, y0 as fractions of the image.
EMPTY = (('cam03', 0.65, 0.0), ('cam03', 0.0, 0.72), ('cam04', 0.72, 0.0), ('cam02', 0.0, 0.62), ('cam01', 0.0, 0.68))


def read_frames(path: Path, step: int) -> list[NDArray[np.uint8]]:
    """Return every step-th frame of a video."""
    video, frames = cv2.VideoCapture(str(path)), []
    while True:
        there, image = video.read()
        if not there:
            return frames[::step]
        frames.append(image)


def camera_for(image: NDArray[np.uint8]) -> Camera:
    """Return any camera of the image's size: nothing here depends on its lens."""
    height, width = image.shape[:2]
    return Camera(width, height, float(height), float(height), width / 2.0, height / 2.0)


def cut_out(image: NDArray[np.uint8], person: Person2D) -> NDArray[np.uint8]:
    """Return a person as (H, W, 4), opaque along the limbs and about the trunk and head."""
    mask = np.zeros(image.shape[:2], np.uint8)
    joints = np.nan_to_num(person.pixels).astype(np.int32)
    trunk = joints[BLAZEPOSE33.indices(['left_shoulder', 'right_shoulder', 'right_hip', 'left_hip'])]
    length = int(np.linalg.norm(trunk[:2].mean(axis=0) - trunk[2:].mean(axis=0)))
    cv2.polylines(mask, list(joints[BLAZEPOSE33.bone_indices]), False, 255, length // 4)
    cv2.fillConvexPoly(mask, cv2.convexHull(trunk), 255)
    cv2.polylines(mask, [trunk], True, 255, length // 3)
    cv2.ellipse(mask, joints[:11].mean(axis=0).astype(int).tolist(), (length // 3, length // 2), 0, 0, 360, 255, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 3.0)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.dstack([image, mask])[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]


def paste(image: NDArray[np.uint8], person: NDArray[np.uint8], height: int, taken: list[NDArray[np.float64]],
          rng: np.random.Generator) -> NDArray[np.float64]:
    """Put a cut-out of this height somewhere into the image, in place; return its box (4,).

    Beside the boxes that are taken, if a hundred tries find such a place. A cut-out wider than the image is narrowed.
    """
    width = min(round(height * person.shape[1] / person.shape[0]), image.shape[1])
    small = cv2.resize(person, (width, height), interpolation=cv2.INTER_AREA)
    for _ in range(100):
        x = int(rng.integers(image.shape[1] - width + 1))
        y = int(rng.integers(image.shape[0] - height + 1))
        if not any(x < box[2] and box[0] < x + width and y < box[3] and box[1] < y + height for box in taken):
            break
    part, opaque = image[y:y + height, x:x + width], small[:, :, 3:] / 255.0
    part[:] = opaque * small[:, :, :3] + (1.0 - opaque) * part
    return np.array([x, y, x + width, y + height], float)


def background(parts: list[NDArray[np.uint8]], width: int, height: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a random piece of the person-free parts, enlarged to the size."""
    part = parts[rng.integers(len(parts))]
    scale = max(width / part.shape[1], height / part.shape[0]) * rng.uniform(1.0, 1.5)
    large = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    x, y = (int(rng.integers(large.shape[axis] - size + 1)) for axis, size in ((1, width), (0, height)))
    piece = large[y:y + height, x:x + width]
    return np.ascontiguousarray(piece[:, ::-1] if rng.random() < 0.5 else piece)


def is_at(person: Person2D, box: NDArray[np.float64]) -> bool:
    """Return whether a found person is the one pasted at the box."""
    off = (person.box[:2] + person.box[2:] - box[:2] - box[2:]) / 2.0
    height = box[3] - box[1]
    return bool(np.hypot(*off) < 0.35 * height and 0.5 < (person.box[3] - person.box[1]) / height < 1.3)


def measure(detector: Detector, scenes: list[tuple[NDArray[np.uint8], list[NDArray[np.float64]]]]) -> dict[str, float]:
    """Return the shares of first pasted people found, and the mean number of people found where nobody is."""
    first = later = extra = 0
    for image, boxes in scenes:
        detector.reset()
        seen = [detector(Frame(image, stamp, camera_for(image)))
                for stamp in range(detector.settings.search_period + 1)]
        if boxes:
            first += any(is_at(person, boxes[0]) for person in seen[0])
            later += any(is_at(person, boxes[0]) for person in seen[-1])
        extra += sum(not any(is_at(person, box) for box in boxes) for person in seen[-1])
    figures = {'first_frame': first / len(scenes), 'one_period': later / len(scenes)} if scenes[0][1] else {}
    return {**figures, 'phantoms_per_image': extra / len(scenes)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--model', default='full', choices=('lite', 'full', 'heavy'))
    parser.add_argument('--scenes', type=int, default=60, help='images per size and height')
    parser.add_argument('--json', type=Path, help='file for the figures')
    arguments = parser.parse_args()
    footage = ModelStore().path('sample')
    rng = np.random.default_rng(0)
    parts, people = [], []
    detector = Detector.open(arguments.model, settings=DetectSettings())
    for camera in ('cam01', 'cam02', 'cam03', 'cam04'):
        frames = read_frames(footage / f'{camera}.mp4', step=20)
        height, width = frames[0].shape[:2]
        parts += [frames[0][round(y * height):, round(x * width):] for name, x, y in EMPTY if name == camera]
        for image in frames:
            detector.reset()
            found = detector(Frame(image, 0, camera_for(image)))
            people.append(cut_out(image, max(found, key=lambda person: person.box[3] - person.box[1])))
    figures: dict[str, float] = {}
    for width, height in SIZES:
        cases = {**{name: (share,) for name, share in HEIGHTS.items()}, 'beside': (1 / 4, 1 / 2), 'empty': ()}
        for name, shares in cases.items():
            scenes = []
            for _ in range(arguments.scenes):
                image = background(parts, width, height, rng)
                boxes: list[NDArray[np.float64]] = []
                for share in sorted(shares, reverse=True):
                    boxes.insert(0, paste(image, people[rng.integers(len(people))], round(share * height), boxes, rng))
                scenes.append((image, boxes))
            for key, value in measure(detector, scenes).items():
                figures[f'{width}x{height}_{name}_{key}'] = round(value, 4)
                print(f'{width}x{height} {name:8s} {key:20s} {value:.3f}', flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + '\n')


if __name__ == '__main__':
    main()
