"""Does an engine compute what its network says? Its outputs against those of ONNX Runtime on the CPU in float32.

How far an output may be off is written in the network's metadata, see runtime/tolerances.py.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.runtime.backend import STEPS, may_pass
from pose3d_ros.runtime.check_inputs import inputs_for
from pose3d_ros.runtime.deviation import worst_of
from pose3d_ros.runtime.engine import Engine, EngineError
from pose3d_ros.runtime.onnx_header import read_header
from pose3d_ros.runtime.tolerances import Rule, tolerances_of


@dataclass(frozen=True)
class Verdict:
    """Whether an engine may be used. text: one line, quoting the worst output, its deviation and its tolerance.

    deviations: the largest deviation of each output in units of its tolerance; inf for what is not finite.
    """

    passed: bool
    text: str
    deviations: dict[str, float]


def check(engine: Engine, reference: Engine, inputs: Sequence[Mapping[str, NDArray]],
          tolerances: Mapping[str, tuple[Rule, ...]] | None = None) -> Verdict:
    """Compare an engine with its reference on inputs; tolerances: by default what the reference's metadata says.

    Values that are not finite fail, except at places where the reference's are not finite either. An engine that
    cannot compute fails. Raises EngineError where the reference cannot, or its metadata are wrong, and where
    the engine lacks memory, which says nothing about it.
    """
    expected = [_copied(reference.run(batch)) for batch in inputs]
    tolerances = tolerances or tolerances_of(reference.metadata, expected[0])
    try:
        found = [_copied(engine.run(batch)) for batch in inputs]
    except EngineError as error:
        if may_pass(error):
            raise
        return Verdict(False, f'the engine fails: {error}', dict.fromkeys(tolerances, np.inf))
    try:
        worst = {(name, number): worst_of(name, rule, found, expected)
                 for name, rules in tolerances.items() for number, rule in enumerate(rules)}
    except (ValueError, IndexError) as error:
        raise EngineError(f"metadata 'tolerances' of the model do not fit its outputs ({error}); correct it") from error
    if not worst:
        raise EngineError("no output of the model can be compared: say in its metadata 'tolerances' how far they may "
                          'be off')
    (name, number), most = max(worst.items(), key=lambda item: item[1].share)
    deviations = {output: max((value.share for (other, _), value in worst.items() if other == output), default=0.0)
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

    kinds = {spec.name: spec.kind for spec in read_header(model).inputs}
    reference = OnnxEngine(model)
    try:
        return check(engine, reference, inputs_for(reference.metadata, reference.input_shapes, most, kinds))
    finally:
        reference.close()


def _copied(outputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Return outputs that the engine's next call does not write over."""
    return {name: np.array(value) for name, value in outputs.items()}


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
