"""A description that cannot work is told at the start: the file, the key, what stands there, what should, the cure."""

from __future__ import annotations

import hashlib
import re
import sys
import tempfile
from pathlib import Path

import own_files
import pytest
import yaml

from pose3d_ros.detect.description import (
    BoxesDescription,
    DescriptionError,
    JointsDescription,
    load_description,
)
from pose3d_ros.detect.description_keys import KEYS, REQUIRED, Key, table
from pose3d_ros.detect.own import open_finder, open_reader
from pose3d_ros.detect.sized import sized
from pose3d_ros.runtime.engine import EngineError, Wanted
from pose3d_ros.runtime.opening import open_engine
from pose3d_ros.skeleton import COCO17, LIMBS12

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / 'docs' / 'own_models.md').read_text()
SAMPLES = sorted(path for path in (ROOT / 'config' / 'samples').glob('*.yaml') if '\nkind:' in path.read_text())
CPU = Wanted(runtime='cpu', threads=1)
NAMES = list(LIMBS12.joints)


@pytest.fixture(scope='module')
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_files.export_all(tmp_path_factory.mktemp('own_networks'))


def refused(folder: Path, base: dict, changes: dict, opens=load_description) -> str:
    """Return the message with which a description is refused: one line that names the file."""
    (folder / base['file']).touch()
    path = own_files.write(folder, base, changes)
    with pytest.raises(DescriptionError) as caught:
        opens(path)
    message = str(caught.value)
    assert message.startswith(f'{path}: ') and '\n' not in message and len(message) < 700
    return message.removeprefix(f'{path}: ')


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    (tmp_path / 'heat.onnx').touch()
    joints = load_description(own_files.write(tmp_path, own_files.HEAT))
    assert isinstance(joints, JointsDescription)
    assert joints.skeleton is COCO17 and joints.file == tmp_path / 'heat.onnx'
    assert (joints.input.layout, joints.input.channels, joints.input.range) == ('NCHW', 'RGB', (0.0, 255.0))
    assert (joints.padding, joints.values, joints.grid, joints.turned) == (1.25, 'peak', 'stride', False)
    assert joints.sigma_least == 2.0 and joints.input.fill == 0 and joints.outputs == ()
    (tmp_path / 'yolov8.onnx').touch()
    boxes = load_description(own_files.write(tmp_path, own_files.boxes('yolov8')))
    assert isinstance(boxes, BoxesDescription)
    assert (boxes.columns, boxes.person, boxes.input.fill, boxes.fit) == ('classes', 0, 114, 'letterbox')


def test_a_list_of_joints_is_a_skeleton_of_its_own(tmp_path: Path) -> None:
    (tmp_path / 'heat.onnx').touch()
    path = own_files.write(tmp_path, own_files.HEAT, {'joints': [*NAMES, 'tail']}, name='dancers')
    skeleton = load_description(path).skeleton
    assert skeleton.name == 'dancers' and skeleton.joints == (*NAMES, 'tail')
    assert set(skeleton.bones) == set(LIMBS12.bones)
    bones = [['left_hip', 'tail']]
    assert load_description(own_files.write(tmp_path, own_files.HEAT, {'joints': [*NAMES, 'tail'], 'bones': bones})
                            ).skeleton.bones == (('left_hip', 'tail'),)


@pytest.mark.parametrize(('changes', 'parts'), [
    ({'kind': None}, ['kind is missing', 'joints or boxes']),
    ({'kind': 'pose'}, ["kind is 'pose'", 'joints or boxes']),
    ({'file': None}, ['file is missing', 'path of an ONNX file']),
    ({'file': 'gone.onnx'}, ["file is 'gone.onnx'", 'put it there']),
    ({'sha256': 'abc'}, ["sha256 is 'abc'", '64 hexadecimal digits']),
    ({'sha256': '0' * 64}, ['sha256 is 0000', 'but', 'get the file again']),
    ({'input': None}, ['input.size is missing', '[width, height]']),
    ({'input': 5}, ['input is 5', 'a mapping with keys of: name, size']),
    ({'input.size': [192]}, ['input.size is [192]', '[width, height]']),
    ({'input.size': [192.5, 256]}, ['input.size is [192.5, 256]', 'whole numbers']),
    ({'input.chanels': 'RGB'}, ['input.chanels is no key', "did you mean 'input.channels'"]),
    ({'inpt': {}}, ["did you mean 'input'"]),
    ({'split_ratio': 2}, ['split_ratio is no key', "did you mean 'head.split_ratio'"]),
    ({'nms': 0.5}, ['nms is no key', 'not a key of kind joints']),
    ({'input.channels': 'rgb'}, ["input.channels is 'rgb'", 'RGB, BGR', "did you mean 'RGB'"]),
    ({'input.layout': 'HWC'}, ["input.layout is 'HWC'", 'NCHW, NHWC']),
    ({'input.mean': [1, 2]}, ['input.mean is [1, 2]', '3 numbers']),
    ({'input.mean': [0.485, 'x', 0.4]}, ["input.mean is [0.485, 'x', 0.4]", '3 numbers']),
    ({'input.std': [1, 0, 1]}, ['input.std is [1, 0, 1]', '3 positive numbers']),
    ({'input.range': [0, 1]}, ['input.mean is [123.675', 'within input.range (0 .. 1)', 'range: [0, 255]']),
    ({'input.mean': [0.485, 0.456, 0.406], 'input.std': [0.229, 0.224, 0.225]},
     ['input.std is [0.229', 'fit input.range (0 .. 255)', 'range: [0, 1]']),
    ({'input.range': [0, 1], 'input.mean': None, 'input.std': [58.395, 57.12, 57.375]}, ['input.std is [58.395']),
    ({'input.range': [1, 1], 'input.mean': None}, ['input.range is [1.0, 1.0]', 'two different']),
    ({'input.type': 'uint8'}, ["input.type is 'uint8'", 'remove range, mean and std']),
    ({'head.type': None}, ['head.type is missing', 'heatmap, simcc']),
    ({'head.type': 'regression'}, ["head.type is 'regression'", 'heatmap, simcc']),
    ({'head.type': 'simcc', 'head.outputs': ['x']}, ["head.outputs is ['x']", 'names of x and of y']),
    ({'head.outputs': ['x', 'y']}, ["head.outputs is ['x', 'y']", 'one name']),
    ({'head.split_ratio': 0}, ['head.split_ratio is 0', '0.25 .. 16']),
    ({'head.values': 'logits'}, ["head.values is 'logits'", "did you mean 'logit'"]),
    ({'joints': None}, ['joints is missing', 'name of a skeleton']),
    ({'joints': 'coco'}, ["joints is 'coco'", 'coco17', 'or a list']),
    ({'joints': [*NAMES, 'left_hip']}, ["'left_hip' stands in it twice"]),
    ({'joints': [*NAMES, 'left_heel']}, ["joints is 'left_heel'", 'right_heel beside it']),
    ({'joints': ['nose', 'left_eye', 'right_eye']}, ['left_shoulder among them', 'known names']),
    ({'joints': NAMES, 'bones': [['left_hip', 'left_kne']]}, ["'left_kne' is none", "did you mean 'left_knee'"]),
    ({'joints': 'coco17', 'bones': [['left_hip', 'left_kne']]}, ["'left_kne' is none", "did you mean 'left_knee'"]),
    ({'joints': NAMES, 'bones': ['left_hip']}, ['bones is', 'list of pairs']),
    ({'confidence.unseen': 0.9}, ['confidence.unseen is 0.9', 'less than confidence.sure (0.8)']),
    ({'crop.padding': True}, ['crop.padding is True', 'a number in 1 .. 3']),
    ({'crop.turned': 'yes please'}, ["crop.turned is 'yes please'", 'true or false']),
], ids=lambda value: '' if isinstance(value, list) else next(iter(value)))
def test_a_wrong_value_is_named_with_its_cure(changes: dict, parts: list[str], tmp_path: Path) -> None:
    message = refused(tmp_path, own_files.HEAT, changes)
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize(('changes', 'parts'), [
    ({'joints': 'coco17'}, ['joints is no key', 'not a key of kind boxes']),
    ({'outputs.format': 'cxywh'}, ["outputs.format is 'cxywh'", "did you mean 'cxcywh'"]),
    ({'outputs.scores': 's', 'outputs.columns': 'score'}, ["outputs.columns is 'score'", "outputs.scores is 's'"]),
    ({'outputs.columns': 'none'}, ['outputs.scores is missing', 'outputs.columns is none']),
    ({'outputs.columns': 'score_label', 'outputs.labels': 'l'}, ["outputs.labels is 'l'", 'score_label']),
    ({'outputs.strides': [8, 16], 'outputs.format': 'xyxy'}, ["outputs.format is 'xyxy'", 'outputs.strides is given']),
    ({'person': -1}, ['person is -1', 'a whole number']),
    ({'threshold': 40}, ['threshold is 40', '0.01 .. 0.99']),
])
def test_a_wrong_value_of_boxes_is_named_with_its_cure(changes: dict, parts: list[str], tmp_path: Path) -> None:
    message = refused(tmp_path, own_files.boxes('yolov8'), changes)
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize(('base', 'changes', 'parts'), [
    (own_files.HEAT, {'input.size': [256, 192]}, ['(any, 3, 192, 256)', '(any, 3, 256, 192)', 'size: [192, 256]']),
    (own_files.HEAT, {'input.layout': 'NHWC'}, ['(any, 256, 192, 3)', 'input.layout: NCHW']),
    (own_files.HEAT, {'input.type': 'float16'}, ["'image' of the network takes float32", 'input.type: float32']),
    (own_files.HEAT, {'input.name': 'x'}, ["input.name is 'x'", 'has image']),
    (own_files.HEAT, {'head.outputs': 'maps'}, ["names 'maps'", 'has heat']),
    (own_files.HEAT, {'head.type': 'simcc'}, ['simcc, which has two outputs', 'head.type may be heatmap']),
    (own_files.HEAT, {'joints': NAMES}, ["'heat' is (1, 17, 64, 48)", '(N, 12, rows, columns)', 'list in joints']),
    (own_files.SIMCC, {'head.type': 'heatmap'}, ['(1, 17, 384)', 'head.type may be the other one']),
    (own_files.SIMCC, {'head.split_ratio': 3.0}, ['384 bins, expected 576', 'head.split_ratio: 2']),
    (own_files.SIMCC, {'head.outputs': ['simcc_y', 'simcc_x']}, ['512 bins, expected 384', 'may be exchanged']),
    (own_files.SIMCC, {'joints': 'blazepose33'}, ['(N, 33, 384) for 33 joints', 'list in joints']),
], ids=lambda value: next(iter(value)) if isinstance(value, dict) and len(value) == 1 else '')
def test_a_file_that_is_not_as_described_is_refused_at_the_start(base: dict, changes: dict, parts: list[str],
                                                                 networks: Path, tmp_path: Path) -> None:
    message = refused(tmp_path, base, {'file': str(networks / base['file']), **changes},
                      lambda path: open_reader(path, CPU))
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize(('form', 'changes', 'parts'), [
    ('yolov8', {'outputs.transposed': False}, ["'out0' is (1, 6, 1521)", 'outputs.transposed: true']),
    ('yolov5', {'outputs.transposed': True}, ['(1, 1521, 7)', 'outputs.transposed: false']),
    ('yolov8', {'outputs.columns': 'score'}, ['with 5 columns', 'correct outputs.columns']),
    ('yolov8', {'person': 2}, ['person is 2', '2 classes (0 .. 1)']),
    ('yolov8', {'outputs.boxes': 'boxes'}, ["outputs.boxes is 'boxes'", 'has out0']),
    ('dets', {'outputs.columns': 'classes'}, []),
    ('dets', {'outputs.labels': None, 'person': 1}, ['person is 1', 'no output tells classes']),
    ('dets', {'outputs.boxes': 'out1', 'outputs.labels': None}, ["'out1' is (1, 20)"]),
    ('detr', {'outputs.scores': 'out0', 'outputs.boxes': 'out1'}, ["'out1'"]),
    ('yolov8', {'outputs.strides': [8, 16, 32]}, ['2100 boxes', 'correct outputs.strides']),
])
def test_boxes_that_are_not_as_described_are_refused_at_the_start(form: str, changes: dict, parts: list[str],
                                                                  networks: Path, tmp_path: Path) -> None:
    base = own_files.boxes(form)
    changes = {'file': str(networks / base['file']), **changes}
    if not parts:
        path = own_files.write(tmp_path, base, changes)
        assert open_finder(path, CPU).description.columns == changes['outputs.columns']
        return
    message = refused(tmp_path, base, changes, lambda path: open_finder(path, CPU))
    for part in parts:
        assert part in message, message


def test_files_that_are_no_description_or_no_network(tmp_path: Path, networks: Path) -> None:
    for text, part in (('a: [1', 'not valid YAML in line 1'), ('', 'is empty'), ('- 1\n', 'not a mapping')):
        path = tmp_path / 'bad.yaml'
        path.write_text(text)
        with pytest.raises(DescriptionError, match=part):
            load_description(path)
    with pytest.raises(DescriptionError, match='cannot be read'):
        load_description(tmp_path / 'none.yaml')
    with pytest.raises(DescriptionError, match='not a text file; give the YAML description'):
        load_description(networks / 'heat.onnx')
    (tmp_path / 'heat.onnx').write_text('nonsense')
    with pytest.raises(EngineError, match='heat.onnx'):
        open_reader(own_files.write(tmp_path, own_files.HEAT), CPU)


def test_the_hash_of_the_file_is_checked(networks: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256((networks / 'heat.onnx').read_bytes()).hexdigest()
    changes = {'file': str(networks / 'heat.onnx'), 'sha256': digest.upper()}
    assert load_description(own_files.write(tmp_path, own_files.HEAT, changes)).file == networks / 'heat.onnx'


def test_a_network_that_takes_one_at_a_time_behind_a_free_axis_is_told(networks: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(networks / 'single.onnx')
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = 'N'
    model.graph.node.append(onnx.helper.make_node('Reshape', [model.graph.output[0].name, 'one'], ['flat']))
    model.graph.initializer.append(onnx.helper.make_tensor('one', onnx.TensorProto.INT64, [4], [1, 17, 64, 48]))
    model.graph.output[0].name = 'flat'
    onnx.save(model, tmp_path / 'heat.onnx')
    path = own_files.write(tmp_path, own_files.HEAT)
    with pytest.raises(DescriptionError, match='write input.batch: 1'):
        open_reader(path, CPU)
    assert open_reader(own_files.write(tmp_path, own_files.HEAT, {'input.batch': 1}), CPU).skeleton is COCO17


def no_room(**_: str) -> str:
    raise OSError(28, 'No space left on device')


def test_a_network_of_any_size_is_made_one_of_its_size_once(networks: Path, tmp_path: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx

    model = onnx.load(networks / 'yolov8.onnx')
    for axis, letter in ((2, 'H'), (3, 'W')):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = letter
    onnx.save(model, tmp_path / 'yolov8.onnx')
    described = load_description(own_files.write(tmp_path, own_files.boxes('yolov8')))
    copy = sized(described, tmp_path / 'copies')
    assert copy.parent == tmp_path / 'copies' and sized(described, tmp_path / 'copies') == copy
    engine = open_engine(copy, CPU)
    assert engine.input_shapes == {'image': (None, 3, 320, 320)}
    engine.warm_up()
    assert sized(load_description(own_files.write(tmp_path, own_files.HEAT, {'file': str(networks / 'heat.onnx')}))
                 ) == networks / 'heat.onnx', 'a fixed one is left where it is'
    (tmp_path / 'taken').touch()
    monkeypatch.setenv('TMPDIR', str(tmp_path))
    monkeypatch.setattr(tempfile, 'tempdir', None)
    elsewhere = sized(described, tmp_path / 'taken')
    assert elsewhere.read_bytes() == copy.read_bytes() and elsewhere.parent.stat().st_mode & 0o77 == 0
    assert not list(tmp_path.rglob('*.part'))
    monkeypatch.setattr(tempfile, 'mkdtemp', no_room)
    with pytest.raises(DescriptionError, match='make room there, or export it with a fixed size'):
        sized(described, tmp_path / 'taken')
    with monkeypatch.context() as without:
        without.setitem(sys.modules, 'onnx', None)
        with pytest.raises(DescriptionError, match="run 'pip install onnx', or export it with a fixed size"):
            sized(described, tmp_path / 'others')


@pytest.mark.parametrize('sample', SAMPLES, ids=lambda path: path.stem)
def test_the_samples_are_descriptions(sample: Path, tmp_path: Path) -> None:
    text = sample.read_text()
    (tmp_path / yaml.safe_load(text)['file']).touch()
    copy = tmp_path / sample.name
    copy.write_text(text)
    described = load_description(copy)
    assert described.input.size[0] >= 192
    assert sample.stem in DOCUMENT, 'the documentation names it'


def test_the_documentation_has_the_table_of_keys() -> None:
    """Written by: python3 -c "from pose3d_ros.detect.description_keys import table; print(table())"."""
    assert table() in DOCUMENT


def test_the_examples_of_the_documentation_are_descriptions(tmp_path: Path) -> None:
    examples = re.findall(r'```yaml\n(.*?)```', DOCUMENT, re.DOTALL)
    assert len(examples) >= 4
    kinds = set()
    for number, text in enumerate(examples):
        (tmp_path / yaml.safe_load(text)['file']).touch()
        path = tmp_path / f'example{number}.yaml'
        path.write_text(text)
        kinds.add(type(load_description(path)))
    assert kinds == {JointsDescription, BoxesDescription}


def test_the_errors_of_the_documentation_are_those_that_are_raised(networks: Path, tmp_path: Path) -> None:
    heat, simcc, boxes = ({**base, 'file': str(networks / base['file'])}
                          for base in (own_files.HEAT, own_files.SIMCC, own_files.boxes('yolov8')))
    for base, changes, opens, name in (
            (simcc, {'input.chanels': 'RGB'}, open_reader, 'rtmpose'),
            (simcc, {'input.size': [256, 192]}, open_reader, 'rtmpose'),
            (simcc, {'head.split_ratio': 3}, open_reader, 'rtmpose'),
            (heat, {'joints': 'limbs12'}, open_reader, 'hrnet'),
            (heat, {'input.range': [0, 1]}, open_reader, 'hrnet'),
            (boxes, {'outputs.transposed': False}, open_finder, 'yolov8')):
        path = own_files.write(tmp_path, base, changes, name)
        with pytest.raises(DescriptionError) as caught:
            opens(path, CPU)
        assert str(caught.value).replace(f'{tmp_path}/', '') in DOCUMENT


OTHER = {  # of each key that may be left out, a value other than the default
    'sha256': hashlib.sha256(b'').hexdigest(), 'about': 'mine', 'input.name': 'x', 'input.layout': 'NHWC',
    'input.channels': 'BGR', 'input.type': 'float16', 'input.range': [0, 200], 'input.mean': [0.1, 0.2, 0.3],
    'input.std': [4, 5, 6], 'input.fill': 7, 'input.batch': 3, 'bones': [['nose', 'left_hip']], 'head.outputs': 'y',
    'head.attributes': 'a', 'head.values': 'logit', 'head.grid': 'corners', 'head.split_ratio': 3,
    'head.refine': 'none', 'crop.padding': 1.5, 'crop.turned': True, 'confidence.unseen': 0.1,
    'confidence.sure': 0.9, 'sigma.least': 3, 'sigma.gain': 1,
    'outputs.boxes': 'b', 'outputs.scores': 's', 'outputs.labels': 'l', 'outputs.columns': 'score',
    'outputs.transposed': False, 'outputs.strides': [8], 'outputs.format': 'xywh', 'outputs.unit': 'fraction',
    'outputs.values': 'logit', 'person': 4, 'threshold': 0.6, 'nms': 0.5, 'fit': 'stretch', 'smallest': 0.3}


@pytest.mark.parametrize('key', [key for key in KEYS if key.default is not REQUIRED], ids=lambda key: key.path)
def test_every_key_counts(key: Key, tmp_path: Path) -> None:
    for base in (own_files.HEAT, own_files.boxes('yolov8')):
        if base['kind'] not in key.kinds:
            continue
        (tmp_path / base['file']).touch()
        without = load_description(own_files.write(tmp_path, base))
        described = load_description(own_files.write(tmp_path, base, {key.path: OTHER[key.path]}))
        assert (described == without) == (key.path in ('sha256', 'about')), 'those two are checked, or for people'
