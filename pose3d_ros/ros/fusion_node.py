"""Several cameras, one set of people: what mono nodes report in, fused people, markers and TF in a common frame out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.service import Service
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from pose3d_ros.camera import CalibrationError
from pose3d_ros.fuse.fuser import Fuser, FuseSettings
from pose3d_ros.fuse.gather import Gatherer, GatherSettings
from pose3d_ros.records import Person3D
from pose3d_ros.ros.calibrate_service import CalibrateService
from pose3d_ros.ros.convert import to_stamp
from pose3d_ros.ros.fusion_health import FusionHealth
from pose3d_ros.ros.fusion_input import FusionInput
from pose3d_ros.ros.fusion_views import ViewMaker
from pose3d_ros.ros.fusion_worker import FusionWorker
from pose3d_ros.ros.managed import ManagedNode, RefusedError, run, spin_until_signal
from pose3d_ros.ros.output import PeopleOutput
from pose3d_ros.ros.param_tables import FUSION
from pose3d_ros.ros.params import ParameterError, settings_of
from pose3d_ros.ros.places import Places
from pose3d_ros.ros.tf import TfUnavailableError, Transforms


@dataclass(frozen=True)
class _Loaded:
    """What there is from configure to clean-up."""

    values: dict[str, Any]
    gather: GatherSettings
    places: Places
    maker: ViewMaker
    fuser: Fuser
    output: PeopleOutput
    moved: Callable[[], None]  # to be called when places have been changed by intention
    reload: Service
    calibration: CalibrateService


@dataclass(frozen=True)
class _Working:
    """What there is from activate to deactivate."""

    reports: FusionInput
    worker: FusionWorker


class FusionNode(ManagedNode):
    """Fuses the people of several cameras. listen_to_tf: takes the node."""

    health: FusionHealth

    def __init__(self, listen_to_tf: Callable[[Node], Transforms] = Transforms.listen, **node_arguments: Any) -> None:
        self._listen_to_tf = listen_to_tf
        self._loaded: _Loaded | None = None
        self._working: _Working | None = None
        super().__init__('fusion_node', FUSION, FusionHealth(), **node_arguments)

    def load(self, values: dict[str, Any]) -> None:
        try:
            gather = GatherSettings(values['max_wait'], values['max_age'], values['camera_timeout'])
            fuse = settings_of(FuseSettings, FUSION, values, max_age_s=values['max_age'])
            places = Places.open(values, lambda: self._listen_to_tf(self))
        except (ParameterError, CalibrationError, TfUnavailableError, ValueError, OSError) as error:
            raise RefusedError(str(error)) from error
        try:
            output = PeopleOutput(self, publish_tf=values['publish_tf'])
        except TfUnavailableError as error:
            places.close()
            raise RefusedError(str(error)) from error
        self.health.name_cameras(values['cameras'])
        self.health.facts.details = {'places': places.source, 'frame': values['frame']}
        maker = ViewMaker(places, gather.camera_timeout_s)

        def moved() -> None:
            maker.forget_places()
            self.health.facts.details['places'] = places.source

        self._loaded = _Loaded(values, gather, places, maker, Fuser(fuse), output, moved,
                               self.create_service(Trigger, '~/reload_calibration', self._reload),
                               CalibrateService(self, values, places, moved))
        self.get_logger().info(f'configured: {self.health.facts.details}')

    def start(self) -> None:
        loaded = self._loaded
        if loaded is None:
            raise RefusedError('nothing is configured')
        loaded.fuser.reset()
        self.health.started()
        reports = FusionInput(self, loaded.values['cameras'])
        for camera, health in self.health.cameras.items():
            health.topic, health.why_silent = reports.topics[camera], partial(reports.why_silent, camera)
        gatherer = Gatherer(loaded.gather, loaded.values['cameras'])
        worker = FusionWorker(loaded.maker, gatherer, loaded.fuser, loaded.values['tf_tolerance'],
                              loaded.calibration.remember, partial(_publish, loaded.output, loaded.values['frame']),
                              loaded.output.clear, self.health, self.get_clock(), self.get_logger())
        self.health.timing = worker.timing
        self._working = _Working(reports, worker)
        reports.listen(worker.put_2d, worker.put_3d)
        self.get_logger().info(f'fusing {", ".join(reports.topics.values())}; places from {loaded.places.source}')

    def stop(self) -> None:
        working, self._working = self._working, None
        if working is None:
            return
        working.reports.destroy()
        working.worker.close()
        if self._loaded is not None and self.context.ok():  # else there is nobody left to tell
            self._loaded.output.clear()
            self.report()

    def unload(self) -> None:
        loaded, self._loaded = self._loaded, None
        if loaded is None:
            return
        loaded.calibration.close()
        self.health.facts.details = {}
        self.destroy_service(loaded.reload)
        loaded.output.destroy()
        loaded.places.close()

    def _reload(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Read the calibration file again; when that fails, the places of before stay."""
        if self._loaded is None:
            response.message = 'the node is not configured'
            return response
        try:
            self._loaded.places.reload()
        except (ParameterError, CalibrationError, OSError) as error:
            response.message = str(error)
            return response
        self._loaded.moved()
        response.success, response.message = True, f'places from {self._loaded.places.source}'
        self.get_logger().info(f'calibration read again: {response.message}')
        return response


def _publish(output: PeopleOutput, frame: str, people: Sequence[Person3D], stamp_ns: int) -> None:
    """Publish the people of a moment in the common frame; they may be none."""
    header = Header(stamp=to_stamp(stamp_ns), frame_id=frame)
    output.publish(people, header)
    output.show(people, header)


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; returns the exit code."""
    return run(FusionNode, spin_until_signal, args)
