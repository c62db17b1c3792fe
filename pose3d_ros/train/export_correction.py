"""Corrections as files of their own, for any lifter; held against autograd, and timed.

The reference is what the paper does (section 3.3, equation 3): copies of the layers for one person, back-propagation by
autograd, stochastic gradient descent, thrown away afterwards.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from pose3d_ros.lift import input_points
from pose3d_ros.nets.correction import Correction, PinholeCorrection, aligned, weights
from pose3d_ros.nets.window import NEAREST, distance, place
from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.onnx_file import write_checked

INPUT_NAMES, OUTPUT_NAMES = ('pose', 'rays', 'confidence', 'stature'), ('corrected', 'moved', 'kept')
STATURE_M = 1.7
CHECKED = 7      # people in each check


def by_autograd(correction: Correction, pose: Tensor, rays: Tensor, confidence: Tensor) -> list[Tensor]:
    """Return the poses (1, K, 3) of one person before and after every update: copies, autograd and SGD.

    pose (1, K, 3), rays (1, J, 2), confidence (1, J): see nets/correction.py. For corrections of Psi_P's and Psi_C's
    weights, and with the true projection of Psi_C's, or of the pose itself.
    """
    own, settings = copy.deepcopy(correction.projector), correction.settings
    weight, direct = weights(confidence), isinstance(correction, PinholeCorrection) and correction.direct
    start = own.normalised(pose).clone().requires_grad_(direct)
    optimiser = torch.optim.SGD([{'params': [start], 'lr': settings.rate}] if direct else [
        {'params': own.regression.parameters(), 'lr': settings.rate},
        {'params': own.projection.parameters(), 'lr': settings.projection_rate}])
    poses: list[Tensor] = []
    target = None
    with torch.enable_grad():
        for step in range(settings.updates + 1):
            now = own.posed(start if direct else own.regression(start))
            poses.append(now.detach().clone())
            if step == settings.updates:
                break
            if isinstance(correction, PinholeCorrection):
                there, root = _placed(correction, now, rays, weight)
                off = root[..., 2:] * (there[..., :2] / there[..., 2:].clamp(min=NEAREST) - rays)
            else:
                flat = own.project(now)
                target = own.flat_range(aligned(rays, flat, weight)).detach() if target is None else target
                off = own.flat_range(flat) - target
            optimiser.zero_grad()
            (weight * off.square()).sum().backward()
            optimiser.step()
    return poses


def _placed(correction: PinholeCorrection, pose: Tensor, rays: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return joints (1, J, 3) before the camera and the place of the body (1, 1, 3), which is held."""
    points = correction.points @ pose
    with torch.no_grad():
        root = place(rays, points, distance(rays, points, weight), weight)
    return root + points, root


def people(count: int, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Return inputs of random people whose poses are off; some joints are missing or doubted."""
    rng = np.random.default_rng(seed)
    truth = _standing() + rng.normal(0, 0.06, (count, len(HUMAN17), 3))
    truth[:, 0] = 0
    root = np.stack([*rng.normal(0, 0.02, (2, count)), rng.uniform(1.5, 5, count)], axis=1)
    seen = input_points() @ truth + root[:, None]
    confidence = rng.uniform(0.2, 1, seen.shape[:2]) * (rng.random(seen.shape[:2]) < 0.85)
    off = np.r_[0, np.ones(len(HUMAN17) - 1)][:, None] * rng.normal(0, 0.04, truth.shape)
    arrays = (truth + off, np.where(confidence[..., None] > 0, seen[..., :2] / seen[..., 2:], 0), confidence,
              np.full((count, 1), STATURE_M))
    return {name: array.astype(np.float32) for name, array in zip(INPUT_NAMES, arrays)}


def _standing() -> NDArray[np.float64]:
    """Return about where joints (17, 3) of somebody upright are, in statures, before a camera: y down."""
    heights = {'hip': 0.0, 'knee': 0.24, 'ankle': 0.48, 'spine': -0.13, 'thorax': -0.29, 'neck': -0.36, 'head': -0.43,
               'shoulder': -0.28, 'elbow': -0.11, 'wrist': 0.03}
    sides = {'left': 0.09, 'right': -0.09}
    return np.array([[sides.get(HUMAN17.side(joint), 0.0), heights.get(joint.split('_')[-1], 0.0), 0.0]
                     for joint in HUMAN17.joints])


def export(correction: Correction, path: Path, extra: Mapping[str, str]) -> float:
    """Write a correction as ONNX, check it, and return its largest deviation from PyTorch in m, of somebody of 1.70 m.

    extra: further metadata, such as which lifter it is for. The number of people N is free. Raises ExportError.
    """
    correction.eval()
    example = tuple(torch.from_numpy(array) for array in people(2).values())

    def deviation(file: Path) -> float:
        session, given = _session(file), people(CHECKED, seed=1)
        with torch.no_grad():
            expected = correction(*map(torch.from_numpy, given.values()))
        found = session.run(list(OUTPUT_NAMES), given)
        return STATURE_M * float(np.nan_to_num(np.abs(found[0] - expected.pose.numpy()), nan=np.inf).max())

    return write_checked(correction, example, path, INPUT_NAMES, OUTPUT_NAMES, {
        'method': 'correction at test time of 3D Human Pose Machines (Wang, Lin, Jiang, Qian, Wei), equations 3 and 4',
        **extra}, deviation)


def parity(correction: Correction, path: Path, count: int = CHECKED, seed: int = 2) -> float:
    """Return by how much the file's corrections of random people differ from autograd's at most, over their size.

    Exact for a correction whose limits nobody reaches (converged_m 0, discarded_m large).
    """
    given = people(count, seed)
    found, largest = _session(path).run(list(OUTPUT_NAMES), given)[0], 0.0
    for person in range(count):
        poses = by_autograd(correction, *(torch.from_numpy(given[name][[person]]) for name in INPUT_NAMES[:3]))
        change = float((poses[-1] - poses[0]).abs().max())
        largest = max(largest, float(np.abs(found[person] - poses[-1].numpy()[0]).max()) / max(change, 1e-9))
    return largest


def milliseconds(path: Path, count: int = 1, threads: int = 1, repeats: int = 200) -> float:
    """Return the median time in ms that the file takes for so many people, on so many processor threads."""
    session, given = _session(path, threads), people(count)
    taken = []
    for _ in range(repeats + 20):
        started = time.perf_counter()
        session.run(None, given)
        taken.append(1000 * (time.perf_counter() - started))
    return float(np.median(taken[20:]))


def _session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
