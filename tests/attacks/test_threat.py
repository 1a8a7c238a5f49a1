"""The ball, the box, and what the user may write for its radius."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_spiking.attacks.threat import Norm, Threat, norm_of, over_mean, parse_eps
from resnet_spiking.errors import UserError

norms = st.sampled_from(["linf", "l2"])
shapes = st.tuples(st.integers(0, 4), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))


@pytest.mark.parametrize(
    ("text", "value"), [("8/255", 8 / 255), ("0.25 / 255", 0.25 / 255), (0.03, 0.03), ("1", 1), (0, 0)]
)
def test_eps_as_fraction_or_number(text: str | float, value: float) -> None:
    assert parse_eps(text) == pytest.approx(value, rel=1e-12, abs=0)


@pytest.mark.parametrize(
    "text", ["8/0", "8/255/3", "eight", "", "/", "1/", "nan", "inf", "-1/255", -0.1, "1e400/1", None]
)
def test_unusable_eps(text: Any) -> None:
    with pytest.raises(UserError, match="eps"):
        parse_eps(text)


def test_a_radius_above_the_side_of_the_box_is_one_in_l2_alone() -> None:
    assert Threat("l2", 3.0).eps == 3
    with pytest.raises(UserError, match=r"must lie in \[0, 1\] in Linf"):
        Threat("linf", 1.01)


def test_unknown_norm() -> None:
    unknown: Any = "l1"
    with pytest.raises(UserError, match="choose from: linf, l2"):
        Threat(unknown, 0.1)


@settings(max_examples=40)
@given(norm=norms, shape=shapes, eps=st.floats(0, 1), seed=st.integers(0, 99), far=st.sampled_from([0.01, 1.0, 100.0]))
def test_every_point_lies_in_ball_and_box(
    norm: Norm, shape: tuple[int, ...], eps: float, seed: int, far: float
) -> None:
    draws = torch.Generator().manual_seed(seed)
    threat, images = Threat(norm, eps), torch.rand(shape, generator=draws)
    moved = images + far * torch.randn(shape, generator=draws)
    for point in (
        threat.project(moved, images),
        threat.random_start(images, draws),
        threat.random_rim(images, draws),
    ):
        assert point.shape == images.shape
        assert point.numel() == 0 or (float(point.min()) >= 0 and float(point.max()) <= 1)
        assert bool((threat.size(point - images) <= eps + 1e-6).all())
    inside = threat.project(moved, images)
    assert torch.allclose(threat.project(inside, images), inside, atol=1e-6)


def test_linf_projection_is_the_nearest_point() -> None:
    images = torch.tensor([0.5, 0.05, 0.5]).view(1, 3, 1, 1)
    moved = torch.tensor([0.9, -1.0, 0.52]).view(1, 3, 1, 1)
    found = Threat("linf", 0.1).project(moved, images)
    assert found.flatten().tolist() == pytest.approx([0.6, 0.0, 0.52])


def test_l2_projection_keeps_the_direction() -> None:
    images = torch.full((1, 2, 1, 1), 0.5)
    found = Threat("l2", 0.1).project(images + torch.tensor([3.0, 4.0]).view(1, 2, 1, 1), images)
    assert (found - images).flatten().tolist() == pytest.approx([0.06, 0.08])


@pytest.mark.parametrize("side", [8, 64, 224])
@pytest.mark.parametrize("eps", [0.125, 1.0, 5.0, 10.0, 300.0])
def test_no_image_leaves_the_l2_ball_by_rounding(side: int, eps: float, generator: torch.Generator) -> None:
    images = torch.rand((2, 3, side, side), generator=generator)
    moved = images + 1e3 * torch.randn(images.shape, generator=generator)
    change = Threat("l2", eps).project(moved, images).double() - images.double()
    length = change.square().sum((1, 2, 3)).sqrt()
    assert bool((length <= eps).all())
    inward = torch.where(images > 0.5, -1e-4, 1e-4)  # nothing is cut by the box
    change = Threat("l2", 0.001).project(images + inward, images) - images
    assert float(change.double().square().sum((1, 2, 3)).sqrt().min()) > 0.00098


@settings(max_examples=30)
@given(exponent=st.integers(-37, 37), seed=st.integers(0, 99))
def test_directions_of_tiny_and_huge_gradients(exponent: int, seed: int) -> None:
    """Squares of such gradients leave fp32; the direction must not."""
    gradient = torch.randn((2, 3, 4, 4), generator=torch.Generator().manual_seed(seed))
    scaled = gradient * 10.0**exponent
    reference = gradient / norm_of(gradient, "l2").view(-1, 1, 1, 1)
    assert torch.allclose(Threat("l2", 1.0).steepest(scaled), reference, atol=1e-5)
    assert torch.allclose(over_mean(scaled), gradient / gradient.abs().mean((1, 2, 3), keepdim=True), rtol=1e-4)
    assert torch.equal(Threat("linf", 1.0).steepest(scaled), gradient.sign())


def test_a_zero_gradient_has_no_direction() -> None:
    zero = torch.zeros(1, 3, 2, 2)
    assert not any(part.any() for part in (Threat("l2", 1.0).steepest(zero), over_mean(zero)))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_rim_noise_has_the_norm_eps(norm: Norm, generator: torch.Generator) -> None:
    images = torch.full((5, 3, 4, 4), 0.5)
    threat = Threat(norm, 0.1)
    assert threat.size(threat.random_rim(images, generator) - images).tolist() == pytest.approx([0.1] * 5, abs=1e-6)


def test_random_starts_fill_the_ball(generator: torch.Generator) -> None:
    """Linf: each pixel uniform on [-eps, eps]. L2: the radius uniform on [0, eps]."""
    images = torch.full((2000, 1, 2, 2), 0.5)
    change = (Threat("linf", 0.1).random_start(images, generator) - images).flatten()
    assert torch.quantile(change, torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])).tolist() == pytest.approx(
        [-0.1, -0.05, 0, 0.05, 0.1], abs=0.004
    )
    size = norm_of(Threat("l2", 0.1).random_start(images, generator) - images, "l2")
    assert torch.quantile(size, torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])).tolist() == pytest.approx(
        [0, 0.025, 0.05, 0.075, 0.1], abs=0.006
    )


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_rim_noise_goes_either_way(norm: str, generator: torch.Generator) -> None:
    images = torch.full((500, 1, 2, 2), 0.5)
    change = Threat(norm, 0.1).random_rim(images, generator) - images
    assert (change > 0).float().mean().item() == pytest.approx(0.5, abs=0.06)
