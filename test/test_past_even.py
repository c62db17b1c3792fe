"""The past at even steps: as the body moved, whatever the camera's rate, and repeated where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pose3d_ros.past import GAP_S, EvenPast

S = 1_000_000_000
STEPS = 9
Shown = tuple[NDArray, NDArray, NDArray]


def show(past: EvenPast, value: float, stamp_s: float, ids: tuple[int, ...] = (1,), sure: float = 0.5,
         hidden: tuple[int, ...] = ()) -> Shown:
    """Show frames whose rays are all `value` in x and -value in y; hidden: joints that are not seen."""
    rays = np.full((len(ids), 3, 2), value, np.float32) * np.array([1, -1], np.float32)
    confidence = np.full((len(ids), 3), sure, np.float32)
    rays[:, list(hidden)] = confidence[:, list(hidden)] = 0
    return past(ids, rays, confidence, round(stamp_s * S))


@pytest.mark.parametrize('step_s', [1 / 60, 1 / 30, 0.1])
@pytest.mark.parametrize('rate', [5, 7.5, 12, 15, 24, 25, 30, 50, 60, 90, 120])
def test_a_steady_motion_is_shown_as_it_was_at_any_rate(rate: float, step_s: float) -> None:
    rng, past = np.random.default_rng(0), EvenPast(3, step_s, STEPS)
    stamps = np.arange(0, 2, 1 / rate)
    stamps += rng.uniform(-0.2, 0.2, len(stamps)) / rate                  # cameras are not that even either
    if rate >= 12:
        stamps = stamps[rng.random(len(stamps)) < 0.9]                    # and leave out frames
    for stamp in stamps:
        rays, confidence, age = show(past, 2 * stamp, stamp)
    wanted = step_s * np.arange(STEPS)
    np.testing.assert_allclose(age, wanted[None], rtol=1e-6)
    for way, column in ((1, 0), (-1, 1)):
        np.testing.assert_allclose(rays[0, :, 0, column], way * 2 * (stamps[-1] - wanted), atol=2e-6)
    assert (confidence == 0.5).all() and rays.shape == (1, STEPS, 3, 2)


@pytest.mark.parametrize('rate', [62.5, 125])
def test_the_oldest_step_is_there_though_frames_come_as_close_as_they_are_kept(rate: float) -> None:
    past, wanted = EvenPast(3, 0.08, STEPS), 0.08 * np.arange(STEPS)
    for number in range(int(2 * rate)):
        rays, _, _ = show(past, number / rate, number / rate)
        if number > rate:
            np.testing.assert_allclose(rays[0, :, 0, 0], number / rate - wanted, atol=2e-6)


def test_frames_at_the_steps_themselves_are_shown_as_they_are() -> None:
    past = EvenPast(3, 0.1, 4)
    for number in range(6):
        rays, confidence, _ = show(past, number ** 2, 0.1 * number, sure=0.1 + 0.1 * number)
    np.testing.assert_allclose(rays[0, :, 0, 0], [25, 16, 9, 4], atol=1e-4)
    np.testing.assert_allclose(confidence[0, :, 0], [0.6, 0.5, 0.4, 0.3], atol=1e-6)


def test_between_two_frames_one_is_as_sure_as_of_the_less_sure_one() -> None:
    past = EvenPast(3, 0.05, 3)
    show(past, 0.0, 0.0, sure=0.2)
    rays, confidence, _ = show(past, 1.0, 0.1, sure=0.8)
    np.testing.assert_allclose(rays[0, :, 0, 0], [1, 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(confidence[0, :, 0], [0.8, 0.2, 0.2])


def test_who_is_seen_once_is_repeated_and_so_is_the_oldest_frame() -> None:
    past = EvenPast(3, 1 / 30, STEPS)
    rays, confidence, _ = show(past, 3.0, 123.0)
    assert (rays[..., 0] == 3).all() and (confidence == 0.5).all()
    rays, _, _ = show(past, 4.0, 123.1)
    np.testing.assert_allclose(rays[0, :, 0, 0], [4, 4 - 1 / 3, 4 - 2 / 3, *[3] * 6], atol=1e-5)
    past.reset()
    assert (show(past, 7.0, 123.2)[0][..., 0] == 7).all()


def test_people_keep_their_own_past_and_those_without_an_id_have_none() -> None:
    past = EvenPast(3, 1 / 30, STEPS)
    for number in range(30):
        ids = [(1, 2), (2, 0, 1, 0), (2,), (3, 2, 1)][number % 4]
        values = 100 * np.array(ids, np.float32) + number * (np.array(ids) == 0)
        rays, confidence, _ = past(ids, np.tile(values[:, None, None], (1, 3, 2)), np.ones((len(ids), 3), np.float32),
                                   number * S // 30)
        assert (rays == values[:, None, None, None]).all() and (confidence == 1).all()


def test_people_who_come_at_once_do_not_share_their_first_frame() -> None:
    past = EvenPast(3, 0.1, 2)
    for number in range(2):
        values = np.float32([1, 2, 3, 4]) + 10 * number
        rays, _, _ = past([1, 2, 3, 0], np.tile(values[:, None, None], (1, 3, 2)), np.ones((4, 3), np.float32),
                          number * S // 10)
    np.testing.assert_allclose(rays[:, 1, 0, 0], [1, 2, 3, 14], atol=1e-5)


def test_a_joint_that_one_frame_lacks_is_taken_from_the_nearest_that_has_it() -> None:
    past = EvenPast(3, 0.05, 5)
    show(past, 0.0, 0.0)
    show(past, 1.0, 0.1, hidden=(1,))
    rays, confidence, _ = show(past, 2.0, 0.2)
    np.testing.assert_allclose(rays[0, :, 0, 0], [2, 1.5, 1, 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(rays[0, [0, 1, 3, 4], 1, 0], [2, 2, 0, 0], atol=1e-6)
    _, confidence, _ = show(past, 3.0, 0.3, hidden=(1, 2))
    assert (confidence[0, 0] == [0.5, 0, 0]).all()                       # the newest frame is never made up
    for number in range(4, 30):
        rays, confidence, _ = show(past, 3.0, 0.1 * number, hidden=(2,))
    assert (confidence[0, :, 2] == 0).all() and (rays[0, :, 2] == 0).all()


def test_nothing_is_drawn_across_a_long_gap_nor_taken_from_before_it() -> None:
    past = EvenPast(3, 0.1, STEPS)
    for stamp in (0.0, 0.2, 0.4):
        show(past, 0.0, stamp)
    rays, _, _ = show(past, 10.0, 0.4 + GAP_S + 0.1)
    assert set(rays[0, :, 0, 0].tolist()) == {0.0, 10.0}
    assert rays[0, :, 0, 0].tolist() == sorted(rays[0, :, 0, 0].tolist(), reverse=True)
    rays, _, _ = show(past, 20.0, 4.0)
    assert (rays[..., 0] == 20).all()


def test_who_comes_later_takes_the_room_of_who_is_gone_and_nothing_else() -> None:
    past = EvenPast(3, 1 / 30, STEPS)
    for id_ in range(1, 300):
        rays, _, _ = show(past, id_, 2.0 * id_, ids=(id_,))
        assert (rays[..., 0] == id_).all()
    assert past.people <= 2


def test_a_stamp_that_comes_twice_shows_the_frame_that_came_last() -> None:
    past = EvenPast(3, 1 / 30, STEPS)
    show(past, 1.0, 1.0)
    rays, confidence, _ = show(past, 2.0, 1.0)
    assert (rays[0, 0, :, 0] == 2).all() and np.isfinite(rays).all() and (confidence == 0.5).all()


def test_a_window_of_one_frame_is_that_frame() -> None:
    past = EvenPast(3, 1 / 30, 1)
    for number in range(3):
        rays, _, age = show(past, number, number / 30)
        assert rays.shape == (1, 1, 3, 2) and (rays[..., 0] == number).all() and age.tolist() == [[0.0]]
