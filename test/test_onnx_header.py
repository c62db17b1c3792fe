"""Headers of ONNX files, read without the `onnx` package, are what that package reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pose3d_ros.runtime.engine import EngineError
from pose3d_ros.runtime.onnx_header import Spec, header_of, node_label, read_header

ROOT = Path(__file__).parents[1]
LIFTER = ROOT / 'pose3d_ros' / 'weights' / 'lifter.onnx'


def tiny(ir_version: int = 8) -> onnx.ModelProto:
    info = helper.make_tensor_value_info
    inputs = [info('image', TensorProto.FLOAT16, ['N', 3, 300]), info('count', TensorProto.INT64, [])]
    if ir_version < 4:
        inputs.append(info('weight', TensorProto.FLOAT16, [300]))
    graph = helper.make_graph(
        [helper.make_node('Mul', ['image', 'weight'], ['scaled'], 'scaling'),
         helper.make_node('Relu', ['scaled'], ['y'])], 'tiny', inputs, [info('y', TensorProto.FLOAT16, None)],
        [numpy_helper.from_array(np.ones(300, np.float16), 'weight')])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=ir_version)
    helper.set_model_props(model, {'licence': 'free', 'joints': '["å", "b"]', 'empty': ''})
    return model


@pytest.mark.parametrize('ir_version', [3, 8])
def test_inputs_outputs_and_metadata(ir_version: int) -> None:
    header = header_of(tiny(ir_version).SerializeToString())
    assert header.inputs == (Spec('image', (None, 3, 300), TensorProto.FLOAT16), Spec('count', (), TensorProto.INT64))
    assert header.outputs == (Spec('y', (), TensorProto.FLOAT16),)
    assert header.metadata == {'licence': 'free', 'joints': '["å", "b"]', 'empty': ''}


def test_the_shipped_network_is_read_as_the_package_reads_it() -> None:
    header, model = read_header(LIFTER), onnx.load(LIFTER)
    assert header.metadata == {entry.key: entry.value for entry in model.metadata_props}
    assert [spec.name for spec in header.inputs] == [info.name for info in model.graph.input]
    assert [spec.name for spec in header.outputs] == [info.name for info in model.graph.output]
    for spec, info in zip(header.inputs, model.graph.input):
        assert spec.shape == tuple(axis.dim_value or None for axis in info.type.tensor_type.shape.dim)
    content = LIFTER.read_bytes()
    for number in (0, 7, len(model.graph.node) - 1):
        node = model.graph.node[number]
        assert node_label(content, number) == f'{node.op_type} {node.name!r}'


def test_a_node_without_a_name_is_called_by_what_it_computes() -> None:
    content = tiny().SerializeToString()
    assert [node_label(content, number) for number in (0, 1, 2, -1)] == ["Mul 'scaling'", "Relu 'y'", '', '']


def test_the_onnx_package_is_not_needed() -> None:
    script = (f'import sys; sys.modules["onnx"] = None; from pathlib import Path; path = Path({str(LIFTER)!r}); '
              'from pose3d_ros.runtime.onnx_header import read_header; print(read_header(path).inputs)')
    result = subprocess.run([sys.executable, '-c', script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0 and 'rays' in result.stdout, result.stderr


def test_every_cut_of_a_file_is_read_or_refused(tmp_path: Path) -> None:
    content = tiny().SerializeToString()
    for size in range(len(content)):
        try:
            header_of(content[:size])
        except ValueError as error:
            assert str(error)
    path = tmp_path / 'cut.onnx'
    for bad in (b'', b'hello', bytes(50), content[:len(content) // 2]):
        path.write_bytes(bad)
        with pytest.raises(EngineError, match='cut.onnx is not a usable network'):
            read_header(path)
    with pytest.raises(EngineError, match='missing.onnx is not a usable network'):
        read_header(tmp_path / 'missing.onnx')
