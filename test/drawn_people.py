"""Drawn people, and stand-ins for the two networks of the detector that see nothing but the drawing.

A drawn person is a red disc at the middle of the hips and a green one of the same size above the head, at the radius of
the body's circle. The stand-in for the search answers, as the real one, for the largest person in a tile only.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from pose3d_ros.camera import Camera
from pose3d_ros.detect import Detector, DetectSettings, anchors
from pose3d_ros.detect.blazepose import BlazePoseReader
from pose3d_ros.detect.finds import Finds
from pose3d_ros.detect.networks import Networks
from pose3d_ros.detect.search import BlazePoseFinder
from pose3d_ros.records import Frame
from pose3d_ros.skeleton import BLAZEPOSE33

DISC = 0.1  # radius of the discs over the radius of the body's circle
# A standing body in units of that radius, x to the image's right and y down from the mid-hip, left side of the body
# to the right of the image.
BODY = {'nose': (0, -0.8), 'left_eye': (0.04, -0.84), 'left_ear': (0.08, -0.82), 'left_mouth': (0.03, -0.75),
        'left_shoulder': (0.2, -0.6), 'left_elbow': (0.3, -0.3), 'left_wrist': (0.32, 0.0), 'left_hip': (0.12, 0.0),
        'left_knee': (0.13, 0.45), 'left_ankle': (0.14, 0.88), 'left_heel': (0.13, 0.93),
        'left_foot_index': (0.2, 0.95), 'left_pinky': (0.33, 0.05), 'left_index': (0.34, 0.06),
        'left_thumb': (0.3, 0.05)}
BODY.update({'left_eye_inner': (0.02, -0.84), 'left_eye_outer': (0.06, -0.84)})
BODY.update({name.replace('left', 'right'): (-x, y) for name, (x, y) in BODY.items() if name.startswith('left')})
TEMPLATE = np.array([BODY[name] for name in BLAZEPOSE33.joints])


@dataclass(frozen=True)
class Drawn:
    """A drawn person: the mid-hip in px, the radius of the circle in px, the lean in rad."""

    x: float
    y: float
    radius: float = 150.0
    lean: float = 0.0

    def place(self, points: np.ndarray) -> np.ndarray:
        cos, sin = np.cos(self.lean), np.sin(self.lean)
        return np.array([self.x, self.y]) + self.radius * points @ np.array([[cos, sin], [-sin, cos]])

    @property
    def joints(self) -> np.ndarray:
        return self.place(TEMPLATE)


def draw(drawn: list[Drawn], width: int = 1280, height: int = 720) -> Frame:
    image = np.zeros((height, width, 3), np.uint8)
    for person in drawn:
        for point, colour in (((0, 0), (0, 0, 255)), ((0, -1), (0, 255, 0))):
            centre = tuple(int(round(v * 16)) for v in person.place(np.array(point, float)))
            cv2.circle(image, centre, int(DISC * person.radius * 16), colour, -1, cv2.LINE_AA, 4)
    return Frame(image, 0, Camera(width, height, width, width, width / 2, height / 2))


def seen_in(planes: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Return hip, rim (px of the crop) and radius of the drawn people of a crop (3, S, S) in 0..1, largest first."""
    discs = []
    for plane in planes[:2]:
        count, _, stats, centres = cv2.connectedComponentsWithStats((plane > 0.7).astype(np.uint8))
        discs.append([(centres[i], np.sqrt(stats[i, cv2.CC_STAT_AREA] / np.pi)) for i in range(1, count)])
    found = []
    for hip, size in discs[0]:
        for rim, other in discs[1]:
            radius = np.linalg.norm(rim - hip)
            if radius > 0 and 0.75 < size / other < 1.33 and 0.8 < size / (DISC * radius) < 1.25:
                found.append((hip, rim, radius))
    return sorted(found, key=lambda seen: -seen[2])


@dataclass
class Fake:
    """What the stand-ins have in common. batches: sizes of the calls; closed: how often it was."""

    batches: list[int] = field(default_factory=list)
    closed: int = 0
    provider: str = 'none'
    precision: str = 'fp32'
    status: str = ''
    remarks: tuple[str, ...] = ()

    def close(self):
        self.closed += 1


@dataclass
class Search(Fake):
    """Sees the largest person of a tile, if it is large enough."""

    def run(self, inputs):
        batch = inputs['image']
        assert batch.dtype == np.float32 and batch.shape[1:] == (3, 224, 224) and np.abs(batch).max() <= 1.0
        self.batches.append(len(batch))
        boxes, scores = zip(*(self.answer((planes + 1.0) / 2.0) for planes in batch))
        return {'boxes': np.stack(boxes), 'scores': np.stack(scores)}

    def answer(self, planes):
        seen = [person for person in seen_in(planes) if 2.0 * person[2] >= 0.38 * 224]
        if not seen:
            return anchors.encode(Finds.none(), np.zeros(0, int))
        hip, rim, _ = seen[0]
        points = np.stack([hip, rim, rim, rim])[None] / 224
        box = np.concatenate([points[0, 1] - 0.1, points[0, 1] + 0.1])[None]
        return anchors.encode(Finds(box, points, np.array([0.9])), np.array([100]))


@dataclass
class Landmarks(Fake):
    """Sees the person nearest to the middle of a region. presence: that it gives."""

    presence: float = 0.99

    def run(self, inputs):
        batch = inputs['image']
        assert batch.dtype == np.float32 and batch.shape[1:] == (3, 256, 256) and batch.min() >= 0.0
        self.batches.append(len(batch))
        outputs = [self.answer(planes) for planes in batch]
        return {name: np.stack([output[name] for output in outputs]) for name in outputs[0]}

    def answer(self, planes):
        points = np.full((39, 5), 5.0, np.float32)
        heat = np.full((39, 64, 64), -10.0, np.float32)
        seen = min(seen_in(planes), key=lambda person: np.linalg.norm(person[0] - 128.0), default=None)
        if seen is None:
            points[:] = 0.0
            points[:, :2] = 128.0
            return {'landmarks': points.reshape(-1), 'presence': np.array([0.01], np.float32), 'heatmap': heat}
        hip, rim, radius = seen
        lean = np.arctan2(rim[0] - hip[0], hip[1] - rim[1])
        points[:33, :2] = Drawn(*hip, radius, lean).joints
        points[33:35, :2] = hip, rim
        points[:33, 2] = 100.0 * TEMPLATE[:, 0]
        cells = 4.0 * np.arange(64)
        squared = ((cells - points[:, None, None, 0]) ** 2 + (cells[:, None] - points[:, None, None, 1]) ** 2)
        return {'landmarks': points.reshape(-1), 'presence': np.array([self.presence], np.float32),
                'heatmap': (2.0 - squared / 15.0).astype(np.float32)}


def networks() -> Networks:
    return Networks(BlazePoseReader(Landmarks()), BlazePoseFinder(Search()))


def detector(**settings) -> Detector:
    return Detector(networks(), DetectSettings(**settings))
