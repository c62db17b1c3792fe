"""Image messages to BGR and back: every encoding against a scene whose colours are known, and images that are wrong."""

from __future__ import annotations

import array
import struct
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from pose3d_ros.ros.images import ImageError, decode_compressed, decode_image, encode_image

H, W = 48, 64
BAYER = ('rggb', 'bggr', 'gbrg', 'grbg')


def scene() -> np.ndarray:
    """Return (H, W, 3) BGR: a smooth picture in which blue, green and red differ everywhere."""
    y, x = np.mgrid[0:H, 0:W]
    return np.stack((40 + 2 * x, 90 + 3 * y, 230 - x - 2 * y), axis=-1).astype(np.uint8)


def mosaic(bgr: np.ndarray, pattern: str) -> np.ndarray:
    """Return what a sensor sees through a colour filter: pattern names the top left 2 x 2 pixels, row by row."""
    seen = np.empty(bgr.shape[:2], dtype=np.uint8)
    for place, colour in enumerate(pattern):
        row, column = divmod(place, 2)
        seen[row::2, column::2] = bgr[row::2, column::2, 'bgr'.index(colour)]
    return seen


def yuv(bgr: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Y, U, V in full resolution: BT.601, studio range, as cameras send it."""
    b, g, r = np.moveaxis(bgr.astype(np.float64), -1, 0)
    y = 16 + (65.481 * r + 128.553 * g + 24.966 * b) / 255
    u = 128 + (-37.797 * r - 74.203 * g + 112.0 * b) / 255
    v = 128 + (112.0 * r - 93.786 * g - 18.214 * b) / 255
    return tuple(np.round(plane).astype(np.uint8) for plane in (y, u, v))


def packed(bgr: np.ndarray, encoding: str) -> np.ndarray:
    """Return the picture as rows (N, bytes) of an encoding."""
    grey = bgr[..., 1]
    if encoding.startswith('bayer_'):
        seen = mosaic(bgr, encoding[6:10])
        return seen if encoding.endswith('8') else words(seen)
    y, u, v = yuv(bgr)
    if encoding in ('nv12', 'nv21'):
        order = (u, v) if encoding == 'nv12' else (v, u)
        chroma = np.stack([plane[::2, ::2] for plane in order], axis=-1).reshape(H // 2, W)
        return np.concatenate((y, chroma))
    if encoding in ('yuv422', 'uyvy'):
        return np.stack((u[:, ::2], y[:, ::2], v[:, ::2], y[:, 1::2]), axis=-1).reshape(H, 2 * W)
    if encoding in ('yuv422_yuy2', 'yuyv'):
        return np.stack((y[:, ::2], u[:, ::2], y[:, 1::2], v[:, ::2]), axis=-1).reshape(H, 2 * W)
    alpha = np.full((H, W, 1), 7, np.uint8)
    return {'bgr8': lambda: bgr, '8UC3': lambda: bgr, 'rgb8': lambda: bgr[..., ::-1],
            'bgra8': lambda: np.concatenate((bgr, alpha), -1), '8UC4': lambda: np.concatenate((bgr, alpha), -1),
            'rgba8': lambda: np.concatenate((bgr[..., ::-1], alpha), -1),
            'mono8': lambda: grey, '8UC1': lambda: grey, 'mono16': lambda: words(grey),
            'bgr16': lambda: words(bgr), 'rgb16': lambda: words(bgr[..., ::-1])}[encoding]().reshape(H, -1)


def words(values: np.ndarray) -> np.ndarray:
    """Return 8-bit values as little-endian 16-bit ones of the same brightness, as bytes."""
    return np.ascontiguousarray(values.reshape(H, -1).astype('<u2') * 257).view(np.uint8)


def message(rows: np.ndarray, encoding: str, padding: int = 0, width: int = W, height: int = H, **changes):
    """Return a sensor_msgs/Image in all but name, with data as rclpy hands it over."""
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    fields = {'width': width, 'height': height, 'encoding': encoding, 'step': rows.shape[1], 'is_bigendian': 0,
              'data': array.array('B', rows.tobytes())}
    return SimpleNamespace(**{**fields, **changes})


def expected(encoding: str) -> np.ndarray:
    return np.repeat(scene()[..., 1:2], 3, axis=-1) if encoding in ('mono8', '8UC1', 'mono16') else scene()


EXACT = ('bgr8', '8UC3', 'rgb8', 'bgra8', '8UC4', 'rgba8', 'mono8', '8UC1', 'mono16', 'bgr16', 'rgb16')
YUV = ('yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv', 'nv12', 'nv21')
MOSAICS = tuple(f'bayer_{pattern}{bits}' for pattern in BAYER for bits in (8, 16))


@pytest.mark.parametrize('padding', [0, 1, 6, 64])
@pytest.mark.parametrize('encoding', EXACT + YUV + MOSAICS)
def test_every_encoding_gives_the_colours_of_the_scene(encoding, padding):
    image = decode_image(message(packed(scene(), encoding), encoding, padding))
    assert image.shape == (H, W, 3) and image.dtype == np.uint8
    # The scene is smooth: halved chroma costs up to 5 grey levels, colours in a wrong order 180. Demosaicing is exact
    # but for the border, where it lacks neighbours.
    inside = np.s_[2:-2, 2:-2] if encoding in MOSAICS else np.s_[:]
    error = np.abs(image[inside].astype(int) - expected(encoding)[inside])
    assert error.max() <= (5 if encoding in YUV else 0)


@pytest.mark.parametrize('encoding', ['mono16', 'bgr16', 'bayer_rggb16'])
def test_big_endian_16_bit(encoding):
    rows = np.random.default_rng(0).integers(0, 256, packed(scene(), encoding).shape, dtype=np.uint8)
    little = message(rows, encoding, padding=2)
    swapped = np.frombuffer(little.data, '<u2').astype('>u2').tobytes()
    big = SimpleNamespace(**{**vars(little), 'data': array.array('B', swapped), 'is_bigendian': 1})
    np.testing.assert_array_equal(decode_image(big), decode_image(little))


def test_16_bit_is_scaled_from_the_full_range():
    values = np.linspace(0, 65535, H * W).astype('<u2').reshape(H, W)
    image = decode_image(message(values.view(np.uint8), 'mono16'))
    np.testing.assert_array_equal(image[..., 0], np.rint(values / 257).astype(np.uint8))


def test_bgr8_is_not_copied():
    for padding in (0, 10):
        msg = message(packed(scene(), 'bgr8'), 'bgr8', padding)
        assert np.shares_memory(decode_image(msg), np.frombuffer(msg.data, np.uint8))


@pytest.mark.parametrize('make', [bytes, bytearray, list, np.array, memoryview])
def test_data_of_any_kind(make):
    msg = message(packed(scene(), 'rgb8'), 'rgb8')
    msg.data = make(msg.data)
    np.testing.assert_array_equal(decode_image(msg), scene())


def test_odd_sizes_where_the_encoding_allows_them():
    bgr = scene()[:47, :63]
    for encoding, rows in (('bgr8', bgr), ('rgb8', bgr[..., ::-1]), ('mono8', bgr[..., 1]),
                           ('bayer_rggb8', mosaic(bgr, 'rggb'))):
        image = decode_image(message(rows.reshape(47, -1), encoding, width=63, height=47))
        assert image.shape == (47, 63, 3)


@pytest.mark.parametrize(('encoding', 'changes', 'cause', 'reason'), [
    ('bgr8', {'encoding': 'yuv420'}, 'unknown_encoding', "'yuv420' is not supported; .*bgr8.*nv12"),
    ('bgr8', {'encoding': ''}, 'unknown_encoding', 'not supported'),
    ('mono16', {'encoding': '16UC1'}, 'depth_image', 'depth image: remap'),
    ('bgr8', {'encoding': '32FC1'}, 'depth_image', 'depth image'),
    ('bgr8', {'step': 3 * W - 1}, 'wrong_step', 'step is 191 bytes, but a row of 64 px bgr8 takes 192'),
    ('bgr8', {'step': 0}, 'wrong_step', 'step is 0'),
    ('bgra8', {'step': 3 * W}, 'wrong_step', 'takes 256'),
    ('mono16', {'step': W}, 'wrong_step', 'takes 128'),
    ('yuv422', {'step': W}, 'wrong_step', 'takes 128'),
    ('bgr8', {'step': 3 * W + 4}, 'truncated', 'part of the image is missing'),
    ('bgr8', {'data': array.array('B')}, 'truncated', '0 bytes of image data'),
    ('bgr8', {'data': array.array('B', bytes(3 * W * H - 1))}, 'truncated', '9215 bytes.* take 9216'),
    ('nv12', {'data': array.array('B', bytes(W * H))}, 'truncated', '72 rows of 64 bytes'),
    ('bgr8', {'data': array.array('B', bytes(3 * W * H + 1))}, 'wrong_length', 'make only 9216'),
    ('nv12', {'encoding': 'mono8'}, 'wrong_length', 'do not belong together'),
    ('rgb8', {'encoding': 'bgra8'}, 'wrong_step', 'takes 256'),
    ('bgr8', {'width': 0}, 'too_small', '0 x 48 px'),
    ('bgr8', {'height': 0}, 'too_small', '64 x 0 px'),
    ('bgr8', {'width': 1, 'height': 1, 'step': 3, 'data': array.array('B', b'abc')}, 'too_small', '1 x 1 px'),
    ('bgr8', {'width': 2**31, 'height': 2**31, 'step': 3 * 2**31}, 'too_large', 'have the driver send a smaller one'),
    ('yuv422', {'width': W - 1}, 'bad_size', 'groups of 2 x 1 px'),
    ('yuyv', {'width': W - 1}, 'bad_size', 'groups of 2 x 1 px'),
    ('nv12', {'width': W - 1}, 'bad_size', 'groups of 2 x 2 px'),
    ('nv21', {'height': H - 1}, 'bad_size', 'groups of 2 x 2 px'),
])
def test_a_wrong_image_gives_its_cause_and_the_reason(encoding, changes, cause, reason):
    msg = message(packed(scene(), encoding), encoding)
    vars(msg).update(changes)
    with pytest.raises(ImageError, match=reason) as caught:
        decode_image(msg)
    assert caught.value.cause == cause and isinstance(caught.value, ValueError)


def test_8k_is_accepted_unless_the_limit_says_otherwise():
    rows = np.zeros((4320, 7680), np.uint8)
    msg = message(rows, 'mono8', width=7680, height=4320)
    assert decode_image(msg).shape == (4320, 7680, 3)
    with pytest.raises(ImageError, match='7680 x 4320 px, more than the 1000000 px allowed') as caught:
        decode_image(msg, max_pixels=1_000_000)
    assert caught.value.cause == 'too_large'


# Compressed images

def compressed(image: np.ndarray, kind: str, name: str | None = None, flags: tuple[int, ...] = ()):
    data = cv2.imencode(f'.{kind}', image, flags)[1].tobytes()
    return SimpleNamespace(format=kind if name is None else name, data=array.array('B', data))


@pytest.mark.parametrize('name', ['jpeg', 'jpg', 'rgb8; jpeg compressed bgr8', 'bayer_rggb8; jpeg compressed bgr8', ''])
@pytest.mark.parametrize('flags', [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)])
def test_jpeg(name, flags):
    image = decode_compressed(compressed(scene(), 'jpg', name, flags))
    assert image.shape == (H, W, 3) and np.abs(image.astype(int) - scene()).max() <= 8


@pytest.mark.parametrize('name', ['png', 'rgb8; png compressed bgr8', 'bgr8; png compressed '])
def test_png(name):
    np.testing.assert_array_equal(decode_compressed(compressed(scene(), 'png', name)), scene())


def test_grey_compressed_images():
    grey = expected('mono8')
    np.testing.assert_array_equal(decode_compressed(compressed(grey[..., 0], 'png', 'mono8; png compressed ')), grey)
    deep = grey[..., 0].astype(np.uint16) * 257
    np.testing.assert_array_equal(decode_compressed(compressed(deep, 'png', 'mono16; png compressed ')), grey)
    assert np.abs(decode_compressed(compressed(grey[..., 0], 'jpg')).astype(int) - grey).max() <= 4


@pytest.mark.parametrize('pattern', BAYER)
def test_a_mosaic_in_a_png_becomes_colour(pattern):
    seen = mosaic(scene(), pattern)
    image = decode_compressed(compressed(seen, 'png', f'bayer_{pattern}8; png compressed '))
    np.testing.assert_array_equal(image, decode_image(message(seen, f'bayer_{pattern}8')))


def test_exif_does_not_turn_the_image_away_from_its_camera_info():
    msg = compressed(scene(), 'jpg')
    orientation = b'Exif\0\0' + b'II*\0\x08\0\0\0' + struct.pack('<HHHIHHI', 1, 0x0112, 3, 1, 6, 0, 0)  # a quarter turn
    data = msg.data.tobytes()
    segment = b'\xff\xe1' + struct.pack('>H', len(orientation) + 2) + orientation
    turned = SimpleNamespace(format='jpeg', data=array.array('B', data[:2] + segment + data[2:]))
    assert cv2.imdecode(np.frombuffer(turned.data, np.uint8), cv2.IMREAD_COLOR).shape == (W, H, 3)  # it does say so
    np.testing.assert_array_equal(decode_compressed(turned), decode_compressed(msg))


def test_bytes_after_the_end_of_a_jpeg_do_not_matter():
    msg = compressed(scene(), 'jpg')
    longer = SimpleNamespace(format='jpeg', data=msg.data + array.array('B', bytes(100)))
    np.testing.assert_array_equal(decode_compressed(longer), decode_compressed(msg))


@pytest.mark.parametrize('kind', ['jpg', 'png'])
@pytest.mark.parametrize('flags', [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)])
def test_an_image_cut_off_anywhere_is_refused(kind, flags, capfd):
    msg = compressed(scene(), kind, flags=flags if kind == 'jpg' else ())
    for length in range(len(msg.data)):
        with pytest.raises(ImageError) as caught:
            decode_compressed(SimpleNamespace(format=kind, data=msg.data[:length]))
        assert caught.value.cause in ('truncated', 'unknown_encoding')
        assert caught.value.cause == 'truncated' or length < 8
    assert capfd.readouterr().err == ''  # told before the decoder complains


@pytest.mark.parametrize('kind', ['jpg', 'png'])
def test_a_damaged_image_is_refused_or_decoded_in_its_size_but_never_worse(kind):
    random = np.random.default_rng(0)
    good = np.frombuffer(compressed(scene(), kind).data, np.uint8)
    causes = set()
    for _ in range(400):
        data = good.copy()
        places = random.integers(2, len(data), 4)
        data[places] = random.integers(0, 256, 4)
        try:
            image = decode_compressed(SimpleNamespace(format=kind, data=data), max_pixels=1_000_000)
            assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
        except ImageError as error:
            causes.add(error.cause)
    corrupt = 'corrupt_jpeg' if kind == 'jpg' else 'corrupt_png'
    assert corrupt in causes
    assert causes <= {corrupt, 'truncated', 'too_large', 'too_small', 'unknown_encoding'}


def test_a_jpeg_whose_header_is_broken_is_corrupt():
    data = compressed(scene(), 'jpg').data
    data[4 + struct.unpack_from('>H', data, 4)[0]] = 0  # where the second segment should begin
    with pytest.raises(ImageError, match='damaged at byte') as caught:
        decode_compressed(SimpleNamespace(format='jpeg', data=data))
    assert caught.value.cause == 'corrupt_jpeg'


def test_a_bomb_is_refused_before_it_is_decoded():
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))

    bomb = (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 60000, 60000, 8, 0, 0, 0, 0))
            + chunk(b'IDAT', zlib.compress(bytes(1000))) + chunk(b'IEND', b''))
    with pytest.raises(ImageError, match='60000 x 60000') as caught:
        decode_compressed(SimpleNamespace(format='png', data=bomb))
    assert caught.value.cause == 'too_large'


@pytest.mark.parametrize(('name', 'data', 'cause'), [
    ('webp', b'RIFF....WEBPVP8 ', 'unknown_encoding'),
    ('jpeg', b'', 'unknown_encoding'),
    ('jpeg', b'not a picture at all', 'unknown_encoding'),
    ('16UC1; compressedDepth', b'\0' * 12 + b'\x89PNG\r\n\x1a\n', 'depth_image'),
    ('16UC1; png compressed ', b'\x89PNG\r\n\x1a\n', 'depth_image'),
])
def test_what_is_no_picture(name, data, cause):
    with pytest.raises(ImageError) as caught:
        decode_compressed(SimpleNamespace(format=name, data=data))
    assert caught.value.cause == cause


def test_1x1_compressed():
    with pytest.raises(ImageError) as caught:
        decode_compressed(compressed(np.zeros((1, 1, 3), np.uint8), 'jpg'))
    assert caught.value.cause == 'too_small'


# With real messages

@pytest.mark.ros
@pytest.mark.parametrize('crop', [np.s_[:], np.s_[:, 3:50], np.s_[::2, ::-1]])
def test_encoded_messages_decode_to_the_same_picture(crop):
    from std_msgs.msg import Header

    header = Header(frame_id='camera')
    header.stamp.sec = 12
    msg = encode_image(scene()[crop], header)
    assert msg.header == header and msg.step == 3 * msg.width and isinstance(msg.data, array.array)
    np.testing.assert_array_equal(decode_image(msg), scene()[crop])


@pytest.mark.ros
def test_only_bgr_is_encoded():
    for image in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(ValueError, match='expected'):
            encode_image(image)


@pytest.mark.ros
def test_parity_with_cv_bridge():
    cv_bridge = pytest.importorskip('cv_bridge', reason='cv_bridge is not installed: parity was not checked')
    from sensor_msgs.msg import Image

    for encoding in set(EXACT + YUV + MOSAICS) - {'8UC1', '8UC3', '8UC4', 'uyvy', 'yuyv', 'nv12', 'nv21'}:
        rows = packed(scene(), encoding)
        msg = Image(height=H, width=W, encoding=encoding, step=rows.shape[1], data=array.array('B', rows.tobytes()))
        theirs = cv_bridge.CvBridge().imgmsg_to_cv2(msg, 'bgr8').astype(int)
        assert np.abs(decode_image(msg) - theirs).max() <= 1, encoding
