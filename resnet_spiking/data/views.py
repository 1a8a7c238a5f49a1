"""The views of an image that training sees: itself, its mirror image, small shifts of both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from resnet_spiking.data.augment import shift
from resnet_spiking.data.transfer import sent
from resnet_spiking.randomness import generator_for

BLOCK = 4096  # images whose offsets are drawn at once


@dataclass(frozen=True)
class Views:
    """A fixed, countable augmentation, so that frozen features of every view can be kept.

    View 0 is the image as it is. With ``flip`` every odd view is a mirror image. Each of
    ``shifts`` moves the image by up to an eighth of its side in both directions, reflecting at
    the border; how far depends on the image's index and the shift's number alone.
    """

    flip: bool = False
    shifts: int = 0

    @property
    def count(self) -> int:
        return (1 + self.flip) * (1 + self.shifts)

    def described(self) -> list[dict[str, object]]:
        """Return what each view is: the same view is described alike, whatever others are in the set."""
        return [{"flip": view % (1 + self.flip) > 0, "shifts": view // (1 + self.flip)} for view in range(self.count)]

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Return a random view for each of ``size`` images, ``int64 [size]``."""
        mirrored = torch.rand(size, generator=generator) < 0.5 if self.flip else torch.zeros(size, dtype=torch.bool)
        if not self.shifts:
            return mirrored.long()
        return torch.randint(0, 1 + self.shifts, (size,), generator=generator) * (1 + self.flip) + mirrored

    def apply(self, pixels: Tensor, indices: Tensor, chosen: Tensor) -> Tensor:
        """Return the ``chosen [B]`` views of ``pixels [B, C, H, W]``, which stand at ``indices [B]`` in their set.

        The pixels may lie on any device; the others are on the CPU.
        """
        number, mirrored = chosen // (1 + self.flip), chosen % (1 + self.flip) > 0
        if number.any():
            reach = min(pixels.shape[-2:]) // 8
            offsets, blocks = torch.full((2, len(pixels)), reach), int(indices.max()) // BLOCK + 1
            for of in number.unique().tolist():
                if of:
                    members = number == of
                    offsets[:, members] = _offsets(of, reach, blocks)[:, indices[members]]
            top, left = sent(offsets, pixels.device)
            pixels = shift(pixels, reach, top, left)
        return torch.where(sent(mirrored, pixels.device)[:, None, None, None], pixels.flip(-1), pixels)


PLAIN = Views()


@lru_cache(maxsize=64)
def _offsets(number: int, reach: int, blocks: int) -> Tensor:
    """Return the offsets ``[2, blocks * BLOCK]`` of shift ``number``; a longer table begins like a shorter one."""
    drawn = [
        torch.randint(0, 2 * reach + 1, (2, BLOCK), generator=generator_for(0, "shift", number, block))
        for block in range(blocks)
    ]
    return torch.cat(drawn, 1)
