"""Convolutions as products of patches and kernels against torch's convolution."""

from __future__ import annotations

import pytest
import torch
from convolution_checks import assert_either_gradient_alone, assert_same, random_operands
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from resnet_spiking.network import patch_product as module
from resnet_spiking.network.patch_product import patch_product


@settings(max_examples=80)
@given(
    batch=st.integers(0, 3),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    channels_last=st.booleans(),
)
def test_output_and_gradients_are_those_of_the_convolution(
    batch: int, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int],
    channels_last: bool,
) -> None:  # fmt: skip
    if any(extent + 2 * pad < k for extent, pad, k in zip(size, padding, kernel, strict=True)):
        return
    images, weight = random_operands(batch, (3, 4), size, kernel, channels_last)
    found = patch_product(images, weight, stride, padding)
    expected = nn.functional.conv2d(images, weight, None, stride, padding)
    assert_same(found, expected, (images, weight))


def test_either_gradient_can_be_had_alone() -> None:
    assert_either_gradient_alone(lambda images, weight: patch_product(images, weight, (1, 1), (1, 1)))


@pytest.mark.parametrize("entries", [1, 27 * 16 * 2])
def test_parts_of_a_batch_give_what_the_whole_gives(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images, weight = random_operands(5, (3, 4), (4, 4), (3, 3))

    def results() -> tuple[torch.Tensor, ...]:
        output = patch_product(images, weight, (1, 1), (1, 1))
        return (output, *torch.autograd.grad(output.square().sum(), (images, weight)))

    whole = results()
    sizes: list[int] = []
    patches = module._patches
    monkeypatch.setattr(module, "_patches", lambda part, *rest: sizes.append(len(part)) or patches(part, *rest))
    monkeypatch.setattr(module, "MOST_ENTRIES", entries)
    for found, expected in zip(results(), whole, strict=True):
        torch.testing.assert_close(found, expected)
    assert max(sizes) == max(1, entries // (27 * 16))


def test_bf16_rounds_each_result_once() -> None:
    """Half a unit in the last place of bf16 is at most 2^-8 of a value; sums rounded on the way are off by more."""
    torch.manual_seed(0)
    images = torch.randn(4, 256, 4, 4).bfloat16().requires_grad_()
    weight = torch.randn(64, 256, 3, 3).bfloat16().requires_grad_()
    outer = torch.randn(4, 64, 4, 4).bfloat16()
    output = patch_product(images, weight, (1, 1), (1, 1))
    found = (output, *torch.autograd.grad(output, (images, weight), outer))
    exact_images, exact_weight = (operand.detach().double().requires_grad_() for operand in (images, weight))
    exact_output = nn.functional.conv2d(exact_images, exact_weight, padding=1)
    exact = (exact_output, *torch.autograd.grad(exact_output, (exact_images, exact_weight), outer.double()))
    for ours, wanted in zip(found, exact, strict=True):
        assert ours.dtype == torch.bfloat16
        torch.testing.assert_close(ours.double(), wanted, rtol=2**-8, atol=1e-4 * wanted.detach().std().item())


def test_a_second_derivative_is_refused() -> None:
    images, weight = torch.randn(1, 2, 4, 4, requires_grad=True), torch.randn(2, 2, 3, 3)
    with pytest.raises(RuntimeError, match=r"no second derivatives .* use nn\.Conv2d"):
        torch.autograd.grad(patch_product(images, weight, (1, 1), (1, 1)).sum(), images, create_graph=True)
