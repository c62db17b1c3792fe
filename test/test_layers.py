"""The architecture: what may import what, and how long a file and a function may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'pose3d_ros'
SOURCES = sorted(PACKAGE.rglob('*.py'))
CHECKED_FOR_LENGTH = [*SOURCES, *sorted((ROOT / 'test').rglob('*.py')), *sorted((ROOT / 'benchmarks').rglob('*.py')),
                      *sorted((ROOT / 'launch').rglob('*.py'))]

# From the bottom up. A unit imports only units of lower layers; within a layer only what shares its braces, so that
# no stage knows another. A new module or folder must be given its place here.
LAYERS: tuple[tuple[set[str], ...], ...] = (
    ({'skeleton', 'camera', 'distortion', 'calibration', 'records', 'pelvis', 'stature', 'attributes'},),
    ({'body_model', 'body_model_file', 'pickle_reader', 'smpl_pickle'},),
    ({'mannequin'}, {'mesh_files', 'mesh_gltf'}, {'draw_mesh'}, {'decimate'}),
    ({'runtime'},),
    ({'draw', 'palette'}, {'footage'}),
    ({'detect'}, {'track', 'handedness'}, {'lift', 'past'}, {'refine', 'motion', 'stature_filter', 'ground'}, {'fuse'}),
    ({'pipeline'},),
    ({'nets'},),
    ({'train'},),
    ({'ros', 'cli'},),
)
NEVER = {('ros', 'nets'), ('ros', 'train')}  # robots run ONNX; torch is for training and export
TORCH_ONLY_IN = {'nets', 'train'}
ROS_ONLY_IN = {'ros', 'cli'}
ROS_MODULES = {'rclpy', 'rcl_interfaces', 'ament_index_python', 'builtin_interfaces', 'tf2_ros', 'tf_transformations',
               'cv_bridge', 'sensor_msgs_py', 'message_filters', 'rosbag2_py', 'launch', 'launch_ros', 'std_srvs'}


def unit_of(path: Path) -> str:
    """Return the module or folder directly under pose3d_ros that a source belongs to ('' for __init__.py)."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix('.py')
    return '' if first == '__init__' else first


def imports_of(path: Path, *, when_imported: bool = False) -> Iterator[str]:
    """Yield the dotted names of all modules a source imports, wherever in the file (or only when itself imported)."""
    tree = ast.parse(path.read_text())
    for node in tree.body if when_imported else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: relative import'
            yield node.module or ''
            yield from (f'{node.module}.{alias.name}' for alias in node.names)


def units_imported_by(path: Path) -> set[str]:
    """Return the units of this package that a source imports."""
    units = {name.split('.')[1] for name in imports_of(path) if name.startswith('pose3d_ros.')}
    return {unit for unit in units if (PACKAGE / unit).exists() or (PACKAGE / f'{unit}.py').exists()}


def place_of(unit: str) -> tuple[int, set[str]]:
    """Return the layer of a unit, and the units it shares its braces with."""
    for layer, groups in enumerate(LAYERS):
        for group in groups:
            if unit in group:
                return layer, group
    raise AssertionError(f'pose3d_ros/{unit} has no place in LAYERS of test_layers.py')


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize('path', [path for path in SOURCES if unit_of(path)], ids=named)
def test_a_source_imports_only_what_lies_below_it(path: Path) -> None:
    layer, group = place_of(unit_of(path))
    for other in units_imported_by(path):
        other_layer, _ = place_of(other)
        assert other in group or other_layer < layer, f'{named(path)} must not import {other}'
        assert (unit_of(path), other) not in NEVER, f'{named(path)} must not import {other}'


@pytest.mark.parametrize('path', SOURCES, ids=named)
def test_torch_and_ros_stay_in_their_folders(path: Path) -> None:
    packages = {name.split('.')[0] for name in imports_of(path)}
    if unit_of(path) == 'cli':  # inside a function at most: `pose3d run` must not need torch
        assert not any(name.startswith(('torch', 'pose3d_ros.nets')) for name in imports_of(path, when_imported=True))
    elif unit_of(path) not in TORCH_ONLY_IN:
        assert 'torch' not in packages
    if unit_of(path) not in ROS_ONLY_IN:
        messages = {name for name in packages if name.endswith('_msgs')}
        assert not (packages & ROS_MODULES or messages)
        assert not any(name.startswith('pose3d_ros.msg') for name in imports_of(path))


@pytest.mark.parametrize(('module', 'unwanted'), [
    ('pose3d_ros.pipeline', ('torch', 'rclpy', 'onnx', 'tflite', 'matplotlib')),
    ('pose3d_ros.cli.main', ('torch', 'rclpy', 'onnx', 'onnxruntime')),
    ('pose3d_ros.cli.calibrate', ('torch', 'rclpy', 'rosbags', 'onnx', 'tflite')),  # bags are read without ROS
    pytest.param('pose3d_ros.ros.mono_node', ('torch', 'onnx', 'tflite', 'matplotlib'), marks=pytest.mark.ros),
])
def test_importing_costs_nothing_it_does_not_need(module: str, unwanted: tuple[str, ...]) -> None:
    script = f'import sys, {module}; print(*(name for name in {unwanted!r} if name in sys.modules))'
    result = subprocess.run([sys.executable, '-c', script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []


@pytest.mark.parametrize('path', CHECKED_FOR_LENGTH, ids=named)
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text()
    limit = 500 if 'test' in path.relative_to(ROOT).parts else 300
    assert text.count('\n') <= limit, f'{named(path)} is too long to be one job'
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 70, f'{named(path)}: {node.name}() is too long'


@pytest.mark.parametrize('path', SOURCES, ids=named)
def test_no_error_is_swallowed(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f'{named(path)}:{node.lineno}: bare except'
            assert not all(isinstance(line, ast.Pass) for line in node.body), \
                f'{named(path)}:{node.lineno}: an exception is dropped; use contextlib.suppress and say why'
