"""Training of the parts network (nets/parts.py): the rows of the paper's ablation, and the one that robots run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pose3d_ros.attributes import ATTRIBUTE_JOINTS, relative_distances
from pose3d_ros.lift import INPUTS
from pose3d_ros.nets.parts import CLASSES, PartsNet
from pose3d_ros.nets.window import TOLD
from pose3d_ros.skeleton import DOF_GROUPS, HUMAN17
from pose3d_ros.train.attribute_errors import (
    PAPER_ACCURACY,
    AttributeErrors,
    knowable,
    load_attribute_errors,
    simulated,
)
from pose3d_ros.train.loop import CheckpointError, LoopSettings, Run, fit, read_checkpoint
from pose3d_ros.train.parts_data import People
from pose3d_ros.train.samples import Samples

FEATURES = 3 * len(INPUTS) + TOLD
VALIDATION_SEED = 1000
LEARNING_RATE = 3e-3
SQUARED = 10.0  # of a squared error in statures, so that its gradients are about as large
ALONG = 4096  # people predicted at a time


@dataclass(frozen=True)
class Row:
    """One row of the ablation: a variant of the network, and what it is told of attributes.

    evidence: '' for nothing, 'published' for classes that are right as often as the paper's image network, 'detector'
    for what relative depth of a detector amounts to. unknown: share of people of whom nothing is told, as before a
    detector without depth. squared: whether squared errors are minimised, as by Martinez et al., instead of equation 6.
    refines: whether it begins with the pose of a window lifter.
    """

    purpose: str
    variant: str
    evidence: str = ''
    unknown: float = 0.0
    squared: bool = False
    refines: bool = False


DEPLOYED = 'refined'
ROWS = {
    'plain': Row('residual network of Martinez et al. 2017, with their loss', 'plain', squared=True),
    'plain_l1': Row('the same with the loss of the others', 'plain'),
    'baseline': Row('a module per group, no dependence: equation 7', 'baseline'),
    'progressive': Row('equations 4 and 5', 'progressive'),
    'attributes': Row("equations 4 and 5, attributes as often right as the paper's", 'attributes', 'published'),
    'attributes_detector': Row('equations 4 and 5, attributes from relative depth', 'attributes', 'detector', 0.15),
    DEPLOYED: Row('the same, beginning with the pose of the lifter that ships', 'attributes', 'detector', 0.15,
                  refines=True),
}


@dataclass(frozen=True)
class PartsSettings:
    """The network and its steps. lifter: fingerprint of the lifter whose pose is refined, '' for none."""

    width: int = 192
    dropout: float = 0.0
    batch: int = 256
    lifter: str = ''


def make_network(row: Row, settings: PartsSettings) -> PartsNet:
    """Return a network for the package's joints, freshly initialised."""
    groups = [[HUMAN17.index(joint) for joint in group if joint != HUMAN17.joints[0]] for group in DOF_GROUPS]
    return PartsNet(row.variant, groups, FEATURES, len(ATTRIBUTE_JOINTS), settings.width, settings.dropout, row.refines)


def batches(people: People, row: Row, settings: PartsSettings,
            rng: np.random.Generator) -> Iterator[dict[str, NDArray]]:
    """Yield batches for ever. The order of the people is that of the seed alone, alike for all rows."""
    order, chance = (np.random.default_rng(seed) for seed in rng.integers(2**62, size=2))
    while True:
        chosen = order.integers(len(people), size=settings.batch)
        batch = {'features': people.features[chosen], 'pose': people.pose[chosen]}
        if row.refines:
            batch['start'] = people.start[chosen]
        if row.evidence:
            batch['attributes'] = evidence(row.evidence, people.distances[chosen],
                                           people.confidence[chosen], chance, row.unknown)
        yield batch


def evidence(kind: str, distances: NDArray, confidence: NDArray, rng: np.random.Generator,
             unknown: float = 0.0) -> NDArray[np.float32]:
    """Return probabilities (N, 9, 3) of front, back, on-plane as a source of attributes might give them.

    kind: of Row.evidence; distances (N, 9): the true ones, in trunk lengths; confidence (N, 13) of the input joints:
    what is hidden has no attributes; unknown: share of people of whom nothing is told. Raises ErrorModelError.
    """
    source = PAPER_ACCURACY if kind == 'published' else _detector()
    told = simulated(distances, source, rng) * knowable(confidence)[..., None]
    return np.asarray(told * (rng.random((len(distances), 1, 1)) >= unknown), dtype=np.float32)


@lru_cache(maxsize=1)
def _detector() -> AttributeErrors:
    return load_attribute_errors()


def evidence_of(row: Row, people: People, seed: int) -> NDArray[np.float32] | None:
    """Return the attributes (N, 9, 3) that a row is measured with, or None for a row without."""
    if not row.evidence:
        return None
    return evidence(row.evidence, people.distances, people.confidence, np.random.default_rng(seed))


def loss(network: PartsNet, batch: dict[str, Tensor], squared: bool = False) -> Tensor:
    """Return equation 6: the mean absolute error of both blocks, added; or the same of squared errors."""
    errors = [(pose - batch['pose'])[:, 1:] for pose in network(
        batch['features'], batch.get('attributes'), batch.get('start'))]
    return torch.stack([(SQUARED * error.square() if squared else error.abs()).mean() for error in errors]).sum()


@torch.no_grad()
def predict(network: PartsNet, people: People, attributes: NDArray | None = None) -> NDArray[np.float32]:
    """Return joints (N, 17, 3) m against the pelvis; attributes (N, 9, 3), or None where they are unknown."""
    network.eval()
    found = []
    for start in range(0, len(people), ALONG):
        part = slice(start, start + ALONG)
        told = None if attributes is None else torch.from_numpy(attributes[part])
        begin = torch.from_numpy(people.start[part]) if network.refines else None
        found.append(network(torch.from_numpy(people.features[part]), told, begin)[-1].numpy())
    return np.concatenate(found) * people.stature[:, None, None]


def sample_evidence(name: str, samples: Samples, seed: int) -> NDArray[np.float32]:
    """Return the attributes (N, 9, 3) that samples of the lifter come with for a row, zeros for a row without."""
    row = ROWS[name]
    if not row.evidence:
        return np.zeros((len(samples), len(ATTRIBUTE_JOINTS), CLASSES), dtype=np.float32)
    return evidence(row.evidence, relative_distances(samples.points), samples.confidence[:, 0],
                    np.random.default_rng(seed))


def folder(name: str, seed: int) -> str:
    """Return the name of the folder that a training is in."""
    return f'{name}-{seed}'


def joint_errors(network: PartsNet, people: People, attributes: NDArray | None = None) -> NDArray[np.float64]:
    """Return the error (N, 17) m of each joint with the pelvis at the origin and the statures known."""
    truth = people.pose * people.stature[:, None, None]
    return np.asarray(np.linalg.norm(predict(network, people, attributes) - truth, axis=2), dtype=np.float64)


def start_errors(people: People) -> NDArray[np.float64]:
    """Return the same of the poses that people start from."""
    off = (people.start - people.pose) * people.stature[:, None, None]
    return np.asarray(np.linalg.norm(off, axis=2), dtype=np.float64)


def validate(network: PartsNet, people: People, attributes: NDArray | None) -> dict[str, float]:
    """Return MPJPE in mm of everybody, and of those in view whole."""
    errors = 1000 * joint_errors(network, people, attributes).mean(axis=1)
    return {'mpjpe_mm': float(errors.mean()), 'whole_mpjpe_mm': float(errors[people.whole].mean())}


def train(name: str, people: People, validation: People, out: Path, settings: PartsSettings, loop: LoopSettings,
          minutes: float = float('inf'), command: str = '', quiet: bool = False) -> Run:
    """Train a row in `out`: continue from its checkpoint if there is one, stop after the steps or minutes."""
    row = ROWS[name]
    torch.manual_seed(loop.seed)
    told = evidence_of(row, validation, VALIDATION_SEED)
    identity = {'network': 'parts', 'row': name, 'width': settings.width, 'dropout': settings.dropout,
                'batch': settings.batch, 'lifter': settings.lifter}
    run = Run(make_network(row, settings), loop, identity, command)
    return fit(run, lambda network, batch: loss(cast(PartsNet, network), batch, row.squared),
               lambda rng: batches(people, row, settings, rng),
               lambda network: validate(cast(PartsNet, network), validation, told), out, minutes, quiet)


def load_trained(path: Path) -> tuple[PartsNet, dict[str, Any]]:
    """Return the trained network of a checkpoint, and its identity, steps and command. Raises CheckpointError."""
    state = read_checkpoint(path)
    try:
        told = state['identity']
        settings = PartsSettings(width=told['width'], dropout=told['dropout'], batch=told['batch'])
        network = make_network(ROWS[told['row']], settings)
        network.load_state_dict(state['result'])
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f'{path} is not a checkpoint of the parts network ({error})') from error
    return network.eval(), {**told, 'steps': state['step'], 'command': str(state['command'])}
