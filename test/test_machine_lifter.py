"""Predict, correct, check, return as one graph: what it computes, in PyTorch and in ONNX Runtime."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip('torch', reason='training needs PyTorch: make train-env')

from test_correction import projector  # noqa: E402

from pose3d_ros.lift import ENGINE_INPUTS, ENGINE_OUTPUTS  # noqa: E402
from pose3d_ros.nets.correction import CorrectionSettings, LearnedCorrection  # noqa: E402
from pose3d_ros.nets.machine import Machine  # noqa: E402
from pose3d_ros.nets.machine_lifter import CorrectedLifter, MachineLifter  # noqa: E402
from pose3d_ros.skeleton import HUMAN17  # noqa: E402
from pose3d_ros.train.export import deviation, random_people  # noqa: E402
from pose3d_ros.train.lifter import LifterSettings  # noqa: E402
from pose3d_ros.train.lifter import make_network as make_window  # noqa: E402
from pose3d_ros.train.machine_data import FEATURES  # noqa: E402
from pose3d_ros.train.onnx_file import OPSET  # noqa: E402

torch.set_num_threads(1)
WIDTH = 24
# Nothing is discarded: a result that sits on a limit may fall on either side of it.
SETTINGS = CorrectionSettings(rate=0.05, projection_rate=0.05, converged_m=0.0, discarded_m=1e9)


def window():  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    network = make_window(LifterSettings(width=16, blocks=1, mixed=False)).eval()
    torch.nn.init.normal_(network.last.weight, std=0.1)
    return network


def corrected(rate: float = 0.05) -> CorrectedLifter:
    settings = replace(SETTINGS, rate=rate, projection_rate=rate)
    return CorrectedLifter(window(), LearnedCorrection(projector(), HUMAN17.joints, settings)).eval()


def machine() -> MachineLifter:
    torch.manual_seed(1)
    network = Machine(FEATURES, width=WIDTH).eval()
    network.projector = projector()
    return MachineLifter(window(), network, LearnedCorrection(projector(), HUMAN17.joints, SETTINGS)).eval()


def people(count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    arrays = random_people(count, np.random.default_rng(seed))
    return {name: torch.from_numpy(arrays[name]) for name in ENGINE_INPUTS}


def test_only_the_pose_is_corrected_and_only_where_there_is_a_rate() -> None:
    everybody = people(5)
    with torch.no_grad():
        moved, still, lifted = (network(*everybody.values()) for network in (corrected(), corrected(0.0), window()))
        look = window().unit(*(everybody[name] for name in ENGINE_INPUTS[:-1]), both_ways=True)
        regressed = projector().regress(look.relative)
        expected = window().metric(replace(look, relative=regressed), everybody['stature'])[0]
    torch.testing.assert_close(still[0], expected, rtol=1e-4, atol=1e-5)
    assert (moved[0] - still[0]).abs().max() > 1e-3
    torch.testing.assert_close(moved[1], lifted[1])


def test_the_machine_remembers_what_the_caller_keeps() -> None:
    network, everybody = machine(), people(3)
    since, fresh = torch.full((3, 1), 0.1), network.machine.start(3)
    with torch.no_grad():
        first = network(*everybody.values(), since, fresh)
        second = network(*everybody.values(), since, first[3])
        again = network(*everybody.values(), since, fresh)
    assert first[3].shape == (3, 2, 2, WIDTH)
    torch.testing.assert_close(first[0], again[0])
    assert (second[0] - first[0]).abs().amax(dim=(1, 2)).min() > 1e-5
    torch.testing.assert_close(second[1], first[1])


@pytest.mark.parametrize('kind', ['corrected', 'machine'])
def test_one_file_computes_what_pytorch_does(kind: str, tmp_path: Path) -> None:
    network = corrected() if kind == 'corrected' else machine()
    path, names, outputs = tmp_path / 'lifter.onnx', list(ENGINE_INPUTS), list(ENGINE_OUTPUTS)

    def inputs(count: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(count)
        more = {'since': torch.rand(count, 1), 'state': 0.3 * torch.randn(count, 2, 2, WIDTH)}
        return people(count, count) | (more if kind == 'machine' else {})

    if kind == 'machine':
        names, outputs = [*names, 'since', 'state'], [*outputs, 'next_state']
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)   # of the exporter: see train/onnx_file.py
        torch.onnx.export(network.folded(), tuple(inputs(2).values()), str(path), opset_version=OPSET, dynamo=False,
                          input_names=names, output_names=outputs,
                          dynamic_axes={name: {0: 'N'} for name in (*names, *outputs)})
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    for count in (1, 6):
        given = inputs(count)
        with torch.no_grad():
            expected = [output.numpy() for output in network(*given.values())]
        found = session.run(outputs, {name: array.numpy() for name, array in given.items()})
        assert deviation(expected[:3], found[:3]) < 1e-4
        for one, other in zip(expected[3:], found[3:]):
            np.testing.assert_allclose(one, other, atol=1e-5)
