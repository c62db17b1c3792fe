"""The training loop: it learns, it stops when told, and a stopped run continues as if it had not been stopped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='training needs PyTorch: make train-env')

from torch import Tensor, nn  # noqa: E402

from pose3d_ros.train.loop import (  # noqa: E402
    CHECKPOINT,
    LOG,
    CheckpointError,
    LoopSettings,
    Run,
    TrainingError,
    fit,
    learning_rate_factor,
    read_checkpoint,
)

torch.set_num_threads(1)
SETTINGS = LoopSettings(steps=60, learning_rate=0.02, warm_up=5, validate_every=20, average=0.9)


def batches(rng: np.random.Generator) -> Iterator[dict[str, np.ndarray]]:
    while True:
        x = rng.standard_normal((32, 3)).astype(np.float32)
        yield {'x': x, 'y': x @ np.array([[1.0], [-2.0], [0.5]], np.float32)}


def loss(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return (network(batch['x']) - batch['y']).abs().mean()


def validate(network: nn.Module) -> dict[str, float]:
    assert not network.training
    with torch.no_grad():
        return {'error': float(network(torch.eye(3)).sub(torch.tensor([[1.0], [-2.0], [0.5]])).abs().max())}


def make(settings: LoopSettings = SETTINGS, **options: object) -> Run:
    torch.manual_seed(settings.seed)
    return Run(nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.1), nn.Linear(8, 1)), settings, **options)


def train(out: Path, settings: LoopSettings = SETTINGS, **limits: float) -> Run:
    return fit(make(settings), loss, batches, validate, out, quiet=True, **limits)


@pytest.mark.parametrize('settings', [
    SETTINGS, replace(SETTINGS, optimiser='rmsprop', schedule='steps', learning_rate=0.01, average=0.0)])
def test_it_learns(settings: LoopSettings, tmp_path: Path) -> None:
    run = train(tmp_path, replace(settings, steps=300))
    assert validate(run.result)['error'] < 0.3
    rows = (tmp_path / LOG).read_text().splitlines()
    assert rows[0] == 'step,seconds,loss,error' and len(rows) == 16
    assert float(rows[-1].split(',')[3]) < float(rows[1].split(',')[3])


@pytest.mark.parametrize('average', [0.0, 0.9])
def test_a_stopped_run_continues_bit_by_bit(average: float, tmp_path: Path) -> None:
    """As when the process dies at step 40 of 60: the second process knows only the checkpoint."""
    settings = replace(SETTINGS, schedule='steps', average=average)
    whole = train(tmp_path / 'whole', settings)

    class DeathError(Exception):
        pass

    def dying(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        dying.calls += 1
        if dying.calls > 47:
            raise DeathError
        return loss(network, batch)

    dying.calls = 0
    with pytest.raises(DeathError):
        fit(make(settings), dying, batches, validate, tmp_path / 'parts', quiet=True)
    assert read_checkpoint(tmp_path / 'parts' / CHECKPOINT)['step'] == 40
    parts = train(tmp_path / 'parts', settings)
    assert parts.step == whole.step == 60
    for a, b in zip(whole.result.state_dict().values(), parts.result.state_dict().values()):
        torch.testing.assert_close(a, b, atol=0, rtol=0)


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    train(tmp_path)
    log = (tmp_path / LOG).read_text()
    assert train(tmp_path).step == 60
    assert (tmp_path / LOG).read_text() == log


def test_a_limit_in_minutes_ends_the_run_with_a_checkpoint(tmp_path: Path) -> None:
    run = train(tmp_path, replace(SETTINGS, steps=10 ** 7, validate_every=10 ** 6), minutes=0.005)
    assert 0 < run.step < 10 ** 5
    assert read_checkpoint(tmp_path / CHECKPOINT)['step'] == run.step


def test_the_learning_rate_rises_then_falls() -> None:
    assert learning_rate_factor(SETTINGS, 0, 0.0) == pytest.approx(0.2)
    assert learning_rate_factor(SETTINGS, 30, 0.5) == pytest.approx(0.5)
    assert learning_rate_factor(SETTINGS, 60, 1.0) == pytest.approx(0.0)
    steps = replace(SETTINGS, schedule='steps')
    assert [learning_rate_factor(steps, 30, progress) for progress in (0.5, 0.8)] == [1.0, 0.1]
    for wrong in (replace(SETTINGS, schedule='x'), replace(SETTINGS, optimiser='x')):
        with pytest.raises(ValueError, match='expected'):
            make(wrong).update(loss, next(batches(np.random.default_rng(0))), 0.0)


def test_weights_learn_at_their_share_of_the_rate(tmp_path: Path) -> None:
    run, batch = make(replace(SETTINGS, warm_up=1), rates={'2': 0.0}), next(batches(np.random.default_rng(0)))
    before = {name: weight.clone() for name, weight in run.network.state_dict().items()}
    run.update(loss, batch, 0.0)
    assert {name[0] for name, weight in run.network.state_dict().items() if not torch.equal(weight, before[name])} == {
        '0'}
    for group in run.optimiser.param_groups:   # as checkpoints from before there were shares
        del group['share']
    run.save(tmp_path / CHECKPOINT)
    run.load(tmp_path / CHECKPOINT)
    run.update(loss, batch, 0.5)
    assert run.step == 2


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    fit(make(identity={'width': 8}), loss, batches, validate, tmp_path, quiet=True)
    with pytest.raises(CheckpointError, match='other settings .width'):
        make(identity={'width': 9}).load(tmp_path / CHECKPOINT)
    with pytest.raises(CheckpointError, match='seed'):
        make(replace(SETTINGS, seed=1), identity={'width': 8}).load(tmp_path / CHECKPOINT)
    with pytest.raises(CheckpointError, match='not a checkpoint of this network'):
        Run(nn.Linear(2, 2), SETTINGS, {'width': 8}).load(tmp_path / CHECKPOINT)
    with pytest.raises(CheckpointError, match='train first'):
        read_checkpoint(tmp_path / 'nowhere')
    (tmp_path / CHECKPOINT).write_bytes(b'something else')
    with pytest.raises(CheckpointError, match='is not a checkpoint'):
        read_checkpoint(tmp_path / CHECKPOINT)


def test_a_loss_that_is_not_a_number_stops_the_run_and_spares_the_checkpoint(tmp_path: Path) -> None:
    train(tmp_path, replace(SETTINGS, steps=20))
    with pytest.raises(TrainingError, match='not a number'):
        fit(make(), lambda network, batch: loss(network, batch) * float('nan'), batches, validate, tmp_path, quiet=True)
    assert read_checkpoint(tmp_path / CHECKPOINT)['step'] == 20
