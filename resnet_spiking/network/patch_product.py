"""Convolutions as one product of matrices, patches by kernels: for matrix units, which are quickest at large ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.grad import conv2d_input


def patch_product(images: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """Return the convolution ``[B, O, h, w]`` (channels last in memory) of ``images [B, C, H, W]`` and ``weight``.

    With P ``[B h w, k k C]`` the patches of the padded images that the outputs see, and W ``[O, k k C]``,

        y = P W^T,   dL/dW = (dL/dy)^T P

    and with stride 1 the gradient to the images is the same kind of product, of the padded dL/dy and the kernels
    turned by half a turn. Other strides leave that gradient to torch. Each product sums in the accumulators of the
    hardware (fp32 for bf16) and is rounded once. Patches are made again for the gradient instead of being kept. It is
    differentiable once, with respect to both operands, which have one dtype.
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
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
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
            patches = _patches(images, (kernel[0], kernel[1]), stride, padding)
            rows = gradient.permute(0, 2, 3, 1).reshape(-1, made)
            to_weight = (rows.t() @ patches.flatten(0, 2)).view(made, *kernel, channels).permute(0, 3, 1, 2)
        return to_images, to_weight, None, None


def _product(images: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    patches = _patches(images, (weight.shape[2], weight.shape[3]), stride, padding)
    kernels = weight.permute(0, 2, 3, 1).flatten(1)
    return (patches @ kernels.t()).permute(0, 3, 1, 2)


def _patches(images: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """Return the patches ``[B, h, w, k k C]`` of ``images``: a copy, or a view where the kernel is one pixel."""
    pixels = images.permute(0, 2, 3, 1)
    if any(padding):
        pixels = functional.pad(pixels, (0, 0, padding[1], padding[1], padding[0], padding[0]))
    windows = pixels.unfold(1, kernel[0], stride[0]).unfold(2, kernel[1], stride[1])  # [B, h, w, C, k, k]
    return windows.permute(0, 1, 2, 4, 5, 3).flatten(3)
