"""Biovision files: made-up people written and read again, in any unit, order of axes and way of naming joints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from motion_files import write_bvh

from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.mocap import MocapError
from pose3d_ros.train.procedural import procedural_clips
from pose3d_ros.train.readers.bvh import parse_bvh, read_bvh

# The start and the end of the head bone are not joints of such a file: they are placed by rule.
GIVEN = HUMAN17.indices([joint for joint in HUMAN17.joints if joint not in ('neck', 'head')])

MIXAMO = {'pelvis': 'mixamorig:Hips', 'spine': 'mixamorig:Spine', 'thorax': 'mixamorig:Neck', 'neck': 'mixamorig:Head'}
XSENS = {'pelvis': 'Hips', 'spine': 'Chest', 'thorax': 'Neck', 'neck': 'Head'}
BANDAI = {'pelvis': 'Hips', 'spine': 'Spine', 'thorax': 'Neck', 'neck': 'Head'}
for _side in ('Left', 'Right'):
    _own = _side.lower()
    for _joint, _mixamo, _xsens, _bandai in (
            ('hip', 'UpLeg', 'Hip', 'UpperLeg'), ('knee', 'Leg', 'Knee', 'LowerLeg'),
            ('ankle', 'Foot', 'Ankle', 'Foot'),
            ('shoulder', 'Arm', 'Shoulder', 'UpperArm'), ('elbow', 'ForeArm', 'Elbow', 'LowerArm'),
            ('wrist', 'Hand', 'Wrist', 'Hand')):
        MIXAMO[f'{_own}_{_joint}'] = f'mixamorig:{_side}{_mixamo}'
        XSENS[f'{_own}_{_joint}'] = f'{_side}{_xsens}'
        BANDAI[f'{_own}_{_joint}'] = f'{_bandai}_{_side[0]}'


@pytest.fixture(scope='module')
def walk() -> np.ndarray:
    return procedural_clips(seed=3, clips=1, seconds=2.0)[0].positions


@pytest.mark.parametrize('names', [MIXAMO, XSENS, BANDAI], ids=['mixamo', 'xsens', 'bandai'])
@pytest.mark.parametrize('seed', [0, 1])
def test_a_written_walk_is_read_back_to_a_millimetre(tmp_path: Path, walk: np.ndarray, names: dict, seed: int) -> None:
    clip = read_bvh(write_bvh(tmp_path / 'anna_01.bvh', walk, 60.0, names, scale=100, seed=seed))
    assert (clip.name, clip.subject) == ('anna_01', 'anna')
    assert clip.fps == pytest.approx(60)
    np.testing.assert_allclose(clip.positions[:, GIVEN], walk[:, GIVEN], atol=1e-3)


@pytest.mark.parametrize('scale', [1.0, 100.0, 1000.0, 1 / 0.0254])
@pytest.mark.parametrize('z_up', [False, True])
def test_unit_and_upward_axis_are_found_out(tmp_path: Path, walk: np.ndarray, scale: float, z_up: bool) -> None:
    clip = read_bvh(write_bvh(tmp_path / 'a.bvh', walk, 30.0, MIXAMO, scale=scale, z_up=z_up))
    np.testing.assert_allclose(clip.positions[:, GIVEN], walk[:, GIVEN], atol=1e-3)


def test_unit_and_upward_axis_can_be_given(tmp_path: Path, walk: np.ndarray) -> None:
    giant = write_bvh(tmp_path / 'a.bvh', walk, 30.0, MIXAMO, scale=3.0)
    with pytest.raises(MocapError, match='units tall'):
        read_bvh(giant)
    clip = read_bvh(giant, unit='m', up='y')
    np.testing.assert_allclose(clip.positions[:, GIVEN], 3 * walk[:, GIVEN], atol=3e-3)


def test_the_head_is_placed_beyond_its_joint_in_line_with_the_neck(tmp_path: Path, walk: np.ndarray) -> None:
    positions = read_bvh(write_bvh(tmp_path / 'a.bvh', walk, 30.0, MIXAMO)).positions
    thorax, neck, head = (positions[:, HUMAN17.index(name)] for name in ('thorax', 'neck', 'head'))
    lengths = np.linalg.norm(head - neck, axis=-1)
    np.testing.assert_allclose(lengths, lengths[0], atol=1e-6)
    assert 0.06 < lengths[0] < 0.16
    assert (head[:, 2] > neck[:, 2]).all() and (neck[:, 2] > thorax[:, 2]).all()


def cmu_bvh(path: Path) -> Path:
    """Write two frames of the bones of CMU's files as .bvh conversions have them, in CMU's unit, at rest."""
    leg = ('JOINT {s}HipJoint {{ OFFSET 0 0 0 C JOINT {side}UpLeg {{ OFFSET {x}1.3 -1.8 0.8 C '
           'JOINT {side}Leg {{ OFFSET 0 -7 0 C JOINT {side}Foot {{ OFFSET 0 -7 0 C End Site {{ OFFSET 0 0 1 }} '
           '}} }} }} }}')
    arm = ('JOINT {side}Shoulder {{ OFFSET 0 0 0 C JOINT {side}Arm {{ OFFSET {x}3 1 0 C '
           'JOINT {side}ForeArm {{ OFFSET {x}5 0 0 C JOINT {side}Hand {{ OFFSET {x}3 0 0 C End Site {{ OFFSET 0 0 0 }} '
           '}} }} }} }}')
    sides = [(text.format(side='Left', s='L', x=''), text.format(side='Right', s='R', x='-')) for text in (leg, arm)]
    text = ('HIERARCHY ROOT Hips { OFFSET 0 0 0 CHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation '
            + ' '.join(sides[0]) + ' JOINT LowerBack { OFFSET 0 0 0 C JOINT Spine { OFFSET 0 2 0 C JOINT Spine1 '
            '{ OFFSET 0 2 0 C JOINT Neck { OFFSET 0 0 0 C JOINT Neck1 { OFFSET 0 1.6 0 C JOINT Head { OFFSET 0 1.5 0 C '
            'End Site { OFFSET 0 0 0 } } } } ' + ' '.join(sides[1]) + ' } } } }')
    text = text.replace(' C ', ' CHANNELS 3 Zrotation Yrotation Xrotation ')
    for word in ('{', '}', 'JOINT', 'End', 'OFFSET', 'CHANNELS', 'ROOT'):
        text = text.replace(f' {word} ', f'\n{word} ')
    values = '\n'.join(' '.join(map(str, [0, 16, 0, *[0] * (3 + 3 * (text.count('CHANNELS') - 1))])) for _ in range(2))
    path.write_text(f'{text}\nMOTION\nFrames: 2\nFrame Time: .0083333\n{values}\n'.replace(' }', '\n}'))
    return path


def test_what_cmu_s_conversions_lack_is_put_back(tmp_path: Path) -> None:
    """The thorax bone, the wrist bone (half a forearm bone) and, where it has no length, the head bone."""
    clip = read_bvh(cmu_bvh(tmp_path / '02_01.bvh'))
    unit = 0.0254 / 0.45
    assert clip.subject == '02' and clip.fps == pytest.approx(120, rel=1e-4)
    expected = {'pelvis': (0, 0.8, 14.2), 'left_hip': (-1.3, 0.8, 14.2), 'right_ankle': (1.3, 0.8, 0.2),
                'spine': (0, 0, 18), 'thorax': (0, 0, 22.8), 'neck': (0, 0, 25.1), 'head': (0, 0, 26.6),
                'left_shoulder': (-3, 0, 23), 'right_wrist': (3 + 5 + 4.5, 0, 23)}
    for name, place in expected.items():
        np.testing.assert_allclose(clip.positions[0, HUMAN17.index(name)], unit * np.array(place), atol=1e-6,
                                   err_msg=name)


def test_position_channels_replace_the_offset_of_any_joint(tmp_path: Path, walk: np.ndarray) -> None:
    path = write_bvh(tmp_path / 'a.bvh', walk[:2], 30.0, MIXAMO)
    text = path.read_text()
    head, _, values = text.partition('Frame Time:')
    first = 'JOINT mixamorig:RightUpLeg\n\t\t{\n\t\t\tOFFSET '
    offset = head[head.index(first) + len(first):].split('\n')[0]
    moved = head.replace(first + offset + '\n\t\t\tCHANNELS 0',
                         first + '9 9 9\n\t\t\tCHANNELS 3 Xposition Yposition Zposition')
    lines = values.split('\n')
    rows = [line.split() for line in lines[1:3]]
    # Its values follow those of the root (6) and of the pivot above it (3).
    lines[1:3] = [' '.join([*row[:9], *offset.split(), *row[9:]]) for row in rows]
    path.write_text(moved + 'Frame Time:' + '\n'.join(lines))
    np.testing.assert_allclose(read_bvh(path).positions[:, GIVEN], walk[:2, GIVEN], atol=1e-3)


@pytest.mark.parametrize(('old', 'new', 'told', 'line'), [
    ('OFFSET 1 2 3', 'OFFSET 1 2', 'expected OFFSET and three numbers', 4),
    ('CHANNELS 6', 'CHANNELS 5', 'expected CHANNELS', 5),
    ('Zrotation', 'Wrotation', 'expected CHANNELS', 5),
    ('HIERARCHY', 'HIERARCHIE', 'is not understood', 1),
    ('Frames: 2', 'Frames: two', 'expected Frames:', 0),
    ('Frames: 2', 'Frames: 3', '2 lines of values for 3 frames', 0),
    ('MOTION', 'JOINT more', 'no whole .bvh file|not understood', 0),
    ('mixamorig:LeftLeg', 'mixamorig:LeftTail', "no joint called like 'leftleg'", 0),
])
def test_a_broken_file_is_refused_with_its_line(tmp_path: Path, walk: np.ndarray, old: str, new: str, told: str,
                                                line: int) -> None:
    path = write_bvh(tmp_path / 'broken.bvh', walk[:2], 30.0, MIXAMO)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(MocapError, match=rf'broken\.bvh:{line if line else ""}.*({told})') as caught:
        read_bvh(path)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(('value', 'told'), [
    ('-1.#IND', 'not a line of numbers'), ('nan', 'not finite'), ('', 'expected')])
def test_a_broken_value_is_found_in_its_line(tmp_path: Path, walk: np.ndarray, value: str, told: str) -> None:
    path = write_bvh(tmp_path / 'broken.bvh', walk[:2], 30.0, MIXAMO)
    lines = path.read_text().rstrip().split('\n')
    lines[-1] = ' '.join([value, *lines[-1].split()[1:]])
    path.write_text('\n'.join(lines) + '\n')
    with pytest.raises(MocapError, match=rf'broken\.bvh:{len(lines)}: .*{told}'):
        parse_bvh(path)
