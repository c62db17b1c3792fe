"""What the nodes publish of people's bodies, where the lifter gives them: as numbers, and as surfaces for the eye."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from pose3d_ros.body_model import load_body_model
from pose3d_ros.msg import Bodies3D
from pose3d_ros.records import Person3D
from pose3d_ros.ros.convert import stamp_ns, to_bodies
from pose3d_ros.ros.mesh_markers import MeshMarkers, Surface
from pose3d_ros.ros.publishing import RELIABLE_5, publisher

_LEAST_RATE = 1e-6   # Hz: rarer than this is never


@dataclass(frozen=True)
class Bodies:
    """How a node publishes bodies. model: name and SHA-256 of the body model that they are in; surface: None without
    topic `mesh`, which has at most mesh_rate [Hz] messages for each second of footage.
    """

    model: tuple[str, str]
    surface: Surface | None
    mesh_rate: float

    @classmethod
    def open(cls, values: Mapping[str, Any], model: tuple[str, str] | None) -> Bodies | None:
        """Return what parameters of a node say (body_model, mesh_rate); None where the lifter gives no bodies.

        model: Pipeline.body_model. Raises BodyModelError for a file that is not of that model; without `mesh` nobody
        needs it.
        """
        if model is None:
            return None
        if not values['mesh_rate']:
            return cls(model, None, 0.0)
        path = Path(values['body_model']).expanduser() if values['body_model'] else None
        return cls(model, Surface(load_body_model(path, model)), values['mesh_rate'])


class BodiesOutput:
    """Publishes the bodies of people, and their surfaces while somebody looks."""

    def __init__(self, node: Node, bodies: Bodies, prefix: str = '') -> None:
        """prefix: of the topics, as 'front/' for `front/bodies`."""
        self._node, self._model = node, bodies.model
        self._bodies = publisher(node, Bodies3D, f'{prefix}bodies', RELIABLE_5)
        self._mesh: _Mesh | None = None
        if bodies.surface is not None:
            self._mesh = _Mesh(publisher(node, MarkerArray, f'{prefix}mesh', RELIABLE_5), bodies.surface,
                               bodies.mesh_rate)

    def publish(self, people: Sequence[Person3D], header: Header) -> None:
        """Publish the bodies of the people of a moment, who may be none."""
        self._bodies.publish(to_bodies(people, header, self._model))

    def show(self, people: Sequence[Person3D], header: Header) -> None:
        """Publish their surfaces, where somebody looks and it is time for the next."""
        if self._mesh is not None:
            self._mesh.show(people, header)

    def clear(self) -> None:
        """Take everything off show."""
        if self._mesh is not None:
            self._mesh.clear()

    def destroy(self) -> None:
        """Remove the publishers."""
        self._node.destroy_publisher(self._bodies)
        if self._mesh is not None:
            self._node.destroy_publisher(self._mesh.publisher)


class _Mesh:
    """The topic `mesh`. State: who is on show, and when the next message is due by the stamps of the images."""

    def __init__(self, publisher: Publisher, surface: Surface, rate: float) -> None:
        self.publisher = publisher
        self._to_markers = MeshMarkers(surface)
        self._period_ns = round(1e9 / max(rate, _LEAST_RATE))
        self._due_ns: int | None = None
        self._header = Header()

    def show(self, people: Sequence[Person3D], header: Header) -> None:
        if self.publisher.get_subscription_count() and self._is_due(stamp_ns(header.stamp)):
            self._header = header
            self.publisher.publish(self._to_markers(people, header))

    def clear(self) -> None:
        removals = self._to_markers.clear(self._header)
        if removals.markers:
            self.publisher.publish(removals)
        self._due_ns = None

    def _is_due(self, now_ns: int) -> bool:
        """Tell whether a message is due. On a grid: 10 Hz are every third image of 30 Hz, however stamps jitter."""
        due, period = self._due_ns, self._period_ns
        if due is not None and due - period <= now_ns < due:
            return False
        on_grid = due is not None and due <= now_ns < due + period
        self._due_ns = (due if due is not None and on_grid else now_ns) + period
        return True
