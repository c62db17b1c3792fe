"""The report of `pose3d adapt`: one HTML file with everything in it, and the same in short on the terminal."""

from __future__ import annotations

import base64
import csv
import html
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pose3d_ros.cli.adapt_pictures import over_distance, overlays, titles
from pose3d_ros.cli.chart import chart
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.figures import print_table
from pose3d_ros.cli.site_views import Footage

if TYPE_CHECKING:
    from pose3d_ros.train.adapt import Report

MEASURES = (  # name of the figure, what it says, number of digits, factor
    ('crossview_px', 'cross-view error, px: one camera\'s people in the images of the others', 1, 1.0),
    ('crossview_median_px', 'the same, median over all joints', 1, 1.0),
    ('crossview_mean_px', 'the same, mean over all joints', 1, 1.0),
    ('reference_mrpe_mm', 'place of the mid-hip against triangulation by all cameras, mm', 0, 1.0),
    ('reference_mpjpe_mm', 'joints against triangulation, mid-hips aligned, mm', 0, 1.0),
    ('coverage_90', 'share of detected joints inside the 90 % ellipses, %', 0, 100.0))
LOG = 'log.csv'
WORSE = 1.05    # times the error before, from which a camera is called worse
SHORT_S = 20.0  # s, of a held-out part, below which the report warns
_STYLE = '''body{font:16px/1.5 system-ui,sans-serif;max-width:1280px;margin:2em auto;padding:0 1em;color:#222}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}.verdict{font-size:1.2em;padding:.8em 1em;border-radius:6px}
.better{background:#e3f3e6;border-left:6px solid #2a8a3e}.kept{background:#fdf1dc;border-left:6px solid #c77800}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.3em .9em;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}img{max-width:100%;height:auto;display:block}
figure{margin:1.2em 0}figcaption{color:#444}.note{color:#555}code{background:#f3f3f3;padding:.1em .3em}'''


def verdict(report: Report) -> str:
    """Return in one sentence what came of it."""
    if not report.adapted:
        return ('Kept the old weights. What was tried instead is not surely better, and was thrown away: '
                f'{report.reason.rstrip(".")}.')
    figures: Mapping[str, Any] = report.figures
    before, after = (figures[when]['crossview_px'] for when in ('before', 'after'))
    gain = 100 * figures['crossview_gain']
    return (f'Better by {gain:.0f} %: on the part of the recording that was held out, one '
            f'camera\'s people lie {after:.1f} px from where the other cameras saw them, before it was '
            f'{before:.1f} px.')


def show(report: Report) -> None:
    """Print the table of figures."""
    print_table([['held-out part', *titles(report)], *_measures(report)])


def write_report(path: Path, report: Report, footage: Footage, command: str) -> None:
    """Write the report, at once or not at all. Raises UserError where it cannot be written."""
    partial = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(report_text(report, footage, command, path.parent / LOG), encoding='utf-8')
        partial.replace(path)
    except OSError as error:
        raise UserError(f'cannot write {path}: {error.strerror or error}') from error


def report_text(report: Report, footage: Footage, command: str, log: Path) -> str:
    """Return the HTML; log: log.csv of the training."""
    from pose3d_ros.train.adapt_geometry import pixels_off

    pixels = [pixels_off(joints, report.held) for joints in (report.before, report.after)]
    figures: Mapping[str, Any] = report.figures
    held = report.held
    parts = [f'<p class="verdict {"better" if report.adapted else "kept"}">{html.escape(verdict(report))}</p>']
    if not report.adapted:
        parts.append('<p>Nothing has to be changed: the nodes go on with the lifter they have. No file was written; '
                     'the columns and pictures called "tried" are of what was not kept.</p>')
    else:
        parts.append('<p>The adapted lifter is <code>lifter.onnx</code> beside this file; <code>lifter.md</code> says '
                     'how to use it, and what it was made from.</p>')
    parts += ['<h2>What was measured</h2>', _about(report, footage),
              _table(['on the held-out part', *titles(report)], _measures(report))]
    if held.seconds < SHORT_S:
        parts.append(f'<p class="note">The part that was held out is short ({held.seconds:.1f} s). It cannot show how '
                     'things are in other postures and places; record some minutes.</p>')
    pictures = overlays(report, footage)
    if pictures:
        parts += ['<h2>What one camera says, seen by another</h2>', '<p class="note">Coloured: the 3D people of one '
                  'camera alone, drawn into the image of another (blue: left, orange: right). White: where that camera '
                  'detected the joints itself; red: what lies between. Moments are spread evenly over the held-out '
                  'part, not chosen by how they came out.</p>']
        parts += [_figure(image, caption, '.jpg') for caption, image in pictures]
    parts += _cameras(report)
    for picture in (over_distance(report, pixels[0], pixels[1]), _training_curve(log)):
        if picture is not None:
            parts.append(_figure(picture, '', '.png'))
    parts += _people(figures)
    parts += ['<h2>How it was made</h2>', f'<p><code>{html.escape(command)}</code></p>',
              f'<p class="note">{_now()}</p>']
    title = 'Adapting the lifter to your cameras'
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f'<style>{_STYLE}</style></head>\n<body><h1>{title}</h1>\n' + '\n'.join(parts) + '\n</body></html>\n')


def _about(report: Report, footage: Footage) -> str:
    held = report.held
    cameras = ', '.join(html.escape(name) for name in held.cameras)
    images = sum(len(views) for views in footage.views.values())
    sizes = ', '.join(sorted({f'{lens.width}x{lens.height}' for lens in footage.lenses.values()}))
    first, second = (html.escape(title) for title in titles(report))
    return (f'<p>{images} images of {len(held.cameras)} cameras ({cameras}); held out: the last '
            f'{held.seconds:.1f} s with {len(held)} sightings, of which nothing was learnt. "{first}" and "{second}" '
            'are the same images and the same 2D joints; nobody labelled anything. Smaller is better, but for the last '
            f'line, which should be near 90. Pixels are those of the images as recorded ({sizes}).</p>')


def _measures(report: Report) -> list[list[str]]:
    figures: Mapping[str, Any] = report.figures
    before, after = figures['before'], figures['after']
    return [[text, _number(before[name] * factor, digits), _number(after[name] * factor, digits)]
            for name, text, digits, factor in MEASURES if name in before and name in after]


def _cameras(report: Report) -> list[str]:
    """Return the errors of each camera's people, and which of them came out worse."""
    held, of_cameras = report.held, report.figures['cameras']
    assert isinstance(of_cameras, dict)
    titled = [f'{title}, px' for title in titles(report)]
    parts = ['<h2>By camera</h2>', _table(['camera that gave the 3D people', *titled, 'sightings'], [
        [name, _number(each['before_px']), _number(each['after_px']),
         str(np.count_nonzero(held.camera == held.cameras.index(name)))] for name, each in of_cameras.items()])]
    worse = [name for name, each in of_cameras.items() if each['after_px'] > WORSE * each['before_px']]
    if report.adapted and worse:
        parts.append(f'<p class="note">Worse than before: {html.escape(", ".join(worse))}. All cameras together are '
                     'better; a robot that has these alone may be better off with the old lifter.</p>')
    return parts


def _people(figures: Mapping[str, Any]) -> list[str]:
    """Return what was found about the sizes of people."""
    people = figures.get('people') or []
    if not people:
        return []
    parts = ['<h2>Who was there</h2>', _table(['person', 'stature, m', '+-', 'sightings'], [
        [str(each['person']), _number(each['stature_m'], 2), _number(each['sigma_m'], 2), str(each['samples'])]
        for each in people[:20]])]
    if 'stature_before_m' in figures and 'stature_after_m' in figures:
        texts = [f'{mean:.2f} +- {deviation:.2f} m' for mean, deviation in (figures['stature_before_m'],
                                                                             figures['stature_after_m'])]
        parts.append(f'<p>People nobody measured are taken to be {texts[1]} tall here (before: {texts[0]}).</p>')
    return parts


def _training_curve(log: Path) -> NDArray[np.uint8] | None:
    """Return a chart of what the steps of the training gave on a part of the recording that chooses among them."""
    try:
        with log.open(newline='') as file:
            rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
        steps = np.array([row['step'] for row in rows])
        series = {text: (steps, np.array([row[name] for row in rows])) for name, text in (
            ('across', 'of this step'), ('best', 'of the best step so far'), ('across_before', 'before the training'))}
    except (OSError, KeyError, TypeError, ValueError):
        return None  # of another version, or stopped before its first measurement
    if not len(steps):
        return None
    return chart('Training', 'step', 'cross-view loss on a part that is neither learnt from nor held out', series)


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return '<tr>' + ''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells) + '</tr>'

    return '<table>' + line(heading, 'th') + ''.join(line(row, 'td') for row in rows) + '</table>'


def _figure(image: NDArray[np.uint8], caption: str, kind: str) -> str:
    options = [cv2.IMWRITE_JPEG_QUALITY, 88] if kind == '.jpg' else []
    data = base64.b64encode(cv2.imencode(kind, image, options)[1].tobytes()).decode()
    mime = {'.jpg': 'image/jpeg', '.png': 'image/png'}[kind]
    return (f'<figure><img src="data:{mime};base64,{data}" alt="{html.escape(caption)}">'
            f'<figcaption>{html.escape(caption)}</figcaption></figure>')


def _number(value: float, digits: int = 1) -> str:
    return f'{value:.{digits}f}' if value is not None and np.isfinite(value) else '-'


def _now() -> str:
    return datetime.now(timezone.utc).strftime('%Y-%m-%d %H:%M UTC')
