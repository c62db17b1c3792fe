"""Heat maps and SimCC rows are read to a fraction of a pixel, and what is no hill is no joint."""

from __future__ import annotations

import numpy as np
import pytest

from pose3d_ros.detect.heads import decode_heatmaps, decode_simcc

SIZE = (192, 256)
RATIO = 2.0


def cell_pixels(count: int, length: int, grid: str) -> np.ndarray:
    """Return the pixel of each cell, as the documentation of head.grid has it."""
    i = np.arange(count)
    return {'stride': i * length / count, 'corners': i * (length - 1) / (count - 1),
            'centres': (i + 0.5) * length / count - 0.5}[grid]


def heat(places: np.ndarray, sigma: float = 8.0, grid: str = 'stride') -> np.ndarray:
    """Return maps (N, J, 64, 48), a Gaussian 1 high at each place (N, J, 2) px."""
    x, y = cell_pixels(48, 192, grid), cell_pixels(64, 256, grid)
    across = np.exp(-(x - places[..., :1]) ** 2 / (2 * sigma ** 2))
    down = np.exp(-(y - places[..., 1:]) ** 2 / (2 * sigma ** 2))
    return (down[..., :, None] * across[..., None, :]).astype(np.float32)


def rows(places: np.ndarray, sigma: float = 2.6) -> tuple[np.ndarray, np.ndarray]:
    """Return SimCC rows (N, J, 384), (N, J, 512), Gaussians 1 high at each place."""
    x, y = (np.exp(-(np.arange(round(length * RATIO)) / RATIO - places[..., axis:axis + 1]) ** 2 / (2 * sigma ** 2))
            for axis, length in enumerate(SIZE))
    return x.astype(np.float32), y.astype(np.float32)


def random_places(seed: int, margin: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(margin, np.array(SIZE) - 8.0 - margin, size=(20, 17, 2))


@pytest.mark.parametrize('grid', ['stride', 'corners', 'centres'])
def test_a_gaussian_in_a_heat_map_is_found_anywhere_to_a_tenth_of_a_pixel(grid: str) -> None:
    places = random_places(0)
    found = decode_heatmaps(heat(places, grid=grid), SIZE, grid)
    assert np.abs(found.points - places).max() < 0.1
    np.testing.assert_allclose(found.spread, 8.0, atol=0.2)
    assert found.peak.min() > 0.9


def test_a_gaussian_in_simcc_rows_is_found_to_a_tenth_of_a_pixel() -> None:
    places = random_places(1)
    found = decode_simcc(*rows(places), SIZE, RATIO)
    assert np.abs(found.points - places).max() < 0.1
    np.testing.assert_allclose(found.spread, 2.6, atol=0.1)


@pytest.mark.parametrize('values', ['logit', 'softmax', 'distribution'])
def test_a_hill_is_found_whatever_its_values_mean(values: str) -> None:
    places = random_places(2, margin=24)
    hills = heat(places).astype(np.float64)
    if values == 'logit':
        clipped = np.clip(hills * 0.98, 1e-6, 1 - 1e-6)
        maps = np.log(clipped / (1 - clipped))
    elif values == 'softmax':
        maps = np.log(np.maximum(hills, 1e-8))
    else:
        maps = hills / hills.sum(axis=(-2, -1), keepdims=True)
    found = decode_heatmaps(maps, SIZE, 'stride', values)
    assert np.abs(found.points - places).max() < 0.1
    assert found.peak.min() > 0.8


def test_the_quarter_rule_is_right_to_an_eighth_and_no_rule_to_half_a_cell() -> None:
    places = random_places(3)
    for refine, most in (('quarter', 1.6), ('none', 2.1)):
        found = decode_heatmaps(heat(places), SIZE, refine=refine)
        assert 0.3 < np.abs(found.points - places).max() < most, refine


@pytest.mark.parametrize('head', ['heatmap', 'simcc'])
def test_noise_moves_joints_little_and_a_lower_hill_is_less_sure(head: str) -> None:
    random = np.random.default_rng(4)
    places = random_places(4, margin=12)

    def read(height: float, noise: float):
        if head == 'heatmap':
            maps = height * heat(places)
            return decode_heatmaps(maps + random.normal(0, noise, maps.shape), SIZE)
        x, y = (height * row for row in rows(places))
        return decode_simcc(x + random.normal(0, noise, x.shape), y + random.normal(0, noise, y.shape), SIZE, RATIO)

    clean, noisy, low = read(1.0, 0.0), read(1.0, 0.03), read(0.4, 0.03)
    error = np.abs(noisy.points - places)
    assert error.mean() < 0.35 and error.max() < 3.0
    assert low.peak.mean() < 0.5 < noisy.peak.mean()
    assert clean.peak.min() > 0.9


def test_the_less_sure_axis_decides() -> None:
    x, y = rows(random_places(5))
    assert decode_simcc(x, 0.3 * y, SIZE, RATIO).peak.max() < 0.301


@pytest.mark.parametrize('spoilt', [np.nan, np.inf, 50.0])
def test_a_map_that_is_not_one_gives_no_joint_and_leaves_the_others_alone(spoilt: float) -> None:
    places = random_places(6)
    maps = heat(places)
    expected = decode_heatmaps(maps, SIZE)
    maps[3, 5, 10, 10] = spoilt
    maps[4, 6] = 0.0
    maps[5, 7] = 0.7  # even: no hill
    found = decode_heatmaps(maps, SIZE)
    bad = np.zeros((20, 17), bool)
    bad[[3, 4, 5], [5, 6, 7]] = True
    assert (found.peak[bad] == 0).all() and np.isfinite(found.points).all() and np.isfinite(found.spread).all()
    np.testing.assert_array_equal(found.points[~bad], expected.points[~bad])
    x, y = rows(places)
    x[0, 0, 3], y[1, 1] = spoilt, 0.0
    read = decode_simcc(x, y, SIZE, RATIO)
    assert read.peak[0, 0] == read.peak[1, 1] == 0 and read.peak[2:].min() > 0.9


def test_a_distribution_over_one_is_none_and_an_even_one_is_unsure() -> None:
    maps = heat(random_places(7))
    assert (decode_heatmaps(2.0 + 0 * maps + maps, SIZE, values='distribution').peak == 0).all()
    slope = 1.0 + 1e-3 * np.random.default_rng(7).random(maps.shape)
    even = slope / slope.sum(axis=(-2, -1), keepdims=True)
    assert decode_heatmaps(even, SIZE, values='distribution').peak.max() < 0.05


def test_hills_at_the_edge_and_single_cells_are_read_without_a_warning() -> None:
    places = np.array([[[0.0, 0.0], [191.0, 255.0], [0.0, 255.0], [-3.0, 100.0]]])
    found = decode_heatmaps(heat(places), SIZE)
    assert np.abs(found.points - places).max() < 4.5
    single = np.zeros((1, 1, 64, 48))
    single[0, 0, 20, 30] = 1.0
    read = decode_heatmaps(single, SIZE)
    np.testing.assert_array_equal(read.points[0, 0], [120.0, 80.0])
