"""Bodies follow their people: in size and place as learned from the floor, and where smoothing moves them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from floor import Floor, walk
from scipy.spatial.transform import Rotation

from pose3d_ros.records import BodyPose, Person3D
from pose3d_ros.refine import Refiner, RefineSettings
from pose3d_ros.skeleton import HUMAN17

FLOOR = Floor.under(1.2, -15.0)
PELVIS = HUMAN17.index('pelvis')
ASIDE = np.array([0.02, -0.05, 0.1])    # m: of the body's root from the pelvis joint


def with_body(person: Person3D, seed: int = 0) -> Person3D:
    turns = Rotation.random(24, random_state=seed).as_matrix()
    return replace(person, body=BodyPose(turns, np.ones(10), 1.1, person.position[PELVIS] + ASIDE))


@pytest.mark.parametrize('smoothing', [True, False])
@pytest.mark.parametrize('stature', [1.45, 1.95])
def test_a_body_grows_and_moves_with_its_person(stature: float, smoothing: bool) -> None:
    refine, ground = Refiner(RefineSettings(smoothing=smoothing)), replace(FLOOR.plane, tilt_sigma=0.003)
    for number, (_, person, stamp) in enumerate(walk(FLOOR, stature, 2.0, np.random.default_rng(1))):
        (got,) = refine([with_body(person, number)], stamp, ground)
        given = with_body(person, number).body
        assert got.body is not None and given is not None
        grown = got.height / person.height
        assert got.body.scale == pytest.approx(grown * given.scale, rel=1e-9)
        np.testing.assert_allclose(got.body.root - got.position[PELVIS], grown * ASIDE, atol=1e-9)
        assert (got.body.rotations == given.rotations).all() and (got.body.shape == given.shape).all()
    assert abs(grown / (stature / person.height) - 1) < 0.05 and abs(grown - 1) > 0.05


def test_a_body_stays_at_the_pelvis_through_smoothing_and_without_a_floor() -> None:
    refine, moved = Refiner(), []
    for _, person, stamp in walk(FLOOR, 1.7, 1.0, np.random.default_rng(2)):
        noisy = replace(person, position=person.position + np.random.default_rng(stamp).normal(0, 0.02, 3))
        (got,) = refine([with_body(noisy)], stamp)
        assert got.body is not None and got.body.scale == 1.1
        np.testing.assert_allclose(got.body.root - got.position[PELVIS], ASIDE, atol=1e-9)
        moved.append(np.linalg.norm(got.position[PELVIS] - noisy.position[PELVIS]))
    assert np.mean(moved) > 0.003


def test_people_without_a_body_get_none_and_a_missing_pelvis_moves_none() -> None:
    refine = Refiner()
    for _, person, stamp in walk(FLOOR, 1.8, 1.0, np.random.default_rng(3)):
        (got,) = refine([person], stamp, FLOOR.plane)
        assert got.body is None
    position = person.position.copy()
    position[PELVIS] = np.nan
    given = with_body(person)
    (got,) = Refiner()([replace(given, position=position)], stamp)
    assert got.body is not None and given.body is not None and (got.body.root == given.body.root).all()
