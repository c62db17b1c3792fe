"""`pose3d evaluate errors`: what a 2D detector gets wrong, and the error model of AbsPoseLifter fitted to it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.cli.engines import BLAZEPOSE, add_engine_options, wanted
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.evaluate_sample import CALIBRATION, REFERENCE_MODEL, STATURE, load_views
from pose3d_ros.cli.figures import add_json_option, print_table, write_json
from pose3d_ros.cli.places import config_file
from pose3d_ros.cli.progress import progress
from pose3d_ros.cli.sample_errors import MEASURED, STAND_INS, Detections, autocorrelation, detector_errors
from pose3d_ros.cli.video import VideoReader
from pose3d_ros.detect import Detector
from pose3d_ros.runtime.engine import Wanted
from pose3d_ros.runtime.store import ModelStore
from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.track import Tracker

if TYPE_CHECKING:
    from pose3d_ros.cli.sample_reference import View
    from pose3d_ros.records import Person2D
    from pose3d_ros.train.error_fit import FittedErrors

FRAME_RATE = 60          # of the sample
LAGS_S = (1 / 60, 1 / 30, 0.1, 0.3, 1.0)
PLOTTED = 'right_wrist'  # as in Figure 5


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `evaluate errors`."""
    parser = subparsers.add_parser(
        'errors', help="a 2D detector's errors on the sample footage, and the mixture fitted to them",
        description='Runs a 2D model on the sample footage, compares each camera (left and right as the tracker leaves '
                    'them) with what the other three see, and fits a Gaussian and uniform mixture per joint '
                    "(AbsPoseLifter, section 4.2). Errors are in units of the person's stature in the image.")
    parser.add_argument('--model', choices=BLAZEPOSE, default='full')
    parser.add_argument('--save', type=Path, metavar='JSON',
                        help='write the mixture, for `pose3d train absolute --errors`; the single Gaussian beside it, '
                             'as NAME_gaussian.json')
    parser.add_argument('--residuals', type=Path, metavar='NPZ',
                        help='write the errors themselves, for `pose3d evaluate paper --residuals`')
    parser.add_argument('--plot', type=Path, metavar='PNG', help=f'draw those of the {PLOTTED} in x (Figure 5)')
    parser.add_argument('--stature', type=float, default=STATURE, metavar='M',
                        help='of the subject (default %(default)s)')
    parser.add_argument('--frames', type=int, default=0, help='of each camera, from the start (default: all)')
    add_engine_options(parser)
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Detect, compare, fit, print."""
    from pose3d_ros.train.error_fit import fit_joints

    errors = measure(args.model, wanted(args), args.frames, args.stature)
    flat = errors.reshape(-1, *errors.shape[2:])
    source = f'BlazePose {args.model} on the sample footage, {len(flat)} frames of one man in 4 views'
    try:
        mixture, gaussian = (fit_joints(flat, f'{source}, {kind}', kind == 'single Gaussian')
                             for kind in ('mixture', 'single Gaussian'))
    except ValueError as error:
        raise UserError(f'{error}: more --frames are needed') from error
    found = show(errors, mixture, gaussian)
    if args.save:
        _write(args.save, mixture.to_json())
        _write(args.save.with_name(f'{args.save.stem}_gaussian.json'), gaussian.to_json())
    if args.residuals:
        args.residuals.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(args.residuals, errors=flat.astype(np.float32), joint_names=np.array(HUMAN17.joints))
    if args.plot:
        draw(args.plot, flat, mixture, gaussian)
    if args.json:
        write_json(args.json, found)
    return 0


def measure(model: str, engines: Wanted, frames: int, stature: float) -> NDArray[np.float64]:
    """Return the errors (4, T, 17, 2) of a 2D model on the sample footage, against the heavy model elsewhere."""
    folder = Path(ModelStore().path('sample'))
    views = load_views(config_file(CALIBRATION))
    videos = [VideoReader(folder / f'{view.name}.mp4') for view in views]
    trusted, reference = detect(REFERENCE_MODEL, engines, views, videos, frames)
    tested = trusted if model == REFERENCE_MODEL else detect(model, engines, views, videos, frames)[0]
    return detector_errors(views, tested, reference, stature)


def detect(model: str, engines: Wanted, views: Sequence[View], videos: Sequence[VideoReader],
           frames: int) -> tuple[Detections, Detections]:
    """Return the people of all videos [view][frame]: as the tracker leaves them (sides guarded), and as detected."""
    detector = Detector.open(model, engines)
    tracked: list[list[list[Person2D]]] = []
    detected: list[list[list[Person2D]]] = []
    with progress(total=sum(min(video.count, frames or video.count) for video in videos), unit='frame',
                  desc=model) as bar:
        for view, video in zip(views, videos):
            detector.reset()
            tracker = Tracker()
            tracked.append([])
            detected.append([])
            for frame in islice(video.frames(view.camera), frames or None):
                detected[-1].append(detector(frame))
                tracked[-1].append(tracker(detected[-1][-1], frame.stamp_ns))
                bar.update()
    detector.close()
    return tracked, detected


def show(errors: NDArray[np.float64], mixture: FittedErrors, gaussian: FittedErrors) -> dict[str, object]:
    """Print what was fitted per joint and return it as figures."""
    flat = errors.reshape(-1, *errors.shape[2:])
    rows = [['joint', 'errors', 'gamma', 'mean x', 'y', 'sigma x', 'y', '(single x', 'y)', 'log likelihood',
             '(single)']]
    found: dict[str, object] = {}
    for position, joint in enumerate(HUMAN17.joints):
        own = flat[:, position][np.isfinite(flat[:, position]).all(axis=1)]
        both, single = mixture.joints[joint], gaussian.joints[joint]
        values = {'errors': len(own), 'share': both.share, 'mean_x': both.mean[0], 'mean_y': both.mean[1],
                  'sigma_x': both.sigma[0], 'sigma_y': both.sigma[1], 'single_sigma_x': single.sigma[0],
                  'single_sigma_y': single.sigma[1], 'log_likelihood': both.log_likelihood(own),
                  'single_log_likelihood': single.log_likelihood(own)}
        found[joint] = values
        rows.append([joint + (' *' if joint in STAND_INS else ''), f'{len(own)}',
                     *(f'{value:.3f}' if name == 'share' or 'log' in name else f'{value:.4f}'
                       for name, value in values.items() if name != 'errors')])
    print_table(rows)
    print("in units of the person's stature in the image; * not given by the detector: means of hips and shoulders, "
          'the middle of the ears for neck and head')
    distance = np.linalg.norm(flat[:, MEASURED], axis=-1)
    correlation = {f'autocorrelation_{lag:.3f}_s': autocorrelation(errors[:, :, MEASURED], round(lag * FRAME_RATE))
                   for lag in LAGS_S if round(lag * FRAME_RATE) < errors.shape[1]}
    print(f'limb joints: {np.nanmean(distance):.4f} off in the mean, {np.nanmedian(distance):.4f} in the median; '
          'autocorrelation '
          + ', '.join(f'{value:.2f} at {name.split("_")[1]} s' for name, value in correlation.items()))
    return {'mean_error': float(np.nanmean(distance)), 'median_error': float(np.nanmedian(distance)), **correlation,
            **found}


def draw(path: Path, errors: NDArray[np.float64], mixture: FittedErrors, gaussian: FittedErrors) -> None:
    """Draw the paper's Figure 5: how often a joint is off by so much in x (either way), and what the models say."""
    from pose3d_ros.cli.chart import chart, write_chart

    own = np.abs(errors[:, HUMAN17.index(PLOTTED), 0])
    half = 0.5 * mixture.joints[PLOTTED].window
    count, edges = np.histogram(own[np.isfinite(own)], bins=30, range=(0, half))
    series = {'detector': (0.5 * (edges[1:] + edges[:-1]), count / np.isfinite(own).sum() / np.diff(edges))}
    x = np.linspace(0, half, 60)
    for name, model in (('single Gaussian', gaussian.joints[PLOTTED]), ('mixture', mixture.joints[PLOTTED])):
        bell = sum(np.exp(-0.5 * ((side - model.mean[0]) / model.sigma[0]) ** 2) for side in (x, -x))
        series[name] = (x, model.share * bell / (model.sigma[0] * np.sqrt(2 * np.pi)) + (1 - model.share) / half)
    write_chart(path, chart(f'Errors of the {PLOTTED} in x', "off by [person's stature in the image]", 'density',
                            series))


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise UserError(f'cannot write {path}: {error.strerror or error}') from error
