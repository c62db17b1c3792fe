"""People as markers for RViz: bones, joints and a label each, removed when the person leaves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import Point
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from pose3d_ros.draw import person_distance
from pose3d_ros.palette import FAINT, MIDDLE, Color, bone_color, joint_color, joint_opacity
from pose3d_ros.records import Person3D, PersonState

BONE_WIDTH, JOINT_SIZE, LETTER_SIZE = 0.035, 0.06, 0.15  # m
LABEL_HEIGHT = 0.25                                      # m above the head


class PeopleMarkers(ABC):
    """Turns people into markers and remembers which ones are on show; markers_of() says what a person looks like.

    Every person has one marker of each namespace, with the person's id: so people keep their markers for life.
    """

    def __init__(self) -> None:
        self._shown: set[tuple[str, int]] = set()

    @abstractmethod
    def markers_of(self, people: Sequence[Person3D], header: Header) -> list[Marker]:
        """Return the markers of everybody; none of them is empty (RViz complains of those)."""

    def __call__(self, people: Sequence[Person3D], header: Header) -> MarkerArray:
        """Return the markers of everybody, and the removal of those who are gone."""
        markers = self.markers_of(people, header)
        present = {(marker.ns, marker.id) for marker in markers}
        gone = sorted(self._shown - present)
        self._shown = present
        return MarkerArray(markers=[*markers, *(_removal(ns, id_, header) for ns, id_ in gone)])

    def clear(self, header: Header) -> MarkerArray:
        """Return the removal of everything on show."""
        return self([], header)


class SkeletonMarkers(PeopleMarkers):
    """Shows the joints of people, in the namespaces 'bones', 'joints' and 'label'."""

    def markers_of(self, people: Sequence[Person3D], header: Header) -> list[Marker]:
        return [marker for person in people for marker in _markers(person, header)]


def new_marker(person: Person3D, namespace: str, kind: int, header: Header) -> Marker:
    """Return a person's marker of a namespace, without content."""
    # The field is signed.
    marker = Marker(header=header, ns=namespace, id=person.id & 0x7FFFFFFF, type=kind, action=Marker.ADD)
    marker.pose.orientation.w = 1.0
    return marker


def rgba(color: Color, opacity: float) -> ColorRGBA:
    """Return a colour of the palette as markers have it; opacity in 0..1."""
    red, green, blue = (value / 255 for value in color)
    return ColorRGBA(r=red, g=green, b=blue, a=float(opacity))


def _markers(person: Person3D, header: Header) -> list[Marker]:
    """Return the markers that the known joints of a person give."""
    known = np.isfinite(person.position[:, 0])
    if not known.any():
        return []
    opacity = joint_opacity(person)
    if person.state == PersonState.PREDICTED:
        opacity = np.minimum(opacity, FAINT)
    points = [Point(x=x, y=y, z=z) for x, y, z in person.position.tolist()]

    joints = new_marker(person, 'joints', Marker.SPHERE_LIST, header)
    joints.scale.x = joints.scale.y = joints.scale.z = JOINT_SIZE
    bones = new_marker(person, 'bones', Marker.LINE_LIST, header)
    bones.scale.x = BONE_WIDTH
    for joint in np.flatnonzero(known).tolist():
        joints.points.append(points[joint])
        joints.colors.append(rgba(joint_color(person.skeleton, joint), opacity[joint]))
    for a, b in person.skeleton.bone_indices.tolist():
        if known[a] and known[b]:
            bones.points += [points[a], points[b]]
            bones.colors += [rgba(bone_color(person.skeleton, a, b), min(opacity[a], opacity[b]))] * 2

    label = new_marker(person, 'label', Marker.TEXT_VIEW_FACING, header)
    label.scale.z, label.color = LETTER_SIZE, rgba(MIDDLE, 1.0)
    label.text = f'#{person.id}  {person_distance(person):.2f} m'
    x, y, z = _above_head(person, known).tolist()
    label.pose.position = Point(x=x, y=y, z=z)
    return [bones, joints, label] if bones.points else [joints, label]


def _above_head(person: Person3D, known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return a place (3,) m above the person, along the line from the middle of the known joints to the head."""
    middle = person.position[known].mean(axis=0)
    head = person.joint('head') if 'head' in person.skeleton.joints else np.full(3, np.nan)
    length = np.linalg.norm(head - middle)
    return head + LABEL_HEIGHT * (head - middle) / length if length > 0.1 else middle


def _removal(namespace: str, id_: int, header: Header) -> Marker:
    return Marker(header=header, ns=namespace, id=id_, action=Marker.DELETE)
