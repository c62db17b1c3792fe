"""The bodies that `pose3d run` finds: collected, kept in bodies.npz, and drawn over the images."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pose3d_ros.body_model import BodyModel, load_body_model
from pose3d_ros.body_model_file import BodyModelError
from pose3d_ros.camera import Camera
from pose3d_ros.cli.errors import UserError
from pose3d_ros.decimate import decimate
from pose3d_ros.draw_mesh import draw_bodies
from pose3d_ros.mesh_files import written
from pose3d_ros.records import Person3D
from pose3d_ros.skeleton import SMPL24

MESHES = ('glb', 'obj')
BODIES = 'bodies.npz'
KIND = 'pose3d bodies 1'
_DRAWN = 4000  # triangles over an image: hardly to be told from more, and drawn in half the time of the mannequin's


def add_body_options(parser: argparse.ArgumentParser) -> None:
    """Add --mesh, --bvh and --body-model."""
    group = parser.add_argument_group('bodies', 'of a lifter that gives them (--lifter posenet3d), for one camera')
    group.add_argument('--mesh', action='append', choices=MESHES, default=[],
                       help='write everybody as a mesh that moves: glb (bodies.glb, one animated glTF file) or obj (a '
                            'folder of files, one per frame); may be given twice')
    group.add_argument('--bvh', action='store_true', help="write everybody's joints: person_ID.bvh")
    group.add_argument('--body-model', type=Path, metavar='FILE.npz',
                       help='that the lifter was trained with (default: the mannequin that ships)')


def given_options(args: argparse.Namespace) -> str:
    """Return the first of these options that was given, '' for none."""
    given = {'--mesh': args.mesh, '--bvh': args.bvh, '--body-model': args.body_model}
    return next((name for name, value in given.items() if value), '')


def body_model_for(args: argparse.Namespace, wanted: tuple[str, str] | None) -> BodyModel | None:
    """Return the body model of the bodies; None where there are none, or only its file is lacking (this is said).

    wanted: name and SHA-256 of the one that the lifter gives bodies in; None: it gives none. Raises UserError for
    options that cannot be served then, and BodyModelError for another model's file.
    """
    option = given_options(args)
    if wanted is None:
        if option:
            raise UserError(f'{option} needs a lifter that gives bodies, which {args.lifter} does not: add --lifter '
                            'posenet3d')
        return None
    try:
        return load_body_model(args.body_model, wanted)
    except BodyModelError as error:
        if option:
            raise
        print(f'pose3d: no bodies in the pictures: {error}', file=sys.stderr)
        return None


@dataclass(frozen=True)
class BodyTable:
    """N bodies, one after the other as the frames came: what bodies.npz holds, see docs/bodies.md.

    stamps_ns (N,); ids (N,); rotations (N, 24, 4): quaternions x y z w of each joint against its parent, of the root
    against the camera's optical frame; shape (N, b); scale (N,); root (N, 3) m; height (N,) m, NaN where nobody says.
    """

    stamps_ns: NDArray[np.int64]
    ids: NDArray[np.int64]
    rotations: NDArray[np.float32]
    shape: NDArray[np.float64]
    scale: NDArray[np.float64]
    root: NDArray[np.float64]
    height: NDArray[np.float64]


class Bodies:
    """Collects the bodies of a video, frame by frame."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, NDArray, NDArray, float, NDArray, float]] = []

    def add(self, stamp_ns: int, people: Sequence[Person3D]) -> None:
        """Take the bodies of the people of a frame; who has none is left out."""
        for person in people:
            if (body := person.body) is not None:
                turns = Rotation.from_matrix(body.rotations).as_quat().astype(np.float32)
                self._rows.append((stamp_ns, person.id, turns, body.shape, body.scale, body.root, person.height))

    def table(self) -> BodyTable:
        """Return all that was collected."""
        if not self._rows:
            return BodyTable(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, len(SMPL24), 4), np.float32),
                             np.zeros((0, 0)), np.zeros(0), np.zeros((0, 3)), np.zeros(0))
        stamps, ids, turns, shape, scale, root, height = zip(*self._rows)
        return BodyTable(np.array(stamps, np.int64), np.array(ids, np.int64), np.stack(turns),
                         np.stack(shape).astype(np.float64), np.array(scale, np.float64),
                         np.stack(root).astype(np.float64), np.array(height, np.float64))


def save_bodies(path: Path, table: BodyTable, wanted: tuple[str, str], export_T_camera: NDArray[np.float64]) -> None:
    """Write the table as .npz, at once or not at all. Raises UserError.

    wanted: name and SHA-256 of the body model; export_T_camera (4, 4): from the camera's optical frame to the axes of
    the files for other programs.
    """
    name, digest = wanted
    try:
        with written(path, 'wb') as file:
            np.savez_compressed(file, allow_pickle=False, kind=np.array(KIND), body_model=np.array(name),
                                body_model_sha256=np.array(digest), joint_names=np.array(SMPL24.joints),
                                export_T_camera=export_T_camera, stamp_s=table.stamps_ns * 1e-9, id=table.ids,
                                rotations=table.rotations, shape=table.shape, scale=table.scale, root=table.root,
                                height=table.height)
    except OSError as error:
        raise UserError(f'{path}: cannot be written ({error.strerror or error})') from error


def for_drawing(model: BodyModel) -> BodyModel:
    """Return the model, of as many triangles as are soon drawn."""
    return model if len(model.faces) <= _DRAWN else decimate(model, _DRAWN)[0]


def over_image(image: NDArray[np.uint8], camera: Camera, model: BodyModel | None, people: Sequence[Person3D],
               ) -> NDArray[np.uint8]:
    """Return the image (H, W, 3) BGR with the surfaces of those people over it who have one; as it is without a model.
    """
    bodies = [person.body for person in people if person.body is not None]
    if model is None or not bodies:
        return image
    return draw_bodies(image, camera, model.placed(bodies)[0], model.faces)
