"""Bodies of people: their messages, and the topics `bodies` and `mesh` of the nodes, over real DDS."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import drawn_people
import fakes
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

pytestmark = pytest.mark.ros
pytest.importorskip('rclpy')
pytest.importorskip('visualization_msgs')
pytest.importorskip('pose3d_ros.msg')

from bench import Bench, encode_image, wait_for  # noqa: E402
from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from echo_lifter import TURNS, write_echo  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from std_msgs.msg import Header  # noqa: E402
from test_multi_node import MultiBench  # noqa: E402
from visualization_msgs.msg import Marker, MarkerArray  # noqa: E402

from pose3d_ros.body_model import MANNEQUIN, BodyModel  # noqa: E402
from pose3d_ros.body_model_file import write_body_arrays  # noqa: E402
from pose3d_ros.decimate import decimate  # noqa: E402
from pose3d_ros.lift import Lifter  # noqa: E402
from pose3d_ros.msg import Bodies3D  # noqa: E402
from pose3d_ros.palette import FAINT, LEFT, RIGHT  # noqa: E402
from pose3d_ros.pipeline import Pipeline  # noqa: E402
from pose3d_ros.records import BodyPose, Person3D, PersonState  # noqa: E402
from pose3d_ros.refine import Refiner  # noqa: E402
from pose3d_ros.ros import bodies_output, convert  # noqa: E402
from pose3d_ros.ros.mesh_markers import MeshMarkers, Surface  # noqa: E402
from pose3d_ros.runtime.engine import Wanted  # noqa: E402
from pose3d_ros.skeleton import SMPL24  # noqa: E402
from pose3d_ros.track import Tracker  # noqa: E402

HEADER = Header(stamp=convert.to_stamp(5_000_000_000), frame_id='camera_optical_frame')
PERIOD_NS = 33_333_333


@pytest.fixture(scope='module')
def whole() -> BodyModel:
    return BodyModel.load()


@pytest.fixture(scope='module')
def surface(whole: BodyModel) -> Surface:
    return Surface(whole)


@pytest.fixture(scope='module')
def small_file(surface: Surface, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a body model so small that it is shown as it is."""
    path = tmp_path_factory.mktemp('model') / 'small.npz'
    write_body_arrays(path, surface.model.arrays)
    return path


def of(path: Path) -> tuple[str, str]:
    return path.stem, hashlib.sha256(path.read_bytes()).hexdigest()


def with_body(id: int = 1, z: float = 3.0, seed: int = 0, **changes: Any) -> Person3D:
    """Return a person whose body is bent at random, upright in the optical frame, z m away."""
    rng = np.random.default_rng(seed + id)
    rotations = Rotation.from_rotvec(rng.normal(0, 0.3, (24, 3))).as_matrix()
    rotations[0] = Rotation.from_euler('x', 180, degrees=True).as_matrix() @ rotations[0]
    body = BodyPose(rotations, rng.normal(0, 0.8, 10), 1.05, np.array([0.3 * id, 0.1, z]))
    return replace(fakes.standing(z=z, id=id), **{'body': body, **changes})


def body_of(person: Person3D) -> BodyPose:
    assert person.body is not None
    return person.body


def expected(model: BodyModel, body: BodyPose) -> NDArray:
    """Return the vertices (V, 3) m of a body, written out as Body3D.msg has them."""
    vertices, joints = model.pose(body.rotations[None], body.shape)
    return np.asarray(body.root + body.scale * (vertices[0] - joints[0, 0]))


def corners(marker: Marker) -> NDArray:
    return np.array([(p.x, p.y, p.z) for p in marker.points])


def by_id(array: MarkerArray) -> dict[int, Marker]:
    return {marker.id: marker for marker in array.markers}


def test_bodies_come_back_as_they_went() -> None:
    people = [with_body(id=7, state=PersonState.PREDICTED), fakes.standing(id=8), with_body(id=9)]
    message = convert.to_bodies(people, HEADER, ('mannequin', 'ab' * 32))
    assert (message.header, message.model, message.model_sha256) == (HEADER, 'mannequin', 'ab' * 32)
    assert tuple(message.joint_names) == SMPL24.joints
    assert [(body.id, body.state) for body in message.bodies] == [(7, PersonState.PREDICTED), (9, PersonState.TRACKED)]
    assert message.bodies[0].confidence == pytest.approx(0.95)
    found = convert.from_bodies(message)
    assert set(found) == {7, 9}
    for person in (people[0], people[2]):
        before, after = body_of(person), found[person.id]
        for name in ('rotations', 'shape', 'scale', 'root'):
            np.testing.assert_allclose(getattr(after, name), getattr(before, name), atol=1e-6)


def test_rotations_are_unit_quaternions_x_y_z_w_and_the_first_is_that_of_the_pelvis() -> None:
    body = body_of(with_body())
    quarter = replace(body, rotations=np.tile(Rotation.from_euler('z', 90, degrees=True).as_matrix(), (24, 1, 1)))
    for given in (body, quarter):
        sent, = convert.to_bodies([with_body(body=given)], HEADER, ('a', 'b')).bodies
        turns = np.array([(q.x, q.y, q.z, q.w) for q in sent.rotations])
        np.testing.assert_allclose(np.linalg.norm(turns, axis=1), 1)
        assert turns.shape == (24, 4) and (turns[:, 3] >= 0).all()
        assert sent.pelvis.orientation == sent.rotations[0]
        np.testing.assert_allclose((sent.pelvis.position.x, sent.pelvis.position.y, sent.pelvis.position.z), given.root)
    np.testing.assert_allclose(turns, np.tile((0, 0, 0.5 ** 0.5, 0.5 ** 0.5), (24, 1)), atol=1e-9)


def test_nobody_is_an_empty_list_with_the_names_and_other_joints_are_refused() -> None:
    message = convert.to_bodies([fakes.standing()], HEADER, ('mannequin', 'ab' * 32))
    assert len(message.bodies) == 0 and message.model == 'mannequin' and message.joint_names[0] == 'pelvis'
    message.joint_names[3] = 'tail'
    with pytest.raises(ValueError, match='smpl24'):
        convert.from_bodies(message)


def test_a_mesh_is_the_body_to_the_millimetre_in_the_colours_of_its_sides(whole: BodyModel, surface: Surface) -> None:
    people = [with_body(id=1), with_body(id=4, z=5.0)]
    markers = by_id(MeshMarkers(surface)(people, HEADER))
    assert set(markers) == {1, 4}
    for person in people:
        marker = markers[person.id]
        assert (marker.ns, marker.type, marker.action, marker.header) == (
            'mesh', Marker.TRIANGLE_LIST, Marker.ADD, HEADER)
        assert marker.scale.x == marker.scale.y == marker.scale.z == marker.pose.orientation.w == 1
        points = corners(marker)
        assert len(points) == len(marker.colors) == 3 * len(surface.model.faces) and 3000 <= len(points) <= 4500
        vertices = expected(whole, body_of(person))[surface.kept]
        np.testing.assert_allclose(points, vertices[surface.model.faces.ravel()], atol=1e-3)
        a, b, c = points.reshape(-1, 3, 3).transpose(1, 0, 2)
        assert 0.03 < (np.cross(a, b) * c).sum() / 6 < 0.15  # m^3: closed, and seen from outside
    colors = np.array([(color.r, color.g, color.b, color.a) for color in marker.colors])
    at_rest = surface.model.rest()[0][surface.model.faces.ravel()]
    for side, color in ((1, LEFT), (-1, RIGHT)):
        arm = side * at_rest[:, 0] > 0.3
        np.testing.assert_allclose(colors[arm], np.tile((*np.array(color) / 255, 1), (arm.sum(), 1)), atol=1e-6)


def test_a_predicted_body_is_faint_and_whoever_has_none_or_is_gone_is_removed_once(surface: Surface) -> None:
    markers = MeshMarkers(surface)
    shown = by_id(markers([with_body(id=1, state=PersonState.PREDICTED), with_body(id=2), with_body(id=3)], HEADER))
    assert [color.a for color in shown[1].colors] == pytest.approx([FAINT] * len(shown[1].points))
    assert {color.a for color in shown[2].colors} == {1.0}
    left = by_id(markers([fakes.standing(id=2), with_body(id=3)], HEADER))
    assert {id: marker.action for id, marker in left.items()} == {1: Marker.DELETE, 2: Marker.DELETE, 3: Marker.ADD}
    assert {id: marker.action for id, marker in by_id(markers.clear(HEADER)).items()} == {3: Marker.DELETE}
    assert markers.clear(HEADER).markers == []


@pytest.fixture
def bench(ros: None, small_file: Path) -> Iterator[Bench]:
    pipeline = fakes.FakePipeline(people=[with_body(id=1)], body_model=of(small_file))
    with Bench(pipeline, body_model=str(small_file)) as bench:
        yield bench


def begin(bench: Bench, *, mesh: bool = True) -> tuple[list[Bodies3D], list[MarkerArray]]:
    """Listen to the bodies of a node, and to its meshes if wanted, and start its camera."""
    bodies: list[Bodies3D] = []
    arrays: list[MarkerArray] = []
    bench.listen(Bodies3D, 'bodies', bodies.append)
    topics = ['bodies']
    if mesh:
        bench.listen(MarkerArray, 'mesh', arrays.append)
        topics.append('mesh')
    bench.ready().send_info()
    wait_for(lambda: all(bench.tester.count_publishers(f'{bench.namespace}/{topic}') == 1
                         and bench.node.count_subscribers(f'{bench.namespace}/{topic}') == 1 for topic in topics))
    time.sleep(0.1)
    return bodies, arrays


def test_bodies_come_with_every_people_also_when_nobody_is_there(bench: Bench, small_file: Path) -> None:
    bodies, arrays = begin(bench)
    message = bench.expect_people()
    wait_for(lambda: bodies and arrays)
    assert bodies[0].header == message.header and (bodies[0].model, bodies[0].model_sha256) == of(small_file)
    assert [body.id for body in bodies[0].bodies] == [person.id for person in message.people] == [1]
    sent, = convert.from_bodies(bodies[0]).values()
    np.testing.assert_allclose(sent.rotations, body_of(with_body()).rotations, atol=1e-6)
    model = BodyModel.load(small_file)
    np.testing.assert_allclose(corners(arrays[0].markers[0]), expected(model, sent)[model.faces.ravel()], atol=1e-3)
    bench.pipeline.people = []
    for count in (2, 3):
        message = bench.expect_people()
        wait_for(lambda count=count: len(bodies) == count)
        assert bodies[-1].header == message.header and len(bodies[-1].bodies) == 0
    values = {pair.key: pair.value for pair in bench.status('pipeline').values}
    assert values['body_model'] == 'small'


def test_meshes_keep_to_their_rate_by_the_stamps_and_go_with_the_person_and_the_node(bench: Bench) -> None:
    _, arrays = begin(bench)
    first = bench.stamp_ns
    rng = np.random.default_rng(3)
    for _ in range(31):  # a second of 30 Hz, with stamps that jitter
        bench.stamp_ns += PERIOD_NS - 33_000_000 + int(rng.integers(-2_000_000, 2_000_000))
        bench.expect_people()
    wait_for(lambda: len(arrays) >= 10)
    time.sleep(0.1)
    stamps = [convert.stamp_ns(array.markers[0].header.stamp) for array in arrays]
    assert 10 <= len(stamps) <= 11 and bench.stamp_ns - first > 0.9e9
    assert np.median(np.diff(stamps)) == pytest.approx(1e8, abs=1e7)
    bench.pipeline.people = [with_body(id=5)]
    bench.stamp_ns += 10 ** 9
    count = len(arrays)
    bench.expect_people()
    wait_for(lambda: len(arrays) > count)
    assert {id: marker.action for id, marker in by_id(arrays[-1]).items()} == {1: Marker.DELETE, 5: Marker.ADD}
    bench.stamp_ns -= 10 * 10 ** 9  # a bag that starts again is shown at once
    bench.expect_people()
    wait_for(lambda: len(arrays) > count + 1)
    bench.node.trigger_deactivate()
    wait_for(lambda: len(arrays) > count + 2)
    assert {id: marker.action for id, marker in by_id(arrays[-1]).items()} == {5: Marker.DELETE}


def test_no_mesh_is_worked_out_while_nobody_looks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def placed(*arguments: Any) -> None:
        asked.append(arguments)
        raise AssertionError('nobody looks')

    bodies, _ = begin(bench, mesh=False)
    monkeypatch.setattr(BodyModel, 'placed', placed)
    monkeypatch.setattr(BodyModel, 'pose', placed)
    for _ in range(3):
        bench.expect_people()
    wait_for(lambda: len(bodies) == 3)
    assert asked == [] and bench.drops == {}
    bench.node.trigger_deactivate()
    assert asked == []


def test_a_lifter_without_bodies_has_no_topics_of_them_and_reads_no_model(ros: None) -> None:
    with Bench(body_model='/nowhere/at_all.npz') as bench:
        bench.ready().send_info()
        bench.expect_people()
        wait_for(lambda: bench.tester.count_publishers(f'{bench.namespace}/markers'))
        assert not any(bench.tester.count_publishers(f'{bench.namespace}/{topic}') for topic in ('bodies', 'mesh'))
        told = {pair.key: pair.value for pair in bench.status('pipeline').values}
        assert told['body_model'] == 'not read: the lifter gives no bodies'


def test_without_meshes_the_file_of_the_model_is_not_needed(ros: None) -> None:
    pipeline = fakes.FakePipeline(people=[with_body()], body_model=('licensed', 'ab' * 32))
    with Bench(pipeline, mesh_rate=0.0) as bench:
        bodies, _ = begin(bench, mesh=False)
        bench.expect_people()
        wait_for(lambda: bodies)
        assert bodies[0].model == 'licensed'
        assert not bench.tester.count_publishers(f'{bench.namespace}/mesh')


def test_another_body_model_than_the_lifters_fails_configure_with_the_cure_and_can_be_put_right(
        ros: None, small_file: Path) -> None:
    pipeline = fakes.FakePipeline(people=[with_body()], body_model=of(small_file))
    with Bench(pipeline) as bench:  # the mannequin, which the lifter was not trained with
        wait_for(lambda: bench.node.health.facts.problem and bench.state == 'unconfigured')
        status = bench.status('pipeline')
        assert status.level == DiagnosticStatus.ERROR and pipeline.closed
        assert "'small'" in status.message and 'parameter body_model' in status.message
        for path, words in ((small_file.with_name('gone.npz'), 'gone.npz: cannot be read'), (MANNEQUIN, 'is not the')):
            assert bench.node.set_parameters([Parameter('body_model', value=str(path))])[0].successful
            bench.node.trigger_configure()
            assert bench.state == 'unconfigured' and words in bench.node.health.facts.problem
        assert bench.node.set_parameters([Parameter('body_model', value=str(small_file))])[0].successful
        bench.node.trigger_configure()
        assert bench.state == 'inactive'


def test_the_mannequin_is_taken_where_no_other_model_is_named(ros: None, monkeypatch: pytest.MonkeyPatch,
                                                              surface: Surface) -> None:
    taken = []
    monkeypatch.setattr(bodies_output, 'Surface', lambda model: taken.append(model) or surface)
    with Bench(fakes.FakePipeline(people=[with_body()], body_model=of(MANNEQUIN))) as bench:
        _, arrays = begin(bench)
        bench.expect_people()
        wait_for(lambda: arrays)
    assert [model.name for model in taken] == ['mannequin']


def test_cameras_of_one_node_have_bodies_each_under_its_name(ros: None, small_file: Path) -> None:
    with MultiBench(autostart=False, body_model=str(small_file)) as bench:
        bodies: dict[str, list[Bodies3D]] = {name: [] for name in bench.pipelines}
        arrays: dict[str, list[MarkerArray]] = {name: [] for name in bench.pipelines}
        for number, (name, pipeline) in enumerate(bench.pipelines.items()):
            pipeline.body_model, pipeline.people = of(small_file), [with_body(id=1 + number)]
            bench.listen(Bodies3D, f'{name}/bodies', bodies[name].append)
            bench.listen(MarkerArray, f'{name}/mesh', arrays[name].append)
        bench.node.trigger_configure()
        bench.node.trigger_activate()
        bench.ready()
        wait_for(lambda: all(bench.node.count_subscribers(f'{bench.namespace}/{name}/{topic}')
                             for name in bodies for topic in ('bodies', 'mesh')))
        time.sleep(0.2)
        bench.expect_people()
        wait_for(lambda: all(bodies.values()) and all(arrays.values()))
        for number, name in enumerate(bodies):
            assert [body.id for body in bodies[name][0].bodies] == list(by_id(arrays[name][0])) == [1 + number]


def test_a_body_model_of_few_triangles_is_shown_as_it_is(surface: Surface) -> None:
    same, kept = decimate(surface.model)
    assert len(kept) == len(surface.model) and len(same.faces) == len(surface.model.faces)


def test_from_a_lifters_file_to_the_topics_with_the_real_pipeline(ros: None, small_file: Path, tmp_path: Path) -> None:
    name, digest = of(small_file)
    echo = write_echo(tmp_path / 'echo.onnx', body_model=name, body_model_sha256=digest)

    def open_pipeline(**arguments: Any) -> Pipeline:
        lifter = Lifter.open(arguments['lifter'], Wanted('cpu', threads=1))
        return Pipeline(drawn_people.detector(), Tracker(), lifter, Refiner())

    frame = drawn_people.draw([drawn_people.Drawn(640, 360)])
    with Bench(camera=frame.camera, open_pipeline=open_pipeline, lifter=str(echo),
               body_model=str(small_file)) as bench:
        bodies, arrays = begin(bench)
        for _ in range(3):
            bench.send(encode_image(frame.image, bench.header()))
        wait_for(lambda: arrays and len(bodies) == len(bench.people) == 3)
        assert [[body.id for body in message.bodies] for message in bodies] == [
            [person.id for person in message.people] for message in bench.people]
        found, = convert.from_bodies(bodies[-1]).values()
        np.testing.assert_allclose(found.rotations, TURNS, atol=1e-5)
        marker, = next(array.markers for array in reversed(arrays) if array.markers)
        shown = next(message for message in bodies if message.header == marker.header)
        model = BodyModel.load(small_file)
        np.testing.assert_allclose(corners(marker), expected(model, convert.from_bodies(shown)[marker.id])[
            model.faces.ravel()], atol=1e-3)


def test_the_example_of_the_documentation_gives_the_vertices(whole: BodyModel) -> None:
    page = (Path(__file__).parents[1] / 'docs' / 'topics.md').read_text()
    people = [with_body(id=3), with_body(id=6)]
    names: dict[str, Any] = {'message': convert.to_bodies(people, HEADER, of(MANNEQUIN))}
    exec(page.split('```python')[1].split('```')[0], names)
    for vertices, person in zip(names['vertices'], people):
        np.testing.assert_allclose(vertices, expected(whole, body_of(person)), atol=1e-4)
    assert names['joints'].shape == (2, 24, 3) and names['triangles'] is names['model'].faces
