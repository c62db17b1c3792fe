"""`pose3d evaluate lifter` with a stand-in for the network: conditions, names of the figures, files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from procedural import standing, write_mocap

from pose3d_ros.cli import evaluate_lifter
from pose3d_ros.cli.chart import chart
from pose3d_ros.cli.evaluate_lifter import MAIN, Evaluation, lift, place_on_floor
from pose3d_ros.cli.main import main
from pose3d_ros.lift import GIVEN_SIGMA, Lifter
from pose3d_ros.runtime.engine import Wanted
from pose3d_ros.stature import stature
from pose3d_ros.train.assess import on_the_floor, whole_body
from pose3d_ros.train.mocap import load_mocap
from pose3d_ros.train.procedural import procedural_mocap
from pose3d_ros.train.samples import EVALUATION, Samples, make_samples

SPREAD = 0.02   # relative error of the stand-in's depth, beside that of the stature


class Oracle:
    """Knows everybody's true joints, but sees them only up to scale: they come out in the stature it is told.

    It knows people by the age of their second frame (see marked) and records what it was told.
    """

    stature, stature_sigma = 1.70, 0.10

    def __init__(self, samples: Samples) -> None:
        self._truth = {float(age): (points, size) for age, points, size in
                       zip(samples.age[:, 1], samples.points, samples.stature)}
        self.told: list[dict[str, NDArray]] = []

    def run(self, rays: NDArray, confidence: NDArray, age: NDArray, up: NDArray,
            stature: NDArray, landmarks: NDArray) -> tuple[NDArray, NDArray]:
        self.told.append({'confidence': confidence, 'up': up, 'stature': stature, 'landmarks': landmarks})
        known = [self._truth[float(mark)] for mark in age[:, 1]]
        noise = np.random.default_rng(len(rays)).normal(1, SPREAD, len(rays))
        factor = stature[:, 0] / np.array([size for _, size in known]) * noise
        position = np.stack([points for points, _ in known]).astype(np.float64) * factor[:, None, None]
        relative = np.square(stature[:, 1] / stature[:, 0]) + SPREAD ** 2
        covariance = relative[:, None, None, None] * position[..., :, None] * position[..., None, :] + 1e-4 * np.eye(3)
        return position, covariance


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mocap(tmp_path_factory.mktemp('mocap') / 'walk.npz')


def marked(samples: Samples, mark: float = 1e-6) -> Samples:
    age = samples.age.copy()
    age[:, 1] += mark * np.arange(len(samples), dtype=np.float32)
    assert len(np.unique(age[:, 1])) == len(samples)
    return replace(samples, age=age)


@pytest.fixture(scope='module')
def samples(data: Path) -> Samples:
    return marked(make_samples(load_mocap([data], 'test'), 300, np.random.default_rng(0), EVALUATION))


def test_what_is_known_is_told_and_helps(samples: Samples) -> None:
    oracle = Oracle(samples)
    figures = Evaluation(oracle, samples, samples, samples).figures()      # type: ignore[arg-type]
    off = abs(oracle.stature / float(np.median(samples.stature)) - 1)
    distance = np.linalg.norm(samples.points[whole_body(samples), 0], axis=-1).mean()
    assert figures['robot.mrpe_mm'] == pytest.approx(1e3 * distance * max(off, 0.8 * SPREAD), rel=0.5)
    assert figures['robot_stature.mrpe_mm'] == pytest.approx(1e3 * distance * 0.8 * SPREAD, rel=0.3)
    assert figures['robot.pa_mpjpe_mm'] < 0.1
    gravity = [told['up'].any() for told in oracle.told]
    given = [np.isclose(told['stature'][:, 1], GIVEN_SIGMA).all() for told in oracle.told]
    assert 0 < sum(gravity) < len(gravity) and 0 < sum(given) < len(given)
    alone = [told for told in oracle.told if not told['confidence'][:, 1:].any()]
    assert len(alone) == 1


def test_the_floor_tells_the_distance_of_who_stands_on_it(samples: Samples) -> None:
    small = samples.where(on_the_floor(samples) & whole_body(samples))
    oracle = Oracle(small)
    oracle.stature = 1.55                                         # everybody is taken to be shorter, thus too near
    exact, off = (place_on_floor(oracle, small, *errors).accuracy()['mrpe_mm']  # type: ignore[arg-type]
                  for errors in ((0.001, 0.002), (0.01, 0.02)))
    unused = Evaluation(oracle, small, small, small).outcomes[''].accuracy()['mrpe_mm']  # type: ignore[arg-type]
    assert exact < 0.6 * unused and exact < off < unused


def test_the_figures_have_the_agreed_names(samples: Samples) -> None:
    figures = Evaluation(Oracle(samples), samples, samples, samples).figures()   # type: ignore[arg-type]
    assert set(figures) >= {
        'robot.mpjpe_mm', 'robot.mrpe_mm', 'robot_stature.mrpe_mm', 'robot_ground.mrpe_mm',
        'robot.upper_half_mrpe_ratio', 'robot.coverage_90', 'robot.nees', 'robot_everybody.mrpe_mm',
        'robot.front.mpjpe_mm', 'robot.head_and_shoulders.mrpe_mm', 'robot.one_side.coverage_90',
        'robot_everybody.3_to_4_m.coverage_90', 'robot_population.mrpe_mm', 'robot_single.mpjpe_mm',
        'robot.inferred_coverage_90', 'robot.worst_band_coverage_90', 'robot.root_along_mm', 'robot.mrpe_z_mm'}
    assert figures['robot.upper_half_mrpe_ratio'] == pytest.approx(1, abs=0.2)   # the oracle needs no legs
    assert figures['robot.root_along_mm'] > 5 * figures['robot.root_across_mm']
    assert figures[f'{MAIN}.coverage_90'] == figures['robot_everybody.coverage_90']


def test_the_command_writes_tables_figures_and_charts(data: Path, samples: Samples, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    def everybody(lifter: object, *sets: Samples) -> Evaluation:
        assert [part.landmarks.mean() for part in sets] == [0, 0, 1]
        sets = tuple(marked(part, mark) for part, mark in zip(sets, (1e-6, -1e-6, 1.3e-6), strict=True))
        together = Samples(*(np.concatenate([getattr(part, name) for part in sets])
                             for name in sets[0].__dataclass_fields__))
        return Evaluation(Oracle(together), *sets)                # type: ignore[arg-type]

    monkeypatch.setattr(Lifter, 'open', lambda *args, **kwargs: SimpleNamespace())
    monkeypatch.setattr(evaluate_lifter, 'Evaluation', everybody)
    kept = tmp_path / 'figures.json'
    assert main(['evaluate', 'lifter', '--data', str(data), '--samples', '200', '--json', str(kept), '--out',
                 str(tmp_path)]) == 0
    figures = json.loads(kept.read_text())
    assert all(value is None or isinstance(value, (int, float)) for value in figures.values())
    shown = capsys.readouterr().out
    assert 'robot_stature' in shown and 'robot.head_and_shoulders' in shown and 'subjects c (test)' in shown
    for name in ('distance', 'calibration'):
        assert cv2.imread(str(tmp_path / f'{name}.png')).shape == (560, 820, 3)


def test_charts_draw_what_is_finite_and_refuse_nothing_at_all() -> None:
    x = np.arange(5.0)
    empty = chart('t', 'x', 'y', {'a': (x, np.array([0.0, np.nan, 0, 0, 0]))})
    drawn = chart('t', 'x', 'y', {'a': (x, np.array([0.0, np.nan, 10, 20, 30]))})
    assert (empty != drawn).any() and drawn.dtype == np.uint8
    with pytest.raises(ValueError, match='nothing to show'):
        chart('t', 'x', 'y', {'a': (x, np.full(5, np.nan))})


def test_people_of_the_recordings_are_as_tall_as_they_say(samples: Samples) -> None:
    assert float(np.median(samples.stature)) == pytest.approx(float(stature(standing())), rel=0.02)


def test_what_ships_keeps_its_level_on_people_made_by_formulas() -> None:
    """A quick look at the weights that come with the package; the full one is `pose3d evaluate lifter`."""
    people = make_samples(procedural_mocap(clips=24, seconds=3.0), 1200, np.random.default_rng(0), EVALUATION)
    lifter = Lifter.open(engines=Wanted('cpu', threads=1))
    figures = lift(lifter, people.where(whole_body(people)), stature=True).figures()
    everybody = lift(lifter, people, stature=True)
    assert figures['mpjpe_mm'] < 90 and figures['pa_mpjpe_mm'] < 60
    assert figures['mrpe_mm'] < 210
    assert 0.8 < everybody.calibration()['coverage_90'] < 0.98
    assert figures['root_along_mm'] > 4 * figures['root_across_mm']
