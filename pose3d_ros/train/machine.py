"""Training of the 3D Human Pose Machine (nets/machine.py) on joints: the steps of Algorithm 1.

Wang, Lin, Jiang, Qian, Wei: 3D Human Pose Machines with Self-supervised Learning, section 3.4. Step 1, the 2D pose
sub-network, is not trained where the detector is given. Then, one after the other in one run:
- `transformer` (step 2): Psi_T alone, equation 6;
- `projector` (step 3): Psi_C and Psi_P by the true poses in space and in the image, equation 2, Psi_T held;
- `together` (step 4): everything. The projection must agree with what was detected (equation 7), of clips and of people
  of 2D data, whose 3D loss is zero; clips keep the losses in space of equations 6 and 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pose3d_ros.nets.correction import weights
from pose3d_ros.nets.machine import DROPOUT, Machine
from pose3d_ros.train.loop import CheckpointError, LoopSettings, Run, fit, read_checkpoint
from pose3d_ros.train.machine_data import FEATURES, Clips, ClipSettings, Stills, draw_clips, seeing
from pose3d_ros.train.mocap import Mocap

# What is trained: everything; Psi_T alone, as without self-supervised correction; a network that tells the joints in
# the image besides, without projecting; one without memory (section 4.4).
TRAININGS = ('full', 'no_correction', 'no_projection', 'no_temporal')
SQUARED = 10.0        # of a squared error in statures, so that its gradients are about as large as those in the image
BEYOND = 1e-3         # share of the training frames beyond the extremes of the normalisation
FITTED = 512          # clips that the normalisation is taken from
VALIDATION_SEED = 1000


@dataclass(frozen=True)
class MachineSettings:
    """The network and its steps. skip: see nets/machine.py; published: width 1024, no skip, a learning rate of 1e-5.

    batch: clips; stills: people of 2D data in each batch; pool: clips drawn at a time, uses: of each, every time with
    other errors; shares: of the training, for steps 2 and 3.
    """

    training: str = 'full'
    width: int = 256
    dropout: float = DROPOUT
    skip: bool = False
    batch: int = 32
    stills: int = 64
    pool: int = 512
    uses: int = 4
    shares: tuple[float, float] = (0.5, 0.15)


def make_network(settings: MachineSettings) -> Machine:
    """Return the network, freshly initialised. Raises ValueError for another training."""
    if settings.training not in TRAININGS:
        raise ValueError(f'training {settings.training!r}: expected one of {", ".join(TRAININGS)}')
    return Machine(FEATURES, width=settings.width, dropout=settings.dropout,
                   recurrent=settings.training != 'no_temporal', skip=settings.skip,
                   tells=settings.training == 'no_projection')


def canonical(points: Tensor, weight: Tensor) -> Tensor:
    """Return joints in the image (..., J, 2) moved and scaled to mean 0 and variance 1; weight (..., J, 1)."""
    total = weight.sum(dim=-2, keepdim=True).clamp(min=1e-6)
    off = points - (weight * points).sum(dim=-2, keepdim=True) / total
    variance = (weight * off * off).sum(dim=(-2, -1), keepdim=True) / total[..., :1, :]
    return off / variance.clamp(min=1e-6).sqrt()


def flat_loss(projected: Tensor, rays: Tensor, weight: Tensor) -> Tensor:
    """Return equation 7: squared differences of projected joints and rays (..., J, 2), mean over weights (..., J, 1).

    Both are moved and scaled alike over the joints that count, or a projection would do well by being small.
    """
    error = (canonical(projected, weight) - canonical(rays, weight)).square()
    return (weight * error).sum() / weight.sum().clamp(min=1e-6)


def pose_loss(pose: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Return equation 6: the mean squared error of joints (N, T, 17, 3), over frames that show enough to tell."""
    error = (pose - batch['pose'])[..., 1:, :].square().mean(dim=(2, 3))
    return SQUARED * (error * batch['seen']).sum() / batch['seen'].sum().clamp(min=1)


def projector_loss(network: Machine, batch: dict[str, Tensor]) -> Tensor:
    """Return equation 2: Psi_C by the true pose, and Psi_P of what it says by the true joints in the image."""
    with torch.no_grad():
        pose, _ = network.lift(batch['features'], batch['since'])
    regressed = network.projector.regress(pose)
    whole = batch['known'].amin(dim=2) * batch['seen']   # near people are not in front of the camera with all joints
    target = canonical(batch['truth'], torch.ones_like(batch['truth'][..., :1]))
    off = (network.projector.project(regressed) - target).square().mean(dim=(2, 3))
    return pose_loss(regressed, batch) + (off * whole).sum() / whole.sum().clamp(min=1)


def together_loss(network: Machine, batch: dict[str, Tensor]) -> Tensor:
    """Return the loss of step 4."""
    steps = network.clip(batch['features'], batch['since'])
    loss = (pose_loss(steps.pose, batch) + pose_loss(steps.regressed, batch)
            + flat_loss(steps.projected, batch['rays'], _pulling(network, batch['confidence'])))
    if 'still_features' in batch:
        alone = _still_steps(network, batch)
        loss = loss + flat_loss(alone.projected[:, 0], batch['still_rays'],
                                _pulling(network, batch['still_confidence']))
    return loss


def telling_loss(network: Machine, batch: dict[str, Tensor], flat_only: bool) -> Tensor:
    """Return the loss of the multi-task network (section 4.4.1): first of 2D data alone, then of 2D and 3D data."""
    steps = network.clip(batch['features'], batch['since'])
    assert steps.told is not None
    loss = flat_loss(steps.told, batch['rays'], weights_of(batch['confidence']))
    if 'still_features' in batch:
        alone = _still_steps(network, batch)
        assert alone.told is not None
        loss = loss + flat_loss(alone.told[:, 0], batch['still_rays'], weights_of(batch['still_confidence']))
    return loss if flat_only else loss + pose_loss(steps.pose, batch)


def _still_steps(network: Machine, batch: dict[str, Tensor]) -> Any:
    """Return what is said of people of whom there is one frame only."""
    features = batch['still_features'][:, None]
    return network.clip(features, torch.zeros_like(features[..., 0]))


def weights_of(confidence: Tensor) -> Tensor:
    """Return nets/correction.py's weights (..., J, 1) of confidences (..., J), for any leading axes."""
    return weights(confidence.reshape(-1, confidence.shape[-1])).reshape(*confidence.shape, 1)


def _pulling(network: Machine, confidence: Tensor) -> Tensor:
    """Return the weights of detected joints, some of which are dropped (section 3.3: the dropout trick)."""
    dropout = network.projector.dropout
    return weights_of(confidence * (torch.rand_like(confidence) >= dropout))


class MachineLoss:
    """The loss of a step of the training. run: tells how far it is, minutes: where that ends it."""

    def __init__(self, settings: MachineSettings, run: Run, minutes: float = float('inf')) -> None:
        self.settings, self.run, self.minutes = settings, run, minutes

    @property
    def stage(self) -> str:
        """`transformer`, `projector` or `together`."""
        done = max(self.run.step / self.run.settings.steps, self.run.seconds / (60 * self.minutes))
        first, second = self.settings.shares
        return 'transformer' if done < first else 'projector' if done < first + second else 'together'

    def __call__(self, network: torch.nn.Module, batch: dict[str, Tensor]) -> Tensor:
        machine = cast(Machine, network)
        if self.settings.training == 'no_projection':
            return telling_loss(machine, batch, flat_only=self.stage == 'transformer')
        if self.settings.training == 'no_correction' or self.stage == 'transformer':
            return pose_loss(machine.lift(batch['features'], batch['since'])[0], batch)
        return (projector_loss if self.stage == 'projector' else together_loss)(machine, batch)


def batches(mocap: Mocap, flat: Stills | None, clips: ClipSettings, settings: MachineSettings,
            rng: np.random.Generator) -> Iterator[dict[str, NDArray]]:
    """Yield batches for ever; flat: 2D data. While some are learnt from, the next are drawn on another core."""
    seeing()
    weight = mocap.frame_weights()
    drawing, order, choosing = (np.random.default_rng(seed) for seed in rng.integers(2**62, size=3))
    with ThreadPoolExecutor(1) as other_core:
        coming = other_core.submit(draw_clips, mocap, settings.pool, drawing, clips, weight, settings.uses)
        while True:
            drawn = coming.result()
            coming = other_core.submit(draw_clips, mocap, settings.pool, drawing, clips, weight, settings.uses)
            for part in drawn:
                mixed = order.permutation(len(part))
                for start in range(0, len(part) - settings.batch + 1, settings.batch):
                    yield as_batch(part.where(mixed[start:start + settings.batch]), flat, settings.stills, choosing)


def as_batch(clips: Clips, flat: Stills | None, count: int, rng: np.random.Generator) -> dict[str, NDArray]:
    """Return clips as the losses take them, with `count` people of 2D data."""
    batch = {name: getattr(clips, name) for name in (
        'features', 'since', 'rays', 'confidence', 'pose', 'truth', 'known', 'seen')}
    if flat is not None and count:
        chosen = rng.integers(len(flat), size=count)
        batch |= {f'still_{name}': getattr(flat, name)[chosen] for name in ('features', 'rays', 'confidence')}
    return batch


@torch.no_grad()
def fit_ranges(network: Machine, clips: Clips) -> None:
    """Take the normalisation from training frames (section 4.1)."""
    network.projector.pose_range.fit(torch.from_numpy(clips.pose[..., 1:, :]), BEYOND)
    whole = torch.from_numpy(clips.truth[clips.known.min(axis=2) > 0])
    network.projector.flat_range.fit(canonical(whole, torch.ones_like(whole[..., :1])), BEYOND)


def errors_mm(pose: NDArray, clips: Clips) -> float:
    """Return MPJPE in mm with the pelvis at the origin and the statures known, of the later half of every clip."""
    late = slice(clips.since.shape[1] // 2, None)
    distance = np.linalg.norm(pose - clips.pose, axis=3).mean(axis=2) * clips.stature[:, None]
    return float(1000 * distance[:, late][clips.seen[:, late] > 0].mean())


@torch.no_grad()
def validate(network: Machine, clips: Clips) -> dict[str, float]:
    """Return the errors in mm of Psi_T and of Psi_C, and how far projections are off, in standard deviations."""
    steps = network.eval().clip(torch.from_numpy(clips.features), torch.from_numpy(clips.since))
    weight = weights_of(torch.from_numpy(clips.confidence))
    return {'mpjpe_mm': errors_mm(steps.pose.numpy(), clips), 'regressed_mpjpe_mm': errors_mm(steps.regressed.numpy(),
                                                                                              clips),
            'flat': float(flat_loss(steps.projected, torch.from_numpy(clips.rays), weight).sqrt())}


def train(mocap: Mocap, validation: Clips, flat: Stills | None, out: Path, settings: MachineSettings,
          loop: LoopSettings, clips: ClipSettings, minutes: float = float('inf'), command: str = '',
          quiet: bool = False) -> Run:
    """Train in `out`: continue from its checkpoint if there is one, stop after the steps or minutes.

    flat: 2D data, or None (section 4.4.3, without external data). Raises CheckpointError and TrainingError.
    """
    torch.manual_seed(loop.seed)
    network = make_network(settings)
    start = np.random.default_rng([loop.seed, VALIDATION_SEED])
    fit_ranges(network, draw_clips(mocap, min(FITTED, settings.pool), start, clips, mocap.frame_weights())[0])
    identity = {'network': 'machine', 'steps': loop.steps, 'external': flat is not None, **asdict(settings)}
    run = Run(network, loop, identity, command)
    return fit(run, MachineLoss(settings, run, minutes), lambda rng: batches(mocap, flat, clips, settings, rng),
               lambda result: validate(cast(Machine, result), validation), out, minutes, quiet)


def load_trained(path: Path) -> tuple[Machine, MachineSettings, str]:
    """Return the network of a checkpoint, its settings and the command that trained it. Raises CheckpointError."""
    state = read_checkpoint(path)
    try:
        told = {name: state['identity'][name] for name in asdict(MachineSettings())}
        settings = MachineSettings(**{**told, 'shares': tuple(told['shares'])})
        network = make_network(settings)
        network.load_state_dict(state['result'])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f'{path} is not a checkpoint of the 3D Human Pose Machine ({error})') from error
    return network.eval(), settings, str(state['command'])
