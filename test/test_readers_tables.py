"""Human3.6M and MPI-INF-3DHP as their users have them, and pickles that want more than data."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from scipy.spatial.transform import Rotation

from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.mocap import MocapError
from pose3d_ros.train.procedural import procedural_clips
from pose3d_ros.train.readers.files import read_clips
from pose3d_ros.train.readers.human36m import JOINTS
from pose3d_ros.train.readers.mpi_inf_3dhp import MAT_JOINTS, NAMES, NPZ_JOINTS
from pose3d_ros.train.readers.pickled import load_pickled


@pytest.fixture(scope='module')
def walk() -> np.ndarray:
    """Somebody who walks about (T, 17, 3) m, world z up, at 25 frames a second."""
    return procedural_clips(seed=1, clips=1, seconds=12.0, fps=25.0)[0].positions


def write_object(path: Path, name: str, value: object) -> Path:
    """Write what np.savez makes of a dict: a pickled object array of no dimensions."""
    np.savez(path, **{name: np.array(value, dtype=object)})  # type: ignore[arg-type]
    return path


def test_human36m_by_videopose3d_keeps_17_of_32_joints_and_the_usual_split(tmp_path: Path, walk: np.ndarray) -> None:
    all32 = np.full((len(walk), 32, 3), 99.0, dtype=np.float32)
    all32[:, JOINTS] = walk
    path = write_object(tmp_path / 'data_3d_h36m.npz', 'positions_3d', {
        'S1': {'Walking 1': all32, 'Sitting': all32[:50]}, 'S9': {'Walking': walk.astype(np.float32)}})
    clips = list(read_clips(path))
    assert [(clip.name, clip.subject, clip.split, clip.fps, len(clip)) for clip in clips] == [
        ('S1 Walking 1', 'S1', 'train', 50.0, 300), ('S1 Sitting', 'S1', 'train', 50.0, 50),
        ('S9 Walking', 'S9', 'test', 50.0, 300)]
    for clip in (clips[0], clips[2]):
        np.testing.assert_allclose(clip.positions, walk, atol=1e-6)


@pytest.mark.parametrize(('table', 'told'), [
    ({'S1': np.zeros((3, 32, 3))}, 'not a table'), ([1, 2], 'not a table'),
    ({'S1': {'Walking': np.zeros((3, 20, 3))}}, 'S1 Walking: 20 joints'),
    ({'S1': {'Walking': np.zeros((3, 96))}}, r'not positions \(frames, joints, 3\)'),
])
def test_another_table_under_that_name_is_refused(tmp_path: Path, table: object, told: str) -> None:
    path = tmp_path / 'data_3d_h36m.npz'
    box = np.empty((), dtype=object)
    box[()] = table
    np.savez(path, positions_3d=box)
    with pytest.raises(MocapError, match=rf'h36m\.npz.*{told}'):
        list(read_clips(path))


def to_camera(world: np.ndarray, pitch: float = 12.0) -> tuple[np.ndarray, np.ndarray]:
    """Return people in the optical frame of a tilted, rolled camera, and the pose (4, 4) from a world with y up, mm."""
    y_up = world @ np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]])
    turn = Rotation.from_euler('xyz', [180 + pitch, 25, 4], degrees=True)
    pose = np.eye(4)
    pose[:3, :3] = turn.as_matrix()
    pose[:3, 3] = 1000 * np.array([0.2, 1.5, 6.0])
    return 1000 * y_up @ pose[:3, :3].T + pose[:3, 3], pose


def placed(joints: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Return joints (T, len(names), 3) in the order of a data set; what HUMAN17 lacks is far off."""
    all_joints = np.full((len(joints), len(names), 3), 1e5)
    for index, name in enumerate(HUMAN17.joints):
        all_joints[:, names.index(NAMES.get(name, name))] = joints[:, index]
    return all_joints


def write_annot(folder: Path, world: np.ndarray, extrinsic: str | None = None) -> Path:
    camera, pose = to_camera(world)
    folder.mkdir(parents=True)
    cells = np.empty((2, 1), dtype=object)
    cells[0, 0] = placed(camera, MAT_JOINTS).reshape(len(world), -1)
    cells[1, 0] = cells[0, 0] + 77.0
    savemat(folder / 'annot.mat', {'annot3': cells, 'frames': np.arange(len(world))[:, None]})
    numbers = ' '.join(f'{value:.9g}' for value in pose.ravel()) if extrinsic is None else extrinsic
    (folder / 'camera.calibration').write_text(f'Skeletool Calibration File V1.0\nname 0\n  extrinsic {numbers}\n')
    return folder / 'annot.mat'


def test_3dhp_s_annotations_come_back_to_the_world_of_their_calibration(tmp_path: Path, walk: np.ndarray) -> None:
    [clip] = read_clips(write_annot(tmp_path / 'S3' / 'Seq2', walk))
    assert (clip.name, clip.subject, clip.split, clip.fps) == ('S3 Seq2', 'S3', '', 50.0)
    np.testing.assert_allclose(clip.positions, walk, atol=1e-4)


def test_3dhp_s_annotations_without_a_camera_say_what_is_missing(tmp_path: Path, walk: np.ndarray) -> None:
    path = write_annot(tmp_path / 'S1' / 'Seq1', walk[:5], extrinsic='1 0 0')
    with pytest.raises(MocapError, match=r'camera\.calibration:3: not the 16 numbers'):
        list(read_clips(path))
    path.with_name('camera.calibration').unlink()
    with pytest.raises(MocapError, match=r'camera\.calibration: .*belongs beside annot\.mat'):
        list(read_clips(path))
    path.write_bytes(b'MATLAB 5.0 or so')
    with pytest.raises(MocapError, match='annot.mat'):
        list(read_clips(path))


def test_converted_3dhp_is_turned_upright_by_the_floor_under_its_feet(tmp_path: Path, walk: np.ndarray) -> None:
    camera, _ = to_camera(walk)
    joints = placed(camera, NPZ_JOINTS)
    path = write_object(tmp_path / 'data_train_3dhp.npz', 'data', {
        'S1 Seq1': [{'0': {'data_3d': joints, 'data_2d': joints[..., :2]}, '1': {'data_3d': joints + 5.0}}]})
    [clip] = read_clips(path)
    assert (clip.name, clip.subject, clip.split, clip.fps) == ('S1 Seq1', 'S1', '', 25.0)
    np.testing.assert_allclose(clip.positions[..., 2], walk[..., 2], atol=0.03)   # upright, and on the floor
    bones = [np.linalg.norm(people[:, 1] - people[:, 2], axis=-1) for people in (clip.positions, walk)]
    np.testing.assert_allclose(bones[0], bones[1], atol=1e-6)
    right, left = (HUMAN17.index(f'{side}_hip') for side in ('right', 'left'))
    across = clip.positions[:, right] - clip.positions[:, left]
    ahead = np.gradient(clip.positions[:, 0], axis=0)
    assert np.median(np.cross(across, ahead)[:, 2]) > 0                           # not mirrored
    test = write_object(tmp_path / 'data_test_3dhp.npz', 'data', {'TS1': {'data_3d': joints[:, None], 'valid': [1]}})
    [clip] = read_clips(test)
    assert (clip.subject, clip.split) == ('TS1', 'test')
    with pytest.raises(MocapError, match='S1: no data_3d'):
        list(read_clips(write_object(tmp_path / 'c.npz', 'data', {'S1': [{'0': {'data_2d': joints}}]})))


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_pickled_containers_and_arrays_are_read_as_numpy_reads_them(tmp_path: Path, protocol: int) -> None:
    value = {'a': [np.arange(6, dtype='>i4').reshape(2, 3), np.asfortranarray(np.eye(3, 2))], 'b': (1, 'x', None, 2.5),
             'c': np.float64(0.25), 'd': {'e': np.array([], dtype=np.float32)}}
    with zipfile.ZipFile(tmp_path / 'a.npz', 'w') as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {'descr': '|O', 'fortran_order': False, 'shape': ()})
        box = np.empty((), dtype=object)
        box[()] = value
        archive.writestr('data.npy', header.getvalue() + pickle.dumps(box, protocol))
    read = load_pickled(tmp_path / 'a.npz', 'data')
    np.testing.assert_array_equal(read['a'][0], value['a'][0])
    np.testing.assert_array_equal(read['a'][1], np.eye(3, 2))
    assert read['b'] == [1, 'x', None, 2.5] and read['c'] == 0.25 and read['d']['e'].shape == (0,)


class Harmful:
    """Unpickled in the usual way, this makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


def test_a_file_that_would_run_something_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / 'mark'
    path = write_object(tmp_path / 'data_3d_h36m.npz', 'positions_3d', {'S1': {'Walking': Harmful(mark)}})
    with pytest.raises(MocapError, match=r'data_3d_h36m\.npz: refused.*mkdir'):
        list(read_clips(path))
    assert not mark.exists()
    with np.load(path, allow_pickle=True) as harmful:  # it is harmful
        harmful['positions_3d']
    assert mark.exists()


@pytest.mark.parametrize('code', [
    b'cbuiltins\neval\n(V1+1\ntR.', b'cnumpy\nload\n(Vx\ntR.', b'cnumpy.core.multiarray\nfromfile\n(Vx\ntR.',
    b'c_codecs\nencode\n(Vx\nVzip\ntR.', b'cnumpy\ndtype\n(VV8\ntR.',
    b'\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.',
    b'Pelsewhere\n.', b'cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR(I1\n(I9\ntNI00\nVabc\ntb.',
    b'garbage', b'',
])
def test_other_ways_to_ask_for_more_than_data_are_refused(tmp_path: Path, code: bytes) -> None:
    with zipfile.ZipFile(tmp_path / 'a.npz', 'w') as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {'descr': '|O', 'fortran_order': False, 'shape': ()})
        archive.writestr('data.npy', header.getvalue() + code)
    with pytest.raises(MocapError, match=r'a\.npz'):
        load_pickled(tmp_path / 'a.npz', 'data')


def test_other_files_say_what_they_are(tmp_path: Path) -> None:
    np.savez(tmp_path / 'plain.npz', positions_3d=np.zeros((3, 32, 3)))
    np.savez(tmp_path / 'other.npz', poses=np.zeros(3))
    np.savez(tmp_path / 'ready.npz', positions=np.zeros((1, 17, 3)))
    (tmp_path / 'text.npz').write_text('text')
    (tmp_path / 'film.mp4').write_text('film')
    for name, told in (('plain.npz', 'plain array'), ('other.npz', 'only poses'), ('ready.npz', 'pose3d train --data'),
                       ('text.npz', 'not a readable'), ('film.mp4', "'.mp4', expected"), ('gone.bvh', 'no such file')):
        with pytest.raises(MocapError, match=rf'{name}: .*{told}'):
            list(read_clips(tmp_path / name))
