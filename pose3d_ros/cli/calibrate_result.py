"""What `pose3d calibrate extrinsics` found: shown, as figures, and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pose3d_ros.calibration import (
    CalibratedCamera,
    check_frame,
    save_calibration,
    save_places,
    static_transform_launch,
)
from pose3d_ros.cli.calibrate_seen import Seen
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.figures import print_table
from pose3d_ros.fuse.extrinsics.estimate import Extrinsics


def show(seen: Seen, found: Extrinsics) -> None:
    """Print a line per camera, and what was used."""
    time = 'clock ms' if seen.stamped else 'began ms'
    rows = [['camera', 'px before', 'px after', 'joints', 'fitting %', 'moved mm', 'turned deg', time]]
    for position, name in enumerate(seen.names):
        rows.append([name, f'{found.before.per_camera_px[position]:.1f}', f'{found.after.per_camera_px[position]:.1f}',
                     f'{found.after.joints[position]:.0f}', f'{100 * found.after.agreeing[position]:.1f}',
                     _or_dash(1e3 * found.shift[position], '.0f'), _or_dash(found.turn[position], '.2f'),
                     f'{round(1e3 * _times(seen, found)[position], 1) + 0.0:.1f}'])
    print_table(rows)
    print(f'{found.people} people at {found.frames} moments; px: median distance of a joint from its point in '
          f'space, {found.before.median_px:.1f} before and {found.after.median_px:.1f} after;\n' + (
              'clock: what its stamps show more than those of the first camera at the same moment' if seen.stamped else
              'began: when the first frame was taken, after that of the first camera (pose3d run --offsets takes '
              'seconds)'))


def figures(seen: Seen, found: Extrinsics) -> dict[str, Any]:
    """Return what the table says, flat: NAME.key for each camera."""
    values: dict[str, Any] = {'reprojection_before_px': found.before.median_px,
                              'reprojection_px': found.after.median_px, 'people': found.people,
                              'frames': found.frames}
    for position, name in enumerate(seen.names):
        each = {'before_px': found.before.per_camera_px, 'after_px': found.after.per_camera_px,
                'joints': found.after.joints, 'agreeing_share': found.after.agreeing, 'moved_m': found.shift,
                'turned_deg': found.turn, 'clock_s' if seen.stamped else 'began_s': _times(seen, found)}
        values.update({f'{name}.{key}': float(column[position]) for key, column in each.items()})
    return values


def check_outputs(out: Path, static_tf: Path | None, parent: str) -> None:
    """Raise UserError for files that cannot be written, CalibrationError for a parent that is no TF frame."""
    for path in (out, *([static_tf] if static_tf else [])):
        if path.is_dir():
            raise UserError(f'{path}: is a folder; give the file to write')
    if static_tf:
        check_frame(parent)


def write(seen: Seen, found: Extrinsics, out: Path, static_tf: Path | None, parent: str) -> None:
    """Write the places, with the intrinsics of all cameras or else without any, and static TF in the frame parent.

    Raises UserError where that cannot be written, CalibrationError for a parent that is no frame.
    """
    poses = dict(zip(seen.names, found.camera_T_world))
    launch = static_transform_launch(poses, parent, seen.frames) if static_tf else ''
    times = ', '.join(f'{name} {time:.4f}' for name, time in zip(seen.names, _times(seen, found)))
    comment = (f'Places from people, by pose3d calibrate extrinsics: median reprojection {found.after.median_px:.1f} '
               f'px.\n{"Clocks show more, s" if seen.stamped else "First frames began at, s"}: {times}')
    try:
        if set(seen.names) <= set(seen.lenses):
            save_calibration(out, {name: CalibratedCamera(seen.lenses[name], pose) for name, pose in poses.items()},
                             comment)
        else:
            save_places(out, poses, comment)
        if static_tf:
            static_tf.parent.mkdir(parents=True, exist_ok=True)
            static_tf.write_text(launch, encoding='utf-8')
    except OSError as error:
        raise UserError(f'{error.filename}: cannot be written ({error.strerror}); choose another place') from error
    print(f'wrote {out}' + (f' and {static_tf}' if static_tf else ''))


def _times(seen: Seen, found: Extrinsics) -> Any:
    """Return the times (V,) s of the table: a clock that shows more began its footage earlier."""
    return found.offsets if seen.stamped else 0.0 - found.offsets


def _or_dash(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else '-'
