"""Geometry of the detection stage: anchors, tiles, regions, crops, refinement. Properties on seeded random numbers."""

from __future__ import annotations

import numpy as np
import pytest

from pose3d_ros.detect import anchors, blazepose, crops, finds, regions, tiles
from pose3d_ros.detect.finds import Finds
from pose3d_ros.detect.rounds import near_twice


def random_finds(rng: np.random.Generator, count: int) -> Finds:
    low = rng.uniform(0.0, 0.7, (count, 2))
    return Finds(np.concatenate([low, low + rng.uniform(0.05, 0.3, (count, 2))], axis=1),
                 rng.uniform(-0.2, 1.2, (count, 4, 2)), rng.uniform(0.55, 0.99, count))


def random_regions(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.column_stack([rng.uniform(0, 1900, (count, 2)), rng.uniform(20, 3000, count),
                            rng.uniform(-np.pi, np.pi, count)])


def test_anchors_are_the_three_grids_in_order():
    centres = anchors.anchor_centres()
    assert centres.shape == (anchors.ANCHOR_COUNT, 2)
    first, second, third = np.split(centres, [28 * 28 * 2, 28 * 28 * 2 + 14 * 14 * 2])
    for grid, cells, each in ((first, 28, 2), (second, 14, 2), (third, 7, 6)):
        assert len(grid) == cells * cells * each
        np.testing.assert_allclose(grid[0], 0.5 / cells)
        np.testing.assert_allclose(grid[each], [1.5 / cells, 0.5 / cells])          # along the row first
        np.testing.assert_allclose(grid[each * cells], [0.5 / cells, 1.5 / cells])  # then down
        np.testing.assert_allclose(grid[-1], 1.0 - 0.5 / cells)


def test_decode_inverts_encode():
    rng = np.random.default_rng(0)
    finds = random_finds(rng, 20)
    chosen = np.sort(rng.choice(anchors.ANCHOR_COUNT, 20, replace=False))
    boxes, scores = anchors.encode(finds, chosen)
    [decoded] = anchors.decode(boxes[None], scores[None], 0.5)
    np.testing.assert_allclose(decoded.boxes, finds.boxes, atol=1e-5)
    np.testing.assert_allclose(decoded.points, finds.points, atol=1e-5)
    np.testing.assert_allclose(decoded.scores, finds.scores, atol=1e-5)


def test_decode_keeps_what_reaches_the_threshold_and_survives_any_logit():
    scores = np.full((1, anchors.ANCHOR_COUNT, 1), -1e4, np.float32)
    scores[0, :3, 0] = [1e4, 0.01, -0.01]
    [found] = anchors.decode(np.zeros((1, anchors.ANCHOR_COUNT, 12), np.float32), scores, 0.5)
    assert len(found) == 2 and found.scores[0] == 1.0


def test_overlapping_finds_merge_to_their_weighted_mean_and_others_stay():
    box = np.array([[0.1, 0.1, 0.3, 0.3]])
    group = np.concatenate([box, box + 0.02, box + 0.5])
    points = np.zeros((3, 4, 2)) + np.array([0.2, 0.22, 0.7])[:, None, None]
    merged = finds.merge_overlapping(Finds(group, points, np.array([0.9, 0.6, 0.8])))
    np.testing.assert_allclose(merged.scores, [0.9, 0.8])
    np.testing.assert_allclose(merged.points[0, 0], (0.9 * 0.2 + 0.6 * 0.22) / 1.5)
    np.testing.assert_allclose(merged.boxes[1], group[2])
    assert len(finds.merge_overlapping(Finds.none())) == 0


def test_box_overlap_of_equal_disjoint_and_empty_boxes():
    box, other, empty = [0.0, 0.0, 2.0, 2.0], [2.0, 0.0, 4.0, 2.0], [1.0, 1.0, 1.0, 1.0]
    np.testing.assert_allclose(finds.box_overlap(np.array([box, empty]), np.array([box, other, empty])),
                               [[1, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize('size', [(1920, 1080), (1080, 1920), (640, 480), (640, 640), (7680, 4320), (3000, 400)])
@pytest.mark.parametrize('smallest', [1 / 6, 1 / 3, 1.0])
def test_every_person_fills_enough_of_a_tile_that_holds_it(size, smallest):
    width, height = size
    plan = tiles.plan(width, height, smallest)
    rng = np.random.default_rng(1)
    tall = height * np.exp(rng.uniform(np.log(smallest), 0.0, 2000))
    wide = np.minimum(tiles.PERSON_ASPECT * tall, width)
    x0 = rng.uniform(0, 1, 2000) * (width - wide)
    y0 = rng.uniform(0, 1, 2000) * (height - tall)
    x0[:500] = np.where(rng.random(500) < 0.5, 0.0, width - wide[:500])  # at the edges, too
    y0[200:700] = np.where(rng.random(500) < 0.5, 0.0, height - tall[200:700])
    left, top, side = plan.T
    close_enough = 1e-6
    inside = ((left <= x0[:, None] + close_enough) & (top <= y0[:, None] + close_enough)
              & (left + side >= (x0 + wide)[:, None] - close_enough)
              & (top + side >= (y0 + tiles.LEAST_PART * tall)[:, None] - close_enough)
              & (tall[:, None] >= tiles.LEAST_SHARE * side - close_enough))
    assert inside.any(axis=1).all()


def test_the_number_of_tiles_is_bounded_and_does_not_depend_on_resolution():
    assert len(tiles.plan(1920, 1080, 1 / 6)) == len(tiles.plan(7680, 4320, 1 / 6)) <= 40
    assert len(tiles.plan(1080, 1920, 1 / 6)) <= 14
    assert len(tiles.plan(1, 1, 1 / 6)) == len(tiles.plan(4000, 10, 1 / 6)) == 0


def test_a_region_stands_upright_about_its_circle():
    rng = np.random.default_rng(2)
    middle, rim = rng.uniform(0, 1000, (2, 50, 2))
    region = regions.from_circle(middle, rim, 1.25)
    maps = regions.crop_to_image(region, 256)
    radius = np.linalg.norm(rim - middle, axis=1)
    np.testing.assert_allclose(region[:, 2], 2.5 * radius)
    crop = regions.transform(regions.inverse(maps), np.stack([middle, rim], axis=1))
    np.testing.assert_allclose(crop[:, 0], 128.0, atol=1e-6)
    np.testing.assert_allclose(crop[:, 1], np.tile([128.0, 128.0 - 128.0 / 1.25], (50, 1)), atol=1e-6)


def test_crop_round_trip_to_a_millionth_of_a_pixel():
    rng = np.random.default_rng(3)
    maps = regions.crop_to_image(random_regions(rng, 40), 256)
    points = rng.uniform(-100, 400, (40, 39, 2))
    np.testing.assert_allclose(regions.transform(regions.inverse(maps), regions.transform(maps, points)), points,
                               atol=1e-6)


def test_an_upright_region_maps_corner_to_corner():
    region = np.array([[100.0, 60.0, 40.0, 0.0]])
    corners = regions.transform(regions.crop_to_image(region, 256), np.array([[[0, 0], [256, 0], [0, 256]]]))
    np.testing.assert_allclose(corners[0], [[80, 40], [120, 40], [80, 80]])


def test_warp_puts_what_the_map_says_where_it_says():
    ramp = np.stack(np.meshgrid(np.arange(200.0), np.arange(200.0)), axis=-1)
    image = np.dstack([ramp, np.zeros((200, 200))]).astype(np.uint8)
    region = np.array([[90.0, 110.0, 120.0, 0.5]])
    crop_map = regions.crop_to_image(region, 64)[0]
    crop = crops.warp(image, crop_map, 64).astype(float)
    grid = np.stack(np.meshgrid(np.arange(64.0), np.arange(64.0)), axis=-1)
    expected = grid @ crop_map[:, :2].T + crop_map[:, 2]
    assert np.abs(crop[..., :2] - expected).max() < 1.1  # bilinear of a ramp, to rounding


def test_warp_averages_what_one_sample_would_miss():
    image = np.zeros((6400, 640, 3), np.uint8)
    image[::2] = 200  # stripes far below the crop's resolution
    crop = crops.warp(image, np.array([[100.0, 0.0, 49.7], [0.0, 100.0, 49.7]]), 6)
    assert np.abs(crop.astype(int) - 100).max() <= 12


def test_the_crop_is_black_out_of_the_image_and_rgb():
    image = np.full((10, 10, 3), (10, 20, 30), np.uint8)
    planes = np.zeros((3, 16, 16), np.float32)
    crops.fill_rgb(planes, crops.warp(image, np.array([[1.0, 0, 0], [0, 1.0, 0]]), 16), 2.0, -1.0)
    np.testing.assert_allclose(planes[:, 4, 4], [59, 39, 19])
    np.testing.assert_allclose(planes[:, 12, 12], -1.0)


@pytest.mark.parametrize('region, expected', [
    ((100, 100, 200, 0.3), True), ((-40, 100, 200, 0), True), ((-60, 100, 200, 0), False),
    ((100, 545, 200, 0), False), ((100, 100, 10, 0), False), ((100, 100, 1e6, 0), False),
    ((np.nan, 100, 200, 0), False), ((100, 100, np.inf, 0), False)])
def test_plausible_regions(region, expected):
    assert regions.plausible(np.array([region], float), 640, 480)[0] == expected


def heat(rng: np.random.Generator, points: np.ndarray, height: float) -> np.ndarray:
    """Return maps (N, P, 64, 64) of logits with a bump of `height` at each point (px of the crop)."""
    cells = np.arange(64) * 4.0
    squared = ((cells - points[..., None, None, 0]) ** 2 + (cells[:, None] - points[..., None, None, 1]) ** 2)
    return (height - squared / 40.0).astype(np.float32)


def test_refinement_finds_the_bump_from_nearby():
    rng = np.random.default_rng(4)
    truth = rng.uniform(40, 210, (3, 39, 2))
    start = truth + rng.uniform(-6, 6, truth.shape)
    refined, peak, spread = blazepose.refine(start, heat(rng, truth, 3.0))
    assert np.abs(refined - truth).mean() < 0.2 * np.abs(start - truth).mean()
    assert np.abs(refined - truth).max() < 2.5  # where the window cuts the bump
    assert (peak > 0.9).all() and (spread > 1.0).all() and (spread < 8.0).all()


def test_refinement_leaves_weak_or_distant_heat_alone():
    rng = np.random.default_rng(5)
    truth = rng.uniform(40, 210, (2, 39, 2))
    for start, height in ((truth + 5.0, -1.0), (truth + 100.0, 3.0), (truth - 1e9, 3.0)):
        refined, peak, _ = blazepose.refine(start, heat(rng, truth, height))
        np.testing.assert_array_equal(refined, start)
        assert (peak < 0.5).all()


def test_refinement_at_the_edge_uses_what_is_there():
    truth = np.full((1, 39, 2), 2.0)
    refined, peak, spread = blazepose.refine(truth + 3.0, heat(np.random.default_rng(0), truth, 3.0))
    assert np.isfinite(refined).all() and np.isfinite(spread).all() and (peak > 0.9).all()
    assert (np.abs(refined - truth) < 4.0).all()


@pytest.mark.parametrize('size', [(1920, 1080), (1080, 1920), (640, 480)])
def test_a_round_visits_every_tile_and_those_for_near_people_twice_half_a_round_apart(size):
    planned = tiles.plan(*size, 1 / 6)
    visits = near_twice(planned)
    for tile in planned:
        turns = np.flatnonzero((visits == tile).all(axis=1))
        assert len(turns) == (2 if tile[2] > planned[:, 2].max() / 2 else 1)
        if len(turns) == 2:
            assert abs(turns[1] - turns[0] - len(visits) / 2) <= 1
    assert len(near_twice(np.zeros((0, 3)))) == 0
