"""Files of rendered pictures, and sheets of them to look at."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.render.people import Pictures

KIND = 'pose3d rendered people'
_CELL, _COLUMNS, _ROWS = 128, 10, 6


def save_pictures(path: Path, pictures: Pictures, subject: NDArray, *, domain: str, split: str, seed: int,
                  command: str) -> None:
    """Write pictures as .npz, at once or not at all: the arrays of Pictures, subject (N,) of each, and how it was made.

    Arrays beside those: kind, joint_names (17,), size px, domain, split, seed, command. None needs allow_pickle.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + '.part')
    with part.open('wb') as file:
        np.savez_compressed(
            file, kind=KIND, images=pictures.images, joints2d=pictures.joints2d, visible=pictures.visible,
            hidden=pictures.hidden, joints3d=pictures.joints3d, pelvis=pictures.pelvis, camera=pictures.camera,
            subject=subject, joint_names=np.array(HUMAN17.joints), size=pictures.images.shape[1], domain=domain,
            split=split, seed=seed, command=command)
    part.replace(path)


def contact_sheet(pictures: Pictures, skeletons: bool = True) -> NDArray[np.uint8]:
    """Return the first pictures side by side (H, W, 3) RGB; with skeletons: every other row again with its joints.

    Bones of the left side are orange, of the right blue, of the middle white; hidden joints have no dot.
    """
    shown = min(len(pictures), _COLUMNS * (_ROWS // 2 if skeletons else _ROWS))
    cells = [cv2.resize(image, (_CELL, _CELL), interpolation=cv2.INTER_CUBIC) for image in pictures.images[:shown]]
    rows = []
    for start in range(0, shown, _COLUMNS):
        chosen = range(start, min(start + _COLUMNS, shown))
        rows.append([cells[index] for index in chosen])
        if skeletons:
            rows.append([_with_bones(cells[index], pictures, index) for index in chosen])
    blank = np.zeros((_CELL, _CELL, 3), dtype=np.uint8)
    return np.concatenate([np.concatenate(row + [blank] * (min(_COLUMNS, shown) - len(row)), axis=1) for row in rows])


def _with_bones(cell: NDArray, pictures: Pictures, index: int) -> NDArray[np.uint8]:
    drawn = (cell // 2).copy()
    joints = (pictures.joints2d[index] + 0.5) * (_CELL / pictures.images.shape[1]) - 0.5
    colours = {'left': (255, 150, 40), 'right': (70, 150, 255), 'middle': (240, 240, 240)}
    for a, b in HUMAN17.bones:
        side = HUMAN17.side(b)
        ends = [np.round(joints[HUMAN17.index(joint)]).astype(int).tolist() for joint in (a, b)]
        cv2.line(drawn, ends[0], ends[1], colours[side], 2, cv2.LINE_AA)
    for joint, hidden in zip(joints, pictures.hidden[index]):
        if not hidden:
            cv2.circle(drawn, np.round(joint).astype(int).tolist(), 3, (255, 255, 255), -1, cv2.LINE_AA)
    return drawn
