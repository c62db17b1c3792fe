"""The benchmark on GPUs: what it counts, and what it says where there is none."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from pose3d_ros.runtime.trt.backend import TensorRTBackend

FOLDER = Path(__file__).parents[1] / 'benchmarks'


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module(name)


def save_net(path: Path) -> Path:
    """Write a convolution 2 -> 4 channels of 3 x 3 on 8 x 8 in two groups, then a product with a matrix 4 x 5."""
    info, weight = helper.make_tensor_value_info, helper.make_tensor
    graph = helper.make_graph(
        [helper.make_node('Conv', ['x', 'w'], ['a'], 'conv', pads=[1, 1, 1, 1], group=2),
         helper.make_node('Relu', ['a'], ['b'], 'relu'),
         helper.make_node('GlobalAveragePool', ['b'], ['c'], 'pool'),
         helper.make_node('Flatten', ['c'], ['d'], 'flat'),
         helper.make_node('Gemm', ['d', 'v'], ['y'], 'gemm')],
        'tiny', [info('x', TensorProto.FLOAT, ['N', 2, 8, 8])], [info('y', TensorProto.FLOAT, ['N', 5])],
        [weight('w', TensorProto.FLOAT, [4, 1, 3, 3], [0.0] * 36), weight('v', TensorProto.FLOAT, [4, 5], [0.0] * 20)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize('count', [1, 3])
def test_the_work_of_a_network_is_counted(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = load('gpu_floor', monkeypatch).work_of(save_net(tmp_path / 'tiny.onnx'), count)
    assert work.operations == count * 2 * (4 * 64 * 9 + 5 * 4)
    assert work.weights == 36 + 20
    assert work.inputs_outputs == count * (2 * 64 + 5)
    assert work.activations == count * (4 * 64 + 5)


def test_the_floor_is_what_takes_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    floor = load('gpu_floor', monkeypatch)
    gpu = floor.Peaks(bandwidth=1e9, half=2e12, full=1e12)
    few = floor.Work(operations=2e6, weights=1e6, inputs_outputs=0.0, activations=0.5e6)
    assert few.floor_ms(gpu, 2, activations=False) == pytest.approx(2.0)
    assert few.floor_ms(gpu, 4, activations=True) == pytest.approx(8.0)
    many = floor.Work(operations=1e12, weights=1.0, inputs_outputs=1.0, activations=1.0)
    assert many.floor_ms(gpu, 2, activations=True) == pytest.approx(500.0)
    assert many.floor_ms(gpu, 4, activations=True) == pytest.approx(1000.0)


def test_ratios_are_joined_by_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    found = load('engines_gpu', monkeypatch).overall({
        'ratios.a.batch_1_gpu_trt_fp16_vs_torch_compiled_ratio': 0.25,
        'ratios.b.batch_2_gpu_trt_fp16_vs_torch_compiled_ratio': 1.0,
        'ratios.a.batch_1_trt_fp16_vs_torch_compiled_ratio': 9.0,
        'ratios.a.batch_1_trt_fp16_vs_floor_ratio': 4.0, 'ratios.a.batch_1_trt_fp32_vs_floor_ratio': 3.0,
        'trt_fp16.a.check_passed': True, 'trt_fp16.b.check_passed': False})
    assert found == {'trt_fp16_vs_torch_compiled_ratio': pytest.approx(0.5),
                     'trt_fp16_vs_floor_ratio': pytest.approx(4.0), 'trt_fp32_vs_floor_ratio': pytest.approx(3.0),
                     'trt_fp16_checks_passed': 1, 'trt_fp16_checks': 2}


def test_without_a_gpu_it_says_so_and_measures_nothing(tmp_path: Path) -> None:
    if not TensorRTBackend().why_not():
        pytest.skip('there is a GPU')
    result = subprocess.run([sys.executable, FOLDER / 'engines_gpu.py', '--json', tmp_path / 'figures.json'],
                            cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2 and 'Traceback' not in result.stderr
    assert result.stderr.startswith('nothing is measured: there is no NVIDIA') and not any(tmp_path.iterdir())
