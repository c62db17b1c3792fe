"""One's own network of joints, exported from torch, reads people to a fraction of a pixel and follows them."""

from __future__ import annotations

from pathlib import Path

import blob_networks as blobs
import numpy as np
import onnxruntime
import own_files
import pytest
from blob_networks import Person

from pose3d_ros.detect import regions
from pose3d_ros.detect.own import open_reader
from pose3d_ros.runtime.engine import Wanted
from pose3d_ros.skeleton import COCO17

CPU = Wanted(runtime='cpu', threads=1)
TALL, SMALL = Person(300.3, 250.7, 300.0), Person(110.0, 230.2, 180.0)


@pytest.fixture(scope='session')
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_files.export_all(tmp_path_factory.mktemp('own_networks'))


@pytest.fixture()
def heat(networks: Path, tmp_path: Path):
    reader = open_reader(own_files.write(tmp_path, own_files.HEAT, {'file': str(networks / 'heat.onnx')}), CPU)
    yield reader
    reader.engine.close()


def about(person: Person, margin: float = 1.25, angle: float = 0.0) -> list[float]:
    return [person.x, person.y, margin * person.height, angle]


def errors(poses, people: list[Person]) -> np.ndarray:
    return np.linalg.norm(poses.pixels - [person.joints for person in people], axis=-1)


@pytest.mark.parametrize('base', [own_files.HEAT, own_files.SIMCC], ids=['heatmap', 'simcc'])
def test_joints_are_read_to_half_a_pixel_in_all_views_in_one_call(base, networks: Path, tmp_path: Path) -> None:
    reader = open_reader(own_files.write(tmp_path, base, {'file': str(networks / base['file'])}), CPU)
    calls = []
    run = reader.engine.run
    reader.engine.run = lambda inputs: calls.append(1) or run(inputs)
    both, alone = blobs.paint([TALL, SMALL]), blobs.paint([Person(400, 300, 260)], 800, 600)
    first, second = reader([(both, np.array([about(TALL), about(SMALL)])),
                            (alone, np.array([about(Person(400, 300, 260))]))])
    assert len(calls) == 1
    assert errors(first, [TALL, SMALL]).max() < 0.5 and errors(second, [Person(400, 300, 260)]).max() < 0.5
    assert first.confidence.min() > 0.9 and first.person.min() > 0.9
    assert np.isnan(first.depth).all() and reader.skeleton is COCO17
    assert (first.sigma > errors(first, [TALL, SMALL])).all() and first.sigma.max() < 5
    np.testing.assert_allclose(first.middle, [[TALL.x, TALL.y], [SMALL.x, SMALL.y]], atol=0.5)


@pytest.mark.parametrize('changes', [
    {'file': 'single.onnx'},                                       # takes one crop at a time
    {'input.batch': 2},
    {'crop.padding': 1.5},
    {'crop.turned': True},
    {'input.range': [0, 1], 'input.mean': [m / 255 for m in blobs.MEAN], 'input.std': [s / 255 for s in blobs.STD]},
], ids=lambda changes: next(iter(changes)))
def test_the_ways_to_describe_it_agree(changes, heat, networks: Path, tmp_path: Path) -> None:
    changes = {'file': 'heat.onnx', **changes}
    path = own_files.write(tmp_path, own_files.HEAT, {**changes, 'file': str(networks / changes['file'])})
    image, wanted = blobs.paint([TALL, SMALL]), np.array([about(TALL), about(SMALL), about(TALL, 1.4)])
    poses, = open_reader(path, CPU)([(image, wanted)])
    expected, = heat([(image, wanted)])
    np.testing.assert_allclose(poses.pixels, expected.pixels, atol=0.5)
    np.testing.assert_allclose(poses.confidence, expected.confidence, atol=0.25)  # of smaller discs less is left


def test_a_turned_crop_follows_the_lean(networks: Path, tmp_path: Path) -> None:
    path = own_files.write(tmp_path, own_files.HEAT, {'file': str(networks / 'heat.onnx'), 'crop.turned': True})
    reader = open_reader(path, CPU)
    poses, = reader([(blobs.paint([TALL]), np.array([about(TALL, 1.4, angle=0.5)]))])
    assert errors(poses, [TALL]).max() < 0.6
    assert abs(poses.next_regions()[0, 3]) < 0.05  # upright is what the joints say


def test_nobody_and_strangers_are_not_people(heat) -> None:
    noise = np.random.default_rng(0).integers(0, 60, (480, 640, 3), dtype=np.uint8)
    poses, = heat([(noise, np.array([about(TALL), about(SMALL)]))])
    assert poses.person.max() < 0.05 and poses.confidence.max() < 0.05
    for values in (poses.pixels, poses.confidence, poses.sigma, poses.person, poses.middle, poses.rim):
        assert np.isfinite(values).all()
    np.testing.assert_allclose(poses.next_regions(), [about(TALL), about(SMALL)], atol=1e-6)  # stays where it was


def test_a_joint_that_is_not_seen_has_no_confidence_and_lies_in_the_body(heat) -> None:
    person = Person(300, 250, 300, without=('left_wrist', 'right_ankle'))
    poses, = heat([(blobs.paint([person]), np.array([about(person)]))])
    gone = COCO17.indices(['left_wrist', 'right_ankle'])
    assert (poses.confidence[0, gone] == 0).all()
    np.testing.assert_array_equal(poses.pixels[0, gone], np.tile(poses.middle[0], (2, 1)))
    assert (np.delete(poses.confidence[0], gone) > 0.9).all() and poses.person[0] > 0.9


@pytest.mark.parametrize(('dx', 'dy', 'growth'), [(12.0, 0.0, 1.0), (0.0, -9.0, 1.0), (4.0, 3.0, 1.03),
                                                  (-3.0, 0.0, 0.97)])
def test_somebody_is_followed_without_a_search(heat, dx: float, dy: float, growth: float) -> None:
    person, wanted = Person(320, 240, 200), np.array([about(Person(320, 240, 200))])
    for _ in range(8):
        person = Person(person.x + dx, person.y + dy, person.height * growth)
        poses, = heat([(blobs.paint([person]), wanted)])
        assert errors(poses, [person]).max() < 0.8
        wanted = poses.next_regions()
        side = wanted[0, 2] / person.height
        assert 1.0 < side < 1.7, 'the crop neither loses the person nor grows without end'


def test_half_a_body_is_followed_about_the_half_that_is_seen(heat) -> None:
    person = Person(320, 500, 380)  # the hips are below the image
    image = blobs.paint([person])
    wanted = np.array([[320.0, 390.0, 480.0, 0.0]])
    upper = [i for i, (_, y) in enumerate(person.joints) if y < 474]
    for _ in range(10):
        poses, = heat([(image, wanted)])
        assert np.linalg.norm(poses.pixels[0] - person.joints, axis=1)[upper].max() < 1.0
        assert poses.person[0] > 0.8
        wanted = poses.next_regions()
    assert wanted[0, 1] < 470 and wanted[0, 2] < 480  # about the part in view
    assert regions.plausible(wanted, 640, 480).all()


def test_arms_spread_wide_stay_in_the_crop(heat) -> None:
    """The crop is narrower than high: what is wide asks for a larger one."""
    person = Person(320, 240, 220)
    poses, = heat([(blobs.paint([person]), np.array([about(person)]))])
    wide = poses.pixels.copy()
    wrists = COCO17.indices(['left_wrist', 'right_wrist'])
    wide[0, wrists] = poses.middle[0] + [[105.0, -60.0], [-105.0, -60.0]]
    middle, rim = heat._circles(wide, poses.confidence, np.array([about(person)]))
    side = regions.from_circle(middle, rim, regions.FOLLOWED_MARGIN)[0, 2]
    half = side * 192 / 256 / 2
    assert half > 105 * 1.1
    assert side > 1.1 * poses.next_regions()[0, 2]


def test_a_lower_hill_is_less_sure_and_less_exact(networks: Path, tmp_path: Path) -> None:
    image, wanted = blobs.paint([TALL]), np.array([about(TALL)])

    def read(**changes):
        path = own_files.write(tmp_path, own_files.HEAT, {'file': str(networks / 'heat.onnx'), **changes})
        poses, = open_reader(path, CPU)([(image, wanted)])
        return poses

    sure, unsure = read(), read(**{'confidence.unseen': 0.9, 'confidence.sure': 1.0})
    assert (unsure.confidence < sure.confidence).all()
    below = unsure.confidence < 1.0
    assert (unsure.sigma[below] > sure.sigma[below]).all()
    scale = wanted[0, 2] / 256
    np.testing.assert_allclose(sure.sigma, 2.0 * scale, rtol=1e-6)  # 1/128 of the crop's height
    np.testing.assert_allclose(read(**{'sigma.least': 3.0}).sigma, 3.0 * scale, rtol=1e-6)
    assert (read(**{'sigma.gain': 2.0, 'confidence.sure': 1.0}).sigma > sure.sigma).any()


def test_a_network_of_bytes_with_channels_last_is_fed_as_it_asks(tmp_path: Path) -> None:
    """The input as it arrives: the network gives back what it gets, as maps."""
    import onnx
    from onnx import TensorProto, helper
    graph = helper.make_graph(
        [helper.make_node('Cast', ['image'], ['cast'], to=TensorProto.FLOAT),
         helper.make_node('Mul', ['cast', 'gain'], ['scaled']),
         helper.make_node('Tile', ['scaled', 'times'], ['heat'])], 'bytes',
        [helper.make_tensor_value_info('image', TensorProto.UINT8, ['N', 64, 48, 3])],
        [helper.make_tensor_value_info('heat', TensorProto.FLOAT, ['N', 64, 48, 12])],
        [helper.make_tensor('gain', TensorProto.FLOAT, [1], [1 / 255.0]),
         helper.make_tensor('times', TensorProto.INT64, [4], [1, 1, 1, 4])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    onnx.save(model, tmp_path / 'bytes.onnx')
    assert onnxruntime.InferenceSession(str(tmp_path / 'bytes.onnx'), providers=['CPUExecutionProvider'])
    path = own_files.write(tmp_path, own_files.HEAT, {
        'file': 'bytes.onnx', 'joints': 'limbs12', 'input': {'size': [48, 64], 'type': 'uint8', 'layout': 'NHWC',
                                                             'channels': 'BGR'}})
    reader = open_reader(path, CPU)
    image = np.zeros((64, 48, 3), np.uint8)
    for channel, (x, y) in enumerate(((10, 20), (30, 40), (20, 50))):
        spot = np.exp(-((np.arange(48) - x) ** 2 + (np.arange(64)[:, None] - y) ** 2) / 8.0)
        image[:, :, channel] = (255 * spot).round()
    poses, = reader([(image, np.array([[24.0, 32.0, 64.0, 0.0]]))])
    np.testing.assert_allclose(poses.pixels[0, :3], [[10, 20], [30, 40], [20, 50]], atol=0.05)
