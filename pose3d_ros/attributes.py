"""Pose attributes: is a limb joint in front of the torso, behind it, or level with it?

Wang, Huang, Wang, Tao: Not All Parts Are Created Equal (ICCV 2019), section 3.1.2. The torso plane lies through both
shoulders, both hips and the pelvis by orthogonal distance regression; elbows, wrists, knees, ankles and the head are
labelled by their distance to it. The paper leaves open which side is which: here front is where the chest points, so
that it means the same to every camera, and to a mirror image with left and right exchanged.

Lengths are compared with the trunk's: from the middle of the hips to the middle of the shoulders. It is known whenever
the plane is, in whatever unit the joints come, and goes along with the size of a child.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose3d_ros.records import Person2D
from pose3d_ros.skeleton import HUMAN17, Skeleton, mirrored

Floats = NDArray[np.float64]

FRONT, BACK, ON_PLANE = 0, 1, 2
UNKNOWN = -1
CLASSES = ('front', 'back', 'on-plane')

KINDS = ('head', 'elbow', 'wrist', 'knee', 'ankle')
ATTRIBUTE_JOINTS = ('head', *(f'{side}_{kind}' for kind in KINDS[1:] for side in ('left', 'right')))
# attributes[..., ATTRIBUTE_MIRROR] (of probabilities: [..., ATTRIBUTE_MIRROR, :]) are those of the mirror image.
ATTRIBUTE_MIRROR = np.array([ATTRIBUTE_JOINTS.index(mirrored(joint)) for joint in ATTRIBUTE_JOINTS])
KIND_OF = np.array([KINDS.index(joint.rsplit('_', 1)[-1]) for joint in ATTRIBUTE_JOINTS])  # (9,)

# Trunk lengths; about 6 cm of an adult. The smallest at which the labels are still about something: with it, recorded
# people have 41 % of these joints in front, 25 % behind and 34 % on the plane (docs/parts.md).
THRESHOLD = 0.125

PLANE_JOINTS = ('left_shoulder', 'right_shoulder', 'left_hip', 'right_hip', 'pelvis')
_TRUNK = PLANE_JOINTS[:4]
# Who is so thin from the side that no plane can be told: second by first standard deviation of the five points, 0.47
# at least in recorded people. And the plane must face roughly where the chest does, which shoulders and hips tell too.
_LEAST_WIDTH, _LEAST_COSINE = 0.1, 0.5


@dataclass(frozen=True)
class Ordinal:
    """What a detector's signed distance d [trunk lengths] says: P(front) = s(slope (d - front)), P(back) =
    s(slope (back - d)), with s the logistic function and back < front; the rest is on the plane.

    The proportional-odds model of ordered classes (McCullagh 1980).
    """

    back: float
    front: float
    slope: float


# Fitted by `pose3d evaluate attributes --fit`. The middle of the ears stands in for the head.
CALIBRATION = {
    'head': Ordinal(-0.125, 0.125, 12.0),
    'elbow': Ordinal(-0.125, 0.125, 12.0),
    'wrist': Ordinal(-0.125, 0.125, 12.0),
    'knee': Ordinal(-0.125, 0.125, 12.0),
    'ankle': Ordinal(-0.125, 0.125, 12.0),
}


def signed_distances(joints: ArrayLike) -> Floats:
    """Return the signed distances (..., 9) of ATTRIBUTE_JOINTS to the torso plane, in the unit of joints.

    joints (..., 17, 3) of HUMAN17, any axes. Positive where the chest points; NaN where a joint is missing, and all
    nine where the plane cannot be told.
    """
    points = np.asarray(joints, dtype=np.float64)
    return _distances(points[..., _positions(HUMAN17, PLANE_JOINTS), :],
                      points[..., _positions(HUMAN17, ATTRIBUTE_JOINTS), :])


def trunk_length(joints: ArrayLike) -> Floats:
    """Return the distance (...,) between the middles of hips and shoulders of joints (..., 17, 3) of HUMAN17."""
    points = np.asarray(joints, dtype=np.float64)
    return _length(points[..., _positions(HUMAN17, _TRUNK), :])


def relative_distances(joints: ArrayLike) -> Floats:
    """Return signed_distances (..., 9) in trunk lengths; joints (..., 17, 3) of HUMAN17 in any unit."""
    with np.errstate(invalid='ignore', divide='ignore'):
        return np.asarray(signed_distances(joints) / trunk_length(joints)[..., None])


def attributes(joints: ArrayLike, threshold: float = THRESHOLD) -> NDArray[np.int64]:
    """Return FRONT, BACK or ON_PLANE of ATTRIBUTE_JOINTS, (..., 9); -1 where it cannot be told.

    joints (..., 17, 3) of HUMAN17 in any unit; threshold: trunk lengths.
    """
    return labels(relative_distances(joints), threshold)


def labels(distances: ArrayLike, threshold: float = THRESHOLD) -> NDArray[np.int64]:
    """Return FRONT, BACK, ON_PLANE or -1 for signed distances (...) in trunk lengths, NaN where not known."""
    values = np.asarray(distances)
    side = np.where(values > threshold, FRONT, np.where(values < -threshold, BACK, ON_PLANE))
    return np.where(np.isnan(values), UNKNOWN, side)


def from_person(person: Person2D) -> NDArray[np.float32]:
    """Return the probabilities (9, 3) of front, back and on-plane that a detector's relative depth speaks for.

    Zeros where nothing is known: a detector without depth, a trunk or a joint out of view.
    """
    return from_people([person])[0]


def from_people(people: Sequence[Person2D]) -> NDArray[np.float32]:
    """Return from_person of N people of one skeleton, (N, 9, 3). Raises ValueError for several skeletons."""
    if not people:
        return np.zeros((0, len(ATTRIBUTE_JOINTS), 3), dtype=np.float32)
    if any(person.skeleton is not people[0].skeleton for person in people):
        raise ValueError('the people of one image must have one skeleton')
    return probabilities(seen_distances(people)).astype(np.float32)


def seen_distances(people: Sequence[Person2D]) -> Floats:
    """Return the signed distances (N, 9) in trunk lengths that pixels and relative depth of N people amount to.

    Weak perspective: within a person, depth is taken to change nothing about the scale, so px across and px in depth
    are one unit. The head is the middle of the ears, the pelvis the middle of the hips. NaN where not known.
    """
    chosen = _landmarks(people[0].skeleton)
    if chosen is None:
        return np.full((len(people), len(ATTRIBUTE_JOINTS)), np.nan)
    trunk, limbs = chosen
    points = np.empty((len(people), len(people[0].skeleton), 3))
    for place, person in zip(points, people):
        place[:, :2] = person.pixels
        place[:, 2] = person.depth
    corners = points[:, trunk]
    plane = np.concatenate([corners, 0.5 * (corners[:, 2:3] + corners[:, 3:4])], axis=1)
    ends = points[:, limbs].mean(axis=2)
    return np.asarray(_distances(plane, ends) / np.maximum(_length(corners), 1e-9)[:, None])


def probabilities(distances: ArrayLike, calibration: dict[str, Ordinal] = CALIBRATION) -> Floats:
    """Return probabilities (..., 9, 3) of front, back, on-plane for a detector's distances (..., 9) in trunk lengths.

    They add up to 1, or are all 0 where the distance is NaN.
    """
    values = np.asarray(distances, dtype=np.float64)
    back, front, slope = _table(tuple(calibration[kind] for kind in KINDS))
    known = ~np.isnan(values)
    odds = slope * np.where(known, values, 0.0)
    found = np.empty((*values.shape, 3))
    found[..., FRONT] = _logistic(odds - slope * front)
    found[..., BACK] = _logistic(slope * back - odds)
    found[..., ON_PLANE] = 1.0 - found[..., FRONT] - found[..., BACK]
    return found * known[..., None]


def _distances(plane: Floats, ends: Floats) -> Floats:
    """Return the signed distances (..., 9) of ends (..., 9, 3) to the plane through five points (..., 5, 3)."""
    middle = plane.mean(axis=-2, keepdims=True)
    spread = plane - middle
    known = np.isfinite(spread).all(axis=(-2, -1))
    spread = np.where(known[..., None, None], spread, 0.0)
    # The plane of least squared distances is square to the direction in which the points spread least.
    values, vectors = np.linalg.eigh(np.swapaxes(spread, -1, -2) @ spread)
    normal = vectors[..., 0]
    chest = _chest(spread)
    along = (normal * chest).sum(axis=-1)
    known &= values[..., 1] > _LEAST_WIDTH ** 2 * values[..., 2]
    known &= np.abs(along) > _LEAST_COSINE * np.sqrt((chest * chest).sum(axis=-1))
    normal = np.where(known, np.sign(along), np.nan)[..., None] * normal
    return np.asarray(((ends - middle) @ normal[..., None])[..., 0])


def _chest(plane: Floats) -> Floats:
    """Return the direction (..., 3) out of the chest, of any length: leftward x upward."""
    left = plane[..., 0, :] - plane[..., 1, :] + plane[..., 2, :] - plane[..., 3, :]
    up = plane[..., 0, :] + plane[..., 1, :] - plane[..., 2, :] - plane[..., 3, :]
    return np.stack([left[..., 1] * up[..., 2] - left[..., 2] * up[..., 1],
                     left[..., 2] * up[..., 0] - left[..., 0] * up[..., 2],
                     left[..., 0] * up[..., 1] - left[..., 1] * up[..., 0]], axis=-1)


def _length(trunk: Floats) -> Floats:
    """Return the trunk's length (...,); trunk (..., 4, 3): shoulders, hips."""
    line = 0.5 * (trunk[..., 0, :] + trunk[..., 1, :] - trunk[..., 2, :] - trunk[..., 3, :])
    return np.asarray(np.sqrt((line * line).sum(axis=-1)))


def _logistic(odds: Floats) -> Floats:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * odds)))  # without overflow, however far away


@lru_cache(maxsize=8)
def _table(calibration: tuple[Ordinal, ...]) -> tuple[Floats, Floats, Floats]:
    """Return back, front and slope (9,) of the joints."""
    rows = np.array([(kind.back, kind.front, kind.slope) for kind in calibration])[KIND_OF]
    return rows[:, 0], rows[:, 1], rows[:, 2]


@lru_cache(maxsize=8)
def _positions(skeleton: Skeleton, joints: tuple[str, ...]) -> NDArray[np.intp]:
    return skeleton.indices(joints)


@lru_cache(maxsize=8)
def _landmarks(skeleton: Skeleton) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
    """Return the places of shoulders and hips (4,) and of what each attribute joint is the mean of (9, 2)."""
    ears = ('left_ear', 'right_ear')
    pairs = [ears if joint == 'head' else (joint, joint) for joint in ATTRIBUTE_JOINTS]
    if not {*_TRUNK, *(joint for pair in pairs for joint in pair)} <= set(skeleton.joints):
        return None
    return skeleton.indices(_TRUNK), np.stack([skeleton.indices(pair) for pair in pairs])
