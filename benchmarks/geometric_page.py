#!/usr/bin/env python3
"""Fill the tables of docs/geometric.md from docs/results/geometric.json:    python benchmarks/geometric_page.py

The figures are those that `python benchmarks/results.py keep --part method geometric pose3d evaluate geometric ...`
kept; a table whose figures are not there stays out.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import page
from page import Figures, number, table

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / 'docs' / 'results' / 'geometric.json'
PAGE = ROOT / 'docs' / 'geometric.md'
BEGIN = '<!-- figures: benchmarks/geometric_page.py -->\n'

ROWS = {'reprojection_only': 're-projection only', 'adversarial': '+ adversarial prior',
        'transform': 'transform re-projection', 'augmented': '+ virtual views',
        'pelvis': "transform, the paper's position branch", 'supervised': 'same network, with labels'}
PUBLISHED = {'reprojection_only': '468.5 / 163.7', 'adversarial': '106.6 / 78.4', 'transform': '59.0 / 45.7',
             'augmented': '57.0 / 44.1'}
ERRORS = ('mpjpe_mm', 'pa_mpjpe_mm', 'mrpe_mm')


def tables(figures: Figures) -> str:
    """Return all tables whose figures are there, as Markdown."""
    found = [method(figures), pretraining(figures), confidence(figures), extrinsics(figures), robots(figures)]
    return '\n'.join(table for table in found if table)


def method(figures: Figures) -> str:
    """Return Table 1."""
    rows = [[title, *errors(figures, name), PUBLISHED.get(name, '')] for name, title in ROWS.items()
            if f'{name}.mpjpe_mm' in figures]
    ratios = [f'{title}: {figures[f"geometric_ratios.{name}"]:.2f}' for name, title in (
        ('reprojection_over_transform', 're-projection only over transform'),
        ('transform_over_supervised', 'transform over labels')) if f'geometric_ratios.{name}' in figures]
    note = f'\nRatios of MPJPE. {"; ".join(ratios)}.\n' if ratios else ''
    return table('1. Variants', ['trained with', 'MPJPE', 'PA-MPJPE', 'MRPE', 'paper (Human3.6M)'], rows, note)


def pretraining(figures: Figures) -> str:
    """Return how trainings with and without pre-training ended."""
    rows = [[title, *(number(figures, f'pretraining.{key}_{name}_mm') for key in ('mpjpe_last', 'mpjpe_worst'))]
            for name, title in (('with', 'with equation 6 first'), ('without', 'without'))
            if f'pretraining.mpjpe_last_{name}_mm' in figures]
    picture = '\n![curves](results/geometric/pretraining.png)\n' if (
        KEPT.with_suffix('') / 'pretraining.png').exists() else ''
    return table('2. Pre-training (validation)', ['', 'MPJPE at the end', 'worst on the way'], rows, picture)


def confidence(figures: Figures) -> str:
    """Return Table 3."""
    rows = [[title, *errors(figures, name)] for name, title in (('confidence_on', 'weighted by confidence'),
                                                                ('confidence_off', 'all alike'))
            if f'{name}.mpjpe_mm' in figures]
    return table('3. Confidence weights under self-occlusion', ['losses', 'MPJPE', 'PA-MPJPE', 'MRPE'], rows)


def extrinsics(figures: Figures) -> str:
    """Return Table 4."""
    rows = [[title, *(number(figures, f'extrinsics.{key}_deg', 2) if name == 'estimated' else ''
                      for key in ('rotation_mean', 'rotation_max', 'direction_mean', 'direction_max')),
             *errors(figures, name)] for name, title in (('transform', 'given'), ('estimated', 'from 2D joints'))
            if f'{name}.mpjpe_mm' in figures and 'estimated.mpjpe_mm' in figures]
    return table('4. Extrinsics', ['cameras', 'rotation, mean (deg)', 'worst', 'direction, mean (deg)', 'worst',
                                   'MPJPE', 'PA-MPJPE', 'MRPE'], rows)


def robots(figures: Figures) -> str:
    """Return Table 5."""
    rows = [[ROWS[name], *errors(figures, name), *errors(figures, f'robot_{name}')] for name in ROWS
            if f'robot_{name}.mpjpe_mm' in figures]
    return table('5. Other cameras: trained in the laboratory, seen by robots', [
        'trained with', *(f'{measure}, {place}' for place in ('laboratory', 'robots')
                          for measure in ('MPJPE', 'PA-MPJPE', 'MRPE'))], rows)


def errors(figures: Figures, name: str) -> list[str]:
    """Return MPJPE, PA-MPJPE and MRPE [mm] of a group."""
    return [number(figures, f'{name}.{error}') for error in ERRORS]


def filled(text: str, kept: Mapping[str, Any]) -> str:
    """Return the page with what lies between its two marks made anew; kept: geometric.json."""
    return page.filled(text, BEGIN, tables(kept.get('figures', {})), kept.get('parts', {}).get('method'))


if __name__ == '__main__':
    sys.exit(page.fill(PAGE, KEPT, filled))
