"""What `pose3d demo` and `pose3d run` leave behind: people.csv, annotated.mp4, picture.png, summary.json.

Files appear under their names only when they are whole, summary.json last; those of an earlier recording are removed at
the start. So whoever finds summary.json has a complete recording.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.figures import write_json
from pose3d_ros.cli.picture import Image, Moment, draw_picture
from pose3d_ros.cli.video import VideoWriter
from pose3d_ros.records import JointState, Person3D, PersonState

# One line per joint and person. stamp_s: time of the image; x_m, y_m, z_m in the frame `frame_id`, for a camera x
# right, y down, z forward; v*_m_s the velocity; sigma_m: one standard deviation of the position, root mean square over
# the axes; confidence in 0..1; height_m: the person's stature, assumed or known. What is not known is empty.
COLUMNS = ('stamp_s', 'frame_id', 'id', 'person_state', 'joint', 'joint_state', 'x_m', 'y_m', 'z_m', 'vx_m_s', 'vy_m_s',
           'vz_m_s', 'sigma_m', 'confidence', 'height_m', 'height_sigma_m')
FILES = ('people.csv', 'annotated.mp4', 'picture.png', 'summary.json')
_PICTURED = (0.15, 0.5, 0.85)  # when, as shares of the recording, the picture shows the people


class Recording:
    """Collects people and annotated images of `frames` expected frames in the folder `out`.

    picture: makes picture.png of a few moments, whose images have sides of at most `longest` px, as those of the video.
    Use as a context: leaving it by an error discards what is not finished. Raises UserError when the folder cannot be
    written.
    """

    def __init__(self, out: Path, fps: float, frames: int, picture: Callable[[Sequence[Moment]], Image] = draw_picture,
                 longest: int = 1280) -> None:
        self.out = out
        self._picture, self._longest = picture, longest
        self.frames = self.frames_with_people = 0
        self._moments: dict[int, Moment] = {}
        self._pictured = {round(share * max(frames - 1, 0)) for share in _PICTURED}
        self._people: dict[int, list[Person3D]] = {}
        try:
            out.mkdir(parents=True, exist_ok=True)
            for name in FILES:
                (out / name).unlink(missing_ok=True)
            self._csv_path = out / f'.people.{os.getpid()}.csv'
            self._csv_file = self._csv_path.open('w', newline='')
        except OSError as error:
            raise UserError(f'cannot write to {out}: {error.strerror or error}') from error
        self._rows = csv.writer(self._csv_file)
        self._rows.writerow(COLUMNS)
        self._video = VideoWriter(out / 'annotated.mp4', fps)

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *error: object) -> None:
        self._csv_file.close()
        self._csv_path.unlink(missing_ok=True)
        self._video.discard()

    def add_people(self, stamp_ns: int, frame_id: str, people: Sequence[Person3D]) -> None:
        """Append the people of one frame; an empty list says that nobody is there."""
        if self.frames in self._pictured:
            self._people[stamp_ns] = list(people)
        self.frames += 1
        self.frames_with_people += bool(people)
        for person in people:
            for joint, name in enumerate(person.skeleton.joints):
                spread = float(np.sqrt(np.trace(person.covariance[joint]) / 3))
                self._rows.writerow([
                    f'{stamp_ns * 1e-9:.6f}', frame_id, person.id, PersonState(person.state).name, name,
                    JointState(person.joint_state[joint]).name,
                    *_cells([*person.position[joint], *person.velocity[joint], spread,
                             person.joint_confidence[joint], person.height, person.height_sigma])])

    def add_image(self, stamp_ns: int, image: NDArray[np.uint8]) -> None:
        """Append the annotated image (H, W, 3) BGR of a frame whose people have been added."""
        small = self._fitted(image)
        self._video.write(small)
        if stamp_ns in self._people:
            self._moments[stamp_ns] = Moment(stamp_ns, small, self._people[stamp_ns])

    @property
    def pictured(self) -> dict[int, list[Person3D]]:
        """Return the people of the moments that picture.png shows, by stamp."""
        return self._people

    def add_moment(self, stamp_ns: int, image: NDArray[np.uint8]) -> None:
        """Take the annotated image (H, W, 3) BGR of one of these moments, for a recording without a video."""
        self._moments[stamp_ns] = Moment(stamp_ns, self._fitted(image), self._people[stamp_ns])

    def _fitted(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        scale = min(1.0, self._longest / max(image.shape[:2]))
        width, height = (2 * round(side * scale / 2) for side in (image.shape[1], image.shape[0]))  # encoders want even
        return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)

    def finish(self, summary: Mapping[str, object]) -> None:
        """Complete all files; summary gets `frames` and `frames_with_people` in front."""
        self._csv_file.close()
        self._csv_path.replace(self.out / 'people.csv')
        self._video.close()
        if self._moments:
            picture = self._picture([self._moments[stamp] for stamp in sorted(self._moments)])
            partial = self.out / f'.picture.{os.getpid()}.png'
            cv2.imwrite(str(partial), picture)
            partial.replace(self.out / 'picture.png')
        write_json(self.out / 'summary.json', {
            'frames': self.frames, 'frames_with_people': self.frames_with_people, **summary})


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return {p50, p95, p99} of values; NaN without any."""
    if not len(values):
        return dict.fromkeys(('p50', 'p95', 'p99'), float('nan'))
    return {f'p{share}': round(float(np.percentile(values, share)), 2) for share in (50, 95, 99)}


def _cells(values: Sequence[float]) -> list[str]:
    return [f'{value:.4f}' if np.isfinite(value) else '' for value in values]
