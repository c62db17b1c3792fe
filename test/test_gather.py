"""Sets of views in simulated time: cameras with rates, latencies, wrong stamps and deaths; nothing sleeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from pose3d_ros.fuse.gather import Gatherer, GatherSettings
from pose3d_ros.fuse.views import View

SETTINGS = GatherSettings(max_wait_s=0.05, max_age_s=0.25, camera_timeout_s=1.0)
CLOCK_S = 1_700_000_000.0  # what the clock of stamps says at time 0


@dataclass
class Source:
    """A camera: rate [Hz]; latency [s] from stamp to arrival, by uniform chance; phase [s] of the first image;

    off(t): how far the stamp is from the truth [s] at time t; alive(t): whether it reports; dropped: share of messages.
    """

    rate: float = 30.0
    latency: tuple[float, float] = (0.02, 0.03)
    phase: float = 0.0
    off: Callable[[float], float] = lambda t: 0.0
    alive: Callable[[float], bool] = lambda t: True
    dropped: float = 0.0


@dataclass
class Taken:
    """A set: when it was taken, when its first view came, its stamp, and its views."""

    at: float
    first: float
    stamp_ns: int
    views: list[View]


@dataclass
class Run:
    """What came of a simulation."""

    gatherer: Gatherer
    came: dict[str, dict[int, float]] = field(default_factory=dict)  # camera -> stamp -> arrival
    sets: list[Taken] = field(default_factory=list)
    end: float = 0.0

    def after(self, start: float, end: float = 1e9) -> list[Taken]:
        return [taken for taken in self.sets if start <= taken.at < end]

    def of(self, camera: str, start: float = 0.0) -> list[View]:
        return [view for taken in self.after(start) for view in taken.views if view.camera == camera]

    def timing(self, camera: str):
        return self.gatherer.timing(self.end)[camera]


def view(camera: str, stamp_s: float) -> View:
    return View(camera, np.eye(4), round(stamp_s * 1e9), [], 900.0, 1280, 720)


def simulate(sources: dict[str, Source], seconds: float = 6.0, settings: GatherSettings = SETTINGS,
             seed: int = 0) -> Run:
    """Deliver the views of cameras at their times and take every set when it is due."""
    rng, arrivals = np.random.default_rng(seed), []
    for name, source in sources.items():
        times = np.arange(source.phase, seconds, 1 / source.rate)
        at = np.maximum.accumulate(times + rng.uniform(*source.latency, len(times)))  # DDS keeps the order
        lost = rng.random(len(times)) < source.dropped
        arrivals += [(a, name, CLOCK_S + t + source.off(t)) for t, a, gone in zip(times, at, lost)
                     if source.alive(t) and not gone]
    run = Run(Gatherer(settings))

    def take(now: float) -> None:
        while (found := run.gatherer.take(now)) is not None:
            views, stamp_ns = found
            first = min((run.came[v.camera][v.stamp_ns] for v in views if fresh(v)), default=now)
            run.sets.append(Taken(now, first, stamp_ns, views))

    def fresh(one: View) -> bool:
        return not run.sets or one.stamp_ns > run.sets[-1].stamp_ns

    for now, name, stamp in sorted(arrivals):
        while (due := run.gatherer.due(run.end)) is not None and run.end + due <= now:
            run.end += due
            take(run.end)
        run.end = now
        one = view(name, stamp)
        run.came.setdefault(name, {})[one.stamp_ns] = now
        run.gatherer.put(one, now, CLOCK_S + now)
        take(now)
    return run


def stamps(run: Run, start: float = 0.0) -> np.ndarray:
    return np.array([taken.stamp_ns for taken in run.after(start)])


def check_always(run: Run) -> None:
    """Assert what holds whatever the cameras do."""
    used = [(v.camera, v.stamp_ns) for taken in run.sets for v in taken.views]
    assert len(used) == len(set(used))
    for taken in run.sets:
        assert taken.stamp_ns == max(v.stamp_ns for v in taken.views)
        assert min(v.stamp_ns for v in taken.views) >= taken.stamp_ns - 1e9 * SETTINGS.max_age_s
        assert len({v.camera for v in taken.views}) == len(taken.views)
        assert taken.at - taken.first <= SETTINGS.max_wait_s + 1e-6


MIXED = {'fast': Source(30, (0.01, 0.05)), 'middle': Source(25, (0.0, 0.04), 0.007), 'slow': Source(10, (0.03, 0.08))}


@pytest.mark.parametrize('seed', range(3))
def test_sets_come_at_the_rate_of_the_fastest_camera_and_use_every_view_once(seed):
    run = simulate(MIXED, 20.0, seed=seed)
    check_always(run)
    assert (np.diff(stamps(run)) > 0).all()
    assert len(run.sets) == pytest.approx(600, rel=0.1)
    for name, source in MIXED.items():
        assert len(run.of(name)) > 0.9 * 20 * source.rate
        assert run.timing(name).rate_hz == pytest.approx(source.rate, rel=0.1)
        assert run.timing(name).state in ('ok', 'late')
        assert run.timing(name).counts['used'] == len(run.of(name))


def test_cameras_in_step_are_waited_for_and_no_longer():
    run = simulate({name: Source(latency=(0.008 * n, 0.008 * n + 0.005)) for n, name in enumerate('abcd')})
    check_always(run)
    assert all(len(taken.views) == 4 for taken in run.after(0.2))
    assert all({one.stamp_ns for one in taken.views} == {taken.stamp_ns} for taken in run.after(0.2))
    assert all(taken.at - taken.first < 0.045 for taken in run.after(0.2))


def test_cameras_that_are_to_come_are_waited_for_at_first_and_not_for_ever():
    gatherer = Gatherer(SETTINGS, ['a', 'b', 'dead'])
    gatherer.put(view('a', CLOCK_S), 0.0, CLOCK_S)
    assert gatherer.due(0.01) == pytest.approx(0.04)
    gatherer.put(view('b', CLOCK_S), 0.02, CLOCK_S + 0.02)
    assert gatherer.take(0.03) is None
    views, _ = gatherer.take(0.05)
    assert [one.camera for one in views] == ['a', 'b']
    gatherer.put(view('a', CLOCK_S + 2.0), 2.0, CLOCK_S + 2.0)
    assert gatherer.due(2.0) == 0.0


def test_a_dead_camera_costs_the_deadline_only_until_it_counts_as_dead():
    sources = {name: Source(rate=10) for name in 'ab'} | {'dead': Source(rate=10, alive=lambda t: t < 2)}
    run = simulate(sources)
    check_always(run)
    waits = np.array([(taken.at, taken.at - taken.first) for taken in run.after(0.5)])
    dying, after = waits[(waits[:, 0] > 2.05) & (waits[:, 0] < 2.9)], waits[waits[:, 0] > 3.1]
    assert (dying[:, 1] > 0.04).all() and (after[:, 1] < 0.02).all()
    assert len(run.after(0.5)) == pytest.approx(55, abs=1)
    assert run.timing('dead').state == 'silent' and run.timing('dead').age_s == pytest.approx(4, abs=0.2)
    assert run.timing('a').state == 'ok'


def test_a_camera_that_comes_back_is_used_again():
    gone = Source(alive=lambda t: not 2 < t < 4, phase=0.01)
    run = simulate({'a': Source(), 'b': Source(phase=0.005), 'gone': gone})
    check_always(run)
    assert run.timing('gone').state == 'ok' and len(run.of('gone', 4.2)) > 50


@pytest.mark.parametrize('wrong, state', [
    (Source(latency=(0.32, 0.33)), 'lagging'),
    (Source(off=lambda t: 1.0), 'ahead'),
    (Source(off=lambda t: -1.0), 'lagging'),
    (Source(off=lambda t: -1e6), 'lagging'),
])
@pytest.mark.parametrize('others', [('a',), ('a', 'b'), ('a', 'b', 'c')])
def test_a_camera_wrong_about_the_time_is_named_and_changes_nothing_for_the_others(wrong, state, others):
    good = {name: Source(latency=(0.02, 0.025), phase=0.002 * n) for n, name in enumerate(others)}
    alone, run = simulate(good), simulate({**good, 'wrong': wrong})
    check_always(run)
    assert run.timing('wrong').state == state
    assert all(run.timing(name).state == 'ok' for name in others)
    assert run.of('wrong', 0.4) == []
    assert run.timing('wrong').counts[state] > 100
    both = np.intersect1d(stamps(alone, 0.4), stamps(run, 0.4))
    assert len(both) == len(stamps(alone, 0.4)) == len(stamps(run, 0.4))


def test_a_camera_that_begins_to_lag_is_left_out_then_and_used_again_later():
    lags = Source(off=lambda t: -0.41 if 2 < t < 4 else 0.0)
    run = simulate({'a': Source(), 'b': Source(phase=0.004), 'lags': lags})
    check_always(run)
    used = np.array([run.came['lags'][v.stamp_ns] for v in run.of('lags')])
    assert not ((used > 2.05) & (used < 4)).any() and (used > 4.5).sum() > 40
    assert (np.diff(stamps(run)) > 0).all()


def test_a_late_camera_joins_later_sets_within_the_age_limit():
    run = simulate({'a': Source(), 'b': Source(), 'late': Source(latency=(0.15, 0.16))})
    check_always(run)
    assert run.timing('late').state == 'late' and len(run.of('late', 1.0)) > 140
    assert run.timing('late').lag_s == pytest.approx(0.13, abs=0.02)
    assert len(run.after(1.0)) == pytest.approx(150, abs=3)


@pytest.mark.parametrize('names', ['a', 'ab', 'abc', 'abcd'])
def test_when_the_time_of_all_goes_back_sets_begin_anew_once(names):
    """As when a bag starts again, camera by camera, and the clock goes on."""
    sources = {name: Source(phase=0.006 * n, off=lambda t: -1000.0 if t < 3 else -1003.005)
               for n, name in enumerate(names)}
    run = simulate(sources)
    check_always(run)
    assert (np.diff(stamps(run)) < 0).sum() == 1
    assert len(run.sets) > 170
    assert {v.camera for taken in run.after(3.2) for v in taken.views} == set(names)


def test_a_jump_ahead_of_all_is_followed_without_a_reset():
    sources = {name: Source(phase=0.006 * n, off=lambda t: 0.0 if t < 3 else 60.0) for n, name in enumerate('abc')}
    run = simulate(sources)
    assert (np.diff(stamps(run)) > 0).all() and len(run.sets) > 170


def test_one_camera_alone_gives_a_set_per_view_at_once():
    run = simulate({'only': Source()})
    check_always(run)
    assert len(run.sets) == 180 and all(taken.at == taken.first for taken in run.sets)


def test_two_cameras_of_which_one_drops_messages():
    run = simulate({'a': Source(), 'drops': Source(phase=0.003, dropped=0.3)}, 20.0)
    check_always(run)
    assert len(run.sets) == pytest.approx(600, rel=0.1)
    assert run.timing('drops').state == 'ok' and run.timing('drops').rate_hz == pytest.approx(21, abs=5)


def test_views_that_are_not_newer_are_counted_and_left_out():
    gatherer = Gatherer(SETTINGS)
    for stamp in (1.0, 1.1, 1.1, 1.05):
        gatherer.put(view('a', stamp), stamp)
        gatherer.take(stamp)
    assert gatherer.timing(1.2)['a'].counts == {'used': 2, 'out_of_order': 2}


def test_nothing_queues_up_when_nobody_takes():
    gatherer = Gatherer(SETTINGS)
    for n in range(100):
        gatherer.put(view('a', 10 + n / 30), 10 + n / 30)
        gatherer.put(view('b', 10.01 + n / 30), 10.01 + n / 30)
    taken = gatherer.take(13.32)
    while (more := gatherer.take(13.32)) is not None:
        taken = more
    views, stamp_ns = taken
    assert [v.camera for v in views] == ['a', 'b'] and stamp_ns == round((10.01 + 99 / 30) * 1e9)
    counts = gatherer.timing(13.32)['a'].counts
    assert counts['overwritten'] >= 97 and counts['used'] + counts['overwritten'] == 100


def test_reset_forgets_views_and_time():
    gatherer = Gatherer(SETTINGS)
    gatherer.put(view('a', 100.0), 100.0)
    gatherer.reset()
    assert gatherer.due(100.0) is None and gatherer.take(101.0) is None and gatherer.timing(101.0) == {}
    gatherer.put(view('a', 5.0), 5.0)
    assert gatherer.take(5.0)[1] == 5_000_000_000


def test_a_time_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match='positive'):
        GatherSettings(max_age_s=0.0)
