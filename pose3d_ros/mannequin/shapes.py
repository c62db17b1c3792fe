"""How the mannequin's shape changes: ten components, each with a meaning of its own. One unit is about one standard
deviation between adults.

They are formulas, not statistics of scanned people: correlations (tall people are wider) are not in them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.mannequin import proportions as figure
from pose3d_ros.mannequin.skin import bone_places
from pose3d_ros.skeleton import SMPL24, mirrored

COMPONENTS = ('stature', 'girth', 'long legs, short trunk', 'long arms', 'broad shoulders', 'broad hips', 'large head',
              'belly', 'strong limbs', 'large hands and feet')
STATURE_STEP = 0.04  # of the stature

_ARM = ('left_shoulder', 'left_elbow', 'left_wrist', 'left_hand')
_LEG = ('left_hip', 'left_knee', 'left_ankle', 'left_foot')
_TRUNK = ('pelvis', 'spine1', 'spine2', 'spine3')


class _Body:
    """Vertices (V, 3) in the coordinates of `proportions`, with the skin's weights (V, 24)."""

    def __init__(self, points: NDArray, weights: NDArray) -> None:
        self.points, self.weights = points, weights
        self.places = bone_places(points)
        starts, ends = figure.rest_joints(), figure.bone_ends()
        axis = starts + self.places[..., None] * (ends - starts)
        self.from_axis = points[:, None] - axis  # (V, 24, 3)

    def follow(self, joints: Mapping[str, tuple[float, float, float]],
               tips: Mapping[str, tuple[float, float, float]]) -> NDArray[np.float64]:
        """Return how vertices (V, 3) move when joints, and the tips of bones without children, do. Left and middle."""
        starts = _both_sides(joints)
        ends = starts.copy()
        for joint, parent in zip(SMPL24.joints[1:], SMPL24.parents[1:]):
            if parent != 'spine3' or joint == 'neck':
                ends[SMPL24.index(parent)] = starts[SMPL24.index(joint)]
        ends[SMPL24.index('pelvis')] = starts[SMPL24.index('spine1')]
        of_tips = _both_sides(tips)
        for joint in ('head', 'left_hand', 'right_hand', 'left_foot', 'right_foot'):
            ends[SMPL24.index(joint)] = of_tips[SMPL24.index(joint)]
        moved = starts + self.places[..., None] * (ends - starts)
        return np.einsum('vj,vjc->vc', self.weights, moved)

    def thicken(self, by: Mapping[str, float]) -> NDArray[np.float64]:
        """Return how vertices (V, 3) move when the flesh around bones grows by a share of its thickness."""
        gain = np.array([by.get(joint, by.get(mirrored(joint), 0.0)) for joint in SMPL24.joints])
        return np.einsum('vj,j,vjc->vc', self.weights, gain, self.from_axis)

    def enlarge(self, joint: str, by: float) -> NDArray[np.float64]:
        """Return how vertices (V, 3) move when what is beyond a joint (and its mirror image) grows by a share."""
        moved = np.zeros_like(self.points)
        for name in {joint, mirrored(joint)}:
            index = SMPL24.index(name)
            beyond = [index, *(SMPL24.index(child) for child, parent in zip(SMPL24.joints, SMPL24.parents)
                               if parent == name)]
            share = self.weights[:, beyond].sum(axis=1, keepdims=True)
            moved += by * share * (self.points - figure.rest_joints()[index])
        return moved


def _both_sides(moves: Mapping[str, tuple[float, float, float]]) -> NDArray[np.float64]:
    values = np.zeros((len(SMPL24), 3))
    for joint, move in moves.items():
        values[SMPL24.index(joint)] = move
        if mirrored(joint) != joint:
            values[SMPL24.index(mirrored(joint))] = (-move[0], move[1], move[2])
    return values


def shape_directions(points: NDArray, weights: NDArray) -> NDArray[np.float64]:
    """Return how vertices (V, 3) move with each of COMPONENTS, (V, 3, 10) m."""
    body = _Body(points, weights)
    pelvis = figure.rest_joints()[0]
    return np.stack([
        STATURE_STEP * (points - pelvis),
        _girth(body), _long_legs(body), _long_arms(body), _broad_shoulders(body), _broad_hips(body),
        body.enlarge('head', 0.04), _belly(body),
        body.thicken({'left_shoulder': 0.09, 'left_elbow': 0.08, 'left_hip': 0.07, 'left_knee': 0.08,
                      'left_collar': 0.05, 'neck': 0.06, 'spine3': 0.03}),
        body.enlarge('left_wrist', 0.06) + body.enlarge('left_ankle', 0.05),
    ], axis=-1)


def _girth(body: _Body) -> NDArray:
    return body.thicken({**dict.fromkeys(_TRUNK, 0.11), 'left_hip': 0.10, 'left_knee': 0.06, 'left_shoulder': 0.10,
                         'left_elbow': 0.06, 'left_collar': 0.08, 'neck': 0.06, 'head': 0.01, 'left_wrist': 0.03})


def _long_legs(body: _Body) -> NDArray:
    """What the legs gain the trunk loses: the stature stays."""
    up = {'spine1': -0.006, 'spine2': -0.014, 'spine3': -0.018, 'neck': -0.026, 'head': -0.026, 'left_collar': -0.024}
    down = {'left_knee': -0.014, 'left_ankle': -0.026, 'left_foot': -0.026}
    moves = {**up, **down, **dict.fromkeys(_ARM, -0.024)}
    tips = {'head': (0, -0.026, 0), 'left_hand': (0, -0.024, 0), 'left_foot': (0, -0.026, 0)}
    return body.follow({joint: (0, y, 0) for joint, y in moves.items()}, tips) + np.array([0, 0.026, 0])


def _long_arms(body: _Body) -> NDArray:
    return body.follow({'left_elbow': (0.011, 0, 0), 'left_wrist': (0.021, 0, 0), 'left_hand': (0.022, 0, 0)},
                       {'left_hand': (0.023, 0, 0)})


def _broad_shoulders(body: _Body) -> NDArray:
    wide = body.follow({'left_collar': (0.004, 0, 0), **dict.fromkeys(_ARM, (0.013, 0, 0))},
                       {'left_hand': (0.013, 0, 0)})
    chest = body.weights[:, SMPL24.indices(['spine2', 'spine3'])] @ [0.02, 0.045]
    wide[:, 0] += chest * body.points[:, 0]
    return wide


def _broad_hips(body: _Body) -> NDArray:
    wide = body.follow(dict.fromkeys(_LEG, (0.007, 0, 0)), {'left_foot': (0.007, 0, 0)})
    pelvis = body.weights[:, SMPL24.indices(['pelvis', 'spine1'])] @ [0.08, 0.03]
    wide[:, 0] += pelvis * body.points[:, 0]
    return wide + body.thicken({'left_hip': 0.04})


def _belly(body: _Body) -> NDArray:
    """Forwards and a little to the sides, most of it at the height of the navel."""
    x, y, z = body.points.T
    trunk = body.weights[:, SMPL24.indices(_TRUNK)].sum(axis=1)
    bulge = trunk * np.exp(-0.5 * ((y - 1.05) / 0.09) ** 2)
    forward = np.clip(0.5 + z / 0.16, 0, 1)
    return np.stack([0.06 * bulge * x, np.zeros_like(x), 0.024 * bulge * forward ** 2], axis=-1)
