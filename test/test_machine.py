"""The 3D Human Pose Machine: memory that is the caller's, normalisation, the projector, and images."""

from __future__ import annotations

import pytest

torch = pytest.importorskip('torch', reason='training needs PyTorch: make train-env')

from pose3d_ros.nets.machine import DROPOUT, LAYERS, Machine, MinMax, Projector  # noqa: E402
from pose3d_ros.nets.machine_images import Adaptation, ImageMachine, PoseNet2D, as_input  # noqa: E402

torch.set_num_threads(1)  # the networks here are too small for more
FEATURES, WIDTH = 46, 24


def machine(**changes: object) -> Machine:
    torch.manual_seed(0)
    return Machine(FEATURES, width=WIDTH, **changes).eval()  # type: ignore[arg-type]


def shown(people: int, frames: int, seed: int = 1) -> tuple:
    torch.manual_seed(seed)
    return torch.randn(people, frames, FEATURES), 0.2 * torch.rand(people, frames)


def trained(projector: Projector) -> Projector:
    """Return the projector with the statistics and ranges of a little training."""
    torch.manual_seed(5)
    projector.pose_range.fit(0.5 * torch.randn(200, 3))
    projector.flat_range.fit(2 * torch.randn(200, 2))
    projector.train()
    with torch.no_grad():
        for _ in range(20):
            pose = 0.4 * torch.randn(64, 17, 3)
            pose[:, 0] = 0
            projector.project(projector.regress(pose))
    return projector.eval()


def test_normalisation_has_the_training_frames_in_0_to_1_and_goes_back() -> None:
    torch.manual_seed(0)
    values, ranges = torch.randn(50, 16, 3) * torch.tensor([1.0, 2, 3]), MinMax(3)
    ranges.fit(values)
    normal = ranges(values)
    torch.testing.assert_close(normal.amin(dim=(0, 1)), torch.zeros(3))
    torch.testing.assert_close(normal.amax(dim=(0, 1)), torch.ones(3))
    torch.testing.assert_close(ranges.back(normal), values)


@pytest.mark.parametrize('recurrent', [True, False])
def test_frame_by_frame_with_the_state_carried_is_the_clip(recurrent: bool) -> None:
    network, (features, since) = machine(recurrent=recurrent), shown(3, 5)
    state, poses = network.start(3), []
    assert state.shape == (3, LAYERS, 2, WIDTH)
    with torch.no_grad():
        for frame in range(5):
            pose, state = network(features[:, frame], since[:, frame, None], state)
            poses.append(pose)
        torch.testing.assert_close(torch.stack(poses, dim=1), network.clip(features, since).pose)
        # A clip in two pieces is the clip, too.
        encoded = torch.randn(3, 4, WIDTH)
        whole, end = network.transformer.memory(encoded)
        half, between = network.transformer.memory(encoded[:, :2])
        rest, after = network.transformer.memory(encoded[:, 2:], between)
    torch.testing.assert_close(torch.cat([half, rest], dim=1), whole)
    torch.testing.assert_close(after, end)


def test_the_past_and_the_time_since_count_and_people_do_not_mix() -> None:
    network, (features, since) = machine(), shown(4, 3)
    with torch.no_grad():
        pose = network.clip(features, since).pose
        alone = torch.cat([network.clip(features[[person]], since[[person]]).pose for person in range(4)])
        other_past = network.clip(torch.cat([features[:, :1] + 1, features[:, 1:]], dim=1), since).pose
        other_time = network.clip(features, since + 0.3).pose
        forgetful = machine(recurrent=False)
        none = [forgetful.clip(torch.cat([features[:, :1] + by, features[:, 1:]], dim=1), since).pose for by in (0, 1)]
    torch.testing.assert_close(pose, alone)
    for other in (other_past, other_time):
        assert (other - pose)[:, 2].abs().amax(dim=(1, 2)).min() > 1e-4
    torch.testing.assert_close(none[0][:, 1:], none[1][:, 1:])


def test_poses_are_against_the_pelvis_and_projections_have_the_points_asked_for() -> None:
    steps = machine(tells=True).clip(*shown(2, 3))
    for pose in (steps.pose, steps.regressed):
        assert pose.shape == (2, 3, 17, 3)
        assert not pose[:, :, 0].any()
    assert steps.told is not None
    assert steps.projected.shape == steps.told.shape == (2, 3, 13, 2)
    assert machine().clip(*shown(2, 3)).told is None


@pytest.mark.parametrize('skip', [True, False])
def test_a_folded_projector_computes_the_same_without_batch_norms(skip: bool) -> None:
    projector = trained(Projector(17, 13, width=32, skip=skip))
    pose = 0.4 * torch.randn(6, 17, 3)
    pose[:, 0] = 0
    folded = projector.folded()
    assert not [module for module in folded.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    with torch.no_grad():
        torch.testing.assert_close(folded.regress(pose), projector.regress(pose), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(folded.project(pose), projector.project(pose), rtol=1e-4, atol=1e-5)


def test_joints_are_dropped_while_training_only_and_as_often_as_published() -> None:
    projector = trained(Projector(17, 13, width=32))
    seen: list = []
    projector.regression.first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    pose = 0.4 * torch.randn(500, 17, 3)
    with torch.no_grad():
        projector.eval().regress(pose)
        projector.train().regress(pose)
    whole, dropped = (values.reshape(-1, 16, 3) for values in seen)
    gone = (dropped == 0).all(dim=2)
    assert abs(gone.float().mean().item() - DROPOUT) < 0.02
    torch.testing.assert_close(dropped[~gone], whole[~gone])


def test_xavier_weights_and_a_memory_that_remembers_at_first() -> None:
    memory = machine().transformer.memory.layers
    forget = memory.get_parameter('bias_ih_l1')[WIDTH:2 * WIDTH]
    torch.testing.assert_close(forget, torch.ones(WIDTH))
    bound = (6 / (FEATURES + 1 + WIDTH)) ** 0.5
    assert 0.8 * bound < machine().encoder[0].weight.abs().max() <= bound


# --- images ----------------------------------------------------------------------------------------------------------

def test_the_sub_network_is_that_of_table_1() -> None:
    with torch.device('meta'):   # shapes alone: the real one has 30 million weights
        network = PoseNet2D(17)
        features, joints2d = network(torch.empty(1, 3, 368, 368))
        adapted = Adaptation(128, 46, 1024)(features)
    assert (features.shape, joints2d.shape, adapted.shape) == ((1, 128, 46, 46), (1, 17, 2), (1, 1024))
    convolutions = [layer for layer in network.layers if isinstance(layer, torch.nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [
        64, 64, 128, 128, 256, 256, 256, 256, 512, 512, 256, 256, 256, 256, 128]
    assert {layer.kernel_size for layer in convolutions} == {(3, 3)}
    assert {layer.stride for layer in convolutions} == {(1, 1)}


@pytest.mark.parametrize('size', [32, 64, 72])
def test_images_frame_by_frame_are_the_clip(size: int) -> None:
    torch.manual_seed(0)
    network = ImageMachine(size=size, narrow=16, width=WIDTH).eval()
    images = as_input(torch.randint(0, 256, (2, 3, size, size, 3), dtype=torch.uint8))
    state, said = network.start(2), []
    with torch.no_grad():
        found = network.clip(images)
        for frame in range(3):
            pose, joints2d, state = network(images[:, frame], state)
            said.append((pose, joints2d))
    torch.testing.assert_close(torch.stack([pose for pose, _ in said], dim=1), found.steps.pose)
    torch.testing.assert_close(torch.stack([joints2d for _, joints2d in said], dim=1), found.joints2d)
    assert found.steps.projected.shape == found.joints2d.shape == (2, 3, 17, 2)


def test_images_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(ValueError, match='multiples'):
        PoseNet2D(17, size=60)
