"""Places of cameras as TF in a bag says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pose3d_ros.cli.bag import Bag
from pose3d_ros.cli.errors import UserError
from pose3d_ros.ros.frame_tree import FrameTree, TransformException

TF_TOPICS, TF = ('/tf', '/tf_static'), 'tf2_msgs/msg/TFMessage'
_MOVED_M, _TURNED_DEG = 0.02, 0.5  # what a camera that stands still may seem to move in TF
_MOMENTS = 21  # from the first stamp to the last; TF need not know all, since its recording begins and ends otherwise


def places_in_bag(bag: Bag, frames: Mapping[str, str], spans: Mapping[str, Sequence[int]],
                  common: str) -> dict[str, NDArray[np.float64]]:
    """Return camera_T_common (4, 4) by name of cameras that stand still.

    frames: the optical frames by name of camera; spans: first and last stamp [ns] between which to ask. Raises
    UserError where TF knows a frame at no time between, and for a camera that moves.
    """
    tree = _tree(bag, common)
    places = {}
    for name, frame in frames.items():
        first, last = spans[name]
        try:
            known = _poses(tree, frame, common, np.linspace(first, last, _MOMENTS))
        except TransformException as error:
            raise UserError(f'{bag.path}: TF has no place of {name} in {common}: {error}; give another --frame, or '
                            'start from a file (--places) or from nothing') from None
        turn, shift = _moved(known)
        if shift > _MOVED_M or turn > _TURNED_DEG:
            raise UserError(f'{bag.path}: {name} moves in {common} by TF ({100 * shift:.0f} cm, {turn:.1f} degrees): '
                            'places are found for cameras that stand still; record while they do, or take a frame '
                            'that moves with them')
        places[name] = known[0]
    return places


def paths_in_bag(bag: Bag, frames: Mapping[str, str], stamps: Mapping[str, Sequence[int]],
                 common: str) -> dict[str, NDArray[np.float64]]:
    """Return camera_T_common (N, 4, 4) by name at stamps (N) [ns] of cameras that may move; NaN where TF has gaps.

    Raises UserError where TF knows no place at all of a camera.
    """
    tree, paths = _tree(bag, common), {}
    for name, frame in frames.items():
        path, why = np.full((len(stamps[name]), 4, 4), np.nan), ''
        for number, stamp in enumerate(stamps[name]):
            try:
                path[number] = _pose(tree, frame, common, stamp)
            except TransformException as error:
                why = str(error)
        if not np.isfinite(path).any():
            raise UserError(f'{bag.path}: TF has no place of {name} in {common}: {why}; give another --frame, or the '
                            'places in a file (--calibration)')
        paths[name] = path
    return paths


def _tree(bag: Bag, common: str) -> FrameTree:
    """Return all of TF in the bag."""
    topics = [topic for topic in TF_TOPICS if topic in bag.topics]
    if not topics:
        raise UserError(f'{bag.path}: no {" nor ".join(TF_TOPICS)} to know --frame {common} from; record them, or '
                        'give the places in a file')
    bag.check(topics, [TF])
    tree = FrameTree(history_s=float('inf'))
    for topic, message in bag.messages(topics):
        for transform in message.transforms:
            tree.put(transform, static=topic == '/tf_static', now_s=0.0)
    return tree


def _pose(tree: FrameTree, target: str, source: str, stamp_ns: int) -> NDArray[np.float64]:
    """Return target_T_source (4, 4). Raises TransformException."""
    quaternion, translation = tree.lookup(target, source, stamp_ns)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = Rotation.from_quat(quaternion).as_matrix(), translation
    return pose


def _poses(tree: FrameTree, target: str, source: str, stamps_ns: Iterable[float]) -> NDArray[np.float64]:
    """Return target_T_source (N, 4, 4) at those stamps at which it is known. Raises TransformException for none."""
    poses, reason = [], TransformException('at no time')
    for stamp in stamps_ns:
        try:
            poses.append(_pose(tree, target, source, int(stamp)))
        except TransformException as error:
            reason = error
    if not poses:
        raise reason
    return np.array(poses)


def _moved(poses: NDArray[np.float64]) -> tuple[float, float]:
    """Return how far a camera turned [deg] and went [m] at most from its first pose; camera_T_common (N, 4, 4)."""
    turned = Rotation.from_matrix(poses[:, :3, :3] @ poses[0, :3, :3].T).magnitude()
    places = np.linalg.inv(poses)[:, :3, 3]
    return float(np.degrees(turned.max())), float(np.linalg.norm(places - places[0], axis=1).max())
