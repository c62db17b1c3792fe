"""What single cameras think of where joints are, as the prior of triangulation, without counting a ray twice.

The lifter of a camera places a joint on the same ray that the camera gives to triangulation. Only the depth along that
ray is news. A joint without a ray of its own (hidden, out of view) was inferred from others, and there all of it is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.fuse.symmetric import FIRST, SECOND, Floats, inverse, packed, times, unpacked

BROAD_M = 1.0  # standard deviation across a ray that is counted already: far more than any ray leaves open


def mono_prior(position: Floats, covariance: Floats, rayed: NDArray[np.bool_],
               centres: Floats) -> tuple[Floats, Floats]:
    """Return one Gaussian for each joint: mean (..., 3) m, covariance (..., 3, 3) m^2. All in the common frame.

    position (V, ..., 3) m and covariance (V, ..., 3, 3) m^2 as each camera has them, NaN where it knows nothing; rayed
    (V, ...): whether the camera gives triangulation a ray of the joint; centres (V, 3) m: where the cameras are. NaN
    where no camera knows anything.

    Cameras are wrong together (one lifter, one assumed stature, one posture), so they are put together by covariance
    intersection: right whatever the correlation, never surer than the surest. Weights as in Niehsen, "Information
    fusion based on fast covariance intersection filtering", FUSION 2002: inverse to the traces.
    Raises ValueError when the shapes disagree.
    """
    views, shape = position.shape[0], position.shape[1:-1]
    if (position.shape[-1] != 3 or covariance.shape != (views, *shape, 3, 3) or rayed.shape != (views, *shape)
            or centres.shape != (views, 3)):
        raise ValueError(f'position {position.shape}, covariance {covariance.shape}, rayed {rayed.shape} and centres '
                         f'{centres.shape}: expected (V, ..., 3), (V, ..., 3, 3), (V, ...), (V, 3)')
    place = np.moveaxis(position.reshape(views, -1, 3), -1, 0)  # (3, V, N)
    spread = packed(covariance.reshape(views, -1, 3, 3))        # (6, V, N)
    ray = place - centres.T[:, :, None]
    ray /= np.maximum(np.linalg.norm(ray, axis=0), 1e-9)
    along = (ray * times(spread, ray)).sum(axis=0)
    with np.errstate(divide='ignore', invalid='ignore'):
        only_depth = ray[FIRST] * ray[SECOND] * (1.0 / along - BROAD_M**-2)
        only_depth[[0, 3, 5]] += BROAD_M**-2
        given = rayed.reshape(views, -1)
        information = np.where(given, np.where(along > 0, only_depth, np.nan), inverse(spread))
        trace = np.where(given, along + 2.0 * BROAD_M**2, spread[0] + spread[3] + spread[5])
        told = np.isfinite(information).all(axis=0) & np.isfinite(place).all(axis=0)
        weight = np.where(told, 1.0 / trace, 0.0)
        weight /= weight.sum(axis=0)
    information = np.where(told, information * weight, 0.0)
    together = inverse(information.sum(axis=1))
    mean = times(together, times(information, np.where(told, place, 0.0)).sum(axis=1))
    return mean.T.reshape(*shape, 3), unpacked(together).reshape(*shape, 3, 3)
