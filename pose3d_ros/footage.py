"""Images from a video file, a folder or a webcam, in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


class FootageError(ValueError):
    """Footage that cannot be read; the message names it and the reason."""


@dataclass(frozen=True)
class Footage:
    """Where images come from. source: video file, folder or webcam number; fps: 0 where it is not known.

    width, height: px of every image.
    """

    source: str
    width: int
    height: int
    fps: float

    def images(self) -> Iterator[Image]:
        """Yield the images (H, W, 3) uint8 BGR from the start; a webcam's never end. Raises FootageError."""
        images = _folder_images(Path(self.source)) if Path(self.source).is_dir() else _video_images(self.source)
        for image in images:
            if image.shape[:2] != (self.height, self.width):
                raise FootageError(f'{self.source}: an image has {image.shape[1]} x {image.shape[0]} px, the first one '
                                   f'{self.width} x {self.height}; one camera has one size')
            yield image


def open_footage(source: str) -> Footage:
    """Return the footage behind a path or a webcam number, looking at its first image. Raises FootageError."""
    if not source:
        raise FootageError('no footage given: name a video file, a folder of images or the number of a webcam')
    fps = 0.0
    if not source.isdecimal():
        source = str(Path(source).expanduser())
        if not Path(source).exists():
            raise FootageError(f'{source}: no such file or folder')
    if not Path(source).is_dir():
        capture = _capture(source)
        fps = float(capture.get(cv2.CAP_PROP_FPS)) if not source.isdecimal() else 0.0  # a webcam sets its own pace
        capture.release()
    first = next(_folder_images(Path(source)) if Path(source).is_dir() else _video_images(source), None)
    if first is None:
        raise FootageError(f'{source}: no images in it')
    return Footage(source, first.shape[1], first.shape[0], fps if np.isfinite(fps) else 0.0)


def _folder_images(folder: Path) -> Iterator[Image]:
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES):
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise FootageError(f'{path}: cannot be read as an image')
        yield np.asarray(image, dtype=np.uint8)


def _video_images(source: str) -> Iterator[Image]:
    capture = _capture(source)
    try:
        while True:
            present, image = capture.read()
            if not present:
                return
            yield np.asarray(image, dtype=np.uint8)
    finally:
        capture.release()


def _capture(source: str) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(int(source)) if source.isdecimal() else cv2.VideoCapture(source)
    if not capture.isOpened():
        what = 'webcam' if source.isdecimal() else 'video'
        raise FootageError(f'{source}: cannot be opened as a {what} (missing, damaged, in use, or a codec that OpenCV '
                           'lacks)')
    return capture
