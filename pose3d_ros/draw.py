"""Pictures of people: skeletons over the camera image, and the 3D scene from the side and from above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pose3d_ros.palette import FAINT, MIDDLE, Color, bone_color, joint_color, joint_opacity
from pose3d_ros.records import Person2D, Person3D, PersonState
from pose3d_ros.skeleton import Skeleton

Image = NDArray[np.uint8]
Points = NDArray[np.float64]

_INK, _PAPER, _GRID, _GRID_TEXT = (40, 36, 32), (250, 250, 250), (222, 222, 222), (120, 120, 120)
_FONT = cv2.FONT_HERSHEY_DUPLEX
_SUBPIXEL_BITS = 4  # cv2 draws at 1/16 px


def draw_people(image: Image, people_2d: Sequence[Person2D], people: Sequence[Person3D] = ()) -> Image:
    """Return a copy of the image (H, W, 3) BGR with the skeletons over it, ids, and distances where 3D is given.

    The left side of each body is blue, the right one orange. Joints with little confidence are faint, those that are
    NaN are left out. people are matched to people_2d by id. Line widths and letters grow with the image.
    """
    drawn = image.copy()
    width = max(1, round(float(np.hypot(*image.shape[:2])) / 600))
    distances = {person.id: person_distance(person) for person in people}
    for person in people_2d:
        visible = np.where(person.joint_confidence >= 0.5, 1.0, FAINT)
        _draw_skeleton(drawn, person.skeleton, person.pixels, visible, width)
    for person in people_2d:  # labels last: never under another person's bones
        _draw_label(drawn, _label(person, distances.get(person.id, float('nan'))), person, width)
    return drawn


def person_distance(person: Person3D) -> float:
    """Return the distance of a person from the origin (the camera) in m: that of the middle of the known joints."""
    known = ~np.isnan(person.position[:, 0])
    return float(np.linalg.norm(np.median(person.position[known], axis=0))) if known.any() else float('nan')


def _label(person: Person2D, distance: float) -> str:
    name = f'#{person.id}' if person.id else 'person'
    note = {PersonState.TENTATIVE: ' ?', PersonState.PREDICTED: ' (hidden)'}.get(person.state, '')
    return name + note + (f'  {distance:.2f} m' if np.isfinite(distance) else '')


def _draw_skeleton(canvas: Image, skeleton: Skeleton, pixels: Points, visible: Points, width: int) -> None:
    """Draw bones and joints at pixels (J, 2); visible (J,) in 0..1. Dark edges keep them readable on any ground.

    Joints less than FAINT are no more than thin lines.
    """
    usable = _drawable(pixels, canvas)
    drawn = usable & (visible >= FAINT)
    for a, b in skeleton.bone_indices:
        if usable[a] and usable[b] and not (drawn[a] and drawn[b]):
            cv2.line(canvas, _fixed(pixels[a]), _fixed(pixels[b]), _mixed(bone_color(skeleton, a, b), FAINT),
                     max(1, width // 3), cv2.LINE_AA, _SUBPIXEL_BITS)
    bones = [(a, b) for a, b in skeleton.bone_indices if drawn[a] and drawn[b]]
    for edge in (True, False):
        for a, b in bones:
            color = _INK if edge else _mixed(bone_color(skeleton, a, b), min(visible[a], visible[b]))
            cv2.line(canvas, _fixed(pixels[a]), _fixed(pixels[b]), color, width + 2 * edge * max(1, width // 2),
                     cv2.LINE_AA, _SUBPIXEL_BITS)
    radius = 1.1 * width
    for joint in np.flatnonzero(drawn).tolist():
        for color, size in ((_INK, radius + max(1, width / 2)), (_mixed(joint_color(skeleton, joint), visible[joint]),
                                                                radius)):
            cv2.circle(canvas, _fixed(pixels[joint]), round(size * 2 ** _SUBPIXEL_BITS), color, -1, cv2.LINE_AA,
                       _SUBPIXEL_BITS)


def _draw_label(canvas: Image, text: str, person: Person2D, width: int) -> None:
    """Write the text on a dark plate above the person, inside the image."""
    usable = _drawable(person.pixels, canvas)
    if not usable.any():
        return
    scale, stroke = 0.25 * width + 0.2, max(1, width // 3)
    (w, h), base = cv2.getTextSize(text, _FONT, scale, stroke)
    pad = h // 2
    top, middle = person.pixels[usable, 1].min(), person.pixels[usable, 0].mean()
    x = int(np.clip(middle - w / 2, pad, max(pad, canvas.shape[1] - w - pad)))
    y = int(np.clip(top - 3 * h, h + pad, max(h + pad, canvas.shape[0] - base - pad)))
    plate = canvas[max(y - h - pad, 0):y + base + pad // 2, max(x - pad, 0):x + w + pad]
    plate[:] = (0.35 * plate + 0.65 * np.array(_INK)).astype(np.uint8)
    cv2.putText(canvas, text, (x, y), _FONT, scale, _bgr(MIDDLE), stroke, cv2.LINE_AA)


def _drawable(pixels: Points, canvas: Image) -> NDArray[np.bool_]:
    """Return which pixels (J, 2) are known and near enough to the canvas for fixed-point drawing."""
    reach = 4 * max(canvas.shape[:2])
    with np.errstate(invalid='ignore'):
        return np.asarray((np.abs(pixels) < reach).all(axis=1))


def _fixed(pixel: Points) -> tuple[int, int]:
    x, y = np.round(pixel * 2 ** _SUBPIXEL_BITS).astype(int)
    return int(x), int(y)


def _bgr(color: Color) -> Color:
    return color[2], color[1], color[0]


def _mixed(color: Color, share: float) -> Color:
    """Return the colour as BGR, fading into dark grey as share goes from 1 to 0."""
    blue, green, red = (round(share * c + (1 - share) * 90) for c in _bgr(color))
    return blue, green, red


@dataclass(frozen=True)
class Bounds:
    """What a picture of the scene shows, in the frame of the people: low and high corner (3,) m."""

    low: Points
    high: Points

    @classmethod
    def around(cls, people: Sequence[Person3D], margin: float = 0.4, eyes: Points | None = None) -> Bounds:
        """Return the bounds of all joints of people and of the cameras at eyes (N, 3) m, rounded to half metres.

        Without eyes there is one camera, at the origin.
        """
        points = np.concatenate([np.zeros((1, 3)) if eyes is None else eyes, *(person.position for person in people)])
        points = points[np.isfinite(points).all(axis=1) & (np.abs(points) < 100).all(axis=1)]
        low, high = points.min(axis=0) - margin, points.max(axis=0) + margin
        return cls(np.floor(2 * low) / 2, np.ceil(2 * high) / 2)


def draw_scene(people: Sequence[Person3D], size: tuple[int, int] = (1200, 600), bounds: Bounds | None = None) -> Image:
    """Return a picture (height, width, 3) BGR of 3D people in the optical frame: from the side, and from above.

    size: width, height in px. bounds: what is shown, the same for every picture of a series; None: just these people.
    """
    bounds = bounds or Bounds.around(people)
    width, height = size
    side = draw_view(people, 'side', (width - width // 2, height), bounds)
    above = draw_view(people, 'above', (width // 2, height), bounds)
    above[:, :2] = _GRID_TEXT
    return np.concatenate([side, above], axis=1)


@dataclass(frozen=True)
class Side:
    """From where a scene is looked at: the axes of its frame that point rightwards and upwards, and their signs."""

    axes: tuple[int, int]
    signs: tuple[int, int]
    title: str


# Of one camera's optical frame.
_SIDES = {'side': Side((2, 1), (1, -1), 'from the side: distance, height [m]'),
          'above': Side((0, 2), (1, 1), 'from above: right, distance [m]')}


def world_sides(up: Points) -> dict[str, Side]:
    """Return the sides 'side' and 'above' of a common frame in which up (3,) points about upwards.

    The axis of the frame that is nearest to up is taken to be vertical.
    """
    vertical = int(np.abs(up).argmax())
    sign = 1 if up[vertical] > 0 else -1
    right = 1 if vertical == 0 else 0
    ahead = 3 - vertical - right
    turn = sign if (right, ahead, vertical) in ((0, 1, 2), (1, 2, 0)) else -sign  # right x ahead is up

    def named(axis: int, direction: int) -> str:
        return '-' * (direction < 0) + 'xyz'[axis]

    return {
        'side': Side((right, vertical), (1, sign), f'from the side: {named(right, 1)}, {named(vertical, sign)} [m]'),
        'above': Side((right, ahead), (1, turn), f'from above: {named(right, 1)}, {named(ahead, turn)} [m]')}


@dataclass(frozen=True)
class _Plane:
    """Two axes of the frame laid onto a canvas at one scale: axis and sign of each, and what is shown [m]."""

    axes: tuple[int, int]
    signs: tuple[int, int]
    size: tuple[int, int]
    middle: Points
    scale: float  # px per m

    def meet(self, points: Points) -> Points:
        """Return the pixels (..., 2) of points (..., 3) m."""
        return self.at(points[..., list(self.axes)] * self.signs)

    def at(self, places: Points) -> Points:
        """Return the pixels (..., 2) of places (..., 2) m on the plane: rightwards, upwards."""
        return np.array(self.size) / 2 + (places - self.middle) * (self.scale, -self.scale)

    def shown(self) -> tuple[Points, Points]:
        """Return the lowest and the highest place (2,) m on the canvas."""
        half = np.array(self.size) / 2 / self.scale
        return self.middle - half, self.middle + half


def draw_view(people: Sequence[Person3D], view: str | Side, size: tuple[int, int], bounds: Bounds,
              cameras: Mapping[str, Points] | None = None) -> Image:
    """Return one picture (height, width, 3) BGR of the people with a grid in metres.

    view, of people in an optical frame: 'side': distance to the right, up is up; 'above': the camera's right to the
    right, distance upwards; of people in a common frame: one of world_sides. All at one scale in both directions.
    size: width, height in px. cameras: camera_T_frame (4, 4) by name; by default one at the origin.
    """
    side = _SIDES[view] if isinstance(view, str) else view
    corners = np.sort(np.stack([bounds.low, bounds.high])[:, list(side.axes)] * side.signs, axis=0)
    letter = max(0.6, min(size) / 800)
    strip = min(round(42 * letter), size[1] // 4)  # above the plot, for the title
    area = (size[0], size[1] - strip)
    scale = float((np.array(area) / np.ptp(corners, axis=0)).min())
    plane = _Plane(side.axes, side.signs, area, corners.mean(axis=0), scale)
    canvas: Image = np.full((area[1], area[0], 3), _PAPER, dtype=np.uint8)
    _draw_grid(canvas, plane, letter)
    for name, pose in ({'': np.eye(4)} if cameras is None else cameras).items():
        _draw_camera(canvas, plane, letter, pose, name)
    width = max(2, round(0.03 * plane.scale))
    for person in sorted(people, key=person_distance, reverse=True):
        pixels = plane.meet(person.position)
        _draw_skeleton(canvas, person.skeleton, pixels, joint_opacity(person), width)
        usable = _drawable(pixels, canvas)
        if usable.any():
            x, y = pixels[usable, 0].mean(), pixels[usable, 1].min()
            _write(canvas, f'#{person.id}', (x - 12 * letter, y - 16 * letter), 0.8 * letter, _INK)
    heading: Image = np.full((strip, size[0], 3), _PAPER, dtype=np.uint8)
    _write(heading, side.title, (14 * letter, 28 * letter), 0.8 * letter, _INK)
    return np.concatenate([heading, canvas])


def _draw_grid(canvas: Image, plane: _Plane, letter: float) -> None:
    """Draw a line with its number every half metre, or every metre where there would be many."""
    low, high = plane.shown()
    step = 0.5 if (high - low).max() < 4 else 1.0
    for axis in (0, 1):
        for line in np.arange(np.ceil(low[axis] / step), high[axis] / step) * step:
            ends = np.stack([low, high])
            ends[:, axis] = line
            start, end = plane.at(ends)
            cv2.line(canvas, _fixed(start), _fixed(end), _GRID, 1, cv2.LINE_AA, _SUBPIXEL_BITS)
            offset = (4 * letter, -8 * letter)
            _write(canvas, f'{line + 0.0:g}', start + offset, 0.6 * letter, _GRID_TEXT)


def _draw_camera(canvas: Image, plane: _Plane, letter: float, pose: Points, name: str) -> None:
    """Draw the camera as a small wedge that opens along its view; a square, where it looks along the line of sight."""
    place = -pose[:3, :3].T @ pose[:3, 3]
    eye, ahead = plane.meet(np.stack([place, place + pose[2, :3]]))
    length = float(np.linalg.norm(ahead - eye))
    if length < 0.1 * plane.scale:
        view = np.array([0.0, -24 * letter])
        corners = eye + 8 * letter * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    else:
        view = (ahead - eye) / length * 24 * letter
        sideways = np.array([-view[1], view[0]]) * 0.55
        corners = np.array([eye, eye + view + sideways, eye + view - sideways])
    cv2.fillPoly(canvas, [corners.round().astype(np.int32)], _INK, cv2.LINE_AA)
    extent = np.array(cv2.getTextSize(name, _FONT, 0.6 * letter, 1)[0])
    behind = eye - view * (0.4 + extent[0] / 2 / np.linalg.norm(view) * abs(view[0]) / np.linalg.norm(view))
    place = np.clip(behind + (-extent[0] / 2, extent[1] / 2), (2, extent[1]), np.array(plane.size) - (extent[0] + 2, 4))
    _write(canvas, name, place, 0.6 * letter, _INK)


def _write(canvas: Image, text: str, at: Sequence[float] | Points, scale: float, color: Color) -> None:
    cv2.putText(canvas, text, (round(float(at[0])), round(float(at[1]))), _FONT, scale, color, 1, cv2.LINE_AA)
