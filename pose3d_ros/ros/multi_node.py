"""Several cameras to 3D people in one process: for each what mono_node does, under its name, with networks shared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rclpy.node import Node

from pose3d_ros.pipeline import Pipeline, detect_together
from pose3d_ros.ros.camera_node import CameraNode
from pose3d_ros.ros.health import GroupHealth, Health
from pose3d_ros.ros.managed import run, spin_until_signal
from pose3d_ros.ros.param_tables import MULTI
from pose3d_ros.ros.tf import Transforms
from pose3d_ros.ros.worker import Begin, PeoplePipeline


class MultiNode(CameraNode):
    """Finds the people in front of several cameras, each for itself, with every network called once for all.

    open_group: takes the arguments of Pipeline.open_group; begin: what its pipelines do together; listen_to_tf: takes
    the node.
    """

    health: GroupHealth

    def __init__(self, open_group: Callable[..., Sequence[PeoplePipeline]] = Pipeline.open_group,
                 begin: Begin[Any] = detect_together,
                 listen_to_tf: Callable[[Node], Transforms] = Transforms.listen, **node_arguments: Any) -> None:
        super().__init__('multi_node', MULTI, GroupHealth(), open_group, begin, listen_to_tf, **node_arguments)
        self.health.name_cameras(self.get_parameter('cameras').value)

    def cameras(self, values: Mapping[str, Any]) -> dict[str, Health]:
        self.health.name_cameras(values['cameras'])
        return {f'{name}/': health for name, health in self.health.cameras.items()}


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; returns the exit code."""
    return run(MultiNode, spin_until_signal, args)
