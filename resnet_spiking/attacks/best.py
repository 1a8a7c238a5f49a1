"""What an attack returns: the best iterate of each image, kept over all steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from resnet_spiking.attacks.target import Target


@dataclass(frozen=True)
class Outcome:
    """The best iterate of each image.

    ``images [B, C, H, W]``; ``success [B]``: some iterate was misclassified (``margin >= 0``);
    ``margin [B]`` of the kept iterate; ``steps [B]``: the step of the first success, or of the best margin
    (0: the clean image; restarts count on).
    """

    images: Tensor
    success: Tensor
    margin: Tensor
    steps: Tensor

    @staticmethod
    def joined(outcomes: Sequence[Outcome]) -> Outcome:
        """Return the images of all outcomes one after the other."""
        return Outcome(*(torch.cat([getattr(each, name) for each in outcomes]) for name in _FIELDS))

    def rows(self, chosen: Tensor) -> Outcome:
        """Return the images at the indices ``chosen``."""
        return Outcome(*(getattr(self, name)[chosen] for name in _FIELDS))


_FIELDS = tuple(field.name for field in fields(Outcome))


class Best:
    """Keeps, per image, the first iterate that succeeds, and until then the one of largest margin.

    ``active`` holds the indices of images that have not succeeded: attacks go on with those alone.
    """

    def __init__(self, images: Tensor) -> None:
        self.images = images.clone()
        self.margin = torch.full((len(images),), -torch.inf, device=images.device)
        self.success = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        self.steps = torch.zeros(len(images), dtype=torch.long, device=images.device)

    @classmethod
    def of_clean(cls, target: Target, images: Tensor, labels: Tensor, generator: torch.Generator) -> Best:
        """Begin with the clean images: one that is misclassified already has succeeded at step 0."""
        best = cls(images)
        if len(images):
            best.update(best.active, images, target.margins(images, labels, generator), 0)
        return best

    @property
    def active(self) -> Tensor:
        """The indices ``[A]`` of the images that have not succeeded."""
        return (~self.success).nonzero().squeeze(1)

    def update(self, indices: Tensor, iterates: Tensor, margin: Tensor, step: int) -> Tensor:
        """Take iterates ``[A, C, H, W]`` of the images at ``indices [A]``; return which of those have succeeded.

        A margin or an image that is not finite is no success and no improvement.
        """
        sound = margin.isfinite() & iterates.isfinite().flatten(1).all(1)
        margin = margin.to(self.margin.dtype)
        better = sound & ~self.success[indices] & (margin > self.margin[indices])
        rows = indices[better]
        self.images[rows] = iterates[better]
        self.margin[rows] = margin[better]
        self.steps[rows] = step
        self.success[indices] |= sound & (margin >= 0)
        return self.success[indices]

    def outcome(self) -> Outcome:
        return Outcome(self.images, self.success, self.margin, self.steps)


def survivors(target: Target, done: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
    """Return of each tensor ``[A, ...]`` the rows that are not ``done [A]``; the gradient mode keeps the same ones."""
    if not bool(done.any()):
        return values
    kept = (~done).nonzero().squeeze(1)
    target.mode.select(kept)
    return tuple(value[kept] for value in values)
