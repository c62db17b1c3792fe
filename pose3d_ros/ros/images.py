"""Image messages <-> BGR arrays. Looks only at the fields, so anything shaped like the messages will do.

One decoder of its own instead of cv_bridge: that knows no nv12, checks neither step nor length in Python, takes a JPEG
cut off half way for a picture that is grey below, and its compiled half does not load beside NumPy 2 everywhere.
"""

from __future__ import annotations

import array
import struct
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image8 = NDArray[np.uint8]

MAX_PIXELS = 8192 * 4320  # 8K, in its wider form
MIN_SIDE = 4              # px; OpenCV makes smaller Bayer images black without a word


class ImageError(ValueError):
    """An image that cannot be used. cause: short and fixed, to count by; the text says what is wrong and what to do."""

    def __init__(self, cause: str, text: str) -> None:
        super().__init__(text)
        self.cause = cause


@dataclass(frozen=True)
class _Encoding:
    """How pixels lie in memory.

    code: cv2.cvtColor's code to BGR, None where it is BGR already. group: what width and height must be multiples of.
    rows: rows of data per two rows of the image.
    """

    channels: int = 1
    code: int | None = None
    dtype: str = 'u1'
    group: tuple[int, int] = (1, 1)
    rows: int = 2


# ROS names a Bayer pattern by its first two rows; OpenCV by the second row and column on, hence the other names.
_BAYER = {'rggb': cv2.COLOR_BayerBG2BGR, 'bggr': cv2.COLOR_BayerRG2BGR,
          'gbrg': cv2.COLOR_BayerGR2BGR, 'grbg': cv2.COLOR_BayerGB2BGR}
_UYVY = _Encoding(2, cv2.COLOR_YUV2BGR_UYVY, group=(2, 1))
_YUYV = _Encoding(2, cv2.COLOR_YUV2BGR_YUY2, group=(2, 1))
_ENCODINGS = {
    'bgr8': _Encoding(3), '8UC3': _Encoding(3), 'rgb8': _Encoding(3, cv2.COLOR_RGB2BGR),
    'bgra8': _Encoding(4, cv2.COLOR_BGRA2BGR), '8UC4': _Encoding(4, cv2.COLOR_BGRA2BGR),
    'rgba8': _Encoding(4, cv2.COLOR_RGBA2BGR),
    'mono8': _Encoding(1, cv2.COLOR_GRAY2BGR), '8UC1': _Encoding(1, cv2.COLOR_GRAY2BGR),
    'bgr16': _Encoding(3, None, 'u2'), 'rgb16': _Encoding(3, cv2.COLOR_RGB2BGR, 'u2'),
    'mono16': _Encoding(1, cv2.COLOR_GRAY2BGR, 'u2'),
    'yuv422': _UYVY, 'uyvy': _UYVY, 'yuv422_yuy2': _YUYV, 'yuyv': _YUYV,
    'nv12': _Encoding(1, cv2.COLOR_YUV2BGR_NV12, group=(2, 2), rows=3),
    'nv21': _Encoding(1, cv2.COLOR_YUV2BGR_NV21, group=(2, 2), rows=3),
    **{f'bayer_{name}8': _Encoding(1, code) for name, code in _BAYER.items()},
    **{f'bayer_{name}16': _Encoding(1, code, 'u2') for name, code in _BAYER.items()},
}
_DEPTH = ('16UC1', '32FC1')


def decode_image(msg: Any, max_pixels: int = MAX_PIXELS) -> Image8:
    """Return a sensor_msgs/Image as (H, W, 3) uint8 BGR.

    bgr8 is not copied: the array is a view of msg.data, to be read only. 16-bit values are scaled from their full
    range. Raises ImageError with cause unknown_encoding, depth_image, bad_size, too_small, too_large, wrong_step,
    wrong_length or truncated.
    """
    encoding = _encoding(msg.encoding)
    width, height, step = int(msg.width), int(msg.height), int(msg.step)
    _check_size(width, height, max_pixels)
    if width % encoding.group[0] or height % encoding.group[1]:
        raise ImageError('bad_size', f'{msg.encoding} images come in groups of {encoding.group[0]} x '
                                     f'{encoding.group[1]} px, but this one has {width} x {height}; correct the driver')
    row = width * encoding.channels * np.dtype(encoding.dtype).itemsize
    rows = height * encoding.rows // 2
    data = _bytes(msg.data)
    _check_layout(msg.encoding, width, row, rows, step, data.size)
    pixels = data.reshape(rows, step)[:, :row]
    if encoding.dtype == 'u2':
        pixels = _to_8_bit(pixels, bool(msg.is_bigendian))
    if encoding.channels > 1:
        pixels = pixels.reshape(rows, width, encoding.channels)
    return _convert(pixels, encoding.code)


def decode_compressed(msg: Any, max_pixels: int = MAX_PIXELS) -> Image8:
    """Return a sensor_msgs/CompressedImage (JPEG or PNG, told by its first bytes) as (H, W, 3) uint8 BGR.

    The image stays as the sensor gave it: an orientation in EXIF is ignored, since camera_info does not know it.
    Raises ImageError with cause unknown_encoding, depth_image, truncated, corrupt_jpeg, corrupt_png, too_small or
    too_large. Damage among the coded pixels that leaves a readable JPEG cannot be told from a picture.
    """
    original = msg.format.split(';')[0].strip()  # image_transport: 'rgb8; jpeg compressed bgr8'
    if 'compressedDepth' in msg.format or original in _DEPTH:
        raise _depth_error(msg.format)
    data = _bytes(msg.data)
    start = data[:8].tobytes()
    if start.startswith(b'\xff\xd8'):
        kind, size = 'jpeg', _jpeg_size(data.tobytes())
    elif start == b'\x89PNG\r\n\x1a\n':
        kind, size = 'png', _png_size(data)
    else:
        raise ImageError('unknown_encoding', f'the compressed image (format {msg.format!r}, {data.size} bytes) is '
                                             'neither JPEG nor PNG: set the format of image_transport to one of them')
    _check_size(*size, max_pixels)
    image = _imdecode(data)
    if image is None:
        raise ImageError(f'corrupt_{kind}', f'the {kind} image of {data.size} bytes cannot be decoded: it was damaged '
                                            'on its way, or by the camera')
    if kind == 'png' and original.startswith('bayer_') and original in _ENCODINGS and 'bgr' not in msg.format:
        return _convert(np.ascontiguousarray(image[..., 0]), _ENCODINGS[original].code)  # the mosaic itself, as PNG
    return image


def encode_image(bgr: Image8, header: Any = None) -> Any:
    """Return (H, W, 3) uint8 BGR as a sensor_msgs/Image of encoding bgr8, with this header."""
    from sensor_msgs.msg import Image  # here, so that decoding can be used and tested without ROS

    if bgr.ndim != 3 or bgr.shape[2] != 3 or bgr.dtype != np.uint8:
        raise ValueError(f'image {bgr.shape} {bgr.dtype}, expected (H, W, 3) uint8 BGR')
    msg = Image()
    if header is not None:
        msg.header = header
    msg.height, msg.width, msg.encoding, msg.step = bgr.shape[0], bgr.shape[1], 'bgr8', 3 * bgr.shape[1]
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(bgr).reshape(-1).data)
    msg.data = data  # any other type would be checked value by value
    return msg


def _encoding(name: str) -> _Encoding:
    if name in _DEPTH:
        raise _depth_error(name)
    if name not in _ENCODINGS:
        raise ImageError('unknown_encoding', f'encoding {name!r} is not supported; have the driver send one of: '
                                             f'{", ".join(_ENCODINGS)}')
    return _ENCODINGS[name]


def _depth_error(encoding: str) -> ImageError:
    return ImageError('depth_image', f'{encoding!r} is a depth image: remap `image` to the colour or mono image of the '
                                     'camera')


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width < MIN_SIDE or height < MIN_SIDE:
        raise ImageError('too_small', f'the image has {width} x {height} px: the driver sends no real image')
    if width * height > max_pixels:
        raise ImageError('too_large', f'the image has {width} x {height} px, more than the {max_pixels} px allowed: '
                                      'have the driver send a smaller one')


def _check_layout(encoding: str, width: int, row: int, rows: int, step: int, size: int) -> None:
    if step < row:
        raise ImageError('wrong_step', f'step is {step} bytes, but a row of {width} px {encoding} takes {row}: the '
                                       'driver fills in the image message wrongly')
    if size < rows * step:
        raise ImageError('truncated', f'{size} bytes of image data, but {rows} rows of {step} bytes take {rows * step}:'
                                      ' part of the image is missing')
    if size > rows * step:
        raise ImageError('wrong_length', f'{size} bytes of image data, but {rows} rows of {step} bytes make only '
                                         f'{rows * step}: height, step and encoding do not belong together')


def _bytes(data: Any) -> Image8:
    """Return message data as a flat uint8 array, without a copy where it has a buffer."""
    try:
        return np.frombuffer(data, dtype=np.uint8) if len(data) else np.empty(0, dtype=np.uint8)
    except TypeError:
        return np.asarray(data, dtype=np.uint8).ravel()


def _to_8_bit(rows: Image8, big_endian: bool) -> Image8:
    values = np.ascontiguousarray(rows).view('>u2' if big_endian else '<u2').astype(np.uint16, copy=False)
    return np.asarray(cv2.convertScaleAbs(values, alpha=255 / 65535), dtype=np.uint8)


def _convert(pixels: Image8, code: int | None) -> Image8:
    return pixels if code is None else np.asarray(cv2.cvtColor(pixels, code), dtype=np.uint8)


def _imdecode(data: Image8) -> Image8 | None:
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    return None if image is None else np.asarray(image, dtype=np.uint8)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Return width and height of a JPEG; it must have a scan, and after it the end marker (ITU T.81, annex B.1.1).

    Decoders fill up a picture that was cut off and only warn, so this looks for the end itself.
    """
    size, position = None, 2
    while position + 4 <= len(data):
        marker, length = data[position + 1], struct.unpack_from('>H', data, position + 2)[0]
        if data[position] != 0xFF:
            raise ImageError('corrupt_jpeg', f'the JPEG of {len(data)} bytes is damaged at byte {position}')
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and position + 9 <= len(data):
            height, width = struct.unpack_from('>HH', data, position + 5)
            size = (width, height)
        position += 2 + length
        if marker == 0xDA and size is not None:
            if data.rfind(b'\xff\xd9') >= position:  # never part of coded pixels, nor of a thumbnail this far in
                return size
            break
    raise ImageError('truncated', f'the JPEG of {len(data)} bytes ends too early: part of it was lost')


def _png_size(data: Image8) -> tuple[int, int]:
    if b'IEND\xaeB`\x82' not in data[-64:].tobytes():  # the last chunk's name and checksum
        raise ImageError('truncated', f'the PNG of {data.size} bytes ends too early: part of it was lost')
    width, height = struct.unpack('>II', data[16:24].tobytes())
    return width, height
