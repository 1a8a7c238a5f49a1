"""What a minimum-norm attack returns: the nearest misclassified iterate of each image."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from resnet_spiking.attacks.target import Target
from resnet_spiking.attacks.threat import norm_of


@dataclass(frozen=True)
class MinimumNorm:
    """The nearest adversarial image found for each image.

    ``images [B, C, H, W]`` (the clean one where nothing was found); ``norms [B]``: ``||x' - x||_p`` in pixels
    of [0, 1], 0 for an image that is misclassified as it is, inf where nothing was found; ``found [B]``.
    """

    images: Tensor
    norms: Tensor
    found: Tensor


class Nearest:
    """Keeps, per image, the misclassified iterate of smallest norm."""

    def __init__(self, target: Target, images: Tensor, labels: Tensor, norm: str, generator: torch.Generator) -> None:
        self.clean = images
        self.norm = norm
        self.images = images.clone()
        self.norms = images.new_full((len(images),), torch.inf)
        if len(images):
            everything = torch.arange(len(images), device=images.device)
            self.update(everything, images, target.margins(images, labels, generator))

    @property
    def active(self) -> Tensor:
        """The indices ``[A]`` of images that are classified correctly as they are."""
        return (self.norms > 0).nonzero().squeeze(1)

    def update(self, indices: Tensor, iterates: Tensor, margin: Tensor) -> Tensor:
        """Take iterates ``[A, C, H, W]`` of the images at ``indices [A]``; return which are misclassified.

        A margin or an image that is not finite is no success.
        """
        wrong = (margin >= 0) & margin.isfinite() & iterates.isfinite().flatten(1).all(1)
        norms = norm_of(iterates - self.clean[indices], self.norm)
        nearer = wrong & (norms < self.norms[indices])
        self.images[indices[nearer]] = iterates[nearer]
        self.norms[indices[nearer]] = norms[nearer]
        return wrong

    def result(self) -> MinimumNorm:
        return MinimumNorm(self.images, self.norms, self.norms.isfinite())


def median(values: Sequence[float]) -> float | None:
    """Return the median; None when it is infinite (more than half were never found) or there is no value.

    With an even number of values it is the mean of the middle two.
    """
    middle = statistics.median(values) if values else math.inf
    return middle if math.isfinite(middle) else None
