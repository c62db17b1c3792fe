"""Training of the multi-task image network (Wang et al. 2019, section 3.1): equations 1 to 3, in mixed batches.

Two sets of images: one with 3D joints (so with pose attributes), one of another domain with 2D joints alone. Three ways
to train, the rows of the paper's table 4:
- `source_only`: on the first set; the second is not even handed in;
- `mixed`: half of every batch is of the second set, whose 2D joints count in equation 1;
- `adapted`: besides, a classifier tells the domains apart by the features that the attributes are told from, and its
  gradient is reversed (equation 3).
Steps two and three of the training, with the 3D network, are train/multitask_joined.py's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pose3d_ros.attributes import ATTRIBUTE_JOINTS, UNKNOWN, attributes
from pose3d_ros.nets.hourglass import Answers, MultiTaskNet, ganin, heat_targets
from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.image_sets import ImageSet, ImageSetError
from pose3d_ros.train.loop import CheckpointError, LoopSettings, Run, fit, read_checkpoint
from pose3d_ros.train.multitask_augment import ONLY_2D, WITH_3D, vary

STRATEGIES = ('source_only', 'mixed', 'adapted')
FIRST, SECOND = 0, 1     # the domain with 3D joints, the one without

Watch = Callable[[MultiTaskNet], dict[str, float]]


@dataclass(frozen=True)
class MultiTaskSettings:
    """The network and its training.

    size px, stacks, features: see nets/hourglass.py. heat, attribute, domain: factors of equations 1, 2 and 3;
    reversal: of Ganin's schedule. The paper: 256 px, 256 features, batches of 12, 60 epochs at 5e-4.
    """

    strategy: str = 'adapted'
    size: int = 64
    stacks: int = 2
    features: int = 32
    batch: int = 32
    heat: float = 100.0              # a hill fills one cell in eighty: so that equation 1 is of the order of 1
    attribute: float = 1.0
    domain: float = 1.0
    reversal: float = 0.3
    loop: LoopSettings = LoopSettings(steps=4000, optimiser='rmsprop', learning_rate=3e-3, warm_up=100,
                                      schedule='cosine', weight_decay=0.0, average=0.99, validate_every=500)


def make_network(settings: MultiTaskSettings) -> MultiTaskNet:
    """Return the network, freshly initialised."""
    network = MultiTaskNet(len(HUMAN17), len(ATTRIBUTE_JOINTS), settings.size, settings.stacks, settings.features)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # half as fast without


def heat_loss(heatmaps: Tensor, joints2d: Tensor) -> Tensor:
    """Return equation 1, the sum over stacks: the mean squared error of heat maps (S, N, J, h, w), over known joints.

    joints2d (N, J, 2) px, NaN where not labelled; what lies outside the image does not count either.
    """
    target, known = heat_targets(joints2d, heatmaps.shape[-1])
    error = (heatmaps - target).square().mean(dim=(3, 4)) * known
    return error.sum() / known.sum().clamp(min=1)


def attribute_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return equation 2 for logits (N, 9, 3): the mean cross-entropy over the attributes that are known.

    labels (N, 9): class, or -1 where it is not known.
    """
    losses = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=UNKNOWN, reduction='sum')
    return losses / (labels != UNKNOWN).sum().clamp(min=1)


def domain_loss(logits: Tensor, domain: Tensor) -> Tensor:
    """Return equation 3 for logits (N, 2) of images of domain (N,)."""
    return functional.cross_entropy(logits, domain)


class MultiTaskLoss:
    """The loss of a step. run: tells which step it is, and so the strength of the reversal."""

    def __init__(self, settings: MultiTaskSettings, run: Run) -> None:
        self.settings, self.run = settings, run

    @property
    def reversal(self) -> float:
        """Lambda now: Ganin's schedule over the steps; 0 but for `adapted`, where the classifier only looks on."""
        if self.settings.strategy != 'adapted':
            return 0.0
        return ganin(self.run.step / self.settings.loop.steps, self.settings.reversal)

    def __call__(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return self.value(network(as_input(batch['images']), self.reversal), batch)

    def value(self, answers: Answers, batch: dict[str, Tensor]) -> Tensor:
        """Return the weighted sum of equations 1 to 3; without a second domain there is nothing to tell apart."""
        total = (self.settings.heat * heat_loss(answers.heatmaps, batch['joints2d'])
                 + self.settings.attribute * attribute_loss(answers.attributes, batch['attributes']))
        if self.settings.strategy != 'source_only':
            total = total + self.settings.domain * domain_loss(answers.domain, batch['domain'])
        return total


def as_input(images: Tensor) -> Tensor:
    """Return what the network takes of images (N, S, S, 3) uint8; the memory stays as it is (channels last)."""
    return images.permute(0, 3, 1, 2).float()


def batches(first: ImageSet, second: ImageSet | None, settings: MultiTaskSettings,
            rng: np.random.Generator) -> Iterator[dict[str, NDArray]]:
    """Yield batches for ever: half of each set, or all of the first.

    images (N, S, S, 3) uint8, joints2d (N, 17, 2) px, attributes (N, 9) with -1 for the second set, domain (N,); and
    for the 3D network index (N,), the image's number in its set, and new_T_old (N, 2, 3), how its px were moved.
    """
    if first.joints3d is None:
        raise ImageSetError(f'{first.domain or "the first set"} has no 3D joints, so no attributes can be learnt of it')
    labels = attributes(first.joints3d)
    share = settings.batch if second is None else settings.batch - settings.batch // 2
    while True:
        chosen = np.sort(rng.integers(len(first), size=share))    # sorted: images may lie in a file
        varied = vary(first.images[chosen], first.joints2d[chosen], WITH_3D, rng)
        parts = [(varied, labels[chosen], chosen)]
        if second is not None:
            chosen = np.sort(rng.integers(len(second), size=settings.batch - share))
            varied = vary(second.images[chosen], second.joints2d[chosen], ONLY_2D, rng)
            parts.append((varied, np.full((len(chosen), len(ATTRIBUTE_JOINTS)), UNKNOWN), chosen))
        yield {'images': np.concatenate([varied.images for varied, _, _ in parts]),
               'joints2d': np.concatenate([varied.joints2d for varied, _, _ in parts]),
               'new_T_old': np.concatenate([varied.new_T_old for varied, _, _ in parts]),
               'attributes': np.concatenate([told for _, told, _ in parts]),
               'index': np.concatenate([index for _, _, index in parts]),
               'domain': np.repeat([FIRST, SECOND][:len(parts)], [len(index) for _, _, index in parts])}


def train(first: ImageSet, second: ImageSet, out: Path, settings: MultiTaskSettings, watch: Watch | None = None,
          minutes: float = math.inf, command: str = '', quiet: bool = False) -> Run:
    """Train in `out`, continuing from its checkpoint; watch: figures for the log, of the network in evaluation mode.

    Of the second set nothing in 3D is read, and with `source_only` nothing at all. Raises CheckpointError,
    TrainingError and ImageSetError.
    """
    if settings.strategy not in STRATEGIES:
        raise ValueError(f'strategy {settings.strategy!r}: expected one of {", ".join(STRATEGIES)}')
    for images in (first, second):
        if images.size != settings.size:
            raise ImageSetError(f'{images.domain or "a set"} has images of {images.size} px, expected {settings.size}')
    seen = None if settings.strategy == 'source_only' else second.without_3d()
    torch.manual_seed(settings.loop.seed)
    run = Run(make_network(settings), settings.loop, identity_of(settings), command)
    return fit(run, MultiTaskLoss(settings, run), lambda rng: batches(first, seen, settings, rng),
               lambda network: watch(network) if watch else {}, out, minutes, quiet)  # type: ignore[arg-type]


def identity_of(settings: MultiTaskSettings) -> dict[str, object]:
    """Return what must be the same to continue a training: all but how it proceeds; its length sets the reversal."""
    return {'network': 'multitask', 'steps': settings.loop.steps,
            **{name: value for name, value in asdict(settings).items() if name != 'loop'}}


def load_trained(path: Path) -> tuple[MultiTaskNet, MultiTaskSettings, str]:
    """Return the network of a checkpoint, its settings and the command that trained it. Raises CheckpointError."""
    state = read_checkpoint(path)
    try:
        settings = settings_of(state['identity'])
        network = make_network(settings)
        network.load_state_dict(state['result'])
        return network.eval(), settings, str(state['command'])
    except (KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f'{path} is not a checkpoint of the image network ({error})') from error


def settings_of(identity: dict[str, object]) -> MultiTaskSettings:
    """Return the settings that an identity was made of."""
    given = {name: identity[name] for name in asdict(MultiTaskSettings()) if name != 'loop'}
    settings = MultiTaskSettings(**given)  # type: ignore[arg-type]
    return replace(settings, loop=replace(settings.loop, steps=int(str(identity['steps'])),
                                          seed=int(str(identity['seed']))))
