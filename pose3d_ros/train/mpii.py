"""MPII Human Pose (Andriluka et al., CVPR 2014) in its published layout: 2D joints of people in the wild, no 3D.

A folder with `mpii_human_pose_v1_u12_1.mat` (or with it in `mpii_human_pose_v1_u12_2/`) and `images/`. The .mat holds
RELEASE.annolist, a struct array with an image's name and the people in it: objpos (middle, px), scale (height / 200 px)
and annopoints.point with joint ids 0 to 15. Fields of people that nobody annotated are missing or empty; is_visible is
a number, a text or empty. Pixels count from 1, as MATLAB's do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.image_sets import CropFile, ImageSet, ImageSetError, Skipped, moved, square_crop

MAT = 'mpii_human_pose_v1_u12_1.mat'
PLACES = (MAT, f'mpii_human_pose_v1_u12_2/{MAT}')
PERSON_PX = 200.0      # the scale is the height over this
PADDING = 1.25         # crops are so much larger than the person, as is usual
LOWER = 15.0           # and their middle is so many px times the scale below objpos, so that feet are in
DOMAIN = 'mpii'

# The 16 joints by id, as HUMAN17 calls them. There is no middle of the spine; `thorax` is the base of the neck there
# as here, `upper neck` the neck.
JOINTS = ('right_ankle', 'right_knee', 'right_hip', 'left_hip', 'left_knee', 'left_ankle', 'pelvis', 'thorax', 'neck',
          'head', 'right_wrist', 'right_elbow', 'right_shoulder', 'left_shoulder', 'left_elbow', 'left_wrist')
TO_HUMAN17 = HUMAN17.indices(JOINTS)


@dataclass(frozen=True)
class Person:
    """One annotated person: image's file name, middle (2,) px, scale (height / 200 px), joints (17, 2) px or NaN,
    visible (17,), number of the video."""

    image: str
    middle: NDArray[np.float64]
    scale: float
    joints: NDArray[np.float64]
    visible: NDArray[np.bool_]
    video: int


def load_mpii(folder: Path, size: int, crops: Path, validation: bool = False) -> tuple[ImageSet, Skipped]:
    """Return the crops of all people with joints and a scale, from the part with labels, and how many were skipped.

    size: S px; crops: the file that the images are kept in. Every tenth video is for validation: the published test
    part has no labels, and images of one video are alike. Raises ImageSetError.
    """
    images = folder / 'images'
    if not images.is_dir():
        raise ImageSetError(f'{images} does not exist; MPII is a folder with {MAT} and images/')
    people, skipped = [person for person in annotated(folder) if (person.video % 10 == 9) == validation], Skipped()
    file, joints, visible, videos = CropFile(crops, len(people), size), [], [], []
    name, image = '', None
    for person in people:
        if person.image != name:
            name, image = person.image, _read(images / person.image)
        if image is None:
            skipped = skipped.and_one(f'{images / name} is missing or damaged')
            continue
        middle = person.middle + [0.0, LOWER * person.scale]
        crop, crop_T_image = square_crop(image, middle, PADDING * PERSON_PX * person.scale, size)
        file.add(crop)
        joints.append(moved(person.joints, crop_T_image))
        visible.append(person.visible)
        videos.append(person.video)
    if not joints:
        raise ImageSetError(f'{folder}: no usable person of {len(people)} annotated; '
                            f'{skipped.example or "expected people with joints, scale and objpos"}')
    return ImageSet(file.kept(), np.stack(joints), np.stack(visible), np.array(videos), None, DOMAIN), skipped


def _read(path: Path) -> NDArray[np.uint8] | None:
    """Return an image (RGB), or None where it is missing or damaged."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    return None if image is None else np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def annotated(folder: Path) -> Iterator[Person]:
    """Yield the people of the training part who have joints, a place and a scale, image by image.

    Raises ImageSetError.
    """
    path = next((folder / place for place in PLACES if (folder / place).exists()), None)
    if path is None:
        raise ImageSetError(f'{folder / MAT} does not exist; it is in mpii_human_pose_v1_u12_2.zip of MPII')
    try:
        release = loadmat(path, squeeze_me=True, struct_as_record=False)['RELEASE']
        images, training = _several(release.annolist), np.atleast_1d(release.img_train)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, NotImplementedError, MatReadError) as error:
        raise ImageSetError(f'{path}: not the annotations of MPII ({error or "damaged"}); unpack them again') from error
    for image, train in zip(images, training, strict=True):
        if not train:
            continue
        video = getattr(image, 'vididx', -1)
        for person in _several(getattr(image, 'annorect', None)):
            found = _person(person, str(image.image.name), int(video) if np.size(video) == 1 else -1)
            if found is not None:
                yield found


def _several(value: Any) -> list[Any]:
    """Return a struct array as a list: squeezed, one struct is no array, and none an empty one."""
    return [] if value is None else [entry for entry in np.atleast_1d(value).ravel() if hasattr(entry, '_fieldnames')]


def _person(entry: Any, image: str, video: int) -> Person | None:
    """Return what a struct annorect says, or None where place, scale or joints are missing."""
    place = getattr(entry, 'objpos', None)
    points = _several(getattr(getattr(entry, 'annopoints', None), 'point', None))
    scale = getattr(entry, 'scale', None)
    if not points or place is None or not hasattr(place, 'x'):
        return None
    if scale is None or np.size(scale) != 1 or not float(scale) > 0:
        return None
    joints, visible = np.full((len(HUMAN17), 2), np.nan), np.zeros(len(HUMAN17), bool)
    for point in points:
        joint = TO_HUMAN17[int(point.id)]
        joints[joint] = [float(point.x) - 1, float(point.y) - 1]
        seen = getattr(point, 'is_visible', None)
        # Not said (head and neck, always): annotated, so taken to be seen.
        visible[joint] = True if seen is None or np.size(seen) == 0 or str(seen) == '' else bool(int(seen))
    return Person(image, np.array([float(place.x), float(place.y)]) - 1, float(scale), joints, visible, video)
