"""Rendered people: joints lie on bodies, what is nearer hides what is farther, and seeds, mirrors and domains hold."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from procedural import standing, write_mocap

from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.body import PELVIS
from pose3d_ros.train.mocap import Mocap, load_mocap
from pose3d_ros.train.procedural import procedural_mocap
from pose3d_ros.train.render.cast import NOTHING, Hits, Solids, cast
from pose3d_ros.train.render.figures import PARTS, figures_of
from pose3d_ros.train.render.looks import DARK, HAIR, SKIN, Looks, draw_looks
from pose3d_ros.train.render.paint import paint
from pose3d_ros.train.render.people import BATCH, Pictures, photograph_people, render_people
from pose3d_ros.train.render.places import studio_light
from pose3d_ros.train.render.shots import DOMAINS, Shots, crop, shoot

# World (x right, y ahead, z up) to the optical frame of a camera that looks along world +y.
_AHEAD = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=np.float32)
_DISTANCE, _HEIGHT = 4.0, 1.0


@pytest.fixture(scope='module')
def mocap() -> Mocap:
    return procedural_mocap(seed=3, clips=12)


@pytest.fixture(scope='module')
def sets(mocap: Mocap) -> dict[str, Pictures]:
    return {domain: render_people(mocap, domain, 3 * BATCH, 48, seed=1) for domain in DOMAINS}


def seen_from(joints: np.ndarray, bearing: float = 0.0, size: int = 64) -> Shots:
    """Return a shot of somebody (17, 3) m who faces +y; bearing 0 looks at the back, pi at the face."""
    c, s = np.cos(bearing), np.sin(bearing)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    rotation = _AHEAD[None].astype(np.float32)
    translation = (_AHEAD @ np.array([0, _DISTANCE, -_HEIGHT]))[None].astype(np.float32)
    points = (joints @ turn.T)[None] @ np.swapaxes(rotation, -1, -2) + translation[:, None]
    shots = crop(points, rotation, translation, size, np.random.default_rng(0))
    # In the middle, so that a mirror image is one in the picture too.
    shots = replace(shots, focal=np.full(1, 0.42 * _DISTANCE * size, np.float32),
                    principal=np.full((1, 2), (size - 1) / 2, np.float32))
    return shots


def plain_looks(count: int = 1) -> Looks:
    looks = draw_looks(count, 'studio', np.random.default_rng(4))
    return replace(looks, gaze=0 * looks.gaze, girth=0 * looks.girth + 1)


def bodies(shots: Shots, size: int) -> Hits:
    return cast(figures_of(shots.points, plain_looks(len(shots))).solids, shots, size)


def balls(*places: tuple[float, float, float, float]) -> Solids:
    """Return balls (x, y, z, radius) before one camera."""
    middle, radius = np.array(places, np.float32)[None, :, :3], np.array(places, np.float32)[None, :, 3:]
    return Solids(middle, middle, np.repeat(radius, 2, axis=-1))


@pytest.mark.parametrize('domain', DOMAINS)
def test_joints_lie_on_the_body(mocap: Mocap, domain: str) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(len(mocap), size=(2, 64))
    shots = shoot(mocap, *frames, domain, 64, rng)
    hits = bodies(shots, 128)
    place = np.round((shots.joints2d + 0.5) * 2 - 0.5).astype(int)
    inside = ((place >= 0) & (place < 128)).all(axis=-1)
    column, row = np.moveaxis(np.clip(place, 0, 127), -1, 0)
    on_body = hits.part[np.arange(64)[:, None], row, column] != NOTHING
    assert inside.mean() > 0.9 and on_body[inside].mean() > 0.99
    depth = hits.depth[np.arange(64)[:, None], row, column]
    # The surface is before the joint, and not by more than all of a body.
    assert (shots.points[..., 2] - depth)[inside & on_body].min() > -0.02
    assert (shots.points[..., 2] - depth)[inside & on_body].max() < 2.0


def test_a_ball_and_a_cone_are_met_where_geometry_says() -> None:
    shots = seen_from(standing())
    size = shots.size
    solid = Solids(np.array([[[0, 0, 3]]], np.float32), np.array([[[0, 0, 3]]], np.float32),
                   np.array([[[0.2, 0.2]]], np.float32))
    hits = cast(solid, shots, size)
    assert hits.depth.min() == pytest.approx(2.8, abs=0.005)
    # A ball of radius r at distance d covers a disc of radius f r / sqrt(d^2 - r^2).
    disc = np.pi * (shots.focal[0] * 0.2 / np.sqrt(9 - 0.04)) ** 2
    assert np.isfinite(hits.depth).sum() == pytest.approx(disc, rel=0.03)
    # Every point on a tapered capsule is the radius away from its axis at its foot, wherever it is seen from.
    rng = np.random.default_rng(2)
    for _ in range(20):
        start, end = rng.uniform(-0.4, 0.4, (2, 1, 1, 3)) + [0, 0, 3]
        radius = rng.uniform(0.02, 0.25, (1, 1, 2))
        solid = Solids(*(array.astype(np.float32) for array in (start, end, radius)))
        hits = cast(solid, shots, size)
        image, row, column = np.nonzero(hits.part == 0)
        x, y = shots.rays(size)
        points = np.stack([x[0, column], y[0, row], np.ones(len(row))], axis=-1) * hits.depth[0, row, column, None]
        along = np.linspace(0, 1, 400)[:, None]
        axis = start[0, 0] + along * (end - start)[0, 0]
        gap = np.linalg.norm(points[:, None] - axis, axis=-1) - (radius[0, 0, 0] + along[:, 0] * np.ptp(radius)
                                                                 * np.sign(radius[0, 0, 1] - radius[0, 0, 0]))
        np.testing.assert_allclose(gap.min(axis=1), 0, atol=2e-3)


def test_what_is_nearer_hides_what_is_farther_in_any_order() -> None:
    shots = seen_from(standing())
    for order in ((0, 1), (1, 0)):
        places = [(0, 0, 4, 0.3), (0.05, 0, 3, 0.1)]
        hits = cast(balls(*(places[index] for index in order)), shots, 64)
        near = order.index(1)
        assert hits.part[0, 32, 32] == near
        assert (hits.part == 1 - near).any()           # around it
        assert hits.depth[hits.part == near].max() < hits.depth[hits.part == 1 - near].min()


def test_an_arm_before_the_trunk_is_seen_and_one_behind_is_not() -> None:
    joints = standing()
    joints[HUMAN17.index('right_elbow')] = (0.22, 0.10, 1.15)
    joints[HUMAN17.index('right_wrist')] = (0.0, 0.24, 1.15)      # the hand before the belly
    hand = PARTS.index('right_hand')
    wrist = HUMAN17.index('right_wrist')
    for bearing, shown in ((np.pi, True), (0.0, False)):
        shots = seen_from(joints, bearing)
        assert (bodies(shots, 128).part == hand).any() == shown
        rng = np.random.default_rng(0)
        _, hidden = photograph_people(shots, plain_looks(), 'studio', rng)
        assert hidden[0, wrist] == (not shown)


def test_faces_chests_and_toes_are_in_front() -> None:
    colours, feet = {}, {}
    for bearing, view in ((np.pi, 'face'), (0.0, 'back')):
        shots, looks = seen_from(standing(), bearing, 192), plain_looks()
        looks.colour[:] = 0
        looks.colour[:, [SKIN, HAIR, DARK]] = np.eye(3)
        light = studio_light(shots, np.random.default_rng(0))
        light = replace(light, strength=0 * light.strength, around=0 * light.around + 1)
        hits = bodies(shots, 192)
        pixels, colour = paint(hits, figures_of(shots.points, looks), looks, light, shots)
        head = np.isin(hits.part.ravel()[pixels], [PARTS.index(part) for part in ('skull', 'jaw', 'hair', 'nose')])
        colours[view] = (colour[head] > 0.3).mean(axis=0)
        feet[view] = hits.depth[hits.part == PARTS.index('left_foot')].min() - shots.points[
            0, HUMAN17.index('left_ankle'), 2]
    skin, hair, eyes = np.transpose([colours['face'], colours['back']])
    assert skin[0] > skin[1] + 0.2 and hair[1] > hair[0] + 0.2 and eyes[0] > 0 == eyes[1]
    assert feet['face'] < -0.12 < feet['back']


def test_a_mirrored_pose_has_a_mirrored_silhouette() -> None:
    joints = standing(0.9)
    joints[HUMAN17.index('left_wrist')] += (-0.1, 0.2, 0.35)
    mirrored = joints[HUMAN17.mirror] * (-1, 1, 1)
    one, other = (bodies(seen_from(pose, np.pi), 128).part != NOTHING for pose in (joints, mirrored))
    assert one.sum() > 500
    assert (one != other[..., ::-1]).sum() < 0.01 * one.sum()
    assert (one != other).sum() > 0.1 * one.sum()


def test_sets_have_the_shapes_and_labels_asked_for(sets: dict[str, Pictures]) -> None:
    for pictures in sets.values():
        count = len(pictures)
        assert pictures.images.shape == (count, 48, 48, 3) and pictures.images.dtype == np.uint8
        assert pictures.joints2d.shape == (count, 17, 2) and pictures.joints3d.shape == (count, 17, 3)
        assert pictures.visible.shape == pictures.hidden.shape == (count, 17)
        assert not pictures.joints3d[:, PELVIS].any() and np.isfinite(pictures.joints3d).all()
        assert not (pictures.hidden & ~pictures.visible).any()
        points = pictures.joints3d + pictures.pelvis[:, None]
        assert points[..., 2].min() > 0.5                                  # before the camera
        pixels = np.einsum('nij,nkj->nki', pictures.camera, points / points[..., 2:])[..., :2]
        np.testing.assert_allclose(pixels, pictures.joints2d, atol=0.01)
        inside = ((pictures.joints2d > -0.5) & (pictures.joints2d < 47.5)).all(axis=-1)
        np.testing.assert_array_equal(pictures.visible, inside)
        assert 0.02 < pictures.hidden.mean() < 0.5


def test_people_fill_the_crop_and_are_seen_from_all_sides(sets: dict[str, Pictures]) -> None:
    for domain, pictures in sets.items():
        extent = np.ptp(pictures.joints2d, axis=1).max(axis=1) / 48
        assert 0.6 < np.median(extent) < 0.95
        assert pictures.visible.mean() > (0.99 if domain == 'studio' else 0.93)
        across = pictures.joints3d[:, HUMAN17.index('left_hip')] - pictures.joints3d[:, HUMAN17.index('right_hip')]
        facing = np.histogram(np.arctan2(across[:, 2], across[:, 0]), bins=4, range=(-np.pi, np.pi))[0]
        assert facing.min() > 0.1 * len(pictures)


def test_the_same_seed_makes_the_same_pictures_and_longer_sets_begin_alike(mocap: Mocap,
                                                                           sets: dict[str, Pictures]) -> None:
    for domain, pictures in sets.items():
        again = render_people(mocap, domain, BATCH + 3, 48, seed=1)
        assert len(again) == BATCH + 3
        np.testing.assert_array_equal(again.images, pictures.images[:BATCH + 3])
        np.testing.assert_array_equal(again.joints3d, pictures.joints3d[:BATCH + 3])
        other = render_people(mocap, domain, BATCH, 48, seed=2)
        assert (other.images != pictures.images[:BATCH]).mean() > 0.5


def test_the_domains_differ_in_looks_and_not_in_poses(sets: dict[str, Pictures]) -> None:
    studio, street = (sets[domain].images.astype(float) for domain in ('studio', 'street'))
    # Corners of the pictures: a plain room, or anything.
    corners = [images[:, :4, :4].mean(axis=(1, 2)).std(axis=0) for images in (studio, street)]
    assert corners[1].min() > 2 * corners[0].max()
    colourful = [np.ptp(images.mean(axis=(1, 2)), axis=-1).mean() for images in (studio, street)]
    assert colourful[1] > 1.1 * colourful[0]
    brightness = [images.mean(axis=(1, 2, 3)).std() for images in (studio, street)]
    assert brightness[1] > 2 * brightness[0]
    heights = [(-np.einsum('nij,nj->ni', np.linalg.inv(sets[domain].camera), [[24, 24, 1]] * 96)[:, 1]).std()
               for domain in ('studio', 'street')]
    assert heights[1] > heights[0]                     # cameras of one height, and of any
    spread = [np.linalg.norm(sets[domain].joints3d, axis=-1).mean() for domain in ('studio', 'street')]
    assert spread[0] == pytest.approx(spread[1], rel=0.1)


def test_pictures_are_made_fast(mocap: Mocap) -> None:
    for domain in DOMAINS:
        started = time.process_time()
        render_people(mocap, domain, 2 * BATCH, 64, seed=0)
        spent = (time.process_time() - started) / (2 * BATCH)
        assert spent < 0.03, f'{domain}: {1000 * spent:.1f} ms'      # 4 to 5 ms where nothing else runs


def test_recorded_files_serve_as_well(tmp_path: Path) -> None:
    pictures = render_people(load_mocap([write_mocap(tmp_path / 'walk.npz')], 'test'), 'street', 5, 32, seed=0)
    assert pictures.images.shape == (5, 32, 32, 3) and (pictures.frame < 40).all()


@pytest.mark.parametrize(('domain', 'count', 'size', 'said'), [
    ('beach', 4, 64, 'studio, street'), ('studio', 0, 64, '1 at least'), ('street', 4, 8, '16 to 512')])
def test_what_cannot_be_rendered_is_refused(mocap: Mocap, domain: str, count: int, size: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        render_people(mocap, domain, count, size, seed=0)
