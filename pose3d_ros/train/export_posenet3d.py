"""From a trained student of PoseNet3D to the file that robots run: how sure it is, and what is checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from pose3d_ros.lift import BODY_OUTPUTS, ENGINE_OUTPUTS, INFERRED_FROM, INPUTS, REQUIRED_INPUTS, input_points
from pose3d_ros.nets.posenet3d import JOINTS
from pose3d_ros.nets.posenet3d_lifter import CHAIN, SIZES, PoseNet3DLifter
from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.stature import stature as stature_of
from pose3d_ros.train.body import PELVIS
from pose3d_ros.train.export import ADULTS, SHARE, TOLERANCES, about_lifters
from pose3d_ros.train.metrics import CHI2_3, mrpe, squared_mahalanobis
from pose3d_ros.train.mocap import Mocap
from pose3d_ros.train.onnx_file import write_checked
from pose3d_ros.train.posenet3d_student import StudentTraining
from pose3d_ros.train.samples import Samples

STEP_S = 1 / 30     # of the recordings of `pose3d record`
OUTPUTS = (*ENGINE_OUTPUTS, *BODY_OUTPUTS)
BODY_TOLERANCES = {
    'rotations': {'absolute': 0.01}, 'shape': {'absolute': 0.02}, 'scale': {'relative': 0.005, 'per': [0]},
    'body_root': {'relative': 0.005, 'per': [0], 'unit': 'm'}}
ALONG = 2048        # people lifted at a time
HALVINGS = 12       # of the range of factors, 0.2 to 5
FEW = 50            # people, of whom nothing is learnt about a joint
GUESSED = 2.0       # standard deviations of such a joint out of view, over those in view
LEAST_SD = 0.01     # statures
NORMAL = 1.645      # standard deviations of a normal distribution within which SHARE lies


def make_lifter(network: StudentTraining) -> PoseNet3DLifter:
    """Return teacher and student as one lifter; how sure it is, is not known before it is calibrated."""
    rests_on = [[INPUTS.index(name) for name in INFERRED_FROM.get(joint, (joint,))] for joint in HUMAN17.joints]
    return PoseNet3DLifter(network.net, network.adaptation, network.model, rests_on).eval()


@torch.no_grad()
def predict(lifter: PoseNet3DLifter, samples: Samples, stature: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Return relative (N, 17, 3) m, root (N, 3) m, covariance (N, 17, 3, 3) m^2 of samples; stature (N, 2) m."""
    arrays = [np.asarray(array, np.float32) for array in (samples.rays, samples.confidence, stature)]
    parts = [[output.numpy() for output in lifter(*(torch.from_numpy(array[i:i + ALONG]) for array in arrays))[:3]]
             for i in range(0, len(samples), ALONG)]
    relative, root, covariance = (np.concatenate(part) for part in zip(*parts))
    return relative, root, covariance


def known(samples: Samples) -> NDArray[np.float64]:
    """Return the true statures (N, 2) m, of standard deviation 0."""
    return np.stack([samples.stature, 0 * samples.stature], axis=1)


def set_bones(lifter: PoseNet3DLifter, mocap: Mocap) -> None:
    """Set how many statures the bones of a person are, from recorded people: for sizes that use them."""
    joints = (input_points() @ mocap.positions)                                     # (N, 13, 3)
    joints = np.concatenate([joints, joints[:, [JOINTS.index('left_shoulder'), JOINTS.index('right_shoulder')]].mean(
        axis=1, keepdims=True)], axis=1)
    starts, ends = zip(*CHAIN)
    share = np.array([0.5 if JOINTS[a].startswith(('left', 'right')) else 1.0 for a in starts])
    chain = np.linalg.norm(joints[:, list(starts)] - joints[:, list(ends)], axis=-1) @ share
    lifter.bones.copy_(torch.from_numpy(share * np.mean(stature_of(mocap.positions) / chain)))


def choose_size(lifter: PoseNet3DLifter, samples: Samples) -> dict[str, float]:
    """Keep the way to metres with the smaller mean root error on samples; return those errors [m]."""
    errors = {}
    for size in SIZES:
        lifter.size = size
        errors[size] = mrpe(predict(lifter, samples, known(samples))[1], samples.root)
    lifter.size = min(errors, key=errors.__getitem__)
    return errors


def fit_spread(lifter: PoseNet3DLifter, samples: Samples) -> list[float]:
    """Set variances from errors on samples, of people whose statures are known; return the relative depth errors.

    What is common to all joints of a person along their rays is an error of the distance; the rest is each joint's own,
    before the camera turned to the person, in statures, with mirror images counting for the other side.
    """
    relative, root, _ = predict(lifter, samples, known(samples))
    turn, rests = _seen_by(lifter, samples)
    placed = np.isfinite(root).all(axis=1)
    found, truth = ((points / samples.stature[:, None, None]) @ np.swapaxes(turn, 1, 2)
                    for points in (relative + root[:, None], samples.points))
    error = truth - found
    pelvis = found[:, PELVIS]
    deeper = (error[:, PELVIS] * pelvis).sum(axis=1) / np.square(pelvis).sum(axis=1)
    whole = (samples.confidence[:, 0] > 0).all(axis=1)
    depth = []
    for people in (~whole, whole):
        errors = np.abs(deeper[placed & (people if (placed & people).sum() >= FEW else True)])
        depth.append(float(np.quantile(errors, SHARE) / NORMAL))
    own = error - deeper[:, None, None] * found
    flip = np.array([-1.0, 1.0, 1.0])
    for state in (1, 0):
        for joint, other in enumerate(HUMAN17.mirror):
            rows = [own[placed & (rests[:, i] == state), i] * sign for i, sign in ((joint, 1), (other, flip))]
            errors = np.concatenate(rows)
            if len(errors) < FEW:
                spread = GUESSED ** 2 * lifter.spread[1, joint].numpy().reshape(3, 3)
            else:
                spread = errors.T @ errors / len(errors) + LEAST_SD ** 2 * np.eye(3)
            lifter.spread[state, joint] = torch.from_numpy(spread.flatten())
    lifter.depth_variance.copy_(torch.tensor(depth).square())
    return depth


def calibrate(lifter: PoseNet3DLifter, samples: Samples,
              stature: tuple[float, float] = ADULTS) -> NDArray[np.float64]:
    """Scale the joints' own variances so that 90 % ellipsoids hold 90 % of these samples; return the factors (2, 17).

    Factors are of standard deviations, of joints that were not seen and those that were. samples: people whose statures
    are distributed as `stature` says (mean and standard deviation, m), which is all that the network is told of them.
    """
    told = np.tile(stature, (len(samples), 1))
    spread = lifter.spread.clone()
    relative, root, whole = predict(lifter, samples, told)
    lifter.spread.zero_()
    common = predict(lifter, samples, told)[2].astype(np.float64)
    own = whole - common
    error = samples.points - root[:, None] - relative
    rests = _seen_by(lifter, samples)[1].astype(np.intp)
    placed = np.isfinite(root).all(axis=1)[:, None]
    counts = np.stack([(placed & (rests == state)).sum(axis=0) for state in (0, 1)])
    counts = counts + counts[:, HUMAN17.mirror]
    low, high = np.full((2, len(HUMAN17)), 0.2), np.full((2, len(HUMAN17)), 5.0)
    joints = np.arange(len(HUMAN17))
    for _ in range(HALVINGS):
        factors = np.sqrt(low * high)
        covariance = common + np.square(factors[rests, joints])[..., None, None] * own
        covariance = np.where(placed[..., None, None], covariance, np.eye(3))
        inside = squared_mahalanobis(error, covariance) <= CHI2_3[SHARE]
        held = np.stack([(inside & placed & (rests == state)).sum(axis=0) for state in (0, 1)])
        enough = held + held[:, HUMAN17.mirror] >= SHARE * counts
        low, high = np.where(enough, low, factors), np.where(enough, factors, high)
    high = np.where(counts < 2 * FEW, 1.0, high)
    lifter.spread.copy_(spread * torch.from_numpy(np.square(high))[..., None])
    return high


@torch.no_grad()
def _seen_by(lifter: PoseNet3DLifter, samples: Samples) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the turns (N, 3, 3) to the people, and which joints (N, 17) rest on inputs that were all seen."""
    look = lifter.look(torch.from_numpy(samples.rays), torch.from_numpy(samples.confidence))
    rests = look.seen[:, lifter.frame, :len(INPUTS)] @ lifter.rests > 0.99
    return look.turn.numpy().astype(np.float64), rests.numpy()


def export(lifter: PoseNet3DLifter, path: Path, body_model: tuple[str, str], extra: Mapping[str, str],
           stature: tuple[float, float] = ADULTS, step_s: float = STEP_S) -> float:
    """Write the lifter as ONNX, check it, and return its largest deviation from PyTorch in m.

    body_model: its name, and the SHA-256 of its file; extra: further metadata, such as the training command. The number
    of people N is free. Raises ExportError (and leaves no file) where outputs are off by more than 0.1 mm.
    """
    lifter.eval()
    example = tuple(torch.from_numpy(array) for array in random_clips(2, np.random.default_rng(0), lifter).values())
    return write_checked(lifter, example, path, REQUIRED_INPUTS, OUTPUTS, {
        **about_lifters(stature), 'tolerances': json.dumps(TOLERANCES | BODY_TOLERANCES),
        'step_s': repr(step_s), 'frames': str(lifter.shown), 'body_model': body_model[0],
        'body_model_sha256': body_model[1],
        'method': 'PoseNet3D (Tripathi, Ranade, Tyagi, Agrawal; 3DV 2020): mean of teacher and student',
        **extra}, lambda file: parity(lifter, file))


def parity(lifter: PoseNet3DLifter, path: Path, seed: int = 0) -> float:
    """Return the largest difference in m between PyTorch and ONNX Runtime on random people, some without hips.

    Places are taken relative to the distance, as if at 1 m, and so are standard deviations; other outputs count as m.
    What is not finite must not be so in both.
    """
    rng = np.random.default_rng(seed)
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    largest = 0.0
    for people in (1, 7):
        inputs = random_clips(people, rng, lifter)
        with torch.no_grad():
            outputs = [output.numpy() for output in lifter(*map(torch.from_numpy, inputs.values()))]
        again = session.run(list(OUTPUTS), inputs)
        far = np.nan_to_num(np.linalg.norm(outputs[1], axis=-1), nan=1).clip(1)
        for name, mine, its in zip(OUTPUTS, outputs, again):
            if (np.isfinite(mine) != np.isfinite(its)).any():
                return np.inf
            difference = np.nan_to_num(np.abs(mine - its)).reshape(people, -1).max(axis=1)
            power = {'root': 1, 'body_root': 1, 'covariance': 2}.get(name, 0)
            largest = max(largest, float((difference / far ** power).max()))
    return largest


def random_clips(count: int, rng: np.random.Generator, lifter: PoseNet3DLifter) -> dict[str, NDArray[np.float32]]:
    """Return inputs of random people that hardly move; joints are missing, and of every fourth person a hip."""
    body = rng.normal(0, 0.2, (count, 1, 1, 2)) + rng.normal(0, 0.1, (count, 1, len(INPUTS), 2))
    rays = body + rng.normal(0, 0.005, (count, lifter.shown, len(INPUTS), 2))
    confidence = rng.uniform(0.1, 1, rays.shape[:3]) * (rng.random(rays.shape[:3]) < 0.8)
    hips = [INPUTS.index('left_hip'), INPUTS.index('right_hip')]
    confidence[:, :, hips] = rng.uniform(0.1, 1, (count, lifter.shown, 2))
    confidence[3::4, :, hips[0]] = 0
    arrays = {'rays': rays, 'confidence': confidence, 'stature': np.tile(ADULTS, (count, 1))}
    return {name: array.astype(np.float32) for name, array in arrays.items()}
