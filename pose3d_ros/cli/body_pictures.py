"""The picture of a body model: three poses from three sides, and what the shape components do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pose3d_ros.body_model import JOINTS, BodyModel
from pose3d_ros.cli.errors import UserError
from pose3d_ros.draw_mesh import draw_mesh, turned
from pose3d_ros.skeleton import SMPL24

_SIZE, _SPAN = (330, 390), 2.12
_SMALL, _SMALL_SPAN = (198, 230), 2.35
_SIDES = (('front', 0.0), ('left', 75.0), ('back', 180.0))
_MOST_SHAPES = 10
_SHADES = 4
_FAR = 2.5  # of a shape component
_INK = (70, 62, 56)

# Turns about fixed axes x, y, z in this order, degrees. Arms hang down from the T of the rest pose.
_ARMS_DOWN = {'left_collar': (0, 0, -8), 'right_collar': (0, 0, 8)}
POSES: dict[str, dict[str, tuple[float, float, float]]] = {
    'rest': {},
    'walking': {**_ARMS_DOWN, 'left_hip': (-28, 0, 0), 'left_knee': (12, 0, 0), 'left_ankle': (8, 0, 0),
                'right_hip': (18, 0, 0), 'right_knee': (35, 0, 0), 'right_ankle': (10, 0, 0),
                'left_elbow': (0, -25, 0), 'right_elbow': (0, 40, 0)},
    'sitting': {**_ARMS_DOWN, 'spine1': (5, 0, 0), 'left_hip': (-88, 0, 8), 'right_hip': (-88, 0, -8),
                'left_knee': (90, 0, 0), 'right_knee': (90, 0, 0), 'left_elbow': (0, -55, 0),
                'right_elbow': (0, 55, 0)},
}
_SHOULDERS = {'walking': (22.0, -26.0), 'sitting': (-22.0, -22.0)}  # swing of left and right, degrees, back is positive


def pose(name: str) -> NDArray[np.float64]:
    """Return the rotations (24, 3, 3) of one of POSES."""
    rotations = turns(POSES[name])
    for side, sign, swing in zip(('left', 'right'), (1, -1), _SHOULDERS.get(name, ())):
        down = Rotation.from_euler('z', -66 * sign, degrees=True)
        rotations[SMPL24.index(f'{side}_shoulder')] = (Rotation.from_euler('x', swing, degrees=True) * down).as_matrix()
    return rotations


def turns(degrees: Mapping[str, tuple[float, float, float]]) -> NDArray[np.float64]:
    """Return rotations (24, 3, 3) of joints turned about the fixed axes x, y, z; the others at rest."""
    rotations = np.tile(np.eye(3), (JOINTS, 1, 1))
    for joint, angles in degrees.items():
        rotations[SMPL24.index(joint)] = Rotation.from_euler('xyz', angles, degrees=True).as_matrix()
    return rotations


def write_picture(path: Path, model: BodyModel) -> None:
    """Write a PNG (or what the name's ending says). Raises UserError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.vstack([_poses(model), _shapes(model)])
    picture = (picture // _SHADES * _SHADES).astype(np.uint8)  # nobody sees it, and the file is half as long
    try:
        good = cv2.imwrite(str(path), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    except cv2.error as error:
        raise UserError(f'{path}: no picture format of this name; end it in .png') from error
    if not good:
        raise UserError(f'{path}: cannot be written')


def _poses(model: BodyModel) -> NDArray[np.uint8]:
    """Return three poses, each from three sides."""
    vertices, _ = model.pose(np.stack([pose(name) for name in POSES]))
    rows = []
    for side, angle in _SIDES:
        rows.append(np.hstack([_titled(_drawn(model, body, angle, _SIZE, _SPAN), f'{name}, {side}')
                               for name, body in zip(POSES, vertices)]))
    return np.vstack(rows)


def _shapes(model: BodyModel) -> NDArray[np.uint8]:
    """Return the body with each component at its ends, as wide as the poses."""
    cells = []
    for component in range(min(model.shapes, _MOST_SHAPES)):
        for amount in (-_FAR, _FAR):
            vertices, _ = model.rest(np.eye(model.shapes)[component] * amount)
            drawn = _drawn(model, vertices, 25.0, _SMALL, _SMALL_SPAN)
            cells.append(_titled(drawn, f'{component}: {amount:+.1f}', 0.4))
    width = len(POSES) * _SIZE[0]
    across = width // _SMALL[0]
    rows = [np.hstack(cells[start:start + across]) for start in range(0, len(cells), across)]
    return np.vstack([cv2.copyMakeBorder(row, 0, 0, 0, width - row.shape[1], cv2.BORDER_CONSTANT,
                                         value=(250, 250, 250)) for row in rows])


def _drawn(model: BodyModel, vertices: NDArray, angle: float, size: tuple[int, int], span: float,
           ) -> NDArray[np.uint8]:
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    return draw_mesh(vertices, model.faces, turned(angle), size, span, 0.5 * (low + high))


def _titled(picture: NDArray[np.uint8], text: str, scale: float = 0.5) -> NDArray[np.uint8]:
    cv2.putText(picture, text, (8, picture.shape[0] - 8), cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, 1, cv2.LINE_AA)
    return picture
