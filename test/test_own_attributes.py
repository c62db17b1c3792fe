"""One's own network that gives pose attributes beside joints: they reach the lifter, and keep to the body's sides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import blob_networks as blobs
import numpy as np
import onnx
import own_files
import pytest
from blob_networks import Person
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from synthetic import body, placed, seen

from pose3d_ros.attributes import from_people
from pose3d_ros.camera import Camera
from pose3d_ros.detect.description import DescriptionError
from pose3d_ros.detect.own import open_reader
from pose3d_ros.detect.people import to_people
from pose3d_ros.detect.top_down import TopDownReader
from pose3d_ros.lift.lifter import attributes_of
from pose3d_ros.runtime.engine import Wanted
from pose3d_ros.skeleton import BLAZEPOSE33

CPU = Wanted(runtime='cpu', threads=1)
TOLD = np.random.default_rng(3).dirichlet(np.ones(3), 9).astype(np.float32)
UPPER = [joint for joint in BLAZEPOSE33.joints if joint.endswith(('shoulder', 'elbow', 'wrist'))]
ARMS = [joint for joint in UPPER if not joint.endswith('shoulder')]
NOT_READ = {'head.attributes': ''}
Opener = Callable[..., TopDownReader]


@pytest.fixture(scope='module')
def heat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('network') / 'heat.onnx'
    blobs.export(blobs.Joints(own_files.JOINTS_SIZE, 'heatmap'), own_files.JOINTS_SIZE, path, ['heat'])
    return path


@pytest.fixture
def opened(heat: Path, tmp_path: Path) -> Opener:
    """Return what opens the network with a further output: the same values for everybody."""
    def open_it(values: NDArray = TOLD, **changes: object) -> TopDownReader:
        model = onnx.load(str(heat))
        for name, value in (('told', values[None]), ('first', np.array([0])), ('rest', np.array(values.shape))):
            model.graph.initializer.append(numpy_helper.from_array(value, name))
        model.graph.node.extend([
            helper.make_node('Shape', ['heat'], ['heat_shape']),
            helper.make_node('Gather', ['heat_shape', 'first'], ['people']),
            helper.make_node('Concat', ['people', 'rest'], ['whole'], axis=0),
            helper.make_node('Expand', ['told', 'whole'], ['attributes'])])
        model.graph.output.insert(0, helper.make_tensor_value_info('attributes', TensorProto.FLOAT,
                                                                   ['N', *values.shape]))
        onnx.save(model, str(tmp_path / 'both.onnx'))
        described = {'file': 'both.onnx', 'head.attributes': 'attributes', **changes}
        return open_reader(own_files.write(tmp_path, own_files.HEAT, described), CPU)
    return open_it


def people_of(reader: TopDownReader):
    """Return the people that the network reads in a painted image with two."""
    drawn = [Person(300.3, 250.7, 300.0), Person(110.0, 230.2, 180.0)]
    image = blobs.paint(drawn)
    wanted = np.array([[person.x, person.y, 1.25 * person.height, 0.0] for person in drawn])
    poses, = reader([(image, wanted)])
    reader.engine.close()
    return to_people(poses, reader.skeleton, Camera(image.shape[1], image.shape[0], 500.0, 500.0, 320.0, 240.0))


def test_attributes_are_read_beside_the_joints_and_are_what_the_lifter_is_told(opened: Opener) -> None:
    people = people_of(opened())
    assert len(people) == 2 and (from_people(people) == 0).all()    # no depth
    np.testing.assert_allclose(attributes_of(people), [TOLD, TOLD])
    np.testing.assert_allclose(people[0].pixels, people_of(opened(**{**NOT_READ, 'head.outputs': ['heat']}))[0].pixels)


@pytest.mark.parametrize('changes', [{'head.attributes': None}, NOT_READ])
def test_who_does_not_name_them_has_none(opened: Opener, changes: dict[str, object]) -> None:
    people = people_of(opened(**{**changes, 'head.outputs': ['heat']}))
    assert [person.attributes for person in people] == [None, None] and (attributes_of(people) == 0).all()


@pytest.mark.parametrize('bad', [np.nan, 7.0, -3.0])
def test_what_is_no_probability_counts_as_nothing(opened: Opener, bad: float) -> None:
    values = TOLD.copy()
    values[2, 1] = bad
    assert [person.attributes for person in people_of(opened(values))] == [None, None]


@pytest.mark.parametrize(('changes', 'told'), [
    ({'head.attributes': 'sides'}, "head.attributes names 'sides'"),
    ({'head.attributes': 'heat', 'head.outputs': ['heat']}, 'leave head.attributes out'),
    ({'head.type': 'simcc'}, r'two outputs, but the network has one \(heat\)')])
def test_an_output_that_is_not_there_or_holds_something_else_is_refused(opened: Opener, changes: dict[str, object],
                                                                        told: str) -> None:
    with pytest.raises(DescriptionError, match=told):
        opened(**changes)


def test_where_sides_are_put_right_nothing_is_known_of_front_and_back() -> None:
    person = replace(seen(placed(body(), 0.0, 4.0)), attributes=TOLD.astype(float))
    for joints in (None, np.isin(BLAZEPOSE33.joints, ARMS)):
        mirrored = person.mirrored(joints).attributes
        assert mirrored is not None and mirrored.shape == (9, 3) and not mirrored.any()
    assert seen(placed(body(), 0.0, 4.0)).mirrored().attributes is None
    with pytest.raises(ValueError, match='attributes'):
        replace(person, attributes=TOLD[:5])
