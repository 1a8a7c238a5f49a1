"""``nn.Conv2d`` by the quickest algorithm that a CPU has for its shape."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn

from resnet_spiking.network.matrix_units import has_matrix_units
from resnet_spiking.network.minimal_filtering import TILE, minimal_filtering, tiles_of
from resnet_spiking.network.patch_product import patch_product
from resnet_spiking.network.small_map import LARGEST_MAP, output_map, taps_product

LEAST_CHANNELS = 256
LEAST_TILES = 32
"""From where minimal filtering is used: with less of either, its transforms cost what its products save."""
LEAST_WEIGHTS = 2**19
"""From where a convolution in bf16 is a product of patches: torch's own kernels rearrange such weights every time."""


@final
class QuickConv2d(nn.Conv2d):
    """``nn.Conv2d`` with the same parameters and result, up to rounding; quick on a CPU.

    In fp32 (and fp64) maps of a few output pixels are products of matrices (``small_map``) where the kernel is larger
    than one pixel. While they train, 3x3 kernels with stride and padding 1 between many channels go through Winograd's
    minimal filtering (``minimal_filtering``), and in bf16 autocast, on a processor with matrix units for it, kernels
    with many weights are products of patches (``patch_product``): scores, frozen features and attacks have the
    rounding of the ordinary convolution. Everything else, other devices and dtypes, groups, dilation, padding modes
    and tracing included, is ``nn.Conv2d`` itself.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self._applies(input):
            return super().forward(input)
        stride, padding = _pair(self.stride), _pair(self.padding)
        if torch.is_autocast_enabled("cpu"):
            if not self._worth_a_product():
                return super().forward(input)
            output = patch_product(input.bfloat16(), self.weight.bfloat16(), stride, padding)
            return output if self.bias is None else output + self.bias.bfloat16()[:, None, None]
        height, width = output_map(input, self.weight, stride, padding)
        if 0 < height * width <= LARGEST_MAP and self.kernel_size != (1, 1):
            return taps_product(input, self.weight, self.bias, stride, padding)
        if (
            (self.kernel_size, stride, padding) == ((3, 3), (1, 1), (1, 1))
            and min(self.in_channels, self.out_channels) >= LEAST_CHANNELS
            and _trains(self.weight)
            and _worth_tiling(len(input), height, width)
        ):
            output = minimal_filtering(input, self.weight)
            return output if self.bias is None else output + self.bias[:, None, None]
        return super().forward(input)

    def _worth_a_product(self) -> bool:
        return (
            torch.get_autocast_dtype("cpu") == torch.bfloat16
            and _trains(self.weight)
            and self.weight.numel() >= LEAST_WEIGHTS
            and has_matrix_units()
        )

    def _applies(self, images: Tensor) -> bool:
        other = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float64
        return (
            images.device.type == "cpu"
            and images.dtype in (torch.float32, other)
            and not (torch.compiler.is_compiling() or torch.jit.is_tracing())
            and images.ndim == 4
            and self.groups == 1
            and set(self.dilation) == {1}
            and self.padding_mode == "zeros"
            and not isinstance(self.padding, str)
        )


def quicken(network: nn.Module) -> None:
    """Replace every ``nn.Conv2d`` inside ``network``; the parameters stay as they are."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Conv2d:
                setattr(parent, name, _taking_over(child))


def _trains(weight: Tensor) -> bool:
    return torch.is_grad_enabled() and weight.requires_grad


def _worth_tiling(count: int, height: int, width: int) -> bool:
    """Say whether a batch has enough tiles, and these cover mostly pixels of the map."""
    tiles = math.prod(tiles_of(height, width))
    return count * tiles >= LEAST_TILES and 2 * height * width >= tiles * TILE**2


def _taking_over(old: nn.Conv2d) -> QuickConv2d:
    with torch.device("meta"):  # no weights are drawn
        new = QuickConv2d(
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
