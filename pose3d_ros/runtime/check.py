"""Does an engine compute what its network says? Its outputs against those of ONNX Runtime on the CPU in float32.

How far an output may be off is written in the network's metadata, key 'tolerances': JSON, for each output one rule or
a list of rules, see Rule. What a file does not say gets a rule by its form, see usual_rule.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.runtime.backend import STEPS
from pose3d_ros.runtime.check_inputs import inputs_for
from pose3d_ros.runtime.engine import Engine, EngineError

MEASURES = ('value', 'sigmoid', 'peak')
USUAL_RELATIVE = 0.02    # of an output's largest value


@dataclass(frozen=True)
class Rule:
    """How far an output may be off: absolute + relative * the reference's largest magnitude.

    measure: what is compared. 'value': the numbers. 'sigmoid': the probabilities that logits stand for: at -20 or -30
    they mean the same. 'peak': of heat maps (N, K, H, W) or bins (N, K, L), what decoders read: the height at the
    reference's highest place, and by how much the place that the engine would take is lower in the reference; two
    places of nearly the same height are equally good answers, so the distance between them would be the wrong measure.
    per: axes along which each place has a largest magnitude of its own, e.g. (0,) for each person.
    every, take: the last axis is read in groups of `every`, of which only the values `take` count.
    where, over: only what belongs to places at which the output `where` of the reference is more than `over` counts:
    what a network says of a person who is not there is of no use to anybody. Where there is no such place, all count.
    what, unit: for the report.
    """

    absolute: float = 0.0
    relative: float = 0.0
    measure: str = 'value'
    per: tuple[int, ...] = ()
    every: int = 0
    take: tuple[int, ...] = ()
    where: str = ''
    over: float = 0.0
    what: str = ''
    unit: str = ''

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise ValueError(f'measure {self.measure!r} is none of {", ".join(MEASURES)}')
        if min(self.absolute, self.relative) < 0 or self.absolute + self.relative <= 0:
            raise ValueError('absolute and relative must not be negative, and one of them more than 0')
        if any(place >= self.every for place in self.take):
            raise ValueError(f'take {list(self.take)} is out of range for groups of {self.every}')


@dataclass(frozen=True)
class Verdict:
    """Whether an engine may be used. text: one line, quoting the worst output, its deviation and its tolerance.

    deviations: the largest deviation of each output in units of its tolerance; inf for what is not finite.
    """

    passed: bool
    text: str
    deviations: dict[str, float]


@dataclass(frozen=True)
class _Worst:
    """The largest deviation under one rule: in units of its tolerance, as it is, and what would be allowed there."""

    share: float
    amount: float = 0.0
    allowed: float = 0.0
    said: str = ''

    def describe(self, name: str, rule: Rule) -> str:
        unit = f' {rule.unit}' if rule.unit else ''
        what = f'{name} ({rule.what})' if rule.what else name
        return f'{what} {self.said or f"off by {self.amount:.2g}{unit}, allowed {self.allowed:.2g}{unit}"}'


def tolerances_of(metadata: Mapping[str, str], outputs: Mapping[str, NDArray]) -> dict[str, tuple[Rule, ...]]:
    """Return the rules for each of a network's outputs (name -> what the reference says, for their form).

    Raises EngineError for metadata that cannot be read or that names an output that the network does not have.
    """
    try:
        said = json.loads(metadata.get('tolerances', '{}'))
        rules = {name: tuple(map(_rule, rule if isinstance(rule, list) else [rule])) for name, rule in said.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise EngineError(f"metadata 'tolerances' of the model cannot be read: {error}; see runtime/check.py for its "
                          'form') from error
    named = [*rules, *(rule.where for group in rules.values() for rule in group if rule.where)]
    for name in named:
        if name not in outputs:
            raise EngineError(f"metadata 'tolerances' of the model names the output {name!r}; it has "
                              f'{", ".join(outputs)}')
    return {name: rules.get(name) or (usual_rule(name, value),) for name, value in outputs.items()}


def usual_rule(name: str, value: NDArray) -> Rule:
    """Return the rule for an output that the file says nothing about.

    Heat maps (four axes, maps of 8x8 at least) and outputs called simcc: by their peaks, 2 % of the person's largest
    value. Others: 2 % of the largest value of the same column, the columns being the shortest axis after the first
    (coordinates, or what a table of boxes holds) where there are three axes or more.
    """
    if (value.ndim == 4 and min(value.shape[2:]) >= 8) or 'simcc' in name.lower():
        return Rule(relative=USUAL_RELATIVE, measure='peak', per=(0,), what='peaks')
    per = (1 + int(np.argmin(value.shape[1:])),) if value.ndim > 2 else ()
    return Rule(absolute=1e-4, relative=USUAL_RELATIVE, per=per)


def _rule(said: Mapping[str, Any]) -> Rule:
    unknown = said.keys() - {field.name for field in fields(Rule)}
    if unknown:
        raise ValueError(f'{sorted(unknown)[0]!r} is not known')
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in said.items()}
    return Rule(**values)


def check(engine: Engine, reference: Engine, inputs: Sequence[Mapping[str, NDArray]],
          tolerances: Mapping[str, tuple[Rule, ...]] | None = None) -> Verdict:
    """Compare an engine with its reference on inputs; tolerances: by default what the reference's metadata says.

    Values that are not finite fail, except at places where the reference's are not finite either. An engine that
    cannot compute fails. Raises EngineError where the reference cannot, or its metadata are wrong.
    """
    expected = [reference.run(batch) for batch in inputs]
    tolerances = tolerances or tolerances_of(reference.metadata, expected[0])
    try:
        found = [engine.run(batch) for batch in inputs]
    except EngineError as error:
        return Verdict(False, f'the engine fails: {error}', dict.fromkeys(tolerances, np.inf))
    try:
        worst = {(name, number): _worst(name, rule, found, expected)
                 for name, rules in tolerances.items() for number, rule in enumerate(rules)}
    except ValueError as error:
        raise EngineError(f"metadata 'tolerances' of the model do not fit its outputs ({error}); correct it") from error
    (name, number), most = max(worst.items(), key=lambda item: item[1].share)
    deviations = {output: max(value.share for (other, _), value in worst.items() if other == output)
                  for output in tolerances}
    if most.share == 0:
        return Verdict(True, 'equals the reference', deviations)
    start = 'agrees with the reference: at most' if most.share <= 1 else 'differs from the reference:'
    return Verdict(most.share <= 1, f'{start} {most.describe(name, tolerances[name][number])}', deviations)


def self_check(engine: Engine, model: Path, most: int = 3) -> Verdict:
    """Compare an engine with the ONNX file that it was made from, on bundled inputs, up to `most` people at once.

    Raises EngineError where the file itself cannot be computed.
    """
    from pose3d_ros.runtime.onnx_engine import OnnxEngine

    reference = OnnxEngine(model)
    try:
        return check(engine, reference, inputs_for(reference.metadata, reference.input_shapes, most))
    finally:
        reference.close()


def _worst(name: str, rule: Rule, found: Sequence[Mapping[str, NDArray]],
           expected: Sequence[Mapping[str, NDArray]]) -> _Worst:
    """Return the largest deviation of one output under one rule, over all batches."""
    all_places = np.array(True)
    wheres = [batch[rule.where] > rule.over if rule.where else all_places for batch in expected]
    if not any(where.any() for where in wheres):
        wheres = [all_places] * len(expected)
    worst = _Worst(0.0)
    for ours, theirs, where in zip(found, expected, wheres):
        if name not in ours or ours[name].shape != theirs[name].shape:
            said = f'{ours[name].shape} instead of {theirs[name].shape}' if name in ours else 'is missing'
            return _Worst(np.inf, said=said)
        one = _deviation(rule, _picked(ours[name], rule), _picked(theirs[name], rule), where)
        worst = max(worst, one, key=lambda value: value.share)
    return worst


def _picked(values: NDArray, rule: Rule) -> NDArray[np.float64]:
    """Return what a rule looks at, as (N, ...) float64."""
    values = np.asarray(values, dtype=np.float64)
    if rule.every:
        values = values.reshape(*values.shape[:-1], -1, rule.every)[..., rule.take or slice(None)]
    return values


def _deviation(rule: Rule, ours: NDArray, theirs: NDArray, places: NDArray) -> _Worst:
    where: NDArray = places.reshape(places.shape + (1,) * (theirs.ndim - places.ndim))
    where = np.broadcast_to(where, theirs.shape) & np.isfinite(theirs)
    if (bad := where & ~np.isfinite(ours)).any():
        return _Worst(np.inf, said=f'not finite at {_place(bad.argmax(), theirs)}')
    if not where.any():
        return _Worst(0.0)
    if rule.measure == 'sigmoid':
        ours, theirs = _sigmoid(ours), _sigmoid(theirs)
    magnitude = np.where(np.isfinite(theirs), np.abs(theirs), 0)
    across = tuple(axis for axis in range(theirs.ndim) if axis not in rule.per)
    allowed = rule.absolute + rule.relative * np.broadcast_to(magnitude.max(axis=across, keepdims=True), theirs.shape)
    if rule.measure == 'peak':
        off, allowed = _peaks(ours, theirs, where), allowed.reshape(*theirs.shape[:2], -1)[..., 0]
    else:
        off = np.where(where, np.abs(np.where(where, ours, 0) - np.where(where, theirs, 0)), 0)
    # Where nothing is allowed, as in a column of zeros, nothing may be off.
    share = np.divide(off, allowed, out=np.where(off > 0, np.inf, 0.0), where=allowed > 0)
    at = int(share.argmax())
    return _Worst(float(share.flat[at]), float(off.flat[at]), float(allowed.flat[at]))


def _peaks(ours: NDArray, theirs: NDArray, where: NDArray) -> NDArray[np.float64]:
    """Return how far the peaks (N, K) of maps (N, K, ...) are off; see Rule."""
    ours, theirs, where = (values.reshape(*values.shape[:2], -1) for values in (ours, theirs, where))
    low = np.where(where, theirs, -np.inf)
    place, taken = (np.where(where, values, -np.inf).argmax(axis=2)[..., None] for values in (theirs, ours))
    height = np.take_along_axis(low, place, axis=2)[..., 0]
    off = np.maximum(np.abs(np.take_along_axis(ours, place, axis=2)[..., 0] - height),
                     height - np.take_along_axis(low, taken, axis=2)[..., 0])
    return np.where(where.any(axis=2), off, 0)


def _sigmoid(logits: NDArray) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(logits, -60, 60)))


def _place(index: np.intp, values: NDArray) -> str:
    return str([int(place) for place in np.unravel_index(index, values.shape)])


def rehearse(model: Path, most: int = 3) -> dict[str, Verdict]:
    """Return what the check would say of a network in each precision, on a GPU that rounds as half precision does.

    No GPU is needed: the rounding is computed on the CPU (runtime/rounding.py). Raises EngineError.
    """
    from pose3d_ros.runtime import half, rounding
    from pose3d_ros.runtime.onnx_engine import OnnxEngine

    content, verdicts = model.read_bytes(), {}
    with tempfile.TemporaryDirectory() as folder:
        for step in STEPS:
            file = Path(folder) / f'{step}.onnx'
            file.write_bytes(rounding.rounded(half.convert(content, step)))
            engine = OnnxEngine(file)
            try:
                verdicts[step] = self_check(engine, model, most)
            finally:
                engine.close()
    return verdicts


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line per model and precision: what the check says, and the deviation of each output."""
    parser = argparse.ArgumentParser(prog='python -m pose3d_ros.runtime.check', description=rehearse.__doc__)
    parser.add_argument('models', nargs='+', type=Path, metavar='MODEL.onnx')
    parser.add_argument('--most', type=int, default=3, help='people (images, ...) at once, at most (default 3)')
    args = parser.parse_args(arguments)
    for model in args.models:
        try:
            verdicts = rehearse(model, args.most)
        except (EngineError, OSError) as error:
            print(f'{model}: {error}', file=sys.stderr)
            return 1
        for step, verdict in verdicts.items():
            shares = ', '.join(f'{name} {share:.2g}' for name, share in verdict.deviations.items())
            print(f'{model.stem} {step}: {"pass" if verdict.passed else "FAIL"}; {verdict.text} '
                  f'(of tolerance: {shares})')
    return 0


if __name__ == '__main__':
    sys.exit(main())
