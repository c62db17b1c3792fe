"""Labelled crops of people for the image network, whatever they were made from: rendered, MPII, Human3.6M.

Images may be an array in memory or one mapped from a file, so that a set need not fit into memory: what is trained on
is only what a batch asks for.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pose3d_ros.skeleton import HUMAN17

JOINTS = len(HUMAN17)
KEYS = ('images', 'joints2d', 'visible', 'joints3d', 'subject')
IMAGES, LABELS = 'images.npy', 'labels.npz'


class ImageSetError(ValueError):
    """Images that cannot be used; the message names the file and the reason."""


@dataclass(frozen=True)
class ImageSet:
    """N square crops of people, S px to a side, of one domain.

    images (N, S, S, 3) uint8 RGB; joints2d (N, 17, 2) px of the crop, HUMAN17, integers at pixel centres, NaN where not
    labelled; visible (N, 17) bool; subject (N,), of whatever kind; joints3d (N, 17, 3) m in the camera's optical frame,
    or None: a set without 3D, of which no attribute can be told. domain: its name.
    """

    images: NDArray[np.uint8]
    joints2d: NDArray[np.float32]
    visible: NDArray[np.bool_]
    subject: NDArray
    joints3d: NDArray[np.float32] | None = None
    domain: str = ''

    def __post_init__(self) -> None:
        count = len(self.images)
        if self.images.ndim != 4 or self.images.shape[1] != self.images.shape[2] or self.images.shape[3] != 3 \
                or self.images.dtype != np.uint8:
            raise ImageSetError(f'images are {self.images.dtype} {self.images.shape}, expected uint8 (N, S, S, 3)')
        for name, shape in (('joints2d', (count, JOINTS, 2)), ('visible', (count, JOINTS)),
                            ('joints3d', (count, JOINTS, 3))):
            array = getattr(self, name)
            if array is not None and array.shape != shape:
                raise ImageSetError(f'{name} is {array.shape}, expected {shape}')
        if len(self.subject) != count:
            raise ImageSetError(f'{len(self.subject)} subjects for {count} images')
        if not count:
            raise ImageSetError('it is empty')

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> int:
        """Return S px."""
        return self.images.shape[1]

    def where(self, chosen: NDArray | slice) -> ImageSet:
        """Return some of the images."""
        return ImageSet(self.images[chosen], self.joints2d[chosen], self.visible[chosen], self.subject[chosen],
                        None if self.joints3d is None else self.joints3d[chosen], self.domain)

    def without_3d(self) -> ImageSet:
        """Return the same images as a 2D data set has them: no joints in space, so no attributes either."""
        return replace(self, joints3d=None)

    def save(self, path: Path, **more: object) -> None:
        """Write the set as .npz; more: further entries of one value."""
        joints3d = np.full((len(self), JOINTS, 3), np.nan, np.float32) if self.joints3d is None else self.joints3d
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {
            'images': self.images, 'joints2d': self.joints2d, 'visible': self.visible, 'joints3d': joints3d,
            'subject': self.subject, 'domain': np.array(self.domain), 'size': np.array(self.size),
            'joint_names': np.array(HUMAN17.joints), **{name: np.array(value) for name, value in more.items()}}
        np.savez_compressed(path, **arrays)


def load_images(path: Path) -> ImageSet:
    """Read a set as `save` or `pose3d render` wrote it. Raises ImageSetError."""
    try:
        with path.open('rb') as stream, np.load(stream, allow_pickle=False) as file:
            missing = [key for key in KEYS if key not in file]
            if missing:
                raise ImageSetError(f'{path}: no {", ".join(missing)} in it; expected what `pose3d render` writes')
            names = tuple(str(name) for name in file['joint_names']) if 'joint_names' in file else HUMAN17.joints
            if names != HUMAN17.joints:
                raise ImageSetError(f'{path}: its joints are not those of human17 in their order')
            joints3d = file['joints3d'].astype(np.float32)
            if 'pelvis' in file:
                joints3d = joints3d + file['pelvis'].astype(np.float32)[:, None]
            domain = _domain(file, path)
            return ImageSet(file['images'], file['joints2d'].astype(np.float32), file['visible'].astype(bool),
                            file['subject'], joints3d if np.isfinite(joints3d).any() else None, domain)
    except ImageSetError as error:
        raise error if str(path) in str(error) else ImageSetError(f'{path}: {error}') from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or 'damaged'
        raise ImageSetError(f'{path}: cannot be read as .npz ({reason}); make it again') from error


def _domain(file: np.lib.npyio.NpzFile, path: Path) -> str:
    """Return the name of the domain: an entry of its own, or one of the metadata (JSON), or the file's name."""
    if 'domain' in file:
        return str(file['domain'])
    if 'metadata' in file:
        try:
            return str(json.loads(str(file['metadata']))['domain'])
        except (ValueError, KeyError, TypeError) as error:
            raise ImageSetError(f'{path}: its metadata name no domain') from error
    return path.stem


def square_crop(image: NDArray[np.uint8], middle: Sequence[float] | NDArray, side: float,
                size: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return the crop (size, size, C) about a middle (2,) px, `side` px of the image to a side, and crop_T_image.

    What lies outside of the image is black. Enlarged smoothly; reduced by the means of areas, so that nothing flickers.
    """
    factor = size / side
    shift = 0.5 * (size - 1) - factor * np.asarray(middle, np.float64)
    crop_T_image = np.array([[factor, 0, shift[0]], [0, factor, shift[1]]])
    if factor >= 1:
        return np.asarray(cv2.warpAffine(image, crop_T_image, (size, size)), np.uint8), crop_T_image
    # A whole number of px to a cell of the crop, then means of cells: an affine warp alone would skip pixels.
    cells = int(np.ceil(1 / factor))
    fine = crop_T_image * cells + [[0, 0, 0.5 * (cells - 1)]]
    large = cv2.warpAffine(image, fine, (size * cells, size * cells))
    return np.asarray(cv2.resize(large, (size, size), interpolation=cv2.INTER_AREA), np.uint8), crop_T_image


def moved(points: NDArray, b_T_a: NDArray) -> NDArray[np.float32]:  # noqa: N803 (a_T_b: maps b to a)
    """Return points (..., 2) px under affine maps b_T_a (..., 2, 3) that hold for all joints of an image."""
    turned = points @ np.swapaxes(b_T_a[..., :2], -1, -2) + b_T_a[..., None, :, 2]
    return turned.astype(np.float32)


@dataclass(frozen=True)
class Skipped:
    """What a data set should hold and does not: how many, and the first reason."""

    count: int = 0
    example: str = ''

    def and_one(self, reason: str) -> Skipped:
        """Return this with one more."""
        return Skipped(self.count + 1, self.example or reason)

    def report(self, what: str, tell: Callable[[str], object] = print) -> None:
        """Say in one line what is missing, if anything is."""
        if self.count:
            tell(f'{self.count} {what} skipped; the first: {self.example}')


class CropFile:
    """Crops that grow one by one in a file (a .npy that is mapped, not read), of at most `most` images."""

    def __init__(self, path: Path, most: int, size: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.images = np.lib.format.open_memmap(path, mode='w+', dtype=np.uint8, shape=(most, size, size, 3))
        self.count = 0

    def add(self, crop: NDArray[np.uint8]) -> None:
        """Keep a crop."""
        self.images[self.count] = crop
        self.count += 1

    def kept(self) -> NDArray[np.uint8]:
        """Return the crops so far (N, S, S, 3), still in the file."""
        self.images.flush()
        return self.images[:self.count]


def stored(folder: Path, make: Callable[[Path], tuple[ImageSet, Skipped]]) -> tuple[ImageSet, Skipped]:
    """Return the set kept in a folder, made there first if it is not complete; its images stay in their file.

    make: makes it, with the crops in the file that it is given. Raises ImageSetError.
    """
    labels = folder / LABELS
    if not labels.exists():
        images, skipped = make(folder / IMAGES)
        joints3d: dict[str, Any] = {} if images.joints3d is None else {'joints3d': images.joints3d}
        part = folder / f'part_{LABELS}'
        np.savez_compressed(part, joints2d=images.joints2d, visible=images.visible, subject=images.subject,
                            domain=np.array(images.domain), skipped=np.array(skipped.count),
                            example=np.array(skipped.example), **joints3d)
        part.replace(labels)
        return images, skipped
    try:
        with labels.open('rb') as stream, np.load(stream, allow_pickle=False) as file:
            crops = np.load(folder / IMAGES, mmap_mode='r')[:len(file['subject'])]
            return (ImageSet(crops, file['joints2d'], file['visible'], file['subject'],
                             file.get('joints3d'), str(file['domain'])),
                    Skipped(int(file['skipped']), str(file['example'])))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ImageSetError(f'{folder} is damaged ({error}); delete it, it will be made again') from error
