"""The comparison of an engine with its reference: what passes, what does not, and what the inputs show."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from small_networks import simcc

from pose3d_ros.lift import INPUTS, LIFTERS, Lifter, lifter_file
from pose3d_ros.runtime import check as checks
from pose3d_ros.runtime.backend import NotNowError
from pose3d_ros.runtime.catalogue import CATALOGUE
from pose3d_ros.runtime.check import Verdict, check, rehearse, self_check
from pose3d_ros.runtime.check_inputs import inputs_for
from pose3d_ros.runtime.engine import EngineError, Wanted
from pose3d_ros.runtime.onnx_engine import OnnxEngine
from pose3d_ros.runtime.tolerances import Rule, tolerances_of

LIFTER = lifter_file()
Outputs = dict[str, NDArray]


class Fixed:
    """An engine that gives the same outputs whatever it is shown, and says of itself what it is told."""

    inputs, input_shapes, remarks, status, provider, precision = (), {}, (), '', 'none', 'fp32'

    def __init__(self, outputs: Outputs, **tolerances: object) -> None:
        self.results, self.outputs = outputs, tuple(outputs)
        self.metadata = {'tolerances': json.dumps(tolerances)} if tolerances else {}

    def run(self, inputs: Mapping[str, NDArray]) -> Outputs:
        return self.results


class Altered:
    """An engine whose outputs somebody altered."""

    def __init__(self, engine: OnnxEngine, alter: Callable[[Outputs], None]) -> None:
        self._engine, self._alter = engine, alter

    def run(self, inputs: Mapping[str, NDArray]) -> Outputs:
        outputs = {name: value.copy() for name, value in self._engine.run(inputs).items()}
        self._alter(outputs)
        return outputs


def verdict_of(found: NDArray, expected: NDArray, **rule: object) -> Verdict:
    tolerances = {'y': rule} if rule else {}
    return check(Fixed({'y': found}), Fixed({'y': expected}, **tolerances), [{}])


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_deviation_is_measured_in_units_of_its_tolerance_and_quoted() -> None:
    expected = rng().uniform(1, 5, (2, 7))
    for off, passes in ((0.24, True), (0.26, False)):
        found = expected.copy()
        found[1, 3] += off
        verdict = verdict_of(found, expected, absolute=0.25, unit='px')
        assert verdict.passed is passes
        assert verdict.deviations['y'] == pytest.approx(off / 0.25)
        assert f'y off by {off} px, allowed 0.25 px' in verdict.text
    assert verdict_of(expected, expected).text == 'equals the reference'


def test_the_relative_part_is_of_each_persons_own_magnitude() -> None:
    expected = np.array([[0.0, 0.0, 2.0], [0.0, 0.0, 100.0]])
    found = expected + [[0.0, 0.0, 0.1], [0.0, 0.0, 0.1]]
    assert verdict_of(found, expected, relative=0.01).passed
    assert not verdict_of(found, expected, relative=0.01, per=[0]).passed


def test_values_of_which_only_some_count() -> None:
    expected, scores = np.zeros((3, 8)), np.array([[0.9], [0.1], [0.7]])
    found = expected.copy()
    found[1] = 50                 # of somebody who is not there
    found[0, [3, 7]] = 9          # every fourth value
    rule = {'absolute': 1.0, 'every': 4, 'take': [0, 1, 2], 'where': 'p', 'over': 0.5}
    def verdict(where: NDArray) -> Verdict:
        return check(Fixed({'y': found, 'p': where}), Fixed({'y': expected, 'p': where}, y=rule), [{}])
    assert verdict(scores).passed
    assert not verdict(0.1 * scores).passed, 'nobody is there: then all are compared, rather than none'
    found[2, 5] = 2
    assert not verdict(scores).passed


def test_saturated_logits_mean_the_same_and_others_do_not() -> None:
    expected = np.array([[-30.0, 25.0, 0.0]])
    assert verdict_of(expected + [[-9, 9, 0.02]], expected, measure='sigmoid', absolute=0.02).passed
    assert not verdict_of(expected + [[0, 0, 0.2]], expected, measure='sigmoid', absolute=0.02).passed


def bump(place: float, height: float = 1.0) -> NDArray:
    return height * np.exp(-0.5 * ((np.arange(64) - place) / 2) ** 2)


def test_peaks_are_compared_by_place_and_height_as_decoders_read_them() -> None:
    twins = np.maximum(bump(10), bump(50, 0.999))
    expected = np.stack([twins, bump(30)])[None]
    usual = {'measure': 'peak', 'relative': 0.02, 'per': [0]}
    other_twin = np.stack([np.maximum(bump(10, 0.999), bump(50)), bump(30)])[None]
    assert verdict_of(other_twin, expected, **usual).passed, 'two answers as good as each other'
    for found in (np.stack([twins, bump(33)]), np.stack([twins, bump(30, 0.9)]), np.stack([bump(30), twins])):
        assert not verdict_of(found[None], expected, **usual).passed
    noise = expected - 0.5 * (expected < 0.3)
    assert verdict_of(noise, expected, **usual).passed, 'what lies below the peak is not read'


def test_values_that_are_not_finite_fail_except_where_the_references_are_not() -> None:
    expected = rng().normal(size=(2, 5, 16, 12))
    found = expected.copy()
    found[1, 2, 3, 4] = np.nan
    verdict = verdict_of(found, expected)
    assert not verdict.passed and 'not finite at [1, 2, 3, 4]' in verdict.text
    assert verdict.deviations == {'y': np.inf}
    expected[1, 2, 3, 4] = np.inf
    assert verdict_of(found, expected).passed and verdict_of(found, expected, absolute=0.1).passed


class Broken(Fixed):
    def __init__(self, outputs: Outputs, error: EngineError | None = None) -> None:
        super().__init__(outputs)
        self.error = error or EngineError('an illegal address')

    def run(self, inputs: Mapping[str, NDArray]) -> Outputs:
        raise self.error


def test_other_shapes_missing_outputs_and_failing_engines_fail() -> None:
    expected = np.zeros((2, 3))
    assert 'y (2, 4) instead of (2, 3)' in verdict_of(np.zeros((2, 4)), expected).text
    assert 'y is missing' in check(Fixed({'z': expected}), Fixed({'y': expected}), [{}]).text
    verdict = check(Broken({'y': expected}), Fixed({'y': expected}), [{}])
    assert not verdict.passed and verdict.text == 'the engine fails: an illegal address'
    with pytest.raises(NotNowError):  # says nothing about the engine
        check(Broken({'y': expected}, NotNowError('out of memory')), Fixed({'y': expected}), [{}])


def test_files_that_say_nothing_are_judged_by_the_form_of_their_outputs() -> None:
    rules = tolerances_of({}, {'heatmaps': np.zeros((1, 17, 64, 48)), 'simcc_x': np.zeros((1, 17, 384)),
                               'raw': np.zeros((1, 900, 84)), 'boxes': np.zeros((1, 20, 5)),
                               'joints': np.zeros((1, 33, 5)), 'score': np.zeros((1, 1))})
    assert {name: rule.measure for name, (rule,) in rules.items()} == {
        'heatmaps': 'peak', 'simcc_x': 'peak', 'raw': 'value', 'boxes': 'rows', 'joints': 'value', 'score': 'value'}
    assert rules['raw'][0].per == (2,), 'pixels and scores are columns of their own'
    with pytest.raises(EngineError, match='no output of the model can be compared'):
        check(Fixed({'class': np.zeros((1, 1), np.int64)}), Fixed({'class': np.zeros((1, 1), np.int64)}), [{}])


def test_boxes_are_compared_as_sets_because_their_order_hangs_on_next_to_nothing() -> None:
    table = rng().uniform(0, 640, (2, 100, 5))
    table[..., 4] = rng().uniform(0, 0.4, (2, 100))
    table[0, :3, 4], table[1, 0, 4] = (0.9, 0.899, 0.8), 0.7
    boxes, scores, labels = table[..., :4], table[..., 4], np.zeros((2, 100), np.int64)
    for expected in ({'dets': table}, {'boxes': boxes, 'scores': scores, 'labels': labels},
                     {'boxes': boxes, 'scores': scores[..., None]}):
        def verdict(change: Callable[[NDArray, NDArray], None], of: Outputs = expected) -> Verdict:
            found = {name: value.copy() for name, value in of.items()}
            first, *rest = found.values()
            change(first, rest[0] if rest else first[..., 4])
            return check(Fixed(found), Fixed(of), [{}])

        def reorder(rows: NDArray, sure: NDArray) -> None:
            sure[0, :2] = sure[0, 1::-1].copy()
            rows[0, :2, :4] = rows[0, 1::-1, :4].copy()

        def unsure(rows: NDArray, sure: NDArray) -> None:
            rows[1, 50:, :4] += 100

        def move(rows: NDArray, sure: NDArray) -> None:
            rows[1, 0, 0] += 20

        def lose(rows: NDArray, sure: NDArray) -> None:
            sure[0, 2] = 0.1

        def invent(rows: NDArray, sure: NDArray) -> None:
            sure[1, 9] = 0.9

        assert verdict(reorder).passed and verdict(unsure).passed
        for change in (move, lose, invent):
            assert not verdict(change).passed, change
    few = check(Fixed({'dets': table[:1, :4]}), Fixed({'dets': table[:1, :50]}), [{}])
    assert few.passed, 'how many boxes nobody is sure of does not matter'
    assert not check(Fixed({'dets': table[:1, :2]}), Fixed({'dets': table[:1, :50]}), [{}]).passed


@pytest.mark.parametrize(('text', 'said'), [
    ('{', 'cannot be read'), ('[1]', 'cannot be read'), ('{"y": 3}', 'cannot be read'),
    ('{"y": {"absolut": 3}}', "'absolut' is not known"), ('{"y": {"absolute": 0}}', 'one of them more than 0'),
    ('{"y": {"absolute": 1, "measure": "taste"}}', "measure 'taste' is none of"),
    ('{"y": {"absolute": 1, "every": 2, "take": [2]}}', 'take .2. is out of range'),
    ('{"z": {"absolute": 1}}', "names the output 'z'; it has y"),
    ('{"y": {"absolute": 1, "where": "p"}}', "names the output 'p'"),
    ('{"y": {"absolute": 1, "every": 4}}', 'do not fit its outputs')])
def test_unusable_tolerances_are_clear_errors(text: str, said: str) -> None:
    reference = Fixed({'y': np.zeros((2, 3))})
    reference.metadata = {'tolerances': text}
    with pytest.raises(EngineError, match=f'tolerances.*{said}'):
        check(reference, reference, [{}])


def test_every_network_of_the_package_states_tolerances_for_all_its_outputs() -> None:
    for entry in CATALOGUE.values():
        if entry.outputs:
            assert set(json.loads(entry.metadata['tolerances'])) == set(entry.outputs.values())
    engine = OnnxEngine(LIFTER)
    assert set(json.loads(engine.metadata['tolerances'])) == set(engine.outputs)


def test_inputs_are_seeded_fit_the_network_and_hold_one_or_more() -> None:
    shapes = {'image': (None, 3, 64, 48), 'extra': (None, 5, None), 'fixed': (None, 2)}
    for most, counts in ((8, [1, 3, 8]), (3, [1, 3]), (2, [1, 2]), (1, [1])):
        batches = inputs_for({'input_range': '0..1'}, shapes, most)
        assert [len(batch['image']) for batch in batches] == counts
    assert all(value.dtype == np.float32 and value.flags.c_contiguous for value in batches[0].values())
    again = inputs_for({'input_range': '0..1'}, shapes, 1)
    assert all(np.array_equal(again[0][name], value) for name, value in batches[0].items())
    assert [batch['image'].shape for batch in inputs_for({}, {'image': (2, 3, 64, 48)}, 8)] == [(2, 3, 64, 48)]


def test_images_come_in_the_range_the_order_and_the_size_that_the_file_says() -> None:
    shapes = {'image': (None, 3, 64, 48)}
    unit, = inputs_for({'input_range': '0..1'}, shapes, 1)
    assert 0 <= unit['image'].min() < 0.2 and 0.8 < unit['image'].max() <= 1
    wide, = inputs_for({'input_range': '-1..1', 'input_channels': 'BGR'}, shapes, 1)
    np.testing.assert_allclose(wide['image'][:, ::-1], 2 * unit['image'] - 1, atol=1e-5)
    last, = inputs_for({'input_range': '0..255'}, {'image': (None, 64, 48, 3)}, 1)
    np.testing.assert_allclose(last['image'].transpose(0, 3, 1, 2), 255 * unit['image'], atol=1e-3)
    usual, = inputs_for({}, shapes, 1)
    assert usual['image'].min() < -1 and usual['image'].max() > 1.5
    free, = inputs_for({'input_size': '96x80'}, {'image': (None, 3, None, None)}, 1)
    assert free['image'].shape == (1, 3, 96, 80)
    whole, = inputs_for({}, shapes, 1, {'image': 2})
    assert whole['image'].dtype == np.uint8 and whole['image'].max() > 200
    with pytest.raises(EngineError, match="input 'image' is of type 8"):
        inputs_for({}, shapes, 1, {'image': 8})
    with pytest.raises(EngineError, match="input_range 'wide' of the model"):
        inputs_for({'input_range': 'wide'}, shapes, 1)


def test_the_package_networks_see_the_drawn_people_and_nobody_in_the_empty_room(models_dir: Path) -> None:
    landmarks, search = (OnnxEngine(models_dir / f'{name}.onnx') for name in ('pose_landmark_full', 'pose_detection'))
    there = np.array([True, True, False, True, True, False, True, True])
    batch = inputs_for(landmarks.metadata, landmarks.input_shapes, 8)[-1]
    assert ((landmarks.run(batch)['presence'][:, 0] > 0.9) == there).all()
    batch = inputs_for(search.metadata, search.input_shapes, 8)[-1]
    assert ((search.run(batch)['scores'].max(axis=(1, 2)) > 1) == there).all()


def test_people_for_the_lifter_stand_sit_and_lack_joints_and_are_lifted_to_where_they_are() -> None:
    lifter = Lifter.open(engines=Wanted('cpu'))
    batch = inputs_for(lifter.engine.metadata, lifter.engine.input_shapes, 8)[-1]
    seen, rays = batch['confidence'] > 0, batch['rays']
    assert not seen[:, 0].all(axis=0).all() and seen[:, 0].any(axis=1).all()
    assert (rays[~seen] == 0).all()
    past = seen[:, 1:].any(axis=(1, 2))
    assert past.any() and not past.all()
    assert np.ptp(batch['landmarks']) == 1 and (np.linalg.norm(batch['up'], axis=1) < 0.1).any()
    root = lifter.engine.run(batch)['root']
    hips = [INPUTS.index('left_hip'), INPUTS.index('right_hip')]
    np.testing.assert_allclose(root[:, :2] / root[:, 2:], rays[:, 0, hips].mean(axis=1), atol=0.05)
    assert ((root[:, 2] > 1.5) & (root[:, 2] < 9)).all()


def swap_elbow_and_knee(outputs: Outputs) -> None:
    outputs['relative'][:, [2, 12]] = outputs['relative'][:, [12, 2]]


def scale_root(outputs: Outputs) -> None:
    outputs['root'] *= 1.01


def lose_a_joint(outputs: Outputs) -> None:
    outputs['covariance'][-1, 5] = np.nan


@pytest.mark.parametrize(('alter', 'said'), [
    (swap_elbow_and_knee, 'relative off by'), (scale_root, 'root off by'),
    (lose_a_joint, r'covariance not finite at \[\d, 5, 0, 0\]')])
def test_an_altered_lifter_is_noticed(alter: Callable[[Outputs], None], said: str) -> None:
    engine = OnnxEngine(LIFTER)
    assert self_check(engine, LIFTER).passed
    verdict = self_check(Altered(engine, alter), LIFTER)
    assert not verdict.passed
    assert re.search(said, verdict.text), verdict.text


def swap_ankles(outputs: Outputs) -> None:
    landmarks = outputs['landmarks'].reshape(-1, 39, 5)
    landmarks[:, [27, 28]] = landmarks[:, [28, 27]]


def flatten_heat(outputs: Outputs) -> None:
    outputs['heatmap'] *= 0.5


def shrink_landmarks(outputs: Outputs) -> None:
    outputs['landmarks'] *= 0.99


@pytest.mark.parametrize('alter', [swap_ankles, flatten_heat, shrink_landmarks])
def test_an_altered_landmark_network_is_noticed(models_dir: Path, alter: Callable[[Outputs], None]) -> None:
    file = models_dir / 'pose_landmark_full.onnx'
    assert not self_check(Altered(OnnxEngine(file), alter), file, most=1).passed


@pytest.mark.parametrize('name', ['pose_detection', 'pose_landmark_full'])
def test_half_precision_of_the_package_networks_keeps_well_within_tolerance(models_dir: Path, name: str) -> None:
    for step, verdict in rehearse(models_dir / f'{name}.onnx', most=2).items():
        assert verdict.passed and max(verdict.deviations.values()) < 0.6, (step, verdict.text)


@pytest.mark.parametrize('name', LIFTERS)
def test_the_lifters_that_ship_are_good_in_any_precision(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = lifter_file(name)
    assert checks.main([str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(';')[0] for line in lines] == [f'{file.stem} {step}: pass'
                                                      for step in ('fp16', 'mixed', 'fp32')]
    assert 'covariance 0.0' in lines[0]


def test_a_model_that_cannot_be_rehearsed_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / 'broken.onnx'
    file.write_bytes(simcc(1.0)[:500])
    assert checks.main([str(file)]) == 1
    assert str(file) in capsys.readouterr().err


def test_a_rule_without_any_tolerance_is_refused() -> None:
    with pytest.raises(ValueError, match='one of them more than 0'):
        Rule()
