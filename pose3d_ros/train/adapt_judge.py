"""Whether an adapted lifter is better than the one before: cross-view errors on a part that nothing was learnt from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from pose3d_ros.lift import INPUTS, input_points
from pose3d_ros.nets.window import WindowLifter
from pose3d_ros.train.adapt_geometry import Unlifted, coverage, pixels_off, unlifted
from pose3d_ros.train.adapt_statures import Statures
from pose3d_ros.train.site import SiteRecording

SURE = 0.95             # of the improvement being one
LEAST_BLOCKS = 4
LEAST_GAIN = 0.01       # of the error, below which an improvement is not worth another file
BLOCK_S = (0.2, 3.0)    # s, how long a block of time is at least, and at most
BLOCKS = 12             # that are wanted
SHARE = 0.9
_HIPS = [INPUTS.index('left_hip'), INPUTS.index('right_hip')]


@dataclass(frozen=True)
class Verdict:
    """blocks: start [s], errors before and after [px], samples of each; change, margin [px]: the mean difference of the
    blocks (negative: better) and how much it may be off; better: whether it is an improvement beyond chance."""

    blocks: list[dict[str, float]]
    change: float
    margin: float
    better: bool


def errors_px(joints: NDArray, site: SiteRecording) -> NDArray[np.float64]:
    """Return for each sample (N,) the median distance in pixels of joints (N, 17, 3) m from what other cameras saw."""
    return np.asarray(np.nanmedian(pixels_off(joints, site).reshape(len(site), -1), axis=1))


def compare(before: NDArray, after: NDArray, site: SiteRecording) -> Verdict:
    """Return whether errors (N,) after are below those before, by blocks of time.

    Samples of one moment, and of moments near to each other, err alike; blocks much less so. Their differences are
    taken to be independent (a paired t test, one-sided).
    """
    seconds = (site.stamp_ns - site.stamp_ns.min()) * 1e-9
    length = float(np.clip(site.seconds / BLOCKS, *BLOCK_S))
    number = np.floor(seconds / length).astype(np.intp)
    blocks = [{'start_s': float(block * length), 'before_px': float(before[number == block].mean()),
               'after_px': float(after[number == block].mean()), 'samples': int((number == block).sum())}
              for block in np.unique(number)]
    difference = np.array([block['after_px'] - block['before_px'] for block in blocks])
    count = len(blocks)
    if count < LEAST_BLOCKS:
        return Verdict(blocks, float(difference.mean()), float('inf'), False)
    margin = float(student.ppf(SURE, count - 1) * difference.std(ddof=1) / np.sqrt(count))
    change = float(difference.mean())
    return Verdict(blocks, change, margin, change + margin < 0 and change < -LEAST_GAIN * float(before.mean()))


def reason_of(result: dict[str, dict[str, float]], verdict: Verdict, step: int) -> str:
    """Return why the result is kept or thrown away, with the figures that decided it."""
    before, after = (result[name]['crossview_px'] for name in ('before', 'after'))
    told = (f'on the part held out, people lie {after:.1f} px from where the other cameras saw them, '
            f'{before:.1f} px before')
    if math.isfinite(verdict.margin):
        told += (f'; over {len(verdict.blocks)} stretches of time, each counting alike, the change is '
                 f'{verdict.change:+.1f} px, sure to {verdict.margin:.1f} px')
    if verdict.better:
        return told if step else f'{told}; the weights stay, the stature that is assumed changes'
    why = ('that part is too short to tell' if not math.isfinite(verdict.margin) else
           'that is none to the better' if verdict.change >= 0 else
           'chance may do as much' if verdict.change + verdict.margin >= 0 else
           'that is too little to be worth another file')
    return f'{told}: {why}, so the lifter stays as it was'


def figures_of(joints: NDArray, reference: NDArray, site: SiteRecording) -> dict[str, float]:
    """Return the errors of joints (N, 17, 3) m, in pixels across views and in mm against reference (N, 13, 3) m."""
    off = pixels_off(joints, site)
    points = input_points() @ joints
    root, truth = points[:, _HIPS].mean(axis=1), reference[:, _HIPS].mean(axis=1)
    bent = np.linalg.norm(points - root[:, None] - (reference - truth[:, None]), axis=-1)
    return {'crossview_px': float(np.nanmean(errors_px(joints, site))),
            'crossview_median_px': float(np.nanmedian(off)), 'crossview_mean_px': float(np.nanmean(off)),
            'reference_mrpe_mm': 1e3 * _mean(np.linalg.norm(root - truth, axis=-1)),
            'reference_mpjpe_mm': 1e3 * _mean(bent)}


def per_camera(before: NDArray, after: NDArray, site: SiteRecording) -> dict[str, dict[str, float]]:
    """Return the mean errors of each camera's people by its name, of errors (N,) before and after [px]."""
    return {name: {'before_px': _mean(before[site.camera == camera]), 'after_px': _mean(after[site.camera == camera])}
            for camera, name in enumerate(site.cameras) if (site.camera == camera).any()}


def fitting_trust(network: WindowLifter, said: Unlifted, site: SiteRecording, people: Statures) -> float:
    """Return the trust with which 90 % ellipses hold 90 % of what other cameras saw, the statures being known.

    At most a fifth below the network's own, which comes of many more people: a short recording may be an easy one.
    """
    stature, sigma = people.of_samples(), people.sigma_of_samples()
    own = float(network.trust)
    low, high = 0.8 * own, 10 * own
    if coverage(said, site, stature, sigma, low) >= SHARE:
        return low
    for _ in range(10):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if coverage(said, site, stature, sigma, middle) < SHARE else (low, middle)
    return high


def covered(network: WindowLifter, site: SiteRecording, stature: tuple[float, float]) -> float:
    """Return the share of 90 % ellipses that hold what other cameras saw, with a stature assumed (mean, deviation)."""
    count = len(site)
    return coverage(unlifted(network, site), site, np.full(count, stature[0]), np.full(count, stature[1]),
                    float(network.trust))


def _mean(values: NDArray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float('nan')
