"""From pixels to what an ImageNet backbone expects."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@final
class Preprocess(nn.Module):
    """Pixels ``[B, 1 or 3, H, W]`` in [0, 1] to normalised RGB ``[B, 3, side, side]``.

    Grey images are repeated in all three channels; the resize is bilinear with antialiasing;
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
            pixels = functional.interpolate(pixels, size=(self.side, self.side), mode="bilinear", antialias=True)
        return ((pixels - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
