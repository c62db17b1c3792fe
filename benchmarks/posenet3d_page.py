#!/usr/bin/env python3
"""Fill the tables of docs/posenet3d.md from docs/results/posenet3d.json:    python benchmarks/posenet3d_page.py

The figures are those that `python benchmarks/results.py keep --part tables posenet3d pose3d evaluate posenet3d ...`
kept; of short trainings with --part losses --prefix short_; of students without a regulariser with --part regularisers
--prefix reg_. A table whose figures are not there stays out.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import page
from page import Figures, number, table

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / 'docs' / 'results' / 'posenet3d.json'
PAGE = ROOT / 'docs' / 'posenet3d.md'
BEGIN = '<!-- figures: benchmarks/posenet3d_page.py -->\n'

TEACHERS = {'teacher_1': 'one frame', 'teacher_9': 'nine frames', 'finetuned_lifted': 'nine frames, after step 4',
            'average': 'teacher and student together', 'supervised': 'same network, with labels'}
PAPER_SMOOTH = {'teacher_1': '23.4 / 41.6', 'teacher_9': '13.9 / 40.1', 'finetuned_lifted': '13.6 / 38.7',
                'average': '7.8 / 27.0'}
PAPER_P = {'teacher_9': '50.6', 'finetuned_lifted': '46.7', 'average': '47.0', 'supervised': '22.7-37.1'}
STUDENTS = {'student_direct': 're-projection alone', 'student_direct_adapted': 're-projection, joints adapted',
            'student_distilled': 'taught, joints of the model', 'student_linear': 'taught, equation 6',
            'student_convex': 'taught, joints adapted', 'finetuned': 'after step 4',
            'reg_student_no_pose': 'taught, adapted, without equation 8',
            'reg_student_no_shape': 'taught, adapted, without L_beta'}
PAPER_STUDENTS = {'student_direct': '124.8', 'student_direct_adapted': '92.5', 'student_distilled': '70.2',
                  'student_linear': '108.4', 'student_convex': '63.7', 'finetuned': '60.5'}
LOSSES = {'teacher_9': 'all', 'no_consistency': 'without equation 2', 'no_smooth': 'without equation 3',
          'no_bones': 'without equation 4', 'no_adversary': 'without equation 5',
          'published_views': 'random views as published',
          'published_loss': 'logarithms instead of squares in equation 5'}


def tables(figures: Figures) -> str:
    """Return all tables whose figures are there, as Markdown."""
    return '\n'.join(found for found in (
        rows_of('1. Teacher: true 2D', figures, TEACHERS, {
            'P-MPJPE': 'p_mpjpe_mm', 'MPJVE': 'mpjve_gt_mm', 'MBLSTD': 'mblstd_gt_mm', 'causal': 'p_mpjpe_causal_mm',
            'one image copied': 'p_mpjpe_single_mm'}, PAPER_P, 'paper, P-MPJPE'),
        rows_of("2. Teacher: a detector's 2D", figures, TEACHERS, {
            'P-MPJPE': 'p_mpjpe_detected_mm', 'MPJVE': 'mpjve_mm', 'MBLSTD': 'mblstd_mm'}, PAPER_SMOOTH,
            'paper, MPJVE / MBLSTD'),
        rows_of('3. Student', figures, STUDENTS, {
            'P-MPJPE': 'p_mpjpe_mm', "a detector's 2D": 'p_mpjpe_detected_mm', 'joints outside': 'outside_share',
            'backwards': 'backwards_share', 'turned (deg)': 'turned_deg'}, PAPER_STUDENTS, "paper (a detector's 2D)"),
        rows_of('4. Losses of the teacher: short trainings, each with one thing changed', {
            name.removeprefix('short_'): value for name, value in figures.items() if name.startswith('short_')}, LOSSES,
            {'P-MPJPE': 'p_mpjpe_mm', 'MPJVE': 'mpjve_gt_mm', 'MBLSTD': 'mblstd_gt_mm', 'flipped': 'flipped_share'})
        ) if found)


def rows_of(title: str, figures: Figures, names: Mapping[str, str], columns: Mapping[str, str],
            published: Mapping[str, str] | None = None, of_paper: str = '') -> str:
    """Return a table of groups of figures by name, with the paper's beside them; nothing without figures."""
    rows = [[told, *(cell(figures, f'{name}.{key}') for key in columns.values()),
             *([published.get(name, '')] if published else [])]
            for name, told in names.items() if any(f'{name}.{key}' in figures for key in columns.values())]
    return table(title, ['', *columns, *([of_paper] if published else [])], rows)


def cell(figures: Figures, name: str) -> str:
    """Return a figure as text: shares in percent."""
    if name.endswith('_share') and figures.get(name) is not None:
        return f'{100 * figures[name]:.1f} %'
    return number(figures, name)


def filled(text: str, kept: Mapping[str, Any]) -> str:
    """Return the page with what lies between its two marks made anew; kept: posenet3d.json."""
    return page.filled(text, BEGIN, tables(kept.get('figures', {})), kept.get('parts', {}).get('tables'))


if __name__ == '__main__':
    sys.exit(page.fill(PAGE, KEPT, filled))
