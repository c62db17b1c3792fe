"""`pose3d evaluate parts_images`: what domain adaptation gives, per joint, and what joining both networks gives."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.figures import add_json_option, print_table, write_json
from pose3d_ros.cli.train_parts_images import add_image_options, load_sets

KINDS = ('head', 'elbow', 'wrist', 'knee', 'ankle', 'mean')   # those of pose3d_ros/attributes.py and their mean
ALWAYS = 'most_frequent'

Runs = Sequence[Mapping[str, Mapping[str, Mapping[str, float]]]]


def add_parser(subjects: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `evaluate parts_images`."""
    parser = subjects.add_parser(
        'parts_images', help='image network of the parts method: attributes, 2D and 3D joints, on every domain',
        description='Compare the strategies that were trained: accuracy of the pose attributes per joint and of the 2D '
                    'joints, whether the domain can be told from the features, and the 3D error before and after both '
                    'networks were joined. Of several runs (seeds) the mean and the range are given.')
    parser.add_argument('--runs', type=Path, nargs='+', required=True, metavar='DIR', help='--out of pose3d train')
    add_image_options(parser, 'sets of pose3d render for testing: of the first domain, then of the second',
                      several=True)
    parser.add_argument('--threads', type=int, default=0, metavar='N', help='0: as many as there are cores')
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Print the tables; write the figures."""
    from pose3d_ros.attributes import attributes
    from pose3d_ros.train.image_sets import ImageSetError
    from pose3d_ros.train.loop import CheckpointError, limit_threads
    from pose3d_ros.train.multitask_figures import evaluate, most_frequent

    if args.threads:
        limit_threads(args.threads)
    try:
        loaded = load_sets(args, args.runs[0] / 'crops', testing=True)
        sets = {images.domain or f'set_{number}': images for number, images in enumerate(loaded)}
        if len(sets) < len(loaded):
            raise UserError(f'several sets of one domain ({", ".join(sets)}): give one of each')
        runs = [evaluate(folder, sets) for folder in args.runs]
    except (CheckpointError, ImageSetError) as error:
        raise UserError(str(error)) from error
    for folder, found in zip(args.runs, runs):
        if not found:
            raise UserError(f'{folder} holds no strategy: train first (pose3d train parts_images --out {folder} ...)')
    always = {name: most_frequent(attributes(images.joints3d)) for name, images in sets.items()
              if images.joints3d is not None}
    figures = summary(runs, list(sets), always)
    _print(figures, list(sets))
    if args.json:
        write_json(args.json, {**figures, 'images': {name: len(images) for name, images in sets.items()},
                               'runs': len(runs)})
    return 0


def summary(runs: Runs, sets: Sequence[str], always: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Return the figures by what is measured, then strategy and set: means over the runs.

    runs: of every run, figures by strategy and set (train/multitask_figures.py). always: accuracies of the most
    frequent class by set. `attribute_accuracy_spread` is half the range over the runs.
    """
    strategies = list(dict.fromkeys(name for found in runs for name in found))

    def values(strategy: str, name: str, key: str) -> list[float]:
        return [found[strategy][name][key] for found in runs
                if strategy in found and key in found[strategy].get(name, {})]

    def table(keys: Mapping[str, str], spread: bool = False) -> dict[str, dict[str, dict[str, float]]]:
        """Return figures under new names by strategy and set; what nobody measured is left out."""
        rows: dict[str, dict[str, dict[str, float]]] = {}
        for strategy in strategies:
            for name in sets:
                row = {}
                for key, theirs in keys.items():
                    measured = values(strategy, name, theirs)
                    if measured:
                        row[key] = ((max(measured) - min(measured)) / 2 if spread else sum(measured) / len(measured))
                if row:
                    rows.setdefault(strategy, {})[name] = row
        return rows

    found = {'attribute_accuracy': {'rendered': {**table({kind: kind for kind in KINDS}), ALWAYS: dict(always)}},
             'attribute_accuracy_spread': table({'mean': 'mean'}, spread=True),
             'joints_2d': table({'pckh': 'pckh', 'error_px': 'error_px', 'sides': 'sides'}),
             'joints_3d': table({'before_mm': 'mpjpe_mm', 'after_mm': 'joined_mpjpe_mm',
                                 'before_true_attributes_mm': 'mpjpe_true_attributes_mm',
                                 'after_true_attributes_mm': 'joined_mpjpe_true_attributes_mm'}),
             'joined': table({'attributes_mean': 'joined_mean', 'pckh': 'joined_pckh', 'sides': 'joined_sides'})}
    if len(sets) == 2:
        found['domain_classifier'] = {
            strategy: {'accuracy': sum(1 - a + b for a, b in zip(told, others)) / (2 * len(told))}
            for strategy in strategies if strategy != 'source_only'
            for told, others in [[values(strategy, name, 'second') for name in sets]]}
    return found


def _print(figures: Mapping[str, Any], sets: Sequence[str]) -> None:
    """Print every table."""
    for name in sets:
        print(f'\nattributes told right on {name}, %')
        rows = [(strategy, row[name]) for strategy, row in figures['attribute_accuracy']['rendered'].items()
                if name in row]
        print_table([['', *KINDS], *([strategy, *(f'{100 * row.get(kind, float("nan")):.1f}' for kind in KINDS)]
                                     for strategy, row in rows)])
    print('\njoints in the image')
    print_table([['', *(f'{name} {what}' for name in sets for what in ('PCKh, %', 'px', 'sides, %'))],
                 *([strategy, *(cell for name in sets for cell in (
                     f'{100 * row[name]["pckh"]:.1f}', f'{row[name]["error_px"]:.2f}',
                     f'{100 * row[name]["sides"]:.1f}'))]
                   for strategy, row in figures['joints_2d'].items())])
    if figures.get('domain_classifier'):
        print('\nimages of which the classifier tells the domain: ' + ', '.join(
            f'{strategy} {100 * row["accuracy"]:.1f} %' for strategy, row in figures['domain_classifier'].items()))
    if figures['joints_3d']:
        print('\njoints in space, MPJPE in mm: before and after joining; with true attributes')
        keys = ('before_mm', 'after_mm', 'before_true_attributes_mm', 'after_true_attributes_mm')
        print_table([['', 'before', 'after', 'before, true', 'after, true'],
                     *([f'{strategy}, {name}', *(f'{row[key]:.1f}' if key in row else '' for key in keys)]
                       for strategy, by_set in figures['joints_3d'].items() for name, row in by_set.items())])
