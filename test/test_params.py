import dataclasses
from pathlib import Path

import pytest
import yaml

from pose3d_ros.detect import DetectSettings
from pose3d_ros.refine import RefineSettings
from pose3d_ros.ros.params import (
    MONO,
    NODES,
    VIDEO,
    Parameter,
    ParameterError,
    check_overrides,
    markdown_text,
    settings_of,
    yaml_text,
)
from pose3d_ros.track import TrackSettings

CONFIG = Path(__file__).parents[1] / 'config' / 'mono.yaml'
DEFAULTS = {parameter.name: parameter.default for parameter in MONO}


def test_the_yaml_file_has_every_parameter_with_its_default_and_nothing_else():
    file = yaml.safe_load(CONFIG.read_text())
    assert {node.rsplit('/', 1)[1]: body['ros__parameters'] for node, body in file.items()} == {
        node: {parameter.name: parameter.default for parameter in table} for node, table in NODES.items()}


def test_the_yaml_file_is_the_generated_one():
    assert CONFIG.read_text() == yaml_text(NODES), 'run: python -m pose3d_ros.ros.params > config/mono.yaml'


def test_the_documentation_is_the_generated_one():
    command = 'python -m pose3d_ros.ros.params --markdown > docs/parameters.md'
    assert (CONFIG.parents[1] / 'docs' / 'parameters.md').read_text() == markdown_text(NODES), f'run: {command}'


@pytest.mark.parametrize('table', NODES.values(), ids=NODES)
def test_every_parameter_is_described_and_its_default_allowed(table):
    names = [parameter.name for parameter in table]
    assert len(names) == len(set(names))
    for parameter in table:
        assert parameter.description.endswith('.')
        parameter.check(parameter.default)
        if parameter.type_name in ('int', 'float'):
            assert parameter.low is not None and parameter.high is not None


@pytest.mark.parametrize('kind', [DetectSettings, TrackSettings, RefineSettings])
def test_settings_start_from_the_defaults_of_the_stage_and_take_a_change(kind):
    assert settings_of(kind, MONO, DEFAULTS) == kind()
    number = next(p for p in MONO if p.settings is kind and p.type_name in ('int', 'float'))
    changed = settings_of(kind, MONO, {**DEFAULTS, number.name: type(number.default)(number.high)})
    assert changed == dataclasses.replace(kind(), **{number.name: number.high})


def test_a_misspelt_key_names_the_closest_parameter():
    with pytest.raises(ParameterError, match='no parameter serch_period: did you mean search_period'):
        check_overrides(MONO, {'serch_period': 10})
    with pytest.raises(ParameterError, match='no parameter xyzzy: known are'):
        check_overrides(VIDEO, {'xyzzy': 10})
    check_overrides(MONO, {'search_period': 10, 'use_sim_time': True, 'qos_overrides./people.publisher.depth': 1},
                    declared=['use_sim_time'])


@pytest.mark.parametrize('name, value, complaint', [
    ('search_period', 0, '1 .. 1000'), ('search_period', 10.0, 'must be a int'),
    ('swap_guard', 'yes', 'must be a bool'),
    ('min_person_height', 1, 'write 1.0'), ('min_person_height', float('nan'), '0.05 .. 1'),
    ('detector_model', 'ful', 'lite | full | heavy'), ('threads', True, 'must be a int'),
    ('camera_info_timeout', -1.0, '0 .. 3600 s'),
])
def test_a_bad_value_is_refused_with_what_is_allowed(name, value, complaint):
    with pytest.raises(ParameterError, match=name) as error:
        check_overrides(MONO, {name: value})
    assert complaint in str(error.value)


def test_allowed_values_in_words():
    assert Parameter('x', 1.0, 'An x.', 'm', 0.0, 2.0).allowed == '0 .. 2'
    assert Parameter('x', True, 'An x.').allowed == ''
