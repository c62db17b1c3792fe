"""The tables of docs/geometric.md come from the figures that were kept, and from nowhere else."""

from __future__ import annotations

import importlib.util
import json
from types import ModuleType

import pytest
from test_layers import ROOT


@pytest.fixture(scope='module')
def page() -> ModuleType:
    spec = importlib.util.spec_from_file_location('geometric_page', ROOT / 'benchmarks' / 'geometric_page.py')
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    text = f'before\n{page.BEGIN}old\n{page.END}after\n'
    kept = {'figures': {**errors('confidence_on', 1.0), **errors('confidence_off', 2.0)}, 'parts': {'method': {
        'commit': 'abc', 'date': '2026-01-01', 'machine': 'M', 'command': 'pose3d evaluate --truth /a/b/truth.npz'}}}
    once = page.filled(text, kept)
    assert once == page.filled(once, kept)
    assert once.startswith('before\n') and once.endswith('after\n') and 'old' not in once
    assert '| all alike | 2.0 | 2.0 | 2.0 |' in once and '--truth truth.npz' in once and '/a/b' not in once


def test_the_page_holds_the_figures_that_were_kept(page: ModuleType) -> None:
    kept = json.loads(page.KEPT.read_text()) if page.KEPT.exists() else {}
    assert page.PAGE.read_text() == page.filled(page.PAGE.read_text(), kept), 'run benchmarks/geometric_page.py'
