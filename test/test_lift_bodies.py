"""Lifters that give bodies: of which model they are."""

from __future__ import annotations

import numpy as np
import pytest
from test_lift import KnownNetwork, random_people

from pose3d_ros.lift import BODY_OUTPUTS, ENGINE_OUTPUTS, Lifter, LiftModelError

SHA256 = 64 * 'a'
OF_MANNEQUIN = {'body_model': 'mannequin', 'body_model_sha256': SHA256}


class GivesBodies(KnownNetwork):
    """A known network with the further outputs."""

    outputs = (*ENGINE_OUTPUTS, *BODY_OUTPUTS)


def test_a_lifter_says_of_which_model_its_bodies_are() -> None:
    points = random_people(1, 1)
    assert Lifter(GivesBodies(points, **OF_MANNEQUIN)).body_model == ('mannequin', SHA256)
    assert Lifter(KnownNetwork(points)).body_model is None
    assert Lifter(KnownNetwork(points, **OF_MANNEQUIN)).body_model is None


@pytest.mark.parametrize(('metadata', 'told'), [
    ({}, 'body_model'), ({'body_model': 'mannequin'}, 'body_model_sha256'), ({'body_model_sha256': SHA256}, 'body_mod'),
    ({**OF_MANNEQUIN, 'body_model_sha256': 'abc'}, '64 hexadecimal')])
def test_bodies_of_a_model_that_is_not_told_are_refused(metadata: dict[str, str], told: str) -> None:
    with pytest.raises(LiftModelError, match=told):
        Lifter(GivesBodies(np.zeros((1, 17, 3)), **metadata))


def test_half_a_body_is_refused() -> None:
    network = GivesBodies(np.zeros((1, 17, 3)), **OF_MANNEQUIN)
    network.outputs = (*ENGINE_OUTPUTS, *BODY_OUTPUTS[:2])
    with pytest.raises(LiftModelError, match='not scale, body_root'):
        Lifter(network)
