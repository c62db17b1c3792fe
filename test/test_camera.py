"""Lens models, projection and CameraInfo values: properties, and comparison with OpenCV."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from pose3d_ros.camera import CalibrationError, Camera

CAMERAS = {
    'pinhole': Camera(640, 480, 525.0, 530.0, 319.5, 239.5),
    'four_terms': Camera(1280, 720, 900.0, 905.0, 641.0, 352.0, 'plumb_bob', (-0.25, 0.07, 5e-4, -3e-4)),
    'action_camera': Camera(1920, 1080, 1190.0, 1188.0, 955.0, 547.0, 'plumb_bob',
                            (-0.33, 0.14, 1.1e-3, -8e-4, -0.028)),
    'pincushion': Camera(1280, 1024, 1400.0, 1400.0, 630.0, 520.0, 'plumb_bob', (0.18, 0.25, -1e-3, 1e-3, 0.05)),
    'rational': Camera(1280, 720, 608.0, 607.8, 638.0, 367.0, 'rational_polynomial',
                       (0.4957, -2.7098, 7.4e-4, -2.1e-4, 1.5743, 0.3741, -2.5239, 1.4969)),
    'wide_rational': Camera(1280, 800, 560.0, 560.0, 642.0, 398.0, 'rational_polynomial',
                            (9.2, 4.1, 2e-4, -1e-4, 0.12, 9.55, 6.9, 0.83)),
    'prism': Camera(1280, 720, 800.0, 800.0, 640.0, 360.0, 'rational_polynomial',
                    (-0.2, 0.05, 5e-4, 2e-4, 0.0, 0.01, 0.0, 0.0, 1e-3, -2e-4, -5e-4, 1e-4)),
    'tilted': Camera(1280, 720, 800.0, 810.0, 640.0, 360.0, 'rational_polynomial',
                     (-0.2, 0.05, 5e-4, 2e-4, 0.0, 0.01, 0.0, 0.0, 1e-3, -2e-4, -5e-4, 1e-4, 0.03, -0.02)),
    'fisheye': Camera(848, 800, 440.0, 441.0, 424.0, 402.0, 'equidistant', (-0.0077, 0.0419, -0.0397, 0.0069)),
    'ideal_fisheye': Camera(640, 480, 300.0, 300.0, 320.0, 240.0, 'equidistant', (0.0, 0.0, 0.0, 0.0)),
}
everywhere = pytest.mark.parametrize('camera', CAMERAS.values(), ids=CAMERAS.keys())

# Lenses whose polynomial folds back within a field of view that people can stand in.
FOLDING = {
    'barrel': Camera(1280, 720, 600.0, 600.0, 640.0, 360.0, 'plumb_bob', (-0.32, 0.0, 1e-3, -1e-3, 0.0)),
    'rational': Camera(1280, 720, 600.0, 600.0, 640.0, 360.0, 'rational_polynomial',
                       (0.5, -0.26, 3e-4, -1e-4, -0.01, 0.83, -0.2, -0.03)),
    'pole': Camera(1280, 720, 600.0, 600.0, 640.0, 360.0, 'rational_polynomial',
                   (0.0, 0.0, 0.0, 0.0, 0.0, -0.2, 0.0, 0.0)),
    'tilted': Camera(1280, 720, 600.0, 600.0, 640.0, 360.0, 'rational_polynomial',
                     (-0.3, 0.0, 1e-3, 0.0, 0.0, 0.0, 0.0, 0.0, 2e-3, 0.0, -1e-3, 0.0, 0.1, -0.2)),
    'fisheye': Camera(1280, 960, 420.0, 420.0, 640.0, 480.0, 'equidistant', (0.05, -0.12, 0.0, 0.0)),
}
folding = pytest.mark.parametrize('camera', FOLDING.values(), ids=FOLDING.keys())


def whole_image(camera: Camera) -> np.ndarray:
    """Return pixels (N, 2) over the whole image: out to its outer edges, and off the pixel centres."""
    u = np.linspace(-0.5, camera.width - 0.5, 173)
    v = np.linspace(-0.5, camera.height - 0.5, 131)
    return np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2)


@everywhere
def test_undistorting_and_distorting_again_returns_every_pixel_of_the_image(camera):
    pixels = whole_image(camera)
    rays = camera.undistort(pixels)
    assert np.isfinite(rays).all()
    np.testing.assert_allclose(camera.distort(rays), pixels, rtol=0, atol=1e-6)


@everywhere
def test_projection_agrees_with_opencv(camera):
    rays = camera.undistort(whole_image(camera))
    depth = np.random.default_rng(1).uniform(0.5, 12.0, len(rays))
    points = np.column_stack((rays, np.ones(len(rays)))) * depth[:, None]
    zero, coefficients = np.zeros(3), np.array(camera.distortion)
    module = cv2.fisheye if camera.model == 'equidistant' else cv2
    expected, _ = module.projectPoints(points[:, None], zero, zero, camera.K, coefficients)
    np.testing.assert_allclose(camera.project(points), expected[:, 0], rtol=0, atol=1e-6)


@pytest.mark.parametrize('name', ['four_terms', 'pincushion', 'rational', 'prism'])
def test_undistortion_agrees_with_the_fixed_point_iteration_of_opencv(name):
    camera = CAMERAS[name]
    pixels = whole_image(camera)
    near = np.hypot(*(pixels - (camera.cx, camera.cy)).T) < 0.3 * camera.width  # where that iteration converges
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 2000, 1e-14)
    expected = cv2.undistortPointsIter(pixels[near][:, None], camera.K, np.array(camera.distortion), np.eye(3),
                                       np.eye(3), stop)
    np.testing.assert_allclose(camera.undistort(pixels[near]), expected[:, 0], rtol=0, atol=1e-9)


@folding
def test_no_two_rays_share_a_pixel_where_the_polynomial_folds_back(camera):
    random = np.random.default_rng(2)
    radius, turn = np.tan(random.uniform(0, math.radians(89.99), 20000)), random.uniform(0, 2 * np.pi, 20000)
    rays = np.column_stack((radius * np.cos(turn), radius * np.sin(turn)))
    pixels = camera.distort(rays)
    seen = np.isfinite(pixels).all(axis=1)
    assert 0.2 < seen.mean() < 0.95  # the lens has an end, and not a silly one
    assert radius[seen].max() < radius[~seen].min() * (1 + 1e-9)
    back = camera.undistort(pixels[seen])
    inner = radius[seen] < 0.99 * radius[seen].max()  # right at the fold a pixel says little about its ray
    np.testing.assert_allclose(back[inner], rays[seen][inner], rtol=1e-7, atol=1e-9)


@folding
def test_a_pixel_has_its_own_ray_or_none(camera):
    pixels = np.random.default_rng(3).uniform(-3000, 5000, (20000, 2))
    rays = camera.undistort(pixels)
    seen = np.isfinite(rays).all(axis=1)
    assert seen.any()
    assert (np.isnan(rays).all(axis=1) == ~seen).all()
    np.testing.assert_allclose(camera.distort(rays[seen]), pixels[seen], rtol=0, atol=1e-6)


def test_a_person_beside_the_view_is_not_projected_into_the_image():
    camera = FOLDING['barrel']  # the bare polynomial puts this point at about (640, 360)
    assert np.isnan(camera.project([1.77, 0.0, 1.0])).all()


def test_a_fisheye_ends_before_90_degrees():
    camera = Camera(1000, 1000, 200.0, 200.0, 500.0, 500.0, 'equidistant', (0.0, 0.0, 0.0, 0.0))
    angles = np.radians([0.0, 45.0, 89.0, 89.95, 90.0, 95.0])
    rays = camera.undistort(np.column_stack((500.0 + 200.0 * angles, np.full(6, 500.0))))
    np.testing.assert_allclose(rays[:3, 0], np.tan(angles[:3]), atol=1e-9)
    assert np.isnan(rays[3:]).all()


@everywhere
def test_back_projection_inverts_projection(camera):
    pixels = np.random.default_rng(4).uniform(0.25, 0.75, (5, 33, 2)) * (camera.width, camera.height)
    depth = np.random.default_rng(5).uniform(0.3, 20.0, (5, 33))
    points = camera.back_project(pixels, depth)
    np.testing.assert_array_equal(points[..., 2], depth)
    np.testing.assert_allclose(camera.project(points), pixels, rtol=0, atol=1e-6)


@everywhere
def test_what_cannot_be_is_nan_and_does_not_touch_its_neighbours(camera):
    good = [0.1, 0.2, 2.0]
    points = np.array([good, [0.1, 0.2, 0.0], [0.1, 0.2, -2.0], [np.nan, 0.2, 2.0], [0.1, 0.2, np.nan],
                       [np.inf, 0.2, 2.0], [0.1, 0.2, np.inf], [1e300, 0.2, 1e-300], good])
    pixels = camera.project(points)
    assert np.isnan(pixels[1:-1]).all()
    np.testing.assert_array_equal(pixels[[0, -1]], [camera.project(good)] * 2)
    rays = camera.undistort([pixels[0], [np.nan, 5.0], [5.0, np.inf], [1e308, 1e308], [-1e200, 3.0], pixels[0]])
    assert np.isnan(rays[1:3]).all()
    np.testing.assert_allclose(rays[[0, -1]], [[0.05, 0.1]] * 2, atol=1e-9)
    assert np.isnan(camera.distort([np.nan, 0.0])).all() and np.isnan(camera.distort([0.0, -np.inf])).all()
    for depth in (0.0, -1.0, np.nan, np.inf):
        assert np.isnan(camera.back_project(pixels[0], depth)).all()


@everywhere
@pytest.mark.parametrize('shape', [(), (0,), (1,), (1, 33), (2, 3, 4), (0, 33)])
def test_shapes_pass_through(camera, shape):
    pixels = np.full((*shape, 2), 100.0)
    rays = camera.undistort(pixels)
    points = camera.back_project(pixels, np.full(shape, 2.0))
    assert rays.shape == camera.distort(rays).shape == pixels.shape and points.shape == (*shape, 3)
    assert camera.project(points).shape == pixels.shape
    assert rays.dtype == points.dtype == np.float64
    np.testing.assert_allclose(camera.undistort(pixels.astype(np.float32)), rays)


def test_depth_broadcasts_and_nothing_else_does():
    camera = CAMERAS['action_camera']
    pixels = np.random.default_rng(6).uniform(300, 800, (4, 33, 2))
    np.testing.assert_array_equal(camera.back_project(pixels, 3.0), camera.back_project(pixels, np.full((4, 33), 3.0)))
    assert camera.back_project(pixels[0, 0], np.array([1.0, 2.0])).shape == (2, 3)
    depth = np.arange(1.0, 5.0)[:, None]
    np.testing.assert_array_equal(camera.back_project(pixels, depth)[..., 2], np.broadcast_to(depth, (4, 33)))
    for call in (lambda: camera.back_project(pixels, np.ones(4)), lambda: camera.undistort(np.ones((2, 3))),
                 lambda: camera.project(np.ones((3, 2))), lambda: camera.distort(1.0)):
        with pytest.raises(ValueError, match=r'\('):
            call()


def test_the_origin_of_distortion_is_exact():
    for camera in CAMERAS.values():
        if camera is not CAMERAS['tilted']:
            np.testing.assert_allclose(camera.project([0.0, 0.0, 1.0]), (camera.cx, camera.cy), atol=1e-12)


def test_a_resized_camera_sees_the_same_view():
    camera = CAMERAS['action_camera']
    small = camera.resized(480, 135)
    assert (small.width, small.height) == (480, 135)
    for corner, small_corner in (((-0.5, -0.5), (-0.5, -0.5)), ((1919.5, 1079.5), (479.5, 134.5))):
        np.testing.assert_allclose(small.undistort(small_corner), camera.undistort(corner), atol=1e-12)
    with pytest.raises(CalibrationError, match='resized'):
        camera.resized(0, 100)


def test_a_camera_is_a_value():
    camera = Camera(np.int64(640), np.int32(480), np.float32(500), 500, 320, 240, 'fisheye', np.zeros(4))
    assert camera == Camera(640, 480, 500.0, 500.0, 320.0, 240.0, 'equidistant', (0.0, 0.0, 0.0, 0.0))
    assert hash(camera) == hash(Camera(640, 480, 500.0, 500.0, 320.0, 240.0, 'equidistant', (0, 0, 0, 0)))
    assert camera._lens is Camera(320, 240, 250, 250, 160, 120, 'fisheye', np.zeros(4))._lens  # prepared only once
    assert type(camera.width) is int and type(camera.fx) is float
    with pytest.raises(AttributeError):
        camera.fx = 3.0
    with pytest.raises(ValueError, match='read-only'):
        camera.K[0, 0] = 1.0


# CameraInfo

K = (900.0, 0.0, 640.0, 0.0, 910.0, 360.0, 0.0, 0.0, 1.0)
P = (850.0, 0.0, 630.0, -42.0, 0.0, 850.0, 350.0, 0.0, 0.0, 0.0, 1.0, 0.0)
D = (-0.25, 0.07, 5e-4, -3e-4, 0.0)
INFO = {'width': 1280, 'height': 720, 'k': K, 'd': D, 'distortion_model': 'plumb_bob', 'p': P,
        'topic': '/front/camera_info'}


def from_info(**changes) -> Camera:
    return Camera.from_info(**{**INFO, **changes})


def test_raw_images_use_k_and_d():
    assert from_info() == Camera(1280, 720, 900.0, 910.0, 640.0, 360.0, 'plumb_bob', D)


def test_rectified_images_use_p_and_nothing_else():
    rectified = Camera(1280, 720, 850.0, 850.0, 630.0, 350.0)
    assert from_info(rectified=True) == rectified
    assert from_info(rectified=True, k=(0.0,) * 9, d=(1.0,) * 3, distortion_model='unheard_of') == rectified


def test_region_and_binning_as_image_geometry():
    camera = from_info(binning_x=2, binning_y=4, roi=(100, 40, 801, 600))
    assert (camera.width, camera.height) == (400, 150)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (450.0, 227.5, (640.0 - 100) / 2, (360.0 - 40) / 4)
    whole = from_info()
    rays = np.random.default_rng(7).uniform(-0.3, 0.3, (50, 2))
    np.testing.assert_allclose(camera.distort(rays), (whole.distort(rays) - (100, 40)) / (2, 4), atol=1e-9)
    rectified = from_info(binning_x=2, roi=(100, 40, 800, 600), rectified=True)
    assert (rectified.width, rectified.height, rectified.fx, rectified.cx) == (400, 600, 425.0, 265.0)


def test_zero_binning_and_zero_region_mean_all():
    assert from_info(binning_x=0, binning_y=0, roi=(0, 0, 0, 0)) == from_info(binning_x=1, binning_y=1) == from_info()


def test_a_region_far_from_the_principal_point_is_fine():
    assert from_info(roi=(1200, 0, 80, 80)).cx == -560.0


@pytest.mark.parametrize('changes', [
    {'distortion_model': '', 'd': ()}, {'distortion_model': '', 'd': (0.0,) * 5}, {'distortion_model': 'none', 'd': ()},
    {'distortion_model': 'plumb_bob', 'd': ()}])
def test_drivers_without_distortion(changes):
    assert from_info(**changes).model == 'pinhole'


def test_surplus_zeros_are_dropped():
    assert from_info(d=(*D[:4], 0.1, 0.0, 0.0, 0.0)).distortion == (*D[:4], 0.1)
    assert from_info(distortion_model='equidistant', d=(0.1, 0.0, 0.0, 0.0, 0.0)).distortion == (0.1, 0.0, 0.0, 0.0)
    assert from_info(distortion_model='rational_polynomial', d=(0.1,) * 8 + (0.0,) * 5).distortion[:8] == (0.1,) * 8


NAN = float('nan')


@pytest.mark.parametrize(('changes', 'reason'), [
    ({'k': (0.0,) * 9}, 'not calibrated.*calibrate it'),
    ({'p': (0.0,) * 12, 'rectified': True}, 'not calibrated.*not rectified'),
    ({'k': (NAN, *K[1:])}, 'K holds values that are not finite'),
    ({'k': (*K[:5], float('inf'), *K[6:])}, 'K holds values that are not finite'),
    ({'p': (*P[:3], NAN, *P[4:]), 'rectified': True}, 'P holds values that are not finite'),
    ({'d': (NAN, 0.0, 0.0, 0.0, 0.0)}, 'D holds values that are not finite'),
    ({'k': (-900.0, *K[1:])}, 'must be positive'),
    ({'k': (1.2, 0.0, 0.5, 0.0, 1.2, 0.5, 0.0, 0.0, 1.0)}, 'in pixels'),
    ({'k': (900.0, 0.0, 64000.0, *K[3:])}, 'principal point.*far outside'),
    ({'k': (900.0, 3.0, *K[2:])}, 'not of the form'),
    ({'k': K[:8]}, '8 values instead of 9'),
    ({'p': (), 'rectified': True}, '0 values instead of 12'),
    ({'width': 0}, '0 x 720 px is not positive'),
    ({'height': -1}, 'not positive'),
    ({'distortion_model': 'Plumb Bob'}, "unknown distortion model 'Plumb Bob'; known: .*plumb_bob"),
    ({'distortion_model': ''}, 'unknown distortion model'),
    ({'d': (0.1, 0.2, 0.3)}, 'plumb_bob takes 4 or 5 distortion coefficients, not 3'),
    ({'d': (0.1,) * 8}, 'plumb_bob takes 4 or 5 distortion coefficients, not 8'),
    ({'distortion_model': 'rational_polynomial'}, 'takes 8 or 12 or 14 distortion coefficients, not 5'),
    ({'distortion_model': 'equidistant', 'd': ()}, 'takes 4 distortion coefficients, not 0'),
    ({'roi': (1000, 0, 400, 400)}, 'region of interest .*not within'),
    ({'roi': (10, 10, 0, 0)}, 'region of interest .*not within'),
    ({'roi': (0, 0, 4, 4), 'binning_x': 8}, 'leaves nothing'),
])
def test_a_calibration_that_cannot_be_right_names_the_topic_and_the_reason(changes, reason):
    with pytest.raises(CalibrationError, match=f'^/front/camera_info: .*{reason}'):
        from_info(**changes)


@everywhere
def test_camera_info_values_round_trip(camera):
    info = camera.to_info()
    again = Camera.from_info(info['width'], info['height'], info['k'], info['d'], info['distortion_model'], info['r'],
                             info['p'])
    pixels = whole_image(camera)
    np.testing.assert_array_equal(again.undistort(pixels), camera.undistort(pixels))
    assert Camera.from_info(**info, rectified=True) == Camera(camera.width, camera.height, camera.fx, camera.fy,
                                                              camera.cx, camera.cy)
