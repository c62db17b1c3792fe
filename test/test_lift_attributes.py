"""Lifters that take pose attributes: what they are shown, which files are refused, and where the choice of one goes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from synthetic import CAMERA, body, placed, seen
from test_lift import KnownNetwork, random_people
from walkers import hide

from pose3d_ros.attributes import ATTRIBUTE_JOINTS, FRONT, from_people
from pose3d_ros.cli.main import main
from pose3d_ros.lift import (
    ATTRIBUTES,
    DEFAULT_LIFTER,
    ENGINE_INPUTS,
    LIFTERS,
    Lifter,
    LiftModelError,
    lifter_file,
    lifter_name,
)
from pose3d_ros.records import Person2D
from pose3d_ros.runtime.check import self_check
from pose3d_ros.runtime.check_inputs import inputs_for
from pose3d_ros.runtime.engine import Wanted
from pose3d_ros.runtime.onnx_engine import OnnxEngine
from pose3d_ros.skeleton import BLAZEPOSE33, HUMAN17

NEARER_M = 0.2    # by how much the made-up lifter takes a joint to be nearer that is surely in front


class TakesAttributes(KnownNetwork):
    """A known network with the further input."""

    inputs = (*ENGINE_INPUTS, ATTRIBUTES)

    def __init__(self, points: NDArray, **metadata: str) -> None:
        super().__init__(points, **{'attribute_joints': json.dumps(ATTRIBUTE_JOINTS), **metadata})


def with_attributes(path: Path) -> Path:
    """Write the lifter that ships with one change: a joint in front of the torso lies nearer to the camera."""
    model = onnx.load(str(lifter_file()))
    graph = model.graph
    for node in graph.node:
        node.output[:] = ['relative_before' if name == 'relative' else name for name in node.output]
        node.input[:] = ['relative_before' if name == 'relative' else name for name in node.input]
    nearer = np.zeros((len(ATTRIBUTE_JOINTS), 3, len(HUMAN17), 3), dtype=np.float32)
    for place, joint in enumerate(ATTRIBUTE_JOINTS):
        nearer[place, FRONT, HUMAN17.index(joint), 2] = -NEARER_M
    for name, value in (('nearer', nearer.reshape(27, 51)), ('flat', np.array([-1, 27])),
                        ('joints', np.array([-1, 17, 3]))):
        graph.initializer.append(numpy_helper.from_array(value, name))
    graph.input.append(helper.make_tensor_value_info(ATTRIBUTES, TensorProto.FLOAT, ['N', 9, 3]))
    graph.node.extend([helper.make_node('Reshape', [ATTRIBUTES, 'flat'], ['attributes_flat']),
                       helper.make_node('MatMul', ['attributes_flat', 'nearer'], ['shift_flat']),
                       helper.make_node('Reshape', ['shift_flat', 'joints'], ['shift']),
                       helper.make_node('Add', ['relative_before', 'shift'], ['relative'])])
    entry = model.metadata_props.add()
    entry.key, entry.value = 'attribute_joints', json.dumps(ATTRIBUTE_JOINTS)
    onnx.save(model, str(path))
    return path


@pytest.fixture(scope='module')
def own_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_attributes(tmp_path_factory.mktemp('lifters') / 'own.onnx')


def reaching(x: float = 0.0, depth: bool = True) -> Person2D:
    """Return a person who faces the camera and holds an arm out towards it, as a detector of depth sees it."""
    joints = body()
    names = ('left_elbow', 'left_wrist', 'left_pinky', 'left_index', 'left_thumb')
    for name, ahead in zip(names, (0.3, 0.55, 0.6, 0.6, 0.58)):
        joints[BLAZEPOSE33.index(name)] = (0.2, 1.38, ahead)
    points = placed(joints, x, 4.0)
    person = seen(points)
    relative = CAMERA.fx * (points[:, 2] - 4.0) / 4.0
    return replace(person, depth=relative if depth else np.full(len(relative), np.nan))


def shown(network: KnownNetwork) -> Mapping[str, NDArray]:
    return network.asked[-1]


def test_a_lifter_that_takes_attributes_is_told_what_the_detectors_depth_says_of_the_newest_people() -> None:
    network = TakesAttributes(random_people(3, 1))
    lifter = Lifter(network)
    unseen = hide(reaching(0.3), *[joint for joint in BLAZEPOSE33.joints if joint != 'nose'])
    people = [reaching(-0.5), unseen, reaching(0.5, depth=False)]
    assert len(lifter(people, CAMERA, 0)) == 2 and lifter.dropped == 1
    told = shown(network)[ATTRIBUTES]
    np.testing.assert_array_equal(told, from_people([people[0], people[2]]))
    assert told.dtype == np.float32 and told.shape == (2, 9, 3)
    wrist = ATTRIBUTE_JOINTS.index('left_wrist')
    assert told[0, wrist].argmax() == FRONT and (told[1] == 0).all()
    lifter([people[2]], CAMERA, 50_000_000)    # of the newest frame only: what was known before counts no more
    assert (shown(network)[ATTRIBUTES] == 0).all()


def test_any_other_lifter_is_shown_what_it_was_shown_before() -> None:
    network = KnownNetwork(random_people(1, 2))
    Lifter(network)([reaching()], CAMERA, 0)
    assert set(shown(network)) == set(ENGINE_INPUTS)


def test_attributes_of_keypoints_are_those_given_or_unknown() -> None:
    network = TakesAttributes(random_people(3, 3))
    lifter, person = Lifter(network), reaching()
    pixels = np.stack([person.pixels, np.full_like(person.pixels, np.nan), person.pixels])
    given = np.random.default_rng(0).dirichlet(np.ones(3), (3, 9))
    lifter.lift(pixels, np.ones((3, 33)), CAMERA, attributes=given)
    np.testing.assert_allclose(shown(network)[ATTRIBUTES], given[[0, 2]], rtol=1e-6)
    gone = given.copy()
    gone[2, 4, 1], given[2, 4] = np.nan, 0
    lifter.lift(pixels, np.ones((3, 33)), CAMERA, attributes=gone)
    np.testing.assert_allclose(shown(network)[ATTRIBUTES], given[[0, 2]], rtol=1e-6)
    assert np.isnan(gone[2, 4, 1])    # what is handed in stays as it is
    lifter.lift(pixels, np.ones((3, 33)), CAMERA)
    assert (shown(network)[ATTRIBUTES] == 0).all()
    with pytest.raises(ValueError, match=r'\(3, 9, 3\)'):
        lifter.lift(pixels, np.ones((3, 33)), CAMERA, attributes=given[:, :8])


def test_files_that_do_not_fit_are_refused_with_what_is_possible() -> None:
    points = random_people(1, 4)
    for joints in ('["left_knee"]', json.dumps(ATTRIBUTE_JOINTS[::-1])):
        with pytest.raises(LiftModelError, match='attributes of .*left_knee.*expected head.*choose window'):
            Lifter(TakesAttributes(points, attribute_joints=joints))
    network = TakesAttributes(points)
    del network.metadata['attribute_joints']
    with pytest.raises(LiftModelError, match='attribute_joints.*pose3d export'):
        Lifter(network)
    network = TakesAttributes(points)
    network.inputs = (*network.inputs, 'moon')
    with pytest.raises(LiftModelError, match="'moon'.*choose window"):
        Lifter(network)


def test_names_and_files_are_lifters_and_nothing_else_is(tmp_path: Path) -> None:
    assert lifter_file() == lifter_file(DEFAULT_LIFTER) == lifter_file(lifter_file()) and lifter_file().is_file()
    assert {lifter_file(name).name for name in LIFTERS} == set(LIFTERS.values())
    assert lifter_file('out/site.onnx') == Path('out/site.onnx') and lifter_name('out/site.onnx') == 'out/site.onnx'
    for wrong in ('', 'Parts', 'legs', 'lifter.pt'):
        with pytest.raises(LiftModelError, match=f'none of {", ".join(LIFTERS)}, nor an .onnx file'):
            Lifter.open(wrong)


def test_all_lifters_that_ship_are_there_and_can_be_opened() -> None:
    for name in LIFTERS:
        lifter = Lifter.open(name, Wanted('cpu', threads=1))
        (person,) = lifter([reaching()], CAMERA, 0)
        assert abs(person.joint('pelvis')[2] / 4.0 - 1) < 0.3, name
        assert np.isfinite(person.position).all() and (np.linalg.eigvalsh(person.covariance) > 0).all()
        lifter.close()


def test_attributes_change_the_joints_that_a_file_of_ones_own_makes_of_them(own_file: Path) -> None:
    lifter = Lifter.open(own_file, Wanted('cpu', threads=1))
    with_depth, without = (lifter([reaching(depth=depth)], CAMERA, number)[0].position
                           for number, depth in enumerate((True, False)))
    moved = with_depth - without
    expected = np.zeros((17, 3))
    in_front = from_people([reaching()])[0, :, FRONT]
    expected[HUMAN17.indices(ATTRIBUTE_JOINTS), 2] = -NEARER_M * in_front
    np.testing.assert_allclose(moved, expected, atol=1e-4)
    assert expected.min() < -0.4 * NEARER_M


def test_the_check_of_an_engine_shows_it_attributes_that_people_have(own_file: Path) -> None:
    engine = OnnxEngine(own_file)
    *_, batch = inputs_for(engine.metadata, engine.input_shapes, 8)
    told = batch[ATTRIBUTES]
    assert told.shape == (8, 9, 3) and told.dtype == np.float32 and (told >= 0).all()
    known = told.sum(axis=(1, 2)) > 0
    np.testing.assert_allclose(told[known].sum(axis=2), 1, atol=1e-6)
    assert known.any() and not known.all()    # a detector without depth is among them
    knee = ATTRIBUTE_JOINTS.index('left_knee')
    assert told[1, knee, FRONT] > 0.9 > 0.5 > told[0, knee, FRONT]    # who sits, and who stands
    verdict = self_check(engine, own_file, 8)
    assert verdict.passed, verdict.text
    engine.close()


def test_a_check_notices_an_engine_that_leaves_the_attributes_aside(own_file: Path) -> None:
    class Deaf(OnnxEngine):
        def run(self, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
            return super().run({**inputs, ATTRIBUTES: np.zeros_like(inputs[ATTRIBUTES])})

    engine = Deaf(own_file)
    assert not self_check(engine, own_file, 8).passed
    engine.close()


@pytest.mark.parametrize('command', [
    ['run', 'video.mp4', '--calibration', 'c.yaml'], ['demo'], ['bench'], ['build-engines'], ['evaluate', 'sample'],
    ['adapt', 'bag', '--out', 'o']], ids=lambda command: command[0])
def test_commands_that_lift_know_the_lifters_by_name(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for wrong, told in (('legs', f"'legs' is none of {', '.join(LIFTERS)}, nor an .onnx file"),
                        ('gone.onnx', 'gone.onnx: is not there')):
        with pytest.raises(SystemExit):
            main([*command, '--lifter', wrong])
        assert told in capsys.readouterr().err


def test_a_lifter_of_parts_cannot_be_adapted_which_is_said_before_anything_is_read(
        tmp_path: Path, own_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip('torch')
    for lifter in ('parts', str(own_file)):
        assert main(['adapt', str(tmp_path / 'bag'), '--out', str(tmp_path), '--lifter', lifter]) == 1
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert 'lifter of parts, which cannot learn from a site' in line and 'pose3d export lifter' in line
