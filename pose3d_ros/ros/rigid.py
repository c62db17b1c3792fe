"""Single rigid transforms in plain numbers: for one, an array costs more than the sum."""

from __future__ import annotations

import math

Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]  # x y z w, of length 1
Rigid = tuple[Quaternion, Vector]               # rotation, then translation (m)

IDENTITY: Rigid = ((0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0))


def product(a: Rigid, b: Rigid) -> Rigid:
    """Return x_T_z of x_T_y and y_T_z."""
    (ax, ay, az, aw), (px, py, pz) = a
    (bx, by, bz, bw), moved = b
    qx, qy, qz = _turned(a[0], moved)
    return ((aw * bx + ax * bw + ay * bz - az * by, aw * by - ax * bz + ay * bw + az * bx,
             aw * bz + ax * by - ay * bx + az * bw, aw * bw - ax * bx - ay * by - az * bz),
            (px + qx, py + qy, pz + qz))


def inverse(a: Rigid) -> Rigid:
    """Return y_T_x of x_T_y."""
    (x, y, z, w), (px, py, pz) = a
    back = (-x, -y, -z, w)
    return back, _turned(back, (-px, -py, -pz))


def _turned(quaternion: Quaternion, v: Vector) -> Vector:
    """Return v turned: v + 2 w (u x v) + 2 u x (u x v), with u the vector part."""
    x, y, z, w = quaternion
    tx, ty, tz = 2 * (y * v[2] - z * v[1]), 2 * (z * v[0] - x * v[2]), 2 * (x * v[1] - y * v[0])
    return (v[0] + w * tx + y * tz - z * ty, v[1] + w * ty + z * tx - x * tz, v[2] + w * tz + x * ty - y * tx)


def between(a: Rigid, b: Rigid, share: float) -> Rigid:
    """Return what lies at a share 0..1 of the way from a to b: on a line, and turned evenly the shorter way."""
    (q, p), (r, s) = a, b
    cosine = sum(x * y for x, y in zip(q, r))
    sign = -1.0 if cosine < 0 else 1.0  # both signs are one rotation: the shorter way
    angle = math.acos(min(abs(cosine), 1.0))
    if angle < 1e-4:  # so little that the chord is the arc; the sine would be too small to divide by
        first, second = 1.0 - share, sign * share
    else:
        sine = math.sin(angle)
        first, second = math.sin((1 - share) * angle) / sine, sign * math.sin(share * angle) / sine
    x, y, z, w = (first * m + second * n for m, n in zip(q, r))
    scale = 1.0 / math.sqrt(x * x + y * y + z * z + w * w)
    i, j, k = (m + share * (n - m) for m, n in zip(p, s))
    return (x * scale, y * scale, z * scale, w * scale), (i, j, k)
