"""The short past that the lifter is shown: order, spacing, age, and what is forgotten."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.past import AGES, TOLERANCE, Past

S = 1_000_000_000


def frame(value: float, people: int = 1) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return np.full((people, 3, 2), value, np.float32), np.full((people, 3), 0.5, np.float32)


def test_frames_come_newest_first_with_their_age() -> None:
    past = Past(3, (0.1, 0.2, 0.4))
    for step in range(6):
        rays, confidence, age = past([7], *frame(step), int(0.1 * step * S))
    np.testing.assert_allclose(rays[0, :, 0, 0], [5, 4, 3, 1])
    np.testing.assert_allclose(age[0], [0, 0.1, 0.2, 0.4], atol=1e-6)
    assert (confidence == 0.5).all()


def test_one_frame_is_enough_and_what_there_is_not_has_no_confidence() -> None:
    rays, confidence, age = Past(3)([7], *frame(1.0), 123 * S)
    assert rays.shape == (1, 1 + len(AGES), 3, 2) and (confidence[0, 1:] == 0).all() and (age == 0).all()
    assert (confidence[0, 0] == 0.5).all()


def test_the_frames_have_about_the_age_wanted_at_any_rate() -> None:
    for rate in (3, 5, 15, 30, 60, 120):
        past = Past(3)
        for step in range(3 * rate):
            rays, confidence, age = past([1], *frame(step), step * S // rate)
        there = confidence[0, 1:].max(axis=-1) > 0
        wanted = np.array(AGES)
        assert there[-1] and there.sum() >= (4 if rate > 12 else 2)
        assert (np.abs(age[0, 1:] - wanted) <= TOLERANCE * wanted + 1e-6)[there].all()
        np.testing.assert_allclose(rays[0, 1:, 0, 0][there], step - age[0, 1:][there] * rate, atol=0.01)


def test_people_keep_their_own_past_in_any_order_and_number() -> None:
    past = Past(3, (0.1, 0.2))
    for step in range(12):
        ids = [[1, 2], [2, 1], [2], [3, 2, 1]][step % 4]
        values = np.array(ids, np.float32) * 100 + step
        rays, confidence, _ = past(ids, np.tile(values[:, None, None], (1, 3, 2)), np.ones((len(ids), 3), np.float32),
                                   step * S // 10)
        for row, id_ in enumerate(ids):
            there = confidence[row, :, 0] > 0
            assert set(rays[row, there, 0, 0].astype(int) // 100) == {id_}


def test_what_is_too_old_is_not_shown_and_its_room_is_used_again() -> None:
    past = Past(3, (0.1, 0.2))
    past([1], *frame(1.0), 0)
    _, confidence, age = past([1], *frame(2.0), int(0.35 * S))
    assert (confidence[0, 1:] == 0).all() and (age == 0).all()
    for id_ in range(2, 400):
        _, confidence, _ = past([id_], *frame(id_), id_ * 3 * S)
        assert (confidence[0, 1:] == 0).all()
    assert past.people <= 2


def test_people_without_an_id_and_after_a_reset_have_no_past() -> None:
    past = Past(3, (0.1, 0.2))
    for step in range(5):
        _, confidence, _ = past([0, 0, 4], *frame(step, 3), step * S // 10)
        assert (confidence[:2, 1:] == 0).all()
    assert (confidence[2] > 0).all()
    past.reset()
    assert (past([4], *frame(0.0), S)[1][0, 1:] == 0).all()


def test_a_stamp_that_comes_twice_is_no_past() -> None:
    past = Past(3, (0.1, 0.2))
    past([1], *frame(1.0), S)
    _, confidence, age = past([1], *frame(2.0), S)
    assert (confidence[0, 1:] == 0).all() and (age == 0).all()


def test_people_who_come_in_one_image_all_keep_it() -> None:
    past = Past(2)
    rng = np.random.default_rng(4)
    first, sure = rng.normal(size=(3, 2, 2)).astype(np.float32), np.ones((3, 2), dtype=np.float32)
    past([7, 8, 9], first, sure, 0)
    rays, confidence, age = past([9, 8, 7], first + 1, sure, int(AGES[0] * 1e9))
    np.testing.assert_allclose(rays[:, 1], first[::-1], atol=1e-6)
    assert (confidence[:, 1] == 1).all() and np.allclose(age[:, 1], AGES[0])
