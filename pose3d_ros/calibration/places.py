"""A camera with its place, and what a rotation and a translation must be before they are one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from pose3d_ros.camera import CalibrationError, Camera

FARTHEST = 1000.0  # m; a camera farther from the origin is most likely given in millimetres
_FARTHEST_GUESS = 50.0  # m, where nothing says that a file is in metres: nobody calibrates a hall of that size by board
_CROOKED = 1e-3  # of R R^T from 1; files with four digits behind the point stay below


@dataclass(frozen=True)
class CalibratedCamera:
    """Intrinsics and, where the file has it, the place of a camera.

    camera_T_world: (4, 4) float64, maps points (m) of the world to the optical frame; None where unknown.
    """

    camera: Camera
    camera_T_world: NDArray[np.float64] | None = None  # noqa: N815 (a_T_b: maps b to a)


def pose_of(rotation: ArrayLike, translation: ArrayLike, source: str) -> NDArray[np.float64]:
    """Return the (4, 4) of a rotation matrix (3, 3) and a translation (3) m.

    The rotation is made exactly one (digits are cut off in files). Raises CalibrationError where it is none, and where
    something is not finite or too far away to be metres.
    """
    turn, shift = (np.asarray(values, dtype=np.float64) for values in (rotation, translation))
    if turn.shape != (3, 3):
        raise CalibrationError(f'{source}: the rotation must be 3 x 3, not {" x ".join(map(str, turn.shape))}')
    if shift.shape != (3,) or not np.isfinite(shift).all():
        raise CalibrationError(f'{source}: translation must be three finite numbers')
    if not np.isfinite(turn).all():
        raise CalibrationError(f'{source}: the rotation holds values that are not finite')
    off = float(np.abs(turn @ turn.T - np.eye(3)).max())
    if off > _CROOKED:
        raise CalibrationError(f'{source}: the rotation matrix is none, it is singular or scaled (its rows are '
                               f'off unit length and right angles by {off:.2g}); repair or repeat the calibration')
    if np.linalg.det(turn) < 0:
        raise CalibrationError(f'{source}: the rotation matrix is a reflection (determinant -1); one of its axes is '
                               'turned round')
    if np.linalg.norm(shift) > FARTHEST:
        raise CalibrationError(f'{source}: translation is over {FARTHEST:g} m long; it must be in metres')
    u, _, v = np.linalg.svd(turn)
    pose = np.eye(4)
    pose[:3, :3] = u @ v  # the nearest rotation
    pose[:3, 3] = shift
    return pose


def pose_of_vectors(rotation: ArrayLike, translation: ArrayLike, source: str) -> NDArray[np.float64]:
    """Return the (4, 4) of a rotation vector (3) rad and a translation (3) m. Raises CalibrationError as pose_of."""
    vector = np.asarray(rotation, dtype=np.float64)
    if vector.shape != (3,) or not np.isfinite(vector).all():
        raise CalibrationError(f'{source}: rotation must be three finite numbers')
    if np.linalg.norm(vector) > 2 * np.pi:
        raise CalibrationError(f'{source}: rotation turns by more than a full turn; it must be in radians')
    pose = pose_of(np.eye(3), translation, source)
    pose[:3, :3] = Rotation.from_rotvec(vector).as_matrix()
    return pose


def metres(translation: ArrayLike, unit_m: float | None, source: str) -> NDArray[np.float64]:
    """Return a translation (3) of a format that does not say its unit in m.

    unit_m: m per unit of the file as the user says; None: metres, unless they cannot be (CalibrationError).
    """
    shift = np.asarray(translation, dtype=np.float64)
    if unit_m is not None:
        return shift * unit_m
    length = float(np.linalg.norm(shift))
    if np.isfinite(length) and length > _FARTHEST_GUESS:
        raise CalibrationError(
            f'{source}: translation is {length:g} long, too far for metres; if the file is in millimetres: pose3d '
            'convert calibration FILE --unit mm --out FILE.yaml (--unit m if it is right)')
    return shift


def with_up(cameras: Mapping[str, CalibratedCamera], up: ArrayLike) -> dict[str, CalibratedCamera]:
    """Return the cameras in a world with the same origin whose z points where `up` (3) did, turned no more than that.

    For files whose world is a camera: where that one stands upright, up is (0, -1, 0), and y becomes the way it looks.
    Raises CalibrationError for an up that is no direction.
    """
    direction = np.asarray(up, dtype=np.float64)
    length = float(np.linalg.norm(direction)) if direction.shape == (3,) else 0.0
    if not np.isfinite(length) or length == 0:
        raise CalibrationError(f'up {direction.tolist()} is no direction; expected three numbers such as 0,-1,0')
    x, y, z = direction / length
    axis, sine = np.array([y, -x, 0.0]), float(np.hypot(x, y))  # up cross z
    axis = np.array([1.0, 0.0, 0.0]) if sine < 1e-12 else axis / sine
    world_T_new = np.eye(4)
    world_T_new[:3, :3] = Rotation.from_rotvec(-np.arctan2(sine, z) * axis).as_matrix()
    return {name: camera if camera.camera_T_world is None else
            replace(camera, camera_T_world=camera.camera_T_world @ world_T_new) for name, camera in cameras.items()}
