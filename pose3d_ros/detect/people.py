"""From what a network of joints says to people: which regions hold one, and which are the same one."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.camera import Camera
from pose3d_ros.detect.finds import box_overlap
from pose3d_ros.detect.poses import Poses
from pose3d_ros.records import Person2D
from pose3d_ros.skeleton import LIMBS12, Skeleton

# Joints by which bodies are told apart, as far as a skeleton has them.
_BODY = ('nose', *LIMBS12.joints)
_TOLERANCE = 0.12  # of half a body's height: distance at which the same joint of two people agrees to exp(-1/2)
_SAME_BOX = 0.75   # overlap from which two boxes hold one person, whatever the joints say
_CLAIMED = 0.6     # share of a newcomer's body on another's bones from which it is a part of the other
_FAVOUR = 0.1      # by which the confidence of somebody followed counts for more than that of a newcomer
_CONFIDENT = 0.5   # confidence from which a joint counts as seen
_LEAST_JOINTS = 6  # joints in the image that it takes to tell a person; half of them where a skeleton has few


def in_image(pixels: NDArray, width: int, height: int) -> NDArray[np.bool_]:
    """Return which pixels (..., 2) lie on the image: within half a pixel of a pixel's centre."""
    return np.asarray(((pixels >= -0.5) & (pixels < [width - 0.5, height - 0.5])).all(axis=-1))


def shown(poses: Poses, width: int, height: int) -> NDArray[np.bool_]:
    """Return which joints (N, J) the image shows: in it, and of some confidence; what has none is not known at all."""
    return in_image(poses.pixels, width, height) & (poses.confidence > 0.0)


def boxes(poses: Poses, width: int, height: int) -> NDArray[np.float64]:
    """Return the boxes (N, 4) about the confident joints in the image (about all shown if none is), clipped to it."""
    inside = shown(poses, width, height)
    seen = inside & (poses.confidence >= _CONFIDENT)
    chosen = np.where(seen.any(axis=1, keepdims=True), seen, inside)[..., None]
    low = np.where(chosen, poses.pixels, np.inf).min(axis=1)
    high = np.where(chosen, poses.pixels, -np.inf).max(axis=1)
    edge = np.array([width, height]) - 0.5
    found = np.concatenate([np.clip(low, -0.5, edge), np.clip(high, -0.5, edge)], axis=1)
    return np.where(chosen.any(axis=1), found, 0.0)


def are_people(poses: Poses, least_presence: NDArray, least_confidence: NDArray, width: int,
               height: int) -> NDArray[np.bool_]:
    """Return which regions (N,) hold a person: present, and with enough joints in the image, sure on average."""
    inside = shown(poses, width, height)
    mean = (poses.confidence * inside).sum(axis=1) / np.maximum(inside.sum(axis=1), 1)
    enough = min(_LEAST_JOINTS, (inside.shape[1] + 1) // 2)
    return (poses.person >= least_presence) & (mean >= least_confidence) & (inside.sum(axis=1) >= enough)


def similarity(poses: Poses, skeleton: Skeleton) -> NDArray[np.float64]:
    """Return how well the bodies agree, (N, N) in 0..1: object key point similarity on nose and limbs (on all joints
    where the skeleton has none of them).

    As in the COCO key point task, exp(-d^2 / 2 (k s)^2) averaged over joints, here weighted by confidence, s being half
    the body's height in px. A body that agrees with the mirror image of another is taken as the same: the network
    mistakes a back for a front.
    """
    sure, body = poses.confidence, _body(skeleton)
    weights = sure[:, None, body] * sure[None, :, body]
    size = poses.circles()[:, 2]
    reach = _TOLERANCE * np.sqrt(size[:, None] * size[None, :])

    def agreement(other: NDArray) -> NDArray[np.float64]:
        squared = ((poses.pixels[:, None, body] - poses.pixels[None][:, :, other]) ** 2).sum(axis=-1)
        close = np.exp(-squared / (2.0 * reach[..., None] ** 2))
        return (weights * close).sum(axis=-1) / np.maximum(weights.sum(axis=-1), 1e-9)

    return np.maximum(agreement(body), agreement(skeleton.mirror[body]))


@lru_cache(maxsize=8)
def _body(skeleton: Skeleton) -> NDArray[np.intp]:
    named = [joint for joint in _BODY if joint in skeleton.joints]
    return skeleton.indices(named or skeleton.joints)


def claimed(parts: Poses, bodies: Poses, skeleton: Skeleton) -> NDArray[np.float64]:
    """Return how much of each of N parts lies on the bones of each of M bodies, (N, M) in 0..1, by confidence.

    The search also finds parts of people, and the network fits a whole, crooked body to a pair of feet or a chest.
    Nothing where the skeleton has no bones.
    """
    if not len(skeleton.bones):
        return np.zeros((len(parts), len(bodies)))
    joints = parts.pixels[:, None, :, None]
    starts, ends = (bodies.pixels[None, :, None, skeleton.bone_indices[:, end]] for end in (0, 1))
    along = ends - starts
    length = np.maximum((along ** 2).sum(axis=-1), 1e-9)
    nearest = starts + np.clip(((joints - starts) * along).sum(axis=-1) / length, 0.0, 1.0)[..., None] * along
    distance = np.linalg.norm(joints - nearest, axis=-1).min(axis=-1)
    weights = parts.confidence[:, None]
    on_bones = distance <= _TOLERANCE * bodies.circles()[:, 2][None, :, None]
    return (weights * on_bones).sum(axis=-1) / np.maximum(weights.sum(axis=-1), 1e-9)


def without_duplicates(poses: Poses, skeleton: Skeleton, known: NDArray, least: float, width: int,
                       height: int) -> NDArray[np.intp]:
    """Return which of N regions to keep, so that no two show the same person; in ascending order.

    known (N,) bool: followed already; preferred to newcomers, unless these are much better. least: the similarity from
    which two are one. A newcomer is also dropped when most of it lies on the bones of a better one.
    """
    if len(poses) < 2:
        return np.arange(len(poses))
    outlines = boxes(poses, width, height)
    same = (similarity(poses, skeleton) >= least) | (box_overlap(outlines, outlines) >= _SAME_BOX)
    same[~known] |= claimed(poses[~known], poses, skeleton) >= _CLAIMED
    quality = poses.person * poses.confidence.mean(axis=1) + _FAVOUR * known
    kept: list[int] = []
    for candidate in np.argsort(-quality, kind='stable'):
        if not same[candidate, kept].any():
            kept.append(int(candidate))
    return np.array(sorted(kept), dtype=np.intp)


def to_people(poses: Poses, skeleton: Skeleton, camera: Camera) -> list[Person2D]:
    """Return the records, most confident first. A joint that the image does not show is NaN in everything."""
    outside = ~shown(poses, camera.width, camera.height)
    pixels = np.where(outside[..., None], np.nan, poses.pixels)
    rays = camera.undistort(pixels)
    spread, sure, depth = (np.where(outside, np.nan, values)
                           for values in (poses.sigma, poses.confidence, poses.depth))
    outlines = boxes(poses, camera.width, camera.height)
    told = np.asarray(np.isfinite(poses.attributes).all(axis=(1, 2)))
    return [Person2D(skeleton=skeleton, pixels=pixels[i], rays=rays[i], sigma=spread[i], joint_confidence=sure[i],
                     depth=depth[i], box=outlines[i], confidence=float(poses.person[i]),
                     attributes=poses.attributes[i] if told[i] else None)
            for i in np.argsort(-poses.person, kind='stable')]
