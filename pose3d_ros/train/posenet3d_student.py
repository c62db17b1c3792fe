"""Steps 2 to 4 of PoseNet3D (section 3.5): a student that says as a body model what the teacher says as joints.

Like the teacher's, this training sees clips of 2D poses alone; no module that knows 3D poses is imported.
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

from pose3d_ros.nets.body_model import BodyModel
from pose3d_ros.nets.posenet3d import (
    HIPS,
    Adaptation,
    Body,
    C,
    Discriminator,
    PoseNet3D,
    normalised,
    units_per_metre,
)
from pose3d_ros.train.loop import CheckpointError, LoopSettings, Run, fit, read_checkpoint
from pose3d_ros.train.posenet3d import (
    CRITIC_RATE,
    TeacherLoss,
    TeacherSettings,
    batches,
    corrupted,
    judged,
    project,
    seen_from,
    watched_moments,
)
from pose3d_ros.train.posenet3d_data import Clips, clips_of
from pose3d_ros.train.recording import Recording

PREDICTIONS = 'predictions'
FINE = 0.1     # learning rate of step 4 over that of steps 2 and 3
MOVING = 10.0  # learning rate of W' over that of the networks: its logits have a long way to go, from log 1e-6 to 0
FRAMES = 3     # of each clip, drawn anew every step, that a student is compared in: all nine are alike


@dataclass(frozen=True)
class StudentSettings:
    """What the student learns from, and how.

    source: 'teacher' (equation 7), 'direct' (re-projection alone; the backbone is trained with it), or 'both' (step 4:
    everything, from a student that was trained). adaptation: of nets/posenet3d.py, from `release` of the steps on (step
    3). distil, pose, shape: weights of equation 7 or of the re-projection, of equation 8, and of L_beta, all as means
    over joints, frames, coefficients; the root's rotation, which is no twist, is free. student: lambda_S, which the
    paper has as 2 for sums over 126 joints: with means, the discriminator would have the last word.
    """

    variant: str = 'convex'
    source: str = 'teacher'
    adaptation: str = 'convex'
    release: float = 0.5
    distil: float = 1.0
    pose: float = 1e-3
    shape: float = 1e-3
    student: float = 40.0
    batch: int = 256
    body_model: str = ''
    watched: int = 1024
    loop: LoopSettings = field(default_factory=lambda: LoopSettings(
        steps=3000, learning_rate=3e-3, warm_up=100, weight_decay=0.0, clip=5.0, average=0.99, validate_every=250))


class StudentTraining(nn.Module):
    """What is trained: the network, where the body's joints are, and a discriminator for step 4."""

    def __init__(self, teacher: TeacherSettings, settings: StudentSettings, model: BodyModel) -> None:
        super().__init__()
        self.model = model
        self.net = PoseNet3D(teacher.frames, teacher.width, teacher.dropout, units_per_metre(model))
        self.adaptation = Adaptation(model, settings.adaptation)
        self.plain = Adaptation(model, 'none')
        self.critic = Discriminator(teacher.frames, teacher.width)
        self.source = settings.source
        frozen = {'teacher': (self.net.backbone, self.net.teacher, self.critic), 'direct': (self.net.teacher,
                  self.critic), 'both': ()}[settings.source]
        for part in frozen:
            part.requires_grad_(False)
        self._frozen = list(frozen)

    def train(self, mode: bool = True) -> StudentTraining:
        """Train what is trained; what is frozen stays as it is used."""
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self


class StudentLoss:
    """L_S of section 3.4, or the whole of step 4. run: tells which step it is."""

    def __init__(self, settings: StudentSettings, teacher: TeacherSettings) -> None:
        self.settings, self.teacher = settings, teacher
        self.teacher_loss = TeacherLoss(teacher)
        self.run: Run | None = None
        self.parts: dict[str, float] = {}

    def __call__(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        assert isinstance(network, StudentTraining) and self.run is not None
        if self.settings.source == 'both':
            return self.everything(network, batch)
        clip, seen = batch['clip'], batch['seen']
        whole, _ = normalised(clip, seen)
        shown, known, factor = self.shown(whole, seen)
        some = torch.randperm(self.teacher.frames)[:FRAMES].tolist()
        body = network.net.body(network.net.features(shown, known), some)
        released = self.run.step >= self.settings.release * self.run.settings.steps
        joints = (network.adaptation if released else network.plain)(network.model, body)
        if self.settings.source == 'direct':
            missed = (project(joints) - shown[:, some]).square().sum(dim=-1)
            return self.value(C ** 2 * missed * known[:, some], body)
        with torch.no_grad():
            told = network.net(whole, seen)[:, some] * factor[:, None, None, None]
        return self.value((joints - told).square().sum(dim=-1), body)

    def shown(self, clip: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return clips (B, T, 14, 2), normalised, as the student is shown them, what is seen, and the factor (B,).

        Of a teacher for robots the student learns what it says of the whole clip, while errors and gaps are shown.
        """
        if not (self.teacher.noise or self.teacher.hidden):
            return clip, seen, torch.ones(len(clip))
        shown, known = corrupted(clip, self.teacher)
        known = known * seen
        shown, factor = normalised(shown * known[..., None], known)
        return shown, known, factor

    def value(self, errors: Tensor, body: Body) -> Tensor:
        """Return L_S of squared errors (B, T, 14) of joints, in units (of pixels: of what is 1 / C of a unit)."""
        distil = errors.mean()
        turned = (body.rotations[:, :, 1:] - torch.eye(3)).square().sum(dim=(-2, -1)).mean()
        shaped = body.shape.square().mean()
        self.parts = {name: float(part.detach()) for name, part in (
            ('distil', distil), ('turned', turned), ('shaped', shaped))}
        return self.settings.distil * distil + self.settings.pose * turned + self.settings.shape * shaped

    def everything(self, network: StudentTraining, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of step 4: L_T + lambda_S L_S + L_D of the student's joints."""
        clip, seen, frames = batch['clip'], batch['seen'], self.teacher.frames
        now, size = normalised(clip[:, :frames], seen[:, :frames])
        then, later = normalised(clip[:, 1:], seen[:, 1:])
        shown, known = torch.cat([now, then]), torch.cat([seen[:, :frames], seen[:, 1:]])
        features = network.net.features(shown, known)
        first, second = network.net.lift(features, shown, known).chunk(2)
        of_body, factor = features[:len(now)], torch.ones(len(now))
        if self.teacher.noise or self.teacher.hidden:
            gaps, left, factor = self.shown(now, seen[:, :frames])
            of_body = network.net.features(gaps, left)
        body = network.net.body(of_body)
        joints = network.adaptation(network.model, body)
        real, _ = normalised(batch['real'])
        of_teacher = self.teacher_loss.value(network.net, network.critic, batch, first,
                                             second * (size / later)[:, None, None, None])
        deceived, telling = judged(network.critic, real, seen_from(joints, batch, self.teacher)[1],
                                   self.teacher.squares)
        taught = self.value((joints - first * factor[:, None, None, None]).square().sum(dim=-1), body)
        self.parts |= self.teacher_loss.parts
        return (of_teacher + self.settings.student * taught + self.teacher.adversarial * deceived + telling)


def clip_batches(clips: Clips, frames: int, count: int, rng: np.random.Generator) -> Iterator[dict[str, NDArray]]:
    """Yield clips (B, T, 14, 2) and seen (B, T, 14) for ever."""
    rooted = np.argwhere(clips.seen[..., HIPS[0]] > 0)
    while True:
        moment, view = rooted[rng.integers(len(rooted), size=count)].T
        clip, seen = clips.windows(moment, view, frames)
        yield {'clip': clip, 'seen': seen}


def train_student(recording: Recording, validation: Recording, begin: Path, out: Path, settings: StudentSettings,
                  model: BodyModel, minutes: float = math.inf, command: str = '', quiet: bool = False) -> Run:
    """Train in `out`: continue from its checkpoint if there is one, stop after the steps or minutes.

    begin: checkpoint of the teacher (step 1); of a trained student for step 4 (source 'both'). Of a teacher's
    checkpoint, 'direct' takes the settings of the network alone. Raises CheckpointError (also for a student of another
    body model) and TrainingError.
    """
    state = read_checkpoint(begin)
    teacher = teacher_settings(state, begin)
    _check_body_model(state, begin, settings.body_model)
    torch.manual_seed(settings.loop.seed)
    network = StudentTraining(teacher, settings, model)
    if settings.source != 'direct':
        _begin(network, state, begin)
    clips, watched = clips_of(recording), clips_of(validation)
    loss = StudentLoss(settings, teacher)
    loop = settings.loop
    if settings.source == 'both':
        loop = replace(loop, learning_rate=FINE * loop.learning_rate, betas=teacher.loop.betas)
    run = loss.run = Run(network, loop, {**identity_of(settings), 'teacher': asdict(teacher) | {'loop': None}},
                         command, rates={'critic': CRITIC_RATE, 'adaptation.logits': MOVING})

    def stream(rng: np.random.Generator) -> Iterator[dict[str, NDArray]]:
        if settings.source == 'both':
            return batches(clips, replace(teacher, batch=settings.batch), rng)
        return clip_batches(clips, teacher.frames, settings.batch, rng)

    return fit(run, loss, stream, lambda network: {**loss.parts, **watch(network, watched, settings, out, run.step)},
               out, minutes, quiet)


def identity_of(settings: StudentSettings) -> dict[str, object]:
    """Return what must be the same to continue a training."""
    return {'network': 'posenet3d student', **{name: value for name, value in asdict(settings).items()
                                               if name != 'loop'}}


def teacher_settings(state: dict, path: Path) -> TeacherSettings:
    """Return the settings of the teacher of a checkpoint of any step. Raises CheckpointError."""
    try:
        identity = state['identity']
        told = identity.get('teacher', identity)
        return replace(TeacherSettings(), **{name: told[name] for name in asdict(TeacherSettings()) if name != 'loop'})
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f'{path} is not a checkpoint of PoseNet3D ({error})') from error


def _check_body_model(state: dict, path: Path, digest: str) -> None:
    """Raise CheckpointError if a checkpoint's student was trained with another body model; '' knows none."""
    known = state['identity'].get('body_model', '')
    if known and digest and known != digest:
        raise CheckpointError(f'{path} was trained with another body model: give its file (--body-model)')


def _begin(network: StudentTraining, state: dict, path: Path) -> None:
    """Take over what a checkpoint has; of a teacher's, its student branch means nothing, for it was not trained."""
    known = {name: value for name, value in state['result'].items()
             if 'teacher' in state['identity'] or not name.startswith('net.student')}
    missing, unknown = network.load_state_dict(known, strict=False)
    wanted = [name for name in missing if name.startswith(('net.backbone', 'net.teacher'))]
    if wanted or unknown:
        raise CheckpointError(f'{path} is not what this begins with: {", ".join([*wanted, *unknown][:3])}')


def watch(network: nn.Module, clips: Clips, settings: StudentSettings, out: Path, step: int) -> dict[str, float]:
    """Keep what both branches say of held-out people; return how far they are apart, in units."""
    assert isinstance(network, StudentTraining)
    moments, views = watched_moments(clips, settings.watched)
    both = branches(network, clips, moments, views)
    (out / PREDICTIONS).mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out / PREDICTIONS / f'{step:06d}.npz', teacher=both[0], student=both[1])
    return {'apart': float(np.linalg.norm(both[0] - both[1], axis=-1).mean())}


@torch.no_grad()
def branches(network: StudentTraining, clips: Clips, moments: NDArray, views: NDArray, frame: int | None = None,
             batch: int = 1024) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the joints (B, 14, 3) in units that teacher and student give; arguments as of posenet3d.lifted."""
    network.eval()
    net = network.net
    frame = net.frames // 2 if frame is None else frame
    parts = []
    for start in range(0, len(moments), batch):
        part = slice(start, start + batch)
        clip, seen = (torch.from_numpy(each) for each in clips.windows(moments[part], views[part], net.frames, frame))
        shown, _ = normalised(clip, seen)
        features = net.features(shown, seen)
        joints = network.adaptation(network.model, net.body(features, [frame]))
        parts.append((net.lift(features, shown, seen)[:, frame].numpy(), joints[:, 0].numpy()))
    first, second = (np.concatenate(part) for part in zip(*parts))
    return first, second


def load_student(path: Path, model: BodyModel,
                 digest: str = '') -> tuple[StudentTraining, StudentSettings, TeacherSettings, str]:
    """Return the networks of a checkpoint, how they were trained, and the command.

    digest: of the body model's file. Raises CheckpointError, also where another one was trained with.
    """
    state = read_checkpoint(path)
    teacher = teacher_settings(state, path)
    _check_body_model(state, path, digest)
    try:
        known = {name: state['identity'][name] for name in asdict(StudentSettings()) if name != 'loop'}
        settings = replace(StudentSettings(), **known)
        network = StudentTraining(teacher, settings, model)
        network.load_state_dict(state['result'])
        return network.eval(), settings, teacher, str(state['command'])
    except (KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f'{path} is not a checkpoint of a PoseNet3D student ({error})') from error
