"""The BlazePose landmark network: from regions of an image to joints in pixels of that image.

Bazarevsky et al., "BlazePose: on-device real-time body pose tracking", 2020. The network regresses 39 points from a
256x256 crop (33 joints, then six auxiliary ones) and also gives a coarse heat map for each, by which the regressed
points are refined here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.detect import regions as rois
from pose3d_ros.detect.crops import fill_rgb, warp
from pose3d_ros.detect.poses import Poses, no_attributes
from pose3d_ros.runtime.engine import Engine
from pose3d_ros.skeleton import BLAZEPOSE33

INPUT_SIZE = 256
POINTS = 39
JOINTS = len(BLAZEPOSE33)
# Auxiliary points that carry the region on to the next frame: the middle of the hips, and a point on the body's circle.
NEXT_MIDDLE, NEXT_RIM = 33, 34
DEPTH_SCALE = 0.3  # of the network's relative depth: beside four cameras its bodies are three times too deep
_CELLS = 64
_REACH = 3  # cells to each side of the regressed point that are looked at: a window of 7x7
_OFFSETS = np.arange(-_REACH, _REACH + 1)
_USUAL_SPREAD = 3.5  # px of the crop: the heat's standard deviation at a joint that is plain to see


class BlazePoseReader:
    """The network with its crop before and its decoding behind; see JointReader.

    engine: input 'image' (N, 3, 256, 256) RGB in 0..1.
    """

    skeleton = BLAZEPOSE33

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._batch = np.zeros((1, 3, INPUT_SIZE, INPUT_SIZE), np.float32)

    def __call__(self, views: Sequence[tuple[NDArray[np.uint8], NDArray[np.float64]]]) -> list[Poses]:
        """Return the joints in the regions (N, 4) of each image (H, W, 3) BGR; one call of the engine for all."""
        maps = [rois.crop_to_image(regions, INPUT_SIZE) for _, regions in views]
        ends = np.cumsum([len(regions) for _, regions in views])
        if len(self._batch) < ends[-1]:
            self._batch = np.zeros((ends[-1], 3, INPUT_SIZE, INPUT_SIZE), np.float32)
        batch = self._batch[:ends[-1]]
        crops = ((image, crop_map) for (image, _), own in zip(views, maps, strict=True) for crop_map in own)
        for planes, (image, crop_map) in zip(batch, crops, strict=True):
            fill_rgb(planes, warp(image, crop_map, INPUT_SIZE), 1.0 / 255.0, 0.0)
        poses = decode(self.engine.run({'image': batch}), np.concatenate(maps))
        return [poses[end - len(regions):end] for end, (_, regions) in zip(ends, views, strict=True)]


def decode(outputs: dict[str, NDArray], maps: NDArray) -> Poses:
    """Return the joints from the network's outputs and the crop-to-image maps (N, 2, 3).

    outputs: 'landmarks' (N, 195), five values for each point: x, y, z in px of the crop, logits of visibility (not
    hidden) and of presence (in the crop); 'presence' (N, 1) in 0..1; 'heatmap' (N, 39, 64, 64) logits. Where the
    network overflows there is nobody.
    """
    values = outputs['landmarks'].reshape(-1, POINTS, 5).astype(np.float64)
    person = outputs['presence'].reshape(-1).astype(np.float64)
    sound = np.isfinite(values).all(axis=(1, 2)) & np.isfinite(person)
    values = np.where(sound[:, None, None], values, 0.0)
    crop, peak, spread = refine(values[..., :2], outputs['heatmap'])
    pixels = rois.transform(maps, crop)
    scale = np.hypot(maps[:, 0, 0], maps[:, 1, 0])[:, None]  # px of the image per px of the crop
    peak, spread = peak[:, :JOINTS], spread[:, :JOINTS] * scale
    return Poses(
        pixels=pixels[:, :JOINTS],
        confidence=confidence(peak, spread, _sigmoid(values[:, :JOINTS, 3]), scale),
        sigma=sigma(peak, spread, scale),
        depth=values[:, :JOINTS, 2] * scale * DEPTH_SCALE,
        person=np.where(sound, person, 0.0),
        middle=pixels[:, NEXT_MIDDLE],
        rim=pixels[:, NEXT_RIM],
        attributes=no_attributes(len(person)))


def confidence(peak: NDArray, spread: NDArray, visibility: NDArray, scale: NDArray) -> NDArray[np.float64]:
    """Return how sure each joint is, (N, 33) in 0..1: the probability that it is within 6 px of the crop (about 5 cm).

    peak (N, 33) in 0..1: the highest heat about the joint; spread (N, 33) px of the image: the heat's standard
    deviation; visibility (N, 33) in 0..1: that it is not hidden; scale (N, 1): px of the image per px of the crop. A
    logistic fit to triangulated joints of the sample footage (lite, full and heavy together), lowered for joints that
    the network calls hidden, of which the footage has few.
    """
    odds, wide = _heat(peak, spread, scale)
    right = 1.0 / (1.0 + np.exp(-(1.61 + 1.5 * np.log(odds) - 2.57 * np.log(wide))))
    return np.asarray(right * visibility ** 0.25)


def sigma(peak: NDArray, spread: NDArray, scale: NDArray) -> NDArray[np.float64]:
    """Return the standard deviation of each joint's coordinates, (N, 33) px of the image; arguments: see confidence.

    A maximum likelihood fit (Student's t, so that gross errors count little) to the same joints; for those within three
    sigma, the root mean square of error over sigma is 0.98 (lite), 1.02 (full), 1.09 (heavy).
    """
    odds, wide = _heat(peak, spread, scale)
    return np.asarray(2.87 * odds ** -0.41 * wide ** 1.74 * scale)


def _heat(peak: NDArray, spread: NDArray, scale: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what tells a good joint: the odds of its peak, and the heat's spread, 1 where usual; both (N, 33)."""
    peak = np.clip(peak, 0.02, 0.98)
    return peak / (1.0 - peak), np.clip(spread / (scale * _USUAL_SPREAD), 0.4, 2.3)


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
