"""Recordings: 2D and nothing else, cut into windows, seen by virtual cameras, and placed by the people alone."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from laboratory_film import film, walk
from scipy.spatial.transform import Rotation

from pose3d_ros.train.error_fit import load_errors
from pose3d_ros.train.mocap import Mocap
from pose3d_ros.train.recording import (
    Recording,
    RecordingError,
    load_recording,
    load_truth,
    save_truth,
)
from pose3d_ros.train.views import (
    estimated_extrinsics,
    from_first,
    pose_errors,
    with_estimated_extrinsics,
    with_virtual_views,
)


@pytest.fixture(scope='module')
def mocap(tmp_path_factory: pytest.TempPathFactory) -> Mocap:
    return walk(Path(tmp_path_factory.mktemp('data')))


@pytest.fixture(scope='module')
def exact(mocap: Mocap) -> tuple[Recording, np.ndarray]:
    return film(mocap)


def test_a_recording_comes_back_from_its_file_and_the_file_has_no_3d(exact: tuple[Recording, np.ndarray],
                                                                     tmp_path: Path) -> None:
    recording, truth = exact
    recording.save(tmp_path / 'rec.npz')
    again = load_recording(tmp_path / 'rec.npz')
    for field in fields(Recording):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(recording, field.name))
    with np.load(tmp_path / 'rec.npz') as arrays:
        assert set(arrays) == {'kind', 'joint_names', *(field.name for field in fields(Recording))}
        assert not [name for name in arrays if arrays[name].size >= truth.size and arrays[name].shape[-1] == 3]


def test_truth_and_recording_are_not_taken_for_each_other(exact: tuple[Recording, np.ndarray], tmp_path: Path) -> None:
    recording, truth = exact
    recording.save(tmp_path / 'rec.npz')
    save_truth(tmp_path / 'truth.npz', truth)
    np.testing.assert_array_equal(load_truth(tmp_path / 'truth.npz'), truth)
    with pytest.raises(RecordingError, match='pose3d record'):
        load_recording(tmp_path / 'truth.npz')
    with pytest.raises(RecordingError, match='truth'):
        load_truth(tmp_path / 'rec.npz')


@pytest.mark.parametrize(('content', 'told'), [(None, 'No such file'), (b'not zipped', 'not a readable'),
                                               (b'PK\x03\x04 cut short', 'not a readable')])
def test_files_that_are_none_are_named(content: bytes | None, told: str, tmp_path: Path) -> None:
    path = tmp_path / 'bad.npz'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecordingError, match=told) as caught:
        load_recording(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(('changes', 'told'), [
    (lambda r: {'confidence': r.confidence[:, :2]}, 'confidence is'),
    (lambda r: {'rays': np.full_like(r.rays, np.nan)}, 'finite'),
    (lambda r: {'clip': np.arange(len(r)) % 2}, 'clip'),
    (lambda r: {name: getattr(r, name)[:, :1] for name in ('rays', 'confidence')}
     | {name: getattr(r, name)[:1] for name in ('focal', 'camera_T_world')}, 'two at least'),
    (lambda r: {name: getattr(r, name)[:0] for name in ('rays', 'confidence', 'clip')}, 'empty'),
])
def test_what_cannot_be_trained_on_is_refused(exact: tuple[Recording, np.ndarray], changes: object, told: str) -> None:
    with pytest.raises(RecordingError, match=told):
        replace(exact[0], **changes(exact[0]))  # type: ignore[operator]


def test_windows_stay_inside_clips(exact: tuple[Recording, np.ndarray]) -> None:
    recording, _ = exact
    marked = replace(recording, rays=np.broadcast_to(
        np.arange(len(recording), dtype=np.float32)[:, None, None, None], recording.rays.shape))
    moments = np.array([0, 10, 29, 30, 59])     # two clips of 30
    seen = marked.windows(moments, np.zeros(5, dtype=int), 5)[..., 0, 0]
    np.testing.assert_array_equal(seen, [[0, 0, 0, 1, 2], [8, 9, 10, 11, 12], [27, 28, 29, 29, 29],
                                         [30, 30, 30, 31, 32], [57, 58, 59, 59, 59]])
    np.testing.assert_array_equal(marked.windows(moments, np.zeros(5, dtype=int), 1)[:, 0, 0, 0], moments)


def test_virtual_views_of_exact_detections_are_projections_of_the_truth(exact: tuple[Recording, np.ndarray]) -> None:
    recording, truth = exact
    more = with_virtual_views(recording, 8, np.random.default_rng(0))
    assert more.rays.shape[1] == 12
    np.testing.assert_array_equal(more.rays[:, :4], recording.rays)
    for view in range(4, 12):
        pose = more.camera_T_world[view]
        local = truth @ pose[:3, :3].T + pose[:3, 3]
        np.testing.assert_allclose(more.rays[:, view], local[..., :2] / local[..., 2:], atol=2e-5)
        assert (local[..., 2] > 1).all()
    np.testing.assert_allclose(more.confidence[:, 4], recording.confidence.mean(axis=1))


def test_virtual_views_leave_out_what_no_two_cameras_saw(exact: tuple[Recording, np.ndarray]) -> None:
    recording, _ = exact
    confidence, rays = recording.confidence.copy(), recording.rays.copy()
    confidence[:, 1:, 5], rays[:, 1:, 5] = 0, 0
    more = with_virtual_views(replace(recording, confidence=confidence, rays=rays), 2, np.random.default_rng(0))
    assert (more.confidence[:, 4:, 5] == 0).all() and (more.confidence[:, 4:, 6] > 0).all()
    assert np.isfinite(more.rays).all()


def test_cameras_at_the_wrong_places_are_told(exact: tuple[Recording, np.ndarray]) -> None:
    nobody = replace(exact[0], confidence=np.zeros_like(exact[0].confidence))
    with pytest.raises(RecordingError, match='places of the cameras'):
        with_virtual_views(nobody, 2, np.random.default_rng(0))


@pytest.mark.parametrize(('errors', 'limit_deg'), [(None, 0.1), ('blazepose_full', 1.0)])
def test_people_tell_where_the_cameras_stand(mocap: Mocap, errors: str | None, limit_deg: float) -> None:
    recording, _ = film(mocap, load_errors(errors) if errors else None, takes=20)
    estimated = with_estimated_extrinsics(recording, np.random.default_rng(0)).camera_T_world
    turned, aside = pose_errors(estimated, from_first(recording))
    assert turned.max() < limit_deg and aside.max() < limit_deg
    np.testing.assert_allclose(np.linalg.norm(estimated[1:, :3, 3], axis=1),
                               np.linalg.norm(from_first(recording)[1:, :3, 3], axis=1))


def test_only_baselines_are_taken_from_what_is_given(exact: tuple[Recording, np.ndarray]) -> None:
    recording, _ = exact
    moved = np.eye(4)
    moved[:3, :3], moved[:3, 3] = Rotation.from_rotvec([0.4, 1.0, -2.0]).as_matrix(), [3, -1, 2]
    elsewhere = replace(recording, camera_T_world=recording.camera_T_world @ moved)
    results = [with_estimated_extrinsics(each, np.random.default_rng(0)).camera_T_world
               for each in (recording, elsewhere)]
    np.testing.assert_allclose(*results, atol=1e-9)


def test_errors_of_poses_are_angles() -> None:
    given = np.tile(np.eye(4), (2, 1, 1))
    given[1, :3, 3] = [2, 0, 0]
    other = given.copy()
    other[1, :3, :3] = Rotation.from_euler('y', 3, degrees=True).as_matrix()
    other[1, :3, 3] = [np.cos(np.radians(5)), np.sin(np.radians(5)), 0]
    np.testing.assert_allclose(np.concatenate(pose_errors(other, given)), [3, 5])


def test_cameras_that_share_too_little_are_named(exact: tuple[Recording, np.ndarray]) -> None:
    confidence = exact[0].confidence.copy()
    confidence[:, 2] = 0
    with pytest.raises(RecordingError, match='0 and 2'):
        estimated_extrinsics(replace(exact[0], confidence=confidence), np.ones(4), np.random.default_rng(0))
