"""Step 1 of PoseNet3D: the temporal teacher, from clips of 2D poses alone (section 3.2).

No module that knows 3D poses is imported here; the only 3D that there is, is what the network says itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from pose3d_ros.nets.posenet3d import BONES, HEAD, HIPS, JOINTS, NEAREST, C, Discriminator, PoseNet3D, normalised
from pose3d_ros.train.loop import CheckpointError, LoopSettings, Run, fit, read_checkpoint
from pose3d_ros.train.posenet3d_data import Clips, clips_of
from pose3d_ros.train.recording import Recording

PREDICTIONS = 'predictions'
CRITIC_RATE = 0.3   # learning rate of the discriminator over that of the lifter
ELEVATION = math.pi / 9   # of random views as Chen et al. 2019 draw them, which the paper builds upon


@dataclass(frozen=True)
class TeacherSettings:
    """The network and step 1.

    rotation: 'gravity' turns people about the vertical and looks at them as another camera of the recording would, up
    or down; 'camera' turns them about the image's vertical by any angle, and tilts them by up to 20 degrees, as
    published: with cameras that look down, the two ways in which a 2D pose can be read are then hard to tell apart.
    consistency, smooth, bones, adversarial: weights of equations 2, 3, 4 and 5. What is lifted again (equation 2) may
    be shown with errors: noise, their largest standard deviation in units; hidden, the share of clips of which parts
    are missing. The paper: width 1024, dropout not given, 6000 clips a step, 150 epochs, learning rate 1e-4.
    """

    variant: str = 'teacher_9'
    frames: int = 9
    width: int = 256
    dropout: float = 0.1
    batch: int = 256
    rotation: str = 'gravity'
    consistency: float = 2.0
    smooth: float = 1.0
    bones: float = 2.0
    adversarial: float = 1.0
    squares: bool = True
    noise: float = 0.0
    hidden: float = 0.0
    watched: int = 2048
    loop: LoopSettings = field(default_factory=lambda: LoopSettings(
        steps=5000, learning_rate=1e-3, warm_up=200, weight_decay=0.0, betas=(0.5, 0.99), clip=5.0, average=0.99,
        validate_every=250))


class TeacherTraining(nn.Module):
    """What is trained in step 1: the network and the discriminator."""

    def __init__(self, settings: TeacherSettings) -> None:
        super().__init__()
        self.net = PoseNet3D(settings.frames, settings.width, settings.dropout)
        self.critic = Discriminator(settings.frames, settings.width)

    def forward(self, clip: Tensor, seen: Tensor | None = None) -> Tensor:
        return self.net(clip, seen)


def batches(clips: Clips, settings: TeacherSettings, rng: np.random.Generator) -> Iterator[dict[str, NDArray]]:
    """Yield batches for ever: clips of T + 1 frames to lift, and other ones, seen whole, as the real ones.

    clip (B, T + 1, 14, 2) and seen; real (B, T, 14, 2); up_from and up_to (B, 3): of the clip, and of another view.
    """
    whole = np.argwhere(clips.seen.min(axis=2) > 0)
    rooted = np.argwhere(clips.seen[..., HIPS[0]] > 0)
    while True:
        moment, view = rooted[rng.integers(len(rooted), size=settings.batch)].T
        clip, seen = clips.windows(moment, view, settings.frames + 1, settings.frames // 2)
        other, angle = whole[rng.integers(len(whole), size=settings.batch)].T
        real, known = clips.windows(other, angle, settings.frames)
        complete = (known.min(axis=2) > 0)[..., None, None]
        centre = real[:, settings.frames // 2, None]
        yield {'clip': clip, 'seen': seen, 'real': np.where(complete, real, centre),
               'up_from': clips.up[moment, view], 'up_to': clips.up[other, angle]}


def project(joints: Tensor) -> Tensor:
    """Return clips (..., 2) of joints (..., 3) against the root, which is C units ahead."""
    return joints[..., :2] / (joints[..., 2:] + C).clamp(min=NEAREST)


def random_views(batch: dict[str, Tensor], rotation: str) -> Tensor:
    """Return rotations (B, 3, 3): Q of equation 1."""
    up_from, up_to = batch['up_from'], batch['up_to']
    azimuth = 2 * math.pi * torch.rand(len(up_from), device=up_from.device)
    if rotation == 'gravity':
        return upright(up_to).mT @ _turn(azimuth, 1) @ upright(up_from)
    if rotation == 'camera':
        return _turn(ELEVATION * (2 * torch.rand_like(azimuth) - 1), 0) @ _turn(azimuth, 1)
    raise ValueError(f'rotation {rotation!r}: expected gravity or camera')


def upright(up: Tensor) -> Tensor:
    """Return rotations (B, 3, 3) from cameras that have up (B, 3) to level ones: y down, looking the same way."""
    right = torch.linalg.cross(-up, torch.tensor([0.0, 0.0, 1.0], device=up.device).expand_as(up))
    right = right / right.norm(dim=1, keepdim=True).clamp(min=1e-6)
    return torch.stack([right, -up, torch.linalg.cross(right, -up)], dim=1)


def _turn(angle: Tensor, axis: int) -> Tensor:
    """Return rotations (B, 3, 3) by angle (B,) about an axis."""
    result = torch.eye(3, device=angle.device).repeat(len(angle), 1, 1)
    a, b = (axis + 1) % 3, (axis + 2) % 3
    result[:, a, a] = result[:, b, b] = angle.cos()
    result[:, b, a] = angle.sin()
    result[:, a, b] = -angle.sin()
    return result


def corrupted(clip: Tensor, settings: TeacherSettings) -> tuple[Tensor, Tensor]:
    """Return clips (B, T, 14, 2) as a detector might have seen them, and what of them it saw (B, T, 14).

    Half of an error lasts for the whole clip. Hidden are legs from the knees on, an arm, or single joints; never hips.
    """
    count, frames = clip.shape[:2]
    seen = torch.ones_like(clip[..., 0])
    if settings.noise:
        size = 0.1 * settings.noise * torch.rand(count, 1, 1, 1)
        clip = clip + size * (0.7 * torch.randn(count, 1, len(JOINTS), 2) + 0.7 * torch.randn_like(clip))
    if settings.hidden:
        which = torch.randint(len(_GROUPS) + 1, (count,))
        hidden = torch.cat([_GROUPS.to(clip), torch.zeros(1, len(JOINTS))])[which]
        single = (torch.rand(count, len(JOINTS)) < 0.15).to(clip)
        hidden = torch.where((which < len(_GROUPS))[:, None], hidden, single)
        hidden[:, HIPS] = 0
        hidden = hidden * (torch.rand(count, 1) < settings.hidden)
        since = torch.randint(-frames, frames, (count, 1)).clamp(min=0)         # mostly all the time
        seen = 1 - hidden[:, None] * (torch.arange(frames)[None] >= since)[..., None]
    return clip * seen[..., None], seen


def _groups() -> Tensor:
    """Return which joints (G, 14) go missing together."""
    def of(*names: str) -> list[float]:
        return [float(any(name in joint for name in names)) for joint in JOINTS]
    return torch.tensor([of('knee', 'ankle'), of('ankle'), of('left_elbow', 'left_wrist'),
                         of('right_elbow', 'right_wrist'), of('wrist'), of('ears')])


_GROUPS = _groups()


def bone_variance(joints: Tensor) -> Tensor:
    """Return the variance over time of the bones of joints (B, T, 14, 3), mean over B (equation 4)."""
    starts, ends = zip(*BONES)
    lengths = (joints[:, :, list(starts)] - joints[:, :, list(ends)]).norm(dim=-1)
    return lengths.var(dim=1, unbiased=False).sum(dim=1).mean()


def judged(critic: Discriminator, real: Tensor, made: Tensor, squares: bool) -> tuple[Tensor, Tensor]:
    """Return what is asked of who made clips, and of the discriminator; both clips (B, T, 14, 2).

    Equation 5, for the maker as -log D(y), which does not saturate; squares: least squares instead (Mao et al. 2017).
    """
    softplus = nn.functional.softplus
    fixed = {name: parameter.detach() for name, parameter in critic.named_parameters()}
    told, of_real, of_made = functional_call(critic, fixed, (made,)), critic(real), critic(made.detach())
    if squares:
        return 0.5 * (told - 1).square().mean(), 0.5 * ((of_real - 1).square() + of_made.square()).mean()
    return softplus(-told).mean(), (softplus(-of_real) + softplus(of_made)).mean()


def seen_from(joints: Tensor, batch: dict[str, Tensor], settings: TeacherSettings) -> tuple[Tensor, Tensor, Tensor]:
    """Return joints (B, T, 14, 3) turned anyhow, what a camera sees of them (B, T, 14, 2), and its factor (B,)."""
    there = joints @ random_views(batch, settings.rotation).mT[:, None]
    clip, factor = normalised(project(there))
    return there, clip, factor


class TeacherLoss:
    """L_T of section 3.5, and what the discriminator learns from; figures of the last step are in `parts`."""

    def __init__(self, settings: TeacherSettings) -> None:
        self.settings = settings
        self.parts: dict[str, float] = {}

    def __call__(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        assert isinstance(network, TeacherTraining)
        clip, seen, frames = batch['clip'], batch['seen'], self.settings.frames
        now, size = normalised(clip[:, :frames], seen[:, :frames])
        then, later = normalised(clip[:, 1:], seen[:, 1:])
        first, second = network(torch.cat([now, then]), torch.cat([seen[:, :frames], seen[:, 1:]])).chunk(2)
        return self.value(network.net, network.critic, batch, first, second * (size / later)[:, None, None, None])

    def value(self, net: PoseNet3D, critic: Discriminator, batch: dict[str, Tensor], joints: Tensor,
              later: Tensor) -> Tensor:
        """Return the loss of joints (B, T, 14, 3), and those lifted one frame later."""
        settings = self.settings
        there, made, factor = seen_from(joints, batch, settings)
        shown, known = corrupted(made, settings)
        if settings.noise or settings.hidden:
            shown, again = normalised(shown, known)
            factor = factor * again
        consistency = (net(shown, known) - there * factor[:, None, None, None]).square().sum(dim=-1).mean()
        smooth = (joints[:, 1:] - later[:, :-1]).square().sum(dim=-1).mean() if settings.frames > 1 else 0 * consistency
        bones = bone_variance(joints)
        real, _ = normalised(batch['real'])
        deceived, telling = judged(critic, real, made, settings.squares)
        self.parts = {name: float(part.detach()) for name, part in (
            ('consistency', consistency), ('smooth', smooth), ('bones', bones), ('deceived', deceived),
            ('telling', telling))}
        return (settings.consistency * consistency + settings.smooth * smooth + settings.bones * bones
                + settings.adversarial * deceived + telling)


def train_teacher(recording: Recording, validation: Recording, out: Path, settings: TeacherSettings,
                  minutes: float = math.inf, command: str = '', quiet: bool = False) -> Run:
    """Train in `out`: continue from its checkpoint if there is one, stop after the steps or minutes.

    What the network thinks of some of the validation recording is kept every time in out/predictions, for whoever has
    the truth. Raises CheckpointError and TrainingError.
    """
    torch.manual_seed(settings.loop.seed)
    clips, watched = clips_of(recording), clips_of(validation)
    loss = TeacherLoss(settings)
    run = Run(TeacherTraining(settings), settings.loop, identity_of(settings), command, rates={'critic': CRITIC_RATE})
    return fit(run, loss, lambda rng: batches(clips, settings, rng),
               lambda network: {**loss.parts, **watch(network, watched, settings, out, run.step)}, out, minutes, quiet)


def identity_of(settings: TeacherSettings) -> dict[str, object]:
    """Return what must be the same to continue a training."""
    return {'network': 'posenet3d teacher', **{name: value for name, value in asdict(settings).items()
                                               if name != 'loop'}}


def watched_moments(clips: Clips, count: int) -> tuple[NDArray, NDArray]:
    """Return the moments and views (B,) on which a training is watched: always the same ones."""
    rng = np.random.default_rng(0)
    rooted = np.argwhere(clips.seen[..., HIPS[0]] > 0)
    chosen = rooted[rng.integers(len(rooted), size=count)]
    return chosen[:, 0], chosen[:, 1]


def watch(network: nn.Module, clips: Clips, settings: TeacherSettings, out: Path, step: int) -> dict[str, float]:
    """Keep what the teacher says of held-out people; return how long the trunk is, and how deep they are, in units."""
    assert isinstance(network, TeacherTraining)
    moments, views = watched_moments(clips, settings.watched)
    joints = lifted(network.net, clips, moments, views)
    (out / PREDICTIONS).mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out / PREDICTIONS / f'{step:06d}.npz', joints=joints)
    return {'head': float(np.linalg.norm(joints[:, HEAD], axis=-1).mean()),
            'depth': float(np.abs(joints[..., 2]).mean())}


@torch.no_grad()
def lifted(net: PoseNet3D, clips: Clips, moments: NDArray, views: NDArray, frame: int | None = None,
           batch: int = 4096) -> NDArray[np.float32]:
    """Return the teacher's joints (B, 14, 3) in units of moments (B,) as views (B,) have them.

    frame: which of the T frames that the network is shown is the moment; by default the middle one.
    """
    net.eval()
    frame = net.frames // 2 if frame is None else frame
    parts = []
    for start in range(0, len(moments), batch):
        part = slice(start, start + batch)
        clip, seen = (torch.from_numpy(each) for each in clips.windows(moments[part], views[part], net.frames, frame))
        parts.append(net(normalised(clip, seen)[0], seen)[:, frame].numpy())
    return np.concatenate(parts)


def load_teacher(path: Path) -> tuple[PoseNet3D, TeacherSettings, str]:
    """Return the network of a checkpoint of step 1, its settings and the command. Raises CheckpointError."""
    state = read_checkpoint(path)
    try:
        known = {name: state['identity'][name] for name in asdict(TeacherSettings()) if name != 'loop'}
        settings = replace(TeacherSettings(), **known)
        network = TeacherTraining(settings)
        network.load_state_dict(state['result'])
        return network.net.eval(), settings, str(state['command'])
    except (KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f'{path} is not a checkpoint of the PoseNet3D teacher ({error})') from error
