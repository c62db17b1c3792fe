"""~/calibrate of the fusion node: where the cameras stand, from the people that they saw in the last minute."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import Trigger

from pose3d_ros.calibration import save_places, static_transform_launch
from pose3d_ros.camera import CalibrationError
from pose3d_ros.fuse.extrinsics.child import Child
from pose3d_ros.fuse.extrinsics.errors import ExtrinsicsError
from pose3d_ros.fuse.extrinsics.estimate import Extrinsics, ExtrinsicsSettings, check_settings
from pose3d_ros.fuse.extrinsics.reported import Reported
from pose3d_ros.ros.fusion_views import Sighted
from pose3d_ros.ros.params import ParameterError
from pose3d_ros.ros.places import Array, Places
from pose3d_ros.ros.tf import NoTransformError

_PER_SECOND = 500  # sightings of a camera that are kept at most: 16 people at 30 images/s
_SETTLED_S = 1.0   # before the newest image: TF of then has come
_STILL_S = 5.0     # a camera must have stood for so long
_MOST_LAG_S = 0.1  # between clocks; half a stride on, people look the same with their sides exchanged
_WORSE, _WORSE_PX = 1.5, 1.0  # times and more: how much worse a camera may fit at the end than at the start
_MOVED_M, _TURNED_DEG = 0.02, 0.5  # what one that stands still may seem to move in TF


class CalibrateService:
    """Offers ~/calibrate (std_srvs/Trigger) of a node, and answers once the places are found.

    remember() takes what cameras see. The service has a small node, an executor and a thread of its own, so that an
    answer that takes its time keeps nothing else waiting; the estimation has a process. State: the last sightings of
    each camera, and the calibration that is going on.
    """

    def __init__(self, node: Node, values: Mapping[str, Any], places: Places, changed: Callable[[], None]) -> None:
        """values: of the node's parameters. changed: called from another thread when places have been changed."""
        self._values, self._places, self._changed, self._logger = values, places, changed, node.get_logger()
        self._window_s = values['calibration_window']
        self._lock = threading.Lock()
        self._reported: dict[str, Reported] = {}
        self._last: dict[str, Sighted] = {}
        self._child: Child | None = None
        self._closing = threading.Event()
        # Nothing of the command line is for it: a new name there would make it a second node of that name.
        self._node = Node(f'{node.get_name()}_calibrate', namespace=node.get_namespace(), context=node.context,
                          use_global_arguments=False, start_parameter_services=False, enable_rosout=False)
        self._node.create_service(Trigger, node.resolve_service_name('~/calibrate'), self._calibrate)
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name='pose3d_ros calibration')
        self._thread.start()

    def remember(self, seen: Sighted) -> None:
        """Take what a camera saw, wherever it stands; from any thread."""
        with self._lock:
            if seen.camera not in self._reported:
                self._reported[seen.camera] = Reported(seen.camera, self._window_s, int(_PER_SECOND * self._window_s))
            self._reported[seen.camera].add(seen.stamp_ns, seen.people_2d, seen.focal)
            self._last[seen.camera] = seen

    def close(self) -> None:
        """End a calibration that is going on, and the service."""
        self._closing.set()
        with self._lock:
            child = self._child
        if child is not None:
            child.end()
        self._executor.wake()
        self._thread.join()
        self._executor.shutdown()
        self._node.destroy_node()

    def _spin(self) -> None:
        try:
            while not self._closing.is_set():
                self._executor.spin_once(timeout_sec=0.5)
        except ExternalShutdownException:
            return  # somebody else shut ROS down: close() is about to come

    def _calibrate(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.message = self._calibrated()
            response.success = True
            self._logger.info(f'calibrated: {response.message}')
        except (ExtrinsicsError, CalibrationError, ParameterError, OSError) as error:
            response.message = str(error)
            self._logger.warning(f'not calibrated: {error}')
        except Exception as error:  # whatever it was, the caller gets an answer, and the next one too
            response.message = f'{type(error).__name__}: {error}; see the log of the node'
            self._logger.error(f'not calibrated\n{traceback.format_exc()}')
        return response

    def _calibrated(self) -> str:
        """Find the places, put them to use, and return what came of it in words. Raises what is caught above."""
        with self._lock:
            last = dict(self._last)
            newest = max((seen.at for seen in last.values()), default=0.0)
            reported = [each.copy() for camera, each in self._reported.items()
                        if len(each) and newest - last[camera].at < self._window_s]  # not of one that died long ago
        names = [each.camera for each in reported]
        if len(names) < 2:
            raise ExtrinsicsError(f'people were seen by {names[0] if names else "no camera"} in the last '
                                  f'{self._window_s:g} s; walk about for a minute where two cameras see you at once')
        settings = ExtrinsicsSettings(place_sigma=self._values['calibration_place_sigma'],
                                      stature=self._values['calibration_stature'] or None, most_lag=_MOST_LAG_S)
        known = _known(self._places, last)
        given = {name: known[name] for name in names if name in known}
        try:
            check_settings(names, given, settings)
        except ExtrinsicsError:
            raise ExtrinsicsError('the size of the scene is not known: set the parameter calibration_stature to that '
                                  'of the person, or give the places of two cameras') from None
        found = self._found(reported, given, settings)
        _check_better(names, found)
        places = {**known, **dict(zip(names, found.camera_T_world))}
        use = self._used(places, {camera: seen.frame_id for camera, seen in last.items()}, found)
        kept = sorted(set(known) - set(names))
        return f'{_in_words(names, found)}; {use}' + (
            f'; nobody was seen by {", ".join(kept)}, whose places stay' if kept else '')

    def _found(self, reported: Sequence[Reported], given: Mapping[str, Array],
               settings: ExtrinsicsSettings) -> Extrinsics:
        child = Child()
        with self._lock:
            self._child = child
        if self._closing.is_set():
            child.end()
        found = child.estimate([each.watched() for each in reported], given, settings)
        if self._closing.is_set():
            raise ExtrinsicsError('the node was stopped while it calibrated')
        return found

    def _used(self, places: Mapping[str, Array], frames: Mapping[str, str], found: Extrinsics) -> str:
        """Write the places (camera_T_common by name), put them to use where that can be, and return that in words."""
        out = Path(self._values['calibration_out']).expanduser()
        launch = out.with_suffix('.launch.py')
        text = static_transform_launch(places, self._values['frame'], frames)
        save_places(out, places, f'Places from people, by ~/calibrate: median reprojection {found.after.median_px:.1f} '
                                 'px.')
        launch.write_text(text, encoding='utf-8')
        if self._values['extrinsics_source'] != 'file':
            return (f'wrote {out} and {launch}; to use them, end what publishes these frames now, and: ros2 launch '
                    f'{launch}')
        self._places.update(places)
        self._changed()
        return f'wrote {out} and {launch}; in use, and for the next start: set calibration to {out}'


def _known(places: Places, last: Mapping[str, Sighted]) -> dict[str, Array]:
    """Return camera_T_common (4, 4) of the cameras whose place is known. Raises ExtrinsicsError for one that moves."""
    known = {}
    for camera, seen in last.items():
        now = seen.stamp_ns - int(_SETTLED_S * 1e9)
        try:
            place = places.lookup(camera, seen.frame_id, now)
            before = places.lookup(camera, seen.frame_id, now - int(_STILL_S * 1e9))
        except NoTransformError:
            continue  # not known, or not for so long
        known[camera] = place
        turn = np.trace(place[:3, :3] @ before[:3, :3].T)
        degrees = float(np.degrees(np.arccos(np.clip((turn - 1) / 2, -1, 1))))
        metres = float(np.linalg.norm(np.linalg.inv(place)[:3, 3] - np.linalg.inv(before)[:3, 3]))
        if metres > _MOVED_M or degrees > _TURNED_DEG:
            raise ExtrinsicsError(f'{camera} moves ({100 * metres:.0f} cm, {degrees:.1f} degrees in {_STILL_S:g} s): '
                                  'places are found for cameras that stand still; stop the robot for a minute')
    return known


def _check_better(names: Sequence[str], found: Extrinsics) -> None:
    """Raise ExtrinsicsError for a result that is worse than what it started from."""
    for name, before, after in zip(names, found.before.per_camera_px, found.after.per_camera_px):
        if after > _WORSE * before + _WORSE_PX:
            raise ExtrinsicsError(f'{name} would fit worse than before ({before:.1f} -> {after:.1f} px): walk about '
                                  'for longer, everywhere where two cameras see you')


def _in_words(names: Sequence[str], found: Extrinsics) -> str:
    """Return what was found, camera by camera."""
    words = []
    for position, name in enumerate(names):
        moved = ''
        if np.isfinite(found.shift[position]):
            moved = f', moved {1e3 * found.shift[position]:.0f} mm and {found.turn[position]:.2f} degrees'
        words.append(f'{name} {found.before.per_camera_px[position]:.1f} -> {found.after.per_camera_px[position]:.1f} '
                     f'px{moved}, clock {1e3 * found.offsets[position]:+.0f} ms')
    return '; '.join(words)
