"""The search for people with the BlazePose detector: a network that looks at square tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from pose3d_ros.detect import anchors, tiles
from pose3d_ros.detect.anchors import INPUT_SIZE
from pose3d_ros.detect.crops import fill_rgb, warp
from pose3d_ros.detect.finder import View
from pose3d_ros.detect.finds import Finds, merge_overlapping, without_repeats
from pose3d_ros.runtime.engine import Engine
from pose3d_ros.skeleton import Skeleton

BATCH = 8  # tiles per call of the engine: bounds the memory of a sweep over a large image
# Joints without their side that lie on the trunk or the head.
_TRUNK = {'nose', 'eye_inner', 'eye', 'eye_outer', 'ear', 'mouth', 'head', 'neck', 'thorax', 'spine', 'pelvis',
          'shoulder', 'hip'}
_GREY = (128, 128, 128)  # next to nothing to the network; in black a body still shows as a silhouette
_LIMB_WIDTH = 0.2  # of the trunk's length with the head: width of the strokes that hide a known person's limbs


class BlazePoseFinder:
    """Looks for people in tiles; see PersonFinder. engine: input 'image' (N, 3, 224, 224) RGB in -1..1.

    It answers for the most prominent person of a tile and misses others beside him: known people are painted over.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._batch = np.zeros((BATCH, 3, INPUT_SIZE, INPUT_SIZE), np.float32)

    def plan(self, width: int, height: int, min_person_height: float) -> NDArray[np.float64]:
        """Return tiles at several scales, so that a person of any size in view fills enough of one of them."""
        return tiles.plan(width, height, min_person_height)

    def __call__(self, views: Sequence[View], threshold: float) -> list[Finds]:
        """Return the finds in each view, in px of its image."""
        found: list[list[Finds]] = [[] for _ in views]
        wanted = [(number, tile) for number, view in enumerate(views) for tile in view.tiles]
        for first in range(0, len(wanted), BATCH):
            part = wanted[first:first + BATCH]
            finds_of = self._search([(views[number], tile) for number, tile in part], threshold)
            for (number, _), finds in zip(part, finds_of, strict=True):
                found[number].append(finds)
        return [without_repeats(Finds.join(finds)) for finds in found]

    def _search(self, wanted: list[tuple[View, NDArray[np.float64]]], threshold: float) -> list[Finds]:
        """Return what is found in each tile, one call of the engine for at most BATCH of them."""
        batch = self._batch[:len(wanted)]
        for planes, (view, (x0, y0, side)) in zip(batch, wanted, strict=True):
            scale = side / INPUT_SIZE
            crop = warp(view.image, np.array([[scale, 0.0, x0], [0.0, scale, y0]]), INPUT_SIZE)
            hide(crop, (view.hidden - [x0, y0]) / scale, view.skeleton)
            fill_rgb(planes, crop, gain=2.0 / 255.0, offset=-1.0)
        outputs = self.engine.run({'image': batch})
        decoded = anchors.decode(outputs['boxes'], outputs['scores'], threshold)
        return [merge_overlapping(finds).scaled(side, (x0, y0))
                for finds, (_, (x0, y0, side)) in zip(decoded, wanted, strict=True)]


def hide(crop: NDArray[np.uint8], bodies: NDArray, skeleton: Skeleton) -> None:
    """Paint over people in a crop, in place. bodies (K, J, 2): their joints in px of the crop."""
    size, trunk_joints = len(crop), _trunk(skeleton)
    for body in np.clip(bodies, -2 * size, 3 * size).round().astype(np.int32):
        trunk = cv2.convexHull(body[trunk_joints])
        width = max(1, round(_LIMB_WIDTH * math.hypot(*np.ptp(trunk[:, 0], axis=0))))
        cv2.fillConvexPoly(crop, trunk, _GREY)
        cv2.polylines(crop, [trunk, *body[skeleton.bone_indices]], True, _GREY, width)


@lru_cache(maxsize=8)
def _trunk(skeleton: Skeleton) -> NDArray[np.intp]:
    """Return the joints of trunk and head; all joints where too few go by such names to enclose anything."""
    named = [position for position, joint in enumerate(skeleton.joints)
             if joint.removeprefix('left_').removeprefix('right_') in _TRUNK]
    return np.array(named if len(named) >= 3 else range(len(skeleton)), dtype=np.intp)
