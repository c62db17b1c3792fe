"""Square crops of an image as network input."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

_COARSEST = 8.0  # px of the image per px of the crop up to which one sample per pixel will do


def warp(image: NDArray[np.uint8], crop_map: NDArray, size: int) -> NDArray[np.uint8]:
    """Return the crop (size, size, 3) of an image under a crop-to-image map (2, 3); black outside the image.

    A pixel of the crop is one bilinear sample, as the networks were trained on; where it stands for more than 8x8 px of
    the image, the mean of several.
    """
    samples = math.ceil(math.hypot(crop_map[0, 0], crop_map[1, 0]) / _COARSEST)
    fine = crop_map.copy()
    if samples > 1:
        fine[:, :2] /= samples
        fine[:, 2] -= fine[:, :2].sum(axis=1) * (samples - 1) / 2.0
    crop = cv2.warpAffine(image, fine, (size * samples, size * samples),
                          flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_CONSTANT)
    if samples > 1:
        crop = cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(crop, np.uint8)


def fill_rgb(planes: NDArray[np.float32], crop: NDArray[np.uint8], gain: float, offset: float) -> None:
    """Write a BGR crop (S, S, 3) into planes (3, S, S) as RGB, value * gain + offset."""
    for plane, channel in zip(planes, (2, 1, 0), strict=True):
        np.multiply(crop[:, :, channel], np.float32(gain), out=plane)
        if offset:
            plane += np.float32(offset)
