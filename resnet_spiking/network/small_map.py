"""Convolutions whose output map is a few pixels large, as products of matrices."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

LARGEST_MAP = 4
"""Output pixels up to which the products are used; at 4 x 4 the convolution kernels are as quick or quicker."""


@final
class SmallMapConv2d(nn.Conv2d):
    """``nn.Conv2d`` with the same parameters and result, quick on small output maps on the CPU.

    Output pixel p is the sum over the kernel's taps k that meet an input pixel q(p, k) inside the map:

        y[:, p] = sum_k x[:, q(p, k)] W_k^T,   x[:, q]: [B, C],  W_k: [O, C]

    Taps that fall on the padding cost nothing: of a 3x3 kernel on a 2x2 map only 4 of 9 count. Convolution kernels
    that tile the map have nothing to tile there. Larger maps, other devices and dtypes, autocast, groups, dilation and
    padding modes go to ``nn.Conv2d`` as they are.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self._applies(input):
            return super().forward(input)
        return taps_product(input, self.weight, self.bias, _pair(self.stride), _pair(self.padding))

    def _applies(self, images: Tensor) -> bool:
        if (
            images.device.type != "cpu"
            or images.dtype not in (torch.float32, torch.float64)
            or torch.is_autocast_enabled("cpu")
            or images.ndim != 4
            or self.groups != 1
            or set(self.dilation) != {1}
            or self.padding_mode != "zeros"
            or isinstance(self.padding, str)
        ):
            return False
        height, width = output_map(images, self.weight, _pair(self.stride), _pair(self.padding))
        return 0 < height * width <= LARGEST_MAP


def quick_on_small_maps(network: nn.Module) -> None:
    """Replace every ``nn.Conv2d`` inside ``network`` with a kernel larger than 1x1; the parameters stay as they are."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Conv2d and child.kernel_size != (1, 1):
                setattr(parent, name, _taking_over(child))


def taps_product(
    images: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """Return the convolution ``[B, O, h, w]`` (channels last in memory) of ``images [B, C, H, W]`` and ``weight``.

    Neither operand is copied when both are channels last: a pixel ``[B, C]`` and a tap ``[O, C]`` are views then.
    """
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


def _taking_over(old: nn.Conv2d) -> SmallMapConv2d:
    with torch.device("meta"):  # no weights are drawn
        new = SmallMapConv2d(
            old.in_channels,
            old.out_channels,
            _pair(old.kernel_size),
            _pair(old.stride),
            old.padding if isinstance(old.padding, str) else _pair(old.padding),
            _pair(old.dilation),
            old.groups,
            old.bias is not None,
            old.padding_mode,
        )
    new.weight, new.bias = old.weight, old.bias
    return new.train(old.training)


def _pair(value: tuple[int, ...] | str) -> tuple[int, int]:
    return int(value[0]), int(value[1])
