"""Evidence of pose attributes for training: right as often as asked, wrong as measured; fitting and calibration."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from procedural import write_mocap

from pose3d_ros.attributes import (
    ATTRIBUTE_JOINTS,
    ATTRIBUTE_MIRROR,
    BACK,
    CALIBRATION,
    FRONT,
    KIND_OF,
    KINDS,
    ON_PLANE,
    THRESHOLD,
    UNKNOWN,
    labels,
    probabilities,
)
from pose3d_ros.lift import INPUTS
from pose3d_ros.train.attribute_errors import (
    PAPER_ACCURACY,
    AttributeErrors,
    confused,
    knowable,
    load_attribute_errors,
    simulated,
)
from pose3d_ros.train.attribute_fit import calibrate, class_shares, fit_errors, usual_distances
from pose3d_ros.train.error_fit import ErrorModelError
from pose3d_ros.train.mocap import load_mocap

COUNT = 20000


def everyday(count: int = COUNT, seed: int = 0) -> np.ndarray:
    """Return distances (count, 9) as people have them."""
    usual = load_attribute_errors().usual
    return usual[KIND_OF, np.random.default_rng(seed).integers(0, usual.shape[1], (count, 9))]


@pytest.mark.parametrize('accuracy', [PAPER_ACCURACY, 0.84, 1.0, 0.0])
def test_labels_are_right_as_often_as_asked(accuracy: dict[str, float] | float) -> None:
    distances = everyday()
    said = simulated(distances, accuracy, np.random.default_rng(1))
    assert said.dtype == np.float32 and set(np.unique(said)) == {0.0, 1.0} and (said.sum(axis=-1) == 1).all()
    right = said.argmax(axis=-1) == labels(distances)
    for kind, name in enumerate(KINDS):
        asked = accuracy[name] if isinstance(accuracy, dict) else accuracy
        assert right[:, kind == KIND_OF].mean() == pytest.approx(asked, abs=0.01)


def test_front_is_taken_for_on_plane_rather_than_for_back() -> None:
    truth = np.repeat([[FRONT], [BACK], [ON_PLANE], [UNKNOWN]], 9, axis=1).repeat(4000, axis=0)
    said = confused(truth, 0.5, np.random.default_rng(2))
    share = said.reshape(4, -1, 3).mean(axis=1)
    expected = np.array([[0.5, 0.1, 0.4], [0.1, 0.5, 0.4], [0.25, 0.25, 0.5], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(share, expected, atol=0.01)
    with pytest.raises(ValueError, match='accuracy'):
        confused(truth, 84.0, np.random.default_rng(2))


def test_a_detector_s_evidence_is_calibrated() -> None:
    """Of all that is given 70 %, 70 % is so, with the errors and the table that ship."""
    distances = everyday()
    said = simulated(distances, load_attribute_errors(), np.random.default_rng(3))
    np.testing.assert_allclose(said.sum(axis=-1), 1.0, atol=1e-5)
    truth = labels(distances)[..., None] == np.arange(3)
    for kind in range(len(KINDS)):
        chance, came = said[:, kind == KIND_OF].ravel(), truth[:, kind == KIND_OF].ravel()
        for low in np.arange(0, 1, 0.2):
            bin_ = (chance >= low) & (chance < low + 0.2)
            if bin_.sum() > 500:
                assert came[bin_].mean() == pytest.approx(chance[bin_].mean(), abs=0.07)
    right = (said.argmax(axis=-1) == labels(distances)).mean()
    most = np.mean([max((labels(distances)[:, joint] == of).mean() for of in range(3)) for joint in range(9)])
    assert most + 0.1 < right < 0.9  # better than a guess, worse than an image network's labels


def test_unknown_distances_give_no_evidence() -> None:
    distances = everyday(10)
    distances[3], distances[4, 2] = np.nan, np.nan
    for evidence in (load_attribute_errors(), PAPER_ACCURACY):
        said = simulated(distances, evidence, np.random.default_rng(4)).sum(axis=-1)
        np.testing.assert_allclose(said, np.isfinite(distances), atol=1e-6)


def test_the_table_that_ships_follows_from_the_errors_that_ship() -> None:
    for kind, fitted in calibrate(load_attribute_errors()).items():
        step = np.linspace(-0.6, 0.6, 25)
        said, again = (probabilities(np.repeat(step[:, None], 9, axis=1), table)[:, KINDS.index(kind) == KIND_OF]
                       for table in (CALIBRATION, CALIBRATION | {kind: fitted}))
        np.testing.assert_allclose(said, again, atol=0.04, err_msg=kind)


def test_exact_detectors_are_given_the_threshold_itself() -> None:
    exact = replace(load_attribute_errors(), gain=1.0, bias=np.zeros(9), covariance=1e-4 * np.eye(9))
    for kind in calibrate(exact).values():
        assert kind.back == pytest.approx(-THRESHOLD, abs=0.015)
        assert kind.front == pytest.approx(THRESHOLD, abs=0.015)
        assert kind.slope > 60


def test_fitting_finds_the_errors_again() -> None:
    model = load_attribute_errors()
    true = everyday(60000, seed=5)
    found = fit_errors(model.sample(true, np.random.default_rng(6)), true, model.usual, 'again')
    assert found.gain == pytest.approx(model.gain, abs=0.01)
    np.testing.assert_allclose(found.bias, model.bias, atol=0.01)
    np.testing.assert_allclose(found.covariance, model.covariance, atol=0.002)
    np.testing.assert_allclose(found.bias, found.bias[ATTRIBUTE_MIRROR])
    np.testing.assert_allclose(found.covariance, found.covariance[ATTRIBUTE_MIRROR][:, ATTRIBUTE_MIRROR])
    with pytest.raises(ValueError, match='too few'):
        fit_errors(true[:10], true[:10], model.usual, '')
    gone = true.copy()
    gone[15:, 0] = np.nan
    with pytest.raises(ValueError, match='too few'):
        fit_errors(gone, true, model.usual, '')


def test_a_model_survives_its_file(tmp_path: Path) -> None:
    model = load_attribute_errors()
    (tmp_path / 'mine.json').write_text(model.to_json())
    again = load_attribute_errors(tmp_path / 'mine.json')
    np.testing.assert_allclose(again.covariance, model.covariance)
    np.testing.assert_allclose(again.usual, model.usual)
    assert (again.gain, again.source) == (model.gain, model.source) and (again.bias == model.bias).all()


@pytest.mark.parametrize(('change', 'message'), [
    ({'joints': list(ATTRIBUTE_JOINTS[::-1])}, 'expected head'), ({'gain': 'high'}, 'not a model'),
    ({'bias': [0.0] * 8}, 'expected'), ({'covariance': (-np.eye(9)).tolist()}, 'positive definite'),
    ({'usual': {'head': [0.0]}}, 'not a model')])
def test_a_bad_file_is_refused_by_name(tmp_path: Path, change: dict[str, object], message: str) -> None:
    content = json.loads(load_attribute_errors().to_json()) | change
    (tmp_path / 'bad.json').write_text(json.dumps(content))
    with pytest.raises(ErrorModelError, match=f'bad.json.*{message}'):
        load_attribute_errors(tmp_path / 'bad.json')
    with pytest.raises(ErrorModelError, match='nobody'):
        load_attribute_errors('nobody')


def test_hidden_joints_have_no_attributes() -> None:
    confidence = np.ones((4, len(INPUTS)))
    confidence[1, INPUTS.index('ears')] = 0
    confidence[2, INPUTS.index('left_wrist')] = 0
    confidence[3, INPUTS.index('right_hip')] = 0
    found = knowable(confidence)
    assert found[0].all() and not found[3].any()
    assert [joint for joint, known in zip(ATTRIBUTE_JOINTS, found[1]) if not known] == ['head']
    assert [joint for joint, known in zip(ATTRIBUTE_JOINTS, found[2]) if not known] == ['left_wrist']


def test_usual_distances_come_from_recorded_motion(tmp_path: Path) -> None:
    mocap = load_mocap([write_mocap(tmp_path / 'walk.npz')], 'train')
    usual, shares = usual_distances(mocap), class_shares(mocap, THRESHOLD)
    assert (np.diff(usual, axis=1) >= 0).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    for row, kind in zip(shares, usual):
        assert (labels(kind) == FRONT).mean() == pytest.approx(row[FRONT], abs=0.05)
    assert shares[KINDS.index('ankle'), BACK] > 0.2 > shares[KINDS.index('head'), BACK]  # somebody who strides


def test_sampled_errors_are_those_of_the_model() -> None:
    model = AttributeErrors(0.8, np.linspace(-0.1, 0.1, 9), 0.01 * (np.eye(9) + 0.5), load_attribute_errors().usual, '')
    off = model.sample(np.ones((COUNT, 9)), np.random.default_rng(7)) - 0.8 - model.bias
    np.testing.assert_allclose(np.cov(off.T), model.covariance, atol=5e-4)
    assert np.abs(off.mean(axis=0)).max() < 0.005
