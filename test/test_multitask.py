"""Training of the image network: its losses, what each strategy reads, variation, steps two and three."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='training needs PyTorch: make train-env')

from image_people import people  # noqa: E402

from pose3d_ros.attributes import ATTRIBUTE_JOINTS, UNKNOWN, attributes  # noqa: E402
from pose3d_ros.nets.hourglass import Answers, heat_targets  # noqa: E402
from pose3d_ros.skeleton import HUMAN17  # noqa: E402
from pose3d_ros.train import multitask  # noqa: E402
from pose3d_ros.train.image_sets import ImageSet, ImageSetError, load_images  # noqa: E402
from pose3d_ros.train.loop import CHECKPOINT, CheckpointError, LoopSettings, Run, limit_threads  # noqa: E402
from pose3d_ros.train.multitask import (  # noqa: E402
    STRATEGIES,
    MultiTaskLoss,
    MultiTaskSettings,
    attribute_loss,
    batches,
    domain_loss,
    heat_loss,
    load_trained,
    make_network,
    train,
)
from pose3d_ros.train.multitask_augment import ONLY_2D, WITH_3D, Augmentation, vary  # noqa: E402
from pose3d_ros.train.multitask_figures import attribute_accuracy, most_frequent, pckh, pose_figures, sides  # noqa: E402
from pose3d_ros.train.multitask_joined import (  # noqa: E402
    JoinedNet,
    JoinedSettings,
    crop_cameras,
    load_joined,
    look,
    make_parts,
    moved_cameras,
    pose_loss,
    train_joined,
    train_lift,
)

limit_threads(1)
LOOP = LoopSettings(steps=4, optimiser='rmsprop', learning_rate=1e-3, warm_up=2, weight_decay=0.0, average=0.9,
                    validate_every=2)
SMALL = MultiTaskSettings(size=32, stacks=1, features=8, batch=8, loop=LOOP)


@pytest.fixture(scope='module')
def sets() -> tuple[ImageSet, ImageSet]:
    return people(60), people(60, seed=1, domain='street')


def weights_of(out: Path) -> dict[str, torch.Tensor]:
    return load_trained(out / CHECKPOINT)[0].state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(a.values(), b.values(), strict=True))


def test_the_heat_map_loss_is_zero_at_the_truth_and_counts_only_what_is_labelled() -> None:
    joints = torch.from_numpy(np.random.default_rng(0).uniform(4, 28, (3, 17, 2)).astype(np.float32))
    maps, _ = heat_targets(joints, 8)
    assert heat_loss(torch.stack([maps, maps]), joints) == 0
    wrong = maps + 0.5
    assert heat_loss(wrong[None], joints) == pytest.approx(0.25, rel=1e-5)            # equation 1
    assert heat_loss(torch.stack([wrong, maps]), joints) == pytest.approx(0.25, rel=1e-5)
    unlabelled = joints.clone()
    unlabelled[:, 3:] = torch.nan
    maps[:, 3:] = 7.0                            # whatever is said of joints that nobody labelled
    assert heat_loss(maps[None], unlabelled) == 0
    assert heat_loss(maps[None], torch.full_like(joints, torch.nan)) == 0


def test_the_attribute_loss_is_the_mean_cross_entropy_of_what_is_known() -> None:
    labels = torch.tensor([[0, 1, 2, 0, 1, 2, 0, 1, UNKNOWN], [UNKNOWN] * 9])
    sure = 50.0 * torch.nn.functional.one_hot(labels.clamp(min=0), 3)
    assert attribute_loss(sure, labels) == pytest.approx(0, abs=1e-6)
    assert attribute_loss(torch.zeros(2, 9, 3), labels) == pytest.approx(np.log(3))
    assert attribute_loss(torch.randn(2, 9, 3), torch.full((2, 9), UNKNOWN)) == 0
    assert domain_loss(torch.zeros(4, 2), torch.tensor([0, 0, 1, 1])) == pytest.approx(np.log(2))


def test_a_batch_is_half_of_each_set_and_the_second_has_no_attributes(sets: tuple[ImageSet, ImageSet]) -> None:
    first, second = sets
    batch = next(batches(first, second.without_3d(), SMALL, np.random.default_rng(0)))
    assert batch['domain'].tolist() == [0] * 4 + [1] * 4
    assert (batch['attributes'][4:] == UNKNOWN).all()
    assert (batch['attributes'][:4] == attributes(first.joints3d)[batch['index'][:4]]).all()
    walls = batch['images'][:, 0, 0]                                     # the wall says which set an image is of
    assert (walls[:4, 0] > walls[:4, 2]).all() and (walls[4:, 0] < walls[4:, 2]).all()
    alone = next(batches(first, None, SMALL, np.random.default_rng(0)))
    assert alone['domain'].tolist() == [0] * 8


@pytest.mark.parametrize('strategy', STRATEGIES)
def test_nothing_in_3d_of_the_second_set_is_read(strategy: str, sets: tuple[ImageSet, ImageSet],
                                                 tmp_path: Path) -> None:
    first, second = sets
    settings = replace(SMALL, strategy=strategy)
    nonsense = replace(second, joints3d=np.full_like(second.joints3d, np.nan))
    for name, images in (('whole', second), ('nonsense', nonsense), ('none', second.without_3d())):
        train(first, images, tmp_path / name, settings, quiet=True)
    assert same(weights_of(tmp_path / 'whole'), weights_of(tmp_path / 'nonsense'))
    assert same(weights_of(tmp_path / 'whole'), weights_of(tmp_path / 'none'))
    # 2D of the second set: not read by source_only, which does not look at the images either; read by the others.
    unlabelled = replace(second, joints2d=np.full_like(second.joints2d, np.nan),
                         images=np.zeros_like(second.images) if strategy == 'source_only' else second.images)
    train(first, unlabelled, tmp_path / 'unlabelled', settings, quiet=True)
    assert same(weights_of(tmp_path / 'whole'), weights_of(tmp_path / 'unlabelled')) == (strategy == 'source_only')


def test_only_adaptation_lets_the_domain_shape_the_features(sets: tuple[ImageSet, ImageSet]) -> None:
    first, second = sets
    batch = {name: torch.from_numpy(array) for name, array in
             next(batches(first, second.without_3d(), SMALL, np.random.default_rng(0))).items()}
    batch['attributes'][:] = UNKNOWN
    batch['joints2d'][:] = torch.nan            # nothing is left but the domain
    for strategy, step, reach in (('mixed', 3, False), ('adapted', 3, True), ('adapted', 0, False)):
        settings = replace(SMALL, strategy=strategy)
        run = Run(make_network(settings), settings.loop)
        run.step = step                         # at the first step lambda is 0
        MultiTaskLoss(settings, run)(run.network, batch).backward()
        gradient = run.network.stem[0].weight.grad
        assert (gradient is not None and bool(gradient.abs().max() > 0)) == reach
        assert run.network.domain_head[0].weight.grad.abs().max() > 0


def test_the_reversal_follows_the_steps(sets: tuple[ImageSet, ImageSet]) -> None:
    settings = replace(SMALL, strategy='adapted', reversal=0.5, loop=replace(LOOP, steps=100))
    run = Run(make_network(settings), settings.loop)
    loss, found = MultiTaskLoss(settings, run), []
    for step in (0, 10, 50, 100):
        run.step = step
        found.append(loss.reversal)
    np.testing.assert_allclose(found, 0.5 * (2 / (1 + np.exp(-10 * np.array([0, 0.1, 0.5, 1]))) - 1), rtol=1e-6)
    assert MultiTaskLoss(replace(settings, strategy='mixed'), run).reversal == 0


def test_a_training_that_was_stopped_ends_as_one_that_was_not(sets: tuple[ImageSet, ImageSet], tmp_path: Path) -> None:
    first, second = sets
    train(first, second, tmp_path / 'once', SMALL, quiet=True)
    watched: list[int] = []

    def interrupted(_: object) -> dict[str, float]:
        watched.append(len(watched))
        if len(watched) == 2:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        train(first, second, tmp_path / 'twice', SMALL, interrupted, quiet=True)
    assert train(first, second, tmp_path / 'twice', SMALL, lambda _: {}, quiet=True).step == 4
    assert same(weights_of(tmp_path / 'once'), weights_of(tmp_path / 'twice'))
    for other in (replace(SMALL, strategy='mixed'), replace(SMALL, loop=replace(LOOP, steps=5))):
        with pytest.raises(CheckpointError, match='other settings'):
            train(first, second, tmp_path / 'once', other, quiet=True)
    settings = load_trained(tmp_path / 'once' / CHECKPOINT)[1]
    assert replace(settings, loop=LOOP) == SMALL and settings.loop.steps == LOOP.steps


def test_sets_that_do_not_fit_are_refused(sets: tuple[ImageSet, ImageSet], tmp_path: Path) -> None:
    first, second = sets
    with pytest.raises(ImageSetError, match='images of 32 px, expected 64'):
        train(first, second, tmp_path, replace(SMALL, size=64), quiet=True)
    with pytest.raises(ImageSetError, match='studio has no 3D joints'):
        train(first.without_3d(), second, tmp_path, SMALL, quiet=True)


@pytest.mark.parametrize('how', [WITH_3D, ONLY_2D])
def test_joints_move_with_the_pixels(how: Augmentation) -> None:
    images = people(30, size=64)
    dots = np.full_like(images.images, 0)
    head = HUMAN17.index('head')
    for image, place in zip(dots, np.round(images.joints2d).astype(int)):
        image[place[head, 1] - 1:place[head, 1] + 2, place[head, 0] - 1:place[head, 0] + 2] = 255
    varied = vary(dots, np.round(images.joints2d), how, np.random.default_rng(0))
    assert varied.flipped.any() == how.flip
    for image, joints in zip(varied.images, varied.joints2d):
        y, x = (np.average(np.indices(image.shape[:2])[axis], weights=image[..., 0].astype(float)) for axis in (0, 1))
        np.testing.assert_allclose([x, y], joints[head], atol=0.6)


def test_a_mirror_image_has_left_and_right_exchanged() -> None:
    images = people(40)
    varied = vary(images.images, images.joints2d, Augmentation(0, 0, flip=True), np.random.default_rng(1))
    assert 5 < varied.flipped.sum() < 35
    expected = images.joints2d[:, HUMAN17.mirror] * [-1, 1] + [31, 0]
    np.testing.assert_allclose(varied.joints2d[varied.flipped], expected[varied.flipped], atol=1e-3)
    np.testing.assert_array_equal(varied.images[varied.flipped], images.images[varied.flipped][:, :, ::-1])
    np.testing.assert_allclose(varied.joints2d[~varied.flipped], images.joints2d[~varied.flipped], atol=1e-3)


def test_the_amounts_of_variation_are_the_published_ones() -> None:
    images = people(300)
    for how, most in ((WITH_3D, 0.0), (ONLY_2D, 30.0)):
        varied = vary(images.images, images.joints2d, how, np.random.default_rng(0))
        scale = np.sqrt(np.abs(np.linalg.det(varied.new_T_old[:, :, :2])))
        assert 0.8 <= scale.min() < 0.83 and 1.17 < scale.max() <= 1.2
        upright = varied.new_T_old[:, 1, 0] / scale
        assert np.degrees(np.arcsin(np.abs(upright))).max() == pytest.approx(most, abs=1.5)
        coloured = varied.images[:, 0, 0, 0] / images.images[:, 0, 0, 0].astype(float)
        assert 0.78 <= coloured.min() < 0.85 and 1.15 < coloured.max() <= 1.21


def test_the_cameras_of_crops_are_told_from_both_kinds_of_joints() -> None:
    images = people(10)
    cameras = crop_cameras(images)
    np.testing.assert_allclose(cameras, np.tile([1.4 * 32, 15.5, 15.5], (10, 1)), rtol=1e-4)
    joints2d = images.joints2d.copy()
    joints2d[0, 3:], joints2d[1] = np.nan, np.nan
    partly = crop_cameras(replace(images, joints2d=joints2d))
    np.testing.assert_allclose(partly[0], cameras[0], rtol=1e-3)
    assert np.isnan(partly[1]).any()
    # After variation the rays are as before, so the joints in space are too.
    varied = vary(images.images, images.joints2d, WITH_3D, np.random.default_rng(0))
    moved = moved_cameras(cameras, varied.new_T_old)
    rays = (varied.joints2d - moved[:, None, 1:]) / moved[:, None, :1]
    np.testing.assert_allclose(rays, images.joints3d[..., :2] / images.joints3d[..., 2:], atol=1e-4)


def test_the_3d_network_is_shown_the_same_person_wherever_the_crop_was_cut() -> None:
    images = people(6)
    joints, cameras = torch.from_numpy(images.joints2d), torch.from_numpy(crop_cameras(images))
    features, turn = look(joints, cameras)
    shift = torch.tensor([5.0, -3.0])
    again, _ = look(2 * (joints + shift), torch.cat([2 * cameras[:, :1], 2 * (cameras[:, 1:] + shift)], dim=1))
    torch.testing.assert_close(features, again, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(turn @ turn.transpose(1, 2), torch.eye(3).expand(6, 3, 3), atol=1e-5, rtol=1e-5)


def test_errors_in_space_reach_the_image_network() -> None:
    torch.manual_seed(0)
    joined = JoinedNet(make_network(SMALL), make_parts(JoinedSettings(width=16)))
    images = people(4)
    answers, poses = joined(multitask.as_input(torch.from_numpy(images.images)), torch.from_numpy(crop_cameras(images)))
    assert isinstance(answers, Answers) and [pose.shape for pose in poses] == [(4, 17, 3)] * 2
    truth = torch.from_numpy(images.joints3d)
    assert pose_loss([truth - truth[:, :1]] * 2, truth + 1.0) == pytest.approx(0, abs=1e-6)   # equation 6
    with torch.no_grad():       # hills that soft-argmax sees: at first all maps are empty
        joined.image.heads[0].bias.fill_(0.1)
    pose_loss(joined(multitask.as_input(torch.from_numpy(images.images)),
                     torch.from_numpy(crop_cameras(images)))[1], truth).backward()
    assert joined.image.heads[0].weight.grad.abs().max() > 0                  # by soft-argmax
    assert joined.image.attribute_head.weight.grad.abs().max() > 0            # by the probabilities


def test_all_three_steps_and_what_they_give(sets: tuple[ImageSet, ImageSet], tmp_path: Path) -> None:
    first, second = sets
    later = JoinedSettings(width=16, passes=1, lift_batch=16, lift=replace(LOOP, steps=120, learning_rate=3e-3),
                           joined=replace(LOOP, learning_rate=1e-5))
    image = train(first, second, tmp_path / 'image', SMALL, quiet=True).result
    identity = multitask.identity_of(SMALL)
    before = pose_figures(image, make_parts(later), first)
    run = train_lift(image, first, tmp_path / 'lift', identity, later, quiet=True)
    after = pose_figures(image, run.result, first)
    assert after['mpjpe_true_attributes_mm'] < 0.8 * before['mpjpe_true_attributes_mm']
    run = train_joined(image, run.result, first, second, tmp_path / 'joined', SMALL, later, quiet=True)
    joined = load_joined(tmp_path / 'joined' / CHECKPOINT)
    assert same(joined.state_dict(), run.result.state_dict()) and run.step == 4
    blind = replace(second, joints3d=np.full_like(second.joints3d, np.nan))
    again = train_joined(*(load_trained(tmp_path / 'image' / CHECKPOINT)[0], make_parts(later)), first, blind,
                         tmp_path / 'blind', SMALL, later, quiet=True)
    assert all(torch.isfinite(value).all() for value in again.result.state_dict().values())


def test_accuracies_are_shares_of_what_is_known() -> None:
    labels = np.array([[0, 1, 1, 2, 2, 0, 0, 1, UNKNOWN], [0, 1, 1, 2, 2, 0, 1, 1, 1]])
    right = np.eye(3)[np.maximum(labels, 0)]
    assert set(attribute_accuracy(right, labels).values()) == {1.0}
    wrong = right.copy()
    wrong[:, 0] = [0, 0, 1]                                              # the head
    found = attribute_accuracy(wrong, labels)
    assert found['head'] == 0 and found['mean'] == pytest.approx(0.8)   # one of five kinds
    usual = most_frequent(labels)
    assert usual['head'] == 1.0 and usual['knee'] == 0.75
    images = people(5)
    assert pckh(images.joints2d, images) == 1.0
    assert pckh(images.joints2d + 20, images) == 0.0
    assert sides(images.joints2d, images) == 1.0 and sides(images.joints2d[:, HUMAN17.mirror], images) == 0.0
    far = images.joints2d.copy()
    far[:, ::2] += 20
    assert pckh(far, images) == pytest.approx(8 / 17)
    assert len(ATTRIBUTE_JOINTS) == labels.shape[1]


def test_sets_are_read_as_they_were_written(sets: tuple[ImageSet, ImageSet], tmp_path: Path) -> None:
    first, _ = sets
    for images in (first, first.without_3d()):
        images.save(tmp_path / 'a.npz', seed=3)
        again = load_images(tmp_path / 'a.npz')
        assert again.domain == 'studio' and again.size == 32 and (again.joints3d is None) == (images.joints3d is None)
        for name in ('images', 'joints2d', 'visible', 'subject'):
            np.testing.assert_array_equal(getattr(again, name), getattr(images, name))
    # As rendered: joints against the pelvis, and the pelvis.
    arrays = dict(np.load(tmp_path / 'a.npz')) | {'joints3d': first.joints3d - first.joints3d[:, :1],
                                                  'pelvis': first.joints3d[:, 0]}
    np.savez(tmp_path / 'b.npz', **arrays)
    np.testing.assert_allclose(load_images(tmp_path / 'b.npz').joints3d, first.joints3d, atol=1e-5)


def test_files_that_cannot_be_used_are_named(tmp_path: Path, sets: tuple[ImageSet, ImageSet]) -> None:
    path = tmp_path / 'a.npz'
    with pytest.raises(ImageSetError, match='a.npz: cannot be read'):
        load_images(path)
    for content in (b'', b'nothing', b'PK\x03\x04broken'):
        path.write_bytes(content)
        with pytest.raises(ImageSetError, match='a.npz: cannot be read'):
            load_images(path)
    np.savez(path, images=np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(ImageSetError, match='a.npz: no joints2d, visible, joints3d, subject in it'):
        load_images(path)
    sets[0].save(path)
    arrays = dict(np.load(path))
    for name, value, message in (('joints2d', np.zeros((3, 17, 2)), 'joints2d is'),
                                 ('images', np.zeros(3), 'images are'),
                                 ('joint_names', np.array(['nose'] * 17), 'not those of human17')):
        np.savez(path, **{**arrays, name: value})
        with pytest.raises(ImageSetError, match=f'a.npz: .*{message}'):
            load_images(path)


def test_every_batch_of_a_stream_differs(sets: tuple[ImageSet, ImageSet]) -> None:
    stream = batches(*sets, SMALL, np.random.default_rng(0))
    first, second = (batch['images'] for batch in itertools.islice(stream, 2))
    assert not np.array_equal(first, second)
