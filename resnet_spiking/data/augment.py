"""Augmentation of pixel batches: horizontal mirror images and small shifts."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional


def flip_randomly(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image ``[B, C, H, W]`` left to right with probability one half."""
    mirrored = torch.rand(len(pixels), generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels)


def shift_randomly(pixels: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    """Shift each image by up to ``reach`` pixels in both directions, reflecting at the border."""
    top, left = torch.randint(0, 2 * reach + 1, (2, len(pixels)), generator=generator)
    return shift(pixels, reach, top, left)


def shift(pixels: Tensor, reach: int, top: Tensor, left: Tensor) -> Tensor:
    """Cut each image ``[B, C, H, W]`` out of its reflection-padded self at ``top [B]``, ``left [B]`` in 0..2 reach."""
    batch, channels, height, width = pixels.shape
    padded = functional.pad(pixels, (reach,) * 4, mode="reflect")
    up_to = partial(torch.arange, device=pixels.device)
    rows = (top[:, None] + up_to(height))[:, None, :, None]
    columns = (left[:, None] + up_to(width))[:, None, None, :]
    sample = up_to(batch)[:, None, None, None]
    channel = up_to(channels)[None, :, None, None]
    return padded[sample, channel, rows, columns]
