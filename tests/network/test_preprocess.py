"""The resize as a product of matrices, which runs where there is a GPU, against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from resnet_spiking.network.preprocess import product_resized, resized


@pytest.mark.parametrize(
    ("shape", "side"), [((32, 32), 64), ((32, 32), 224), ((28, 40), 16), ((51, 31), 48), ((9, 9), 9)]
)
def test_resizing_by_matrices_is_interpolation(shape: tuple[int, int], side: int) -> None:
    pixels = torch.rand(2, 3, *shape, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 3, side, side, dtype=torch.float64)
    mine, theirs = product_resized(pixels, side), resized(pixels, side)
    torch.testing.assert_close(mine, theirs)
    gradients = [torch.autograd.grad((found * weights).sum(), pixels)[0] for found in (mine, theirs)]
    torch.testing.assert_close(*gradients)


def test_on_a_cpu_it_is_interpolation_to_the_bit() -> None:
    pixels = torch.rand(2, 3, 8, 8)
    expected = functional.interpolate(pixels, size=(20, 20), mode="bilinear", antialias=True)
    assert torch.equal(resized(pixels, 20), expected)


def test_resizing_by_matrices_stays_fp32_under_autocast_and_after_inference_mode() -> None:
    pixels = torch.rand(1, 3, 13, 13)
    with torch.inference_mode():
        first = product_resized(pixels, 29).clone()
    leaf = pixels.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = product_resized(leaf, 29)
    found.sum().backward()
    assert found.dtype == torch.float32
    assert torch.equal(found, first)
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad.sum(), torch.tensor(3 * 29.0**2))
