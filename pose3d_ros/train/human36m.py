"""Human3.6M (Ionescu et al., TPAMI 2014) as it is distributed: videos, and joints in 2D and 3D as .cdf.

    S1/Videos/Directions 1.54138969.mp4
    S1/MyPoseFeatures/D2_Positions/Directions 1.54138969.cdf        Pose (1, T, 64): 32 joints, px
    S1/MyPoseFeatures/D3_Positions_mono/Directions 1.54138969.cdf   Pose (1, T, 96): 32 joints, mm, the camera's frame

The .cdf files are read with `cdflib`, which training needs for this alone. Of 50 frames a second every 5th is taken, as
usual and as in the paper (10 per second); S1, S5, S6, S7, S8 are for training, S9 and S11 for testing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.image_sets import CropFile, ImageSet, ImageSetError, Skipped, moved, square_crop

TRAINING = ('S1', 'S5', 'S6', 'S7', 'S8')
TESTING = ('S9', 'S11')
EVERY = 5              # 50 to 10 frames a second
PADDING = 1.25         # a crop is so much larger than the box about the joints
DOMAIN = 'human36m'
# Of the 32 joints, those of HUMAN17, in its order (the others repeat some, or are ends of hands and feet).
OF_32 = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)


@dataclass(frozen=True)
class Take:
    """One action before one camera."""

    subject: str
    video: Path
    joints2d: Path
    joints3d: Path


def load_human36m(folder: Path, subjects: Sequence[str], size: int, crops: Path,
                  every: int = EVERY) -> tuple[ImageSet, Skipped]:
    """Return the crops of these subjects, with joints in 2D and 3D, and how many takes were skipped.

    size: S px; crops: the file that the images are kept in. A take with a file that is missing or damaged is left out
    and counted; one with fewer images than joints gives what it has. Raises ImageSetError.
    """
    chosen, skipped = [], Skipped()
    for take in takes(folder, subjects):
        try:
            chosen.append((take, positions(take.joints2d, 2, every), positions(take.joints3d, 3, every) / 1000))
        except ImageSetError as error:
            skipped = skipped.and_one(str(error))
    file = CropFile(crops, max(sum(len(flat) for _, flat, _ in chosen), 1), size)
    joints2d, joints3d, names = [], [], []
    for take, flat, deep in chosen:
        before = file.count
        for image, pixels, points in zip(_frames(take.video, every), flat, deep):
            low, high = pixels.min(axis=0), pixels.max(axis=0)
            crop, crop_T_image = square_crop(image, 0.5 * (low + high), PADDING * float((high - low).max()), size)
            file.add(crop)
            joints2d.append(moved(pixels, crop_T_image))
            joints3d.append(points)
            names.append(take.subject)
        if file.count == before:
            skipped = skipped.and_one(f'{take.video} is missing or damaged')
    if not joints2d:
        raise ImageSetError(f'{folder}: no usable take of {", ".join(subjects)}; '
                            + (skipped.example or f'expected {subjects[0]}/Videos and {subjects[0]}/MyPoseFeatures'))
    seen = np.ones((len(joints2d), len(HUMAN17)), bool)
    return ImageSet(file.kept(), np.stack(joints2d), seen, np.array(names),
                    np.stack(joints3d).astype(np.float32), DOMAIN), skipped


def takes(folder: Path, subjects: Sequence[str]) -> Iterator[Take]:
    """Yield the takes of subjects in order; recordings of the empty scene (`_ALL`) are no takes."""
    for subject in subjects:
        features = folder / subject / 'MyPoseFeatures'
        for path in sorted((features / 'D2_Positions').glob('*.cdf')):
            if not path.name.startswith('_'):
                yield Take(subject, folder / subject / 'Videos' / f'{path.stem}.mp4', path,
                           features / 'D3_Positions_mono' / path.name)


def positions(path: Path, axes: int, every: int = 1) -> NDArray[np.float64]:
    """Return joints (T, 17, axes) of every so manieth frame of a .cdf, in its unit. Raises ImageSetError."""
    try:
        import cdflib
    except ImportError as error:
        raise ImageSetError('reading Human3.6M needs cdflib: pip install cdflib') from error
    try:
        values = np.asarray(cdflib.CDF(path)['Pose'], np.float64)
        joints = values.reshape(-1, 32, axes)[::every, OF_32]
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise ImageSetError(f'{path}: no joints of Human3.6M in it ({error})') from error
    if not np.isfinite(joints).all():
        raise ImageSetError(f'{path}: joints that are not numbers')
    return joints


def _frames(path: Path, every: int) -> Iterator[NDArray[np.uint8]]:
    """Yield every so manieth frame (RGB) of a video, until it ends or is damaged; nothing if it cannot be read."""
    video = cv2.VideoCapture(str(path))
    try:
        for moment in itertools.count():
            if not video.grab():
                return
            if moment % every == 0:
                there, image = video.retrieve()
                if not there:
                    return
                yield np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
    finally:
        video.release()
