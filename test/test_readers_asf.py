"""Acclaim files: joint positions that can be worked out by hand, whatever the frames and units of the skeleton."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from motion_files import CMU_BONES, cmu_standing, write_amc, write_asf
from scipy.spatial.transform import Rotation

from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.mocap import MocapError
from pose3d_ros.train.readers.asf_amc import read_asf_amc

MILLIMETRE = 1e-3


def joint(positions: np.ndarray, name: str) -> np.ndarray:
    return positions[:, HUMAN17.index(name)]


def read(folder: Path, frames: list, **skeleton: object) -> np.ndarray:
    both = {key: skeleton[key] for key in ('length', 'radians', 'dof') if key in skeleton}
    asf = write_asf(folder / '07.asf', **skeleton)  # type: ignore[arg-type]
    return read_asf_amc(asf, write_amc(folder / '07_01.amc', frames, **both)).positions  # type: ignore[arg-type]


@pytest.mark.parametrize('length', [0.45, 1.0])
def test_the_rest_pose_stands_with_z_up_facing_y_in_metres(tmp_path: Path, length: float) -> None:
    clip = read_asf_amc(write_asf(tmp_path / '07.asf', length=length),
                        write_amc(tmp_path / '07_01.amc', [{}, {}], length=length))
    assert (clip.name, clip.subject, clip.fps, len(clip)) == ('07_01', '07', 120.0, 2)
    np.testing.assert_allclose(clip.positions[1], cmu_standing(), atol=1e-9)


def test_bent_joints_are_where_one_works_them_out_to_be(tmp_path: Path) -> None:
    """The knee bends back by 90 degrees, an elbow swings forwards about y; the root turns a quarter to its left."""
    bent = read(tmp_path, [{'ltibia': [90.0], 'rhumerus': [0.0, 90.0, 0.0]}])
    np.testing.assert_allclose(joint(bent, 'left_knee')[0], [-0.06, 0, 0.4], atol=MILLIMETRE)
    np.testing.assert_allclose(joint(bent, 'left_ankle')[0], [-0.06, -0.4, 0.4], atol=MILLIMETRE)
    np.testing.assert_allclose(joint(bent, 'right_wrist')[0], [0.16, 0.54, 1.18], atol=MILLIMETRE)
    turned = read(tmp_path, [{'root': [0.3, 0.88, 0.5, 0, 90, 0]}])
    # Turned about y (up) by 90 degrees, the left hand (+x of the file) points to -z, which is behind: -y of the world.
    np.testing.assert_allclose(joint(turned, 'left_wrist')[0], [-0.3, 0.5 - 0.70, 1.18], atol=MILLIMETRE)


def test_the_base_of_the_neck_moves_with_the_thorax_and_not_with_the_neck(tmp_path: Path) -> None:
    positions = read(tmp_path, [{'lowerneck': [40.0, 0, 0]}])
    np.testing.assert_allclose(joint(positions, 'thorax'), joint(cmu_standing()[None], 'thorax'), atol=1e-9)
    assert joint(positions, 'head')[0, 1] > 0.1  # nodded forwards


@pytest.mark.parametrize('seed', range(4))
def test_any_frame_of_a_bone_in_any_order_gives_what_plain_matrices_give(tmp_path: Path, seed: int) -> None:
    """C M inv(C) down the tree, against 3 x 3 matrices multiplied out here."""
    rng = np.random.default_rng(seed)
    axes = {name: (rng.uniform(-90, 90, 3).round(4).tolist(), ''.join(rng.permutation(list('XYZ'))))
            for name in CMU_BONES}
    dof = {name: ' '.join(rng.permutation(bone[3].split())) for name, bone in CMU_BONES.items() if bone[3]}
    frame = {name: rng.uniform(-60, 60, len(dof[name].split())).round(4).tolist() for name in dof}
    frame['root'] = [0.1, 0.9, -0.2, *rng.uniform(-90, 90, 3).round(4)]
    positions = read(tmp_path, [frame], axes=axes, dof=dof)

    def about(letter: str, angle: float) -> np.ndarray:
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        i = 'xyz'.index(letter.lower())
        matrix = np.eye(3)
        j, k = (i + 1) % 3, (i + 2) % 3
        matrix[j, j], matrix[j, k], matrix[k, j], matrix[k, k] = c, -s, s, c
        return matrix

    def turns(letters: str, angles: list) -> np.ndarray:
        matrix = np.eye(3)
        for letter, angle in zip(letters, angles):
            matrix = about(letter, angle) @ matrix
        return matrix

    turn = {'root': turns('xyz', frame['root'][3:])}
    end = {'root': np.array(frame['root'][:3])}
    for name, (parent, direction, length, _) in CMU_BONES.items():
        frame_of_bone = turns(axes[name][1], axes[name][0])
        own = turns(dof.get(name, '').replace('r', '').replace(' ', ''), frame.get(name, []))
        turn[name] = turn[parent] @ frame_of_bone @ own @ frame_of_bone.T
        end[name] = end[parent] + turn[name] @ (length * np.array(direction))
    for ours, bone in (('left_wrist', 'lwrist'), ('right_ankle', 'rtibia'), ('head', 'head')):
        x, y, z = end[bone] - end['lowerback']  # against another joint: the figure may have been put on the floor
        np.testing.assert_allclose(joint(positions, ours)[0] - joint(positions, 'spine')[0], [-x, z, y], atol=1e-6)


def test_two_ways_to_say_one_frame_of_a_bone_are_one(tmp_path: Path) -> None:
    angles = [20.0, -35.0, 50.0]
    other = Rotation.from_euler('xyz', angles, degrees=True).as_euler('zyx', degrees=True)
    frames = [{'lfemur': [10.0, 20.0, 30.0]}, {'lfemur': [-30.0, 5.0, 12.0]}]
    first = read(tmp_path, frames, axes={'lfemur': (angles, 'XYZ')})
    np.testing.assert_allclose(read(tmp_path, frames, axes={'lfemur': (other.tolist(), 'ZYX')}), first, atol=1e-9)


def test_bones_keep_their_lengths_and_radians_are_not_degrees(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    frames = [{name: rng.uniform(-50, 50, len(bone[3].split())).tolist() for name, bone in CMU_BONES.items() if bone[3]}
              for _ in range(20)]
    positions = read(tmp_path, frames)
    shank = np.linalg.norm(joint(positions, 'left_ankle') - joint(positions, 'left_knee'), axis=-1)
    np.testing.assert_allclose(shank, 0.4, atol=1e-9)
    turned = [{name: np.radians(values).tolist() for name, values in frame.items()} for frame in frames]
    np.testing.assert_allclose(read(tmp_path, turned, radians=True), positions, atol=1e-9)


def replaced(path: Path, old: str, new: str) -> int:
    """Replace text in a file once, and return the number of its line."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return text[:text.index(old)].count('\n') + 1


@pytest.mark.parametrize(('file', 'old', 'new', 'told'), [
    ('07_01.amc', 'ltibia 0', 'ltibia zero', "'zero', expected 1 numbers"),
    ('07_01.amc', 'lfemur 0 0 0', 'lfemur 0 0', 'expected 3 numbers'),
    ('07_01.amc', 'ltibia 0', 'tail 0', "bone 'tail' is not in the skeleton"),
    ('07_01.amc', 'ltibia 0', 'lfemur 0 0 0', "bone 'lfemur' a second time"),
    ('07.asf', 'dof rx ry rz', 'dof rx l', "'l' is not supported"),
    ('07.asf', 'axis 0 0 0 XYZ', 'axis 0 0 0 XY', "axis order 'XY'"),
    ('07.asf', 'length 1.77', 'length long', 'expected 1 numbers'),
    ('07.asf', ':bonedata', ':bones', 'no section :bonedata'),
    ('07.asf', '    lfemur ltibia', '    lfemur tail', "'tail' is not in :bonedata"),
])
def test_a_broken_file_is_refused_with_name_and_line(tmp_path: Path, file: str, old: str, new: str, told: str) -> None:
    asf, amc = write_asf(tmp_path / '07.asf'), write_amc(tmp_path / '07_01.amc', [{}])
    line = replaced(tmp_path / file, old, new)
    with pytest.raises(MocapError) as caught:
        read_asf_amc(asf, amc)
    message = str(caught.value)
    assert file in message and told in message and '\n' not in message
    if 'section' not in told and 'supported' not in told:
        assert f'{file}:{line}:' in message


def test_a_motion_that_ends_early_and_a_skeleton_without_a_leg_say_so(tmp_path: Path) -> None:
    asf, amc = write_asf(tmp_path / '07.asf'), write_amc(tmp_path / '07_01.amc', [{}, {}])
    whole = amc.read_text()
    amc.write_text(whole[:whole.rindex('ltibia')])
    with pytest.raises(MocapError, match='frame 2 has no values for bone'):
        read_asf_amc(asf, amc)
    amc.write_text(':DEGREES\n')
    with pytest.raises(MocapError, match='no frames'):
        read_asf_amc(asf, amc)
    amc.write_text('\n'.join(line for line in whole.splitlines() if not line.startswith('head')))
    with pytest.raises(MocapError, match="no bone 'head'"):
        read_asf_amc(write_asf(tmp_path / '07.asf', without='head'), amc)


def test_a_bone_without_its_begin_is_still_a_bone_of_its_own(tmp_path: Path) -> None:
    asf, amc = write_asf(tmp_path / '07.asf'), write_amc(tmp_path / '07_01.amc', [{}])
    replaced(asf, '  begin\n    name lowerneck', '    name lowerneck')
    np.testing.assert_allclose(read_asf_amc(asf, amc).positions[0], cmu_standing(), atol=1e-9)
