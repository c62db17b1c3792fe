"""The launch file: checked as text everywhere, and run by the real `launch` where that is installed."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
LAUNCH_FILES = sorted((ROOT / 'launch').glob('*.launch.py'))
MONO = ROOT / 'launch' / 'mono.launch.py'
PROMISED = {'namespace', 'params_file', 'image', 'image_transport', 'detector_model', 'search_model', 'runtime',
            'use_sim_time', 'log_level', 'rviz', 'autostart', 'video', 'calibration'}


def assigned(tree: ast.Module, name: str) -> ast.expr:
    """Return the value of a module-level name."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, 'target', None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            assert isinstance(node, ast.Assign | ast.AnnAssign)
            assert node.value is not None
            return node.value
    raise AssertionError(f'no {name}')


def declared_arguments(tree: ast.Module) -> list[str]:
    """Return the names in ARGUMENTS, in order."""
    value = assigned(tree, 'ARGUMENTS')
    assert isinstance(value, ast.Dict)
    return [ast.literal_eval(key) for key in value.keys if key is not None]


def read_arguments(tree: ast.Module) -> set[str]:
    """Return the arguments the launch file makes use of: chosen['name'], and decided(chosen, name=type)."""
    used = {ast.literal_eval(node.slice) for node in ast.walk(tree)
            if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == 'chosen'
            and isinstance(node.slice, ast.Constant)}
    return used | set(decided_parameters(tree))


def decided_parameters(tree: ast.Module) -> dict[str, str]:
    """Return the arguments that become parameters of the same name, with their types."""
    return {keyword.arg: ast.unparse(keyword.value) for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'decided'
            for keyword in node.keywords if keyword.arg is not None}


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda path: path.name)
def test_every_argument_is_declared_used_and_described(path: Path) -> None:
    tree = ast.parse(path.read_text())
    names = declared_arguments(tree)
    assert len(names) == len(set(names))
    assert set(names) == read_arguments(tree)


def test_the_usual_arguments_are_there() -> None:
    assert set(declared_arguments(ast.parse(MONO.read_text()))) >= PROMISED


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda path: path.name)
def test_what_a_launch_file_names_exists(path: Path) -> None:
    text = path.read_text()
    cmake = re.search(r'set\(nodes ([\w ]+)\)', (ROOT / 'CMakeLists.txt').read_text())
    assert cmake is not None
    ours = {name for name in re.findall(r"executable='(\w+)'", text) if name.endswith('_node')}
    assert ours <= set(cmake[1].split())
    for name in re.findall(r"CONFIG / '([\w.]+)'", text):
        assert (ROOT / 'config' / name).is_file()


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda path: path.name)
def test_a_launch_file_runs_no_text_as_code(path: Path) -> None:
    forbidden = {'eval', 'exec', 'PythonExpression', 'system', 'Popen', 'subprocess'}
    names = {node.id if isinstance(node, ast.Name) else getattr(node, 'attr', '')
             for node in ast.walk(ast.parse(path.read_text()))}
    assert not names & forbidden


@pytest.mark.ros
def test_arguments_that_become_parameters_are_parameters_of_that_type() -> None:
    from pose3d_ros.ros.param_tables import NODES

    known = {'use_sim_time': 'bool'}  # rclpy's own
    for table in NODES.values():
        known |= {parameter.name: parameter.type_name for parameter in table}
    tree = ast.parse(MONO.read_text())
    for name, type_name in decided_parameters(tree).items():
        assert known[name] == type_name
    frame_id, = (parameter.default for parameter in NODES['video_node'] if parameter.name == 'frame_id')
    assert ast.literal_eval(assigned(tree, 'VIDEO_FRAME')) == frame_id


def test_rviz_shows_what_the_launch_file_brings_into_its_namespace() -> None:
    view = yaml.safe_load((ROOT / 'config' / 'mono.rviz').read_text())['Visualization Manager']
    shown = {display['Topic']['Value'] for display in view['Displays'] if 'Topic' in display}
    remapped = set(re.findall(r"\('(/\w+)', '(\w+)'\)", MONO.read_text()))
    assert {absolute for absolute, _ in remapped} == shown == {'/markers', '/image_annotated'}
    assert all(absolute == f'/{relative}' for absolute, relative in remapped)
    fixed_frame = re.search(r"'fixed_frame': \('(\w+)'", MONO.read_text())
    assert fixed_frame is not None
    assert fixed_frame[1] == view['Global Options']['Fixed Frame']
    kinds = {display['Class'].split('/')[1] for display in view['Displays']}
    assert {'Grid', 'TF', 'MarkerArray', 'Image'} <= kinds


# From here on with the real `launch`.

def started(**arguments: str) -> list:
    """Return the actions that the launch file takes for these arguments."""
    pytest.importorskip('launch_ros', reason='launch and launch_ros come with a ROS 2 installation only')
    from launch import LaunchContext
    from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable

    specification = importlib.util.spec_from_file_location('mono_launch', MONO)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    context = LaunchContext()
    context.launch_configurations.update(arguments)
    actions: list = []
    for entity in module.generate_launch_description().entities:
        assert isinstance(entity, DeclareLaunchArgument | SetEnvironmentVariable | OpaqueFunction)
        actions += entity.visit(context) or []
    return actions


def executables(actions: list) -> list[str]:
    """Return what the nodes among the actions run."""
    return [action.node_executable for action in actions if hasattr(action, 'node_executable')]


def test_a_running_camera_needs_one_node() -> None:
    assert executables(started(image='/camera/image_raw')) == ['mono_node']


def test_a_video_is_played_beside_it_and_rviz_gets_a_frame() -> None:
    assert executables(started(video='walk.mp4')) == ['mono_node', 'video_node']
    assert executables(started(video='walk.mp4', rviz='true')) == [
        'mono_node', 'video_node', 'rviz2', 'static_transform_publisher']


def test_a_wrong_params_file_stops_the_launch() -> None:
    pytest.importorskip('launch_ros', reason='launch and launch_ros come with a ROS 2 installation only')
    with pytest.raises(RuntimeError, match='params_file:=nowhere.yaml is not a file'):
        started(params_file='nowhere.yaml')


def test_a_wrong_choice_is_refused() -> None:
    pytest.importorskip('launch_ros', reason='launch and launch_ros come with a ROS 2 installation only')
    with pytest.raises(RuntimeError, match='rviz'):
        started(rviz='perhaps')
