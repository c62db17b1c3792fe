"""Pictures of people whose joints are known: as many as wanted, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.train.body import PELVIS
from pose3d_ros.train.mocap import Mocap
from pose3d_ros.train.render.cast import NOTHING, Hits, cast
from pose3d_ros.train.render.clutter import backdrops, occluders, photograph
from pose3d_ros.train.render.figures import figures_of
from pose3d_ros.train.render.looks import Looks, draw_looks
from pose3d_ros.train.render.paint import paint
from pose3d_ros.train.render.places import street_ground, street_light, studio_light, studio_room
from pose3d_ros.train.render.shots import DOMAINS, STUDIO, Shots, shoot

SUPERSAMPLING = 2      # rays per pixel and axis
BATCH = 32             # pictures made together; part of what a seed means
SMALLEST, LARGEST = 16, 512     # px
_SELF = 0.16           # m: what is so much nearer than a joint is not the flesh around it


@dataclass(frozen=True)
class Pictures:
    """N square pictures of one person each.

    images (N, S, S, 3) uint8 RGB; joints2d (N, 17, 2) px of HUMAN17, (0, 0) the middle of the first pixel; visible
    (N, 17): inside the picture; hidden (N, 17): inside, but behind something else, of the person's own or not; joints3d
    (N, 17, 3) m in the camera's optical frame (x right, y down, z forward), from the pelvis; pelvis (N, 3) m there;
    camera (N, 3, 3): matrices K of the crops; frame (N,): which of the motion capture.
    """

    images: NDArray[np.uint8]
    joints2d: NDArray[np.float32]
    visible: NDArray[np.bool_]
    hidden: NDArray[np.bool_]
    joints3d: NDArray[np.float32]
    pelvis: NDArray[np.float32]
    camera: NDArray[np.float32]
    frame: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.images)


def render_people(mocap: Mocap, domain: str, count: int, size: int, seed: int,
                  watch: Callable[[Iterator[Pictures], int], Iterator[Pictures]] | None = None) -> Pictures:
    """Return count pictures of size px a side of people of motion capture, seen in a domain.

    The first pictures of a longer set are those of a shorter one. watch: gets the batches and how many there are, and
    passes them on (a progress bar). Raises ValueError.
    """
    if domain not in DOMAINS:
        raise ValueError(f'domain {domain!r}, expected one of {", ".join(DOMAINS)}')
    if count < 1 or not SMALLEST <= size <= LARGEST:
        raise ValueError(f'{count} pictures of {size} px; 1 at least, of {SMALLEST} to {LARGEST} px')
    batches = -(-count // BATCH)
    weights = mocap.frame_weights()
    made = (_batch(mocap, weights, domain, size, np.random.default_rng([seed, DOMAINS.index(domain), number]))
            for number in range(batches))
    parts = list(watch(made, batches) if watch else made)
    return Pictures(*(np.concatenate([getattr(part, field.name) for part in parts])[:count]
                      for field in fields(Pictures)))


def _batch(mocap: Mocap, weights: NDArray, domain: str, size: int, rng: np.random.Generator) -> Pictures:
    frames, others = rng.choice(len(mocap), size=(2, BATCH), p=weights)
    shots = shoot(mocap, frames, others, domain, size, rng)
    looks = draw_looks(BATCH, domain, rng)
    images, hidden = photograph_people(shots, looks, domain, rng)
    pelvis = shots.points[:, PELVIS]
    return Pictures(images, shots.joints2d, shots.inside, hidden & shots.inside, shots.points - pelvis[:, None],
                    pelvis, shots.matrix, frames)


def photograph_people(shots: Shots, looks: Looks, domain: str,
                      rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return pictures (B, S, S, 3) uint8 RGB of people with some looks in a domain, and hidden (B, 17) joints."""
    size = shots.size
    light = studio_light(shots, rng) if domain == STUDIO else street_light(shots, rng)
    if domain == STUDIO:
        behind = studio_room(shots, light)
    else:
        behind = street_ground(shots, light, backdrops(len(shots), size, rng), rng)
    hits = cast((figures := figures_of(shots.points, looks)).solids, shots, SUPERSAMPLING * size)
    pixels, colours = paint(hits, figures, looks, light, shots)
    pictures = _over(behind, hits, pixels, colours, size)
    hidden = _behind_others(hits, shots)
    if domain == STUDIO:
        noisy = pictures + 0.008 * rng.standard_normal(pictures.shape, dtype=np.float32)
        return np.clip(255 * noisy + 0.5, 0, 255).astype(np.uint8), hidden
    before, covered = occluders(len(shots), size, shots.joints2d, rng)
    hidden |= _at(covered[..., 0], shots) > 0.5
    return photograph(pictures + covered * (before - pictures), rng), hidden


def _over(behind: NDArray, hits: Hits, pixels: NDArray, colours: NDArray, size: int) -> NDArray[np.float32]:
    """Return pictures (B, size, size, 3): behind, and over it the colours (N, 3) of the finer pixels of hits."""
    fine = hits.part.shape[1]
    image, within = np.divmod(pixels, fine * fine)
    row, column = np.divmod(within, fine)
    coarse = (image * size + row // SUPERSAMPLING) * size + column // SUPERSAMPLING
    share = 1 / SUPERSAMPLING**2
    covered = share * np.bincount(coarse, minlength=behind.shape[0] * size * size).astype(np.float32)
    body = np.stack([np.bincount(coarse, weights=np.minimum(colours[:, channel], 1.2), minlength=len(covered))
                     for channel in range(3)], axis=-1).astype(np.float32) * share
    return (behind.reshape(-1, 3) * (1 - covered)[:, None] + body).reshape(behind.shape)


def _at(values: NDArray, shots: Shots) -> NDArray:
    """Return what pictures (B, F, F) hold at the joints (B, 17), or at the nearest border."""
    fine = values.shape[1]
    place = ((shots.joints2d + 0.5) * (fine / shots.size)).astype(np.intp)
    column, row = np.moveaxis(np.clip(place, 0, fine - 1), -1, 0)
    return values[np.arange(len(values))[:, None], row, column]


def _behind_others(hits: Hits, shots: Shots) -> NDArray[np.bool_]:
    """Return which joints (B, 17) the person's own body hides."""
    seen = _at(hits.part, shots) != NOTHING
    return seen & (_at(hits.depth, shots) < shots.points[..., 2] - _SELF)
