"""Training of the 3D Human Pose Machine: clips, the steps of Algorithm 1, and the rows of the ablation."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from procedural import write_mocap

torch = pytest.importorskip('torch', reason='training needs PyTorch: make train-env')

from pose3d_ros.lift import INPUTS, input_points  # noqa: E402
from pose3d_ros.nets.correction import CorrectionSettings  # noqa: E402
from pose3d_ros.nets.machine import Machine  # noqa: E402
from pose3d_ros.stature import stature  # noqa: E402
from pose3d_ros.train.body import NO_VARIATION  # noqa: E402
from pose3d_ros.train.errors import NO_ERRORS, ErrorModel  # noqa: E402
from pose3d_ros.train.loop import CHECKPOINT, CheckpointError, LoopSettings, Run  # noqa: E402
from pose3d_ros.train.machine import (  # noqa: E402
    TRAININGS,
    MachineLoss,
    MachineSettings,
    as_batch,
    batches,
    canonical,
    fit_ranges,
    flat_loss,
    load_trained,
    make_network,
    pose_loss,
    train,
    validate,
)
from pose3d_ros.train.machine_data import (  # noqa: E402
    FEATURES,
    ClipModel,
    Clips,
    ClipSettings,
    draw_clips,
    lasting_errors,
    stills,
    stills_of,
    times,
)
from pose3d_ros.train.machine_variants import (  # noqa: E402
    COMPARISONS,
    FORMS,
    VARIANTS,
    curve,
    evaluate,
    make_correction,
    predict,
)
from pose3d_ros.train.mocap import Mocap, load_mocap  # noqa: E402
from pose3d_ros.train.samples import NO_MASKS, STEADY, SampleSettings  # noqa: E402

torch.set_num_threads(1)  # the networks here are too small for more
SHARP = ClipSettings(SampleSettings(NO_VARIATION, errors=NO_ERRORS, masks=NO_MASKS, window=STEADY),
                     ClipModel(frames=6))
NOISY = ClipSettings(clip=ClipModel(frames=6))
SMALL = MachineSettings(width=32, batch=16, stills=8, pool=64, uses=2)
LOOP = LoopSettings(steps=12, learning_rate=3e-3, warm_up=2, validate_every=6, average=0.5)


@pytest.fixture(scope='module')
def mocap(tmp_path_factory: pytest.TempPathFactory) -> Mocap:
    return load_mocap([write_mocap(Path(tmp_path_factory.mktemp('walk')) / 'walk.npz', 120)], 'train')


@pytest.fixture(scope='module')
def clips(mocap: Mocap) -> Clips:
    return draw_clips(mocap, 64, np.random.default_rng(0), NOISY)[0]


@pytest.fixture(scope='module')
def sharp(mocap: Mocap) -> Clips:
    return draw_clips(mocap, 64, np.random.default_rng(0), SHARP)[0]


def tensors(clips: Clips, flat: object = None) -> dict:
    batch = as_batch(clips, flat, 8, np.random.default_rng(0))  # type: ignore[arg-type]
    return {name: torch.from_numpy(array) for name, array in batch.items()}


# --- clips -----------------------------------------------------------------------------------------------------------

def test_rays_of_a_detector_without_errors_are_those_of_the_truth(sharp: Clips) -> None:
    seen = (sharp.confidence > 0) & (np.arange(len(INPUTS)) < len(INPUTS) - 1)   # the ears lie within a range
    assert seen.mean() > 0.5
    np.testing.assert_allclose(sharp.rays[seen], sharp.truth[seen], atol=2e-4)
    # Poses are in statures, before the camera turned to the person: somewhere along the axis they meet the rays.
    joints = input_points() @ sharp.pose
    whole = (sharp.confidence > 0).all(axis=2)
    depth = 1 / np.linalg.norm(np.ptp(sharp.truth, axis=2), axis=2)
    assert np.corrcoef(joints[whole][:, :12, 0].ravel() / np.repeat(depth[whole], 12),
                       sharp.truth[whole][:, :12, 0].ravel())[0, 1] > 0.7
    np.testing.assert_allclose(stature((sharp.pose * sharp.stature[:, None, None, None])[:, 0]), sharp.stature,
                               rtol=0.02)


def test_clips_run_forward_in_time_at_the_rates_asked_for() -> None:
    model = ClipModel(frames=200, rate_hz=(5, 30), jitter=0.2, gap=0.1)
    since = times(300, np.random.default_rng(0), model)
    assert not since[:, 0].any()
    assert since[:, 1:].min() > 0.8 / 30 - 1e-6
    rates = 1 / np.median(since[:, 1:], axis=1)
    assert 5 * 0.8 < rates.min() < 6 and 24 < rates.max() < 36
    missing = (since[:, 1:] > 1.5 * np.median(since[:, 1:], axis=1)[:, None]).mean()
    assert abs(missing - 0.1) < 0.02


def test_bodies_move_on_between_frames_as_the_motion_capture_does(mocap: Mocap) -> None:
    settings = replace(SHARP, clip=ClipModel(frames=4, rate_hz=(30, 30.0001), jitter=0, gap=0))
    found = draw_clips(mocap, 40, np.random.default_rng(1), settings)[0]
    # Distances between joints do not depend on the camera: the clips must be pieces of the recording, forward in time.
    recorded = between(mocap.positions)
    pieces = np.stack([recorded[start:start + 4] for start in range(len(recorded) - 3)]).reshape(-1, 4 * 17 * 17)
    made = between(found.pose * found.stature[:, None, None, None])
    inside = [np.abs(pieces - part.ravel()).max(axis=1).min() < 2e-3 for part in made]
    backwards = [np.abs(pieces - part[::-1].ravel()).max(axis=1).min() < 2e-3 for part in made]
    assert np.mean(inside) > 0.85 and np.mean(backwards) < 0.1   # some clips begin before the recording does


def between(pose: np.ndarray) -> np.ndarray:
    """Return the distances (..., 17, 17) between joints."""
    return np.linalg.norm(pose[..., :, None, :] - pose[..., None, :, :], axis=-1)


def test_errors_last_as_long_as_the_model_says() -> None:
    model = ErrorModel(memory_s=0.25, tremble=0.0)
    for step, kept in ((0.05, np.exp(-0.2)), (0.5, np.exp(-2))):
        since = np.full((200, 8), step, np.float32)
        error, confidence = lasting_errors(model, since, np.random.default_rng(0))
        same = (error[:, 1:] == error[:, :-1]).all(axis=3)
        assert abs(same.mean() - kept) < 0.02
        assert (confidence[:, 1:] == confidence[:, :-1])[same].all()


def test_the_same_seed_draws_the_same_clips_and_uses_differ_in_errors_only(mocap: Mocap) -> None:
    one, other = (draw_clips(mocap, 16, np.random.default_rng(5), NOISY, uses=2) for _ in range(2))
    np.testing.assert_array_equal(one[1].features, other[1].features)
    np.testing.assert_array_equal(one[0].since, one[1].since)
    np.testing.assert_array_equal(one[0].stature, one[1].stature)
    assert np.abs(one[0].rays - one[1].rays).max() > 0


def test_2d_data_holds_nothing_in_3d(clips: Clips) -> None:
    flat = stills_of(clips)
    assert {name for name in vars(flat)} == {'features', 'rays', 'confidence'}
    assert flat.features.shape[1] == FEATURES
    again = stills(flat.rays, flat.confidence)     # rays that are turned to the person stay about as they are
    np.testing.assert_allclose(again.rays[flat.confidence > 0], flat.rays[flat.confidence > 0], atol=0.05)


# --- losses ----------------------------------------------------------------------------------------------------------

def test_the_loss_in_the_image_knows_neither_place_nor_size_nor_joints_without_weight() -> None:
    torch.manual_seed(0)
    rays, weight = torch.randn(7, 13, 2), torch.rand(7, 13, 1)
    weight[:, 4] = 0
    moved = 3 * rays - 1
    moved[:, 4] = 100
    assert flat_loss(moved, rays, weight) < 1e-9
    assert flat_loss(0.01 * torch.randn(7, 13, 2), rays, weight) > 0.1   # being small does not help
    flat = canonical(rays, torch.ones(7, 13, 1))
    torch.testing.assert_close(flat.mean(dim=1), torch.zeros(7, 2), atol=1e-6, rtol=0)
    torch.testing.assert_close(flat.square().sum(dim=2).mean(dim=1), torch.ones(7))


def learning(settings: MachineSettings, step: int, batch: dict) -> set[str]:
    """Return which functions get a gradient at a step of 100."""
    torch.manual_seed(0)
    run = Run(make_network(settings), replace(LOOP, steps=100))
    run.step = step
    MachineLoss(settings, run)(run.network, batch).backward()
    return {name.split('.')[0] if not name.startswith('projector') else name.split('.')[1]
            for name, weight in run.network.named_parameters() if weight.grad is not None and weight.grad.any()}


def test_each_step_of_algorithm_1_trains_what_it_should(clips: Clips) -> None:
    batch = tensors(clips, stills_of(clips))
    lift, projector = {'encoder', 'transformer'}, {'regression', 'projection'}
    assert learning(SMALL, 0, batch) == lift
    assert learning(SMALL, 60, batch) == projector
    assert learning(SMALL, 95, batch) == lift | projector
    for step in (0, 60, 95):
        assert learning(replace(SMALL, training='no_correction'), step, batch) == lift
        assert learning(replace(SMALL, training='no_projection'), step, batch) == {*lift, 'teller'}


def test_frames_in_which_nobody_is_seen_do_not_count(clips: Clips) -> None:
    batch = tensors(clips)
    network = make_network(SMALL).eval()
    pose, _ = network.lift(batch['features'], batch['since'])
    batch['seen'][:, 2] = 0
    wild = batch | {'pose': batch['pose'].clone()}
    wild['pose'][:, 2] += 5
    torch.testing.assert_close(pose_loss(pose, wild), pose_loss(pose, batch))


def test_2d_data_teaches_in_the_last_step(clips: Clips) -> None:
    def loss(batch: dict) -> float:
        torch.manual_seed(0)
        run = Run(make_network(replace(SMALL, dropout=0.0)), replace(LOOP, steps=100))
        run.step = 95
        return MachineLoss(SMALL, run)(run.network, batch).item()

    batch = tensors(clips, stills_of(clips))
    other = batch | {'still_rays': batch['still_rays'].flip(1)}
    assert abs(loss(batch) - loss(other)) > 1e-3


# --- training --------------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def trained(clips: Clips, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a network that knows these few clips by heart: drawing more takes longer than learning."""
    torch.manual_seed(0)
    settings = replace(SMALL, skip=True, dropout=0.1)
    network, out = make_network(settings), tmp_path_factory.mktemp('machine')
    fit_ranges(network, clips)
    run = Run(network, replace(LOOP, steps=240, learning_rate=1e-2, schedule='steps', average=0.9), asdict(settings))
    loss, rng, flat = MachineLoss(settings, run), run.generator(), stills_of(clips)
    while run.step < 240:
        chosen = rng.permutation(len(clips))[:settings.batch]
        run.update(loss, as_batch(clips.where(chosen), flat, settings.stills, rng), run.step / 240)
    run.save(out / CHECKPOINT)
    return out


def test_the_same_training_ends_with_the_same_weights_and_is_read_back(mocap: Mocap, clips: Clips,
                                                                       tmp_path: Path) -> None:
    flat = stills_of(clips)
    one, other = (train(mocap, clips, flat, tmp_path / name, SMALL, LOOP, NOISY, quiet=True) for name in 'ab')
    network, settings, _ = load_trained(tmp_path / 'a' / CHECKPOINT)
    assert settings == SMALL and one.step == LOOP.steps
    for this, that, read in zip(*(module.state_dict().values() for module in (one.result, other.result, network))):
        torch.testing.assert_close(this, that)
        torch.testing.assert_close(this, read)
    with pytest.raises(CheckpointError, match='other settings'):
        train(mocap, clips, flat, tmp_path / 'a', replace(SMALL, width=16), LOOP, NOISY, quiet=True)


def test_a_short_training_learns_something_in_every_function(clips: Clips, trained: Path) -> None:
    network, _, _ = load_trained(trained / CHECKPOINT)
    torch.manual_seed(0)
    fresh = make_network(replace(SMALL, skip=True))
    fit_ranges(fresh, clips)
    before, after = validate(fresh, clips), validate(network, clips)
    assert all(after[name] < 0.7 * before[name] for name in before), (before, after)


@pytest.mark.parametrize('training', TRAININGS)
def test_every_training_of_the_table_runs(training: str, mocap: Mocap, clips: Clips, tmp_path: Path) -> None:
    train(mocap, clips, stills_of(clips), tmp_path, replace(SMALL, training=training), replace(LOOP, steps=6), NOISY,
          quiet=True)
    network, settings, _ = load_trained(tmp_path / CHECKPOINT)
    assert settings.training == training
    correction = make_correction(network, 'learned', CorrectionSettings(rate=0.01, projection_rate=0.01))
    for name, variant in VARIANTS.items():
        if variant.training == training:
            assert 0 < evaluate(name, network, clips, correction).mpjpe_mm < 5000


def test_other_trainings_are_refused() -> None:
    with pytest.raises(ValueError, match='expected one of'):
        make_network(MachineSettings(training='most'))


def test_batches_are_the_same_for_the_same_seed(mocap: Mocap, clips: Clips) -> None:
    flat = stills_of(clips)
    one, other = (batches(mocap, flat, NOISY, SMALL, np.random.default_rng(3)) for _ in range(2))
    for _ in range(5):
        for (name, array), again in zip(next(one).items(), next(other).values()):
            np.testing.assert_array_equal(array, again, err_msg=name)


# --- the ablation ----------------------------------------------------------------------------------------------------

def test_the_table_has_the_rows_of_the_paper_in_its_order() -> None:
    assert set(VARIANTS) == {'no_correction', 'no_test_correction', 'no_projection', 'no_temporal', 'single_frame',
                             'full', 'gt_2d'}
    for worse, better in COMPARISONS:
        assert VARIANTS[worse].published > VARIANTS[better].published


def test_rows_are_tested_as_they_say(clips: Clips, trained: Path) -> None:
    network: Machine = load_trained(trained / CHECKPOINT)[0]
    correction = make_correction(network, 'learned', CorrectionSettings(rate=0.02, projection_rate=0.02))
    found = {name: predict(network, clips, variant, correction)[0] for name, variant in VARIANTS.items()}
    with torch.no_grad():
        steps = network.clip(torch.from_numpy(clips.features), torch.from_numpy(clips.since))
    np.testing.assert_allclose(found['no_correction'], steps.pose.numpy(), atol=1e-6)
    np.testing.assert_allclose(found['no_test_correction'], steps.regressed.numpy(), atol=1e-6)
    assert np.abs(found['full'] - found['no_test_correction']).max() > 1e-3
    assert np.abs(found['full'] - found['gt_2d']).max() > 1e-3
    # A single frame is what the first one of a clip is; later ones remember.
    np.testing.assert_allclose(found['single_frame'][:, 0], found['full'][:, 0], atol=1e-4)
    assert np.abs(found['single_frame'] - found['full'])[:, -1].max() > 1e-3


@pytest.mark.parametrize('form', FORMS)
def test_corrections_with_the_true_joints_help_in_every_form(form: str, clips: Clips, trained: Path) -> None:
    network = load_trained(trained / CHECKPOINT)[0]
    rates = {'learned': (0.0, 0.02), 'pinhole': (0.0, 0.02), 'direct': (0.0, 0.2)}[form]
    settings = CorrectionSettings(rate=rates[1], projection_rate=0.0, discarded_m=1.0)
    with_truth = evaluate('gt_2d', network, clips, make_correction(network, form, settings))
    without = evaluate('no_test_correction', network, clips, make_correction(network, form, settings))
    assert with_truth.mpjpe_mm < without.mpjpe_mm
    found = curve(network, clips, form, rates, updates=(1, 2))
    assert len(found) == 4
    assert found[0.0, 1].mpjpe_mm == pytest.approx(found[0.0, 2].mpjpe_mm)


def test_other_forms_are_refused() -> None:
    with pytest.raises(ValueError, match='expected one of'):
        make_correction(make_network(SMALL), 'weak', CorrectionSettings(rate=0.1))
