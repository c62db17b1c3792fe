"""Several videos as the images of one moment after another, whatever their lengths, rates and beginnings."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.video import VideoReader

Image = NDArray[np.uint8]

_EPS = 1e-6  # frames; what is left of whole numbers after computing with rates


@dataclass(frozen=True)
class Shots:
    """What all videos show at one moment, stamp_ns.

    images: of each video that has one, by name: when it was taken (ns), and the image (H, W, 3) BGR. It is the nearest
    in time, at most half a frame before or after.
    """

    stamp_ns: int
    images: dict[str, tuple[int, Image]]


class Synchronised:
    """The moments of several videos on one clock, at the pace of the slowest: from when all have begun until one ends.

    videos: by name. offsets [s], of each video: when its first frame was taken, on the common clock. An image that
    cannot be decoded is missing in its moment (counted in `missing`); the other videos go on. Raises UserError for
    videos that have no time in common.
    """

    def __init__(self, videos: Mapping[str, VideoReader], offsets: Sequence[float] | None = None) -> None:
        self.videos = dict(videos)
        self._offsets = dict(zip(self.videos, offsets or [0.0] * len(self.videos)))
        self.fps = min(video.fps for video in self.videos.values())
        self._begin = max(self._offsets.values())
        ends = [self._offsets[name] + (video.count - 1) / video.fps for name, video in self.videos.items()
                if video.count]
        # 0 where no file says how long it is: then the first to run out of images is the end
        self.count = max(int((min(ends) - self._begin) * self.fps + _EPS) + 1, 0) if ends else 0
        if ends and min(ends) < self._begin - _EPS:
            raise UserError('the videos have no time in common: when the last one begins another has ended; see '
                            '--offsets')
        self.missing = dict.fromkeys(self.videos, 0)

    def __iter__(self) -> Iterator[Shots]:
        """Yield the moments in order."""
        streams = {name: _Stream(video.numbered()) for name, video in self.videos.items()}
        try:
            number = 0
            while not self.count or number < self.count:
                seconds = self._begin + number / self.fps
                images = {}
                for name, video in self.videos.items():
                    wanted = int(np.floor((seconds - self._offsets[name]) * video.fps + 0.5 + _EPS))
                    image = streams[name].at(wanted)
                    if image is not None:
                        images[name] = (round(1e9 * (self._offsets[name] + wanted / video.fps)), image)
                if any(stream.ended and not self.videos[name].count for name, stream in streams.items()):
                    return
                for name in self.videos.keys() - images.keys():
                    self.missing[name] += 1
                yield Shots(round(1e9 * seconds), images)
                number += 1
        finally:
            for stream in streams.values():
                stream.close()


class _Stream:
    """Images by number, asked for in rising order."""

    def __init__(self, images: Generator[tuple[int, Image], None, None]) -> None:
        self._images = images
        self._next: tuple[int, Image] | None = next(images, None)

    @property
    def ended(self) -> bool:
        return self._next is None

    def at(self, number: int) -> Image | None:
        """Return the image of that number, None where there is none."""
        while self._next is not None and self._next[0] < number:
            self._next = next(self._images, None)
        return self._next[1] if self._next is not None and self._next[0] == number else None

    def close(self) -> None:
        """Release the video."""
        self._images.close()
