"""`pose3d evaluate attributes`: which joints are in front of the torso, by a detector's depth against four cameras."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.attributes import CLASSES, KIND_OF, KINDS, THRESHOLD, Ordinal, labels, probabilities
from pose3d_ros.cli.engines import BLAZEPOSE, add_engine_options, wanted
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.evaluate_errors import detect
from pose3d_ros.cli.evaluate_sample import CALIBRATION, REFERENCE_MODEL, load_views
from pose3d_ros.cli.figures import add_json_option, print_table, write_json
from pose3d_ros.cli.places import config_file
from pose3d_ros.cli.sample_attributes import Agreement, agreement, detected_distances, reliability, true_distances
from pose3d_ros.cli.video import VideoReader
from pose3d_ros.runtime.engine import Wanted
from pose3d_ros.runtime.store import ModelStore

if TYPE_CHECKING:
    from pose3d_ros.train.attribute_errors import AttributeErrors

Floats = NDArray[np.float64]

FITTED_SHARE = 0.6   # of each camera's frames, from the start; measured on the rest
_SCORES = ('brier', 'log_loss')
EXPECTED = 20000     # people drawn to say what the errors amount to in everyday motion


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `evaluate attributes`."""
    parser = subparsers.add_parser(
        'attributes', help="front, back or on-plane: pose attributes by a detector's depth, on the sample footage",
        description='Compares the pose attributes that follow from the relative depth of a 2D model with those of the '
                    'triangulated joints, on the frames that the errors behind the calibration were not fitted to. '
                    'People whose sides the tracker exchanged are left out. The head is the middle of the ears.')
    parser.add_argument('--models', nargs='+', choices=BLAZEPOSE, default=['full', 'heavy'],
                        help='2D models to evaluate (default: full heavy); the first is blazepose in the figures')
    parser.add_argument('--fit', type=Path, metavar='JSON',
                        help="fit the first model's errors on the first 60 %% of the frames, write them, print the "
                             'calibration that follows and measure with it')
    parser.add_argument('--mocap', type=Path, nargs='+', metavar='NPZ',
                        help='with --fit: motion capture that says how people usually move (default: as shipped)')
    parser.add_argument('--frames', type=int, default=0, help='of each camera, from the start (default: all)')
    add_engine_options(parser)
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Detect, compare, print and write the JSON file."""
    if args.mocap and not args.fit:
        raise UserError('--mocap says how people usually move when errors are fitted: give --fit too')
    true, seen, cameras = measure(list(dict.fromkeys(args.models)), wanted(args), args.frames)
    first = next(iter(seen))
    figures = evaluate(true, seen, cameras, fit(args, seen[first], true, first) if args.fit else None)
    if args.json:
        write_json(args.json, figures)
    return 0


def measure(models: list[str], engines: Wanted, frames: int) -> tuple[Floats, dict[str, Floats], list[str]]:
    """Return the true distances (T, 9), those seen (V, T, 9) by each 2D model, and the names of the cameras."""
    folder = Path(ModelStore().path('sample'))
    views = load_views(config_file(CALIBRATION))
    videos = [VideoReader(folder / f'{view.name}.mp4') for view in views]
    people = {model: detect(model, engines, views, videos, frames)
              for model in dict.fromkeys([REFERENCE_MODEL, *models])}
    true = true_distances(views, people[REFERENCE_MODEL][1])
    return true, {model: detected_distances(people[model][0]) for model in models}, [view.name for view in views]


def fit(args: argparse.Namespace, seen: Floats, true: Floats, model: str) -> dict[str, Ordinal]:
    """Fit errors to the first frames of seen (V, T, 9) against true (T, 9), write them, return the calibration."""
    from pose3d_ros.train.attribute_errors import load_attribute_errors
    from pose3d_ros.train.attribute_fit import calibrate, class_shares, usual_distances
    from pose3d_ros.train.mocap import MocapError, load_mocap

    usual = load_attribute_errors().usual
    if args.mocap:
        try:
            mocap = load_mocap(args.mocap, 'train')
        except MocapError as error:
            raise UserError(str(error)) from error
        usual = usual_distances(mocap)
        print(f'in recorded motion, at a threshold of {THRESHOLD} trunk lengths:')
        print_table([['', *CLASSES], *([kind, *(f'{100 * share:.0f} %' for share in row)]
                                       for kind, row in zip(KINDS, class_shares(mocap, THRESHOLD)))])
    first = int(FITTED_SHARE * len(true))
    errors = _fitted(seen[:, :first], np.broadcast_to(true[:first], seen[:, :first].shape), usual,
                     f'BlazePose {model} on the sample footage: one man, 4 views, the first {first} frames of each')
    try:
        args.fit.parent.mkdir(parents=True, exist_ok=True)
        args.fit.write_text(errors.to_json())
    except OSError as error:
        raise UserError(f'cannot write {args.fit}: {error.strerror or error}') from error
    table = calibrate(errors)
    print('CALIBRATION = {')
    for kind, of in table.items():
        print(f"    '{kind}': Ordinal({of.back:.3f}, {of.front:.3f}, {of.slope:.1f}),")
    print('}')
    return table


def _fitted(seen: Floats, true: Floats, usual: Floats, source: str) -> AttributeErrors:
    from pose3d_ros.train.attribute_fit import fit_errors

    try:
        return fit_errors(seen.reshape(-1, seen.shape[-1]), true.reshape(-1, true.shape[-1]), usual, source)
    except ValueError as error:
        raise UserError(f'{error}: more --frames are needed') from error


def evaluate(true: Floats, seen: dict[str, Floats], cameras: list[str],
             table: dict[str, Ordinal] | None = None) -> dict[str, object]:
    """Print and return how well seen distances (V, T, 9) by model agree with the true ones (T, 9).

    table: the calibration, None for the shipped one.
    """
    first = int(FITTED_SHARE * len(true))
    truth = labels(true)
    shares = np.array([[(truth[:, kind == KIND_OF] == of).mean() for of in range(3)] for kind in range(len(KINDS))])
    print(f'reference: {len(true)} frames, {len(cameras)} views of {REFERENCE_MODEL} 2D')
    print_table([['', *CLASSES], *([kind, *(f'{100 * share:.0f} %' for share in row)]
                                   for kind, row in zip(KINDS, shares))])
    found: dict[str, dict[str, dict[str, float]]] = {
        f'attribute_{name}': {} for name in ('accuracy', 'left_out', *_SCORES)}
    rows = [['model', '', *KINDS, 'mean']]
    held: Agreement | None = None
    for position, (model, distances) in enumerate(seen.items()):
        name = 'blazepose' if position == 0 else f'blazepose_{model}'
        said = probabilities(distances, table)[:, first:]
        right = np.broadcast_to(truth[first:], said.shape[:-1])
        held = agreement(said, right)
        out = left_out(distances, true)
        found['attribute_accuracy'][name] = held.figures('accuracy')
        found['attribute_left_out'][name] = out.figures('accuracy')
        for score in _SCORES:
            found[f'attribute_{score}'][name] = held.figures(score)
        rows += [_row(model, 'last frames', held.figures('accuracy')),
                 *(_row(model, f'last frames, {camera}', agreement(said[[view]], right[[view]]).figures('accuracy'))
                   for view, camera in enumerate(cameras)),
                 _row(model, 'camera left out', out.figures('accuracy')),
                 *(_row(model, score.replace('_', ' '), held.figures(score), 1) for score in _SCORES)]
        print(f'{model}: said / came true / how often: '
              + ', '.join(f'{100 * a:.0f} % / {100 * b:.0f} % / {n}' for a, b, n in reliability(said, right)))
    if held is not None:
        found['attribute_majority'] = {'sample': held.figures('majority')}
        rows.append(_row('-', 'always the most frequent', held.figures('majority')))
    expected, usual = everyday(table)
    found['attribute_expected'] = {'blazepose': expected.figures('accuracy')}
    found['attribute_majority']['everyday'] = usual
    rows += [_row('-', 'everyday motion, with these errors', expected.figures('accuracy')),
             _row('-', 'everyday motion, most frequent', usual)]
    print_table(rows)
    print(f'right in % of the labels; last frames: the last {len(true) - first} of each camera, to which the errors '
          'were not fitted;\ncamera left out: fitted to the other three, all frames (the stricter one: the last frames '
          'are the same man, a moment later);\neveryday motion: simulated, recorded people with the errors found on '
          'the sample')
    return {'frames': len(cameras) * (len(true) - first), **found}


def left_out(seen: Floats, true: Floats) -> Agreement:
    """Return the agreement of seen distances (V, T, 9) when each view is calibrated on the others."""
    from pose3d_ros.train.attribute_errors import load_attribute_errors
    from pose3d_ros.train.attribute_fit import calibrate

    usual = load_attribute_errors().usual
    said = np.zeros((*seen.shape, 3))
    for view in range(len(seen)):
        rest = [other for other in range(len(seen)) if other != view]
        errors = _fitted(seen[rest], np.broadcast_to(true, seen[rest].shape), usual, '')
        said[view] = probabilities(seen[view], calibrate(errors))
    return agreement(said, np.broadcast_to(labels(true), seen.shape))


def everyday(table: dict[str, Ordinal] | None) -> tuple[Agreement, dict[str, float]]:
    """Return the agreement that the shipped errors give on people who move as recorded ones do, and the share of each
    kind's most frequent label there."""
    from pose3d_ros.train.attribute_errors import load_attribute_errors

    errors = load_attribute_errors()
    rng = np.random.default_rng(0)
    places = rng.integers(0, errors.usual.shape[1], (EXPECTED, len(KIND_OF)))
    true = errors.usual[KIND_OF, places]
    truth = labels(true)
    most = [max((truth[:, kind == KIND_OF] == of).mean() for of in range(3)) for kind in range(len(KINDS))]
    return (agreement(probabilities(errors.sample(true, rng), table), truth),
            {**{kind: float(value) for kind, value in zip(KINDS, most)}, 'mean': float(np.mean(most))})


def _row(model: str, what: str, values: dict[str, float], scale: int = 100) -> list[str]:
    return [model, what, *(f'{scale * value:.{1 if scale == 100 else 2}f}' for value in values.values())]
