"""What a detector gets wrong about pose attributes, fitted; and the probabilities that follow for everyday motion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from pose3d_ros.attributes import BACK, FRONT, KIND_OF, KINDS, ON_PLANE, Ordinal, labels, relative_distances
from pose3d_ros.train.attribute_errors import AttributeErrors, symmetric
from pose3d_ros.train.mocap import Mocap

Floats = NDArray[np.float64]

QUANTILES = 60
_NODES = 24          # of the quadrature over errors
_LEAST_SIGMA = 0.01  # trunk lengths
_ENOUGH = 20         # people to fit errors to


def fit_errors(seen: Floats, true: Floats, usual: Floats, source: str) -> AttributeErrors:
    """Return the errors of seen against true distances (N, 9) in trunk lengths; rows with NaN are left out.

    One gain for all joints, by least squares inside each kind, since few kinds move enough to have one of their own;
    both sides are taken to be alike. usual, source: see AttributeErrors. Raises ValueError for too few rows.
    """
    known = np.isfinite(seen + true).all(axis=1)
    seen, true = seen[known], true[known]
    if len(seen) < _ENOUGH:
        raise ValueError(f'{len(seen)} people with all joints in view are too few to fit errors to')
    means = [(true[:, kind == KIND_OF].mean(), seen[:, kind == KIND_OF].mean()) for kind in range(len(KINDS))]
    middle = np.array(means)[KIND_OF]
    x, y = true - middle[:, 0], seen - middle[:, 1]
    gain = float((x * y).sum() / (x * x).sum())
    bias = middle[:, 1] - gain * middle[:, 0]
    error = seen - gain * true - bias
    covariance = symmetric(error.T @ error / len(error)) + _LEAST_SIGMA ** 2 * np.eye(len(bias))
    return AttributeErrors(gain, bias, covariance, usual, source)


def usual_distances(mocap: Mocap) -> Floats:
    """Return quantiles (5, 60) of the distances of KINDS in recorded motion; see AttributeErrors.usual."""
    distances, weights = relative_distances(mocap.positions), mocap.frame_weights()
    return np.array([_quantiles(distances[:, kind == KIND_OF], weights) for kind in range(len(KINDS))])


def class_shares(mocap: Mocap, threshold: float) -> Floats:
    """Return how often (5, 3) each of KINDS is in front, behind, on the plane."""
    found, weights = labels(relative_distances(mocap.positions), threshold), mocap.frame_weights()
    return np.array([[weights @ (found[:, kind == KIND_OF] == of).mean(axis=1) for of in (FRONT, BACK, ON_PLANE)]
                     for kind in range(len(KINDS))])


def calibrate(errors: AttributeErrors) -> dict[str, Ordinal]:
    """Return the probabilities that a detector's distances speak for, by kind of joint.

    People move as usual, the detector errs as measured; of what comes of it, the most likely ordinal model. So the
    table does not learn what one person in one video happened to do.
    """
    return {kind: _most_likely(errors.usual[position], errors.gain, *errors.of_kind(position))
            for position, kind in enumerate(KINDS)}


def _most_likely(usual: Floats, gain: float, bias: float, sigma: float) -> Ordinal:
    """Return the ordinal model for distances whose quantiles are usual (Q,), seen with such errors."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    seen = (gain * usual[:, None] + bias + sigma * nodes).ravel()
    weight = np.tile(weights / weights.sum(), len(usual)) / len(usual)
    of = np.repeat(labels(usual), _NODES)

    def cost(values: Floats) -> float:
        model = _ordinal(values)
        front = _log_logistic(model.slope * (seen - model.front))
        back = _log_logistic(model.slope * (model.back - seen))
        level = np.log(np.maximum(1 - np.exp(front) - np.exp(back), 1e-12))
        return float(-weight @ np.select([of == FRONT, of == BACK], [front, back], level))

    start = np.array([bias - 0.1, np.log(0.2), np.log(2 / sigma)])
    return _ordinal(minimize(cost, start, method='Nelder-Mead', options={'xatol': 1e-5, 'fatol': 1e-9,
                                                                        'maxiter': 2000}).x)


def _ordinal(values: Floats) -> Ordinal:
    back, width, slope = float(values[0]), float(np.exp(values[1])), float(np.exp(values[2]))
    return Ordinal(back, back + width, slope)


def _log_logistic(odds: Floats) -> Floats:
    return np.asarray(-np.logaddexp(0.0, -odds))


def _quantiles(values: NDArray, weights: NDArray) -> Floats:
    """Return the quantiles at (i + 1/2) / 60 of values (N, K), rows weighted."""
    flat, weight = values.ravel(), np.repeat(weights, values.shape[1])
    flat, weight = flat[np.isfinite(flat)], weight[np.isfinite(flat)]
    order = np.argsort(flat)
    share = np.cumsum(weight[order]) / weight.sum()
    return np.asarray(np.interp((np.arange(QUANTILES) + 0.5) / QUANTILES, share, flat[order]))
