"""Which regions are the same person, and how sure each joint is."""

from __future__ import annotations

import numpy as np
from drawn_people import Drawn

from pose3d_ros.detect import blazepose, people
from pose3d_ros.detect.blazepose import Poses
from pose3d_ros.skeleton import BLAZEPOSE33, LIMBS12


def poses_of(drawn: list[Drawn], person: float = 0.9) -> Poses:
    pixels = np.zeros((len(drawn), 39, 2))
    for row, one in zip(pixels, drawn):
        row[:33] = one.joints
        row[33], row[34] = one.place(np.zeros(2)), one.place(np.array([0.0, -1.0]))
    scale = np.array([one.radius * 2.3 / 256 for one in drawn])
    ones = np.ones(pixels.shape[:2])
    return Poses(crop=pixels, pixels=pixels, depth=0.0 * ones, visibility=ones, presence=ones, peak=0.9 * ones,
                 spread=3.5 * scale[:, None] * ones, shift=0.0 * ones, person=np.full(len(drawn), person), scale=scale)


def test_similarity_tells_the_same_person_from_another_and_does_not_mind_the_sides():
    poses = poses_of([Drawn(300, 300), Drawn(306, 303, 153), Drawn(420, 300)])
    turned = poses.pixels.copy()
    turned[1, :33] = turned[1, BLAZEPOSE33.mirror]
    for pixels in (poses.pixels, turned):
        alike = people.similarity(Poses(**{**vars(poses), 'pixels': pixels}))
        np.testing.assert_allclose(np.diag(alike), 1.0)
        np.testing.assert_allclose(alike, alike.T)
        assert alike[0, 1] > 0.9 and alike[0, 2] < 0.3


def test_of_duplicates_the_known_or_much_better_one_stays():
    poses = poses_of([Drawn(300, 300), Drawn(304, 300), Drawn(700, 300)])
    known = np.array([False, True, False])
    assert people.without_duplicates(poses, known, 0.5, 1280, 720).tolist() == [1, 2]
    better = Poses(**{**vars(poses), 'person': np.array([1.0, 0.3, 1.0])})
    assert people.without_duplicates(better, known, 0.5, 1280, 720).tolist() == [0, 2]


def test_a_crooked_body_on_the_legs_of_another_is_no_newcomer():
    poses = poses_of([Drawn(400, 300), Drawn(420, 415, 40, 0.2)])
    limbs = BLAZEPOSE33.indices(LIMBS12.joints)
    poses.pixels[1, limbs] = poses.pixels[0, BLAZEPOSE33.index('left_knee')] + np.arange(12)[:, None]
    share = people.claimed(poses, poses)
    assert share[1, 0] > 0.6 > share[0, 1]
    known = np.array([True, False])
    assert people.without_duplicates(poses, known, 0.5, 1280, 720).tolist() == [0]
    assert people.without_duplicates(poses, np.array([True, True]), 0.5, 1280, 720).tolist() == [0, 1]


def test_sigma_grows_and_confidence_falls_with_a_weak_or_wide_peak():
    poses = poses_of([Drawn(300, 300)])
    for change in ({'peak': 0.3 * poses.peak}, {'spread': 1.5 * poses.spread}):
        worse = Poses(**{**vars(poses), **change})
        assert (people.sigma(worse) > 1.2 * people.sigma(poses)).all()
        assert (1.0 - people.confidence(worse) > 2.0 * (1.0 - people.confidence(poses))).all()
    assert (people.confidence(poses) <= 1.0).all() and (people.confidence(poses) >= 0.0).all()


def test_poses_join_and_select():
    first, second = poses_of([Drawn(300, 300)]), poses_of([Drawn(500, 300), Drawn(700, 300)])
    both = Poses.join(first, second)
    assert len(both) == 3 and len(Poses.join(both, Poses.none())) == 3
    np.testing.assert_array_equal(both[np.array([2])].pixels[0], second.pixels[1])
    assert both.pixels.shape[1] == blazepose.POINTS
