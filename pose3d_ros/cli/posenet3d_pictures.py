"""What the tables of PoseNet3D say, as pictures: monsters, adapted joints, smoothness."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pose3d_ros.cli.chart import chart, write_chart
from pose3d_ros.draw_mesh import draw_mesh, turned
from pose3d_ros.palette import LEFT, RIGHT

if TYPE_CHECKING:
    from pose3d_ros.train.posenet3d_tables import Scene, TrainedVariant

Image = NDArray[np.uint8]

MONSTERS = {'student_direct': 're-projection alone', 'student_distilled': 'taught', 'student_convex': 'taught, adapted'}
LINES = {'truth': 'truth', 'teacher_1': 'teacher, 1 frame', 'teacher_9': 'teacher, 9 frames', 'average': 'average'}
PEOPLE, SECONDS = 4, 3.0
_SEED = 4
_CELL, _SPAN = (250, 300), 2.15      # px; metres of a body that is as large as the model from border to border
_TITLE, _INK, _PAPER = 26, (60, 60, 60), 250
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_UPRIGHT = np.diag([1.0, -1.0, -1.0])   # from a camera's axes to those of draw_mesh
_OWN, _LEARNED = (0, 94, 213), (178, 114, 0)
_SIDES = {'left': LEFT[::-1], 'right': RIGHT[::-1]}


def draw(folder: Path, runs: Mapping[str, TrainedVariant], scene: Scene, detected: Scene,
         found: Mapping[str, Any]) -> Iterator[Path]:
    """Draw what there is to draw, and yield the files as they are written. Raises UserError.

    scene: with true 2D, for bodies; detected: with a detector's, for smoothness; found: the figures.
    """
    pictures = {'monsters': lambda: monsters(runs, scene), 'adaptation': lambda: adaptation(runs),
                'smoothness': lambda: smoothness(runs, detected), 'mpjve': lambda: velocities(found)}
    for name, picture in pictures.items():
        drawn = picture()
        if drawn is not None:
            path = folder / f'{name}.png'
            write_chart(path, drawn)
            yield path


def monsters(runs: Mapping[str, TrainedVariant], scene: Scene) -> Image | None:
    """Return the same people, drawn at random, as bodies of several students, each from the camera and from the side.
    """
    from pose3d_ros.nets.posenet3d import units_per_metre
    from pose3d_ros.train.posenet3d_bodies import flat_poses, surfaces

    students = {name: runs[name] for name in MONSTERS if name in runs}
    if not students:
        return None
    clips = np.array_split(np.arange(len(scene)), PEOPLE)           # from everywhere in the recording
    rng = np.random.default_rng(_SEED)
    people = scene.where(np.array([rng.choice(part) for part in clips]))
    rows: list[list[Image]] = [[] for _ in range(PEOPLE)]
    heads = ['2D']
    for name, variant in students.items():
        assert variant.student is not None
        size = 1 / units_per_metre(variant.student.model)
        vertices, _ = surfaces(variant, people)
        if len(heads) == 1:
            for row, pose in zip(rows, size * flat_poses(variant, people)):
                row.append(skeleton(pose))
        for row, body in zip(rows, vertices):
            for angle in (0.0, 90.0):
                row.append(draw_mesh(size * body @ _UPRIGHT, variant.student.model.faces.numpy(), turned(angle), _CELL,
                                     _SPAN))
        heads += [MONSTERS[name], 'from the side']
    return np.vstack([_heading(heads), *(np.hstack(row) for row in rows)])


def skeleton(pose: NDArray) -> Image:
    """Return a picture of a 2D pose (14, 2) in m against the root, y down: left, right and middle in their colours."""
    from pose3d_ros.nets.posenet3d import BONES, JOINTS

    picture = np.full((_CELL[1], _CELL[0], 3), _PAPER, dtype=np.uint8)
    places = np.round(pose * _CELL[1] / _SPAN + [_CELL[0] / 2, _CELL[1] / 2]).astype(int)
    for a, b in BONES:
        first, second = (JOINTS[joint].split('_')[0] for joint in (a, b))
        colour = _SIDES.get(first if first == second else '', (120, 120, 120))
        cv2.line(picture, places[a].tolist(), places[b].tolist(), colour, 3, cv2.LINE_AA)
    return picture


def _heading(titles: Sequence[str], width: int = _CELL[0]) -> Image:
    """Return a row of titles, each above a cell."""
    row = np.full((_TITLE, width * len(titles), 3), 255, dtype=np.uint8)
    for number, title in enumerate(titles):
        cv2.putText(row, title, (width * number + 8, _TITLE - 8), _FONT, 0.5, _INK, 1, cv2.LINE_AA)
    return row


def adaptation(runs: Mapping[str, TrainedVariant]) -> Image | None:
    """Return the body at rest with the model's own joints and the learned ones, and the left hip's weights on it."""
    from pose3d_ros.nets.posenet3d import HIPS, JOINTS
    from pose3d_ros.train.posenet3d_bodies import regressors, rest_joints

    variant = runs.get('student_convex')
    if variant is None or variant.student is None:
        return None
    model = variant.student.model
    vertices, faces = model.template.numpy(), model.faces.numpy()
    own, learned = rest_joints(variant.student)
    size, span = (520, 560), 1.95
    centre = np.array([0.0, 0.5 * (vertices[:, 1].max() + vertices[:, 1].min()), 0.0])
    picture = draw_mesh(vertices, faces, size=size, span=span, centre=centre.tolist())
    picture = np.asarray(0.5 * picture + 0.5 * 255, dtype=np.uint8)
    scale = size[1] / span
    for number in range(len(JOINTS)):
        a, b = (np.round([size[0] / 2 + scale * (point[0] - centre[0]), size[1] / 2 - scale * (point[1] - centre[1])])
                .astype(int).tolist() for point in (own[number], learned[number]))
        cv2.line(picture, a, b, _INK, 1, cv2.LINE_AA)
        cv2.circle(picture, a, 5, _OWN, 1, cv2.LINE_AA)
        cv2.circle(picture, b, 4, _LEARNED, -1, cv2.LINE_AA)
        moved = 1e3 * float(np.linalg.norm(learned[number] - own[number]))
        if JOINTS[number].startswith('left') or number >= len(JOINTS) - 2:
            cv2.putText(picture, f'{moved:.0f}', (max(a[0], b[0]) + 7, b[1] + 4), _FONT, 0.4, _INK, 1, cv2.LINE_AA)
    before, after = (rows[HIPS[0]] for rows in regressors(variant.student))
    near = {'size': (360, 560), 'span': 0.75, 'centre': own[list(HIPS)].mean(axis=0).tolist()}
    panels = [picture, *(draw_mesh(vertices, faces, colors=heat(row), **near)  # type: ignore[arg-type]
                         for row in (before, after))]
    titles = ("joints: the model's own (rings), learned; mm", "left hip: the model's weights", 'learned weights')
    return np.hstack([np.vstack([_heading([title], panel.shape[1]), panel]) for title, panel in zip(titles, panels)])


def heat(weights: NDArray) -> NDArray[np.float64]:
    """Return colours (V, 3) BGR of weights (V,): from skin to dark red, the square root of each over the largest."""
    share = np.sqrt(weights / weights.max())[:, None]
    return np.array([215.0, 215.0, 215.0]) * (1 - share) + np.array([20.0, 20.0, 160.0]) * share


def smoothness(runs: Mapping[str, TrainedVariant], scene: Scene) -> Image | None:
    """Return how far behind the hips a wrist is over some seconds: truth, teachers and the average of branches.

    The sequence is the one in the middle of the recording; the part of it in which that wrist moves most.
    """
    from pose3d_ros.nets.posenet3d import HIPS, JOINTS
    from pose3d_ros.train.metrics import procrustes
    from pose3d_ros.train.posenet3d_tables import said

    lengths = np.bincount(scene.sequence)
    long_enough = np.flatnonzero(lengths >= SECONDS * scene.rate)
    chosen = long_enough[len(long_enough) // 2] if len(long_enough) else int(lengths.argmax())
    part = scene.where(np.flatnonzero(scene.sequence == chosen))
    sources = {'teacher_1': 'teacher_1', 'teacher_9': 'teacher_9', 'average': next(
        (name for name in ('finetuned', 'student_convex') if name in runs), '')}
    lines = {'truth': part.truth}
    for label, name in sources.items():
        if name in runs:
            key = f'{name}_average' if label == 'average' else name
            lines[label] = procrustes(said(runs[name], part)[key], part.truth)
    if len(lines) < 2:
        return None
    wrist = JOINTS.index('right_wrist')
    behind = {name: 1e3 * (joints[:, wrist, 2] - joints[:, list(HIPS), 2].mean(axis=1))
              for name, joints in lines.items()}
    count = min(len(part), round(SECONDS * scene.rate))
    start = int(np.argmax([np.ptp(behind['truth'][first:first + count]) for first in range(len(part) - count + 1)]))
    depth = {name: line[start:start + count] for name, line in behind.items()}
    least = min(np.nanmin(line) for line in depth.values())
    seconds = np.arange(count) / scene.rate
    return chart('Right wrist: how far behind the hips, as the camera looks', 'seconds', 'mm, from the least on',
                 {LINES[name]: (seconds, line - least) for name, line in depth.items()}, dots=False)


def velocities(found: Mapping[str, Any]) -> Image | None:
    """Return MPJVE as bars: with a detector's 2D, and with true 2D."""
    rows = [(title, found[name]) for name, title in LINES.items() if 'mpjve_gt_mm' in found.get(name, {})]
    if not rows:
        return None
    keys = {'mpjve_mm': ("a detector's 2D", _LEARNED), 'mpjve_gt_mm': ('true 2D', (190, 190, 190))}
    most = max(row[key] for _, row in rows for key in keys if key in row)
    height, left, width = 52, 170, 820
    picture = np.full((80 + height * len(rows), width, 3), 255, dtype=np.uint8)
    cv2.putText(picture, 'MPJVE, mm per frame at 30 Hz', (20, 28), _FONT, 0.62, _INK, 1, cv2.LINE_AA)
    for number, (title, colour) in enumerate(keys.values()):
        cv2.rectangle(picture, (left + 220 * number, 42), (left + 220 * number + 14, 56), colour, -1)
        cv2.putText(picture, title, (left + 220 * number + 22, 55), _FONT, 0.5, _INK, 1, cv2.LINE_AA)
    for number, (title, row) in enumerate(rows):
        top = 72 + height * number
        cv2.putText(picture, title, (20, top + 24), _FONT, 0.5, _INK, 1, cv2.LINE_AA)
        for which, (key, (_, colour)) in enumerate(keys.items()):
            if key in row:
                end = left + round((width - left - 80) * row[key] / most)
                cv2.rectangle(picture, (left, top + 20 * which), (end, top + 20 * which + 16), colour, -1)
                cv2.putText(picture, f'{row[key]:.1f}', (end + 8, top + 20 * which + 13), _FONT, 0.45, _INK, 1,
                            cv2.LINE_AA)
    return picture
