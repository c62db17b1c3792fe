"""Square crops of an image as network input."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def warp(image: NDArray[np.uint8], crop_map: NDArray, size: int) -> NDArray[np.uint8]:
    """Return the crop (size, size, 3) of an image under a crop-to-image map (2, 3); black outside the image."""
    return cv2.warpAffine(image, crop_map, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                          borderMode=cv2.BORDER_CONSTANT)


def fill_rgb(planes: NDArray[np.float32], crop: NDArray[np.uint8], gain: float, offset: float) -> None:
    """Write a BGR crop (S, S, 3) into planes (3, S, S) as RGB, value * gain + offset."""
    for plane, channel in zip(planes, (2, 1, 0), strict=True):
        np.multiply(crop[:, :, channel], np.float32(gain), out=plane)
        if offset:
            plane += np.float32(offset)
