"""Steps two and three of the training of Wang et al. 2019 (section 4.2): the 3D network, and both joined.

Step two trains the 3D network (nets/parts.py) on what the image network of step one predicts in 2D, and on true
attributes. Step three joins them: soft-argmax makes joints of the heat maps, softmax probabilities of the attributes,
and everything is trained to the end, in mixed batches.

The 3D network is shown what it is shown of a camera everywhere else here, of all 17 joints: rays as by a camera turned
towards the person, normalised, and the direction and logarithm of the size that this takes away. So the camera of every
crop must be known: focal length and principal point in px of the crop.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pose3d_ros.attributes import ATTRIBUTE_JOINTS, UNKNOWN, attributes
from pose3d_ros.nets.hourglass import Answers, MultiTaskNet, soft_argmax
from pose3d_ros.nets.parts import CLASSES, PartsNet
from pose3d_ros.nets.window import NEAREST, WIDEST, facing, normalise
from pose3d_ros.skeleton import DOF_GROUPS, HUMAN17
from pose3d_ros.train.image_sets import ImageSet, ImageSetError
from pose3d_ros.train.loop import CheckpointError, LoopSettings, Run, fit, read_checkpoint
from pose3d_ros.train.multitask import (
    FIRST,
    MultiTaskLoss,
    MultiTaskSettings,
    as_input,
    batches,
    identity_of,
    make_network,
    settings_of,
)
from pose3d_ros.train.multitask_augment import WITH_3D, vary

FEATURES = 2 * len(HUMAN17) + 3
STATURE_M = 1.7        # unit of the 3D network's answers: nobody tells how tall the people of the images are
VARIANT = 'attributes'


@dataclass(frozen=True)
class JoinedSettings:
    """width: of the 3D network. passes: how often step two sees every image, each time varied otherwise. pose: factor
    of equation 6 (in statures) in step three. The paper: 60 epochs at 2.5e-4 and 40 at 1e-4, batches of 64.
    """

    width: int = 128
    passes: int = 3
    pose: float = 10.0
    lift_batch: int = 64
    lift: LoopSettings = LoopSettings(steps=3000, optimiser='rmsprop', learning_rate=2.5e-4, warm_up=100,
                                      schedule='cosine', weight_decay=0.0, average=0.99, validate_every=1000)
    joined: LoopSettings = LoopSettings(steps=1000, optimiser='rmsprop', learning_rate=1e-4, warm_up=50,
                                        schedule='cosine', weight_decay=0.0, average=0.99, validate_every=250)


class JoinedNet(nn.Module):
    """The image network and the 3D network: images to joints in metres against the pelvis, in the camera's frame."""

    def __init__(self, image: MultiTaskNet, parts: PartsNet) -> None:
        super().__init__()
        self.image, self.parts = image, parts

    def forward(self, images: Tensor, camera: Tensor, reversal: float = 0.0) -> tuple[Answers, list[Tensor]]:
        """Return what the image network says, and the poses (N, 17, 3) m of both blocks.

        images (N, 3, S, S) RGB of 0..255; camera (N, 3): focal length and principal point, px of the crop.
        """
        answers = self.image(images, reversal)
        return answers, lift(self.parts, soft_argmax(answers.heatmaps[-1]), camera, answers.attributes.softmax(dim=2))


def lift(parts: PartsNet, joints2d: Tensor, camera: Tensor, told: Tensor) -> list[Tensor]:
    """Return the poses (N, 17, 3) m of joints2d (N, 17, 2) px; told (N, 9, 3): probabilities of the attributes."""
    features, turn = look(joints2d, camera)
    return [STATURE_M * pose @ turn for pose in parts(features, told)]


def look(joints2d: Tensor, camera: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the 3D network is shown (N, 37), and the turn (N, 3, 3) from the camera's frame to its own.

    joints2d (N, 17, 2) px; camera (N, 3): focal length and principal point in the same px. As nets/window.py has it.
    """
    rays = (joints2d - camera[:, None, 1:]) / camera[:, None, :1]
    location = rays.mean(dim=1)
    turn = facing(location.clamp(-WIDEST, WIDEST))
    columns = turn.transpose(1, 2)
    directions = rays @ columns[:, :2] + columns[:, 2:]
    turned = directions[..., :2] / directions[..., 2:].clamp(min=NEAREST)
    body, _, scale = normalise(turned[:, None], torch.ones_like(turned[:, None, :, :1]))
    return torch.cat([body.flatten(1), location.clamp(-WIDEST, WIDEST), scale[:, 0, :, 0].log()], dim=1), turn


def crop_cameras(images: ImageSet) -> NDArray[np.float32]:
    """Return focal length and principal point (N, 3) px of every crop: those with which its 3D joints meet the 2D ones.

    By least squares over all joints; a crop is so small a part of its picture that lens distortion hardly bends it.
    NaN where fewer than two joints are known. Raises ImageSetError for a set without 3D.
    """
    if images.joints3d is None:
        raise ImageSetError(f'{images.domain or "a set"} has no 3D joints, from which to tell the cameras of its crops')
    both = np.concatenate([images.joints3d[..., :2] / images.joints3d[..., 2:], images.joints2d],
                          axis=2).astype(np.float64)
    known = np.asarray(np.isfinite(both).all(axis=2))[..., None]
    count = np.maximum(known.sum(axis=1), 1)
    mean = np.where(known, both, 0.0).sum(axis=1) / count                                    # (N, 4)
    off = np.where(known, both - mean[:, None], 0.0)
    with np.errstate(invalid='ignore', divide='ignore'):
        focal = (off[..., :2] * off[..., 2:]).sum(axis=(1, 2)) / (off[..., :2] ** 2).sum(axis=(1, 2))
    return np.concatenate([focal[:, None], mean[:, 2:] - focal[:, None] * mean[:, :2]], axis=1).astype(np.float32)


def moved_cameras(cameras: NDArray, new_T_old: NDArray) -> NDArray[np.float32]:
    """Return cameras (N, 3) after their crops were scaled and shifted by new_T_old (N, 2, 3), not turned."""
    middle = np.einsum('nij,nj->ni', new_T_old[:, :, :2], cameras[:, 1:]) + new_T_old[:, :, 2]
    return np.concatenate([cameras[:, :1] * new_T_old[:, 0, :1], middle], axis=1).astype(np.float32)


def make_parts(settings: JoinedSettings) -> PartsNet:
    """Return the 3D network, freshly initialised."""
    groups = [[joint for joint in HUMAN17.indices(list(group)).tolist() if joint] for group in DOF_GROUPS]
    return PartsNet(VARIANT, groups, FEATURES, len(ATTRIBUTE_JOINTS), settings.width)


def pose_loss(poses: list[Tensor], truth: Tensor) -> Tensor:
    """Return equation 6 in statures: the sum over blocks of the mean absolute error of poses (N, 17, 3) m.

    truth (N, 17, 3) m in the camera's frame, wherever the pelvis is.
    """
    truth = truth - truth[:, :1]
    return torch.stack([(pose - truth).abs().mean() for pose in poses]).sum() / STATURE_M


def train_lift(image: MultiTaskNet, first: ImageSet, out: Path, identity: dict[str, object], settings: JoinedSettings,
               minutes: float = math.inf, command: str = '', quiet: bool = False) -> Run:
    """Step two: train the 3D network on what `image` predicts of the first set; see train in train/multitask.py."""
    @cache  # once, and only where something is left to learn
    def seen() -> dict[str, NDArray]:
        return predicted(image, first, settings.passes, settings.lift.seed)

    torch.manual_seed(settings.lift.seed)
    run = Run(make_parts(settings), settings.lift,
              {**identity, **_identity(settings), 'network': 'multitask lift'}, command)

    def stream(rng: np.random.Generator) -> Iterator[dict[str, NDArray]]:
        while True:
            chosen = rng.integers(len(seen()['joints2d']), size=settings.lift_batch)
            yield {name: array[chosen] for name, array in seen().items()}

    def loss(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        assert isinstance(network, PartsNet)
        return pose_loss(lift(network, batch['joints2d'], batch['camera'], batch['told']), batch['joints3d'])

    return fit(run, loss, stream, lambda network: {}, out, minutes, quiet)


def predicted(image: MultiTaskNet, first: ImageSet, passes: int, seed: int) -> dict[str, NDArray[np.float32]]:
    """Return what step two is trained on, of every image `passes` times, varied: predicted joints2d, camera, true
    attributes told (one of three is 1, none where unknown) and joints3d.
    """
    assert first.joints3d is not None
    cameras, known, rng = crop_cameras(first), attributes(first.joints3d), np.random.default_rng([seed, 2])
    found: dict[str, list[NDArray]] = {'joints2d': [], 'camera': []}
    for _ in range(passes):
        for start in range(0, len(first), 256):
            part = slice(start, start + 256)
            varied = vary(first.images[part], first.joints2d[part], WITH_3D, rng)
            with torch.no_grad():
                answers = image.eval()(as_input(torch.from_numpy(varied.images)))
            found['joints2d'].append(soft_argmax(answers.heatmaps[-1]).numpy())
            found['camera'].append(moved_cameras(cameras[part], varied.new_T_old))
    told = np.eye(CLASSES, dtype=np.float32)[np.maximum(known, 0)] * (known != UNKNOWN)[..., None]
    seen = {name: np.concatenate(parts).astype(np.float32) for name, parts in found.items()}
    seen |= {'told': np.tile(told.astype(np.float32), (passes, 1, 1)),
             'joints3d': np.tile(first.joints3d, (passes, 1, 1))}
    usable = np.isfinite(seen['camera']).all(axis=1) & np.isfinite(seen['joints3d']).all(axis=(1, 2))
    return {name: array[usable] for name, array in seen.items()}


def train_joined(image: MultiTaskNet, parts: PartsNet, first: ImageSet, second: ImageSet, out: Path,
                 multitask: MultiTaskSettings, settings: JoinedSettings, minutes: float = math.inf, command: str = '',
                 quiet: bool = False) -> Run:
    """Step three: fine-tune both networks, joined by soft-argmax, on all losses; see train in train/multitask.py."""
    joints3d, cameras = first.joints3d, crop_cameras(first)
    assert joints3d is not None
    usable = np.asarray(np.isfinite(cameras).all(axis=1) & np.isfinite(joints3d).all(axis=(1, 2)))
    if not usable.all():
        first, joints3d, cameras = first.where(usable), joints3d[usable], cameras[usable]
    seen = None if multitask.strategy == 'source_only' else second.without_3d()
    loop = replace(multitask, loop=settings.joined)
    torch.manual_seed(settings.joined.seed)
    run = Run(JoinedNet(image, parts), settings.joined,
              {**identity_of(multitask), **_identity(settings), 'joined_steps': settings.joined.steps,
               'network': 'multitask joined'}, command)
    together = MultiTaskLoss(loop, run)

    def stream(rng: np.random.Generator) -> Iterator[dict[str, NDArray]]:
        for batch in batches(first, seen, loop, rng):
            index = batch['index'][batch['domain'] == FIRST]
            yield {**batch, 'joints3d': joints3d[index],
                   'camera': moved_cameras(cameras[index], batch['new_T_old'][:len(index)])}

    def loss(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        assert isinstance(network, JoinedNet)
        # The schedule of the reversal is over: the features stay as indifferent to the domain as step one made them.
        answers = network.image(as_input(batch['images']), multitask.reversal * (multitask.strategy == 'adapted'))
        lifted = len(batch['camera'])
        poses = lift(network.parts, soft_argmax(answers.heatmaps[-1][:lifted]), batch['camera'],
                     answers.attributes[:lifted].softmax(dim=2))
        return together.value(answers, batch) + settings.pose * pose_loss(poses, batch['joints3d'])

    return fit(run, loss, stream, lambda network: {}, out, minutes, quiet)


def _identity(settings: JoinedSettings) -> dict[str, object]:
    return {**{name: value for name, value in asdict(settings).items() if name not in ('lift', 'joined')},
            'lift_steps': settings.lift.steps}


def load_lift(path: Path) -> PartsNet:
    """Return the 3D network of step two. Raises CheckpointError."""
    state = read_checkpoint(path)
    try:
        parts = make_parts(JoinedSettings(width=int(state['identity']['width'])))
        parts.load_state_dict(state['result'])
        return parts.eval()
    except (KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f'{path} is not a checkpoint of the 3D network for images ({error})') from error


def load_joined(path: Path) -> JoinedNet:
    """Return both networks of step three. Raises CheckpointError."""
    state = read_checkpoint(path)
    try:
        joined = JoinedNet(make_network(settings_of(state['identity'])),
                           make_parts(JoinedSettings(width=int(state['identity']['width']))))
        joined.load_state_dict(state['result'])
        return joined.eval()
    except (KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f'{path} is not a checkpoint of both networks ({error})') from error
