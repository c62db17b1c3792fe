"""One camera to 3D people: image + camera_info in, people, people_2d, markers and image_annotated out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rclpy.node import Node

from pose3d_ros.pipeline import Pipeline
from pose3d_ros.ros.camera_node import CameraNode
from pose3d_ros.ros.health import Health
from pose3d_ros.ros.managed import run, spin_until_signal
from pose3d_ros.ros.param_tables import MONO
from pose3d_ros.ros.tf import Transforms
from pose3d_ros.ros.worker import PeoplePipeline, each_alone


class MonoNode(CameraNode):
    """Finds the people in front of one camera.

    open_pipeline: takes the keyword arguments of Pipeline.open. listen_to_tf: takes the node.
    """

    health: Health

    def __init__(self, open_pipeline: Callable[..., PeoplePipeline] = Pipeline.open,
                 listen_to_tf: Callable[[Node], Transforms] = Transforms.listen, **node_arguments: Any) -> None:
        def open_group(count: int, **arguments: Any) -> list[PeoplePipeline]:
            return [open_pipeline(**arguments)]

        super().__init__('mono_node', MONO, Health(), open_group, each_alone, listen_to_tf, **node_arguments)

    def cameras(self, values: Mapping[str, Any]) -> dict[str, Health]:
        return {'': self.health}


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; returns the exit code."""
    return run(MonoNode, spin_until_signal, args)
