"""Bodies of a video for other programs: bodies.glb, obj/ and person_ID.bvh, y up, in metres and in the video's time."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pose3d_ros.body_model import BodyModel
from pose3d_ros.calibration import CalibratedCamera
from pose3d_ros.cli.bodies import BODIES, BodyTable, body_model_for, for_drawing, save_bodies
from pose3d_ros.cli.errors import UserError
from pose3d_ros.mesh_files import Y_UP_FROM_Z_UP, BodyMotion, resampled, write_bvh, write_obj_sequence
from pose3d_ros.mesh_gltf import Actor, write_glb
from pose3d_ros.records import GroundPlane

# Somebody who is not seen for longer was away; over less, the motion goes on. One frame left out is never an absence.
GAP_S, GAP_FRAMES = 0.5, 2.5
FEWEST_FRAMES = 3  # of an appearance, to be told from a mistake of the detector
GLB, OBJ = 'bodies.glb', 'obj'

_CAMERA_UP = np.array([0.0, -1.0, 0.0])
_NUMBERED = (('*', re.compile(r'person_\d+(_part\d+)?\.bvh')), (f'{OBJ}/*/*', re.compile(r'person_\d+_\d{6,}\.obj')))


@dataclass(frozen=True)
class Stage:
    """Where exported people stand: the camera's pose (4, 4) in axes with y up, and in words what their origin is."""

    camera: NDArray[np.float64]
    origin: str


def stage_of(camera: CalibratedCamera, ground: GroundPlane | None) -> Stage:
    """Return the axes of exported people: y up, in metres.

    With a known floor the origin is on it, under the camera, which looks along -z; with a place in the calibration
    file, it is that file's world, whose z is up; else it is the camera, with what is up in its image.
    """
    pose = camera.camera_T_world
    if ground is not None:
        return Stage(_upright(ground.up, ground.camera_height), 'the floor under the camera')
    # Of a camera that looks straight up in the world, the world is rather the camera's own frame than one with z up.
    if pose is not None and pose[2, 2] < 0.99:
        turned = np.eye(4)
        turned[:3, :3] = Y_UP_FROM_Z_UP
        return Stage(np.asarray(turned @ np.linalg.inv(pose), dtype=np.float64), "the world's of the calibration file")
    return Stage(_upright(_CAMERA_UP, 0.0), 'the camera')


def _upright(up: NDArray[np.float64], height: float) -> NDArray[np.float64]:
    """Return the pose (4, 4) of a camera that looks along -z, `height` m above the origin; up (3,) in its frame."""
    ahead = np.array([0.0, 0.0, 1.0])
    if abs(up[2]) > 0.99:  # straight down or up: ahead is what is up in its image, or down
        ahead = -np.sign(up[2]) * _CAMERA_UP
    ahead = ahead - (ahead @ up) * up
    ahead /= np.linalg.norm(ahead)
    result = np.eye(4)
    result[:3, :3] = [np.cross(ahead, up), up, -ahead]
    result[1, 3] = height
    return result


@dataclass(frozen=True)
class Scene:
    """The people of a video in exported axes; fps: of its frames. left_out: appearances that were too short."""

    actors: list[tuple[int, Actor]]
    fps: float
    left_out: int

    def about(self) -> list[dict[str, Any]]:
        """Return who is there and when, for summary.json: all times in s of the video."""
        return [{'id': id_, 'appearances': [{'start_s': round(float(piece.times[0]), 3),
                                             'end_s': round(float(piece.times[-1]), 3), 'frames': len(piece.times)}
                                            for piece in actor.pieces]} for id_, actor in self.actors]


def scene_of(table: BodyTable, model: BodyModel, stage: Stage, fps: float) -> Scene:
    """Return the people as they are exported: each with one body for all frames, at every frame of the video.

    Shape, scale and stature of a person are the medians over all frames. A frame in which the person was taken to be
    of another stature is brought to this one along the lines of sight: so it stays where the image shows it. Gaps up to
    GAP_S (or of a frame) are bridged; over longer ones there is nobody. Appearances of less than FEWEST_FRAMES are left
    out.
    """
    actors, left_out, gap_ns = [], 0, 1e9 * max(GAP_S, GAP_FRAMES / fps)
    for id_ in np.unique(table.ids).tolist():
        rows = np.flatnonzero(table.ids == id_)
        starts = np.flatnonzero(np.diff(table.stamps_ns[rows]) > gap_ns) + 1
        appearances = np.split(rows, starts)
        kept = [part for part in appearances if len(part) >= FEWEST_FRAMES]
        left_out += len(appearances) - len(kept)
        if kept:
            actors.append((id_, _actor(table, kept, model, stage, fps, f'person_{id_}')))
    return Scene(actors, fps, left_out)


def _actor(table: BodyTable, appearances: Sequence[NDArray[np.intp]], model: BodyModel, stage: Stage, fps: float,
           name: str) -> Actor:
    """Return one person; appearances: the rows of the table in which the person is."""
    rows = np.concatenate(appearances)
    told = np.isfinite(table.height[rows]).all()
    grow = np.median(table.height[rows]) / table.height[rows] if told else np.ones(len(rows))
    shape = np.asarray(np.median(table.shape[rows], axis=0), dtype=np.float64)
    own = model.scaled(float(np.median(grow * table.scale[rows])))
    turn, shift = stage.camera[:3, :3], stage.camera[:3, 3]
    places = grow[:, None] * table.root[rows] @ turn.T + shift - own.rest(shape)[1][0]
    rotations = Rotation.from_quat(table.rotations[rows].reshape(-1, 4)).as_matrix().reshape(len(rows), -1, 3, 3)
    rotations[:, 0] = turn @ rotations[:, 0]
    times = np.asarray(table.stamps_ns[rows] * 1e-9, dtype=np.float64)
    pieces, begin = [], 0
    for part in appearances:
        piece = slice(begin, begin + len(part))
        begin += len(part)
        pieces.append(resampled(BodyMotion(rotations[piece], places[piece], shape, times[piece], name), fps))
    return Actor(own, pieces)


@dataclass(frozen=True)
class BodyOutput:
    """What is written of bodies. wanted: name and SHA-256 of their body model.

    model: None if its file is lacking; drawn: the same for pictures.
    """

    wanted: tuple[str, str]
    model: BodyModel | None
    drawn: BodyModel | None
    meshes: tuple[str, ...] = ()
    bvh: bool = False

    @classmethod
    def of(cls, args: argparse.Namespace, wanted: tuple[str, str] | None) -> BodyOutput | None:
        """Return what the options ask for; None from a lifter without bodies. Raises as body_model_for."""
        model = body_model_for(args, wanted)
        drawn = None if model is None else for_drawing(model)
        return None if wanted is None else cls(wanted, model, drawn, tuple(args.mesh), args.bvh)

    def write(self, folder: Path, table: BodyTable, stage: Stage, fps: float) -> dict[str, Any]:
        """Write all files into a folder, say what was left out, and return what summary.json says of it.

        fps: of the video. Raises UserError.
        """
        save_bodies(folder / BODIES, table, self.wanted, stage.camera)
        about: dict[str, Any] = {'model': self.wanted[0], 'origin': stage.origin, 'files': [BODIES]}
        if self.model is None or not (self.meshes or self.bvh):
            return about
        scene = scene_of(table, self.model, stage, fps)
        about['files'] += export(folder, scene, self.meshes, self.bvh)
        if scene.left_out:
            print(f'appearances of less than {FEWEST_FRAMES} frames, left out of the meshes: {scene.left_out}')
        if not scene.actors:
            print('nobody was there for long enough: no meshes, no BVH')
        return {**about, 'left_out': scene.left_out, 'people': scene.about()}


def remove_exports(folder: Path) -> None:
    """Remove what an earlier run exported into a folder. Raises UserError."""
    try:
        for name in (BODIES, GLB):
            (folder / name).unlink(missing_ok=True)
        for places, names in _NUMBERED:
            for path in [path for path in folder.glob(places) if names.fullmatch(path.name)]:
                path.unlink()
        for path in [*folder.glob(f'{OBJ}/*'), folder / OBJ]:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
    except OSError as error:
        raise UserError(f'cannot write to {folder}: {error.strerror or error}') from error


def export(folder: Path, scene: Scene, meshes: Collection[str], bvh: bool) -> list[str]:
    """Write the files that are wanted into a folder, and return what to look at there. Raises UserError."""
    if not scene.actors:
        return []
    done = []
    try:
        if 'glb' in meshes:
            write_glb(folder / GLB, [actor for _, actor in scene.actors], 0.0)
            done.append(GLB)
        if 'obj' in meshes:
            for _, actor in scene.actors:
                for piece in actor.pieces:
                    write_obj_sequence(folder / OBJ / piece.name, actor.model, piece,
                                       round(float(piece.times[0]) * scene.fps))
            done.append(f'{OBJ}/')
        if bvh:
            for name, model, piece in _named(scene):
                write_bvh(folder / name, model, piece)
                done.append(name)
    except OSError as error:
        raise UserError(f'cannot write to {folder}: {error.strerror or error}') from error
    return done


def _named(scene: Scene) -> Iterator[tuple[str, BodyModel, BodyMotion]]:
    """Yield each appearance with the name of its BVH file: the format knows no being away."""
    for id_, actor in scene.actors:
        for number, piece in enumerate(actor.pieces, 1):
            yield f'person_{id_}{f"_part{number}" if number > 1 else ""}.bvh', actor.model, piece
