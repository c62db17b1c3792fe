"""From what the landmark network says to people: which regions hold one, which are the same one, and how sure it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.camera import Camera
from pose3d_ros.detect.blazepose import JOINTS, Poses
from pose3d_ros.detect.finds import box_overlap
from pose3d_ros.records import Person2D
from pose3d_ros.skeleton import BLAZEPOSE33, LIMBS12

_BODY = BLAZEPOSE33.indices(['nose', *LIMBS12.joints])
_TOLERANCE = 0.12  # of half a body's height: distance at which the same joint of two people agrees to exp(-1/2)
_SAME_BOX = 0.75   # overlap from which two boxes hold one person, whatever the joints say
_CLAIMED = 0.6     # share of a newcomer's body on another's bones from which it is a part of the other
_FAVOUR = 0.1      # by which the confidence of somebody followed counts for more than that of a newcomer
_CONFIDENT = 0.5   # confidence from which a joint counts as seen
_LEAST_JOINTS = 6  # joints in the image that it takes to tell a person


def confidence(poses: Poses) -> NDArray[np.float64]:
    """Return how sure each joint is, (N, 33) in 0..1: the probability that it is within 6 px of the crop (about 5 cm).

    A logistic fit to triangulated joints of the sample footage (lite, full and heavy together), lowered for joints that
    the network calls hidden, of which the footage has few.
    """
    odds, spread = _heat(poses)
    right = 1.0 / (1.0 + np.exp(-(1.61 + 1.5 * np.log(odds) - 2.57 * np.log(spread))))
    return right * poses.visibility[:, :JOINTS] ** 0.25


def sigma(poses: Poses) -> NDArray[np.float64]:
    """Return the standard deviation of each joint's coordinates, (N, 33) px of the image.

    A maximum likelihood fit (Student's t, so that gross errors count little) to the same joints; for those within three
    sigma, the root mean square of error over sigma is 0.98 (lite), 1.02 (full), 1.09 (heavy).
    """
    odds, spread = _heat(poses)
    return 2.87 * odds ** -0.41 * spread ** 1.74 * poses.scale[:, None]


def _heat(poses: Poses) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what tells a good joint: the odds of its peak, and the heat's spread, 1 where usual; both (N, 33)."""
    peak = np.clip(poses.peak[:, :JOINTS], 0.02, 0.98)
    return peak / (1.0 - peak), np.clip(poses.spread[:, :JOINTS] / (poses.scale[:, None] * 3.5), 0.4, 2.3)


def in_image(pixels: NDArray, width: int, height: int) -> NDArray[np.bool_]:
    """Return which pixels (..., 2) lie on the image: within half a pixel of a pixel's centre."""
    return np.asarray(((pixels >= -0.5) & (pixels < [width - 0.5, height - 0.5])).all(axis=-1))


def boxes(poses: Poses, width: int, height: int) -> NDArray[np.float64]:
    """Return the boxes (N, 4) about the confident joints in the image (about all in it if none is), clipped to it."""
    inside = in_image(poses.pixels[:, :JOINTS], width, height)
    seen = inside & (confidence(poses) >= _CONFIDENT)
    chosen = np.where(seen.any(axis=1, keepdims=True), seen, inside)[..., None]
    pixels = poses.pixels[:, :JOINTS]
    low = np.where(chosen, pixels, np.inf).min(axis=1)
    high = np.where(chosen, pixels, -np.inf).max(axis=1)
    edge = np.array([width, height]) - 0.5
    found = np.concatenate([np.clip(low, -0.5, edge), np.clip(high, -0.5, edge)], axis=1)
    return np.where(chosen.any(axis=1), found, 0.0)


def are_people(poses: Poses, least_presence: NDArray, least_confidence: NDArray, width: int,
               height: int) -> NDArray[np.bool_]:
    """Return which regions (N,) hold a person: present, and with enough joints in the image, sure on average."""
    inside = in_image(poses.pixels[:, :JOINTS], width, height)
    mean = (confidence(poses) * inside).sum(axis=1) / np.maximum(inside.sum(axis=1), 1)
    return (poses.person >= least_presence) & (mean >= least_confidence) & (inside.sum(axis=1) >= _LEAST_JOINTS)


def similarity(poses: Poses) -> NDArray[np.float64]:
    """Return how well the bodies agree, (N, N) in 0..1: object key point similarity on nose and limbs.

    As in the COCO key point task, exp(-d^2 / 2 (k s)^2) averaged over joints, here weighted by confidence, s being half
    the body's height in px. A body that agrees with the mirror image of another is taken as the same: the network
    mistakes a back for a front.
    """
    sure = confidence(poses)
    weights = sure[:, None, _BODY] * sure[None, :, _BODY]
    size = poses.circles()[:, 2]
    reach = _TOLERANCE * np.sqrt(size[:, None] * size[None, :])

    def agreement(other: NDArray) -> NDArray[np.float64]:
        squared = ((poses.pixels[:, None, _BODY] - poses.pixels[None][:, :, other]) ** 2).sum(axis=-1)
        close = np.exp(-squared / (2.0 * reach[..., None] ** 2))
        return (weights * close).sum(axis=-1) / np.maximum(weights.sum(axis=-1), 1e-9)

    return np.maximum(agreement(_BODY), agreement(BLAZEPOSE33.mirror[_BODY]))


def claimed(parts: Poses, bodies: Poses) -> NDArray[np.float64]:
    """Return how much of each of N parts lies on the bones of each of M bodies, (N, M) in 0..1, by confidence.

    The search also finds parts of people, and the network fits a whole, crooked body to a pair of feet or a chest.
    """
    joints = parts.pixels[:, None, :JOINTS, None]
    starts, ends = (bodies.pixels[None, :, None, BLAZEPOSE33.bone_indices[:, end]] for end in (0, 1))
    along = ends - starts
    length = np.maximum((along ** 2).sum(axis=-1), 1e-9)
    nearest = starts + np.clip(((joints - starts) * along).sum(axis=-1) / length, 0.0, 1.0)[..., None] * along
    distance = np.linalg.norm(joints - nearest, axis=-1).min(axis=-1)
    weights = confidence(parts)[:, None]
    on_bones = distance <= _TOLERANCE * bodies.circles()[:, 2][None, :, None]
    return (weights * on_bones).sum(axis=-1) / np.maximum(weights.sum(axis=-1), 1e-9)


def without_duplicates(poses: Poses, known: NDArray, least: float, width: int, height: int) -> NDArray[np.intp]:
    """Return which of N regions to keep, so that no two show the same person; in ascending order.

    known (N,) bool: followed already; preferred to newcomers, unless these are much better. least: the similarity from
    which two are one. A newcomer is also dropped when most of it lies on the bones of a better one.
    """
    if len(poses) < 2:
        return np.arange(len(poses))
    outlines = boxes(poses, width, height)
    same = (similarity(poses) >= least) | (box_overlap(outlines, outlines) >= _SAME_BOX)
    same[~known] |= claimed(poses[~known], poses) >= _CLAIMED
    quality = poses.person * confidence(poses).mean(axis=1) + _FAVOUR * known
    kept: list[int] = []
    for candidate in np.argsort(-quality, kind='stable'):
        if not same[candidate, kept].any():
            kept.append(int(candidate))
    return np.array(sorted(kept), dtype=np.intp)


def to_people(poses: Poses, camera: Camera) -> list[Person2D]:
    """Return the records, most confident first. A joint out of the image is NaN throughout, with confidence too."""
    outside = ~in_image(poses.pixels[:, :JOINTS], camera.width, camera.height)
    pixels = np.where(outside[..., None], np.nan, poses.pixels[:, :JOINTS])
    rays = camera.undistort(pixels)
    spread, sure, depth = (np.where(outside, np.nan, values)
                           for values in (sigma(poses), confidence(poses), poses.depth[:, :JOINTS]))
    outlines = boxes(poses, camera.width, camera.height)
    return [Person2D(skeleton=BLAZEPOSE33, pixels=pixels[i], rays=rays[i], sigma=spread[i], joint_confidence=sure[i],
                     depth=depth[i], box=outlines[i], confidence=float(poses.person[i]))
            for i in np.argsort(-poses.person, kind='stable')]
