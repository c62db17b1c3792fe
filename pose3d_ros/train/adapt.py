"""Site adaptation: the lifter, trained further on what a site's own cameras saw, without labels.

What one camera's people must look like from the others (equation 5 of Li et al., AAAI 2020) is all there is to learn
from. So that little data spoils nothing, the network also goes on learning from motion capture, or what it knew about
made-up people where there is none; it is drawn towards the weights it began with; and what comes out is kept only
where a later part of the recording, which nothing was learnt from, says that it is better.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pose3d_ros.lift import input_points
from pose3d_ros.nets.window import WindowLifter
from pose3d_ros.train.adapt_geometry import crossview_loss, unlifted
from pose3d_ros.train.adapt_judge import compare, covered, errors_px, figures_of, fitting_trust, per_camera
from pose3d_ros.train.adapt_replay import Replay, shown
from pose3d_ros.train.adapt_statures import RANGE_M, Statures, estimate, reestimate, stature_prior
from pose3d_ros.train.adapt_vary import site_arrays, varied
from pose3d_ros.train.export import ADULTS, export
from pose3d_ros.train.load_lifter import load_lifter
from pose3d_ros.train.loop import CHECKPOINT, LoopSettings, Run, fit, read_checkpoint
from pose3d_ros.train.mocap import Mocap
from pose3d_ros.train.site import SiteRecording

ADAPTED, BEST = 'lifter.onnx', 'best.pt'
GAIN = 20.0         # statures are learnt so much faster than weights
WORTH_IT = 0.005    # by this share the loss on held-back data has to fall for weights to be changed at all


@dataclass(frozen=True)
class AdaptSettings:
    """What is learnt, and from how much of the recording.

    hold_out: share of the time, its end, on which the result is judged; inner: of the rest, for choosing among the
    steps and for the covariances. own: what a sample's own camera counts against the others; replay, pull: what motion
    capture and the way from the old weights count; tall: of the prior on statures.
    know_up: share of samples of which the network is told the upward direction, where it is known. learning_rate: what
    the rate rises towards during half of the steps, while it also begins to fall (half of it is reached), so that small
    changes are judged before large ones: one site asks for large ones, another for small ones or none.
    """

    hold_out: float = 0.4
    inner: float = 0.2
    steps: int = 200
    batch: int = 96
    learning_rate: float = 1e-4
    own: float = 0.3
    replay: float = 3.0
    pull: float = 1.0
    tall: float = 0.01
    know_up: float = 0.5
    replay_samples: int = 8192
    seed: int = 0
    validate_every: int = 20

    def loop(self) -> LoopSettings:
        """Return how the loop runs."""
        return LoopSettings(steps=self.steps, learning_rate=self.learning_rate, warm_up=max(self.steps // 2, 1),
                            weight_decay=0.0, average=0.97, validate_every=self.validate_every, seed=self.seed)


@dataclass(frozen=True)
class Report:
    """What came of it. adapted: whether there is a new lifter, at `path`; reason: why, or why not, in a sentence.

    figures: all numbers (JSON). For pictures: held, the samples that it was judged on; before, after (N, 17, 3) m in
    the optical frames of their cameras, as a robot would be told them; reference (N, 13, 3) m, all cameras together.
    """

    adapted: bool
    reason: str
    path: Path | None
    figures: dict[str, object]
    held: SiteRecording
    before: NDArray[np.float32]
    after: NDArray[np.float32]
    reference: NDArray[np.float64]


class SiteNetwork(nn.Module):
    """The lifter and the statures of the people it learns from, shared by all cameras and moments."""

    def __init__(self, lifter: WindowLifter, stature: NDArray) -> None:
        super().__init__()
        self.lifter = lifter
        self.start: Tensor
        self.register_buffer('start', torch.from_numpy(np.log(stature).astype(np.float32)))
        self.grown = nn.Parameter(torch.zeros(len(stature)))

    @property
    def log_stature(self) -> Tensor:
        """The logarithms of the statures (P,) m."""
        return (self.start + GAIN * self.grown).clamp(math.log(RANGE_M[0]), math.log(RANGE_M[1]))

    def joints(self, batch: dict[str, Tensor]) -> Tensor:
        """Return joints (B, 17, 3) m of the people `person` (B,) in the optical frame."""
        # Joints are judged where they are: a pose that is changed moves the place that follows from it.
        unit = self.lifter.unit(*shown(batch), through=True)
        return (unit.root + unit.relative) @ unit.turn * self.log_stature.exp()[batch['person']][:, None, None]


class SiteLoss:
    """What a step minimises: see AdaptSettings for its parts."""

    def __init__(self, settings: AdaptSettings, network: SiteNetwork, replay: Replay) -> None:
        self.settings, self.replay = settings, replay
        # The covariances' own layers follow nothing but what is replayed.
        self.old = {name: value.detach().clone() for name, value in network.lifter.named_parameters()
                    if value.requires_grad}
        self.points = torch.tensor(input_points(), dtype=torch.float32)

    def __call__(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        assert isinstance(network, SiteNetwork)
        settings, lifter = self.settings, network.lifter
        told = {name.removeprefix('site.'): value for name, value in batch.items() if name.startswith('site.')}
        across = crossview_loss(network.joints(told), {**told, 'input_points': self.points}, settings.own)
        known = self.replay.loss(lifter, {name: value for name, value in batch.items() if not name.startswith('site.')})
        away = sum(((value - self.old[name]).square().sum() / self.old[name].square().sum().clamp(min=1e-3)
                    for name, value in lifter.named_parameters() if name in self.old), torch.zeros(()))
        tall = ((network.log_stature - math.log(ADULTS[0])) / 0.25).square().mean()
        return across + settings.replay * known + settings.pull * away + settings.tall * tall


def site_batches(site: SiteRecording, people: Statures, replay: Replay, settings: AdaptSettings,
                 rng: np.random.Generator) -> Iterator[dict[str, NDArray]]:
    """Yield batches for ever: samples of the site, every person alike, and what is replayed beside them."""
    arrays = site_arrays(site, people)
    chance = 1 / np.sqrt(np.bincount(people.person)[people.person])
    chance /= chance.sum()
    while True:
        rows = rng.choice(len(site), settings.batch, p=chance)
        drawn = varied({name: value[rows] for name, value in arrays.items()}, rng)
        batch = {f'site.{name}': value for name, value in drawn.items()}
        batch['site.up'] = np.where(rng.random((settings.batch, 1)) < settings.know_up, batch['site.up'], np.float32(0))
        yield {**batch, **replay.draw(settings.batch, rng)}


class Chosen:
    """The best weights so far, judged on the inner part; kept in a file, so that a stopped run goes on with them."""

    def __init__(self, run: Run, inner: SiteRecording, people: Statures, out: Path) -> None:
        self.run, self.path = run, out / BEST
        if not (out / CHECKPOINT).exists():
            self.path.unlink(missing_ok=True)
        self.batch = {name: torch.from_numpy(value) for name, value in site_arrays(inner, people).items()}
        self.batch['input_points'] = torch.tensor(input_points(), dtype=torch.float32)
        self.first = self.error(run.result)
        self.best = self.first * (1 - WORTH_IT)

    @torch.no_grad()
    def error(self, network: nn.Module) -> float:
        """Return the cross-view loss on the inner part."""
        assert isinstance(network, SiteNetwork)
        return float(crossview_loss(network.eval().joints(self.batch), self.batch, 0.0))

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """Keep the network if it is the best; return the figures for the log."""
        error = self.error(network)
        known = read_checkpoint(self.path) if self.path.exists() else {'error': self.best, 'step': 0}
        if error < float(known['error']):
            part = self.path.with_suffix('.part')
            torch.save({'error': error, 'step': self.run.step, 'network': network.state_dict()}, part)
            part.replace(self.path)
        return {'across': error, 'across_before': self.first, 'best': min(error, float(known['error']))}

    def take(self, network: SiteNetwork) -> int:
        """Give a network the best weights; return their step, 0 where none were better than those at the start."""
        if not self.path.exists():
            return 0
        best = read_checkpoint(self.path)
        network.load_state_dict(best['network'])
        return int(best['step'])


@dataclass
class _Outcome:
    """The lifter as it is after learning, and what is told with it."""

    lifter: WindowLifter
    people: Statures
    stature: tuple[float, float]
    step: int = 0
    seconds: float = 0.0
    figures: dict[str, object] = field(default_factory=dict)


def adapt(site: SiteRecording, out: Path, lifter: Path | None = None, settings: AdaptSettings | None = None,
          mocap: Mocap | None = None, minutes: float = math.inf, command: str = '', quiet: bool = False) -> Report:
    """Adapt a lifter (a file; None: the one that ships) to a site in the folder `out`; continue what was begun there.

    mocap: motion capture to go on learning from, None for made-up people. Writes out/lifter.onnx where the result is
    better, and nothing but checkpoints and the log otherwise. Raises SiteError, LifterFileError, CheckpointError,
    TrainingError and ExportError.
    """
    settings = settings or AdaptSettings()
    network, metadata = load_lifter(lifter)
    mean, deviation = map(float, json.loads(metadata['stature']))
    old = (mean, deviation)
    learnt, held = site.split(settings.hold_out)
    out.mkdir(parents=True, exist_ok=True)
    trust = float(network.trust)
    replay = Replay(network, mocap, settings.seed, settings.replay_samples)
    said = unlifted(network, held)
    before, reference = said.metres(old[0]), held.reference()
    coverage, known = covered(network, held, old), replay.errors(network)
    new = _learn(network, learnt, replay, settings, old, out, minutes, command, quiet)
    after = unlifted(new.lifter, held).metres(new.stature[0])
    errors = errors_px(before, held), errors_px(after, held)
    verdict = compare(*errors, held)
    result = {name: figures_of(joints, reference, held) for name, joints in (('before', before), ('after', after))}
    result['before']['coverage_90'], result['after']['coverage_90'] = coverage, covered(new.lifter, held, new.stature)
    figures: dict[str, object] = {
        **result, **{f'{name}_gain': 1 - result['after'][key] / result['before'][key] for name, key in (
            ('crossview', 'crossview_px'), ('mrpe', 'reference_mrpe_mm'))},
        'blocks': verdict.blocks, 'change_px': verdict.change, 'margin_px': verdict.margin,
        'cameras': per_camera(*errors, held), 'stature_before_m': list(old), 'stature_after_m': list(new.stature),
        'people': [{'person': number + 1, 'stature_m': float(new.people.stature[number]),
                    'sigma_m': float(new.people.sigma[number]), 'samples': int(new.people.samples[number])}
                   for number in range(len(new.people.stature))],
        'trust_before': trust, 'trust_after': float(new.lifter.trust), 'replay_before': known,
        'replay_after': replay.errors(new.lifter), 'chosen_step': new.step, 'steps': settings.steps,
        'training_s': new.seconds, 'samples_learnt': len(learnt), 'samples_held_out': len(held),
        'seconds_recorded': site.seconds, 'settings': asdict(settings)}
    path = None
    if verdict.better:
        path = out / ADAPTED
        export(new.lifter, path, {**_kept(metadata), 'adapted_command': command, 'adaptation': json.dumps({
            name: figures[name] for name in ('crossview_gain', 'mrpe_gain', 'chosen_step', 'stature_before_m')})},
            new.stature)
    else:  # only now: a call that fails leaves what an earlier one made
        (out / ADAPTED).unlink(missing_ok=True)
    reason = _reason(verdict.better, result, verdict.margin, verdict.change, new.step)
    return Report(verdict.better, reason, path, figures, held, before, after, reference)


def _learn(network: WindowLifter, learnt: SiteRecording, replay: Replay, settings: AdaptSettings,
           stature: tuple[float, float], out: Path, minutes: float, command: str, quiet: bool) -> _Outcome:
    """Train on the first part; return the best of it, or the network as it was with the statures found."""
    started = time.monotonic()
    people = estimate(unlifted(network, learnt), learnt)
    outer, inner = learnt.split(settings.inner)
    of = {part: replace(people, person=people.person[np.isin(_row_keys(learnt), _row_keys(samples))])
          for part, samples in (('outer', outer), ('inner', inner))}
    torch.manual_seed(settings.seed)
    begun = SiteNetwork(network, people.stature)
    run = Run(begun, settings.loop(), {**asdict(settings), 'network': 'site', 'site': learnt.fingerprint(),
                                       'lifter': _digest(network), 'replay': replay.name}, command)
    chosen = Chosen(run, inner, of['inner'], out)
    loss = SiteLoss(settings, begun, replay)
    fit(run, loss, lambda rng: site_batches(outer, of['outer'], replay, settings, rng), chosen, out, minutes, quiet)
    result = SiteNetwork(replay.old, people.stature)
    step = chosen.take(result)
    lifter = result.lifter.eval()
    if step:
        people = reestimate(unlifted(lifter, learnt), learnt, people)
        known = replace(people, person=of['inner'].person)
        lifter.trust.fill_(fitting_trust(lifter, unlifted(lifter, inner), inner, known))
    return _Outcome(lifter, people, stature_prior(people, stature), step, time.monotonic() - started)


def _row_keys(site: SiteRecording) -> NDArray:
    """Return what tells each sample (N,) from the others of its recording."""
    return np.array([hash(key) for key in zip(site.stamp_ns.tolist(), site.camera.tolist(), site.person.tolist())])


def _digest(network: WindowLifter) -> float:
    return float(sum(value.double().abs().sum() for value in network.state_dict().values()))


def _kept(metadata: dict[str, str]) -> dict[str, str]:
    """Return what the metadata of the old file say of where its weights come from."""
    return {name: metadata[name] for name in ('data', 'training_command', 'notice', 'licence') if name in metadata}


def _reason(better: bool, result: dict[str, dict[str, float]], margin: float, change: float, step: int) -> str:
    before, after = (result[name]['crossview_px'] for name in ('before', 'after'))
    told = (f'on the part held out, people lie {after:.1f} px from where the other cameras saw them, '
            f'{before:.1f} px before')
    if not better:
        why = ('that part is too short to tell' if not math.isfinite(margin) else
               f'the change of {change:+.1f} px is within what chance makes of it, or none to the better')
        return f'{told}: {why}, so the lifter stays as it was'
    return told + (f' (sure to {margin:.1f} px)' if step else '; the weights stay, the stature that is assumed changes')
