"""Training of the geometry-driven lifter (Li et al., AAAI 2020): losses of equations 2, 5, 6 and 7, on 2D alone.

Nothing here knows a 3D pose: what comes in is a Recording, rays that cameras detected and where these cameras stand.
(The variants that the paper compares with need more and say so: see train/geometric_labels.py.)

Units: rays are counted in thousandths, about a pixel of a camera with a focal length of 1000 px.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import permutations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pose3d_ros.nets.geometric import GeometricLifter
from pose3d_ros.train.loop import CheckpointError, LoopSettings, Run, fit, read_checkpoint
from pose3d_ros.train.recording import Recording

RAY = 1e-3        # unit of errors, see above
NEAREST_M = 0.1   # a joint behind the camera is projected as if it were so near before it
PREDICTIONS = 'predictions'


@dataclass(frozen=True)
class GeometricSettings:
    """The network and its training; for what the paper compares, see VARIANTS of train/geometric_variants.py.

    transform: lambda of equation 7 (0: re-projection alone). pretrain: share of the steps with equation 6. confidence:
    whether losses are weighted by it. virtual: how many of the cameras, the last ones, are; of each pair of views, one
    is real. middle: see nets/geometric.py. The paper: width 1024, 20 + 300 epochs of
    Human3.6M, learning rate 0.001 to a tenth every 100 (schedule 'thirds'), no mean of the weights.
    """

    variant: str = 'transform'
    backbone: str = 'paper'
    width: int = 256
    dropout: float = 0.1
    middle: bool = True
    virtual: int = 0
    batch: int = 256
    transform: float = 3.0
    pretrain: float = 20 / 320
    confidence: bool = True
    mixed: bool = True
    watched: int = 2048              # moments of the validation recording on which training is watched
    loop: LoopSettings = LoopSettings(steps=6000, optimiser='adamw', warm_up=100, learning_rate=3e-3,
                                      schedule='cosine', weight_decay=0.0, average=0.99, validate_every=250)


def make_network(settings: GeometricSettings) -> GeometricLifter:
    """Return the two branches, freshly initialised."""
    network = GeometricLifter(settings.backbone, settings.width, settings.dropout, settings.middle)
    network.lift.mixed = network.root.mixed = settings.mixed
    return network


def project(points: Tensor) -> Tensor:
    """Return rays (..., 2) of points (..., 3) m (equation 1 with the intrinsics divided out)."""
    return points[..., :2] / points[..., 2:].clamp(min=NEAREST_M)


def transformed(points: Tensor, b_T_a: Tensor) -> Tensor:  # noqa: N803 (a_T_b: maps b to a)
    """Return points (N, 17, 3) m of camera a as camera b has them (equation 3); b_T_a (N, 4, 4).

    The paper writes R (Y - t) with t in the frame of a; here the translation is that of the matrix.
    """
    return points @ b_T_a[:, :3, :3].transpose(1, 2) + b_T_a[:, None, :3, 3]


def reprojection(weight: Tensor, rays: Tensor, projected: Tensor) -> Tensor:
    """Return the squared distance of rays (N, 17, 2) from projected ones, in RAY^2: a term of equations 2 and 5.

    It is the mean over all joints, weighted by weight (N, 17).
    """
    return (weight * ((rays - projected) / RAY).square().sum(dim=2)).mean()


def pretraining_loss(first: Tensor, second: Tensor, second_T_first: Tensor) -> Tensor:  # noqa: N803
    """Return equation 6 for joints (N, 17, 3) m that two views gave: both must mean the same points."""
    back = torch.linalg.inv(second_T_first)
    return ((transformed(first, second_T_first) - second).square().sum(dim=2).mean()
            + (transformed(second, back) - first).square().sum(dim=2).mean())


def training_loss(first: Tensor, second: Tensor, batch: dict[str, Tensor], transform: float) -> Tensor:
    """Return equation 7 for joints (N, 17, 3) m that two views gave.

    batch: of both views rays (rays_1, rays_2: N, 17, 2), and weights of what their poses are compared with, in the view
    itself (weight_1, weight_2: N, 17) and in the other one (across_1, across_2: N, 17; 0 where that saw nothing);
    second_T_first (N, 4, 4). transform: lambda, the weight of equation 5.
    """
    there = batch['second_T_first']
    total = (reprojection(batch['weight_1'], batch['rays_1'], project(first))
             + reprojection(batch['weight_2'], batch['rays_2'], project(second)))            # equation 2
    if transform:
        across = (reprojection(batch['across_1'], batch['rays_2'], project(transformed(first, there)))
                  + reprojection(batch['across_2'], batch['rays_1'],
                                 project(transformed(second, torch.linalg.inv(there)))))     # equation 5
        total = total + transform * across
    return total


class GeometricLoss:
    """The loss of a step: equation 6 at first, equation 7 from then on. run: tells which step it is."""

    def __init__(self, settings: GeometricSettings, run: Run) -> None:
        self.settings, self.run = settings, run

    def __call__(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        windows = torch.cat([batch['window_1'], batch['window_2']])
        relative, root = network(windows)
        first, second = (relative + root[:, None]).chunk(2)
        return self.value(first, second, batch)

    @property
    def pretraining(self) -> bool:
        """Whether this step is one of equation 6."""
        return self.run.step < self.settings.pretrain * self.settings.loop.steps

    def value(self, first: Tensor, second: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of joints (N, 17, 3) m that two views gave."""
        if self.pretraining:
            return pretraining_loss(first, second, batch['second_T_first'])
        return training_loss(first, second, batch, self.settings.transform)


def pairs(recording: Recording, settings: GeometricSettings, frames: int,
          rng: np.random.Generator) -> Iterator[dict[str, NDArray]]:
    """Yield batches of two views of one moment for ever; frames: that the network sees of each."""
    poses = recording.camera_T_world
    between = {(a, b): poses[b] @ np.linalg.inv(poses[a]) for a, b in permutations(range(len(poses)), 2)}
    table = np.array([[between.get((a, b), np.eye(4)) for b in range(len(poses))] for a in range(len(poses))])
    usable = np.flatnonzero((recording.confidence[..., 0] > 0).sum(axis=1) >= 2)
    while True:
        moments = rng.choice(usable, settings.batch)
        first = rng.integers(len(poses) - settings.virtual, size=settings.batch)
        second = (first + rng.integers(1, len(poses), size=settings.batch)) % len(poses)
        yield paired(recording, moments, first, second, table, settings.confidence, frames)


def paired(recording: Recording, moments: NDArray, first: NDArray, second: NDArray, table: NDArray, confidence: bool,
           frames: int) -> dict[str, NDArray]:
    """Return a batch: moments (B,) seen by views first and second (B,); table (V, V, 4, 4) maps view to view.

    It holds what training_loss takes, and window_1, window_2 (B, frames, 17, 2), what the network is shown.
    """
    batch: dict[str, NDArray] = {'second_T_first': table[first, second].astype(np.float32), 'first': first,
                                 'second': second}
    for name, view in (('1', first), ('2', second)):
        batch[f'rays_{name}'] = recording.rays[moments, view]
        batch[f'window_{name}'] = recording.windows(moments, view, frames)
    sure = [recording.confidence[moments, view] for view in (first, second)]
    seen = [(each > 0).astype(np.float32) for each in sure]
    if not confidence:
        sure = seen
    batch |= {'weight_1': sure[0], 'weight_2': sure[1], 'across_1': sure[0] * seen[1], 'across_2': sure[1] * seen[0]}
    return batch


def predict(network: GeometricLifter, recording: Recording, moments: NDArray, views: NDArray,
            batch: int = 4096) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return relative (B, 17, 3) and root (B, 3) m of moments (B,) as views (B,) see them."""
    parts = [predict_rays(network, recording.windows(moments[i:i + batch], views[i:i + batch], network.frames))
             for i in range(0, len(moments), batch)]
    relative, root = (np.concatenate(part) for part in zip(*parts))
    return relative, root


@torch.no_grad()
def predict_rays(network: GeometricLifter, rays: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return relative (B, 17, 3) and root (B, 3) m of rays (B, T, 17, 2)."""
    relative, root = network.eval()(torch.from_numpy(rays))
    return relative.numpy(), root.numpy()


def watched(recording: Recording, count: int) -> tuple[NDArray, NDArray]:
    """Return the moments and views (B,) on which a training is watched: always the same ones."""
    rng = np.random.default_rng(0)
    return rng.integers(len(recording), size=count), rng.integers(recording.rays.shape[1], size=count)


def train(recording: Recording, validation: Recording, out: Path, settings: GeometricSettings,
          minutes: float = math.inf, command: str = '', quiet: bool = False) -> Run:
    """Train in `out`: continue from its checkpoint if there is one, stop after the steps or minutes.

    What the network thinks of some of the validation recording is kept every time in out/predictions, for whoever has
    the truth; here nobody has. Raises CheckpointError and TrainingError.
    """
    torch.manual_seed(settings.loop.seed)
    network = make_network(settings)
    run = Run(network, settings.loop, identity_of(settings), command)
    return fit(run, GeometricLoss(settings, run), lambda rng: pairs(recording, settings, network.frames, rng),
               lambda network: watch(network, validation, settings, out, run), out, minutes, quiet)


def identity_of(settings: GeometricSettings) -> dict[str, object]:
    """Return what must be the same to continue a training."""
    return {'network': 'geometric', **{name: value for name, value in asdict(settings).items() if name != 'loop'}}


def watch(network: nn.Module, validation: Recording, settings: GeometricSettings, out: Path,
          run: Run) -> dict[str, float]:
    """Return the errors of held-out views in thousandths of a ray (median over joints): their own and across views."""
    assert isinstance(network, GeometricLifter)
    moments, views = watched(validation, settings.watched)
    relative, root = predict(network, validation, moments, views)
    (out / PREDICTIONS).mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out / PREDICTIONS / f'{run.step:06d}.npz', relative=relative, root=root)
    own, across = crossview_errors(validation, moments, views, relative + root[:, None])
    return {'own': 1e3 * float(np.nanmedian(own)), 'across': 1e3 * float(np.nanmedian(across))}


def crossview_errors(recording: Recording, moments: NDArray, views: NDArray,
                     joints: NDArray) -> tuple[NDArray, NDArray]:
    """Return how far joints (B, 17, 3) m, as views (B,) gave them, are from what was detected, in rays.

    In the view itself (B, 17), and in all others (B, V - 1, 17); NaN where nothing was detected.
    """
    poses = recording.camera_T_world
    count = len(poses)
    others = (views[:, None] + np.arange(count)) % count                          # the view itself first
    between = poses[others] @ np.linalg.inv(poses[views])[:, None]
    local = np.einsum('bvij,bkj->bvki', between[..., :3, :3], joints) + between[..., None, :3, 3]
    off = np.linalg.norm(local[..., :2] / np.maximum(local[..., 2:], NEAREST_M)
                         - recording.rays[moments[:, None], others], axis=-1)
    off = np.where(recording.confidence[moments[:, None], others] > 0, off, np.nan)
    return off[:, 0], off[:, 1:]


def load_trained(path: Path) -> tuple[GeometricLifter, GeometricSettings, str]:
    """Return the network of a checkpoint, its settings and the command that trained it. Raises CheckpointError."""
    state = read_checkpoint(path)
    try:
        identity = {name: state['identity'][name] for name in asdict(GeometricSettings()) if name != 'loop'}
        settings = replace(GeometricSettings(**identity), mixed=False)
        network = make_network(settings)
        network.load_state_dict({name: value for name, value in state['result'].items()
                                 if not name.startswith('critic.')})
        return network.eval(), settings, str(state['command'])
    except (KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f'{path} is not a checkpoint of the geometric lifter ({error})') from error
