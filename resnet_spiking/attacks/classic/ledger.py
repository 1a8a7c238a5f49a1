"""The best iterate of each image among all queries of an attack, whichever image a query was made for."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from resnet_spiking.attacks.best import Best
from resnet_spiking.attacks.classic.witness import Judge
from resnet_spiking.attacks.threat import Threat, norm_of, per_image

# How far a norm may exceed eps by the rounding of x + eps in fp32.
ROUNDING = 5e-7
# Pixels that tell in advance which distances are worth computing in full, and how many of these at a time.
PROBES = 32
PAIRS = 256


class AllBroken(Exception):
    """Every image has succeeded: nothing is left for the attack to do."""


class Ledger:
    """Reads the queries of one attack on the images ``[A, C, H, W]`` at the indices ``[A]`` of ``best``.

    torchattacks goes on with subsets of a batch and does not say which. An iterate therefore counts for every image
    whose ball it lies in: if it is misclassified there, it is an adversarial example of that image.
    ``step`` numbers the queries. Raises ``AllBroken`` once every image has succeeded.
    """

    def __init__(
        self, best: Best, indices: Tensor, images: Tensor, labels: Tensor, threat: Threat, step: Iterator[int]
    ) -> None:
        self._best = best
        self._indices = indices
        self._images = images
        self._labels = labels
        self._threat = threat
        self._step = step

    def note(self, iterates: Tensor, judge: Judge) -> None:
        """Take queried iterates ``[m, C, H, W]``; an iterate outside the ball or the box counts for nothing."""
        step = next(self._step)
        rows, owners = holders(iterates, self._images, self._threat)
        open_ = ~self._best.success[self._indices[owners]]
        rows, owners = rows[open_], owners[open_]
        if len(rows):
            margins = judge(rows, self._labels[owners])
            chosen = best_of_each(owners, margins)
            self._best.update(self._indices[owners[chosen]], iterates[rows[chosen]], margins[chosen], step)
        if bool(self._best.success[self._indices].all()):
            raise AllBroken


def holders(iterates: Tensor, images: Tensor, threat: Threat) -> tuple[Tensor, Tensor]:
    """Return all pairs ``(row [n], owner [n])`` such that iterate ``row`` lies in the ball and box of image ``owner``.

    Just the pairs ``(i, i)`` when each iterate ``[m, C, H, W]`` lies in the ball of the image ``[A, C, H, W]`` at its
    own place.
    """
    limit = threat.eps + ROUNDING
    boxed = ((iterates >= 0) & (iterates <= 1)).flatten(1).all(1)
    if len(iterates) == len(images) and bool((boxed & (threat.size(iterates - images) <= limit)).all()):
        everything = torch.arange(len(images), device=images.device)
        return everything, everything
    flat, clean = per_image(iterates), per_image(images)
    probes = clean.var(0, correction=0).topk(min(PROBES, clean.shape[1])).indices
    apart = flat[:, None, probes] - clean[None, :, probes]  # [m, A, P]
    # No part of a vector is longer than the vector.
    near = norm_of(apart.flatten(0, 1), threat.norm).view(len(flat), len(clean)) <= limit
    rows, owners = (near & boxed[:, None]).nonzero().T
    inside = [
        norm_of(flat[some] - clean[others], threat.norm) <= limit
        for some, others in zip(rows.split(PAIRS), owners.split(PAIRS), strict=True)
    ]
    kept = torch.cat(inside) if inside else torch.zeros_like(rows, dtype=torch.bool)
    return rows[kept], owners[kept]


def best_of_each(owners: Tensor, margins: Tensor) -> Tensor:
    """Return the position of the largest finite margin ``[n]`` of each owner that has one."""
    sound = margins.isfinite().nonzero().squeeze(1)
    order = sound[margins[sound].argsort(descending=True, stable=True)]
    order = order[owners[order].argsort(stable=True)]
    first = torch.ones_like(order, dtype=torch.bool)
    first[1:] = owners[order][1:] != owners[order][:-1]
    return order[first]
