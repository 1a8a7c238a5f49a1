"""What an algorithm for convolutions is compared in."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def random_operands(
    count: int, channels: tuple[int, int], size: tuple[int, int], kernel: tuple[int, int], channels_last: bool = False
) -> tuple[Tensor, Tensor]:
    """Return fp64 images and weights that need gradients."""
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    shapes = ((count, channels[0], *size), (channels[1], channels[0], *kernel))
    images, weight = (torch.randn(shape, dtype=torch.float64).to(memory_format=layout) for shape in shapes)
    return images.requires_grad_(), weight.requires_grad_()


def assert_same(found: Tensor, expected: Tensor, operands: tuple[Tensor, ...]) -> None:
    """Compare an output and its gradients to the operands, for random gradients to the output."""
    torch.testing.assert_close(found, expected)
    outer = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, operands, outer), torch.autograd.grad(expected, operands, outer), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def assert_either_gradient_alone(algorithm: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Compare the gradient to each operand of a 3x3 convolution with padding 1 while the other needs none."""
    for needed in range(2):
        operands = [operand.detach() for operand in random_operands(2, (3, 3), (4, 4), (3, 3))]
        operand = operands[needed].requires_grad_()
        outputs = algorithm(*operands), nn.functional.conv2d(operands[0], operands[1], padding=1)
        (ours,), (theirs,) = (torch.autograd.grad(output.square().sum(), operand) for output in outputs)
        torch.testing.assert_close(ours, theirs)
