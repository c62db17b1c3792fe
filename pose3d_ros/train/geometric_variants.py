"""What the geometry-driven lifter is trained as: the rows of the paper's tables.

The self-supervised ones are trained here, from a Recording alone; no module that knows 3D poses is imported. The two
that need 3D poses are train/geometric_labels.py's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pose3d_ros.train.geometric import GeometricSettings, train
from pose3d_ros.train.loop import Run
from pose3d_ros.train.recording import Recording
from pose3d_ros.train.views import with_estimated_extrinsics, with_virtual_views

VIRTUAL_VIEWS = 8   # more than the real ones, as in the paper: from 4 to 12
VIEWS_SEED = 1      # of virtual views, and of the joints that extrinsics are estimated from


def _virtual(recording: Recording) -> Recording:
    return with_virtual_views(recording, VIRTUAL_VIEWS, np.random.default_rng(VIEWS_SEED))


def _estimated(recording: Recording) -> Recording:
    return with_estimated_extrinsics(recording, np.random.default_rng(VIEWS_SEED))


@dataclass(frozen=True)
class Variant:
    """One way to train. changes: of GeometricSettings; prepare: what is made of the recording first.

    needs: what 3D poses it is told besides, '' for none, 'prior' (anybody's) or 'truth' (the recording's own).
    """

    purpose: str
    changes: dict[str, Any] = field(default_factory=dict)
    prepare: Callable[[Recording], Recording] | None = None
    needs: str = ''


VARIANTS = {
    'reprojection_only': Variant('equation 2 alone', {'transform': 0.0}),
    'adversarial': Variant('equation 2 and a critic that knows 3D poses of others', {'transform': 0.0}, needs='prior'),
    'transform': Variant('the method: equation 7'),
    'augmented': Variant(f'equation 7 with {VIRTUAL_VIEWS} virtual cameras more', {'virtual': VIRTUAL_VIEWS}, _virtual),
    'supervised': Variant('the same network trained with labels, for comparison', needs='truth'),
    'no_pretraining': Variant('equation 7 without equation 6 before it', {'pretrain': 0.0}),
    'no_confidence': Variant('equation 7 without confidence weights', {'confidence': False}),
    'estimated': Variant('equation 7, cameras placed by the people they see', prepare=_estimated),
    'pelvis': Variant("equation 7 with the paper's position branch", {'middle': False}),
}


def settings_of(name: str, settings: GeometricSettings) -> GeometricSettings:
    """Return the settings of a variant."""
    return replace(settings, variant=name, **VARIANTS[name].changes)


def train_self_supervised(name: str, recording: Recording, validation: Recording, out: Path,
                          settings: GeometricSettings, minutes: float = math.inf, command: str = '',
                          quiet: bool = False) -> Run:
    """Train a variant that needs no 3D poses in `out`; see train in train/geometric.py.

    Raises what that raises, and RecordingError where a recording is not fit for a variant.
    """
    variant = VARIANTS[name]
    if variant.needs:
        raise ValueError(f'{name} needs 3D poses ({variant.needs}): train/geometric_labels.py')
    prepared = variant.prepare(recording) if variant.prepare else recording
    return train(prepared, validation, out, settings_of(name, settings), minutes, command, quiet)
