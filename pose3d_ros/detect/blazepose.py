"""The BlazePose landmark network: from regions of an image to joints in pixels of that image.

Bazarevsky et al., "BlazePose: on-device real-time body pose tracking", 2020. The network regresses 39 points from a
256x256 crop (33 joints, then six auxiliary ones) and also gives a coarse heat map for each, by which the regressed
points are refined here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.detect import regions as rois
from pose3d_ros.detect.crops import fill_rgb, warp
from pose3d_ros.runtime.engine import Engine

INPUT_SIZE = 256
POINTS = 39
JOINTS = 33
# Auxiliary points that carry the region on to the next frame: the middle of the hips, and a point on the body's circle.
NEXT_MIDDLE, NEXT_RIM = 33, 34
_CELLS = 64
_REACH = 3  # cells to each side of the regressed point that are looked at: a window of 7x7
_OFFSETS = np.arange(-_REACH, _REACH + 1)


@dataclass(frozen=True)
class Poses:
    """What the network says about N regions, P = 39 points each.

    crop (N, P, 2) px of the crop; pixels (N, P, 2) px of the image; depth (N, P) px of the image, against the mid-hip,
    negative towards the camera; visibility, presence and peak (N, P) in 0..1: not hidden, inside the crop, and the
    highest heat in the window about the point; spread (N, P) px of the image: the heat's standard deviation there;
    shift (N, P) px of the image: how far the refinement moved the point; person (N,) in 0..1: that there is a person;
    scale (N,): px of the image per px of the crop.
    """

    crop: NDArray[np.float64]
    pixels: NDArray[np.float64]
    depth: NDArray[np.float64]
    visibility: NDArray[np.float64]
    presence: NDArray[np.float64]
    peak: NDArray[np.float64]
    spread: NDArray[np.float64]
    shift: NDArray[np.float64]
    person: NDArray[np.float64]
    scale: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.person)

    def __getitem__(self, chosen: NDArray) -> Poses:
        return Poses(*(getattr(self, field.name)[chosen] for field in fields(self)))

    @classmethod
    def join(cls, first: Poses, second: Poses) -> Poses:
        """Return the regions of both, in this order."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in (first, second)]) for field in fields(cls)))

    @classmethod
    def none(cls) -> Poses:
        """Return no regions."""
        return cls(*(np.zeros((0, *shape)) for shape in ((POINTS, 2), (POINTS, 2), *[(POINTS,)] * 6, (), ())))

    def circles(self) -> NDArray[np.float64]:
        """Return the circles (N, 3) x, y, radius px about the middle of the hips that enclose the bodies."""
        middle, rim = self.pixels[:, NEXT_MIDDLE], self.pixels[:, NEXT_RIM]
        return np.column_stack([middle, np.linalg.norm(rim - middle, axis=1)])

    def next_regions(self) -> NDArray[np.float64]:
        """Return where to look for the same people in the next frame: regions (N, 4)."""
        return rois.from_circle(self.pixels[:, NEXT_MIDDLE], self.pixels[:, NEXT_RIM], rois.FOLLOWED_MARGIN)


class LandmarkModel:
    """The network with its crop before and its decoding behind. engine: input 'image' (N, 3, 256, 256) RGB in 0..1."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._batch = np.zeros((1, 3, INPUT_SIZE, INPUT_SIZE), np.float32)

    def __call__(self, image: NDArray[np.uint8], regions: NDArray) -> Poses:
        """Return the points in the regions (N, 4), N >= 1, of an image (H, W, 3) BGR; one call of the engine."""
        maps = rois.crop_to_image(regions, INPUT_SIZE)
        if len(self._batch) < len(regions):
            self._batch = np.zeros((len(regions), 3, INPUT_SIZE, INPUT_SIZE), np.float32)
        batch = self._batch[:len(regions)]
        for planes, crop_map in zip(batch, maps, strict=True):
            fill_rgb(planes, warp(image, crop_map, INPUT_SIZE), 1.0 / 255.0, 0.0)
        outputs = self.engine.run({'image': batch})
        return decode(outputs, maps)


def decode(outputs: dict[str, NDArray], maps: NDArray) -> Poses:
    """Return the points from the network's outputs and the crop-to-image maps (N, 2, 3).

    outputs: 'landmarks' (N, 195), five values for each point: x, y, z in px of the crop, logits of visibility and of
    presence; 'presence' (N, 1) in 0..1; 'heatmap' (N, 39, 64, 64) logits. Where the network overflows there is nobody.
    """
    values = outputs['landmarks'].reshape(-1, POINTS, 5).astype(np.float64)
    person = outputs['presence'].reshape(-1).astype(np.float64)
    sound = np.isfinite(values).all(axis=(1, 2)) & np.isfinite(person)
    values = np.where(sound[:, None, None], values, 0.0)
    regressed = values[..., :2]
    crop, peak, spread = refine(regressed, outputs['heatmap'])
    scale = np.hypot(maps[:, 0, 0], maps[:, 1, 0])
    return Poses(
        crop=crop,
        pixels=rois.transform(maps, crop),
        depth=values[..., 2] * scale[:, None],
        visibility=_sigmoid(values[..., 3]),
        presence=_sigmoid(values[..., 4]),
        peak=peak,
        spread=spread * scale[:, None],
        shift=np.linalg.norm(crop - regressed, axis=-1) * scale[:, None],
        person=np.where(sound, person, 0.0),
        scale=scale)


def refine(points: NDArray, heatmap: NDArray, least_peak: float = 0.5) -> tuple[NDArray, NDArray, NDArray]:
    """Move each point to the centre of the heat in the 7x7 cells about it, where that reaches least_peak.

    points (N, P, 2) px of the 256 px crop; heatmap (N, P, 64, 64) logits, cell i at pixel 4 i. A window is cut at the
    map's edge; the weights are the squared heat. Returns the points (N, P, 2), the highest heat (N, P) in 0..1 (0 for a
    window wholly outside), and the weights' standard deviation per axis (N, P) in px of the crop.
    """
    step = INPUT_SIZE / _CELLS
    people, joints = points.shape[:2]
    cells = np.clip(np.floor(points / step), -10_000, 10_000).astype(np.intp)
    columns = cells[..., 0, None] + _OFFSETS
    rows = cells[..., 1, None] + _OFFSETS
    inside = (((rows >= 0) & (rows < _CELLS))[..., :, None] & ((columns >= 0) & (columns < _CELLS))[..., None, :])
    heat = heatmap[np.arange(people)[:, None, None, None], np.arange(joints)[None, :, None, None],
                   np.clip(rows, 0, _CELLS - 1)[..., :, None], np.clip(columns, 0, _CELLS - 1)[..., None, :]]
    heat = np.nan_to_num(_sigmoid(heat.astype(np.float64))) * inside
    peak = heat.max(axis=(-2, -1))
    heat **= 2  # a sharper mean: 3 % less error on the sample footage
    total = np.maximum(heat.sum(axis=(-2, -1)), 1e-12)
    across, down = heat.sum(axis=-2), heat.sum(axis=-1)
    centre = np.stack([(across * columns).sum(axis=-1), (down * rows).sum(axis=-1)], axis=-1) / total[..., None]
    variance = ((across * (columns - centre[..., :1]) ** 2).sum(axis=-1)
                + (down * (rows - centre[..., 1:]) ** 2).sum(axis=-1)) / (2.0 * total)
    return (np.where((peak >= least_peak)[..., None], centre * step, points), peak,
            np.sqrt(np.maximum(variance, 0.0)) * step)


def _sigmoid(logits: NDArray) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-np.clip(logits, -60.0, 60.0)))
