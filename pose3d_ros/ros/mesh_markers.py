"""Bodies as markers for RViz: a surface of few triangles for each person, removed when the person leaves."""

from __future__ import annotations

from collections.abc import Sequence

from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker

from pose3d_ros.body_model import BodyModel
from pose3d_ros.decimate import decimate
from pose3d_ros.palette import FAINT, joint_color
from pose3d_ros.records import Person3D, PersonState
from pose3d_ros.ros.markers import PeopleMarkers, new_marker, rgba
from pose3d_ros.skeleton import SMPL24

NAMESPACE = 'mesh'


class Surface:
    """What is shown of a body model: some of its vertices, and triangles between them in the colours of their side."""

    def __init__(self, model: BodyModel) -> None:
        """Takes about a second: once for all cameras of a node."""
        self.model, self.kept = decimate(model)
        self.corners: list[int] = self.model.faces.ravel().tolist()
        self._leading = self.model.arrays.weights.argmax(axis=1).tolist()
        self.colors, self.faint = self._colored(1.0), self._colored(FAINT)

    def _colored(self, opacity: float) -> list[ColorRGBA]:
        """Return the colour of each corner. One object for each joint: to make messages is what takes time."""
        colors = [rgba(joint_color(SMPL24, joint), opacity) for joint in range(len(SMPL24))]
        return [colors[self._leading[vertex]] for vertex in self.corners]


class MeshMarkers(PeopleMarkers):
    """Turns the bodies of people into markers. Namespace 'mesh'; id: the person's."""

    def __init__(self, surface: Surface) -> None:
        super().__init__()
        self._surface = surface

    def markers_of(self, people: Sequence[Person3D], header: Header) -> list[Marker]:
        surface = self._surface
        shown = [(person, person.body) for person in people if person.body is not None]
        if not shown:
            return []
        vertices, _ = surface.model.placed([body for _, body in shown])
        markers = []
        for (person, _), places in zip(shown, vertices):
            marker = new_marker(person, NAMESPACE, Marker.TRIANGLE_LIST, header)
            marker.scale.x = marker.scale.y = marker.scale.z = 1.0
            points = [Point(x=x, y=y, z=z) for x, y, z in places.tolist()]
            marker.points = [points[vertex] for vertex in surface.corners]
            marker.colors = surface.faint if person.state == PersonState.PREDICTED else surface.colors
            markers.append(marker)
        return markers
