"""Random noise: what a model loses without anybody looking at it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from resnet_spiking.attacks.best import Best, Outcome
from resnet_spiking.attacks.checks import check_count
from resnet_spiking.attacks.target import Target
from resnet_spiking.attacks.threat import Threat
from resnet_spiking.errors import check_known

KINDS = ("uniform", "corner", "both")


def noise(
    target: Target,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    generator: torch.Generator,
    kind: Literal["uniform", "corner", "both"] = "both",
    tries: int = 10,
) -> Outcome:
    """Keep the worst of ``tries`` draws of each kind.

    ``uniform``: a point inside the ball. ``corner``: every pixel moved by eps up or down, or (L2) a random direction
    of length eps.

    Raises ``UserError`` for an unknown kind or a count below 1.
    """
    check_known("kind", kind, KINDS)
    check_count("tries", tries)
    drawn = KINDS[:2] if kind == "both" else (kind,)
    best = Best.of_clean(target, images, labels, generator)
    for step in range(tries * len(drawn) if threat.eps else 0):
        index = best.active
        if not len(index):
            break
        clean = images[index]
        if drawn[step % len(drawn)] == "uniform":
            moved = threat.random_start(clean, generator)
        else:
            moved = _corner(threat, clean, generator)
        best.update(index, moved, target.margins(moved, labels[index], generator), step + 1)
    return best.outcome()


def _corner(threat: Threat, images: Tensor, generator: torch.Generator) -> Tensor:
    if threat.norm == "l2":
        return threat.random_rim(images, generator)
    signs = torch.randint(0, 2, images.shape, generator=generator, device=images.device).to(images.dtype) * 2 - 1
    return threat.project(images + threat.eps * signs, images)
