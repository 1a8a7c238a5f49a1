"""Convolutions as products of matrices against torch's convolution."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from resnet_spiking.network.small_map import taps_product


@settings(max_examples=60)
@given(
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    bias=st.booleans(),
    channels_last=st.booleans(),
    batch=st.integers(0, 3),
)
def test_product_is_the_convolution(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int],
    bias: bool, channels_last: bool, batch: int,
) -> None:  # fmt: skip
    if any(extent + 2 * pad < k for extent, pad, k in zip(size, padding, kernel, strict=True)):
        return
    torch.manual_seed(0)
    images = torch.randn(batch, 3, *size, dtype=torch.float64)
    weight = torch.randn(4, 3, *kernel, dtype=torch.float64)
    offset = torch.randn(4, dtype=torch.float64) if bias else None
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
        weight = weight.contiguous(memory_format=torch.channels_last)
    expected = nn.functional.conv2d(images, weight, offset, stride, padding)
    torch.testing.assert_close(taps_product(images, weight, offset, stride, padding), expected)


def test_gradients_are_those_of_the_convolution() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w, b: taps_product(x, w, b, (1, 1), (1, 1)), (images, weight, bias))
