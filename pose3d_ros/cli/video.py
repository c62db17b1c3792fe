"""Reading and writing video files for the sub-commands."""

from __future__ import annotations

import itertools
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pose3d_ros.camera import Camera
from pose3d_ros.cli.errors import UserError
from pose3d_ros.records import Frame

# FFmpeg writes a page of messages for every codec tried in vain; the errors below say what matters. Read at first use.
os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
_SILENT = 0
_set_log_level = getattr(cv2.utils, 'logging', cv2).setLogLevel  # its place up to OpenCV 4.6: cv2


class VideoReader:
    """The frames of a video file, stamped by its frame rate from 0 on. Raises UserError for what cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        capture = self._open()
        self.fps = float(capture.get(cv2.CAP_PROP_FPS)) or 30.0
        self.width = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.height = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self.count = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)  # as the file says; 0 where it does not
        capture.release()

    def numbered(self) -> Generator[tuple[int, NDArray[np.uint8]], None, None]:
        """Yield the images (H, W, 3) BGR with their numbers, going on behind frames that cannot be decoded.

        The number is that of the place in time: where the file lacks frames, or the decoder leaves some out, numbers
        are left out too.
        """
        capture = self._open()
        try:
            number = -1
            for reads in itertools.count(1):
                ok, image = capture.read()
                if ok:
                    place = capture.get(cv2.CAP_PROP_POS_MSEC) * self.fps / 1e3  # 0 where the file has no times
                    number = max(number + 1, round(place) if np.isfinite(place) else 0)
                    yield number, np.asarray(image, dtype=np.uint8)
                elif reads >= self.count:
                    return
        finally:
            capture.release()

    def check_size(self, camera: Camera) -> None:
        """Raise UserError when the size of the images is not that of the calibration."""
        if (camera.width, camera.height) != (self.width, self.height):
            raise UserError(f'{self.path}: the video is {self.width}x{self.height}, but the calibration is for '
                            f'{camera.width}x{camera.height}; calibrate at the size that is recorded')

    def frames(self, camera: Camera) -> Iterator[Frame]:
        """Yield the frames as a camera gives them. Raises UserError when its size is not that of the video."""
        self.check_size(camera)
        for number, image in self.numbered():
            yield Frame(image, round(number * 1e9 / self.fps), camera)

    def _open(self) -> cv2.VideoCapture:
        if not self.path.is_file():
            raise UserError(f'{self.path}: no such video file')
        capture = cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            raise UserError(f'{self.path}: cannot be read as a video (damaged, or a codec that OpenCV lacks)')
        return capture


class VideoWriter:
    """Writes an .mp4 that appears under its name only once it is whole (`close`); `discard` leaves nothing behind.

    H.264 where OpenCV's FFmpeg can encode it (a distribution's usually can), else MPEG-4 part 2 (the wheel's).
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self.fps = path, fps
        self.frames = 0
        self._partial = path.with_name(f'.{path.stem}.{os.getpid()}{path.suffix}')
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def write(self, image: NDArray[np.uint8]) -> None:
        """Append an image (H, W, 3) BGR; the first one sets the size. Raises UserError when it cannot be encoded."""
        if self._writer is None:
            self._size = (image.shape[1], image.shape[0])
            self._writer = self._open()
        if (image.shape[1], image.shape[0]) != self._size:
            image = np.asarray(cv2.resize(image, self._size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        self._writer.write(image)
        self.frames += 1

    def close(self) -> None:
        """Finish the file; without frames there is none."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
            self._partial.replace(self.path)

    def discard(self) -> None:
        """Give up and remove what has been written."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        self._partial.unlink(missing_ok=True)

    def _open(self) -> cv2.VideoWriter:
        level = _set_log_level(_SILENT)
        try:
            for codec in ('avc1', 'mp4v'):
                writer = cv2.VideoWriter(str(self._partial), cv2.VideoWriter.fourcc(*codec), self.fps, self._size)
                if writer.isOpened():
                    return writer
        finally:
            _set_log_level(level)
        raise UserError(f'{self.path}: cannot be written as a video (is the folder writable?)')
