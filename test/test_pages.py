"""The tables of docs/geometric.md and posenet3d.md come from the figures that were kept, and from nowhere else."""

from __future__ import annotations

import importlib
import json
from types import ModuleType

import pytest
from test_layers import ROOT


def load(name: str) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / 'benchmarks')
        return importlib.import_module(name)


@pytest.fixture(scope='module')
def page() -> ModuleType:
    return load('geometric_page')


def errors(name: str, value: float) -> dict[str, float]:
    return {f'{name}.{key}': value for key in ('mpjpe_mm', 'pa_mpjpe_mm', 'mrpe_mm')}


def test_tables_show_what_was_kept_and_leave_out_what_was_not(page: ModuleType) -> None:
    figures = {**errors('transform', 70.04), **errors('supervised', 60.0), **errors('robot_transform', 300.0),
               'geometric_ratios.transform_over_supervised': 1.1673}
    shown = page.tables(figures)
    assert '| transform re-projection | 70.0 | 70.0 | 70.0 | 59.0 / 45.7 |' in shown
    assert 'transform over labels: 1.17' in shown
    assert '| transform re-projection | 70.0 | 70.0 | 70.0 | 300.0 | 300.0 | 300.0 |' in shown
    assert 'adversarial' not in shown and 'Extrinsics' not in shown and 'Confidence' not in shown
    assert page.tables({}) == ''


def test_filling_twice_is_filling_once_and_touches_only_what_lies_between_the_marks(page: ModuleType) -> None:
    text = f'before\n{page.BEGIN}old\n{page.page.END}after\n'
    kept = {'figures': {**errors('confidence_on', 1.0), **errors('confidence_off', 2.0)}, 'parts': {'method': {
        'commit': 'abc', 'date': '2026-01-01', 'machine': 'M', 'command': 'pose3d evaluate --truth /a/b/truth.npz'}}}
    once = page.filled(text, kept)
    assert once == page.filled(once, kept)
    assert once.startswith('before\n') and once.endswith('after\n') and 'old' not in once
    assert '| all alike | 2.0 | 2.0 | 2.0 |' in once and '--truth truth.npz' in once and '/a/b' not in once


def test_the_tables_of_posenet3d_show_what_was_kept_beside_the_paper() -> None:
    page = load('posenet3d_page')
    shown = page.tables({'teacher_9.p_mpjpe_mm': 48.04, 'student_convex.p_mpjpe_mm': 60.0,
                         'student_convex.backwards_share': 0.0071, 'short_no_bones.p_mpjpe_mm': 70.0})
    assert '| nine frames | 48.0 |' in shown and '| 50.6 |' in shown
    assert '| taught, joints adapted | 60.0 |  |  | 0.7 % |  | 63.7 |' in shown
    assert '| without equation 4 | 70.0 |' in shown and 'one frame' not in shown
    assert page.tables({}) == ''


@pytest.mark.parametrize('name', ['geometric_page', 'posenet3d_page'])
def test_the_page_holds_the_figures_that_were_kept(name: str) -> None:
    page = load(name)
    kept = json.loads(page.KEPT.read_text()) if page.KEPT.exists() else {}
    assert page.PAGE.read_text() == page.filled(page.PAGE.read_text(), kept), f'run benchmarks/{name}.py'
