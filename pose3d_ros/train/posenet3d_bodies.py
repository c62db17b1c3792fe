"""What the bodies that students give are like: whether joints lie inside them, how twisted and how odd they are."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pose3d_ros.nets.posenet3d import HEAD, HIPS, JOINTS, MODEL_JOINTS, Body, C, middle, normalised
from pose3d_ros.train.posenet3d_student import StudentTraining
from pose3d_ros.train.posenet3d_tables import Figures, Scene, TrainedVariant, bodies

SAMPLED = 80        # poses on which it is looked at where joints lie
_SEED = 0


@torch.no_grad()
def joints_in_body(student: StudentTraining, body: Body) -> Tensor:
    """Return the adapted joints (N, T, 14, 3) in m where the model's own surface is, neither scaled nor shifted."""
    adaptation, model, shape = student.adaptation, student.model, body.shape[:, None]
    if adaptation.kind == 'convex':
        return model.mixtures(adaptation.mixture, body.rotations, shape)
    joints = model.joints(body.rotations, shape)
    root = joints[..., :1, :]
    if adaptation.kind == 'linear':
        flat = (joints - root).flatten(-2) @ adaptation.weight.T + adaptation.bias
        joints = root + flat.unflatten(-1, (-1, 3))
    return joints[..., MODEL_JOINTS, :]


@torch.no_grad()
def rest_joints(student: StudentTraining) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the joints (14, 3) m of the body at rest: the model's own, and the adapted ones."""
    still = torch.eye(3).expand(1, 1, len(student.model.joint_template), 3, 3)
    body = Body(still, torch.zeros(1, 1), torch.ones(1, 1))
    own = student.model.joint_template[MODEL_JOINTS].numpy().astype(np.float64)
    return own, joints_in_body(student, body)[0, 0].numpy().astype(np.float64)


@torch.no_grad()
def regressors(student: StudentTraining) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return W before and after (14, V) of a student with convex adaptation: the model's rows, and those learned."""
    before = student.model.regressor[MODEL_JOINTS].numpy().astype(np.float64)
    return before, student.adaptation.mixture.numpy().astype(np.float64)


@torch.no_grad()
def surfaces(variant: TrainedVariant, scene: Scene) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return vertices (N, V, 3) and adapted joints (N, 14, 3) of a scene's poses, in units against the root.

    Axes are those of the camera turned to each person: x right, y down, z ahead.
    """
    assert variant.student is not None
    body = bodies(variant, scene)
    joints = joints_in_body(variant.student, body)
    scale, root = body.scale[:, :, None, None], middle(joints)
    vertices, _ = variant.student.model(body.rotations, body.shape[:, None])
    return tuple((scale * (each - root))[:, 0].numpy().astype(np.float64)  # type: ignore[return-value]
                 for each in (vertices, joints))


def flat_poses(variant: TrainedVariant, scene: Scene) -> NDArray[np.float64]:
    """Return the 2D poses (N, 14, 2) that a variant is shown of a scene, in units at the root's distance."""
    clip, seen, frame = scene.shown(variant.net.frames, 'centred')
    return C * normalised(torch.from_numpy(clip), torch.from_numpy(seen))[0][:, frame].numpy().astype(np.float64)


def body_figures(variant: TrainedVariant, scene: Scene) -> Figures:
    """Return what bodies of a scene are like, of poses drawn at random, always the same ones.

    outside_share: of joints; outside_mm: how far those are from the surface in the mean; shape_abs: mean |beta|;
    turned_deg: mean angle of the 23 joints against the rest pose; turned_far_share: of joints turned by over 90
    degrees; backwards_share: of people whose hips have left and right the other way round than in truth.
    """
    assert variant.student is not None
    chosen = np.random.default_rng(_SEED).choice(len(scene), min(SAMPLED, len(scene)), replace=False)
    people = scene.where(np.sort(chosen))
    body = bodies(variant, people)
    joints = joints_in_body(variant.student, body)[:, 0].numpy().astype(np.float64)
    faces = variant.student.model.faces.numpy()
    outside, far = [], []
    for number, points in enumerate(joints):
        with torch.no_grad():
            vertices, _ = variant.student.model(body.rotations[number], body.shape[number:number + 1])
        corners = vertices[0].numpy().astype(np.float64)[faces]
        outside.append(winding(points, corners) < 0.5)
        far += surface_distance(points[outside[-1]], corners).tolist()
    angles = np.degrees(turn_angles(body.rotations[:, 0, 1:].numpy()))
    return {'outside_share': float(np.mean(outside)), 'outside_mm': 1e3 * float(np.mean(far)) if far else 0.0,
            'shape_abs': float(body.shape.abs().mean()), 'turned_deg': float(angles.mean()),
            'turned_far_share': float((angles > 90).mean()), 'backwards_share': backwards(joints, people)}


def backwards(joints: NDArray, scene: Scene) -> float:
    """Return the share of people whose hips point away from the true ones; joints (N, 14, 3) in the turned camera."""
    across, true = (each[:, HIPS[0]] - each[:, HIPS[1]] for each in (joints, scene.truth))
    there = np.einsum('nij,nj->ni', scene.clips.turn[scene.moments, scene.views], true)
    return float(((across * there).sum(axis=1) < 0).mean())


def turn_angles(rotations: NDArray) -> NDArray[np.float64]:
    """Return the angles (...) in radians of rotations (..., 3, 3)."""
    trace = np.trace(rotations.astype(np.float64), axis1=-2, axis2=-1)
    return np.arccos(np.clip((trace - 1) / 2, -1, 1))


def adaptation_figures(variant: TrainedVariant, scene: Scene) -> Figures:
    """Return how far (mm) adaptation moved joints on the body at rest (mean of left and right), and how far the hips
    are apart: the model's, the learned ones, and those of the scene's people, were their heads as far from the hips."""
    assert variant.student is not None
    own, learned = rest_joints(variant.student)
    moved = 1e3 * np.linalg.norm(learned - own, axis=-1)
    names = list(dict.fromkeys(joint.removeprefix('left_').removeprefix('right_') for joint in JOINTS))
    result = {f'{name}_mm': float(moved[[joint.endswith(name) for joint in JOINTS]].mean()) for name in names}
    for name, joints in (('model', own), ('learned', learned)):
        result[f'hips_apart_{name}_mm'] = 1e3 * _apart(joints[None])
    true = scene.truth[np.isfinite(scene.truth).all(axis=(1, 2))]
    result['hips_apart_true_mm'] = 1e3 * _apart(true) / _head(true) * _head(own[None])
    return result


def _apart(joints: NDArray) -> float:
    return float(np.linalg.norm(joints[:, HIPS[0]] - joints[:, HIPS[1]], axis=-1).mean())


def _head(joints: NDArray) -> float:
    return float(np.linalg.norm(joints[:, HEAD] - joints[:, list(HIPS)].mean(axis=1), axis=-1).mean())


def winding(points: NDArray, corners: NDArray) -> NDArray[np.float64]:
    """Return how many times a closed surface of triangles (F, 3, 3) goes around points (K, 3): 1 inside, 0 outside.

    The sum of signed solid angles (van Oosterom and Strackee 1983); it holds for surfaces that cross themselves.
    """
    a, b, c = (corners[:, corner].T[:, None] - points.T[:, :, None] for corner in range(3))      # (3, K, F)
    la, lb, lc = (np.sqrt(x * x + y * y + z * z) for x, y, z in (a, b, c))
    volume = (a[0] * (b[1] * c[2] - b[2] * c[1]) + a[1] * (b[2] * c[0] - b[0] * c[2])
              + a[2] * (b[0] * c[1] - b[1] * c[0]))
    spread = la * lb * lc + (a * b).sum(axis=0) * lc + (b * c).sum(axis=0) * la + (c * a).sum(axis=0) * lb
    return np.asarray(np.arctan2(volume, spread).sum(axis=1) / (2 * np.pi))


def surface_distance(points: NDArray, corners: NDArray) -> NDArray[np.float64]:
    """Return how far points (K, 3) are from a surface of triangles (F, 3, 3)."""
    nearest = np.full((len(points), len(corners)), np.inf)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.maximum(np.linalg.norm(normal, axis=-1), 1e-12)
    above = np.ones_like(nearest, dtype=bool)
    for first in range(3):
        start, edge = corners[:, first], corners[:, (first + 1) % 3] - corners[:, first]
        out = points[:, None] - start
        along = np.clip((out * edge).sum(axis=-1) / np.maximum((edge * edge).sum(axis=-1), 1e-12), 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(out - along[..., None] * edge, axis=-1))
        above &= (np.cross(edge, out) * normal).sum(axis=-1) >= 0
    height = np.abs(((points[:, None] - corners[:, 0]) * normal).sum(axis=-1)) / length
    return np.asarray(np.where(above, np.minimum(nearest, height), nearest).min(axis=1, initial=np.inf))
