"""The image network: shapes, the reversed gradient and its schedule, heat maps and what soft-argmax makes of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='training needs PyTorch: make train-env')

from pose3d_ros.nets.hourglass import (  # noqa: E402
    STRIDE,
    MultiTaskNet,
    ganin,
    heat_targets,
    reversed_gradient,
    soft_argmax,
)
from pose3d_ros.train.loop import limit_threads  # noqa: E402

limit_threads(1)


def small(size: int = 32, stacks: int = 2) -> MultiTaskNet:
    torch.manual_seed(0)
    return MultiTaskNet(joints=5, attributes=9, size=size, stacks=stacks, features=8)


@pytest.mark.parametrize(('size', 'stacks'), [(16, 1), (32, 2), (64, 3), (96, 1)])
def test_answers_have_the_shapes_that_are_asked_for(size: int, stacks: int) -> None:
    network = small(size, stacks).eval()
    answers = network(torch.rand(3, 3, size, size) * 255)
    assert answers.heatmaps.shape == (stacks, 3, 5, size // STRIDE, size // STRIDE)
    assert answers.attributes.shape == (3, 9, 3) and answers.domain.shape == (3, 2)
    assert all(torch.isfinite(part).all() for part in (answers.heatmaps, answers.attributes, answers.domain))


@pytest.mark.parametrize('wrong', [{'size': 40}, {'features': 10}, {'stacks': 0}, {'depth': 0}])
def test_sizes_that_do_not_fit_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match='expected multiples of'):
        MultiTaskNet(**{'joints': 5, 'attributes': 9, **wrong})


def test_the_published_size_is_an_argument_away() -> None:
    network = MultiTaskNet(16, 9, size=256, stacks=2, features=256)
    assert network.cells == 64 and network.attribute_head.in_features == 256 * 4 * 4
    depth, module = 0, network.hourglasses[0][0]
    while hasattr(module, 'inner'):
        depth, module = depth + 1, module.inner
    assert depth == 4


def test_the_gradient_is_reversed_and_scaled_and_the_way_there_is_not() -> None:
    features = torch.randn(4, 3, requires_grad=True)
    for strength in (0.0, 0.7, 2.0):
        out = reversed_gradient(features, strength)
        assert torch.equal(out, features)
        weights = torch.randn(4, 3)
        gradient, = torch.autograd.grad((out * weights).sum(), features)
        torch.testing.assert_close(gradient, -strength * weights)


def test_the_classifier_learns_the_domain_and_the_network_to_hide_it() -> None:
    network, images, domain = small(), torch.rand(4, 3, 32, 32) * 255, torch.tensor([0, 0, 1, 1])

    def gradients(strength: float) -> tuple[torch.Tensor, torch.Tensor]:
        network.zero_grad()
        torch.nn.functional.cross_entropy(network.eval()(images, strength).domain, domain).backward()
        return network.domain_head[0].weight.grad.clone(), network.stem[0].weight.grad.clone()

    classifier, stem = gradients(1.0)
    same, stronger = gradients(2.0)
    torch.testing.assert_close(classifier, same)
    torch.testing.assert_close(2 * stem, stronger)
    assert stem.abs().max() > 0
    with torch.no_grad():    # a step down the network's gradient makes the domain harder to tell
        before = torch.nn.functional.cross_entropy(network(images).domain, domain)
        network.stem[0].weight -= 1e-3 * stem / stem.norm()
        after = torch.nn.functional.cross_entropy(network(images).domain, domain)
    assert after > before


def test_the_schedule_rises_from_nothing_to_its_scale() -> None:
    assert ganin(0.0) == 0.0 and ganin(-1.0) == 0.0
    assert ganin(1.0) == pytest.approx(1.0, abs=1e-4) and ganin(5.0) == ganin(1.0)
    assert ganin(0.25) == pytest.approx(2 / (1 + math.exp(-2.5)) - 1)
    assert ganin(0.25, scale=0.3) == pytest.approx(0.3 * ganin(0.25))
    assert np.all(np.diff([ganin(p) for p in np.linspace(0, 1, 30)]) > 0)


def test_soft_argmax_is_exact_for_a_symmetric_peak_and_differentiable() -> None:
    maps = torch.zeros(1, 2, 9, 9, dtype=torch.float64)
    maps[0, 0, 4, 4] = 1.0                                            # the middle cell
    maps[0, 1, 3:6, 3:6] = torch.tensor([[0.2, 0.5, 0.2], [0.5, 0.9, 0.5], [0.2, 0.5, 0.2]])
    maps.requires_grad_()
    found = soft_argmax(maps)
    torch.testing.assert_close(found, torch.full((1, 2, 2), 4.5 * STRIDE - 0.5, dtype=torch.float64))
    found[0, 1, 0].backward()
    gradient = maps.grad[0, 1]
    assert gradient[4, 5] > 0 > gradient[4, 3] and gradient[4, 4].abs() < 1e-12   # more to the right: x grows
    torch.testing.assert_close(gradient[4, 5], -gradient[4, 3])


def test_soft_argmax_finds_joints_between_cells() -> None:
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.uniform(14, 49, (40, 5, 2)))
    maps, known = heat_targets(points, 16)
    assert known.all()
    assert (soft_argmax(maps) - points).abs().max() < 0.05            # px
    assert torch.autograd.gradcheck(lambda maps: soft_argmax(maps), (maps[:1, :1].clone() + 0.03).requires_grad_())


def test_heat_maps_are_hills_where_the_joints_are() -> None:
    points = torch.tensor([[[9.5, 21.5], [float('nan'), 3.0], [-3.0, 10.0], [70.0, 10.0]]])
    maps, known = heat_targets(points, 16)
    assert known.tolist() == [[True, False, False, False]]
    assert maps[0, 0, 5, 2] == 1.0 and maps[0, 0].argmax() == 5 * 16 + 2      # row by y, column by x
    assert maps[0, 0, 5, 3] == pytest.approx(math.exp(-0.5)) == maps[0, 0, 6, 2].item()
