"""What people look like: build, hair, clothes, colours, at random; a few outfits in the studio, any in the street."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.train.render.shots import STUDIO

MATERIALS = ('skin', 'hair', 'top', 'bottom', 'shoe', 'hat', 'bag', 'trim', 'dark', 'lip')
SKIN, HAIR, TOP, BOTTOM, SHOE, HAT, BAG, TRIM, DARK, LIP = range(len(MATERIALS))
PLAIN, ACROSS, ALONG, CHECKS, SPOTS, BLOTCHES = range(6)      # patterns of cloth
NO_FRONT, BUTTONS, PRINT, TIE, OPEN = range(5)                # what is on the chest, and not on the back

_SKINS = np.array([[0.95, 0.80, 0.70], [0.88, 0.68, 0.55], [0.78, 0.57, 0.43], [0.62, 0.43, 0.31], [0.45, 0.30, 0.21],
                   [0.30, 0.20, 0.15]])
_HAIRS = np.array([[0.06, 0.05, 0.05], [0.17, 0.10, 0.06], [0.33, 0.20, 0.11], [0.55, 0.40, 0.22], [0.78, 0.65, 0.42],
                   [0.55, 0.24, 0.12], [0.62, 0.61, 0.60]])
# The wardrobe of the studio: top, bottom, shoe, trim; sleeves, legs, neckline (m), chest.
_OUTFITS = (
    ((0.12, 0.16, 0.35), (0.20, 0.22, 0.28), (0.10, 0.10, 0.10), (0.85, 0.85, 0.85), 0.6, 2.0, 0.05, PRINT),
    ((0.72, 0.72, 0.70), (0.16, 0.20, 0.33), (0.85, 0.85, 0.85), (0.30, 0.30, 0.32), 0.6, 2.0, 0.05, NO_FRONT),
    ((0.45, 0.10, 0.12), (0.10, 0.10, 0.11), (0.25, 0.18, 0.12), (0.90, 0.88, 0.80), 2.0, 2.0, 0.09, BUTTONS),
    ((0.22, 0.42, 0.30), (0.40, 0.36, 0.28), (0.85, 0.85, 0.85), (0.10, 0.20, 0.14), 0.6, 0.9, 0.06, NO_FRONT),
    ((0.10, 0.10, 0.10), (0.32, 0.36, 0.42), (0.12, 0.12, 0.12), (0.65, 0.60, 0.20), 1.6, 2.0, 0.11, PRINT),
)


@dataclass(frozen=True)
class Looks:
    """B people's looks.

    colour, second (B, M, 3) 0..1 RGB of MATERIALS and of the pattern on them; pattern (B, M) and period (B, M) m of it;
    phase (B, M, 2) rad. girth (B,): factor on all radii. sleeve, leg (B,): covered part of the limb, 1 to elbow or
    knee, 2 to the end. neckline (B,) m below the neck's base. chest (B,): what is on it; number (B,): a print on the
    back. hair (B,): thickness, 0 bald; tail (B,) m of hair down the neck; bust, belly (B,) m of radius; hat, bag (B,).
    gaze (B,) rad: head turned to the left.
    """

    colour: NDArray[np.float32]
    second: NDArray[np.float32]
    pattern: NDArray[np.intp]
    period: NDArray[np.float32]
    phase: NDArray[np.float32]
    girth: NDArray[np.float32]
    sleeve: NDArray[np.float32]
    leg: NDArray[np.float32]
    neckline: NDArray[np.float32]
    chest: NDArray[np.intp]
    number: NDArray[np.bool_]
    hair: NDArray[np.float32]
    tail: NDArray[np.float32]
    bust: NDArray[np.float32]
    belly: NDArray[np.float32]
    hat: NDArray[np.bool_]
    bag: NDArray[np.bool_]
    gaze: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.girth)

    def where(self, chosen: NDArray) -> Looks:
        """Return the looks of some people, by index or by choice."""
        return Looks(*(getattr(self, part.name)[chosen] for part in fields(self)))


def draw_looks(count: int, domain: str, rng: np.random.Generator) -> Looks:
    """Return the looks of so many people who are seen in a domain."""
    return _in_studio(count, rng) if domain == STUDIO else _in_street(count, rng)


def _in_studio(count: int, rng: np.random.Generator) -> Looks:
    materials = len(MATERIALS)
    outfit = rng.integers(len(_OUTFITS), size=count)
    columns = [np.array([clothes[part] for clothes in _OUTFITS])[outfit] for part in range(8)]
    top, bottom, shoe, trim, sleeve, leg, neckline, chest = columns
    colour = _colours(count, rng, skins=_SKINS[:3], hairs=_HAIRS[:3])
    for material, values in ((TOP, top), (BOTTOM, bottom), (SHOE, shoe), (TRIM, trim)):
        colour[:, material] = values
    none = np.zeros(count, dtype=np.float32)
    return Looks(
        colour=colour, second=colour, pattern=np.zeros((count, materials), dtype=np.intp),
        period=np.ones((count, materials), np.float32), phase=np.zeros((count, materials, 2), np.float32),
        girth=_uniform(rng, count, 0.95, 1.08), sleeve=_float(sleeve), leg=_float(leg), neckline=_float(neckline),
        chest=chest, number=none > 0, hair=none + 1, tail=none, bust=none, belly=none, hat=none > 0, bag=none > 0,
        gaze=_float(rng.normal(0, 0.2, count)))


def _in_street(count: int, rng: np.random.Generator) -> Looks:
    def chance(share: float) -> NDArray[np.bool_]:
        return rng.random(count) < share

    def where(share: float, low: float, high: float, otherwise: float = 0.0) -> NDArray[np.float32]:
        return np.where(chance(share), _uniform(rng, count, low, high), np.float32(otherwise))

    materials = len(MATERIALS)
    colour = _colours(count, rng, skins=_SKINS, hairs=_HAIRS)
    second = _cloth_colours(rng, (count, materials))
    pattern = np.zeros((count, materials), dtype=np.intp)
    for material, plain in ((TOP, 0.4), (BOTTOM, 0.7), (BAG, 0.5), (HAT, 0.6)):
        pattern[:, material] = np.where(chance(plain), PLAIN, rng.integers(1, 6, size=count))
    long_sleeves = chance(0.45)
    trousers = chance(0.65)
    female = chance(0.5)
    return Looks(
        colour=colour, second=second, pattern=pattern, period=_uniform(rng, (count, materials), 0.05, 0.22),
        phase=_uniform(rng, (count, materials, 2), 0, 2 * np.pi), girth=_uniform(rng, count, 0.85, 1.25),
        sleeve=np.where(long_sleeves, _uniform(rng, count, 1.6, 2.0), _uniform(rng, count, 0.05, 1.1)),
        leg=np.where(trousers, _uniform(rng, count, 1.7, 2.0), _uniform(rng, count, 0.2, 1.2)),
        neckline=_uniform(rng, count, 0.02, 0.16), chest=rng.integers(5, size=count), number=chance(0.1),
        hair=where(0.88, 0.95, 1.15), tail=np.where(female & chance(0.7), _uniform(rng, count, 0.05, 0.3), 0),
        bust=np.where(female, _uniform(rng, count, 0.05, 0.08), 0).astype(np.float32), belly=where(0.3, 0.09, 0.14),
        hat=chance(0.2), bag=chance(0.12), gaze=_float(rng.normal(0, 0.35, count)))


def _colours(count: int, rng: np.random.Generator, skins: NDArray, hairs: NDArray) -> NDArray[np.float32]:
    """Return random colours (count, M, 3) of all materials, skin and hair between those given."""
    colour = _cloth_colours(rng, (count, len(MATERIALS)))
    for material, known in ((SKIN, skins), (HAIR, hairs)):
        at = rng.uniform(0, len(known) - 1, count)
        low = np.minimum(at.astype(np.intp), len(known) - 2)
        share = (at - low)[:, None]
        colour[:, material] = (1 - share) * known[low] + share * known[low + 1]
    colour[:, DARK] = 0.08
    colour[:, LIP] = colour[:, SKIN] * [0.75, 0.45, 0.45]
    return colour


def _cloth_colours(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return colours (*shape, 3) of cloth: a third grey, black or white, the others of any hue."""
    hue, saturation, value, grey = rng.random((4, *shape))
    saturation = np.where(grey < 0.35, 0.1, 0.2 + 0.7 * saturation) * saturation
    value = 0.10 + 0.85 * value
    colours = [colorsys.hsv_to_rgb(*hsv) for hsv in zip(hue.ravel(), saturation.ravel(), value.ravel())]
    return np.array(colours, dtype=np.float32).reshape(*shape, 3)


def _uniform(rng: np.random.Generator, shape: int | tuple[int, ...], low: float, high: float) -> NDArray[np.float32]:
    return _float(rng.uniform(low, high, shape))


def _float(values: NDArray) -> NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)
