"""The options that say which networks run and what computes them."""

from __future__ import annotations

import argparse

import pytest

from pose3d_ros.cli.engines import (
    add_engine_options,
    add_lifter_option,
    add_model_options,
    node_parameters,
    shipped_models,
    wanted,
)
from pose3d_ros.ros.param_tables import MONO
from pose3d_ros.runtime.engine import EngineError, Wanted


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_model_options(parser)
    add_lifter_option(parser)
    add_engine_options(parser)
    return parser.parse_args(words)


def test_what_is_not_said_is_left_to_the_parameter_file() -> None:
    assert node_parameters(parsed()) == {}
    defaults = {parameter.name: parameter.default for parameter in MONO}
    said = node_parameters(parsed('--model', 'lite', '--search', 'persons.yaml', '--runtime', 'cpu', '--precision',
                                  'fp32', '--threads', '2'))
    assert said == {'detector_model': 'lite', 'search_model': 'persons.yaml', 'runtime': 'cpu', 'precision': 'fp32',
                    'threads': 2}
    assert all(value != defaults[name] for name, value in said.items())  # and each is a parameter of the node
    for parameter in MONO:
        if parameter.name in said:
            parameter.check(said[parameter.name])


def test_options_become_what_engines_are_asked_for() -> None:
    assert wanted(parsed()) == Wanted()
    assert wanted(parsed('--runtime', 'cuda', '--precision', 'mixed', '--threads', '3')) == Wanted('cuda', 'mixed', 3)
    with pytest.raises(EngineError, match='threads is -1'):
        wanted(parsed('--threads', '-1'))


@pytest.mark.parametrize(('words', 'needed'), [
    ((), ['pose_landmark_full', 'pose_detection']), (('--model', 'own.yaml'), ['pose_detection']),
    (('--model', 'heavy', '--search', 'own.yaml'), ['pose_landmark_heavy'])])
def test_only_the_shipped_models_that_are_used_are_needed(words: tuple[str, ...], needed: list[str]) -> None:
    assert shipped_models(parsed(*words)) == needed


@pytest.mark.parametrize(('words', 'choice'), [
    (('--model', 'fat'), 'heavy'), (('--search', 'yolo.onnx'), 'blazepose'), (('--runtime', 'gpu'), 'tensorrt'),
    (('--precision', 'int8'), 'fp16')])
def test_what_does_not_exist_is_refused_with_the_choices(words: tuple[str, ...], choice: str,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(*words)
    assert choice in capsys.readouterr().err.splitlines()[-1]
