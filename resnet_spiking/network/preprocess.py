"""From pixels to what an ImageNet backbone expects."""

from __future__ import annotations

from functools import lru_cache
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@final
class Preprocess(nn.Module):
    """Pixels ``[B, 1 or 3, H, W]`` in [0, 1] to normalised RGB ``[B, 3, side, side]``.

    Grey images are repeated in all three channels; the resize is bilinear with antialiasing (``resized``);
    ``y = (x - mean) / std`` per channel. Differentiable, so attacks work on pixels.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, side: int, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD
    ) -> None:
        super().__init__()
        self.side = side
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        if pixels.shape[1] == 1:
            pixels = pixels.expand(-1, 3, -1, -1)
        if pixels.shape[-2:] != (self.side, self.side):
            pixels = resized(pixels, self.side)
        return ((pixels - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


def resized(pixels: Tensor, side: int) -> Tensor:
    """Return images ``[B, C, H, W]`` as ``[B, C, side, side]``: bilinear with antialiasing, differentiable.

    On a CPU ``torch.nn.functional.interpolate``. Its backward pass on CUDA adds in any order, so that no attack would
    give the same images twice: there it is written as what it is, ``A_H X A_W^T`` with the weights A of each side.
    """
    if pixels.device.type == "cpu":
        return functional.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)
    return product_resized(pixels, side)


def product_resized(pixels: Tensor, side: int) -> Tensor:
    """As ``resized``, by two products of matrices, in the dtype of the pixels even under autocast."""
    down, across = (_weights(length, side, pixels.dtype, pixels.device) for length in pixels.shape[-2:])
    with torch.autocast(pixels.device.type, enabled=False):
        return down @ pixels @ across.t()


@lru_cache(maxsize=16)
def _weights(length: int, side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return A ``[side, length]``: the share of every pixel of a column of ``length`` in each of ``side``."""
    with torch.inference_mode(False), torch.no_grad():  # kept for calls that need a gradient too
        unit = torch.eye(length, dtype=torch.float64)[None, None]
        weights = functional.interpolate(unit, size=(side, length), mode="bilinear", antialias=True)[0, 0]
        return weights.to(device, dtype)
