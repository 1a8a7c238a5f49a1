"""Convolutions whose output map is a few pixels large, as products of matrices."""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST_MAP = 4
"""Output pixels up to which the products are used; at 4 x 4 the convolution kernels are as quick or quicker."""


def taps_product(
    images: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """Return the convolution ``[B, O, h, w]`` (channels last in memory) of ``images [B, C, H, W]`` and ``weight``.

    Output pixel p is the sum over the kernel's taps k that meet an input pixel q(p, k) inside the map:

        y[:, p] = sum_k x[:, q(p, k)] W_k^T,   x[:, q]: [B, C],  W_k: [O, C]

    Taps that fall on the padding cost nothing: of a 3x3 kernel on a 2x2 map only 4 of 9 count. Convolution kernels
    that tile the map have nothing to tile there. Neither operand is copied when both are channels last: a pixel
    ``[B, C]`` and a tap ``[O, C]`` are views then. Others are copied, once.
    """
    images = images.contiguous(memory_format=torch.channels_last)
    weight = weight.contiguous(memory_format=torch.channels_last)
    rows, columns = output_map(images, weight, stride, padding)
    kernel = weight.shape[2:]
    taps = weight.permute(2, 3, 0, 1).flatten(0, 1).unbind(0)  # [O, C] each
    pixels = images.permute(2, 3, 0, 1).flatten(0, 1).unbind(0)  # [B, C] each
    height, width = images.shape[2:]
    outputs = []
    for row in range(rows):
        for column in range(columns):
            total = images.new_zeros(()) if bias is None else bias
            total = total.expand(len(images), weight.shape[0])
            for i in range(kernel[0]):
                for j in range(kernel[1]):
                    y, x = row * stride[0] + i - padding[0], column * stride[1] + j - padding[1]
                    if 0 <= y < height and 0 <= x < width:
                        total = torch.addmm(total, pixels[y * width + x], taps[i * kernel[1] + j].t())
            outputs.append(total)
    return torch.stack(outputs, 1).view(len(images), rows, columns, weight.shape[0]).permute(0, 3, 1, 2)


def output_map(images: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of the convolution's output."""
    height, width = (
        (size + 2 * pad - kernel) // step + 1
        for size, pad, kernel, step in zip(images.shape[2:], padding, weight.shape[2:], stride, strict=True)
    )
    return height, width
