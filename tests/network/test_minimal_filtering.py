"""Winograd's minimal filtering against torch's convolution."""

from __future__ import annotations

import pytest
import torch
from convolution_checks import assert_either_gradient_alone, assert_same, random_operands
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from resnet_spiking.network.minimal_filtering import minimal_filtering, transforms


@settings(max_examples=40)
@given(
    batch=st.integers(0, 3),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    size=st.tuples(st.integers(1, 11), st.integers(1, 11)),
    channels_last=st.booleans(),
)
def test_output_and_gradients_are_those_of_the_convolution(
    batch: int, channels: tuple[int, int], size: tuple[int, int], channels_last: bool
) -> None:
    images, weight = random_operands(batch, channels, size, (3, 3), channels_last)
    found = minimal_filtering(images, weight)
    expected = nn.functional.conv2d(images, weight, padding=1)
    assert_same(found, expected, (images, weight))


def test_either_gradient_can_be_had_alone() -> None:
    assert_either_gradient_alone(minimal_filtering)


def test_rounding_in_fp32_stays_near_that_of_the_convolution() -> None:
    """Twice that of the convolution on a processor with AVX2, ten times that of a better one with AVX-512."""
    torch.manual_seed(0)
    images, weight = torch.randn(8, 512, 8, 8), torch.randn(64, 512, 3, 3)
    exact = nn.functional.conv2d(images.double(), weight.double(), padding=1)

    def rounding(output: torch.Tensor) -> float:
        return float((output - exact).square().mean().sqrt() / exact.square().mean().sqrt())

    ordinary = rounding(nn.functional.conv2d(images, weight, padding=1))
    assert rounding(minimal_filtering(images, weight)) < min(15 * ordinary, 4e-6)


def test_zeros_stay_zeros() -> None:
    weight = torch.randn(4, 3, 3, 3)
    assert not minimal_filtering(torch.zeros(2, 3, 7, 5), weight).any()


def test_one_axis_is_the_filter_of_four_outputs() -> None:
    """The first row of a tile with a kernel of one row is F(4, 3) of Winograd: y_i = sum_k g_k d_{i+k}."""
    matrices = transforms(torch.float64)
    signal, taps = torch.arange(1.0, 7.0, dtype=torch.float64), torch.tensor([2.0, -1.0, 3.0], dtype=torch.float64)
    patch, kernel = torch.zeros(6, 6, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)
    patch[0], kernel[0] = signal, taps
    output = matrices.output @ ((matrices.kernel @ kernel.flatten()) * (matrices.patch @ patch.flatten()))
    expected = torch.tensor([9.0, 13.0, 17.0, 21.0], dtype=torch.float64)
    torch.testing.assert_close(output.view(4, 4)[0], expected)


def test_a_second_derivative_is_refused() -> None:
    images, weight = torch.randn(1, 2, 4, 4, requires_grad=True), torch.randn(2, 2, 3, 3)
    with pytest.raises(RuntimeError, match=r"no second derivatives .* use nn\.Conv2d"):
        torch.autograd.grad(minimal_filtering(images, weight).sum(), images, create_graph=True)
