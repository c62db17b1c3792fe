"""What must agree between package.xml, setup.cfg, CMakeLists.txt, the requirements, the messages and the records."""

from __future__ import annotations

import ast
import configparser
import dataclasses
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from enum import IntEnum
from pathlib import Path

import pytest

import pose3d_ros
from pose3d_ros.records import BodyPose, JointState, Person2D, Person3D, PersonState

ROOT = Path(__file__).parents[1]
XML = ElementTree.parse(ROOT / 'package.xml').getroot()
CMAKE = (ROOT / 'CMakeLists.txt').read_text()
CFG = configparser.ConfigParser()
CFG.read(ROOT / 'setup.cfg')

# The rosdep keys of what Python imports under another name.
KEYS = {'cv2': 'python3-opencv', 'numpy': 'python3-numpy', 'scipy': 'python3-scipy', 'yaml': 'python3-yaml',
        'tqdm': 'python3-tqdm', 'onnxruntime': 'python3-onnxruntime-pip', 'tf2_ros': 'tf2_ros_py'}
# Not in rosdep: `pose3d fetch` needs onnx (which brings google.protobuf) and tflite, and engines in half precision need
# onnx; bags need rosbags (which brings apsw); training and TensorRT are optional.
NO_KEY = {'onnx', 'google', 'tflite', 'rosbags', 'apsw', 'torch', 'onnxscript', 'cdflib', 'tensorrt', 'pose3d_ros'}
# Needed without a Python import, and left to the user: RViz is not for robots without a screen.
NOT_IMPORTED, LEFT_TO_THE_USER = {'rosidl_default_runtime'}, {'rviz2'}

# How a record travels: field of the message -> fields of the record it comes from.
PERSON_2D = {'state': 'state', 'id': 'id', 'confidence': 'confidence', 'swapped': 'swapped', 'box': 'box'}
JOINT_2D = {'x': 'pixels', 'y': 'pixels', 'ray_x': 'rays', 'ray_y': 'rays', 'sigma': 'sigma',
            'confidence': 'joint_confidence'}
PERSON_3D = {'state': 'state', 'id': 'id', 'confidence': 'confidence', 'height': 'height',
             'height_sigma': 'height_sigma', 'pelvis': 'position', 'velocity': 'velocity'}
JOINT_3D = {'state': 'joint_state', 'position': 'position', 'velocity': 'velocity', 'covariance': 'covariance',
            'confidence': 'joint_confidence'}
BODY_3D = {'state': 'state', 'id': 'id', 'confidence': 'confidence', 'pelvis': 'root', 'rotations': 'rotations',
           'shape': 'shape', 'scale': 'scale'}


def message(name: str) -> tuple[list[str], dict[str, int]]:
    """Return the field names and the constants of a message file."""
    fields, constants = [], {}
    for line in (ROOT / 'msg' / f'{name}.msg').read_text().splitlines():
        code = line.split('#')[0].strip()
        if match := re.fullmatch(r'\S+\s+([A-Z][A-Z0-9_]*)\s*=\s*(\d+)', code):
            constants[match[1]] = int(match[2])
        elif code:
            fields.append(code.split()[1])
    return fields, constants


def declared(*tags: str) -> set[str]:
    """Return what package.xml depends on under the given tags."""
    return {element.text or '' for tag in tags for element in XML.findall(tag)}


def imported(*folders: str) -> set[str]:
    """Return the top-level packages, other than the standard library's, that the sources in folders import."""
    names: set[str] = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split('.')[0])
    return names - set(sys.stdlib_module_names)


def requirement_names(text: str) -> set[str]:
    """Return the package names of requirement lines, lower case."""
    lines = (line.split('#')[0].strip() for line in text.splitlines())
    return {re.split(r'[ <>=!;\[]', line)[0].lower().replace('_', '-') for line in lines if line}


def test_one_version_and_one_licence_everywhere() -> None:
    version = pose3d_ros.__version__
    assert XML.findtext('version') == version
    assert CFG['metadata']['version'] == 'attr: pose3d_ros.__version__'
    assert re.fullmatch(r'\d+\.\d+\.\d+', version)
    changes = (ROOT / 'CHANGELOG.rst').read_text()
    assert re.search(rf'^(Forthcoming|{re.escape(version)} \(\d{{4}}-\d\d-\d\d\))$', changes, re.MULTILINE)
    assert XML.findtext('license') == CFG['metadata']['license'] == 'Apache-2.0'
    assert 'Apache License' in (ROOT / 'LICENSE').read_text()


def test_package_xml_and_setup_cfg_describe_the_same_package() -> None:
    assert XML.get('format') == '3'
    assert XML.findtext('name') == CFG['metadata']['name'] == 'pose3d_ros'
    maintainer = XML.find('maintainer')
    assert maintainer is not None
    assert maintainer.text == CFG['metadata']['maintainer']
    assert maintainer.get('email') == CFG['metadata']['maintainer_email']
    assert (XML.findtext('description') or '').startswith(CFG['metadata']['description'])
    assert XML.findtext('export/build_type') == 'ament_cmake'
    assert XML.findtext('member_of_group') == 'rosidl_interface_packages'


def test_package_xml_declares_what_is_imported_and_nothing_else() -> None:
    used = {KEYS.get(name, name) for name in imported('pose3d_ros', 'launch') - NO_KEY} | NOT_IMPORTED
    for path in (ROOT / 'launch').glob('*.launch.py'):
        used |= set(re.findall(r"package='(\w+)'", path.read_text())) | set(
            re.findall(r"'package': '(\w+)'", path.read_text()))
    used -= LEFT_TO_THE_USER | {'pose3d_ros'}
    at_run_time = declared('depend', 'exec_depend')
    assert used - at_run_time == set(), 'used, but not in package.xml'
    assert at_run_time - used == set(), 'in package.xml, but not used'


def test_cmake_finds_what_package_xml_declares_for_it() -> None:
    found = set(re.findall(r'^ *find_package\((\w+) REQUIRED\)', CMAKE, re.MULTILINE))
    assert found <= declared('buildtool_depend', 'depend', 'test_depend')
    assert found >= declared('buildtool_depend', 'depend')


def test_every_message_is_built() -> None:
    assert set(re.findall(r'msg/\w+\.msg', CMAKE)) == {f'msg/{path.name}' for path in (ROOT / 'msg').glob('*.msg')}


def test_every_node_module_has_an_executable_and_the_other_way_round() -> None:
    listed = re.search(r'set\(nodes ([\w ]+)\)', CMAKE)
    assert listed is not None
    assert set(listed[1].split()) == {path.stem for path in (ROOT / 'pose3d_ros' / 'ros').glob('*_node.py')} - {
        'camera_node'}  # what mono_node and multi_node have in common
    for node in listed[1].split():
        source = (ROOT / 'pose3d_ros' / 'ros' / f'{node}.py').read_text()
        assert any(isinstance(line, ast.FunctionDef) and line.name == 'main' for line in ast.parse(source).body)


def test_pip_and_the_environment_require_the_same_packages_and_all_are_pinned() -> None:
    run = requirement_names((ROOT / 'requirements' / 'run.txt').read_text())
    assert run == requirement_names(CFG['options']['install_requires'])
    pinned = {line.split('==')[0] for line in (ROOT / 'requirements' / 'constraints.txt').read_text().splitlines()}
    for layer in ('run', 'ros', 'test'):
        names = requirement_names((ROOT / 'requirements' / f'{layer}.txt').read_text())
        assert names <= pinned, f'{layer}.txt: {names - pinned} not in constraints.txt'


@pytest.mark.parametrize(('name', 'states'), [
    ('Joint3D', JointState), ('Person3D', PersonState), ('Person2D', PersonState), ('Body3D', PersonState),
])
def test_states_have_the_same_numbers_in_messages_and_records(name: str, states: type[IntEnum]) -> None:
    assert message(name)[1] == {state.name: state.value for state in states}


@pytest.mark.parametrize(('names', 'record', 'sent', 'not_sent'), [
    # Relative depth and attributes stay with the detector: they are of use to the lifter in the same process only.
    (('Person2D', 'Joint2D'), Person2D, (PERSON_2D, JOINT_2D), {'depth', 'attributes'}),
    (('Person3D', 'Joint3D'), Person3D, (PERSON_3D, JOINT_3D), {'body'}),  # which goes in a message of its own
    (('Body3D',), BodyPose, (BODY_3D,), set()),
])
def test_messages_carry_the_fields_of_the_records(
        names: tuple[str, ...], record: type, sent: tuple[dict, ...], not_sent: set[str]) -> None:
    for name, fields in zip(names, sent):
        assert set(message(name)[0]) - {'joints'} == set(fields)
    of_record = {field.name for field in dataclasses.fields(record)}
    # The skeleton is given once, by the array message.
    of_person = {'state', 'id', 'confidence'} if record is BodyPose else set()
    assert of_record - not_sent - {'skeleton'} == {name for fields in sent for name in fields.values()} - of_person


def test_every_message_field_is_explained() -> None:
    for path in (ROOT / 'msg').glob('*.msg'):
        lines = path.read_text().splitlines()
        assert lines[0].startswith('# ')
        assert '#' in path.read_text().split('\n', 1)[1]


@pytest.mark.ros
def test_built_messages_are_those_of_the_sources() -> None:
    import pose3d_ros.msg as built

    for path in (ROOT / 'msg').glob('*.msg'):
        fields, constants = message(path.stem)
        kind = getattr(built, path.stem)
        assert list(kind.get_fields_and_field_types()) == fields
        assert {name: getattr(kind, name) for name in constants} == constants


def test_a_wheel_brings_weights_configuration_and_the_command(tmp_path: Path) -> None:
    pytest.importorskip('setuptools', minversion='70.1')
    source = tmp_path / 'source'
    source.mkdir()
    for name in ('pose3d_ros', 'config', 'resource'):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('setup.py', 'setup.cfg', 'pyproject.toml', 'package.xml', 'LICENSE', 'README.md'):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    command = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation',
               '--wheel-dir', str(tmp_path), str(source)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    wheel, = tmp_path.glob('pose3d_ros-*.whl')
    names = zipfile.ZipFile(wheel).namelist()
    for path in sorted((ROOT / 'pose3d_ros').rglob('*')):
        if path.suffix in ('.py', '.onnx', '.npz', '.json') and '__pycache__' not in path.parts:
            assert str(path.relative_to(ROOT)) in names
    for path in sorted((ROOT / 'config').rglob('*.yaml')):
        assert any(name.endswith(f'/data/share/pose3d_ros/{path.relative_to(ROOT)}') for name in names)
    assert any(name.endswith('/share/ament_index/resource_index/packages/pose3d_ros') for name in names)
    assert not any(name.startswith(('test/', 'pose3d_ros/msg')) for name in names)
    entry_points, = (name for name in names if name.endswith('entry_points.txt'))
    assert 'pose3d = pose3d_ros.cli.main:main' in zipfile.ZipFile(wheel).read(entry_points).decode()
    assert wheel.stat().st_size < 20e6
