"""Augmentation of pixel batches: horizontal mirror images and small shifts."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def flip_randomly(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image ``[B, C, H, W]`` left to right with probability one half."""
    mirrored = torch.rand(len(pixels), generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels)


def shift_randomly(pixels: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    """Shift each image by up to ``reach`` pixels in both directions, reflecting at the border."""
    batch, channels, height, width = pixels.shape
    padded = functional.pad(pixels, (reach,) * 4, mode="reflect")
    top, left = torch.randint(0, 2 * reach + 1, (2, batch), generator=generator)
    rows = (top[:, None] + torch.arange(height))[:, None, :, None]
    columns = (left[:, None] + torch.arange(width))[:, None, None, :]
    sample = torch.arange(batch)[:, None, None, None]
    channel = torch.arange(channels)[None, :, None, None]
    return padded[sample, channel, rows, columns]
