"""How far joints that one camera gave are from what the others saw: the geometry of site adaptation.

Everything is equation 5 of Li et al. (AAAI 2020), the transform re-projection: joints of one view, moved into the
others by the extrinsics, projected there, and compared with what was detected.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pose3d_ros.lift import input_points
from pose3d_ros.nets.window import WindowLifter
from pose3d_ros.train.site import LANDMARK_M, SiteRecording

NEAREST_M = 0.1     # a joint behind a camera is projected as if it were so near before it
HUBER = 3.0         # sigmas, where a distance begins to count linearly
CHI2_2 = 4.6052     # 90 % of a two-dimensional normal distribution
_BATCH = 2048


@dataclass(frozen=True)
class Unlifted:
    """What a network says of N samples in statures: points (N, 17, 3) in the optical frame, covariance (N, 17, 3, 3)
    without the trust and without the stature's share."""

    points: NDArray[np.float32]
    covariance: NDArray[np.float32]

    def metres(self, stature: NDArray | float) -> NDArray[np.float32]:
        """Return the joints (N, 17, 3) m of people of a stature (N,) m, or of one for all."""
        return self.points * np.broadcast_to(np.asarray(stature, np.float32), len(self.points))[:, None, None]

    def spread(self, stature: NDArray, sigma: NDArray, trust: float) -> NDArray[np.float64]:
        """Return the covariance (N, 17, 3, 3) m^2 for statures (N,) m with standard deviations (N,) m."""
        size, points = np.asarray(stature)[:, None, None, None], self.metres(stature).astype(np.float64)
        share = np.square(np.asarray(sigma) / np.asarray(stature))[:, None, None, None]
        return size**2 * trust**2 * self.covariance + share * points[..., :, None] * points[..., None, :]


@torch.no_grad()
def unlifted(network: WindowLifter, site: SiteRecording) -> Unlifted:
    """Return what a network says of samples."""
    network.eval()
    one_size, parts = torch.tensor([[1.0, 0.0]]), []
    for start in range(0, len(site), _BATCH):
        one = slice(start, start + _BATCH)
        count = len(site.age[one])
        relative, root, covariance = network(*(torch.from_numpy(array[one]) for array in (
            site.rays, site.confidence, site.age, site.up, site.landmarks)), one_size.expand(count, 2))
        parts.append(((root[:, None] + relative).numpy(), (covariance / network.trust.square()).numpy()))
    points, covariance_ = (np.concatenate(part) for part in zip(*parts))
    return Unlifted(points, covariance_)


def between(site: SiteRecording) -> NDArray[np.float32]:
    """Return the transforms (N, V, 4, 4) from each sample's own camera into every camera."""
    own = site.poses[np.arange(len(site)), site.camera]
    return (site.poses @ np.linalg.inv(own)[:, None]).astype(np.float32)


def in_views(joints: NDArray, others_T_own: NDArray) -> NDArray:  # noqa: N803 (a_T_b: maps b to a)
    """Return joints (N, J, 3) of a sample's camera as all cameras (N, V, 4, 4) have them, (N, V, J, 3)."""
    return np.asarray(np.einsum('nvij,nkj->nvki', others_T_own[..., :3, :3], joints)
                      + others_T_own[..., None, :3, 3])


def offsets(joints: NDArray, site: SiteRecording) -> NDArray:
    """Return how far joints (N, 17, 3) m are from what each other camera saw, (N, V, 13, 2) of rays; NaN: not seen."""
    local = in_views((input_points() @ joints).astype(np.float32), between(site))
    off = local[..., :2] / np.maximum(local[..., 2:], NEAREST_M) - site.seen_rays
    return np.where(site.across()[..., None], off, np.nan)


def pixels_off(joints: NDArray, site: SiteRecording) -> NDArray[np.float64]:
    """Return the distances (N, V, 13) in pixels of the other cameras, NaN where these saw nothing."""
    return np.asarray(np.linalg.norm(offsets(joints, site), axis=-1) * site.focal[:, None], dtype=np.float64)


def robust(local: Tensor, rays: Tensor, sigma: Tensor) -> Tensor:
    """Return the robust distance (..., J) of joints (..., J, 3) m in a camera from rays (..., J, 2) it saw.

    In units of the standard deviation: that of the detector, sigma (..., J) of rays, and what two cameras mean by a
    joint, LANDMARK_M. Squared near 0, linear beyond HUBER.
    """
    depth = local[..., 2:].clamp(min=NEAREST_M)
    variance = sigma.square() + (LANDMARK_M / depth[..., 0].detach()).square()
    squared = (local[..., :2] / depth - rays).square().sum(dim=-1) / variance
    return HUBER * ((HUBER**2 + squared).sqrt() - HUBER)


def crossview_loss(joints: Tensor, batch: dict[str, Tensor], own: float) -> Tensor:
    """Return the mean robust distance of joints (B, 17, 3) m from what all cameras saw, weighted by confidence.

    batch: input_points (13, 17), others_T_own (B, V, 4, 4), seen_rays (B, V, 13, 2), seen_sigma (B, V, 13), weight
    (B, V, 13), is_own (B, V, 1). own: what the sample's own camera counts against the others.
    """
    points = batch['input_points'] @ joints
    turn, shift = batch['others_T_own'][..., :3, :3], batch['others_T_own'][..., None, :3, 3]
    local = points[:, None] @ turn.transpose(2, 3) + shift
    weight = batch['weight'] * (1 + (own - 1) * batch['is_own'])
    off = robust(local, batch['seen_rays'], batch['seen_sigma'])
    return (weight * off).sum() / weight.sum().clamp(min=1e-6)


def coverage(said: Unlifted, site: SiteRecording, stature: NDArray, sigma: NDArray, trust: float) -> float:
    """Return the share of the 90 % ellipses, projected into other cameras, that hold what was detected there.

    stature, sigma (N,) m: of the people, and how sure of it one is.
    """
    joints, spread = said.metres(stature), said.spread(stature, sigma, trust)[:, _LIMBS]
    move = between(site)
    local = in_views(joints[:, _LIMBS], move)
    depth = np.maximum(local[..., 2], NEAREST_M)
    along = np.zeros((*local.shape[:-1], 2, 3))
    along[..., 0, 0] = along[..., 1, 1] = 1 / depth
    along[..., 2] = -local[..., :2] / depth[..., None]**2
    along = along @ move[:, :, None, :3, :3].astype(np.float64)
    own = site.seen_sigma[..., :12].astype(np.float64)**2 + (LANDMARK_M / depth)**2
    total = along @ spread[:, None] @ along.swapaxes(-1, -2) + own[..., None, None] * np.eye(2)
    off = offsets(joints, site)[..., :12, :].astype(np.float64)
    a, b, c = total[..., 0, 0], total[..., 0, 1], total[..., 1, 1]
    squared = (c * off[..., 0]**2 - 2 * b * off[..., 0] * off[..., 1] + a * off[..., 1]**2) / (a * c - b * b)
    known = squared[np.isfinite(squared)]
    return float((known <= CHI2_2).mean()) if known.size else float('nan')


# Where the limbs, the first 12 input joints, are among the output joints.
_LIMBS = input_points()[:12].argmax(axis=1)
