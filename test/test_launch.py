"""The launch files: checked as text everywhere, and run by the real `launch` where that is installed."""

from __future__ import annotations

import ast
import importlib.util
import re
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
LAUNCH_FILES = sorted((ROOT / 'launch').glob('*.launch.py'))
MONO, MULTI = (ROOT / 'launch' / f'{name}.launch.py' for name in ('mono', 'multi'))
SHARED = ROOT / 'pose3d_ros' / 'ros' / 'launching.py'
PROMISED = {'namespace', 'params_file', 'image', 'image_transport', 'detector_model', 'search_model', 'lifter',
            'runtime', 'use_sim_time', 'log_level', 'rviz', 'autostart', 'calibration'}
PROMISED_OF = {MONO: {'video'}, MULTI: {'cameras', 'videos', 'frame', 'nodes', 'one_process'}}


def assigned(tree: ast.Module, name: str) -> ast.expr:
    """Return the value of a module-level name."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, 'target', None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            assert isinstance(node, ast.Assign | ast.AnnAssign)
            assert node.value is not None
            return node.value
    raise AssertionError(f'no {name}')


def declared_arguments(path: Path, name: str = 'ARGUMENTS') -> list[str]:
    """Return the names in ARGUMENTS, with those of COMMON where it says so."""
    value = assigned(ast.parse(path.read_text()), name)
    assert isinstance(value, ast.Dict)
    names = [ast.literal_eval(key) for key in value.keys if key is not None]
    return names + (declared_arguments(SHARED, 'COMMON') if None in value.keys else [])


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
def test_every_argument_is_declared_and_used(path: Path) -> None:
    names = declared_arguments(path)
    assert len(names) == len(set(names))
    assert set(names) == read_arguments(ast.parse(path.read_text())) | read_arguments(ast.parse(SHARED.read_text()))


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda path: path.name)
def test_the_usual_arguments_are_there(path: Path) -> None:
    assert set(declared_arguments(path)) >= PROMISED | PROMISED_OF[path]


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda path: path.name)
def test_what_a_launch_file_names_exists(path: Path) -> None:
    text = path.read_text()
    cmake = re.search(r'set\(nodes ([\w ]+)\)', (ROOT / 'CMakeLists.txt').read_text())
    assert cmake is not None
    ours = set(re.findall(r"own_node\(\s*'(\w+)'", text))
    assert ours
    assert ours <= set(cmake[1].split())
    for name in re.findall(r"CONFIG / '([\w.]+)'", text):
        assert (ROOT / 'config' / name).is_file()


@pytest.mark.parametrize('path', [*LAUNCH_FILES, SHARED], ids=lambda path: path.name)
def test_a_launch_file_runs_no_text_as_code(path: Path) -> None:
    forbidden = {'eval', 'exec', 'PythonExpression', 'system', 'Popen', 'subprocess'}
    names = {node.id if isinstance(node, ast.Name) else getattr(node, 'attr', '')
             for node in ast.walk(ast.parse(path.read_text()))}
    assert not names & forbidden


@pytest.mark.ros
@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda path: path.name)
def test_arguments_that_become_parameters_are_parameters_of_that_type(path: Path) -> None:
    from pose3d_ros.ros.param_tables import NODES

    known = {'use_sim_time': 'bool'}  # rclpy's own
    for table in NODES.values():
        known |= {parameter.name: parameter.type_name for parameter in table}
    tree = ast.parse(path.read_text())
    for name, type_name in decided_parameters(tree).items():
        assert known[name] == type_name
    constant, node, parameter = {MONO: ('VIDEO_FRAME', 'video_node', 'frame_id'),
                                 MULTI: ('COMMON_FRAME', 'fusion_node', 'frame')}[path]
    default, = (declared.default for declared in NODES[node] if declared.name == parameter)
    assert ast.literal_eval(assigned(tree, constant)) == default


@pytest.mark.parametrize('path, topics', [(MONO, {'/markers', '/mesh', '/image_annotated'}), (MULTI, {'/markers'})],
                         ids=['mono', 'multi'])
def test_rviz_shows_what_the_launch_file_brings_into_its_namespace(path: Path, topics: set[str]) -> None:
    text = path.read_text()
    view = yaml.safe_load((ROOT / 'config' / path.name.replace('launch.py', 'rviz')).read_text())
    view = view['Visualization Manager']
    shown = {display['Topic']['Value'] for display in view['Displays'] if 'Topic' in display}
    remapped = set(re.findall(r"\('(/\w+)', '(\w+)'\)", text))
    assert {absolute for absolute, _ in remapped} == shown == topics
    assert all(absolute == f'/{relative}' for absolute, relative in remapped)
    fixed_frame = re.search(r"'fixed_frame': \('(\w+)'|COMMON_FRAME = '(\w+)'", text)
    assert fixed_frame is not None
    assert view['Global Options']['Fixed Frame'] in fixed_frame.groups()
    kinds = {display['Class'].split('/')[1] for display in view['Displays']}
    assert {'Grid', 'TF', 'MarkerArray'} <= kinds


# From here on with the real `launch`.

WITH_ROS = 'launch and launch_ros come with a ROS 2 installation only'


def started(path: Path = MONO, **arguments: str) -> list:
    """Return the actions that the launch file takes for these arguments."""
    pytest.importorskip('launch_ros', reason=WITH_ROS)
    from launch import LaunchContext
    from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable

    specification = importlib.util.spec_from_file_location(path.name.replace('.', '_'), path)
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
    for action in actions:
        if hasattr(action, 'node_executable'):
            action._perform_substitutions(context)  # as execute() does: namespaces and parameter files
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
    pytest.importorskip('launch_ros', reason=WITH_ROS)
    with pytest.raises(RuntimeError, match='params_file:=nowhere.yaml is not a file'):
        started(params_file='nowhere.yaml')


def test_a_wrong_choice_is_refused() -> None:
    pytest.importorskip('launch_ros', reason=WITH_ROS)
    with pytest.raises(RuntimeError, match='rviz'):
        started(rviz='perhaps')


def names(actions: list) -> list[str]:
    """Return the full names of the nodes among the actions."""
    return [action.node_name for action in actions if hasattr(action, 'node_executable')]


def command(actions: list, name: str) -> list[str]:
    """Return the command line of a node."""
    action, = (action for action in actions if getattr(action, 'node_name', '') == name)
    return [''.join(getattr(part, 'text', '') for part in word) for word in action.cmd]


def given(actions: list, name: str) -> dict:
    """Return the parameters of a node that the launch file itself gives it."""
    files = [yaml.full_load(Path(word).read_text())  # launch writes tuples
             for word in command(actions, name) if 'launch_params' in word]
    return {key: value for file in files for body in file.values() for key, value in body['ros__parameters'].items()}


@pytest.mark.parametrize('cameras', ['[front, left]', 'front,left', "['front', \"left\"]"])
def test_each_camera_has_a_node_in_its_namespace_and_all_have_one_fusion(cameras: str) -> None:
    actions = started(MULTI, cameras=cameras)
    assert names(actions) == ['/fusion_node', '/front/mono_node', '/left/mono_node']
    assert names(started(MULTI, cameras=cameras, namespace='rig')) == [
        '/rig/fusion_node', '/rig/front/mono_node', '/rig/left/mono_node']
    assert names(started(MULTI, cameras=cameras, nodes='false')) == ['/fusion_node']
    assert names(started(MULTI, cameras=cameras, one_process='true')) == ['/fusion_node', '/multi_node']


@pytest.mark.parametrize('image, front, together', [
    ('image', 'image', 'front/image'), ('rgb/image_raw', 'rgb/image_raw', 'front/rgb/image_raw'),
    ('{camera}/image_raw', 'image_raw', 'front/image_raw'),
    ('/rig/{camera}/image_raw', '/rig/front/image_raw', '/rig/front/image_raw')])
def test_the_images_of_each_camera_are_found(image: str, front: str, together: str) -> None:
    apart = started(MULTI, cameras='[front, left]', image=image)
    assert f'image:={front}' in command(apart, '/front/mono_node')
    one = started(MULTI, cameras='[front, left]', image=image, one_process='true')
    assert f'front/image:={together}' in command(one, '/multi_node')


def test_a_file_of_places_takes_the_place_of_tf() -> None:
    def parameters(**arguments: str) -> dict:
        return given(started(MULTI, cameras='[on, left]', **arguments), '/fusion_node')

    assert parameters() == {'cameras': ('on', 'left')}
    assert parameters(calibration='cameras.yaml', frame='hall') == {
        'cameras': ('on', 'left'), 'frame': 'hall', 'calibration': 'cameras.yaml', 'extrinsics_source': 'file'}


def test_videos_play_in_step_as_the_cameras() -> None:
    actions = started(MULTI, cameras='[a, b]', videos='[a.mp4, b.mp4]', calibration='cameras.yaml', rviz='true')
    assert names(actions) == ['/fusion_node', '/a/mono_node', '/b/mono_node', '/a/video_node', '/b/video_node', '/rviz']
    played = [given(actions, f'/{camera}/video_node') for camera in 'ab']
    assert [values['video'] for values in played] == ['a.mp4', 'b.mp4']
    assert [values['camera_name'] for values in played] == ['a', 'b']
    assert played[0]['start_at'] == played[1]['start_at'] > time.time()
    assert 'people:=/people' in command(actions, '/a/video_node')
    elsewhere = started(MULTI, cameras='[a, b]', videos='[a.mp4, b.mp4]', calibration='c.yaml', namespace='/rig')
    assert 'people:=/rig/people' in command(elsewhere, '/rig/a/video_node')


@pytest.mark.parametrize('arguments, words', [
    ({'cameras': '[]'}, 'cameras'), ({'cameras': '[a, a]'}, 'a'), ({'cameras': '[a b]'}, 'a b'),
    ({'image': '/image'}, 'the same topic for every camera'),
    ({'videos': '[a.mp4]', 'calibration': 'c.yaml'}, '1 files for 2 cameras'),
    ({'videos': '[a.mp4, b.mp4]'}, 'needs calibration:='), ({'params_file': 'no.yaml'}, 'no.yaml is not a file')])
def test_several_cameras_that_cannot_be_are_refused(arguments: dict[str, str], words: str) -> None:
    pytest.importorskip('launch_ros', reason=WITH_ROS)
    with pytest.raises(RuntimeError, match=words):
        started(MULTI, **{'cameras': '[a, b]', **arguments})
