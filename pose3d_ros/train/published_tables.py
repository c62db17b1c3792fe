"""The tables of AbsPoseLifter (section 5) on our data: which variant is tested on what, and what is compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.nets.absolute import AbsPoseLifter
from pose3d_ros.train.error_fit import FittedErrors
from pose3d_ros.train.laboratory import LABORATORY, MIXED_FOCAL, Shots
from pose3d_ros.train.loop import read_checkpoint
from pose3d_ros.train.metrics import mrpe, mrpe_axes
from pose3d_ros.train.mocap import Mocap
from pose3d_ros.train.published import Variant, figures, held_out, load_variant, predict, weak_perspective_root

Figures = dict[str, dict[str, dict[str, float]]]   # by test, by variant, by measure


@dataclass(frozen=True)
class Trained:
    """A variant as it came out of training: step and seconds of it."""

    network: AbsPoseLifter
    variant: Variant
    step: int
    seconds: float


def load_trained(path: Path) -> Trained:
    """Return a trained variant. Raises CheckpointError."""
    network, variant, _ = load_variant(path)
    state = read_checkpoint(path)
    return Trained(network, variant, int(state['step']), float(state['seconds']))


@dataclass(frozen=True)
class HeldOut:
    """Held-out people as several kinds of input.

    exact: true 2D poses; noisy: with errors drawn from the mixture; measured: with the errors of whole poses as they
    were measured on footage, None without them; other: exact, the same cameras with another focal length for everybody;
    mixed: the cameras of MIXED_FOCAL.
    """

    exact: Shots
    noisy: Shots
    measured: Shots | None
    other: Shots
    mixed: Shots

    @classmethod
    def draw(cls, mocap: Mocap, count: int, seed: int, errors: FittedErrors, residuals: NDArray | None) -> HeldOut:
        """Draw count people. residuals (M, 17, 2): measured errors in units of the stature in the image."""
        exact = held_out(mocap, count, LABORATORY, seed)
        rng = np.random.default_rng([seed, 1])
        noisy = exact.with_errors(errors, rng)
        measured = None
        if residuals is not None:
            drawn = residuals[rng.integers(len(residuals), size=count)] * exact.size[:, None, None]
            measured = replace(exact, pixels=exact.pixels + drawn.astype(np.float32))
        other = held_out(mocap, count, replace(LABORATORY, focal_px=MIXED_FOCAL.focal_px), seed)
        return cls(exact, noisy, measured, other, held_out(mocap, count, MIXED_FOCAL, seed))


def table(trained: Mapping[str, Trained], tests: HeldOut) -> Figures:
    """Return the figures of every variant on the inputs that it is meant for."""
    found: Figures = {}

    def measure(test: str, shots: Shots | None, names: tuple[str, ...]) -> None:
        if shots is not None:
            found[test] = {name: figures(predict(trained[name].network, shots, trained[name].variant.canonical),
                                         shots.points) for name in names if name in trained}

    measure('lab_exact', tests.exact, ('baseline', 'location', 'scale', 'exact'))                       # Table 1
    measure('lab_detector', tests.noisy, ('baseline', 'exact', 'gaussian', 'mixture'))                     # Table 2
    measure('lab_measured', tests.measured, ('baseline', 'exact', 'gaussian', 'mixture'))
    measure('lab_mixed_focal', tests.mixed, ('direct', 'canonical'))                                    # as Table 5
    if 'exact' in trained:
        # Trained at one focal length, a network without the canonical loss is this one with that focal length built in.
        network = trained['exact'].network
        blind = replace(tests.other, focal=np.full_like(tests.other.focal, LABORATORY.focal_px[0]))
        found['lab_other_focal'] = {'direct': figures(predict(network, blind), tests.other.points),
                                    'canonical': figures(predict(network, tests.other), tests.other.points)}
    if 'mixture' in trained:                                                                        # Table 3
        found['lab_root'] = _roots(trained['mixture'], tests.noisy)
    return {test: variants for test, variants in found.items() if variants}


def _roots(trained: Trained, shots: Shots) -> dict[str, dict[str, float]]:
    """Return the root errors of the network and of the analytic formula on the network's own relative pose."""
    joints = predict(trained.network, shots, trained.variant.canonical)
    roots = {'analytic': weak_perspective_root(shots, joints - joints[:, :1]), 'learned': joints[:, 0]}
    truth = shots.points[:, 0]
    return {name: {'mrpe_mm': 1000 * mrpe(root, truth),
                   **{f'mrpe_{axis}_mm': 1000 * float(value) for axis, value in zip('xyz', mrpe_axes(root, truth))}}
            for name, root in roots.items()}


def compare(found: Figures) -> dict[str, dict[str, float]]:
    """Return the comparisons that the paper makes: gains as fractions of the worse, where both were trained."""
    result: dict[str, dict[str, float]] = {}

    def gain(name: str, test: str, worse: str, better: str, measures: tuple[str, ...] = ('mpjpe', 'mrpe')) -> None:
        rows = found.get(test, {})
        if worse in rows and better in rows:
            result[name] = {f'{measure}_gain': 1 - rows[better][f'{measure}_mm'] / rows[worse][f'{measure}_mm']
                            for measure in measures}

    gain('location_scale', 'lab_exact', 'baseline', 'exact')
    if 'location_scale' in result:
        result['location_scale']['mrpe_ratio'] = 1 / (1 - result['location_scale']['mrpe_gain'])
    gain('noise_model', 'lab_detector', 'exact', 'mixture')
    gain('noise_model_gaussian', 'lab_detector', 'gaussian', 'mixture')
    gain('noise_model_measured', 'lab_measured', 'exact', 'mixture')
    gain('noise_model_measured_gaussian', 'lab_measured', 'gaussian', 'mixture')
    gain('canonical', 'lab_mixed_focal', 'direct', 'canonical')
    gain('canonical_other_focal', 'lab_other_focal', 'direct', 'canonical', ('mrpe',))
    gain('learned_root', 'lab_root', 'analytic', 'learned', ('mrpe',))
    for name, test, variant in (('lab_gt', 'lab_exact', 'exact'), ('lab_noisy', 'lab_detector', 'mixture')):
        if variant in found.get(test, {}):
            result[name] = found[test][variant]
    return result
