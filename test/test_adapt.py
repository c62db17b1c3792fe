"""Site adaptation: the lifter read back from its file, what a site's cameras tell, and what is learnt from that."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip('torch', reason='training needs PyTorch: make train-env')

from pose3d_ros.fuse.views import View  # noqa: E402
from pose3d_ros.lift import INPUTS, Lifter, input_points, input_rays, lifter_file  # noqa: E402
from pose3d_ros.past import Past  # noqa: E402
from pose3d_ros.runtime.engine import Wanted  # noqa: E402
from pose3d_ros.skeleton import HUMAN17  # noqa: E402
from pose3d_ros.train.adapt import AdaptSettings, adapt  # noqa: E402
from pose3d_ros.train.adapt_geometry import between, crossview_loss, in_views, pixels_off, unlifted  # noqa: E402
from pose3d_ros.train.adapt_judge import compare  # noqa: E402
from pose3d_ros.train.adapt_statures import Statures, estimate, stature_prior  # noqa: E402
from pose3d_ros.train.adapt_vary import site_arrays, varied  # noqa: E402
from pose3d_ros.train.error_fit import load_errors  # noqa: E402
from pose3d_ros.train.export import ADULTS, export, parity  # noqa: E402
from pose3d_ros.train.lifter import LifterSettings, make_network  # noqa: E402
from pose3d_ros.train.load_lifter import LifterFileError, load_lifter  # noqa: E402
from pose3d_ros.train.loop import CheckpointError, learning_rate_factor  # noqa: E402
from pose3d_ros.train.procedural import procedural_mocap  # noqa: E402
from pose3d_ros.train.read_site import _poses_at, read_site  # noqa: E402
from pose3d_ros.train.site import SiteError, SiteRecording, load_site  # noqa: E402
from pose3d_ros.train.synthetic_site import SiteLayout, SyntheticSite  # noqa: E402

torch.set_num_threads(1)
LAYOUT = SiteLayout((1.15,), cameras=3, rate=8.0, seconds=16.0, area_m=0.8)
FEW = AdaptSettings(steps=4, batch=16, validate_every=2, replay_samples=64)


@pytest.fixture(scope='module')
def place() -> SyntheticSite:
    """A child before three cameras that are not synchronised."""
    return SyntheticSite(procedural_mocap(clips=12), LAYOUT, load_errors('blazepose_full'), np.random.default_rng(0))


@pytest.fixture(scope='module')
def site(place: SyntheticSite) -> SiteRecording:
    return read_site(place.views)


@pytest.fixture(scope='module')
def exact() -> tuple[SyntheticSite, SiteRecording]:
    """The same without errors."""
    place = SyntheticSite(procedural_mocap(clips=12), LAYOUT, None, np.random.default_rng(0))
    return place, read_site(place.views)


@pytest.fixture(scope='module')
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small lifter that knows nothing."""
    path = tmp_path_factory.mktemp('lifter') / 'small.onnx'
    torch.manual_seed(0)
    network = make_network(LifterSettings(width=32, blocks=1, mixed=False)).eval()
    for value in network.parameters():  # equal tensors would share a name in the file
        value.data += 0.02 * torch.rand_like(value)
    for name, value in network.named_buffers():
        if 'running' in name:
            value += torch.rand_like(value)
    export(network, path, {}, (1.5, 0.2))
    return path


def people_of(site: SiteRecording, stature: float) -> Statures:
    return Statures(np.array([stature]), np.array([0.02]), np.array([len(site)]), np.zeros(len(site), np.intp), ((1,),))


def test_a_lifter_read_from_its_file_computes_what_the_file_does(small: Path, tmp_path: Path) -> None:
    network, metadata = load_lifter(small)
    assert parity(network, small) < 1e-4 and json.loads(metadata['stature']) == [1.5, 0.2]
    export(network, tmp_path / 'again.onnx', {})
    twice, _ = load_lifter(tmp_path / 'again.onnx')
    for name, value in network.state_dict().items():
        torch.testing.assert_close(twice.state_dict()[name], value, rtol=0, atol=0)
    assert parity(load_lifter()[0], lifter_file()) < 1e-4


def test_training_leaves_its_batch_norms_alone() -> None:
    network, _ = load_lifter()
    frozen = {name: value.clone() for name, value in network.state_dict().items()
              if 'norm' in name or 'running' in name}
    network.train()
    optimiser = torch.optim.SGD([value for value in network.parameters() if value.requires_grad], 1e-3)
    told = torch.rand(8, 5, 13, 2), torch.ones(8, 5, 13), torch.zeros(8, 5), torch.zeros(8, 3), torch.zeros(8, 1)
    network.unit(*told).root.sum().backward()
    optimiser.step()
    assert len(frozen) > 4
    for name, value in frozen.items():
        assert torch.equal(network.state_dict()[name], value)


def test_other_files_are_refused_with_a_cure(small: Path, tmp_path: Path) -> None:
    model = onnx.load(str(small))
    del model.metadata_props[:]
    onnx.save(model, str(tmp_path / 'unnamed.onnx'))
    (tmp_path / 'text.onnx').write_text('no network')
    for name, told in (('unnamed', 'joints'), ('text', 'no readable'), ('missing', 'no readable')):
        with pytest.raises(LifterFileError, match=told) as error:
            load_lifter(tmp_path / f'{name}.onnx')
        assert 'pose3d export lifter' in str(error.value) and '\n' not in str(error.value)


def test_windows_are_those_of_the_lifter(place: SyntheticSite, site: SiteRecording) -> None:
    past, checked = Past(len(INPUTS)), 0
    for view in place.views['camera1']:
        if not view.people_2d:
            continue
        person, = view.people_2d
        rays, sure = input_rays(person.skeleton, person.rays[None], person.joint_confidence[None])
        window = past([person.id], rays, sure, view.stamp_ns)
        for row in np.flatnonzero((site.camera == 1) & (site.stamp_ns == view.stamp_ns)):
            for told, wanted in zip((site.rays, site.confidence, site.age), window):
                np.testing.assert_array_equal(told[row], wanted[0])
            checked += 1
    assert checked > 30 and (site.landmarks == 1).all() and (site.up == 0).all()


def test_the_others_rays_are_those_of_the_moment(exact: tuple[SyntheticSite, SiteRecording]) -> None:
    place, site = exact
    truth = place.truth(site)
    assert np.nanmedian(pixels_off(truth.astype(np.float32), site)) < 1.0
    assert np.nanmedian(np.linalg.norm(input_points() @ truth - site.reference(), axis=-1)) < 0.005
    assert (site.across().sum(axis=2) > 4).any(axis=1).all()


def test_the_cross_view_loss_is_nought_for_perfect_joints_alone(exact: tuple[SyntheticSite, SiteRecording]) -> None:
    place, site = exact
    truth = torch.from_numpy(place.truth(site).astype(np.float32))
    batch = {name: torch.from_numpy(value) for name, value in site_arrays(site, people_of(site, 1.15)).items()}
    batch['input_points'] = torch.tensor(input_points(), dtype=torch.float32)
    right, larger, moved = (float(crossview_loss(joints, batch, 1.0)) for joints in (
        truth, 1.1 * truth, truth + torch.tensor([0.1, 0.0, 0.0])))
    assert right < 0.05 and larger > 10 * right and moved > 10 * right


def test_a_childs_stature_is_found(site: SiteRecording) -> None:
    people = estimate(unlifted(load_lifter()[0], site), site)
    assert people.stature == pytest.approx(np.full(len(people.stature), 1.15), abs=0.09)
    assert len(people.names) <= len(np.unique(site.person))
    mean, deviation = stature_prior(people, ADULTS)
    assert 1.1 < mean < 1.4 and deviation > 0.1


def test_the_stature_that_is_assumed_is_the_less_sure_the_fewer_were_seen() -> None:
    def prior(count: int, stature: float = 1.2, spread: float = 0.0) -> tuple[float, float]:
        sizes = stature + spread * np.linspace(-1, 1, count)
        return stature_prior(replace(people_of_none, stature=sizes, sigma=np.full(count, 0.02)), ADULTS)

    people_of_none = Statures(np.zeros(0), np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.intp), ())
    means, deviations = zip(*(prior(count) for count in (1, 3, 10, 100)))
    assert all(np.diff(means) < 0) and all(np.diff(deviations) < 0) and means[-1] == pytest.approx(1.2, abs=0.01)
    assert deviations[0] > 0.12 and prior(100, spread=0.3)[1] > 2 * deviations[-1]


def test_nothing_of_one_part_is_in_the_other(site: SiteRecording) -> None:
    learnt, held = site.split(0.4)
    cut = site.first_ns.min() + round(0.6 * float(site.last_ns.max() - site.first_ns.min()))
    assert len(learnt) > 100 and len(held) > 50
    assert learnt.last_ns.max() < cut <= held.first_ns.min()
    oldest = held.stamp_ns[:, None] - np.round(held.age * 1e9)
    assert (oldest[(held.confidence > 0).any(axis=2)] >= cut - 1).all()
    with pytest.raises(SiteError, match='between 0 and 1'):
        site.split(1.0)


def test_a_site_of_a_child_gets_better_and_the_file_says_so(place: SyntheticSite, site: SiteRecording,
                                                           tmp_path: Path) -> None:
    report = adapt(site, tmp_path, settings=FEW, quiet=True, command='pose3d adapt site')
    assert report.adapted and report.path is not None
    truth = place.truth(report.held)
    before, after = (np.linalg.norm(joints[:, 0] - truth[:, 0], axis=-1).mean() for joints in (
        report.before, report.after))
    assert after < 0.5 * before
    figures = json.loads(json.dumps(report.figures))
    assert figures['crossview_gain'] > 0.5 and figures['mrpe_gain'] > 0.5
    lifter = Lifter.open(report.path, Wanted('cpu', threads=1))
    assert [lifter.stature, lifter.stature_sigma] == figures['stature_after_m'] and lifter.stature < 1.45
    assert 'adaptation' in lifter.engine.metadata
    # What a robot is told is what was judged.
    held = report.held
    position, _ = lifter.run(held.rays[:9], held.confidence[:9], held.age[:9], held.up[:9], landmarks=True)
    np.testing.assert_allclose(position, report.after[:9], atol=2e-3)


def test_where_nothing_can_be_learnt_nothing_changes(site: SiteRecording, tmp_path: Path) -> None:
    """The other cameras see people just where the lifter has them already, but for noise."""
    joints = input_points() @ unlifted(load_lifter()[0], site).metres(ADULTS[0])
    local = in_views(joints, between(site))
    noise = np.random.default_rng(0).normal(0, 0.01, site.seen_rays.shape)
    known = replace(site, seen_rays=(local[..., :2] / local[..., 2:] + noise).astype(np.float32))
    (tmp_path / 'lifter.onnx').write_text('of an earlier run')
    report = adapt(known, tmp_path, settings=FEW, quiet=True)
    assert not report.adapted and report.path is None and 'stays as it was' in report.reason
    assert not (tmp_path / 'lifter.onnx').exists() and report.figures['chosen_step'] == 0


@pytest.mark.parametrize('steps', [40, AdaptSettings().steps])
def test_small_changes_are_judged_before_large_ones(steps: int) -> None:
    """Of the way that weights can go, little lies before the first judgement, and most before the last fifth."""
    settings = AdaptSettings(steps=steps, validate_every=steps // 10)
    loop = settings.loop()
    way = np.cumsum([learning_rate_factor(loop, step, step / steps) for step in range(steps)])
    share = way / way[-1]
    judged = share[settings.validate_every - 1::settings.validate_every]
    assert judged[0] < 0.05 and np.diff(judged).max() < 0.2 and judged[-3] > 0.9


def test_a_stopped_run_goes_on_and_a_finished_one_is_not_repeated(site: SiteRecording, small: Path,
                                                                    tmp_path: Path) -> None:
    adapt(site, tmp_path, small, settings=FEW, minutes=1e-9, quiet=True)
    assert len((tmp_path / 'log.csv').read_text().splitlines()) == 2
    report = adapt(site, tmp_path, small, settings=FEW, quiet=True)
    log = (tmp_path / 'log.csv').read_text()
    assert log.splitlines()[-1].startswith('4,')
    again = adapt(site, tmp_path, small, settings=FEW, quiet=True)
    np.testing.assert_array_equal(report.after, again.after)
    assert (tmp_path / 'log.csv').read_text() == log
    with pytest.raises(CheckpointError, match='other settings'):
        adapt(site, tmp_path, small, settings=replace(FEW, own=0.5), quiet=True)


def test_an_improvement_within_chance_is_none(site: SiteRecording) -> None:
    rng = np.random.default_rng(0)
    before = rng.uniform(20, 40, len(site))
    assert compare(before, before - 5, site).better
    assert not compare(before, before + rng.normal(-0.01, 8, len(site)), site).better
    assert not compare(before, before + 1, site).better
    assert not compare(before[:9], before[:9] - 5, site.where(slice(0, 9))).better


def test_samples_stay_true_when_they_are_varied(exact: tuple[SyntheticSite, SiteRecording]) -> None:
    place, site = exact
    arrays = site_arrays(site, people_of(site, 1.15))
    drawn = varied(arrays, np.random.default_rng(0))
    flipped = np.abs(drawn['seen_rays'] - site.seen_rays).max(axis=(1, 2, 3)) > 0
    assert 0.3 < flipped.mean() < 0.7
    truth = place.truth(site)
    truth[flipped] = truth[flipped][:, HUMAN17.mirror] * [-1, 1, 1]
    batch = {name: torch.from_numpy(value) for name, value in drawn.items()}
    batch['input_points'] = torch.tensor(input_points(), dtype=torch.float32)
    assert float(crossview_loss(torch.from_numpy(truth.astype(np.float32)), batch, 1.0)) < 0.05
    assert ((drawn['confidence'] > 0) <= (np.where(flipped[:, None, None], 1, site.confidence) > 0)).all()
    assert (drawn['rays'][drawn['confidence'] == 0] == 0).all()


def test_cameras_move_between_images() -> None:
    start, end = np.eye(4), np.eye(4)
    end[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    end[:3, 3] = -end[:3, :3] @ [2.0, 0, 0]
    half, = _poses_at(np.array([50]), np.array([0, 100]), np.stack([start, end]))
    np.testing.assert_allclose(-half[:3, :3].T @ half[:3, 3], [1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(half[:2, :2], np.sqrt(0.5) * np.array([[1, -1], [1, 1]]), atol=1e-9)


def test_a_recording_is_kept_and_read_again(site: SiteRecording, tmp_path: Path) -> None:
    site.save(tmp_path / 'site.npz')
    assert load_site(tmp_path / 'site.npz').fingerprint() == site.fingerprint()
    (tmp_path / 'other.npz').write_text('nothing')
    with pytest.raises(SiteError, match='other.npz'):
        load_site(tmp_path / 'other.npz')


def test_recordings_that_teach_nothing_are_refused(place: SyntheticSite) -> None:
    def without_ids(view: View) -> View:
        return replace(view, people_2d=[replace(person, id=0) for person in view.people_2d])

    one = {'camera0': place.views['camera0']}
    empty = {name: [replace(view, people_2d=[]) for view in views[:20]] for name, views in place.views.items()}
    for views, told in ((one, '1 camera'), (empty, 'two cameras'), (
            {**place.views, 'camera1': place.views['camera1'][::-1]}, 'goes back'), (
            {name: [without_ids(view) for view in seen] for name, seen in place.views.items()}, 'no ids')):
        with pytest.raises(SiteError, match=told):
            read_site(views)
