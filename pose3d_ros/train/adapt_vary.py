"""The samples of a site as a loss takes them, and more than its cameras saw: varied in ways that leave them true."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.lift import INPUTS, enough_seen
from pose3d_ros.skeleton import mirrored
from pose3d_ros.train.adapt_geometry import between
from pose3d_ros.train.adapt_statures import Statures
from pose3d_ros.train.site import SiteRecording

MIRRORED = 0.5      # chance of the mirror image of the site
ALONE = 0.15        # of a window without a past
SHORTENED = 0.25    # of one that lacks the older part
HIDDEN = 0.05       # of a joint not to be shown
JITTER = 0.5        # sigmas that what is shown is moved by, each joint of the body alike in all frames of the window
_OTHER_SIDE = [INPUTS.index(mirrored(joint)) for joint in INPUTS]
_FLIP = np.array([-1, 1, 1, 1], np.float32)


def site_arrays(site: SiteRecording, people: Statures) -> dict[str, NDArray]:
    """Return what the loss takes of every sample."""
    own = np.zeros((*site.seen_confidence.shape[:2], 1), np.float32)
    own[np.arange(len(site)), site.camera] = 1
    return {'rays': site.rays, 'confidence': site.confidence, 'age': site.age, 'up': site.up,
            'landmarks': site.landmarks, 'person': people.person, 'others_T_own': between(site),
            'seen_rays': site.seen_rays, 'seen_sigma': site.seen_sigma, 'weight': site.seen_confidence, 'is_own': own}


def varied(batch: dict[str, NDArray], rng: np.random.Generator) -> dict[str, NDArray]:
    """Return a batch of samples (see site_arrays) with less of the past, fewer joints, other errors, mirrored.

    Only what the lifter is shown loses or gains errors; what it is compared with stays.
    """
    batch = _mirrored(batch, rng.random(len(batch['rays'])) < MIRRORED)
    confidence = batch['confidence'].copy()
    count, frames = confidence.shape[:2]
    kind = rng.random((count, 1))
    length = np.where(kind < ALONE, 1, np.where(kind < ALONE + SHORTENED, rng.integers(2, frames, (count, 1)), frames))
    confidence[np.arange(frames) >= length] = 0
    kept = np.where(rng.random((count, 1, len(INPUTS))) < HIDDEN, np.float32(0), confidence)
    enough = enough_seen(kept[:, 0])
    confidence[enough] = kept[enough]
    own = (batch['seen_sigma'] * batch['is_own']).sum(axis=1)
    noise = JITTER * own[:, None, :, None] * rng.standard_normal((count, 1, len(INPUTS), 2), dtype=np.float32)
    shown = (confidence > 0)[..., None]
    return {**batch, 'confidence': confidence, 'rays': np.where(shown, batch['rays'] + noise, np.float32(0))}


def _mirrored(batch: dict[str, NDArray], chosen: NDArray) -> dict[str, NDArray]:
    """Return the batch with some samples (B,) as they would be in a site mirrored left to right."""
    def flipped(name: str, *, joints: bool, flip: NDArray | None) -> NDArray:
        value = batch[name]
        other = value[..., _OTHER_SIDE, :] if joints and flip is not None else (
            value[..., _OTHER_SIDE] if joints else value)
        other = other if flip is None else other * flip
        return np.where(chosen.reshape(-1, *[1] * (value.ndim - 1)), other, value)

    return {**batch, 'rays': flipped('rays', joints=True, flip=_FLIP[:2]),
            'seen_rays': flipped('seen_rays', joints=True, flip=_FLIP[:2]),
            'confidence': flipped('confidence', joints=True, flip=None),
            'seen_sigma': flipped('seen_sigma', joints=True, flip=None),
            'weight': flipped('weight', joints=True, flip=None), 'up': flipped('up', joints=False, flip=_FLIP[:3]),
            'others_T_own': flipped('others_T_own', joints=False, flip=_FLIP[:, None] * _FLIP)}
