"""`pose3d run` with a lifter that gives bodies: what other programs get is where people are in the world.

People of known bodies move before a camera of known place; the pipeline is replaced by what the lifter would say.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import fakes
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from test_body_model import small_arrays
from test_cli import last_line
from test_mesh_files import Glb
from test_run_together import looking

from pose3d_ros.body_model import JOINTS, MANNEQUIN, BodyModel
from pose3d_ros.body_model_file import write_body_arrays
from pose3d_ros.calibration import CalibratedCamera, save_calibration
from pose3d_ros.camera import Camera
from pose3d_ros.cli import picture
from pose3d_ros.cli.bodies import Bodies
from pose3d_ros.cli.body_export import scene_of, stage_of
from pose3d_ros.cli.fused_picture import in_camera as turned_person
from pose3d_ros.cli.main import main
from pose3d_ros.cli.recording import FILES
from pose3d_ros.cli.video import VideoReader, VideoWriter
from pose3d_ros.draw_mesh import draw_bodies
from pose3d_ros.mesh_files import Y_UP_FROM_Z_UP
from pose3d_ros.pipeline import Pipeline, Result
from pose3d_ros.records import BodyPose, Frame, GroundPlane, Person3D
from pose3d_ros.skeleton import SMPL24
from pose3d_ros.train.readers.bvh import forward, parse_bvh

CAMERA = Camera(320, 240, 260.0, 260.0, 159.5, 119.5)
PLACE = looking((4.0, 0.5, 1.6))
FPS, FRAMES = 10.0, 24
MILLIMETRE = 1e-3
DOCUMENTED = (Path(__file__).parents[1] / 'docs' / 'bodies.md').read_text()
# Frames in which each person is seen. 2: a gap of 3 frames, then one of 0.8 s; 3: too short.
SEEN = {1: range(FRAMES), 2: [3, 4, 5, 9, 10, 18, 19, 20], 3: [13, 14]}


@pytest.fixture(scope='module')
def model() -> BodyModel:
    return BodyModel.load()


@pytest.fixture(scope='module')
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a body model of few triangles, which is soon drawn."""
    path = tmp_path_factory.mktemp('model') / 'small.npz'
    write_body_arrays(path, small_arrays(shapes=10))
    return path


@pytest.fixture(scope='module')
def small(small_file: Path) -> BodyModel:
    return BodyModel.load(small_file)


def named(path: Path) -> tuple[str, str]:
    """Return what a lifter says of the body model in a file."""
    return path.stem, hashlib.sha256(path.read_bytes()).hexdigest()


def in_world(id_: int, frame: int) -> BodyPose:
    """Return the body of a person in the world (z up): upright, turning and walking; one shape and scale for ever."""
    rng = np.random.default_rng(id_)
    swing = rng.normal(0, 0.25, (JOINTS, 3)) * np.sin(frame / 5)
    swing[0] = 0
    turns = Rotation.from_rotvec(swing).as_matrix()
    turns[0] = Rotation.from_euler('z', 0.03 * frame + id_).as_matrix() @ Y_UP_FROM_Z_UP.T @ turns[0]
    place = np.array([0.02 * frame - 0.5, 1.0 - id_ / 2, 0.95])
    return BodyPose(turns, rng.normal(0, 0.7, 10), 0.9 + 0.05 * id_, place)


def in_camera(body: BodyPose, pose: NDArray = PLACE) -> BodyPose:
    turns = body.rotations.copy()
    turns[0] = pose[:3, :3] @ turns[0]
    return replace(body, rotations=turns, root=pose[:3, :3] @ body.root + pose[:3, 3])


def person(id_: int, body: BodyPose | None, height: float = 1.75) -> Person3D:
    return replace(fakes.standing(id=id_), height=height, body=body)


class Seeing:
    """Stands in for a Pipeline whose lifter gives bodies."""

    def __init__(self) -> None:
        self.body_model: tuple[str, str] | None = named(MANNEQUIN)
        self.called = 0

    def reset(self) -> None:
        pass

    def __call__(self, frame: Frame) -> Result:
        self.called += 1
        number = round(frame.stamp_ns * 1e-9 * FPS)
        people = [person(id_, in_camera(in_world(id_, number)) if self.body_model else None)
                  for id_, seen in SEEN.items() if number in seen]
        return Result([], people, {'detect': 5.0})


Run = Callable[..., int]


@pytest.fixture
def seeing(monkeypatch: pytest.MonkeyPatch) -> Seeing:
    seeing = Seeing()
    monkeypatch.setattr(Pipeline, 'open', lambda **options: seeing)
    return seeing


@pytest.fixture
def run_small(run: Run, seeing: Seeing, small_file: Path) -> Run:
    """Return the same for a lifter whose bodies are in the small body model."""
    seeing.body_model = named(small_file)
    return lambda *words, **options: run('--body-model', str(small_file), *words, **options)


@pytest.fixture
def run(tmp_path: Path, seeing: Seeing) -> Run:
    """Return what runs the command on a video of the camera, with more words; results lie in tmp_path/out."""
    writer = VideoWriter(tmp_path / 'cam.mp4', FPS)
    for _ in range(FRAMES):
        writer.write(np.full((240, 320, 3), 90, dtype=np.uint8))
    writer.close()

    def run(*words: str, place: NDArray | None = PLACE) -> int:
        save_calibration(tmp_path / 'cam.yaml', {'cam': CalibratedCamera(CAMERA, place)})
        return main(['run', str(tmp_path / 'cam.mp4'), '--calibration', str(tmp_path / 'cam.yaml'),
                     '--out', str(tmp_path / 'out'), *words])

    return run


def exported(model: BodyModel, id_: int, frame: int) -> tuple[NDArray, NDArray]:
    """Return where the surface (V, 3) and joints (24, 3) of a person are in the exported axes: those of the world, its
    z for y."""
    vertices, joints = model.placed([in_world(id_, frame)])
    return vertices[0] @ Y_UP_FROM_Z_UP.T, joints[0] @ Y_UP_FROM_Z_UP.T


def test_a_glb_file_has_everybody_where_and_when_they_are_in_the_world(small: BodyModel, run_small: Run, tmp_path: Path,
                                                                      ) -> None:
    assert run_small('--mesh', 'glb') == 0
    out = tmp_path / 'out'
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, 'bodies.npz', 'bodies.glb'])
    glb = Glb((out / 'bodies.glb').read_bytes())
    assert [node['name'] for node in glb.root['nodes'] if 'mesh' in node] == ['person_1', 'person_2']
    for number, id_, there in ((0, 1, range(FRAMES)), (1, 2, [*range(3, 11), 18, 19, 20])):
        for frame in range(0, FRAMES, 2):
            _, joints = glb.body(number, frame / FPS)    # the surface: glTF knows no pose blend shapes
            _, at = exported(small, id_, frame)
            if frame in SEEN[id_]:
                np.testing.assert_allclose(joints, at, atol=MILLIMETRE)
            elif frame in there:
                np.testing.assert_allclose(joints, at, atol=0.08)                 # bridged, on straight ways
            else:
                assert np.ptp(joints, axis=0).max() < 1e-6
    about = json.loads((out / 'summary.json').read_text())['bodies']
    assert about['left_out'] == 1 and about['model'] == 'small' and about['files'] == ['bodies.npz', 'bodies.glb']
    assert about['origin'] == "the world's of the calibration file"
    assert about['people'] == [
        {'id': 1, 'appearances': [{'start_s': 0.0, 'end_s': 2.3, 'frames': 24}]},
        {'id': 2, 'appearances': [{'start_s': 0.3, 'end_s': 1.0, 'frames': 8},
                                  {'start_s': 1.8, 'end_s': 2.0, 'frames': 3}]}]


def test_bvh_and_obj_files_have_them_there_too(small: BodyModel, run_small: Run, tmp_path: Path) -> None:
    assert run_small('--bvh', '--mesh', 'obj') == 0
    out = tmp_path / 'out'
    for name, id_, first, count in (('person_1', 1, 0, 24), ('person_2', 2, 3, 8), ('person_2_part2', 2, 18, 3)):
        bvh = parse_bvh(out / f'{name}.bvh')
        assert bvh.frame_time == pytest.approx(1 / FPS)
        posed = np.stack(forward(bvh).positions, axis=1)
        assert len(posed) == count
        names = [node.name for node in bvh.nodes]
        for frame in {0, count // 2, count - 1} & {seen - first for seen in SEEN[id_]}:
            _, at = exported(small, id_, first + frame)
            own = np.stack([posed[frame, names.index(joint)] for joint in SMPL24.joints])
            np.testing.assert_allclose(own, at, atol=MILLIMETRE)
    assert len(list(out.glob('*.bvh'))) == 3
    files = sorted(path.name for path in (out / 'obj' / 'person_2').iterdir())
    assert files == [f'person_2_{frame:06d}.obj' for frame in [*range(3, 11), 18, 19, 20]]
    assert sorted(path.name for path in (out / 'obj').iterdir()) == ['person_1', 'person_2']
    for frame in (5, 10, 19):
        lines = (out / 'obj' / 'person_2' / f'person_2_{frame:06d}.obj').read_text().splitlines()
        read = np.array([line.split()[1:] for line in lines if line.startswith('v ')], dtype=float)
        np.testing.assert_allclose(read, exported(small, 2, frame)[0], atol=MILLIMETRE)


def test_the_table_holds_every_body_as_it_was_found(small: BodyModel, small_file: Path, run_small: Run, tmp_path: Path,
                                                    ) -> None:
    assert run_small() == 0
    out = tmp_path / 'out'
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, 'bodies.npz'])
    with np.load(out / 'bodies.npz', allow_pickle=False) as file:
        table = dict(file)
    assert (str(table['body_model']), str(table['body_model_sha256'])) == named(small_file)
    assert tuple(table['joint_names']) == SMPL24.joints
    assert all(f'`{name}`' in DOCUMENTED for name in table)
    rows = list(zip((table['stamp_s'] * FPS).round().astype(int).tolist(), table['id'].tolist()))
    assert rows == [(frame, id_) for frame in range(FRAMES) for id_ in SEEN if frame in SEEN[id_]]
    turn = table['export_T_camera']
    for row in (0, 9, 30):
        frame, id_ = rows[row]
        body = in_camera(in_world(id_, frame))
        turns = Rotation.from_quat(table['rotations'][row]).as_matrix()
        np.testing.assert_allclose(turns, body.rotations, atol=1e-6)
        np.testing.assert_allclose(table['shape'][row], body.shape)
        assert table['scale'][row] == body.scale and table['height'][row] == 1.75
        _, joints = small.placed([BodyPose(turns, table['shape'][row], table['scale'][row], table['root'][row])])
        np.testing.assert_allclose(joints[0] @ turn[:3, :3].T + turn[:3, 3], exported(small, id_, frame)[1],
                                   atol=MILLIMETRE)
    with (out / 'people.csv').open() as people:
        assert len(list(csv.reader(people))) == 1 + 17 * len(rows)


def test_what_an_earlier_run_left_is_removed_and_nothing_else(run: Run, run_small: Run, seeing: Seeing, tmp_path: Path,
                                                               ) -> None:
    assert run_small('--bvh', '--mesh', 'obj', '--mesh', 'glb') == 0
    own = [tmp_path / 'out' / 'mine.bvh', tmp_path / 'out' / 'obj' / 'person_1' / 'mine.obj']
    for path in own:
        path.write_text('')
    assert run_small() == 0
    left = [path for path in (tmp_path / 'out').rglob('*') if path.is_file()]
    assert sorted(left) == sorted([*(tmp_path / 'out' / name for name in (*FILES, 'bodies.npz')), *own])
    seeing.body_model = None
    assert run() == 0
    assert not (tmp_path / 'out' / 'bodies.npz').exists()


def test_bodies_are_seen_in_video_and_picture(model: BodyModel, run: Run, seeing: Seeing, tmp_path: Path) -> None:
    assert run() == 0
    images = [image for _, image in VideoReader(tmp_path / 'out' / 'annotated.mp4').numbered()]
    vertices = model.placed([in_camera(in_world(1, 10))])[0][0]
    pixels = CAMERA.project(vertices).round().astype(int)
    inside = pixels[((pixels > 2) & (pixels < (317, 237))).all(axis=1)]
    assert len(inside) > 1000 and np.median(images[10][inside[:, 1], inside[:, 0]]) > 110
    assert np.median(images[10]) == pytest.approx(90, abs=6)
    before = cv2.imread(str(tmp_path / 'out' / 'picture.png'))
    seeing.body_model = None
    assert run() == 0
    after = cv2.imread(str(tmp_path / 'out' / 'picture.png'))
    assert before.shape == after.shape and (abs(before.astype(int) - after) > 10).any(axis=-1).sum() > 500


@pytest.mark.parametrize('option', [('--bvh',), ('--mesh', 'glb'), ('--body-model', str(MANNEQUIN))])
def test_a_lifter_without_bodies_is_refused_before_anything_is_computed(
        option: tuple[str, ...], run: Run, seeing: Seeing, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seeing.body_model = None
    assert run(*option) == 1
    message = last_line(capsys)
    assert option[0] in message and '--lifter posenet3d' in message
    assert not seeing.called and not (tmp_path / 'out').exists()


def test_fused_people_have_no_bodies(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for option in (('--bvh',), ('--mesh', 'obj')):
        assert run('--together', *option) == 1
        message = last_line(capsys)
        assert option[0] in message and 'one camera' in message


def test_another_body_model_is_refused_or_done_without(
        run: Run, seeing: Seeing, small_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run('--bvh', '--body-model', str(small_file)) == 1
    assert 'small.npz' in (message := last_line(capsys)) and "'mannequin'" in message
    seeing.body_model = named(small_file)
    assert run('--mesh', 'glb') == 1
    assert "'small'" in (message := last_line(capsys)) and '--body-model' in message
    assert not seeing.called
    assert run() == 0
    assert "'small'" in capsys.readouterr().err and (tmp_path / 'out' / 'bodies.npz').exists()


def table_of(bodies: list[tuple[float, int, BodyPose, float]]) -> Bodies:
    collected = Bodies()
    for seconds, id_, body, height in bodies:
        collected.add(round(seconds * 1e9), [person(id_, body, height), person(9, None)])
    return collected


def test_few_frames_a_second_are_no_absence_and_two_that_lack_are(small: BodyModel) -> None:
    def times(fps: float, frames: list[int]) -> list[list[float]]:
        table = table_of([(number / fps, 1, in_camera(in_world(1, number)), 1.75) for number in frames]).table()
        scene = scene_of(table, small, stage_of(CalibratedCamera(CAMERA), None), fps)
        assert scene.left_out == 0
        return [[round(time * fps, 6) for time in piece.times] for _, actor in scene.actors for piece in actor.pieces]

    for fps in (0.5, 1.0, 2.0):
        assert times(fps, [0, 1, 2, 4, 5, 6]) == [[0, 1, 2, 3, 4, 5, 6]]
        assert times(fps, [0, 1, 2, 5, 6, 7]) == [[0, 1, 2], [5, 6, 7]]
    assert times(10.0, [0, 1, 2, 7, 8]) == [list(range(9))]


def test_who_is_turned_for_a_picture_leaves_the_body_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    given, drawn = person(1, in_camera(in_world(1, 0))), []
    assert turned_person(given, PLACE).body is None

    def draw_view(people: list[Person3D], view: str, size: tuple[int, int], bounds: object) -> NDArray[np.uint8]:
        drawn.extend(people)
        return np.zeros((size[1], size[0], 3), dtype=np.uint8)

    monkeypatch.setattr(picture, 'draw_view', draw_view)
    moment = picture.Moment(0, np.zeros((24, 32, 3), dtype=np.uint8), [given])
    for levelled, kept in ((PLACE[:3, :3], False), (None, True)):
        drawn.clear()
        picture.draw_picture([moment], levelled)
        assert drawn and all((one.body is not None) == kept for one in drawn)


def test_a_person_has_one_size_and_stays_where_the_image_shows_it(model: BodyModel) -> None:
    # The stature is learned on the way, and a person of 1.6 m is as far away as the image and the stature say.
    truth = replace(in_camera(in_world(1, 0)), scale=0.9)
    heights = [1.8, 1.8, 1.7, *[1.6] * 8]
    found = [truth.resized(height / 1.6, np.zeros(3)) for height in heights]
    found[4] = replace(found[4], shape=truth.shape + 1, scale=1.0)                 # one frame is mistaken
    stage = stage_of(CalibratedCamera(CAMERA), None)
    scene = scene_of(table_of([(number / FPS, 1, body, height) for number, (body, height) in enumerate(
        zip(found, heights))]).table(), model, stage, FPS)
    (id_, actor), = scene.actors
    piece, = actor.pieces
    np.testing.assert_allclose(piece.shape, truth.shape)
    wanted = model.placed([truth])[1][0] * (1, -1, -1)                             # y up, the camera at the origin
    joints = actor.model.joints(piece.rotations, piece.shape, piece.translation)
    assert len(joints) == len(heights) and id_ == 1
    np.testing.assert_allclose(joints, np.tile(wanted, (len(heights), 1, 1)), atol=MILLIMETRE)


@pytest.mark.parametrize(('place', 'ground', 'origin'), [
    (None, None, 'the camera'),
    (np.eye(4), None, 'the camera'),                    # the world is the camera's frame: nothing is known of up
    (PLACE, None, "the world's"),
    (PLACE, GroundPlane.under_camera(1.6, 0.4, 0.1), 'the floor'),
    (None, GroundPlane.under_camera(3.0, np.pi / 2), 'the floor'),
    (None, GroundPlane.under_camera(0.2, -np.pi / 2), 'the floor'),
])
def test_exported_axes_have_y_up_and_the_floor_at_zero(place: NDArray | None, ground: GroundPlane | None, origin: str,
                                                       ) -> None:
    stage = stage_of(CalibratedCamera(CAMERA, place), ground)
    turn, shift = stage.camera[:3, :3], stage.camera[:3, 3]
    assert stage.origin.startswith(origin)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)
    points = np.random.default_rng(0).normal(size=(10, 3))
    heights = (points @ turn.T + shift)[:, 1]
    if ground is not None:
        np.testing.assert_allclose(heights, ground.height_of(points), atol=1e-9)
        assert (shift[[0, 2]] == 0).all()
    elif origin == 'the camera':
        np.testing.assert_allclose(points @ turn.T + shift, points * (1, -1, -1), atol=1e-12)
    else:
        world = (points - PLACE[:3, 3]) @ PLACE[:3, :3]
        np.testing.assert_allclose(points @ turn.T + shift, np.stack([world[:, 0], world[:, 2], -world[:, 1]], -1),
                                   atol=1e-12)


def test_a_surface_is_drawn_half_transparent_where_it_is_and_hides_what_is_behind(model: BodyModel) -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 255, (240, 320, 3), dtype=np.uint8)
    rest, _ = model.rest()
    body = rest * (1, -1, -1) + (0, 0.2, 3.0)
    drawn = draw_bodies(image, CAMERA, body[None], model.faces)
    changed = (drawn != image).any(axis=-1)
    pixels = CAMERA.project(body)
    mask = np.zeros((240, 320), dtype=np.uint8)
    for corners in pixels[model.faces].round().astype(np.int32):
        cv2.fillConvexPoly(mask, corners, 1)
    assert changed.sum() > 4000 and not changed[cv2.dilate(mask, np.ones((3, 3))) == 0].any()
    shown = drawn[changed].astype(float)
    assert 0.3 < np.corrcoef(shown.ravel(), image[changed].ravel())[0, 1] < 0.99
    hidden = body + (0, 0, 3.0)                     # behind the first, and smaller in the image
    both = draw_bodies(image, CAMERA, np.stack([body, hidden]), model.faces)
    np.testing.assert_array_equal(both, draw_bodies(image, CAMERA, np.stack([hidden, body]), model.faces))
    chest = CAMERA.project(rest[None].mean(axis=1) * (1, -1, -1) + (0, 0.2, 3.0)).round().astype(int)[0]
    np.testing.assert_array_equal(both[chest[1], chest[0]], drawn[chest[1], chest[0]])
    for away in (body - (0, 0, 6.0), body + (50.0, 0, 0), body[:0].reshape(0, 3)):
        few = away[None] if len(away) else np.zeros((0, len(body), 3))
        np.testing.assert_array_equal(draw_bodies(image, CAMERA, few, model.faces), image)
    close = draw_bodies(image, CAMERA, (body - (0, 0, 2.95))[None], model.faces)    # around the camera
    assert close.shape == image.shape
