import dataclasses
from pathlib import Path

import pytest
import yaml

from pose3d_ros.detect import DetectSettings
from pose3d_ros.fuse.fuser import FuseSettings
from pose3d_ros.refine import RefineSettings
from pose3d_ros.ros.param_tables import FILES, FUSION, MONO, MULTI, NODES, VIDEO
from pose3d_ros.ros.params import Parameter, ParameterError, check_overrides, markdown_text, settings_of, yaml_text
from pose3d_ros.track import TrackSettings

ROOT = Path(__file__).parents[1]
DEFAULTS = {parameter.name: parameter.default for parameter in (*MONO, *FUSION)}


@pytest.mark.parametrize('name', FILES)
def test_a_yaml_file_has_every_parameter_with_its_default_and_nothing_else(name):
    file = yaml.safe_load((ROOT / 'config' / f'{name}.yaml').read_text())
    assert {node.rsplit('/', 1)[1]: body['ros__parameters'] for node, body in file.items()} == {
        node: {parameter.name: parameter.default for parameter in NODES[node]} for node in FILES[name]}


@pytest.mark.parametrize('name', FILES)
def test_a_yaml_file_is_the_generated_one(name):
    text = yaml_text(name, {node: NODES[node] for node in FILES[name]})
    assert (ROOT / 'config' / f'{name}.yaml').read_text() == text, f'run the command in config/{name}.yaml'


def test_every_node_has_its_parameters_in_a_file():
    assert {node for nodes in FILES.values() for node in nodes} == set(NODES)
    assert {path.stem for path in (ROOT / 'config').glob('*.yaml')} == set(FILES)


def test_the_documentation_is_the_generated_one():
    command = 'python -m pose3d_ros.ros.params --markdown > docs/parameters.md'
    assert (ROOT / 'docs' / 'parameters.md').read_text() == markdown_text(NODES), f'run: {command}'


@pytest.mark.parametrize('table', NODES.values(), ids=NODES)
def test_every_parameter_is_described_and_its_default_allowed(table):
    names = [parameter.name for parameter in table]
    assert len(names) == len(set(names))
    for parameter in table:
        assert parameter.description.endswith('.')
        parameter.check(parameter.default)
        if parameter.type_name in ('int', 'float'):
            assert parameter.low is not None and parameter.high is not None


@pytest.mark.parametrize('kind, table', [(DetectSettings, MONO), (TrackSettings, MONO), (RefineSettings, MULTI),
                                         (FuseSettings, FUSION)])
def test_settings_start_from_the_defaults_of_the_stage_and_take_a_change(kind, table):
    assert settings_of(kind, table, DEFAULTS) == kind()
    number = next(p for p in table if p.settings is kind and p.type_name in ('int', 'float'))
    changed = settings_of(kind, table, {**DEFAULTS, number.name: type(number.default)(number.high)})
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


@pytest.mark.parametrize('value, complaint', [
    ('front', "write ['front', 'left', 'right']"), ([], 'list of names'), (None, 'list of names'), ([1], 'list of'),
    (['front', 'left', 'front'], 'front is there twice'), (['2nd'], "'2nd' cannot be part of a topic"),
    (['the left'], "'the left' cannot"), (['a__b'], "'a__b' cannot"), ([''], "'' cannot"), (['a/b'], "'a/b' cannot"),
])
def test_a_list_that_does_not_name_cameras_is_refused(value, complaint):
    with pytest.raises(ParameterError, match='cameras') as error:
        check_overrides(FUSION, {'cameras': value})
    assert complaint in str(error.value)


def test_a_list_of_names_is_taken():
    check_overrides(FUSION, {'cameras': ['front', 'cam_02', '_x']})
    assert next(p for p in MULTI if p.name == 'cameras').type_name == 'list[str]'


def test_what_a_camera_is_told_alone_it_is_told_among_others():
    assert MULTI[1:] == MONO
