"""Convolutions as one product of matrices, patches by kernels: for matrix units, which are quickest at large ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_input

from neurons.second_order import refuse_if_wanted

MOST_ENTRIES = 2**26
"""Of the patches that are made at a time: a batch with more goes in parts."""


def patch_product(images: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """Return the convolution ``[B, O, h, w]`` (channels last in memory) of ``images [B, C, H, W]`` and ``weight``.

    With P ``[B h w, k k C]`` the patches of the padded images that the outputs see, and W ``[O, k k C]``,

        y = P W^T,   dL/dW = (dL/dy)^T P

    and with stride 1 the gradient to the images is the same kind of product, of the padded dL/dy and the kernels
    turned by half a turn. Other strides leave that gradient to torch. Each product sums in the accumulators of the
    hardware (fp32 for bf16) and is rounded once; dL/dW of a batch in parts, once a part. Patches are made again for
    the gradient instead of being kept. It is differentiable with respect to both operands, which have one dtype; second
    derivatives are refused.
    """
    result: Tensor = _PatchProduct.apply(images, weight, stride, padding)
    return result


class _PatchProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, images: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
    ) -> Tensor:
        context.save_for_backward(images, weight)
        context.stride, context.padding = stride, padding
        return _product(images, weight, stride, padding)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        refuse_if_wanted("QuickConv2d while it trains", "use nn.Conv2d")
        images, weight = context.saved_tensors
        stride, padding = context.stride, context.padding
        made, channels, *kernel = weight.shape
        to_images = to_weight = None
        if context.needs_input_grad[0]:
            if stride == (1, 1):
                turned = weight.flip(2, 3).transpose(0, 1)
                around = (kernel[0] - 1 - padding[0], kernel[1] - 1 - padding[1])
                to_images = _product(gradient, turned, stride, around)
            else:
                to_images = conv2d_input(images.shape, weight, gradient, stride, padding)
        if context.needs_input_grad[1]:
            parts = zip(_parts(images, images, weight), _parts(gradient, images, weight), strict=True)
            sums = [_to_kernels(part, outer, kernel, stride, padding) for part, outer in parts]
            total = sums[0] if len(sums) == 1 else torch.stack(sums).sum(0)
            to_weight = total.view(made, *kernel, channels).permute(0, 3, 1, 2)
        return to_images, to_weight, None, None


def _product(images: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    kernels = weight.permute(0, 2, 3, 1).flatten(1)
    parts = _parts(images, images, weight)
    outputs = [_patches(part, weight.shape[2:], stride, padding) @ kernels.t() for part in parts]
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs)).permute(0, 3, 1, 2)


def _to_kernels(
    images: Tensor, gradient: Tensor, kernel: Sequence[int], stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """Return dL/dW ``[O, k k C]``."""
    patches = _patches(images, kernel, stride, padding).flatten(0, 2)
    return gradient.permute(0, 2, 3, 1).flatten(0, 2).t() @ patches


def _parts(batch: Tensor, images: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    """Return ``batch`` split into parts of so many images that their patches have at most ``MOST_ENTRIES``."""
    entries = weight[0].numel() * images.shape[2:].numel()
    return batch.split(max(1, MOST_ENTRIES // max(1, entries)))


def _patches(images: Tensor, kernel: Sequence[int], stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """Return the patches ``[B, h, w, k k C]`` of ``images``: a copy, or a view where the kernel is one pixel."""
    pixels = images.permute(0, 2, 3, 1)
    if any(padding):
        pixels = functional.pad(pixels, (0, 0, padding[1], padding[1], padding[0], padding[0]))
    windows = pixels.unfold(1, kernel[0], stride[0]).unfold(2, kernel[1], stride[1])  # [B, h, w, C, k, k]
    return windows.permute(0, 1, 2, 4, 5, 3).flatten(3)
