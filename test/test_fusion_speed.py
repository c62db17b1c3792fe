"""The benchmark of triangulation: its scene is what it says, and its figures are what was measured."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pose3d_ros.fuse.triangulate import triangulate


@pytest.fixture(scope='module')
def speed() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        'benchmark_fusion_speed', Path(__file__).parents[1] / 'benchmarks' / 'fusion_speed.py')
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_scene_has_its_share_of_outliers_and_the_textbook_suffers_from_them(speed: ModuleType) -> None:
    given = speed.scene(8)
    local = np.einsum('vij,nj->vni', given['poses'][:, :3, :3], given['truth']) + given['poses'][:, None, :3, 3]
    assert local[..., 2].min() > 1.0  # everybody is in front of every camera
    np.testing.assert_allclose(np.linalg.det(given['poses'][:, :3, :3]), 1.0)
    exact = local[..., :2] / local[..., 2:]
    off = np.linalg.norm(given['rays'] - exact, axis=-1)
    assert np.mean(off > 4 * speed.SIGMA) == pytest.approx(speed.OUTLIERS, abs=0.04)
    np.testing.assert_allclose(speed.dlt(exact, given['poses'][:, :3]), given['truth'], atol=1e-9)
    ours = triangulate(given['rays'], given['poses'], speed.SIGMA).points
    plain = speed.dlt(given['rays'], given['poses'][:, :3])
    lost = [np.mean(~(np.linalg.norm(points - given['truth'], axis=-1) < speed.LOST_M)) for points in (ours, plain)]
    assert lost[0] < 0.05 < 0.2 < lost[1]


def test_ratios_are_taken_within_a_round_and_missing_points_are_lost(speed: ModuleType) -> None:
    truth = np.zeros((4, 3))
    found = np.array([[0.0, 0.0, 0.004], [0.0, 0.003, 0.0], [0.5, 0.0, 0.0], [np.nan, np.nan, np.nan]])
    noise = iter([1.0, 10.0, 100.0])  # the machine is slower from round to round

    def ours(seconds: float) -> tuple[list[float], np.ndarray]:
        ours.slow = next(noise)
        return [ours.slow], truth

    def other(seconds: float) -> tuple[list[float], np.ndarray]:
        return [3.0 * ours.slow], found

    speed_of = speed.measure({'ours': ours, 'dlt': other}, truth, 1, 0.0)
    assert speed_of['ratio_dlt'] == 3.0
    assert speed_of['ours_ms'] == 1.0
    assert speed_of['ours_lost_share'] == 0.0
    assert speed_of['dlt_lost_share'] == 0.5
    assert speed_of['dlt_error_mm'] == pytest.approx(4.0)
