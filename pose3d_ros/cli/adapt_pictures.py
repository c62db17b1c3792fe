"""What `pose3d adapt` shows: one camera's people in the image of another, before and after; errors over distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from pose3d_ros.camera import Camera
from pose3d_ros.cli.chart import chart
from pose3d_ros.cli.picture import captioned, joined
from pose3d_ros.cli.site_views import Footage
from pose3d_ros.draw import draw_people
from pose3d_ros.lift import input_points
from pose3d_ros.records import Person2D, PersonState
from pose3d_ros.skeleton import HUMAN17

if TYPE_CHECKING:
    from pose3d_ros.train.adapt import Report
    from pose3d_ros.train.site import SiteRecording

Image = NDArray[np.uint8]

_PANEL = (620, 620)         # px, width and most height of one picture of a pair
_LEAST_JOINTS = 6           # of the 13, that the other camera must have seen for a picture
_MARGIN, _LEAST_SIDE, _LABEL = 0.35, 0.3, 0.06  # of what is drawn; of the image's height
_WHITE, _INK, _RED, _DARK = (255, 255, 255), (40, 36, 32), (60, 60, 235), (58, 54, 50)
_LEAST_BIN_M, _MOST_BINS, _LEAST_IN_BIN = 0.5, 10, 10


@dataclass(frozen=True)
class Shown:
    """A sample of the held-out part (row) as camera `other` saw it: what a pair of pictures is of."""

    row: int
    other: int


def titles(report: Report) -> tuple[str, str]:
    """Return what the two columns of the report are called: `after` is only what was kept."""
    return ('before', 'after') if report.adapted else ('kept', 'tried')


def chosen(held: SiteRecording, count: int) -> list[Shown]:
    """Return what to show: moments spread evenly over the time, pairs of cameras in turn; whatever is to be seen."""
    seen = (held.across().sum(axis=2) >= _LEAST_JOINTS)  # (N, V)
    usable = np.flatnonzero(seen.any(axis=1))
    if not len(usable):
        return []
    stamps = held.stamp_ns[usable]
    moments = np.linspace(stamps.min(), stamps.max(), 2 * count + 1)[1::2]
    found: list[Shown] = []
    for number, moment in enumerate(moments):
        near = usable[np.argsort(np.abs(stamps - moment), kind='stable')[:2 * len(held.cameras)]]
        wanted = near[held.camera[near] == number % len(held.cameras)]
        row = int((wanted if len(wanted) else near)[0])
        others = np.flatnonzero(seen[row])
        found.append(Shown(row, int(others[(np.searchsorted(others, held.camera[row]) + number) % len(others)])))
    return found


def overlays(report: Report, footage: Footage, count: int = 4) -> list[tuple[str, Image]]:
    """Return captions and pictures (H, W, 3) BGR: before to the left, after to the right."""
    held, pictures = report.held, []
    shown = chosen(held, count)
    stamps = {}
    for each in shown:
        name = held.cameras[each.other]
        times = np.array([view.stamp_ns for view in footage.views[name]])
        stamps[each] = (name, int(times[np.abs(times - held.stamp_ns[each.row]).argmin()]))
    wanted: dict[str, list[int]] = {}
    for name, stamp in stamps.values():
        wanted.setdefault(name, []).append(stamp)
    images = footage.images(wanted)
    start = min(view.stamp_ns for views in footage.views.values() for view in views)
    for each in shown:
        name, stamp = stamps[each]
        lens = footage.lenses[name]
        image = images.get((name, stamp))
        if image is None:
            image = np.full((lens.height, lens.width, 3), _DARK, dtype=np.uint8)
        pair, errors = _pair(report, each, image, lens)
        own = held.cameras[held.camera[each.row]]
        told = ', '.join(f'{error:.0f} px {title}' for error, title in zip(errors, titles(report)))
        pictures.append((f'{1e-9 * (held.stamp_ns[each.row] - start):.1f} s: what {own} alone says, as {name} sees it; '
                         f'median distance {told}', pair))
    return pictures


def _pair(report: Report, shown: Shown, image: Image, lens: Camera) -> tuple[Image, tuple[float, float]]:
    """Return the two pictures side by side, and the median distances in px."""
    held, row = report.held, shown.row
    own, other = held.poses[row, held.camera[row]], held.poses[row, shown.other]
    move = other @ np.linalg.inv(own)
    seen = held.seen_confidence[row, shown.other] > 0
    detected = np.where(seen[:, None], lens.distort(held.seen_rays[row, shown.other].astype(np.float64)), np.nan)
    drawn, pixels, errors = [], [], []
    for joints in (report.before[row], report.after[row]):
        local = joints.astype(np.float64) @ move[:3, :3].T + move[:3, 3]
        pixels.append(lens.project(local))
        points = lens.project(input_points() @ local)
        off = np.linalg.norm(points - detected, axis=1)
        errors.append(float(np.nanmedian(off)) if np.isfinite(off).any() else float('nan'))
        drawn.append(_drawn(image, pixels[-1], points, detected, int(held.person[row])))
    window = _window(np.concatenate([*pixels, detected]), detected, image.shape[:2])
    panels = [captioned(np.ascontiguousarray(part[window]), f'{title}: {error:.0f} px', _PANEL)
              for part, title, error in zip(drawn, titles(report), errors)]
    return joined(panels, axis=1), (errors[0], errors[1])


def _drawn(image: Image, pixels: NDArray, points: NDArray, detected: NDArray, person: int) -> Image:
    """Return the image with a predicted skeleton, what was detected (white), and the way between (red)."""
    nothing = np.full(len(HUMAN17), np.nan)
    seen = Person2D(HUMAN17, pixels, np.full((len(HUMAN17), 2), np.nan), nothing, np.ones(len(HUMAN17)), nothing,
                    np.full(4, np.nan), 1.0, person, PersonState.TRACKED)
    picture = draw_people(image, [seen])
    width = max(1, round(float(np.hypot(*image.shape[:2])) / 700))
    reach = 4 * max(image.shape[:2])
    for point, goal in zip(points, detected):
        if np.isfinite(goal).all():
            end = np.round(goal).astype(int).tolist()
            if np.isfinite(point).all() and (np.abs(point) < reach).all():
                cv2.line(picture, np.round(point).astype(int).tolist(), end, _RED, width, cv2.LINE_AA)
            cv2.circle(picture, end, 3 * width, _INK, -1, cv2.LINE_AA)
            cv2.circle(picture, end, 2 * width, _WHITE, -1, cv2.LINE_AA)
    return picture


def _window(points: NDArray, detected: NDArray, shape: Sequence[int]) -> tuple[slice, slice]:
    """Return the part of an image (height, width) that holds all points (M, 2) inside it, and something around."""
    height, width = shape
    inside = points[np.isfinite(points).all(axis=1)]
    inside = inside[((inside >= 0) & (inside < (width, height))).all(axis=1)]
    if not len(inside):
        return slice(0, height), slice(0, width)
    low, high = inside.min(axis=0), inside.max(axis=0)
    low[1] -= _LABEL * height  # the label stands above the person
    side = np.maximum((high - low) * (1 + _MARGIN), _LEAST_SIDE * height)
    side = np.maximum(side, side.max() * np.array([0.9, 0.6]))  # panels of about one shape
    middle = (low + high) / 2
    x0, y0 = np.clip(middle - side / 2, 0, None).astype(int)
    x1, y1 = np.minimum(middle + side / 2, (width, height)).astype(int)
    return slice(y0, y1), slice(x0, x1)


def over_distance(report: Report, pixels_before: NDArray, pixels_after: NDArray) -> Image | None:
    """Return a chart of the cross-view error over the distance of people from the camera; None where too few are known.

    pixels_before, pixels_after (N, V, 13) px: see train.adapt_geometry.pixels_off.
    """
    known: NDArray[np.bool_] = np.asarray(np.isfinite(report.reference).all(axis=2))
    centre = np.where(known[..., None], report.reference, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)[:, None]
    distance = np.where(known.any(axis=1), np.linalg.norm(centre, axis=1), np.nan)
    if not np.isfinite(distance).any():
        return None
    width = max(_LEAST_BIN_M, float(np.nanmax(distance) - np.nanmin(distance)) / _MOST_BINS)
    lines: dict[str, tuple[list[float], list[float]]] = {title: ([], []) for title in titles(report)}
    for low in np.arange(np.floor(np.nanmin(distance) / width), np.nanmax(distance) / width) * width:
        rows = (distance >= low) & (distance < low + width)
        if rows.sum() < _LEAST_IN_BIN:
            continue
        for name, pixels in zip(lines, (pixels_before, pixels_after)):
            if np.isfinite(pixels[rows]).any():
                lines[name][0].append(float(np.mean(distance[rows])))
                lines[name][1].append(float(np.nanmedian(pixels[rows])))
    if not any(x for x, _ in lines.values()):
        return None
    return chart('Error over distance (held-out part)', 'distance from the camera, m',
                 'median distance in the images of the other cameras, px',
                 {name: (np.array(x), np.array(y)) for name, (x, y) in lines.items()})
