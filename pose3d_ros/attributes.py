"""Pose attributes: is a limb joint in front of the torso, behind it, or level with it?

Wang, Huang, Wang, Tao: Not All Parts Are Created Equal (ICCV 2019), section 3.1.2. The torso plane lies through both
shoulders, both hips and the pelvis by orthogonal distance regression; elbows, wrists, knees, ankles and the head are
labelled by their distance to it. The paper leaves open which side is which: here front is where the chest points, so
that it means the same to every camera, and to a mirror image with left and right exchanged.

Lengths are compared with the trunk's: from the middle of the hips to the middle of the shoulders. It is known whenever
the plane is, in whatever unit the joints come, and goes along with the size of a child.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

# Trunk lengths; about 6 cm of an adult. Recorded people have 42 % of these joints in front, 25 % behind and 33 % on the
# plane then, and detectors of depth are seldom more exact (docs/parts.md).
THRESHOLD = 0.125

PLANE_JOINTS = ('left_shoulder', 'right_shoulder', 'left_hip', 'right_hip', 'pelvis')
# Who is so thin from the side that no plane can be told: second by first standard deviation of the five points, 0.47
# at least in recorded people. And the plane must face roughly where the chest does, which the left sides of shoulders
# and hips tell too, unless they contradict each other.
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


# Fitted by `pose3d evaluate attributes --fit` to the errors of BlazePose on the sample footage, for people who move as
# recorded ones do. The middle of the ears stands in for the head.
CALIBRATION = {
    'head': Ordinal(-0.173, 0.075, 26.9),
    'elbow': Ordinal(-0.072, 0.222, 11.0),
    'wrist': Ordinal(-0.360, 0.178, 4.6),
    'knee': Ordinal(-0.146, 0.180, 9.1),
    'ankle': Ordinal(0.129, 0.383, 5.2),
}


def signed_distances(joints: ArrayLike) -> Floats:
    """Return the signed distances (..., 9) of ATTRIBUTE_JOINTS to the torso plane, in the unit of joints.

    joints (..., 17, 3) of HUMAN17, any axes. Positive where the chest points; NaN where a joint is missing, and all
    nine where the plane cannot be told.
    """
    return _measure(np.asarray(joints, dtype=np.float64)[..., _HUMAN17, :])[0]


def relative_distances(joints: ArrayLike) -> Floats:
    """Return signed_distances (..., 9) in trunk lengths; joints (..., 17, 3) of HUMAN17 in any unit."""
    distances, trunk = _measure(np.asarray(joints, dtype=np.float64)[..., _HUMAN17, :])
    return np.asarray(distances / trunk[..., None])


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

    Zeros where nothing is known: a detector without depth, a trunk or a joint out of view, a person whose sides were
    exchanged since detection (whoever takes a back for a front is wrong in depth too; docs/parts.md).
    """
    return from_people([person])[0]


def from_people(people: Sequence[Person2D]) -> NDArray[np.float32]:
    """Return from_person of N people of one skeleton, (N, 9, 3). Raises ValueError for several skeletons."""
    if not people:
        return np.zeros((0, len(ATTRIBUTE_JOINTS), 3), dtype=np.float32)
    return probabilities(seen_distances(people)).astype(np.float32)


def seen_distances(people: Sequence[Person2D]) -> Floats:
    """Return the signed distances (N, 9) in trunk lengths that rays and relative depth of N people amount to.

    Perspective, but for the person's own distance, which is not needed: a joint lies on its ray, farther away than the
    middle of the hips by the share of that distance which its relative depth makes. The head is the middle of the
    ears, the pelvis that of the hips. NaN where not known. Raises ValueError for people of several skeletons.
    """
    skeleton = people[0].skeleton
    if any(person.skeleton is not skeleton for person in people):
        raise ValueError('the people of one image must have one skeleton')
    chosen = _landmarks(skeleton)
    if chosen is None:
        return np.full((len(people), len(ATTRIBUTE_JOINTS)), np.nan)
    pixels = np.array([person.pixels for person in people])[:, chosen[:4]]
    depth = np.array([person.depth for person in people])[:, chosen, None]
    points = np.ones((len(people), len(chosen), 3))
    points[..., :2] = np.array([person.rays for person in people])[:, chosen]
    # Seen by a camera turned straight towards the hips, 1 away: first all joints on its image plane, then in depth.
    hips = 0.5 * (points[:, 2] + points[:, 3])
    square = _squared(hips)
    points *= square[:, None, None] / (points @ hips[:, :, None])
    on_image = np.maximum(_squared(_DIAGONALS @ pixels), 1e-9)
    per_px = np.sqrt(_squared(_DIAGONALS @ points[:, :4]) / (on_image * square))
    points *= 1.0 + per_px[:, None, None] * depth
    middles = 0.5 * (points[:, 2:6:2] + points[:, 3:6:2])  # of hips and ears: pelvis and head
    distances, trunk = _measure(np.concatenate([points[:, :4], middles, points[:, 6:]], axis=1))
    trunk[[person.swapped for person in people]] = np.nan
    return np.asarray(distances / trunk[:, None])


def probabilities(distances: ArrayLike, calibration: Mapping[str, Ordinal] | None = None) -> Floats:
    """Return probabilities (..., 9, 3) of front, back, on-plane for a detector's distances (..., 9) in trunk lengths.

    They add up to 1, or are all 0 where the distance is NaN. calibration: of each kind of joint; None: CALIBRATION.
    """
    values = np.asarray(distances, dtype=np.float64)
    gain, offset = _SHIPPED if calibration is None else _odds(calibration)
    known = np.isfinite(values)[..., None]
    found = np.empty((*values.shape, 3))
    odds = np.where(known, values[..., None], 0.0) * gain + offset
    found[..., :ON_PLANE] = 0.5 + 0.5 * np.tanh(0.5 * odds)  # the logistic function, without overflow
    found[..., ON_PLANE] = 1.0 - found[..., FRONT] - found[..., BACK]
    return found * known


def _measure(points: Floats) -> tuple[Floats, Floats]:
    """Return signed distances (..., 9) and the trunk's length (...,) of PLANE_JOINTS and ATTRIBUTE_JOINTS (..., 14, 3).
    """
    seen = np.asarray(np.isfinite(points).all(axis=-1))
    made = _MADE @ np.where(seen[..., None], points, 0.0)
    spread, up, left = made[..., :5, :], made[..., 14, :], made[..., 15, :]
    # The plane of least squared distances is square to the direction in which the points spread least.
    values, vectors = np.linalg.eigh(spread.swapaxes(-1, -2) @ spread)
    normal = vectors[..., 0]
    # Out of the chest: leftward x upward.
    chest = left[..., _NEXT] * up[..., _AFTER] - left[..., _AFTER] * up[..., _NEXT]
    along = (normal * chest).sum(axis=-1)
    high = (up * up).sum(axis=-1)
    known = (seen[..., :5].all(axis=-1) & (values[..., 1] > _LEAST_WIDTH ** 2 * values[..., 2])
             & (along * along > _LEAST_COSINE ** 2 * np.maximum((chest * chest).sum(axis=-1), high * values[..., 1])))
    distances = (made[..., 5:14, :] @ (np.sign(along)[..., None] * normal)[..., None])[..., 0]
    return (np.where(known[..., None] & seen[..., 5:], distances, np.nan), np.where(known, np.sqrt(high), np.nan))


def _squared(values: Floats) -> Floats:
    """Return the sum of squares (N,) of arrays (N, ...)."""
    return np.asarray(np.einsum('ni,ni->n', flat := values.reshape(len(values), -1), flat))


def _made() -> Floats:
    """Return the matrix (16, 14) that makes of PLANE_JOINTS and ATTRIBUTE_JOINTS: all of them against the middle of
    the first five, then the vector up the trunk and one to its left."""
    matrix = np.zeros((16, 14))
    matrix[:14] = np.eye(14)
    matrix[:14, :5] -= 0.2
    matrix[14, :4] = 0.5, 0.5, -0.5, -0.5
    matrix[15, :4] = 1, -1, 1, -1
    return matrix


def _odds(calibration: Mapping[str, Ordinal]) -> tuple[Floats, Floats]:
    """Return factors and offsets (9, 2) that make log-odds of front and of back of a distance."""
    rows = np.array([[(of.slope, -of.slope), (-of.slope * of.front, of.slope * of.back)]
                     for of in (calibration[kind] for kind in KINDS)])[KIND_OF]
    return rows[:, 0], rows[:, 1]


@lru_cache(maxsize=8)
def _landmarks(skeleton: Skeleton) -> NDArray[np.intp] | None:
    """Return where shoulders, hips, ears and limbs are (14,), None where the skeleton lacks one."""
    needed = (*PLANE_JOINTS[:4], 'left_ear', 'right_ear', *ATTRIBUTE_JOINTS[1:])
    return skeleton.indices(needed) if set(needed) <= set(skeleton.joints) else None


_HUMAN17 = HUMAN17.indices(PLANE_JOINTS + ATTRIBUTE_JOINTS)
_MADE = _made()
_NEXT, _AFTER = np.array([1, 2, 0]), np.array([2, 0, 1])
# Of shoulders and hips: the diagonals of the trunk, of which one at least is never seen end on.
_DIAGONALS = np.array([[1.0, 0, 0, -1], [0, 1, -1, 0]])
_SHIPPED = _odds(CALIBRATION)
