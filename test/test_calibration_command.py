"""`pose3d convert calibration`, and places of cameras as static TF."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import yaml
from calibration_files import (
    BROWN,
    FISHEYE,
    KALIBR,
    OPENCV,
    RIG,
    SIZE,
    K,
    needs_toml,
    qualisys_of,
    toml_of,
    write_opencv,
)
from scipy.spatial.transform import Rotation

from pose3d_ros.calibration import (
    CalibratedCamera,
    load_calibration,
    optical_frame,
    save_calibration,
    static_transform_launch,
    static_transforms,
    with_up,
)
from pose3d_ros.camera import CalibrationError, Camera
from pose3d_ros.cli.main import main

CAMERA = Camera(*SIZE, 910.5, 912.25, 641.25, 355.75, 'plumb_bob', tuple(BROWN))
CAMERAS = {name: CalibratedCamera(CAMERA, place) for name, place in RIG.items()}
SHIPPED = Path(__file__).parents[1] / 'config' / 'samples' / 'single_person.yaml'


def transform_of(arguments: list[str]) -> tuple[str, str, np.ndarray]:
    """Return parent, child and parent_T_child (4, 4), as static_transform_publisher understands its arguments."""
    words = dict(zip(arguments[::2], arguments[1::2]))
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_quat([float(words[f'--q{axis}']) for axis in 'xyzw']).as_matrix()
    matrix[:3, 3] = [float(words[f'--{axis}']) for axis in 'xyz']
    return words['--frame-id'], words['--child-frame-id'], matrix


def lines_of(text: str) -> list[list[str]]:
    command = ['ros2', 'run', 'tf2_ros', 'static_transform_publisher']
    lines = [shlex.split(line) for line in text.splitlines()]
    assert all(line[:4] == command for line in lines)
    return [line[4:] for line in lines]


def published_by(text: str, monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """Return the nodes that a launch file starts; `launch` is at hand only in a ROS installation."""
    launch, launch_ros, actions = ModuleType('launch'), ModuleType('launch_ros'), ModuleType('launch_ros.actions')
    launch.LaunchDescription, actions.Node = list, SimpleNamespace
    for module in (launch, launch_ros, actions):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    scope: dict = {}
    exec(compile(text, 'cameras.launch.py', 'exec'), scope)
    return scope['generate_launch_description']()


def test_static_tf_is_where_the_optical_frame_stands_in_its_parent():
    transforms = [transform_of(line) for line in lines_of(static_transforms(CAMERAS, 'map'))]
    assert [(parent, child) for parent, child, _ in transforms] == [
        ('map', 'front_optical_frame'), ('map', 'back_optical_frame')]
    for (_, _, map_T_camera), place in zip(transforms, RIG.values()):
        np.testing.assert_allclose(map_T_camera @ place, np.eye(4), rtol=0, atol=1e-12)


def test_a_camera_that_looks_along_x_of_its_parent():
    # REP-103: x forward, y left, z up in the parent; x right, y down, z forward in the optical frame
    world_T_camera = np.array([[0.0, 0, 1, 2], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])
    cameras = {'eye': CalibratedCamera(CAMERA, np.linalg.inv(world_T_camera))}
    (line,) = lines_of(static_transforms(cameras))
    parent, _, read = transform_of(line)
    assert parent == 'world'
    np.testing.assert_allclose(read, world_T_camera, rtol=0, atol=1e-12)
    ahead = read @ (0, 0, 3, 1)  # 3 m in front of the lens
    np.testing.assert_allclose(ahead[:3], (5, 0, 1.5), rtol=0, atol=1e-12)


def test_the_launch_file_publishes_the_same(monkeypatch):
    nodes = published_by(static_transform_launch(CAMERAS, 'map'), monkeypatch)
    assert [node.arguments for node in nodes] == lines_of(static_transforms(CAMERAS, 'map'))
    assert {(node.package, node.executable) for node in nodes} == {('tf2_ros', 'static_transform_publisher')}
    assert len({node.name for node in nodes}) == len(nodes)


def test_names_become_frames_and_cameras_without_a_place_are_left_out():
    assert optical_frame('Cam 1/left-hand') == 'Cam_1_left_hand_optical_frame'
    mixed = {'a b': CAMERAS['front'], 'lost': CalibratedCamera(CAMERA)}
    assert [line[-1] for line in lines_of(static_transforms(mixed))] == ['a_b_optical_frame']
    with pytest.raises(CalibrationError, match='a_b_optical_frame, which is taken'):
        static_transforms({'a b': CAMERAS['front'], 'a-b': CAMERAS['back']})
    with pytest.raises(CalibrationError, match='none of the cameras has a place'):
        static_transforms({'lost': mixed['lost']})
    for parent in ('', '/map', 'a b', "x'"):
        with pytest.raises(CalibrationError, match='is no TF frame'):
            static_transform_launch(CAMERAS, parent)


def test_what_is_written_is_read_again(tmp_path):
    fisheye = Camera(*SIZE, 300.1, 300.2, 640.3, 360.4, 'equidistant', tuple(FISHEYE))
    cameras = {**CAMERAS, 'wide': CalibratedCamera(fisheye), '0123': CalibratedCamera(CAMERA, np.eye(4))}
    save_calibration(tmp_path / 'a.yaml', cameras)
    again = load_calibration(tmp_path / 'a.yaml')
    assert list(again) == list(cameras)
    for name, calibrated in cameras.items():
        assert again[name].camera == calibrated.camera
        if calibrated.camera_T_world is None:
            assert again[name].camera_T_world is None
        else:
            np.testing.assert_allclose(again[name].camera_T_world, calibrated.camera_T_world, rtol=0, atol=2e-15)


def formats(folder: Path) -> dict[str, Path]:
    texts = {'kalibr': KALIBR, 'qualisys': qualisys_of(RIG), 'ours': SHIPPED.read_text()}
    files = {name: folder / f'{name}.in' for name in texts}
    for name, path in files.items():
        path.write_text(texts[name])
    return {**files, 'opencv': write_opencv(folder / 'opencv.xml', OPENCV)}


@pytest.mark.parametrize('kind', ['kalibr', 'qualisys', 'ours', 'opencv'])
def test_every_format_is_shown_and_converted(tmp_path, capsys, kind):
    source, out = formats(tmp_path)[kind], tmp_path / 'new' / 'out.yaml'
    assert main(['convert', 'calibration', str(source), '--out', str(out)]) == 0
    shown = capsys.readouterr().out.splitlines()
    before, after = load_calibration(source), load_calibration(out)
    assert [line.split()[0] for line in shown[2:-1]] == list(before) == list(after)
    assert shown[-1] == f'wrote {out}'
    assert out.read_text().startswith(f'# From {source.name}.')
    for name, calibrated in before.items():
        read = after[name].camera
        points = np.random.default_rng(0).uniform((-1, -1, 3), (1, 1, 5), (50, 3))
        np.testing.assert_array_equal(read.project(points), calibrated.camera.project(points))
        if calibrated.camera_T_world is not None:
            np.testing.assert_allclose(after[name].camera_T_world, calibrated.camera_T_world, rtol=0, atol=2e-15)


@needs_toml
def test_millimetres_are_converted_and_places_shown(tmp_path, capsys):
    source, out = tmp_path / 'calibration.toml', tmp_path / 'out.yaml'
    source.write_text(toml_of(RIG, BROWN, unit_m=1e-3))
    assert main(['convert', 'calibration', str(source), '--out', str(out)]) == 1
    assert 'pose3d convert calibration FILE --unit mm' in capsys.readouterr().err and not out.exists()
    assert main(['convert', 'calibration', str(source), '--unit', 'mm', '--out', str(out)]) == 0
    place = np.linalg.inv(load_calibration(out)['front'].camera_T_world)[:3, 3]
    assert ' '.join(f'{value:.3f}' for value in place) in capsys.readouterr().out
    np.testing.assert_allclose(place, np.linalg.inv(RIG['front'])[:3, 3], rtol=0, atol=1e-12)


def test_static_tf_files(tmp_path, monkeypatch):
    source = tmp_path / 'rig.qca.txt'
    source.write_text(qualisys_of(RIG))
    shell, launch = tmp_path / 'tf' / 'cameras.sh', tmp_path / 'cameras.launch.py'
    command = ['convert', 'calibration', str(source), '--parent', 'map', '--static-tf']
    assert main([*command, str(shell)]) == 0
    assert main([*command, str(launch)]) == 0
    lines = shell.read_text().splitlines()
    assert lines[0] == '#!/bin/sh' and lines[-1] == 'wait'
    started = [line.partition(' & ')[0] for line in lines if line.startswith('ros2 ')]
    assert '\n'.join(started) + '\n' == static_transforms(load_calibration(source), 'map')
    nodes = published_by(launch.read_text(), monkeypatch)
    assert [node.arguments for node in nodes] == lines_of(static_transforms(load_calibration(source), 'map'))


def test_sizes_for_files_that_do_not_say_them(tmp_path, capsys):
    source = write_opencv(tmp_path / 'left.yml', {'K': K, 'D': [BROWN]})
    out = tmp_path / 'left.yaml'
    assert main(['convert', 'calibration', str(source), '--size', '1280x720', '--out', str(out)]) == 0
    assert load_calibration(out)['left'].camera == CAMERA
    assert 'static' not in out.read_text() and yaml.safe_load(out.read_text())['cameras']['left']['image_width'] == 1280
    with pytest.raises(SystemExit):
        main(['convert', 'calibration', str(source), '--size', '1280,720'])
    assert 'is no size such as 1280x720' in capsys.readouterr().err


def test_errors_of_the_command_are_one_line(tmp_path, capsys):
    source = tmp_path / 'rig.qca.txt'
    source.write_text(qualisys_of(RIG))
    bare = write_opencv(tmp_path / 'bare.yml', OPENCV)
    (tmp_path / 'a_file').write_text('')
    for arguments, reason in (
            ([str(tmp_path / 'none.toml')], r'none.toml: cannot be read \(No such file'),
            ([str(source), '--out', str(source)], 'rig.qca.txt: is the file that is read'),
            ([str(source), '--static-tf', str(source)], 'is the file that is read'),
            ([str(source), '--out', str(tmp_path / 'a_file' / 'x.yaml')], 'cannot be written'),
            ([str(source), '--static-tf', str(tmp_path / 'a_file' / 'x.py')], 'cannot be written'),
            ([str(source), '--static-tf', str(tmp_path / 'x.py'), '--parent', '/map'], 'is no TF frame'),
            ([str(bare), '--static-tf', str(tmp_path / 'x.py')], 'none of the cameras has a place')):
        assert main(['convert', 'calibration', *arguments]) == 1
        error = capsys.readouterr().err
        assert error.count('\n') == 1 and error.startswith('pose3d: ')
        assert re.search(reason, error), error
    assert source.read_text() == qualisys_of(RIG) and not (tmp_path / 'x.py').exists()


@pytest.mark.parametrize('up', [(0, -1, 0), (0, 0, 1), (0, 0, -2), (0.3, -0.4, 0.5), (1, 0, 0)])
def test_a_world_is_turned_until_up_is_up(up):
    turned = with_up({**CAMERAS, 'lost': CalibratedCamera(CAMERA)}, up)
    assert turned['lost'].camera_T_world is None
    direction = np.array(up) / np.linalg.norm(up)
    for name, place in RIG.items():
        pose = turned[name].camera_T_world
        np.testing.assert_allclose(pose[:3, :3] @ (0, 0, 1), place[:3, :3] @ direction, rtol=0, atol=1e-12)
        np.testing.assert_allclose(pose[:3, 3], place[:3, 3], rtol=0, atol=1e-12)  # the origin stays
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), rtol=0, atol=1e-12)
    np.testing.assert_allclose(turned['front'].camera_T_world @ np.linalg.inv(turned['back'].camera_T_world),
                               RIG['front'] @ np.linalg.inv(RIG['back']), rtol=0, atol=1e-12)


def test_a_rig_whose_world_is_an_upright_camera_gets_z_up(tmp_path, capsys):
    source, out = tmp_path / 'rig.in', tmp_path / 'rig.yaml'
    source.write_text(KALIBR)
    assert main(['convert', 'calibration', str(source), '--up=0,-1,0', '--out', str(out)]) == 0
    world_T_cam0 = np.linalg.inv(load_calibration(out)['cam0'].camera_T_world)
    np.testing.assert_allclose(world_T_cam0[:3, :3].T, [[1, 0, 0], [0, 0, -1], [0, 1, 0]], rtol=0, atol=1e-12)
    assert 'looks along' in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(['convert', 'calibration', str(source), '--up', 'down'])
    assert main(['convert', 'calibration', str(source), '--up', '0,0,0']) == 1
    assert 'is no direction' in capsys.readouterr().err
