"""How good the lifter's people are: figures of groups of samples, by distance, by what is seen of them, by view."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.lift import INPUTS
from pose3d_ros.skeleton import HUMAN17, LIMBS12
from pose3d_ros.train.metrics import auc, coverage, joint_errors, mpjpe, mrpe, mrpe_axes, nees, pa_mpjpe, pck
from pose3d_ros.train.samples import Samples

FARTHEST = 10             # m: the last distance band, of one metre like all others, ends here
FRONT, BACK = 45.0, 135.0  # degrees between the way the chest points and the way to the camera
# Height [m] of the lower ankle of somebody who stands, for a stature of 1.7 m; between them lie the recordings' own
# differences from clip to clip.
ANKLE_ON_FLOOR = (0.02, 0.14)

_ARMS = tuple(f'{side}_{joint}' for joint in ('shoulder', 'elbow', 'wrist') for side in ('left', 'right'))
_HIPS = ('left_hip', 'right_hip')
# What an obstacle leaves of a person, by input joint.
SHOWN: dict[str, tuple[str, ...]] = {
    'all': INPUTS,
    'hips_and_up': (*_ARMS, *_HIPS, 'ears'),
    'upper_half': (*_ARMS, 'ears'),
    'head_and_shoulders': (*_ARMS[:4], 'ears'),
    'one_side': tuple(joint for joint in INPUTS if not joint.startswith('left_')),
}
_LIMBS = [INPUTS.index(joint) for joint in LIMBS12.joints]
_ANKLES = [INPUTS.index(f'{side}_ankle') for side in ('left', 'right')]


@dataclass(frozen=True)
class Outcome:
    """What the lifter said of N people and what was true.

    position (N, 17, 3) m, covariance (N, 17, 3, 3) m^2, truth (N, 17, 3) m: absolute, in the optical frame.
    """

    position: NDArray[np.float64]
    covariance: NDArray[np.float64]
    truth: NDArray[np.float64]

    def where(self, chosen: NDArray) -> Outcome:
        """Return the people chosen, by mask or index."""
        return Outcome(self.position[chosen], self.covariance[chosen], self.truth[chosen])

    @property
    def error(self) -> NDArray[np.float64]:
        """The errors of the absolute positions (N, 17, 3) m."""
        return self.position - self.truth

    def joints_inside(self, share: float, joints: NDArray | None = None) -> float:
        """Return the share of the joints (those of a mask (N, 17), if given) inside their ellipsoid for `share`."""
        chosen = np.ones(self.position.shape[:2], dtype=np.bool_) if joints is None else joints
        return coverage(self.error[chosen], self.covariance[chosen], share)

    def accuracy(self) -> dict[str, float]:
        """Return the errors of pose and root in mm, the shares of 3DPCK and AUC; NaN for nobody."""
        x, y, z = 1e3 * mrpe_axes(self.position[:, 0], self.truth[:, 0])
        return {
            'n': len(self.position),
            'mpjpe_mm': 1e3 * mpjpe(self.position, self.truth),
            'pa_mpjpe_mm': 1e3 * pa_mpjpe(self.position, self.truth),
            'pck_150': pck(self.position, self.truth),
            'auc': auc(self.position, self.truth),
            'mrpe_mm': 1e3 * mrpe(self.position[:, 0], self.truth[:, 0]),
            'mrpe_x_mm': x, 'mrpe_y_mm': y, 'mrpe_z_mm': z,
        }

    def calibration(self) -> dict[str, float]:
        """Return how far the covariances can be trusted, and the shape of the root's.

        coverage_P: share of the joints inside the ellipsoid for P %; nees: 1 would be right. root_along_mm,
        root_across_mm: one standard deviation of the root along its ray and across it, as promised (median);
        root_error_along_mm, root_error_across_mm: the errors themselves, root of their mean squares (across: per axis).
        """
        root, covariance, error = self.position[:, 0], self.covariance[:, 0], self.error[:, 0]
        ray = root / np.linalg.norm(root, axis=-1, keepdims=True)
        along = np.einsum('ni,nij,nj->n', ray, covariance, ray)
        across = (np.trace(covariance, axis1=1, axis2=2) - along) / 2
        off = (error * ray).sum(axis=-1)
        return {
            **{f'coverage_{round(100 * share)}': self.joints_inside(share) for share in (0.5, 0.9, 0.95)},
            'nees': nees(self.error, self.covariance),
            'root_coverage_90': coverage(error, covariance),
            'root_along_mm': 1e3 * _median(np.sqrt(along)),
            'root_across_mm': 1e3 * _median(np.sqrt(across)),
            'root_error_along_mm': 1e3 * _rms(off),
            'root_error_across_mm': 1e3 * _rms(np.sqrt(((error ** 2).sum(axis=-1) - off ** 2).clip(min=0) / 2)),
        }

    def figures(self) -> dict[str, float]:
        """Return accuracy and calibration."""
        return self.accuracy() | self.calibration()


def whole_body(samples: Samples) -> NDArray[np.bool_]:
    """Return whose (N,) twelve limb joints are all seen in the newest frame."""
    return np.asarray((samples.confidence[:, 0, _LIMBS] > 0).all(axis=1))


def on_the_floor(samples: Samples) -> NDArray[np.bool_]:
    """Return who (N,) stands: whose lower ankle is seen, and is where ankles of people who stand on the floor are."""
    height = (samples.points @ samples.up[..., None])[..., 0] + samples.camera_height[:, None]
    ankles = height[:, HUMAN17.indices(['left_ankle', 'right_ankle'])]
    lower = ankles.argmin(axis=1)[:, None]
    seen = np.take_along_axis(samples.confidence[:, 0, _ANKLES], lower, axis=1)[:, 0] > 0
    low, high = (bound * samples.stature / 1.7 for bound in ANKLE_ON_FLOOR)
    lowest = ankles.min(axis=1)
    return np.asarray(seen & (lowest > low) & (lowest < high))


def shown(samples: Samples, part: str) -> Samples:
    """Return the same people with all joints hidden, in every frame, but those of a part in SHOWN."""
    hidden = np.array([joint not in SHOWN[part] for joint in INPUTS])
    return replace(samples, rays=np.where(hidden[:, None], np.float32(0), samples.rays),
                   confidence=np.where(hidden, np.float32(0), samples.confidence))


def single_frame(samples: Samples) -> Samples:
    """Return the same people without their past."""
    past = np.arange(samples.confidence.shape[1]) > 0
    return replace(samples, confidence=np.where(past[:, None], np.float32(0), samples.confidence))


def by_distance(truth: NDArray) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield name and members (N,) of bands of one metre, by the distance of the pelvis; the last is open."""
    distance = np.linalg.norm(truth[:, 0], axis=-1)
    for near in range(FARTHEST):
        last = near == FARTHEST - 1
        yield (f'under_{near + 1}_m' if not near else f'{near}_to_{near + 1}_m',
               (distance >= near) & ((distance < near + 1) | last))


def by_view(truth: NDArray) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield name and members (N,) of the sides from which people are seen."""
    angle = facing_angle(truth)
    yield 'front', angle < FRONT
    yield 'side', (angle >= FRONT) & (angle <= BACK)
    yield 'back', angle > BACK


def facing_angle(truth: NDArray) -> NDArray[np.float64]:
    """Return the angle (N,) in degrees 0..180 between the way people's chests point and the way to the camera.

    Measured about the trunk's long axis: 0 seen from the front, 90 from a side, 180 from behind. truth (N, 17, 3) m.
    """
    def at(joint: str) -> NDArray:
        return np.asarray(truth[:, HUMAN17.index(joint)], dtype=np.float64)

    up = at('thorax') - at('pelvis')
    up /= np.linalg.norm(up, axis=-1, keepdims=True)
    leftward = at('left_shoulder') - at('right_shoulder') + at('left_hip') - at('right_hip')
    chest, camera = np.cross(leftward, up), -at('pelvis')
    camera = camera - (camera * up).sum(axis=-1, keepdims=True) * up
    norms = np.linalg.norm(chest, axis=-1) * np.linalg.norm(camera, axis=-1)
    return np.degrees(np.arccos(np.clip((chest * camera).sum(axis=-1) / np.maximum(norms, 1e-9), -1, 1)))


def calibration_curve(outcome: Outcome) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return promised shares (20,) and the shares of joints found inside, for a plot.

    A joint is inside the ellipsoid of a share when its squared Mahalanobis distance is below the chi-square quantile.
    """
    from scipy.stats import chi2

    from pose3d_ros.train.metrics import squared_mahalanobis

    distance = squared_mahalanobis(outcome.error, outcome.covariance)
    known = distance[np.isfinite(distance)]
    promised = np.linspace(0.05, 0.99, 20)
    return promised, np.array([(known <= quantile).mean() for quantile in chi2.ppf(promised, 3)])


def per_distance(outcome: Outcome, edges: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray]:
    """Return distances (K,) m, and MPJPE (K,) and MRPE (K,) in mm of the people between edges (K + 1,), for a plot."""
    distance = np.linalg.norm(outcome.truth[:, 0], axis=-1)
    rows = []
    for low, high in zip(edges[:-1], edges[1:]):
        chosen = (distance >= low) & (distance < high)
        if chosen.any():
            rows.append(((low + high) / 2, 1e3 * joint_errors(outcome.position[chosen], outcome.truth[chosen]).mean(),
                         1e3 * mrpe(outcome.position[chosen, 0], outcome.truth[chosen, 0])))
    x, pose, root = np.array(rows).reshape(-1, 3).T
    return x, pose, root


def _median(values: NDArray) -> float:
    return float(np.median(values)) if len(values) else float('nan')


def _rms(values: NDArray) -> float:
    return float(np.sqrt(np.mean(values ** 2))) if len(values) else float('nan')
