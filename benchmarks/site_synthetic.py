#!/usr/bin/env python3
"""How much a lifter gains by adapting to a site, on synthetic sites of which the truth is known.

    python benchmarks/site_synthetic.py --data MOCAP.npz [...] [--sites NAME ...] [--split test] [--json FILE]

Motion capture walks about between four virtual cameras that are not synchronised, seen with the errors of BlazePose
full. The first 60 % of the time is learnt from, without labels; the figures are those of the last 40 %, other clips by
the same people: the distance of the pelvis one camera gives from the true one (MRPE), before and after. Sites: cameras
4 m high that look down, a child, a very tall person, wide lenses near by, and one where everything is as usual.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pose3d_ros.cli.figures import add_json_option, print_table, write_json
from pose3d_ros.cli.progress import progress
from pose3d_ros.train.adapt import AdaptSettings, adapt
from pose3d_ros.train.error_fit import load_errors
from pose3d_ros.train.loop import limit_threads
from pose3d_ros.train.metrics import mpjpe, mrpe
from pose3d_ros.train.mocap import Mocap, load_mocap
from pose3d_ros.train.read_site import read_site
from pose3d_ros.train.synthetic_site import SiteLayout, SyntheticSite

RATE, SECONDS = 10.0, 60.0
SITES = {
    'high': SiteLayout((1.62, 1.78), height_m=4.0, distance_m=4.0, rate=RATE, seconds=SECONDS),
    'child': SiteLayout((1.15,), rate=RATE, seconds=SECONDS),
    'tall': SiteLayout((2.02,), rate=RATE, seconds=SECONDS),
    'wide': SiteLayout((1.62, 1.78), height_m=2.6, distance_m=2.8, focal_px=420.0, area_m=1.2, rate=RATE,
                       seconds=SECONDS),
    'usual': SiteLayout((1.66, 1.76), height_m=1.8, rate=RATE, seconds=SECONDS),
}
UNUSUAL = ('high', 'child', 'tall', 'wide')   # of which the gain is wanted; the last one must not get worse


def measure(name: str, people: Mocap, replay: Mocap | None, settings: AdaptSettings, seed: int,
            out: Path) -> dict[str, object]:
    """Return the figures of one site."""
    started = time.monotonic()
    place = SyntheticSite(people, SITES[name], load_errors('blazepose_full'), np.random.default_rng(seed))
    site = read_site(place.views)
    read_s = time.monotonic() - started
    report = adapt(site, out, settings=settings, mocap=replay, quiet=True)
    truth = place.truth(report.held)
    before, after = ({f'mrpe_{when}_mm': 1e3 * mrpe(joints[:, 0], truth[:, 0]),
                      f'mpjpe_{when}_mm': 1e3 * mpjpe(joints, truth)}
                     for when, joints in (('before', report.before),
                                          ('after', report.after if report.adapted else report.before)))
    figures = report.figures
    told = {**before, **after, 'mrpe_gain': 1 - after['mrpe_after_mm'] / before['mrpe_before_mm'],
            'crossview_gain': figures['crossview_gain'] if report.adapted else 0.0, 'adapted': report.adapted,
            'chosen_step': figures['chosen_step'], 'stature_after_m': figures['stature_after_m'][0],
            'stature_after_sd_m': figures['stature_after_m'][1], 'trust_after': figures['trust_after'],
            'coverage_after': figures['after']['coverage_90'], 'read_s': read_s,
            'adapt_s': time.monotonic() - started - read_s}
    for when in ('before', 'after'):
        told |= {f'replay_{key.replace("_mm", "")}_{when}_mm': value
                 for key, value in figures[f'replay_{when}'].items()}
    return told


def main() -> int:
    """Measure, print, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, nargs='+', required=True, metavar='NPZ', help='motion capture')
    parser.add_argument('--split', default='test', help='of the people who act (default: test)')
    parser.add_argument('--sites', nargs='+', choices=list(SITES), default=list(SITES), help='default: all')
    parser.add_argument('--without-replay', action='store_true', help='adapt as if there were no motion capture')
    parser.add_argument('--steps', type=int, default=AdaptSettings.steps, help=f'default: {AdaptSettings.steps}')
    parser.add_argument('--seed', type=int, default=0, help='of the sites (default: 0)')
    add_json_option(parser)
    args = parser.parse_args()
    print(f'load before: {os.getloadavg()[0]:.1f}', flush=True)
    limit_threads(1)
    people = load_mocap(args.data, args.split)
    replay = None if args.without_replay else load_mocap(args.data, 'train')
    figures: dict[str, object] = {}
    rows = []
    for name in progress(args.sites, unit='site'):
        with tempfile.TemporaryDirectory() as folder:
            found = measure(name, people, replay, AdaptSettings(steps=args.steps), args.seed, Path(folder))
        figures[name] = found
        shown = {key: value for key, value in found.items() if not key.startswith('replay')}
        rows = rows or [['site', *shown]]
        rows.append([name, *(f'{value:.3g}' for value in shown.values())])
    print_table(rows)
    gains = [figures[name]['mrpe_gain'] for name in UNUSUAL if name in figures]  # type: ignore[index]
    if gains:
        figures['site_synthetic'] = {'mrpe_gain': float(np.mean(gains))}
        print(f'MRPE lower by {np.mean(gains):.1%} on {len(gains)} unusual sites')
    if args.json:
        write_json(args.json, figures)
    return 0


if __name__ == '__main__':
    sys.exit(main())
