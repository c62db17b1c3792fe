"""What the floor says about a person: feet that stand on it tell how far away the person is, and so how tall.

One camera sees everything only up to scale. A person taken to be f times as large is f times as far away, and so are
the feet, each on its own ray; where the camera is not as low as the feet, they meet the floor at one f only. That
measures the sum of two relative errors: a, of the stature, which scales the whole person, and b, of the distance that
the lifter found for this stature, which moves the person along the ray of the pelvis and leaves the bones as they are.

Everything here is batched over N people and holds no state. The errors of a person are one vector (5,): a, b, the tilt
of the floor [rad] about two axes in it, and the error of the camera's height [m], each with expectation 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from pose3d_ros.records import GroundPlane, JointState
from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.stature import exchange

Array = NDArray[np.float64]

ANKLE_SHARE = 0.08 / 1.70   # height of the ankle joint of somebody who stands, as a share of the stature
FOOT_SIGMA = 0.025          # m: how much that differs between people, shoes, floors and moments of a step
TOGETHER = 0.03             # m: feet that differ in height by less count both, else the lower one
SURE_ANKLE = 0.5            # confidence from which an ankle is believed; detectors also guess at hidden ones
LEAST_B = 0.005             # b is never taken to be known better

# How likely feet stand on the floor, by the number of ankles seen. (In cmu_mocap17.npz without climbing, 5 % of
# the lower ankles are over 5 cm above where they stand, 1 % more than 15; of single ones a third more than 8.)
STANDS = np.array([0.0, 0.60, 0.88])
LIFTED = np.array([1.0, 0.36, 0.09])
LIFT = 0.12                 # m: mean height of feet that do not stand
ASTRAY = 0.5                # 1/m: density of heights that neither explains: stairs, a wrong floor, a wrong ankle

A, B, TILT, HEIGHT = 0, 1, slice(2, 4), 4
ERRORS = 5
_ROOT = HUMAN17.index('pelvis')
_ANKLES = HUMAN17.indices(['left_ankle', 'right_ankle'])


@dataclass(frozen=True)
class Contact:
    """What the feet of N people say: residual + jacobian @ errors + noise = 0 for those who stand on the floor.

    residual (N,) m: height of the feet above where they would rest, as the person was lifted; jacobian (N, 5) m per
    unit of each error; variance (N,) m^2 of the noise; ankles (N,): how many tell it, 0: nothing is known.
    """

    residual: Array
    jacobian: Array
    variance: Array
    ankles: NDArray[np.intp]


@dataclass(frozen=True)
class Placed:
    """People (N, ...) placed on the floor: position (N, 17, 3) m, covariance (N, 17, 3, 3) m^2, stature and its
    standard deviation (N,) m."""

    position: Array
    covariance: Array
    stature: Array
    stature_sigma: Array


def place(position: NDArray, covariance: NDArray, state: NDArray, confidence: NDArray, stature: NDArray | float,
          sigma: NDArray | float, ground: GroundPlane) -> Placed:
    """Return people with what the floor says about them in this one image.

    position (N, 17, 3) m in the optical frame, of people taken to be stature (N,) m tall, with standard deviation sigma
    (N,) m; covariance (N, 17, 3, 3) m^2 of the absolute positions, the stature's share in it; state (N, 17) of
    JointState and confidence (N, 17) in 0..1 of the joints. Only ankles that were seen themselves count. Who shows
    none comes back as before.
    """
    position, covariance = np.asarray(position, dtype=np.float64), np.asarray(covariance, dtype=np.float64)
    stature, sigma = (np.broadcast_to(np.asarray(value, dtype=np.float64), len(position)) for value in (stature, sigma))
    known = split(position, covariance, sigma / stature)
    contact = feet_on(position, known.own, state, confidence, stature, ground)
    mean, spread = np.zeros((len(position), ERRORS)), prior(known.a, known.b, ground)
    mean, spread = update(mean, spread, contact)
    placed = corrected(position, known.own, stature, mean, spread)
    told = contact.ankles > 0
    return Placed(np.where(told[:, None, None], placed.position, position),
                  np.where(told[:, None, None, None], placed.covariance, covariance),
                  np.where(told, placed.stature, stature), np.where(told, placed.stature_sigma, sigma))


@dataclass(frozen=True)
class Shares:
    """Whose fault the uncertainty of N people is: a (N,) and b (N,), relative, and the rest, own (N, 17, 3, 3) m^2."""

    a: Array
    b: Array
    own: Array


def split(position: Array, covariance: Array, a: Array) -> Shares:
    """Return the shares of absolute covariances (N, 17, 3, 3) m^2; a (N,): relative standard deviation of the stature.

    What the pelvis is uncertain along its ray beyond the stature's share is b.
    """
    root = position[:, _ROOT]
    distance = np.square(root).sum(axis=-1)
    along = np.einsum('ni,nij,nj->n', root, covariance[:, _ROOT], root) / np.maximum(distance, 1e-6) ** 2
    b = np.sqrt(np.maximum(along - a ** 2, LEAST_B ** 2))
    own = exchange(covariance, position, a[:, None] ** 2, 0.0)
    own = exchange(own, np.broadcast_to(root[:, None], position.shape), b[:, None] ** 2, 0.0)
    return Shares(a, b, own)


def prior(a: Array, b: Array, ground: GroundPlane) -> Array:
    """Return the covariance (N, 5, 5) of the errors of people before anything is known about their feet."""
    floor = np.array([ground.tilt_sigma, ground.tilt_sigma, ground.height_sigma])
    spread = np.concatenate([np.stack([a, b], axis=-1), np.broadcast_to(floor, (len(a), 3))], axis=-1)
    return np.nan_to_num(np.square(spread))[..., None] * np.eye(ERRORS)


def feet_on(position: Array, own: Array, state: NDArray, confidence: NDArray, stature: Array,
            ground: GroundPlane) -> Contact:
    """Return what the feet of people (N, 17, 3) m say; own (N, 17, 3, 3) m^2: covariance without a's and b's share."""
    ankles = position[:, _ANKLES]                                                                # (N, 2, 3)
    seen = ((np.asarray(state)[:, _ANKLES] == JointState.OBSERVED) & (np.asarray(confidence)[:, _ANKLES] >= SURE_ANKLE)
            & np.isfinite(ankles).all(axis=-1) & np.isfinite(position[:, _ROOT]).all(axis=-1, keepdims=True))
    ankles = np.where(seen[..., None], ankles, 0.0)
    rest = ANKLE_SHARE * stature[:, None]
    residual = ground.height_of(ankles) - rest
    jacobian = np.empty((*seen.shape, ERRORS))
    # Both errors move an ankle along its own ray: where the image shows it is known better than how far away it is.
    # (So it is with the shipped lifter: where the ray meets the floor gives the distance of the pelvis to 2 %.)
    jacobian[..., A] = jacobian[..., B] = ankles @ ground.up - rest
    jacobian[..., TILT] = ankles @ _axes(ground.up).T
    jacobian[..., HEIGHT] = 1.0
    noise = np.where(seen, np.einsum('i,nkij,j->nk', ground.up, np.nan_to_num(own[:, _ANKLES]), ground.up), 0.0)

    weight = seen * np.exp(-np.where(seen, residual - np.where(seen, residual, np.inf).min(axis=1, keepdims=True), 0.0)
                           / TOGETHER)
    weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1e-9)
    return Contact(residual=(weight * residual).sum(axis=1), jacobian=(weight[..., None] * jacobian).sum(axis=1),
                   variance=(weight ** 2 * noise).sum(axis=1) + FOOT_SIGMA ** 2, ankles=seen.sum(axis=1))


def update(mean: Array, spread: Array, contact: Contact, share: Array | float = 1.0) -> tuple[Array, Array]:
    """Return mean (N, 5) and covariance (N, 5, 5) of the errors after the feet were looked at.

    Feet stand on the floor, or hang above it, or something else is the matter; each is as likely as it explains the
    height found, and the answers are mixed with these weights (probabilistic data association, Bar-Shalom and Tse
    1975), so that a jump or a floor given wrongly leads to doubt and not astray. share (N,): how much of an independent
    measurement this is, in 0..1; images that follow each other closely show the same step twice.
    """
    offset = contact.residual + (contact.jacobian * mean).sum(axis=-1)
    across = np.einsum('nij,nj->ni', spread, contact.jacobian)
    predicted = (contact.jacobian * across).sum(axis=-1)
    stands = _stands(offset, np.sqrt(predicted + contact.variance), contact.ankles)
    total = predicted + contact.variance / np.maximum(share, 1e-6)
    move = -(across * (offset / total)[:, None])
    shrink = across[:, :, None] * (across / total[:, None])[:, None, :]
    doubt = (stands * (1 - stands))[:, None, None] * move[:, :, None] * move[:, None, :]
    return mean + stands[:, None] * move, spread - stands[:, None, None] * shrink + doubt


def _stands(offset: Array, sigma: Array, ankles: NDArray) -> Array:
    """Return how likely (N,) it is that feet found offset (N,) m above their place, give or take sigma (N,), stand."""
    stand = STANDS[ankles] * np.exp(-0.5 * np.square(offset / sigma)) / (np.sqrt(2 * np.pi) * sigma)
    # A height above the floor that is exponential, plus the same error.
    lift = LIFTED[ankles] / LIFT * np.exp(np.minimum(
        0.5 * np.square(sigma / LIFT) - offset / LIFT + log_ndtr(offset / sigma - sigma / LIFT), 0.0))
    astray = np.maximum(1 - STANDS - LIFTED, 0)[ankles] * ASTRAY
    return stand / (stand + lift + astray + 1e-12)


def corrected(position: Array, own: Array, stature: Array, mean: Array, spread: Array) -> Placed:
    """Return people with the errors a and b of mean (N, 5) and covariance (N, 5, 5) taken out.

    position (N, 17, 3) m of people taken to be stature (N,) m tall; own (N, 17, 3, 3) m^2: covariance without a and b.
    """
    root = position[:, None, _ROOT]
    grow, shift = (1 + mean[:, A])[:, None, None], mean[:, B, None, None]
    ways = np.stack([position, np.broadcast_to(root, position.shape)], axis=-1)                  # (N, 17, 3, 2)
    both = ways @ spread[:, None, :2, :2] @ np.swapaxes(ways, -1, -2)
    return Placed(grow * position + shift * root, own * np.square(grow)[..., None] + both,
                  stature * (1 + mean[:, A]), stature * np.sqrt(spread[:, A, A]))


def _axes(up: Array) -> Array:
    """Return two unit vectors (2, 3) in the floor, square to each other: roughly ahead of the camera, and sideways."""
    ahead = np.eye(3)[2 if abs(up[2]) < 0.8 else 1]
    ahead = ahead - (ahead @ up) * up
    ahead /= np.linalg.norm(ahead)
    return np.stack([ahead, np.cross(ahead, up)])
