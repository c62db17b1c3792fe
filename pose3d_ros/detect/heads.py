"""From what a network of joints puts out to joints in its crop: heat maps, and SimCC's pair of rows.

A heat map has a hill at the joint (Tompson et al., 2014); SimCC (Li et al., "SimCC: a simple coordinate classification
perspective for human pose estimation", 2022) has one hill along x and one along y, in bins finer than pixels. Both are
read alike: the highest cell, and then the place between cells where a Gaussian peaks that is fitted to the logarithms
of the cells about it (least squares, each cell weighted by its square, so that noise at the foot counts little).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

_REACH = 3  # cells (px, for SimCC) to each side of the highest that are looked at
_FOOT = 1e-3  # of the highest cell: what is lower counts as this much
_FARTHEST = 1.0  # cells (px) from the highest: what a fit puts farther away is not believed
_HIGHEST = 4.0  # a hill that should be about 1 high and is higher than this is none


@dataclass(frozen=True)
class Decoded:
    """Joints of N crops, J each: points (N, J, 2) px of the crop, integers at pixel centres; peak (N, J) in 0..1: the
    height of the hill, or the share of a distribution that it holds, 0 where there is no hill at all; spread (N, J) px:
    its standard deviation. All finite.
    """

    points: NDArray[np.float64]
    peak: NDArray[np.float64]
    spread: NDArray[np.float64]

    @classmethod
    def join(cls, parts: list[Decoded]) -> Decoded:
        """Return the crops of all parts, at least one, in their order."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


def decode_heatmaps(maps: NDArray, size: tuple[int, int], grid: str = 'stride', values: str = 'peak',
                    refine: str = 'gaussian') -> Decoded:
    """Return the joints of heat maps (N, J, h, w) over crops of size (width, height) px.

    grid, values, refine: see description_keys.py.
    """
    people, joints, rows, columns = maps.shape
    flat, sound = _hills(maps.reshape(people, joints, rows * columns), values)
    top = flat.argmax(axis=-1)
    row, column = np.divmod(top, columns)
    reach = np.arange(-_REACH, _REACH + 1)
    y, x = row[..., None] + reach, column[..., None] + reach
    inside = ((y >= 0) & (y < rows))[..., :, None] & ((x >= 0) & (x < columns))[..., None, :]
    places = np.clip(y, 0, rows - 1)[..., :, None] * columns + np.clip(x, 0, columns - 1)[..., None, :]
    window = np.take_along_axis(flat, places.reshape(people, joints, -1), axis=-1).reshape(places.shape) * inside
    # Along each axis, the window's lines weighted by the line through the peak: a Gaussian stays one.
    across = np.einsum('njyx,njy->njx', window, window[..., _REACH])
    down = np.einsum('njyx,njx->njy', window, window[..., _REACH, :])
    cells, spread = np.stack([column, row], axis=-1).astype(np.float64), []
    for axis, (profile, section) in enumerate(((across, window[..., _REACH, :]), (down, window[..., _REACH]))):
        shift, wide = _between(profile, section, refine, 1.0)
        cells[..., axis] += shift
        spread.append(wide)
    points, step = _pixels(cells, np.array([columns, rows]), np.array(size), grid)
    peak = _height(flat.max(axis=-1), window.sum(axis=(-2, -1)), values)
    return _sound(points, peak, np.mean(np.stack(spread, axis=-1) * step, axis=-1), sound, size)


def decode_simcc(x: NDArray, y: NDArray, size: tuple[int, int], split_ratio: float = 2.0, values: str = 'peak',
                 refine: str = 'gaussian') -> Decoded:
    """Return the joints of rows x (N, J, width split_ratio) and y (N, J, height split_ratio); size (width, height) px.

    A joint is as sure as the less sure of its two rows.
    """
    points, peaks, spreads, sounds = [], [], [], []
    reach = np.arange(-round(_REACH * split_ratio), round(_REACH * split_ratio) + 1)
    for rows in (x, y):
        flat, sound = _hills(rows, values)
        top = flat.argmax(axis=-1)
        places = top[..., None] + reach
        inside = (places >= 0) & (places < flat.shape[-1])
        window = np.take_along_axis(flat, np.clip(places, 0, flat.shape[-1] - 1), axis=-1) * inside
        shift, wide = _between(window, window, refine, split_ratio)
        points.append((top + shift) / split_ratio)
        peaks.append(_height(flat.max(axis=-1), window.sum(axis=-1), values))
        spreads.append(wide / split_ratio)
        sounds.append(sound)
    return _sound(np.stack(points, axis=-1), np.minimum(*peaks), np.mean(spreads, axis=0), sounds[0] & sounds[1], size)


def _hills(maps: NDArray, values: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return maps (N, J, C) as heights, 0 and more, and which (N, J) can be read: finite, uneven, in their range."""
    maps = maps.astype(np.float64)
    sound = np.isfinite(maps).all(axis=-1)
    maps = np.where(sound[..., None], maps, 0.0)
    highest = maps.max(axis=-1)
    sound &= highest > maps.min(axis=-1)
    if values == 'logit':
        maps = 1.0 / (1.0 + np.exp(-np.clip(maps, -60.0, 60.0)))
    elif values == 'softmax':
        maps = np.exp(maps - highest[..., None])
        maps /= maps.sum(axis=-1, keepdims=True)
    else:
        sound &= (highest > 0.0) & (highest <= (_HIGHEST if values == 'peak' else 1.001))
    return np.maximum(maps, 0.0), sound


def _height(highest: NDArray, share: NDArray, values: str) -> NDArray[np.float64]:
    return np.asarray(np.clip(share if values in ('softmax', 'distribution') else highest, 0.0, 1.0))


def _between(profile: NDArray, section: NDArray, refine: str, per_pixel: float) -> tuple[NDArray, NDArray]:
    """Return where the hill peaks, in cells from the middle one, and its standard deviation in cells; both (N, J).

    profile, section (N, J, K): cells about the highest, 0 outside the map; of the whole hill, and through its top.
    """
    shift, spread = _gaussian(profile)
    if refine == 'gaussian':
        return np.where(np.abs(shift) <= _FARTHEST * max(per_pixel, 1.0), shift, 0.0), spread
    middle = section.shape[-1] // 2
    quarter = 0.25 * np.sign(section[..., middle + 1] - section[..., middle - 1])
    return (quarter if refine == 'quarter' else np.zeros_like(quarter)), spread


def _gaussian(profile: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit log v = a + b k + c k^2 to cells (..., K), weights v^2: the peak is at -b / 2c, its variance is -1 / 2c.

    (Guo, "A simple algorithm for fitting a Gaussian function", IEEE Signal Processing Magazine, 2011.) Where the fit
    has no peak: 0, and the whole window's width.
    """
    middle = profile.shape[-1] // 2
    k = np.arange(-middle, middle + 1) / middle  # of the order of 1, as all sums then are
    top = np.maximum(profile.max(axis=-1, keepdims=True), 1e-300)
    v = profile / top
    weights, logs = np.where(v > _FOOT, v, 0.0) ** 2, np.log(np.maximum(v, _FOOT))
    sums = np.stack([(weights * k ** power).sum(axis=-1) for power in range(5)], axis=-1)
    normal = sums[..., np.arange(3)[:, None] + np.arange(3)]
    right = np.stack([(weights * k ** power * logs).sum(axis=-1) for power in range(3)], axis=-1)
    normal = normal + 1e-12 * np.eye(3)  # a single cell above the foot tells nothing: then b = c = 0
    _, b, c = np.moveaxis(np.linalg.solve(normal, right[..., None])[..., 0], -1, 0)
    peaked = c < -1e-3
    c = np.where(peaked, c, -1.0)
    return (np.where(peaked, -b / (2.0 * c), 0.0) * middle,
            np.where(peaked, np.minimum(np.sqrt(-0.5 / c), 2.0), 2.0) * middle)


def _pixels(cells: NDArray, count: NDArray, size: NDArray, grid: str) -> tuple[NDArray, NDArray]:
    """Return the pixels of cells (N, J, 2), and px per cell (2,)."""
    if grid == 'corners':
        step = (size - 1) / np.maximum(count - 1, 1)
        return cells * step, step
    step = size / count
    return (cells * step, step) if grid == 'stride' else ((cells + 0.5) * step - 0.5, step)


def _sound(points: NDArray, peak: NDArray, spread: NDArray, sound: NDArray, size: tuple[int, int]) -> Decoded:
    """Return the joints; those that cannot be read lie in the middle of the crop, with no height and all its width."""
    centre = np.array(size) / 2.0
    return Decoded(np.where(sound[..., None], points, centre), np.where(sound, peak, 0.0),
                   np.where(sound, spread, float(max(size)) / 2.0))
