"""What mono_node and multi_node share: the cameras of a node, from their images to their people."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node

from pose3d_ros.body_model_file import BodyModelError
from pose3d_ros.camera import Camera
from pose3d_ros.detect import DetectSettings
from pose3d_ros.lift import LiftModelError
from pose3d_ros.records import Frame
from pose3d_ros.refine import RefineSettings
from pose3d_ros.ros.bodies_output import Bodies
from pose3d_ros.ros.floor import Floor
from pose3d_ros.ros.health import BUILDING, Health, under_way
from pose3d_ros.ros.images import ImageError
from pose3d_ros.ros.input import CameraInput, resolve_topics
from pose3d_ros.ros.managed import ManagedNode, NodeHealth, RefusedError
from pose3d_ros.ros.output import Output
from pose3d_ros.ros.params import Parameter, ParameterError, settings_of
from pose3d_ros.ros.tf import TfUnavailableError, Transforms, tf_message
from pose3d_ros.ros.worker import Begin, PeoplePipeline, Stream, Worker
from pose3d_ros.runtime.engine import EngineError, Wanted
from pose3d_ros.runtime.store import ModelCorrupt, ModelMissing
from pose3d_ros.track import TrackSettings


@dataclass(frozen=True)
class _LoadedCamera:
    """What there is of a camera from configure to clean-up. prefix: of its topics."""

    prefix: str
    health: Health
    pipeline: PeoplePipeline
    output: Output


@dataclass(frozen=True)
class _Loaded:
    """What there is from configure to clean-up."""

    values: dict[str, Any]
    cameras: list[_LoadedCamera]
    floor: Floor


@dataclass(frozen=True)
class _Working:
    """What there is from activate to deactivate."""

    inputs: list[CameraInput]
    worker: Worker


class CameraNode(ManagedNode, ABC):
    """Finds the people in front of each of its cameras; MonoNode and MultiNode say which cameras there are."""

    def __init__(self, name: str, table: Sequence[Parameter], health: NodeHealth,
                 open_group: Callable[..., Sequence[PeoplePipeline]], begin: Begin[Any],
                 listen_to_tf: Callable[[Node], Transforms], **node_arguments: Any) -> None:
        """open_group: takes the arguments of Pipeline.open_group; begin: of Worker; listen_to_tf: takes the node."""
        self._open_group, self._begin, self._listen_to_tf = open_group, begin, listen_to_tf
        self._loaded: _Loaded | None = None
        self._working: _Working | None = None
        super().__init__(name, table, health, **node_arguments)

    @abstractmethod
    def cameras(self, values: Mapping[str, Any]) -> dict[str, Health]:
        """Return the health of each camera by the prefix of its topics."""

    def load(self, values: dict[str, Any]) -> None:
        cameras = self.cameras(values)
        try:
            if values['publish_tf']:
                tf_message()
            floor = Floor.open(values, lambda: self._listen_to_tf(self))
        except (ParameterError, TfUnavailableError) as error:
            raise RefusedError(str(error)) from error
        try:
            pipelines = self._open_group(
                len(cameras), detector_model=values['detector_model'], search=values['search_model'],
                lifter=values['lifter'],
                engines=Wanted(values['runtime'], values['precision'], values['threads'], meanwhile=True),
                detect=settings_of(DetectSettings, self.table, values),
                track=settings_of(TrackSettings, self.table, values),
                refine=settings_of(RefineSettings, self.table, values), stature=values['stature'])
        except (ModelMissing, ModelCorrupt, EngineError, LiftModelError, ValueError) as error:
            floor.close()
            raise RefusedError(str(error)) from error
        try:
            bodies = Bodies.open(values, pipelines[0].body_model)
        except BodyModelError as error:
            for pipeline in pipelines:
                pipeline.close()
            floor.close()
            raise RefusedError(str(error)) from error
        self._loaded = _Loaded(values, [
            _LoadedCamera(prefix, health, pipeline,
                          Output(self, pipeline.skeleton, prefix, values['publish_tf'], bodies))
            for (prefix, health), pipeline in zip(cameras.items(), pipelines)], floor)
        facts = self.health.facts
        facts.engines = pipelines[0].engines
        facts.details = {'detector_model': values['detector_model'], 'search_model': values['search_model'],
                         'lifter': values['lifter'], 'ground': floor.source}
        if bodies is not None:
            facts.details['body_model'] = bodies.model[0]
        elif values['body_model']:
            facts.details['body_model'] = 'not read: the lifter gives no bodies'
        facts.runtime = values['runtime']
        self.get_logger().info(f'configured: {facts.details}')

    def start(self) -> None:
        if self._loaded is None:
            raise RefusedError('nothing is configured')
        self._working = _Working([], Worker(self._begin, self.get_clock(), self.get_logger()))
        for camera in self._loaded.cameras:
            self._listen(camera, self._loaded, self._working)

    def _listen(self, camera: _LoadedCamera, loaded: _Loaded, working: _Working) -> None:
        """Take a camera's images to the worker from now on."""
        values, health, facts = loaded.values, camera.health, camera.health.camera
        topics = resolve_topics(self, values['image_transport'], values['rectification'], camera.prefix)
        camera_input = CameraInput(self, topics, values['image_reliability'], values['max_pixels'])
        working.inputs.append(camera_input)
        facts.image_topic, facts.info_topic = topics.image, topics.camera_info
        facts.info_timeout_s, facts.calibrated, facts.calibration_problem = values['camera_info_timeout'], False, ''
        facts.why_silent = camera_input.why_silent
        health.started()

        def missed(cause: str, text: str) -> None:
            health.without_floor(cause, text, time.monotonic())

        def to_frame(message: Any) -> Frame:
            if not values['build_while_running'] and (busy := under_way(self.health.facts.engines)):
                raise ImageError(BUILDING, busy)
            return loaded.floor.under(camera_input.to_frame(message), missed)

        stream = Stream(to_frame, camera.pipeline, camera.output.publish, health)

        def on_camera(calibration: Camera | None, before: Camera | None) -> None:
            facts.calibrated, facts.calibration_problem = calibration is not None, camera_input.problem
            if calibration is None:
                return self.get_logger().error(camera_input.problem)
            if before is None or (before.width, before.height) != (calibration.width, calibration.height):
                stream.forget()  # pixels of another size are no continuation
            return self.get_logger().info(f'{topics.camera_info}: {calibration.width} x {calibration.height} px, '
                                          f'fx {calibration.fx:.1f} px, {calibration.model}')

        camera_input.listen(lambda message: working.worker.put(stream, message), on_camera)
        self.get_logger().info(f'looking for people in {topics.image}, '
                               f'{"rectified" if topics.rectified else "raw"}; calibration from {topics.camera_info}')

    def stop(self) -> None:
        working, self._working = self._working, None
        if working is None:
            return
        for camera_input in working.inputs:
            camera_input.destroy()
        working.worker.close()
        if self._loaded is not None and self.context.ok():  # else there is nobody left to tell
            for camera in self._loaded.cameras:
                camera.output.clear()
            self.report()

    def unload(self) -> None:
        loaded, self._loaded = self._loaded, None
        if loaded is None:
            return
        self.health.facts.engines, self.health.facts.details = {}, {}
        for camera in loaded.cameras:
            camera.output.destroy()
            camera.pipeline.close()
        loaded.floor.close()
