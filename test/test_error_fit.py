"""The error model of a detector: EM finds a known mixture and never loses likelihood; what is sampled is the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pose3d_ros.skeleton import HUMAN17, mirrored
from pose3d_ros.train.error_fit import (
    FIRST_SHARE,
    WINDOW,
    ErrorModelError,
    FittedErrors,
    Mixture,
    em_step,
    fit_gaussian,
    fit_joints,
    fit_mixture,
    load_errors,
)

TRUTH = Mixture(share=0.85, mean=(0.004, -0.002), sigma=(0.008, 0.013))


def draw(model: Mixture, count: int, seed: int = 0) -> np.ndarray:
    everywhere = FittedErrors(dict.fromkeys(HUMAN17.joints, model), 'made up')
    errors = everywhere.sample(np.ones(-(-count // 17)), np.random.default_rng(seed))
    return errors.reshape(-1, 2)[:count].astype(np.float64)


def test_em_finds_the_mixture_that_made_the_errors() -> None:
    found = fit_mixture(draw(TRUTH, 20000))
    assert found.share == pytest.approx(TRUTH.share, abs=0.01)
    np.testing.assert_allclose(found.mean, TRUTH.mean, atol=3e-4)
    np.testing.assert_allclose(found.sigma, TRUTH.sigma, rtol=0.02)


def test_likelihood_never_falls_from_step_to_step() -> None:
    errors = draw(TRUTH, 500, seed=1)
    model = replace(fit_gaussian(errors), share=FIRST_SHARE)
    likelihoods = [model.log_likelihood(errors)]
    for _ in range(30):
        model = em_step(model, errors)
        likelihoods.append(model.log_likelihood(errors))
    assert (np.diff(likelihoods) > -1e-12).all() and likelihoods[-1] > likelihoods[0] + 0.05


def test_the_mixture_explains_errors_with_outliers_better_than_one_gaussian() -> None:
    errors = draw(TRUTH, 2000, seed=2)
    single, both = fit_gaussian(errors), fit_mixture(errors)
    assert both.log_likelihood(errors) > single.log_likelihood(errors) + 0.5
    assert min(single.sigma) > 1.5 * max(both.sigma)  # Figure 5: outliers make the single one too wide


def test_errors_without_outliers_are_one_gaussian() -> None:
    errors = draw(replace(TRUTH, share=1.0), 5000, seed=3)
    assert fit_mixture(errors).share > 0.999
    np.testing.assert_allclose(fit_mixture(errors).sigma, fit_gaussian(errors).sigma, rtol=0.01)


def test_a_density_is_one_in_all_inside_the_window() -> None:
    axis = np.linspace(-WINDOW / 2, WINDOW / 2, 400, endpoint=False) + WINDOW / 800
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    uniform, gaussian = TRUTH.densities(grid)
    cell = (WINDOW / 400) ** 2
    assert uniform.sum() * cell == pytest.approx(1) and gaussian.sum() * cell == pytest.approx(1, abs=1e-3)


def test_sampled_errors_grow_with_the_person_in_the_image() -> None:
    model = FittedErrors(dict.fromkeys(HUMAN17.joints, TRUTH), 'made up')
    small, large = (model.sample(np.full(3000, size), np.random.default_rng(4)) for size in (100.0, 400.0))
    assert small.shape == (3000, 17, 2)
    np.testing.assert_allclose(large, 4 * small, rtol=1e-5)


def test_left_and_right_are_fitted_together_as_mirror_images() -> None:
    errors = np.random.default_rng(5).normal(0, 0.01, (400, 17, 2))
    errors[:, HUMAN17.index('left_wrist'), 0] += 0.02
    errors[:, HUMAN17.index('right_wrist'), 0] -= 0.02
    errors[::7, HUMAN17.index('head')] = np.nan
    found = fit_joints(errors, 'made up')
    assert found.joints['left_wrist'].mean[0] == pytest.approx(0.02, abs=2e-3)
    for joint in HUMAN17.joints:
        np.testing.assert_allclose(found.joints[mirrored(joint)].mean, found.joints[joint].mirrored().mean, atol=1e-9)
        assert found.joints[mirrored(joint)].sigma == found.joints[joint].sigma
    assert found.joints['head'].mean[0] == pytest.approx(0, abs=1e-9)


def test_a_model_survives_its_file(tmp_path: Path) -> None:
    model = fit_joints(np.random.default_rng(6).normal(0, 0.01, (200, 17, 2)), 'made up', gaussian=True)
    (tmp_path / 'mine.json').write_text(model.to_json())
    again = load_errors(tmp_path / 'mine.json')
    assert again.source == 'made up' and list(again.joints) == list(HUMAN17.joints)
    for joint, mixture in model.joints.items():
        assert again.joints[joint].share == 1
        np.testing.assert_allclose(again.joints[joint].sigma, mixture.sigma, atol=1e-6)


@pytest.mark.parametrize('text', ['{', '{"source": "x", "joints": {}}', '[]',
                                  '{"source": "x", "joints": {"head": {"share": 1}}}'])
def test_a_file_that_is_no_model_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / 'wrong.json').write_text(text)
    with pytest.raises(ErrorModelError, match=r'wrong\.json'):
        load_errors(tmp_path / 'wrong.json')
    with pytest.raises(ErrorModelError, match='nobody_knows'):
        load_errors('nobody_knows')


def test_too_few_errors_are_refused() -> None:
    with pytest.raises(ValueError, match='too few'):
        fit_mixture(np.full((30, 2), np.nan))


def test_the_shipped_models_are_of_a_detector_that_mostly_finds_joints() -> None:
    mixture, single = load_errors('blazepose_full'), load_errors('blazepose_full_gaussian')
    for joint in HUMAN17.joints:
        assert 0.8 < mixture.joints[joint].share <= 1 == single.joints[joint].share
        assert 0.003 < min(mixture.joints[joint].sigma) <= max(mixture.joints[joint].sigma) < 0.025
        assert max(single.joints[joint].sigma) >= max(mixture.joints[joint].sigma) - 1e-5
