"""Meshes and motion for other programs: read back, they are the body that was written."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from test_body_model import random_turns

from pose3d_ros.body_model import JOINTS, BodyModel
from pose3d_ros.mesh_files import Y_UP_FROM_Z_UP, BodyMotion, resampled, write_bvh, write_obj_sequence
from pose3d_ros.mesh_gltf import Actor, write_glb
from pose3d_ros.skeleton import SMPL24
from pose3d_ros.train.readers.bvh import forward, parse_bvh

KINDS = {5126: np.float32, 5121: np.uint8, 5125: np.uint32}
SIZES = {'SCALAR': 1, 'VEC3': 3, 'VEC4': 4, 'MAT4': 16}
MILLIMETRE = 1e-3


@pytest.fixture(scope='module')
def model() -> BodyModel:
    return BodyModel.load()


def motion_of(frames: int = 4, seed: int = 0, size: float = 0.6, name: str = 'body') -> BodyMotion:
    rng = np.random.default_rng(seed)
    return BodyMotion(random_turns(rng, frames, size), rng.normal(size=(frames, 3)), rng.normal(size=10),
                      5 + np.arange(frames) / 25, name)


class Glb:
    """A .glb file as another program would read it: by the specification, and with no help of the writer."""

    def __init__(self, data: bytes) -> None:
        magic, version, length = struct.unpack_from('<4sII', data)
        assert (magic, version, length) == (b'glTF', 2, len(data))
        size, kind = struct.unpack_from('<I4s', data, 12)
        assert kind == b'JSON' and size % 4 == 0
        self.root = json.loads(data[20:20 + size])
        binary, kind = struct.unpack_from('<I4s', data, 20 + size)
        assert kind == b'BIN\0' and binary % 4 == 0 and 28 + size + binary == len(data)
        self.binary = data[28 + size:]
        assert self.root['buffers'] == [{'byteLength': binary}]

    def numbers(self, index: int) -> NDArray:
        accessor = self.root['accessors'][index]
        view = self.root['bufferViews'][accessor['bufferView']]
        kind = np.dtype(KINDS[accessor['componentType']])
        count = accessor['count'] * SIZES[accessor['type']]
        assert view['byteOffset'] % 4 == 0 and count * kind.itemsize == view['byteLength']
        values = np.frombuffer(self.binary, kind, count, view['byteOffset']).reshape(accessor['count'], -1)
        if 'min' in accessor:
            np.testing.assert_allclose(values.min(axis=0), accessor['min'])
            np.testing.assert_allclose(values.max(axis=0), accessor['max'])
        return values

    def places(self, time: float) -> list[NDArray]:
        """Return the matrix (4, 4) of every node at a moment [s] of the animation."""
        nodes = [dict(node) for node in self.root['nodes']]
        animation, = self.root['animations']
        for channel in animation['channels']:
            sampler = animation['samplers'][channel['sampler']]
            times, values = self.numbers(sampler['input'])[:, 0], self.numbers(sampler['output'])
            assert len(times) == len(values) and (np.diff(times) > 0).all() and times[0] >= 0
            if sampler['interpolation'] == 'STEP':
                value = values[max(np.searchsorted(times, time + 1e-4) - 1, 0)]
            else:
                assert sampler['interpolation'] == 'LINEAR'
                value = np.array([np.interp(time, times, column) for column in values.T])
                if channel['target']['path'] == 'rotation':
                    value /= np.linalg.norm(value)      # between keys about what slerp gives, at keys the same
            nodes[channel['target']['node']][channel['target']['path']] = value
        matrices: list[NDArray] = [np.eye(4)] * len(nodes)
        waiting = [(node, np.eye(4)) for node in self.root['scenes'][self.root['scene']]['nodes']]
        while waiting:
            index, above = waiting.pop()
            own = np.eye(4)
            own[:3, :3] = Rotation.from_quat(nodes[index].get('rotation', [0, 0, 0, 1])).as_matrix()
            own[:3, :3] *= nodes[index].get('scale', [1, 1, 1])
            own[:3, 3] = nodes[index].get('translation', [0, 0, 0])
            matrices[index] = above @ own
            waiting += [(child, matrices[index]) for child in nodes[index].get('children', [])]
        return matrices

    def body(self, number: int, time: float) -> tuple[NDArray, NDArray]:
        """Return vertices (V, 3) and joints (24, 3) of a person at a moment [s], skinned as the specification says."""
        node = [node for node in self.root['nodes'] if 'mesh' in node][number]
        skin, primitive = self.root['skins'][node['skin']], self.root['meshes'][node['mesh']]['primitives'][0]
        attribute = {name: self.numbers(index) for name, index in primitive['attributes'].items()}
        matrices = self.places(time)
        bind = self.numbers(skin['inverseBindMatrices']).reshape(-1, 4, 4).transpose(0, 2, 1)
        transforms = np.array([matrices[joint] @ own for joint, own in zip(skin['joints'], bind)])
        blended = np.einsum('vk,vkij->vij', attribute['WEIGHTS_0'], transforms[attribute['JOINTS_0']])
        vertices = np.einsum('vij,vj->vi', blended[:, :3, :3], attribute['POSITION']) + blended[:, :3, 3]
        return vertices, np.array([matrices[joint][:3, 3] for joint in skin['joints']])


def test_a_glb_file_holds_joints_and_skin_of_everybody(model: BodyModel, tmp_path: Path) -> None:
    plain = BodyModel(replace(model.arrays, posedirs=np.zeros_like(model.arrays.posedirs)))  # as glTF's skins are
    motions = [motion_of(name='ann'), motion_of(seed=1, name='bob')]
    small = plain.scaled(0.5)
    write_glb(tmp_path / 'a' / 'people.glb', [Actor(model, [motions[0]]), Actor(model.scaled(0.5), [motions[1]])])
    glb = Glb((tmp_path / 'a' / 'people.glb').read_bytes())
    assert [node['name'] for node in glb.root['nodes'] if 'mesh' in node] == ['ann', 'bob']
    for number, (motion, own) in enumerate(zip(motions, (plain, small))):
        wanted, at = own.pose(motion.rotations, motion.shape, motion.translation)
        for frame in range(4):
            vertices, joints = glb.body(number, frame / 25)
            np.testing.assert_allclose(joints, at[frame], atol=MILLIMETRE)
            np.testing.assert_allclose(vertices, wanted[frame], atol=MILLIMETRE)
    assert [path.name for path in (tmp_path / 'a').iterdir()] == ['people.glb']


def test_a_glb_file_is_as_the_specification_asks(model: BodyModel, tmp_path: Path) -> None:
    motion = motion_of()
    write_glb(tmp_path / 'one.glb', [Actor(model, [motion])])
    glb = Glb((tmp_path / 'one.glb').read_bytes())
    assert glb.root['asset']['version'] == '2.0'
    primitive = glb.root['meshes'][0]['primitives'][0]
    normals, weights, joints = (glb.numbers(primitive['attributes'][name])
                                for name in ('NORMAL', 'WEIGHTS_0', 'JOINTS_0'))
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    assert joints.max() < JOINTS and (joints[weights == 0] == 0).all()
    np.testing.assert_array_equal(glb.numbers(primitive['indices']).reshape(-1, 3), model.faces)
    position = glb.root['accessors'][primitive['attributes']['POSITION']]
    assert len(position['min']) == len(position['max']) == 3
    times = {sampler['input'] for sampler in glb.root['animations'][0]['samplers']}
    assert len(times) == 1
    np.testing.assert_allclose(glb.numbers(times.pop())[:, 0], np.arange(4) / 25, atol=1e-6)
    names = [glb.root['nodes'][joint]['name'] for joint in glb.root['skins'][0]['joints']]
    assert names == [f'body.{joint}' for joint in SMPL24.joints]
    with pytest.raises(ValueError, match='nobody'):
        write_glb(tmp_path / 'none.glb', [])


def test_people_of_a_glb_file_are_hidden_while_they_are_away(model: BodyModel, tmp_path: Path) -> None:
    whole = motion_of(20, name='ann')                                      # from 5 s on, 25 Hz
    comes, again = (replace(whole, rotations=whole.rotations[part], translation=whole.translation[part],
                            times=whole.times[part], name='bob') for part in (slice(3, 6), slice(10, 15)))
    write_glb(tmp_path / 'both.glb', [Actor(model, [whole]), Actor(model, [comes, again])], start=4.0)
    glb = Glb((tmp_path / 'both.glb').read_bytes())
    wanted = model.joints(whole.rotations, whole.shape, whole.translation)
    for frame in range(20):
        _, ann = glb.body(0, 1 + frame / 25)
        np.testing.assert_allclose(ann, wanted[frame], atol=MILLIMETRE)
        surface, bob = glb.body(1, 1 + frame / 25)
        if frame in (3, 4, 5, 10, 11, 12, 13, 14):
            np.testing.assert_allclose(bob, wanted[frame], atol=MILLIMETRE)
        else:
            assert np.ptp(bob, axis=0).max() < 1e-6 and np.ptp(surface, axis=0).max() < 1e-6
    # The last pose is held while it is shown, and does not set out for the next appearance.
    np.testing.assert_allclose(glb.body(1, 1 + 5.9 / 25)[1], wanted[5], atol=MILLIMETRE)
    assert np.ptp(glb.body(0, 0.5)[0], axis=0).max() < 1e-6
    with pytest.raises(ValueError, match='before the start'):
        write_glb(tmp_path / 'none.glb', [Actor(model, [whole])], start=6.0)
    for pieces, wrong in (([], 'without motion'), ([again, comes], 'overlap'), ([comes, whole], 'names or shapes')):
        with pytest.raises(ValueError, match=wrong):
            Actor(model, pieces)


@pytest.mark.parametrize('size', [0.5, 3.0])
def test_bvh_gives_the_joints_back(model: BodyModel, tmp_path: Path, size: float) -> None:
    motion = motion_of(6, size=size)
    motion.rotations[0, 5] = Rotation.from_euler('x', 90, degrees=True).as_matrix()  # where angles are not unique
    motion.rotations[1, 5] = Rotation.from_euler('ZXY', [30, -90, 40], degrees=True).as_matrix()
    write_bvh(tmp_path / 'body.bvh', model, motion)
    bvh = parse_bvh(tmp_path / 'body.bvh')
    assert bvh.frame_time == pytest.approx(1 / 25)
    posed = dict(zip((node.name for node in bvh.nodes), forward(bvh).positions))
    wanted = model.joints(motion.rotations, motion.shape, motion.translation)
    for index, joint in enumerate(SMPL24.joints):
        np.testing.assert_allclose(posed[joint], wanted[:, index], atol=MILLIMETRE, err_msg=joint)
    assert {'head/end', 'left_hand/end', 'right_foot/end'} <= set(posed)
    top = np.linalg.norm(posed['head/end'] - posed['head'], axis=1)
    np.testing.assert_allclose(top, top[0], atol=1e-4)
    assert 0.1 < top[0] < 0.3


def test_obj_files_hold_the_mesh_of_every_frame(model: BodyModel, tmp_path: Path) -> None:
    motion = motion_of(2, name='ann')
    paths = write_obj_sequence(tmp_path / 'meshes', model, motion, first=12)
    assert [path.name for path in paths] == ['ann_000012.obj', 'ann_000013.obj']
    wanted, _ = model.pose(motion.rotations, motion.shape, motion.translation)
    for path, vertices in zip(paths, wanted):
        lines = [line.split() for line in path.read_text().splitlines()]
        read = np.array([line[1:] for line in lines if line[0] == 'v'], dtype=float)
        np.testing.assert_allclose(read, vertices, atol=2e-5)
        faces = np.array([line[1:] for line in lines if line[0] == 'f'], dtype=int)
        np.testing.assert_array_equal(faces - 1, model.faces)


def test_turning_the_axes_turns_everything(model: BodyModel) -> None:
    motion = motion_of(3)
    turned = motion.turned(model, Y_UP_FROM_Z_UP)
    before = model.pose(motion.rotations, motion.shape, motion.translation)
    after = model.pose(turned.rotations, turned.shape, turned.translation)
    for old, new in zip(before, after):
        np.testing.assert_allclose(new, old @ Y_UP_FROM_Z_UP.T, atol=1e-5)
    np.testing.assert_array_equal(Y_UP_FROM_Z_UP @ [0, 0, 1], [0, 1, 0])
    assert np.linalg.det(Y_UP_FROM_Z_UP) == pytest.approx(1)


def test_bvh_needs_equal_steps_and_resampling_gives_them(model: BodyModel, tmp_path: Path) -> None:
    turn = Rotation.from_rotvec(np.array([[0, 0, 0], [0, 0.4, 0], [0, 0.6, 0]])).as_matrix()
    motion = BodyMotion(np.repeat(turn[:, None], JOINTS, axis=1), np.array([[0, 0, 0], [4.0, 0, 0], [6, 0, 0]]),
                        np.zeros(2), np.array([0, 0.4, 0.6]))
    with pytest.raises(ValueError, match='resample'):
        write_bvh(tmp_path / 'a.bvh', model, motion)
    assert not list(tmp_path.iterdir())
    even = resampled(motion, 10)
    np.testing.assert_allclose(even.times, np.arange(7) / 10)
    np.testing.assert_allclose(even.translation[:, 0], np.arange(7), atol=1e-9)
    vectors = Rotation.from_matrix(even.rotations[:, 3]).as_rotvec()
    np.testing.assert_allclose(vectors[:, 1], np.arange(7) / 10, atol=1e-9)
    write_bvh(tmp_path / 'a.bvh', model, even)
    alone = replace(even, rotations=even.rotations[:1], translation=even.translation[:1], times=even.times[:1])
    np.testing.assert_allclose(resampled(alone, 10).rotations, alone.rotations, atol=1e-12)


@pytest.mark.parametrize(('change', 'message'), [
    ({'times': np.array([0, 1.0, 1.0, 2.0])}, 'do not rise'),
    ({'translation': np.zeros((3, 3))}, 'translation is'),
    ({'translation': np.full((4, 3), np.nan)}, 'not finite'),
    ({'rotations': np.zeros((4, 24, 4))}, 'rotations is'),
    ({'shape': np.zeros((4, 10))}, 'one body for all frames'),
])
def test_motions_that_cannot_be_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(motion_of(), **change)


def test_a_file_that_cannot_be_finished_leaves_the_old_one(model: BodyModel, tmp_path: Path) -> None:
    path = tmp_path / 'a.bvh'
    path.write_text('before')
    with pytest.raises(ValueError, match='resample'):
        write_bvh(path, model, replace(motion_of(), times=np.array([0, 1.0, 1.1, 5.0])))
    assert path.read_text() == 'before' and len(list(tmp_path.iterdir())) == 1
