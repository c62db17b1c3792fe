"""Pictures of people that several cameras see: their skeletons in each camera's image, and the scene from above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pose3d_ros.calibration import CalibratedCamera
from pose3d_ros.camera import Camera
from pose3d_ros.cli.picture import Moment, captioned, joined
from pose3d_ros.draw import Bounds, draw_people, draw_view, world_sides
from pose3d_ros.records import JointState, Person2D, Person3D

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]

_VIEWS = (1360, 800)    # px: width and height that the images of all cameras share
_BESIDE = 560           # px, width of the plan beside them and its least height; of the side view in picture.png too
_FARTHEST = 30.0        # m from the middle of the cameras; who is farther away does not widen the plan
_MARGIN = 0.9            # m around cameras and people, for the cameras' names
_GAP, _PAPER, _DARK = 4, 255, 40


def in_camera(person: Person3D, camera_T_world: Floats) -> Person3D:  # noqa: N803 (a_T_b: maps b to a)
    """Return a person of the world, without a body, in the optical frame of a camera; camera_T_world (4, 4)."""
    turn = camera_T_world[:3, :3]
    return replace(person, position=person.position @ turn.T + camera_T_world[:3, 3],
                   velocity=person.velocity @ turn.T, covariance=turn @ person.covariance @ turn.T, body=None)


def as_seen(person: Person3D, camera: Camera) -> Person2D:
    """Return where a camera sees a person of its optical frame: no measurement, only what to draw.

    joint_confidence is 1 for observed joints, else 0; joints behind the camera, and all sigmas and depths, are NaN.
    """
    pixels = camera.project(person.position)
    known = pixels[np.isfinite(pixels).all(axis=1)]
    box = np.concatenate([known.min(axis=0), known.max(axis=0)]) if len(known) else np.full(4, np.nan)
    nothing = np.full(len(person.skeleton), np.nan)
    return Person2D(person.skeleton, pixels, camera.undistort(pixels), nothing,
                    (person.joint_state == JointState.OBSERVED).astype(float), nothing, box, person.confidence,
                    person.id, person.state)


def likely_up(poses: Floats) -> Floats:
    """Return a vector (3,) of the world about upwards, from camera_T_world (V, 4, 4) alone.

    Cameras stand upright and look down rather than up: each leans on its own y axis, and half as much on its z axis,
    which holds from 20 degrees upwards to 70 degrees downwards, and further for cameras all around.
    """
    return -np.asarray((poses[:, 1, :3] + 0.5 * poses[:, 2, :3]).mean(axis=0))


class FusedPictures:
    """Draws people of the world as the cameras see them, side by side, and beside that the scene from above.

    cameras: by name, all with places. The plan widens as people go where nobody has been; it never narrows.
    """

    def __init__(self, cameras: Mapping[str, CalibratedCamera]) -> None:
        self._poses: dict[str, Floats] = {}
        for name, calibrated in cameras.items():
            if calibrated.camera_T_world is None:
                raise ValueError(f'{name} has no camera_T_world: people of the world cannot be drawn in its image')
            self._poses[name] = calibrated.camera_T_world
        poses = np.array(list(self._poses.values()))
        self._eyes = -np.einsum('vji,vj->vi', poses[:, :3, :3], poses[:, :3, 3])
        self._sides = world_sides(likely_up(poses))
        self._low, self._high = self._eyes.min(axis=0), self._eyes.max(axis=0)
        self.rows, self._scale = _layout([calibrated.camera for calibrated in cameras.values()])
        self._cameras = {name: calibrated.camera.resized(round(calibrated.camera.width * self._scale),
                                                         round(calibrated.camera.height * self._scale))
                         for name, calibrated in cameras.items()}

    def draw(self, images: Mapping[str, Image], people: Sequence[Person3D]) -> Image:
        """Return the images (H, W, 3) BGR by camera with the people of the world in them, and the plan beside.

        A camera without an image is left dark.
        """
        tiles = [self._tile(name, images.get(name), people) for name in self._cameras]
        across = -(-len(tiles) // self.rows)
        cell = tuple(max(tile.shape[axis] for tile in tiles) + _GAP for axis in (0, 1))
        height = max(cell[0] * self.rows, _BESIDE)
        canvas: Image = np.full((height, cell[1] * across, 3), _PAPER, dtype=np.uint8)
        for place, tile in enumerate(tiles):
            top, left = (place // across) * cell[0], (place % across) * cell[1]
            canvas[top:top + tile.shape[0], left:left + tile.shape[1]] = tile
        plan = draw_view(people, self._sides['above'], (_BESIDE, height), self._bounds(people), self._poses)
        return np.concatenate([canvas, plan], axis=1)

    def picture(self, moments: Sequence[Moment]) -> Image:
        """Return picture.png (H, W, 3) BGR: a row per moment, as draw() gives it, with the view from the side."""
        bounds = self._bounds([person for moment in moments for person in moment.people])
        start = moments[0].stamp_ns
        rows = []
        for moment in moments:
            size = (_BESIDE, moment.image.shape[0])
            side = self._sides['side']
            side = replace(side, title=f'{(moment.stamp_ns - start) * 1e-9:.2f} s, {side.title}')
            rows.append(np.concatenate([
                moment.image[:, :-_BESIDE],  # the plan beside showed only what was known then
                draw_view(moment.people, self._sides['above'], size, bounds, self._poses),
                draw_view(moment.people, side, size, bounds, self._poses)], axis=1))
        return joined(rows, axis=0)

    def _tile(self, name: str, image: Image | None, people: Sequence[Person3D]) -> Image:
        camera = self._cameras[name]
        if image is None:
            small: Image = np.full((camera.height, camera.width, 3), _DARK, dtype=np.uint8)
        else:
            small = np.asarray(cv2.resize(image, (camera.width, camera.height), interpolation=cv2.INTER_AREA),
                               dtype=np.uint8)
            local = [in_camera(person, self._poses[name]) for person in people]
            seen = [as_seen(person, camera) for person in local]
            size = (camera.width, camera.height)
            seen = [person for person in seen if ((person.pixels >= 0) & (person.pixels < size)).all(axis=1).any()]
            small = draw_people(small, seen, local)
        return captioned(small, name if image is not None else f'{name}: no image', (camera.width, camera.height))

    def _bounds(self, people: Sequence[Person3D]) -> Bounds:
        joints = np.concatenate([np.zeros((0, 3)), *(person.position for person in people)])
        near = np.linalg.norm(joints - self._eyes.mean(axis=0), axis=1) < _FARTHEST
        corners = np.concatenate([joints[near], [self._low, self._high]])
        self._low, self._high = corners.min(axis=0), corners.max(axis=0)
        return Bounds.around([], margin=_MARGIN, eyes=np.stack([self._low, self._high]))


def _layout(cameras: Sequence[Camera]) -> tuple[int, float]:
    """Return in how many rows images of these cameras fill their space best, and the scale [px per px] that does."""
    largest = np.array([max(camera.width for camera in cameras), max(camera.height for camera in cameras)])
    best = (1, 0.0)
    for rows in range(1, len(cameras) + 1):
        cells = np.array([-(-len(cameras) // rows), rows])
        scale = min(float(((np.array(_VIEWS) / cells - _GAP) / largest).min()), 1.0)
        if scale > best[1]:
            best = (rows, scale)
    return best
