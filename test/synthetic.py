"""Synthetic people for tests: a simple body with arms and legs that swing, seen by a pinhole camera."""

from __future__ import annotations

import numpy as np

from pose3d_ros.camera import Camera
from pose3d_ros.records import Person2D
from pose3d_ros.skeleton import BLAZEPOSE33

CAMERA = Camera(1280, 720, 900.0, 900.0, 640.0, 360.0)

# Metres; body axes: x to the person's left, y up, z out of the chest; origin on the floor between the feet.
_STANDING = {
    'nose': (0.0, 1.58, 0.10), 'left_eye': (0.03, 1.62, 0.08), 'left_eye_inner': (0.015, 1.62, 0.09),
    'left_eye_outer': (0.045, 1.62, 0.07), 'left_ear': (0.075, 1.60, 0.0), 'left_mouth': (0.025, 1.54, 0.08),
    'left_shoulder': (0.18, 1.40, 0.0), 'left_elbow': (0.22, 1.11, -0.02), 'left_wrist': (0.23, 0.86, 0.06),
    'left_pinky': (0.24, 0.78, 0.06), 'left_index': (0.23, 0.77, 0.09), 'left_thumb': (0.21, 0.80, 0.10),
    'left_hip': (0.09, 0.92, 0.0), 'left_knee': (0.10, 0.50, 0.03), 'left_ankle': (0.10, 0.09, 0.0),
    'left_heel': (0.10, 0.03, -0.05), 'left_foot_index': (0.12, 0.02, 0.15),
}
_ARM = ('elbow', 'wrist', 'pinky', 'index', 'thumb')
_LEG = ('knee', 'ankle', 'heel', 'foot_index')


def body(phase: float = 0.0, swing: float = 0.35) -> np.ndarray:
    """Return joints (33, 3) m of BLAZEPOSE33 in body axes; phase [rad] of the stride, swing [rad] of the limbs."""
    joints = np.zeros((len(BLAZEPOSE33), 3))
    for name in BLAZEPOSE33.joints:
        side, _, rest = name.partition('_')
        if side == 'right':
            joints[BLAZEPOSE33.index(name)] = np.array(_STANDING['left_' + rest]) * (-1, 1, 1)
        else:
            joints[BLAZEPOSE33.index(name)] = _STANDING[name]
    for side, sign in (('left', 1.0), ('right', -1.0)):
        for pivot, names, direction in ((f'{side}_shoulder', _ARM, -1.0), (f'{side}_hip', _LEG, 1.0)):
            angle = sign * direction * swing * np.sin(phase)
            rotation = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
            chosen = BLAZEPOSE33.indices([f'{side}_{name}' for name in names])
            centre = joints[BLAZEPOSE33.index(pivot)]
            joints[chosen] = (joints[chosen] - centre) @ rotation.T + centre
    return joints


def placed(joints: np.ndarray, x: float, z: float, heading: float = 0.0, camera_height: float = 1.2) -> np.ndarray:
    """Return joints (..., 3) m in the optical frame of a level camera.

    x to the right, z ahead [m]: where the person stands; heading [rad]: 0 faces the camera, pi/2 its right-hand side.
    """
    cosine, sine = np.cos(heading), np.sin(heading)
    left, up, ahead = joints[..., 0], joints[..., 1], joints[..., 2]
    return np.stack([x + cosine * left + sine * ahead, camera_height - up, z + sine * left - cosine * ahead], -1)


def seen(points: np.ndarray, camera: Camera = CAMERA, noise: float = 0.0, rng: np.random.Generator | None = None,
         face: float = 0.9) -> Person2D:
    """Return what a detector would give for points (33, 3) m; noise [px]; joints outside the image are NaN."""
    pixels = camera.project(points)
    if rng is not None:
        pixels = pixels + rng.normal(0, noise, pixels.shape)
    inside = ((pixels >= 0) & (pixels <= (camera.width - 1, camera.height - 1))).all(axis=-1)
    pixels = np.where(inside[:, None], pixels, np.nan)
    known = pixels[inside] if inside.any() else np.zeros((1, 2))
    confidence = np.where(inside, 0.9, np.nan)
    confidence[:11] = np.where(inside[:11], face, np.nan)
    return Person2D(
        skeleton=BLAZEPOSE33, pixels=pixels, rays=camera.undistort(pixels),
        sigma=np.where(inside, max(noise, 1.0), np.nan), joint_confidence=confidence,
        depth=np.where(inside, 0.0, np.nan), box=np.concatenate([known.min(axis=0), known.max(axis=0)]), confidence=0.9)
