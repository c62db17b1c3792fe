"""What single cameras think of where joints are, as the prior of triangulation, without counting a ray twice.

The lifter of a camera places a joint on the same ray that the camera gives to triangulation. Only the depth along that
ray is news. A joint without a ray of its own (hidden, out of view) was inferred from others, and there all of it is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.fuse.symmetric import FIRST, SECOND, Floats, inverse, packed, times, unpacked

BROAD_M = 1.0  # standard deviation across a ray that is counted already: far more than any ray leaves open


def mono_prior(position: Floats, covariance: Floats, seen: NDArray[np.bool_],
               camera_T_world: Floats) -> tuple[Floats, Floats]:
    """Return one Gaussian in the common frame for each joint: mean (..., 3) m, covariance (..., 3, 3) m^2.

    position (V, ..., 3) m and covariance (V, ..., 3, 3) m^2, in each camera's optical frame, NaN where a camera knows
    nothing; seen (V, ...): whether the camera gives triangulation a ray of the joint; camera_T_world (V, 4, 4). NaN
    where no camera knows anything.

    Cameras are wrong together (one lifter, one assumed stature, one posture), so they are put together by covariance
    intersection: right whatever the correlation, never surer than the surest. Weights as in Niehsen, "Information
    fusion based on fast covariance intersection filtering", FUSION 2002: inverse to the traces.
    Raises ValueError when the shapes disagree.
    """
    views, shape = position.shape[0], position.shape[1:-1]
    if (position.shape[-1] != 3 or covariance.shape != (views, *shape, 3, 3) or seen.shape != (views, *shape)
            or camera_T_world.shape != (views, 4, 4)):
        raise ValueError(f'position {position.shape}, covariance {covariance.shape}, seen {seen.shape} and '
                         f'camera_T_world {camera_T_world.shape}: expected (V, ..., 3), (V, ..., 3, 3), (V, ...), '
                         '(V, 4, 4)')
    place, spread = position.reshape(views, -1, 3), covariance.reshape(views, -1, 3, 3)
    world_R_camera = np.swapaxes(camera_T_world[:, :3, :3], -1, -2)
    ray = place / np.maximum(np.linalg.norm(place, axis=-1, keepdims=True), 1e-9)
    along = np.einsum('vni,vnij,vnj->vn', ray, spread, ray)
    ray = np.einsum('vij,vnj->ivn', world_R_camera, ray)
    mean = np.einsum('vij,vnj->ivn', world_R_camera, place - camera_T_world[:, None, :3, 3])
    whole = inverse(packed(world_R_camera[:, None] @ spread @ camera_T_world[:, None, :3, :3]))  # (6, V, N)
    with np.errstate(divide='ignore', invalid='ignore'):
        only_depth = (ray[FIRST] * ray[SECOND]) * (1.0 / along - BROAD_M**-2)
        only_depth[[0, 3, 5]] += BROAD_M**-2
        rayed = seen.reshape(views, -1)
        information = np.where(rayed, np.where(along > 0, only_depth, np.nan), whole)
        trace = np.where(rayed, along + 2.0 * BROAD_M**2, np.trace(spread, axis1=-2, axis2=-1))
        told = np.isfinite(information).all(axis=0) & np.isfinite(mean).all(axis=0)
        weight = np.where(told, 1.0 / trace, 0.0)
        weight /= weight.sum(axis=0)
    information = np.where(told, information, 0.0) * np.where(told, weight, 0.0)
    together = inverse(information.sum(axis=1))
    fused = times(together, times(information, np.where(told, mean, 0.0)).sum(axis=1))
    return fused.T.reshape(*shape, 3), unpacked(together).reshape(*shape, 3, 3)
