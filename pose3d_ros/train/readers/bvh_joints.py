"""Which joint of a .bvh file is which of HUMAN17, by the names that widespread programs give them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pose3d_ros.skeleton import HUMAN17


@dataclass
class Node:
    """A joint of the tree, or an end site (named PARENT/end); parent: its index, -1 for the root; offset (3,) in the
    unit of the file.
    """

    name: str
    parent: int
    offset: NDArray = field(default_factory=lambda: np.zeros(3))
    channels: tuple[str, ...] = ()


@dataclass
class Posed:
    """Nodes, with their positions (T, 3) and rotations from the rest pose."""

    nodes: list[Node]
    positions: list[NDArray]
    rotations: list[Rotation]


# Names without case, punctuation and prefix ("mixamorig:", "Bip01_"), the likelier first; L/R stands for the side in
# full or as a letter, before or after. Left out: collar bones, toes, fingers. Where a program calls the collar bone
# "shoulder" it calls the upper arm "arm", so that is looked for first.
#   CMU (B. Hahne's MotionBuilder release), Mixamo, LaFAN1, Rokoko: UpLeg Leg Foot Arm ForeArm Hand
#   CMU (his 3ds Max release), Xsens: Hip Knee Ankle Shoulder Elbow Wrist;  Bandai-Namco: UpperLeg_L LowerLeg_L ...
LIMBS = {
    'hip': ('upleg', 'upperleg', 'thigh', 'hip'),
    'knee': ('leg', 'lowerleg', 'shin', 'calf', 'knee'),
    'ankle': ('foot', 'ankle'),
    'shoulder': ('arm', 'upperarm', 'shoulder'),
    'elbow': ('forearm', 'lowerarm', 'elbow'),
    'wrist': ('wrist', 'hand'),
}
NECKS = ('neck', 'neck1')
HEADS = ('head',)

# Where Human3.6M has its Spine, on the way from the hips to the base of the neck (also CMU, within 0.03).
SPINE_AT = 0.45
# Rigs have their head joint low, at the top of the spine. The head bone starts and ends this many metres beyond it, and
# this share of the leg from hip to ankle: 70 and 180 mm for an adult, 60 and 160 mm for a child of 1.27 m.
NECK_BEYOND, TOP_BEYOND = (0.042, 0.033), (0.123, 0.067)
# CMU's forearm bone ends short of the wrist: the wrist bone, left out of the .bvh files, is half as long.
CMU_WRIST = 1.5
CMU_BEND = 0.5


def plain(name: str) -> str:
    """Return a joint's name without prefix, case and punctuation."""
    name = re.sub(r'^bip\d+', '', name.rsplit(':', 1)[-1].lower())
    return re.sub(r'[^a-z0-9/]', '', name)


def restore_cmu_thorax(nodes: list[Node]) -> None:
    """Put back the thorax bone that the .bvh files made of CMU's .asf files lack: neck and collars start too low.

    It goes on from the bone below it with half the bend between the two below it: within 3 mm of the .asf files that
    were compared (subjects 01, 02 and 11).
    """
    if not is_cmu(nodes):
        return
    for node in nodes:
        chest = nodes[node.parent] if node.parent >= 0 else None
        if chest is not None and plain(chest.name) in ('spine1', 'chest2') and not node.offset.any():
            node.offset = chest.offset + CMU_BEND * (chest.offset - nodes[chest.parent].offset)


def human17(posed: Posed, unit: float) -> NDArray:
    """Return the joints (T, 17, 3) m of HUMAN17; unit: m per unit of the file. Raises KeyError: what is missing."""
    index = _indices(posed.nodes)
    at = {role: posed.positions[node] for role, node in index.items()}
    joints = {role: position for role, position in at.items() if role in HUMAN17.joints}
    joints['pelvis'] = 0.5 * (at['left_hip'] + at['right_hip'])
    head = posed.nodes[index['head']]
    if is_cmu(posed.nodes):
        # The base of the neck: half the lower neck beyond the thorax, as if it were part of it.
        neck = posed.nodes[index['neck_base']]
        above = next(node for node in posed.nodes if node.parent == index['neck_base'])
        joints['thorax'] = at['neck_base'] + posed.rotations[neck.parent].apply(0.5 * above.offset)
        joints['spine'] = posed.positions[_find(posed.nodes, ('spine', 'chest'))]
        joints['neck'] = at['head']
        # Without a head bone: as long as the bone below it, which is right within 12 mm (01, 02, 11).
        tip = _tip(posed.nodes, index['head'])
        joints['head'] = at['head'] + posed.rotations[index['head']].apply(head.offset if tip is None else tip)
        for side in ('left', 'right'):
            joints[f'{side}_wrist'] = at[f'{side}_elbow'] + CMU_WRIST * (at[f'{side}_wrist'] - at[f'{side}_elbow'])
    else:
        axis = posed.rotations[index['head']].apply(_head_axis(posed, index))
        leg = sum(float(np.linalg.norm(posed.nodes[index[f'left_{joint}']].offset)) for joint in ('knee', 'ankle'))
        joints['thorax'] = at['neck_base']
        joints['spine'] = posed.positions[_spine(posed, index)]
        for name, (metres, legs) in (('neck', NECK_BEYOND), ('head', TOP_BEYOND)):
            joints[name] = at['head'] + (metres / unit + legs * leg) * axis
    return unit * np.stack([joints[name] for name in HUMAN17.joints], axis=1)


def bone_chain_length(nodes: list[Node]) -> float:
    """Return the summed bone lengths from an ankle to the top of the head: close to a person's height.

    Raises KeyError that says what is missing.
    """
    index = _indices(nodes)
    chains = ((index['left_ankle'], index['left_hip']), (index['head'], _fork(nodes, index)))
    return 1.12 * sum(float(np.linalg.norm(nodes[node].offset))
                      for start, stop in chains for node in _path_up(nodes, start, stop)[:-1])


def is_cmu(nodes: list[Node]) -> bool:
    """Return whether a tree was made of CMU's .asf skeletons: no other has a bone from the root to the hip."""
    return any(plain(node.name) == 'lhipjoint' for node in nodes)


def _indices(nodes: list[Node]) -> dict[str, int]:
    """Return the node of every limb joint, 'neck_base' and 'head'. Raises KeyError."""
    index = {f'{side}_{joint}': _find(nodes, tuple(f'{prefix}{word}{suffix}' for word in words for prefix, suffix in
                                                   ((side, ''), (side[0], ''), ('', side[0]), ('', side))))
             for side in ('left', 'right') for joint, words in LIMBS.items()}
    index['head'] = _find(nodes, HEADS)
    # The base of the neck is the first joint of the neck, whatever it is called (CMU's Max release: lowerneck).
    index['neck_base'] = _find(nodes, ('lowerneck', *NECKS))
    return index


def _find(nodes: list[Node], names: tuple[str, ...]) -> int:
    plain_names = [plain(node.name) for node in nodes]
    for name in names:
        if name in plain_names:
            return plain_names.index(name)
    raise KeyError(f'no joint called like {names[0]!r} among {", ".join(node.name for node in nodes[:40])}')


def _tip(nodes: list[Node], joint: int) -> NDArray | None:
    """Return the offset (3,) of a joint's end site, None where it has none or one of no length."""
    for node in nodes:
        if node.parent == joint and node.name.endswith('/end') and np.linalg.norm(node.offset) > 1e-6:
            return node.offset
    return None


def _head_axis(posed: Posed, index: dict[str, int]) -> NDArray:
    """Return the direction (3,) from the head joint to the crown, in the frame of the head.

    It is that of the neck, as the head has it on average over the clip; or that of the end site, where it is near (some
    programs write end sites that point anywhere).
    """
    neck = posed.positions[index['head']] - posed.positions[index['neck_base']]
    seen = posed.rotations[index['head']].inv().apply(neck).mean(axis=0)
    tip = _tip(posed.nodes, index['head'])
    if tip is not None and tip @ seen > 0.7 * np.linalg.norm(tip) * np.linalg.norm(seen):
        seen = tip
    return seen / max(float(np.linalg.norm(seen)), 1e-9)


def _spine(posed: Posed, index: dict[str, int]) -> int:
    """Return the joint between hips and neck that is nearest to where Human3.6M has its Spine."""
    chain = _path_up(posed.nodes, index['neck_base'], _fork(posed.nodes, index))
    if len(chain) < 3:
        raise KeyError('no joint of the spine between the hips and the neck')
    # From the hips' midpoint, which is not where the joint is that carries them, up to the neck.
    pelvis = 0.5 * (posed.positions[index['left_hip']][0] + posed.positions[index['right_hip']][0])
    places = [pelvis, *(posed.positions[node][0] for node in reversed(chain))]
    along = np.cumsum(np.linalg.norm(np.diff(places, axis=0), axis=-1))
    # Neither the joint that carries the hips nor the neck itself.
    return chain[-2 - int(np.argmin(np.abs(along[1:-1] / along[-1] - SPINE_AT)))]


def _fork(nodes: list[Node], index: dict[str, int]) -> int:
    """Return the joint from which both the left leg and the neck hang."""
    above_hip = _path_up(nodes, index['left_hip'], -1)
    return next(node for node in _path_up(nodes, index['neck_base'], -1) if node in above_hip)


def _path_up(nodes: list[Node], start: int, stop: int) -> list[int]:
    """Return the joints from start up to stop, both counted (-1: up to the root)."""
    path = [start]
    while path[-1] != stop and nodes[path[-1]].parent >= 0:
        path.append(nodes[path[-1]].parent)
    return path
