"""~/calibrate of the fusion node: where the cameras stand, from the people that they saw in the last minute."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future
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
_MOVED_M, _TURNED_DEG = 0.02, 0.5  # what one that stands still may seem to move in TF


@dataclass(frozen=True)
class _Opened:
    """What there is while the node is configured."""

    values: Mapping[str, Any]
    places: Places


@dataclass(frozen=True)
class _Job:
    """One calibration. known: camera_T_common (4, 4) by name of camera; frames: their optical frames."""

    reported: list[Reported]
    known: Mapping[str, Array]
    frames: Mapping[str, str]
    settings: ExtrinsicsSettings
    child: Child


class CalibrateService:
    """Offers ~/calibrate (std_srvs/Trigger) as long as the node lives, and answers once the places are found.

    remember() takes what cameras see; the estimation is done in a process of its own. State: the last sightings of each
    camera, and the calibration that is going on.
    """

    def __init__(self, node: Node, changed: Callable[[], None]) -> None:
        """changed: called by the executor when places have been changed."""
        self._node, self._changed = node, changed
        self._lock = threading.Lock()
        self._reported: dict[str, Reported] = {}
        self._last: dict[str, Sighted] = {}
        self._opened: _Opened | None = None
        self._child: Child | None = None
        self._thread: threading.Thread | None = None
        # Other callbacks go on while an answer is awaited, and a second call is answered at once.
        self._service = node.create_service(Trigger, '~/calibrate', self._calibrate,
                                            callback_group=ReentrantCallbackGroup())

    def open(self, values: Mapping[str, Any], places: Places) -> None:
        """Begin to remember. values: of the node's parameters."""
        self._opened = _Opened(values, places)

    def remember(self, seen: Sighted) -> None:
        """Take what a camera saw, wherever it stands; from any thread."""
        opened = self._opened
        if opened is None:
            return
        window = opened.values['calibration_window']
        with self._lock:
            if seen.camera not in self._reported:
                self._reported[seen.camera] = Reported(seen.camera, window, int(_PER_SECOND * window))
            self._reported[seen.camera].add(seen.stamp_ns, seen.people_2d, seen.focal)
            self._last[seen.camera] = seen

    def close(self) -> None:
        """Forget everything, and end a calibration that is going on."""
        self._opened = None
        child, thread = self._child, self._thread
        if child is not None:
            child.end()
        if thread is not None:
            thread.join()
        with self._lock:
            self._reported.clear()
            self._last.clear()

    async def _calibrate(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Answer when it is done; until then the executor does other things."""
        if self._child is not None:
            response.message = 'a calibration is going on already; wait for its answer'
            return response
        try:
            response.message = await self._done()
            response.success = True
            self._node.get_logger().info(f'calibrated: {response.message}')
        except (ExtrinsicsError, CalibrationError, ParameterError, OSError) as error:
            response.message = str(error)
            self._node.get_logger().warning(f'not calibrated: {error}')
        finally:
            self._child = self._thread = None
        return response

    async def _done(self) -> str:
        opened = self._opened
        if opened is None:
            raise ExtrinsicsError('the node is not configured')
        job = self._begun(opened)
        answer: Future = Future()
        self._thread = threading.Thread(target=_estimate, args=(job, answer), name='pose3d_ros calibration')
        self._thread.start()
        found = await answer
        if isinstance(found, Exception):
            raise found
        if self._opened is not opened:
            raise ExtrinsicsError('the node was stopped while it calibrated')
        return self._applied(opened, job, found)

    def _begun(self, opened: _Opened) -> _Job:
        """Return what is to be done, with the process that will. Raises ExtrinsicsError and OSError."""
        with self._lock:
            reported = [each.copy() for each in self._reported.values() if len(each)]
            last = dict(self._last)
        names = [each.camera for each in reported]
        if len(names) < 2:
            raise ExtrinsicsError(
                f'people were seen by {" and ".join(names) or "no camera"} in the last '
                f'{opened.values["calibration_window"]:g} s; walk about for a minute where two cameras see you at once')
        settings = ExtrinsicsSettings(place_sigma=opened.values['calibration_place_sigma'],
                                      stature=opened.values['calibration_stature'] or None)
        known = _known(opened.places, last)
        given = {name: known[name] for name in names if name in known}
        try:
            check_settings(names, given, settings)
        except ExtrinsicsError:
            raise ExtrinsicsError('the size of the scene is not known: set the parameter calibration_stature to that '
                                  'of the person, or give the places of two cameras') from None
        self._child = Child()
        return _Job(reported, known, {name: seen.frame_id for name, seen in last.items()}, settings, self._child)

    def _applied(self, opened: _Opened, job: _Job, found: Extrinsics) -> str:
        """Write the places, put them to use, and return what came of it in words."""
        names = [each.camera for each in job.reported]
        places = {**job.known, **dict(zip(names, found.camera_T_world))}
        out = Path(opened.values['calibration_out']).expanduser()
        launch = out.with_suffix('.launch.py')
        save_places(out, places, f'Places from people, by ~/calibrate: median reprojection {found.after.median_px:.1f} '
                                 'px.')
        launch.write_text(static_transform_launch(places, opened.values['frame'], job.frames), encoding='utf-8')
        if opened.values['extrinsics_source'] == 'file':
            opened.places.update(places)
            self._changed()
            use = f'in use; for the next start set calibration to {out}'
        else:
            use = f'to use them, end what publishes these frames now, and: ros2 launch {launch}'
        kept = [name for name in job.known if name not in names]
        return (f'{_in_words(names, found)}; wrote {out} and {launch}; {use}'
                + (f'; nobody was seen by {", ".join(kept)}, whose places stay' if kept else ''))


def _known(places: Places, last: Mapping[str, Sighted]) -> dict[str, Array]:
    """Return camera_T_common (4, 4) of the cameras whose place is known. Raises ExtrinsicsError for one that moves."""
    known = {}
    for camera, seen in last.items():
        now = seen.stamp_ns - int(_SETTLED_S * 1e9)
        try:
            known[camera] = places.lookup(camera, seen.frame_id, now)
            before = places.lookup(camera, seen.frame_id, now - int(_STILL_S * 1e9))
        except NoTransformError:
            continue  # not known, or not for so long
        turn = np.trace(known[camera][:3, :3] @ before[:3, :3].T)
        degrees = float(np.degrees(np.arccos(np.clip((turn - 1) / 2, -1, 1))))
        metres = float(np.linalg.norm(np.linalg.inv(known[camera])[:3, 3] - np.linalg.inv(before)[:3, 3]))
        if metres > _MOVED_M or degrees > _TURNED_DEG:
            raise ExtrinsicsError(f'{camera} moves ({100 * metres:.0f} cm, {degrees:.1f} degrees in {_STILL_S:g} s): '
                                  'places are found for cameras that stand still; stop the robot for a minute')
    return known


def _estimate(job: _Job, answer: Future) -> None:
    """Have the places found, and put them, or the reason why there are none, into the answer."""
    try:
        answer.set_result(job.child.estimate([each.watched() for each in job.reported],
                                             {each.camera: job.known[each.camera] for each in job.reported
                                              if each.camera in job.known}, job.settings))
    except (ExtrinsicsError, OSError) as error:
        answer.set_result(error)


def _in_words(names: list[str], found: Extrinsics) -> str:
    """Return what was found, camera by camera."""
    words = []
    for position, name in enumerate(names):
        moved = ''
        if np.isfinite(found.shift[position]):
            moved = f', moved {1e3 * found.shift[position]:.0f} mm and {found.turn[position]:.2f} degrees'
        words.append(f'{name} {found.before.per_camera_px[position]:.1f} -> {found.after.per_camera_px[position]:.1f} '
                     f'px{moved}, clock {1e3 * found.offsets[position]:+.0f} ms')
    return '; '.join(words)
