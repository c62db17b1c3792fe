"""One camera to 3D people: image + camera_info in, people, people_2d, markers and image_annotated out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node

from pose3d_ros.camera import Camera
from pose3d_ros.detect import DetectSettings
from pose3d_ros.lift import LiftModelError
from pose3d_ros.pipeline import Pipeline
from pose3d_ros.records import Frame
from pose3d_ros.refine import RefineSettings
from pose3d_ros.ros.floor import Floor
from pose3d_ros.ros.health import BUILDING, under_way
from pose3d_ros.ros.images import ImageError
from pose3d_ros.ros.input import CameraInput, resolve_topics
from pose3d_ros.ros.managed import ManagedNode, RefusedError, run, spin_until_signal
from pose3d_ros.ros.output import Output
from pose3d_ros.ros.param_tables import MONO
from pose3d_ros.ros.params import ParameterError, settings_of
from pose3d_ros.ros.tf import TfUnavailableError, Transforms
from pose3d_ros.ros.worker import PeoplePipeline, Worker
from pose3d_ros.runtime.engine import EngineError, Wanted
from pose3d_ros.runtime.store import ModelCorrupt, ModelMissing
from pose3d_ros.track import TrackSettings


@dataclass(frozen=True)
class _Loaded:
    """What there is from configure to clean-up."""

    values: dict[str, Any]
    pipeline: PeoplePipeline
    output: Output
    floor: Floor


@dataclass(frozen=True)
class _Working:
    """What there is from activate to deactivate."""

    camera_input: CameraInput
    worker: Worker


class MonoNode(ManagedNode):
    """Finds the people in front of one camera.

    open_pipeline: takes the keyword arguments of Pipeline.open. listen_to_tf: takes the node.
    """

    def __init__(self, open_pipeline: Callable[..., PeoplePipeline] = Pipeline.open,
                 listen_to_tf: Callable[[Node], Transforms] = Transforms.listen, **node_arguments: Any) -> None:
        self._open_pipeline, self._listen_to_tf = open_pipeline, listen_to_tf
        self._loaded: _Loaded | None = None
        self._working: _Working | None = None
        super().__init__('mono_node', MONO, **node_arguments)

    def load(self, values: dict[str, Any]) -> None:
        try:
            floor = Floor.open(values, lambda: self._listen_to_tf(self))
        except (ParameterError, TfUnavailableError) as error:
            raise RefusedError(str(error)) from error
        try:
            pipeline = self._open_pipeline(
                detector_model=values['detector_model'], search=values['search_model'],
                engines=Wanted(values['runtime'], values['precision'], values['threads'], meanwhile=True),
                detect=settings_of(DetectSettings, MONO, values), track=settings_of(TrackSettings, MONO, values),
                refine=settings_of(RefineSettings, MONO, values), stature=values['stature'])
        except (ModelMissing, ModelCorrupt, EngineError, LiftModelError, ValueError) as error:
            floor.close()
            raise RefusedError(str(error)) from error
        self._loaded = _Loaded(values, pipeline, Output(self, pipeline.skeleton), floor)
        facts = self.health.facts
        facts.engines = pipeline.engines
        facts.details = {'detector_model': values['detector_model'], 'search_model': values['search_model'],
                         'ground': floor.source}
        facts.runtime = values['runtime']
        self.get_logger().info(f'configured: {facts.details}')

    def start(self) -> None:
        loaded, facts = self._loaded, self.health.facts
        if loaded is None:
            raise RefusedError('nothing is configured')
        values = loaded.values
        topics = resolve_topics(self, values['image_transport'], values['rectification'])
        facts.image_topic, facts.info_topic = topics.image, topics.camera_info
        facts.info_timeout_s, facts.calibrated, facts.calibration_problem = values['camera_info_timeout'], False, ''
        self.health.started()
        camera_input = CameraInput(self, topics, values['image_reliability'], values['max_pixels'])

        def missed(cause: str, text: str) -> None:
            self.health.without_floor(cause, text, time.monotonic())

        def to_frame(message: Any) -> Frame:
            if not values['build_while_running'] and (busy := under_way(facts.engines)):
                raise ImageError(BUILDING, busy)
            return loaded.floor.under(camera_input.to_frame(message), missed)

        worker = Worker(to_frame, loaded.pipeline, loaded.output.publish, self.health, self.get_clock(),
                        self.get_logger())
        self._working = _Working(camera_input, worker)

        def on_camera(camera: Camera | None, before: Camera | None) -> None:
            facts.calibrated, facts.calibration_problem = camera is not None, camera_input.problem
            if camera is None:
                return self.get_logger().error(camera_input.problem)
            if before is None or (before.width, before.height) != (camera.width, camera.height):
                worker.forget()  # pixels of another size are no continuation
            return self.get_logger().info(f'{topics.camera_info}: {camera.width} x {camera.height} px, '
                                          f'fx {camera.fx:.1f} px, {camera.model}')

        camera_input.listen(worker.put, on_camera)
        self.get_logger().info(f'looking for people in {topics.image}, '
                               f'{"rectified" if topics.rectified else "raw"}; calibration from {topics.camera_info}')

    def stop(self) -> None:
        working, self._working = self._working, None
        if working is None:
            return
        working.camera_input.destroy()
        working.worker.close()
        if self._loaded is not None and self.context.ok():  # else there is nobody left to tell
            self._loaded.output.clear()
            self.report()

    def unload(self) -> None:
        loaded, self._loaded = self._loaded, None
        if loaded is None:
            return
        self.health.facts.engines, self.health.facts.details = {}, {}
        loaded.output.destroy()
        loaded.pipeline.close()
        loaded.floor.close()

    def explain_silence(self) -> str:
        return self._working.camera_input.why_silent() if self._working is not None else ''


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; returns the exit code."""
    return run(MonoNode, spin_until_signal, args)
