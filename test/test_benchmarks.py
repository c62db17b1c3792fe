"""The arithmetic of the benchmarks and of the page that shows their results."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / 'benchmarks'


def load(name: str) -> ModuleType:
    """Return a script of benchmarks/, which is not a package."""
    spec = importlib.util.spec_from_file_location(f'benchmark_{name}', FOLDER / f'{name}.py')
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_delays_count_after_the_warm_up_and_lost_frames_show() -> None:
    delay = load('delay')
    stamps = 100.0 + np.arange(0, 300) / 30.0
    kept = np.ones(300, dtype=bool)
    kept[200:215] = False
    delays = np.where(stamps - 100.0 > delay.WARM_UP_S, 20.0, 900.0)  # slow while models load
    heard = {'stamps_s': stamps[kept].tolist(), 'delays_ms': delays[kept].tolist(), 'people': [1.0] * int(kept.sum())}
    figures = delay.figures(heard, 30.0)
    assert figures['latency_p50_ms'] == figures['latency_p99_ms'] == 20.0
    settled = int((stamps - 100.0 > delay.WARM_UP_S).sum())
    assert figures['frames_dropped_share'] == pytest.approx(15 / settled)


def test_silence_is_an_error_and_not_a_figure() -> None:
    for heard in ([], [1.0]):
        with pytest.raises(RuntimeError, match='0 messages'):
            load('delay').figures({'stamps_s': heard, 'delays_ms': heard, 'people': heard}, 30.0)


def test_the_page_shows_variants_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = load('results')
    monkeypatch.setattr(results, 'KEPT', tmp_path)
    (tmp_path / 'sample.json').write_text(json.dumps({
        'command': 'pose3d evaluate sample', 'commit': 'abc', 'date': '2026-01-01', 'machine': 'two cores',
        'figures': {'swap_share': 0.0123, 'full': {'mpjpe_mm': 108.4}, 'heavy': {'mpjpe_mm': None}}}))
    page = results.page()
    assert '## sample' in page and '`pose3d evaluate sample`, commit abc' in page
    assert '| figure | all | full | heavy |' in page
    assert '| swap_share | 0.0123 |  |  |' in page
    assert '| mpjpe_mm |  | 108 |  |' in page


def test_the_page_in_the_repository_is_up_to_date() -> None:
    results = load('results')
    if not results.PAGE.exists():
        pytest.skip('no result has been kept yet: benchmarks/results.py keep ...')
    assert results.PAGE.read_text() == results.page()
    assert results.README.read_text() == results.readme()


def test_no_path_of_this_environment_reaches_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PYTHONPATH', '/somewhere')
    assert 'PYTHONPATH' not in load('peer').clean_environment()
