"""Regions of interest: oriented squares about people, and their crops.

A region is a row of four numbers: centre x, y and side in px of the image, and the angle in rad by which the person
leans (0 upright, positive clockwise as seen on the image). Crop coordinates run from 0 at the region's corner to `size`
at the opposite corner; integers are pixel centres, as in the image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# The circle about a person is enlarged by this, to leave room for motion and error: where the search found somebody,
# and where somebody was in the frame before. (On the sample footage 1.15 gives a tenth less error than the usual 1.25.)
FOUND_MARGIN, FOLLOWED_MARGIN = 1.25, 1.15


def from_circle(middle: NDArray, rim: NDArray, margin: float) -> NDArray[np.float64]:
    """Return the regions (N, 4) about circles: middle (N, 2) px of the hips, rim (N, 2) px above the head.

    The line from middle to rim points up in the crop; the side is the diameter times the margin.
    """
    up = np.asarray(rim, np.float64) - middle
    side = 2.0 * margin * np.hypot(up[:, 0], up[:, 1])
    return np.column_stack([middle, side, np.arctan2(up[:, 0], -up[:, 1])])


def crop_to_image(regions: NDArray, size: int) -> NDArray[np.float64]:
    """Return the affine maps (N, 2, 3) from crop coordinates (size x size px) to image px."""
    scale = regions[:, 2] / size
    cos, sin = scale * np.cos(regions[:, 3]), scale * np.sin(regions[:, 3])
    turn = np.stack([np.stack([cos, -sin], axis=-1), np.stack([sin, cos], axis=-1)], axis=-2)
    shift = regions[:, :2] - turn.sum(axis=-1) * (size / 2.0)
    return np.concatenate([turn, shift[..., None]], axis=-1)


def transform(maps: NDArray, points: NDArray) -> NDArray[np.float64]:
    """Apply affine maps (N, 2, 3) to points (N, P, 2)."""
    return np.einsum('nij,npj->npi', maps[:, :, :2], points) + maps[:, None, :, 2]


def inverse(maps: NDArray) -> NDArray[np.float64]:
    """Return the inverse affine maps (N, 2, 3). Raises numpy.linalg.LinAlgError for a region without extent."""
    back = np.linalg.inv(maps[:, :, :2])
    return np.concatenate([back, -back @ maps[:, :, 2:]], axis=-1)


def plausible(regions: NDArray, width: int, height: int) -> NDArray[np.bool_]:
    """Return which regions (N, 4) can hold a person of this image: finite, of sane size, centred in or near it.

    A person whose hips are out of the image is still in view from the chest up; a region whose centre is farther out
    than a quarter of its side shows less than that.
    """
    centre, side = regions[:, :2], regions[:, 2]
    with np.errstate(invalid='ignore'):
        outside = np.maximum(-centre, centre - [width - 1, height - 1]).max(axis=1)
        return (np.isfinite(regions).all(axis=1) & (side >= 16.0) & (side <= 8.0 * max(width, height))
                & (outside <= side / 4.0))
