"""Correction at test time: exactly what autograd on copies of the layers gives, for each person, and in ONNX too."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip('torch', reason='training needs PyTorch: make train-env')

from procedural import standing  # noqa: E402
from scipy.spatial.transform import Rotation  # noqa: E402

from pose3d_ros.lift import input_points  # noqa: E402
from pose3d_ros.nets.correction import (  # noqa: E402
    ROBUST,
    Corrected,
    Correction,
    CorrectionSettings,
    LearnedCorrection,
    PinholeCorrection,
    aligned,
    weights,
)
from pose3d_ros.nets.machine import Projector, xavier  # noqa: E402
from pose3d_ros.nets.window import distance, place  # noqa: E402
from pose3d_ros.skeleton import HUMAN17  # noqa: E402
from pose3d_ros.train.export_correction import (  # noqa: E402
    INPUT_NAMES,
    OUTPUT_NAMES,
    by_autograd,
    export,
    milliseconds,
    parity,
)

torch.set_num_threads(1)
FORMS = ('learned', 'pinhole', 'direct')
# Neither ends early nor discards.
FREE = CorrectionSettings(rate=0.05, projection_rate=0.05, converged_m=0.0, discarded_m=1e9)


def bodies(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return people (count, 17, 3) in statures, upright before a camera, turned any way, walking."""
    walk = np.stack([standing(phase) for phase in rng.uniform(0, 6, count)]) / 1.72
    about = Rotation.from_rotvec(rng.uniform(-np.pi, np.pi, (count, 1)) * [0, 0, 1]).as_matrix()
    upright = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    turned = (walk - walk[:, :1]) @ (upright @ about).transpose(0, 2, 1)
    turned[:, 1:] += rng.normal(0, 0.02, turned[:, 1:].shape)
    return turned


@lru_cache(maxsize=8)
@torch.enable_grad()
def projector(width: int = 48, skip: bool = False) -> Projector:
    """Return a folded projector that has learnt a little what it is for."""
    torch.manual_seed(3)
    module, rng = Projector(17, 13, width, skip=skip), np.random.default_rng(3)
    xavier(module)
    poses = torch.from_numpy(bodies(2048, rng)).float()
    flat = (torch.from_numpy(input_points()).float() @ poses)[..., :2]
    flat = flat - flat.mean(dim=1, keepdim=True)
    flat = flat / flat.square().sum(dim=(1, 2), keepdim=True).div(13).sqrt()
    module.pose_range.fit(poses)
    module.flat_range.fit(flat)
    optimiser = torch.optim.Adam(module.parameters(), 5e-3)
    for step in range(120):
        rows = slice(64 * (step % 32), 64 * (step % 32) + 64)
        regressed = module.regress(poses[rows])
        off = module.project(regressed) - flat[rows]
        loss = (regressed - poses[rows]).square().mean() + 0.1 * off.square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return module.folded()


def people(count: int, seed: int = 0) -> tuple:
    """Return poses that are off, and rays of what they should be; some joints missing or doubted."""
    rng = np.random.default_rng(seed)
    truth = bodies(count, rng)
    root = np.stack([rng.normal(0, 0.02, count), rng.normal(0, 0.02, count), rng.uniform(1.5, 5, count)], axis=1)
    seen = input_points() @ truth + root[:, None]
    pose = truth + rng.normal(0, 0.04, truth.shape)
    pose[:, 0] = 0
    confidence = rng.uniform(0.2, 1, (count, 13)) * (rng.random((count, 13)) < 0.85)
    rays = np.where(confidence[..., None] > 0, seen[..., :2] / seen[..., 2:], 0)
    arrays = (pose, rays, confidence, rng.uniform(1.5, 1.9, (count, 1)))
    return tuple(torch.from_numpy(array.astype(np.float32)) for array in arrays)


def correction(form: str, settings: CorrectionSettings = FREE, width: int = 48, skip: bool = False) -> Correction:
    made = copy.deepcopy(projector(width, skip))
    if form == 'direct':  # what changes lies nearer to the loss than weights do, and all of it
        settings = replace(settings, rate=10 * settings.rate)
    if form == 'learned':
        return LearnedCorrection(made, HUMAN17.joints, settings).eval()
    return PinholeCorrection(made, HUMAN17.joints, settings, input_points().tolist(), form == 'direct').eval()


def one_by_one(module: Correction, everybody: tuple, step: int = -1) -> torch.Tensor:
    """Return what autograd makes of each person alone."""
    return torch.cat([by_autograd(module, *(part[[person]] for part in everybody[:3]))[step]
                      for person in range(len(everybody[0]))])


def same(one: torch.Tensor, other: torch.Tensor, change: torch.Tensor) -> float:
    """Return the largest difference over the largest change of the same person: the relative error of what is done."""
    return ((one - other).abs().amax(dim=(1, 2)) / change.abs().amax(dim=(1, 2))).max().item()


@pytest.mark.parametrize('skip', [False, True])
@pytest.mark.parametrize('form', FORMS)
def test_corrections_are_what_autograd_gives_on_copies_of_the_layers(form: str, skip: bool) -> None:
    module, everybody = correction(form, skip=skip), people(12)
    with torch.no_grad():
        batched = module(*everybody)
        before = (module.projector.regress(everybody[0]) if form != 'direct' else everybody[0])
    alone = one_by_one(module, everybody)
    change = alone - before
    assert change.abs().amax(dim=(1, 2)).min() > 1e-3   # everybody is moved: there is something to compare
    assert same(batched.pose, alone, change) < 1e-4


def test_in_double_precision_nothing_is_left_of_the_difference() -> None:
    module, everybody = correction('learned').double(), tuple(part.double() for part in people(6))
    with torch.no_grad():
        batched = module(*everybody).pose
    alone = one_by_one(module, everybody)
    torch.testing.assert_close(batched, alone, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize('updates', [1, 4])
def test_any_number_of_updates(updates: int) -> None:
    module, everybody = correction('learned', replace(FREE, updates=updates)), people(3)
    with torch.no_grad():
        batched, before = module(*everybody).pose, module.projector.regress(everybody[0])
    alone = one_by_one(module, everybody)
    assert same(batched, alone, alone - before) < 1e-4


@pytest.mark.parametrize('form', FORMS)
def test_the_file_does_what_autograd_does_for_any_number_of_people(form: str, tmp_path: Path) -> None:
    module, path = correction(form), tmp_path / 'correction.onnx'
    assert export(module, path, {'lifter': 'none'}) < 1e-5
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    for count in (1, 7):
        everybody = people(count, seed=count)
        found = session.run(list(OUTPUT_NAMES), dict(zip(INPUT_NAMES, (part.numpy() for part in everybody))))
        before, after = (one_by_one(module, everybody, step) for step in (0, -1))
        assert same(torch.from_numpy(found[0]), after, after - before) < 1e-4
    assert parity(module, path) < 1e-4
    assert milliseconds(path, repeats=5) > 0


def test_the_graph_has_no_control_flow_and_no_second_copy_of_weights(tmp_path: Path) -> None:
    module, path = correction('learned', width=128), tmp_path / 'correction.onnx'
    export(module, path, {})
    graph = onnx.load(str(path)).graph
    assert not {node.op_type for node in graph.node} & {'If', 'Loop', 'Scan'}
    held = sum(int(np.prod(array.dims)) for array in graph.initializer)
    assert held < 1.03 * sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize('form', FORMS)
def test_the_loss_falls_and_people_do_not_mix(form: str) -> None:
    module, everybody = correction(form, replace(FREE, rate=0.02, projection_rate=0.0)), people(8)
    weight = weights(everybody[2])

    def off(pose: torch.Tensor) -> torch.Tensor:
        if form == 'learned':
            said = module.projector.project(pose)
            return (weight * (said - target).square()).sum(dim=(1, 2))
        points = module.points @ pose
        there = points + place(everybody[1], points, distance(everybody[1], points, weight), weight)
        return (weight * (there[..., :2] / there[..., 2:] - everybody[1]).square()).sum(dim=(1, 2))

    with torch.no_grad():
        before = module.projector.regress(everybody[0]) if form != 'direct' else everybody[0]
        target = aligned(everybody[1], module.projector.project(before), weight)
        after = module(*everybody).pose
        assert (off(after) < off(before)).all()
        alone = torch.cat([module(*(part[[person]] for part in everybody)).pose for person in range(8)])
    torch.testing.assert_close(after, alone)


@pytest.mark.parametrize('form', FORMS)
def test_a_joint_that_is_not_trusted_does_not_pull_and_nobody_seen_changes_nothing(form: str) -> None:
    module, (pose, rays, confidence, stature) = correction(form), people(4)
    confidence = confidence.clamp(min=0.3)
    confidence[:, 3] = 0
    wild = rays.clone()
    wild[:, 3] += 0.2
    with torch.no_grad():
        torch.testing.assert_close(module(pose, rays, confidence, stature), module(pose, wild, confidence, stature))
        doubted, trusted = (module(pose, wild, confidence.index_fill(1, torch.tensor(3), value), stature).pose
                            for value in (0.02, 1.0))
        plain = module(pose, rays, confidence, stature).pose
        assert ((doubted - plain).abs().amax(dim=(1, 2)) < 0.1 * (trusted - plain).abs().amax(dim=(1, 2))).all()
        unseen = module(pose, 0 * rays, 0 * confidence, stature)
        before = module.projector.regress(pose) if form != 'direct' else pose
    torch.testing.assert_close(unseen.pose, before)
    assert (unseen.kept == 1).all()


def test_robust_joints_that_went_too_far_discard_and_those_that_arrived_end() -> None:
    module = correction('direct', CorrectionSettings(rate=0.0))
    names = HUMAN17.joints
    poses = [torch.zeros(4, 17, 3) for _ in range(3)]
    for joint in ROBUST[1:]:                                          # the pelvis stays: 4/5 of this is the mean
        poses[1][:, names.index(joint), 0] = torch.tensor([0.001, 0.010, 0.010, 0.001])
        poses[2][:, names.index(joint), 0] = torch.tensor([0.010, 0.020, 0.030, 0.030])
    poses[2][:, names.index('left_wrist')] = 1.0                      # wrists may go anywhere
    found: Corrected = module.decided(poses, torch.full((4, 1), 1.0))
    torch.testing.assert_close(found.moved[:, 0], 0.8 * torch.tensor([0.001, 0.020, 0.030, 0.001]))
    torch.testing.assert_close(found.kept[:, 0], torch.tensor([1.0, 1.0, 0.0, 1.0]))
    for person, chosen in enumerate((1, 2, 0, 1)):
        torch.testing.assert_close(found.pose[person], poses[chosen][person])
    # Limits are in metres: somebody twice as tall went twice as far.
    taller = module.decided(poses, torch.full((4, 1), 2.0))
    torch.testing.assert_close(taller.kept[:, 0], torch.tensor([1.0, 0.0, 0.0, 1.0]))


def test_alignment_undoes_a_move_and_a_scale() -> None:
    torch.manual_seed(0)
    flat, weight = torch.randn(5, 13, 2), weights(torch.rand(5, 13))
    torch.testing.assert_close(aligned(0.2 * flat + 0.7, flat, weight), flat, rtol=1e-4, atol=1e-5)


def test_projectors_with_batch_norms_are_refused() -> None:
    with pytest.raises(ValueError, match='folded'):
        LearnedCorrection(Projector(17, 13, 8), HUMAN17.joints, FREE)
