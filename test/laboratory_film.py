"""A short film of people made by formulas, in a laboratory of four cameras."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from procedural import write_mocap

from pose3d_ros.train.error_fit import FittedErrors
from pose3d_ros.train.filming import Film, make_film
from pose3d_ros.train.mocap import Mocap, load_mocap
from pose3d_ros.train.recording import Recording


def walk(folder: Path, frames: int = 30) -> Mocap:
    """Return one clip of somebody who walks on the spot."""
    return load_mocap([write_mocap(folder / 'walk.npz', frames)], 'train')


def film(mocap: Mocap, errors: FittedErrors | None = None, seed: int = 0,
         **changes: object) -> tuple[Recording, np.ndarray]:
    """Return a recording and its truth (F, 17, 3) m."""
    setting = replace(Film(takes=2), **changes)  # type: ignore[arg-type]
    return make_film(mocap, setting, errors, np.random.default_rng(seed))
