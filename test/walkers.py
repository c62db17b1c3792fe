"""People for the tests of lifting: walkers, and people of whom a part is hidden."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from synthetic import body, placed

from pose3d_ros.records import Person2D


def standing(z: float, heading: float = 0.0, x: float = 0.0, phase: float = 0.6, height: float = 1.2) -> NDArray:
    return placed(body(phase), x, z, heading, height)


def hide(person: Person2D, *parts: str) -> Person2D:
    """Return the person with the joints NaN whose names contain one of parts."""
    gone = np.array([any(part in joint for part in parts) for joint in person.skeleton.joints])
    fields = {name: np.where(gone[:, None] if getattr(person, name).ndim == 2 else gone, np.nan, getattr(person, name))
              for name in ('pixels', 'rays', 'sigma', 'joint_confidence', 'depth')}
    return replace(person, **fields)
