"""The error model of AbsPoseLifter, section 4.2: what a 2D detector gets wrong, as a mixture fitted to what it did.

Per joint, an error (x, y) comes from a Gaussian (found, more or less well) or from a uniform distribution (confused or
missed). Errors are counted in units of the person's stature in the image, so that distance and resolution do not
matter; the axes are those of the image, x right and y down.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.skeleton import HUMAN17, mirrored

Floats = NDArray[np.float64]
Model = TypeVar('Model')

# Side of the square over which errors of the second kind spread. The paper's +-50 px are about this much of a person in
# its images; it is given, not fitted.
WINDOW = 0.24
SMALLEST_SIGMA = 1e-4
TOLERANCE = 1e-10  # of the mean log likelihood: less gain ends the iteration
MOST_STEPS = 500
FIRST_SHARE = 0.9  # gamma before the first step


class ErrorModelError(ValueError):
    """A file of an error model that cannot be used; the message names it and says why."""


@dataclass(frozen=True)
class Mixture:
    """Equation 8 for one joint: share (gamma), mean (2,) and sigma (2,) of the Gaussian; 1 - share is uniform.

    share 1 is the single Gaussian of Table 2.
    """

    share: float
    mean: tuple[float, float]
    sigma: tuple[float, float]
    window: float = WINDOW

    def densities(self, errors: Floats) -> tuple[Floats, Floats]:
        """Return p0 and p1 (N,) of Algorithm 1 for errors (N, 2): densities of the uniform and of the Gaussian."""
        scaled = (errors - np.array(self.mean)) / np.array(self.sigma)
        gaussian = np.exp(-0.5 * np.square(scaled).sum(axis=1)) / (2 * np.pi * np.prod(self.sigma))
        return np.full(len(errors), 1 / self.window ** 2), gaussian

    def log_likelihood(self, errors: Floats) -> float:
        """Return the mean over errors (N, 2) of log p(e): minus equation 9, divided by N."""
        uniform, gaussian = self.densities(errors)
        return float(np.log(np.maximum((1 - self.share) * uniform + self.share * gaussian, 1e-300)).mean())

    def mirrored(self) -> Mixture:
        """Return the model of the counterpart on the other side of the body."""
        return Mixture(self.share, (-self.mean[0], self.mean[1]), self.sigma, self.window)


def fit_gaussian(errors: Floats, window: float = WINDOW) -> Mixture:
    """Return the single Gaussian for errors (N, 2): the first guess of Algorithm 1, and the comparison in Table 2."""
    mean, sigma = errors.mean(axis=0), np.maximum(errors.std(axis=0), SMALLEST_SIGMA)
    return Mixture(1.0, (float(mean[0]), float(mean[1])), (float(sigma[0]), float(sigma[1])), window)


def em_step(model: Mixture, errors: Floats) -> Mixture:
    """Return the model after one E and one M step of Algorithm 1 on errors (N, 2).

    Line 7 of the paper has a misprint: the numerator of eta_0 must be (1 - gamma) p_0, or the two memberships would not
    sum to one. Of line 11 the diagonal is kept, as equation 8 says.
    """
    uniform, gaussian = model.densities(errors)
    weight = model.share * gaussian
    member = weight / np.maximum((1 - model.share) * uniform + weight, 1e-300)                 # eta_1 = 1 - eta_0
    total = max(member.sum(), 1e-12)
    mean = member @ errors / total                                                             # line 10
    sigma = np.maximum(np.sqrt(member @ np.square(errors - mean) / total), SMALLEST_SIGMA)     # line 11
    return Mixture(float(member.mean()), (float(mean[0]), float(mean[1])), (float(sigma[0]), float(sigma[1])),
                   model.window)                                                               # line 12


def fit_mixture(errors: Floats, window: float = WINDOW) -> Mixture:
    """Return the most likely mixture for errors (N, 2) (Algorithm 1). Raises ValueError for fewer than 10 errors."""
    errors = np.asarray(errors, dtype=np.float64)
    errors = errors[np.isfinite(errors).all(axis=1)]
    if len(errors) < 10:
        raise ValueError(f'{len(errors)} errors are too few to fit a distribution to')
    first = fit_gaussian(errors, window)
    model = Mixture(FIRST_SHARE, first.mean, first.sigma, window)
    likelihood = model.log_likelihood(errors)
    for _ in range(MOST_STEPS):
        model = em_step(model, errors)
        before, likelihood = likelihood, model.log_likelihood(errors)
        if likelihood - before < TOLERANCE:
            break
    return model


@dataclass(frozen=True)
class FittedErrors:
    """A mixture per joint of HUMAN17, by name; source: which detector, on what."""

    joints: Mapping[str, Mixture]
    source: str

    def __post_init__(self) -> None:
        missing = [joint for joint in HUMAN17.joints if joint not in self.joints]
        if missing:
            raise ErrorModelError(f'no distribution for {", ".join(missing)}')

    def sample(self, size: NDArray, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return errors (B, 17, 2) in the unit of size (B,): the person's stature in the image."""
        models = [self.joints[joint] for joint in HUMAN17.joints]
        share = np.array([model.share for model in models])
        mean = np.array([model.mean for model in models], dtype=np.float32)
        sigma = np.array([model.sigma for model in models], dtype=np.float32)
        half = 0.5 * np.array([model.window for model in models], dtype=np.float32)[:, None]
        shape = (len(size), len(models), 2)
        error = mean + sigma * rng.standard_normal(shape, dtype=np.float32)
        wild = half * (2 * rng.random(shape, dtype=np.float32) - 1)
        outlier = rng.random(shape[:2], dtype=np.float32) >= share
        return np.where(outlier[..., None], wild, error) * np.asarray(size, dtype=np.float32)[:, None, None]

    def to_json(self) -> str:
        """Return the model as JSON text, for `from_json`."""
        joints = {name: {'share': round(model.share, 6), 'mean': [round(value, 6) for value in model.mean],
                         'sigma': [round(value, 6) for value in model.sigma], 'window': model.window}
                  for name, model in self.joints.items()}
        return json.dumps({'source': self.source, 'unit': 'stature in the image', 'joints': joints}, indent=1) + '\n'

    @classmethod
    def from_json(cls, text: str) -> FittedErrors:
        """Read what `to_json` wrote. Raises ErrorModelError."""
        try:
            content = json.loads(text)
            joints = {str(name): Mixture(float(part['share']), _pair(part['mean']), _pair(part['sigma']),
                                         float(part['window'])) for name, part in content['joints'].items()}
            return cls(joints, str(content['source']))
        except (KeyError, TypeError, ValueError) as error:
            raise ErrorModelError(f'not an error model: {error}') from error


def _pair(values: list[float]) -> tuple[float, float]:
    x, y = values
    return float(x), float(y)


def fit_joints(errors: Floats, source: str, gaussian: bool = False, window: float = WINDOW) -> FittedErrors:
    """Fit every joint to errors (N, 17, 2), NaN where unknown; gaussian: the single Gaussian instead of the mixture.

    A body has no better side: left and right are fitted together, one of them mirrored.
    """
    joints: dict[str, Mixture] = {}
    for joint in HUMAN17.joints:
        if joint in joints:
            continue
        other = mirrored(joint)
        counterpart = errors[:, HUMAN17.index(other)] * np.array([-1, 1])
        both = np.concatenate([errors[:, HUMAN17.index(joint)], counterpart])
        both = both[np.isfinite(both).all(axis=1)]
        model = fit_gaussian(both, window) if gaussian else fit_mixture(both, window)
        joints |= {joint: model, other: model.mirrored()} if other != joint else {joint: model}
    return FittedErrors({joint: joints[joint] for joint in HUMAN17.joints}, source)


def load_errors(name: str | Path) -> FittedErrors:
    """Return a model that comes with the package, such as 'blazepose_full', or that of a .json file.

    Raises ErrorModelError.
    """
    return read_model(name, FittedErrors.from_json, 'error model')


def read_model(name: str | Path, from_json: Callable[[str], Model], what: str) -> Model:
    """Return what from_json makes of a .json file, or of one of error_models/ by name. Raises ErrorModelError."""
    path = Path(name)
    try:
        if path.suffix == '.json':
            return from_json(path.read_text())
        return from_json((resources.files('pose3d_ros.train') / 'error_models' / f'{name}.json').read_text())
    except OSError as error:
        raise ErrorModelError(f'{what} {name}: {error.strerror or error}') from error
    except ErrorModelError as error:
        raise ErrorModelError(f'{what} {name}: {error}') from error
