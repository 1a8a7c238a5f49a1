"""DDN: decoupled direction and norm, for the smallest change in L2."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from resnet_spiking.attacks.checks import check_count, check_positive
from resnet_spiking.attacks.losses import find_loss, margin
from resnet_spiking.attacks.minimum import MinimumNorm, Nearest
from resnet_spiking.attacks.target import Target
from resnet_spiking.attacks.threat import Norm, Threat, expand, norm_of
from resnet_spiking.errors import UserError


def ddn(
    target: Target,
    images: Tensor,
    labels: Tensor,
    *,
    norm: Norm = "l2",
    generator: torch.Generator,
    steps: int = 100,
    gamma: float = 0.05,
    radius: float | None = None,
    loss: str = "ce",
) -> MinimumNorm:
    """Look for the nearest misclassified image: the gradient sets the direction, success sets the norm.

    Per image, with the change d (0 at first) and the norm e::

        d <- d + a grad L / ||grad L||_2
        e <- e (1 - gamma) where x + d is misclassified, else e (1 + gamma)
        d <- e d / ||d||_2, cut to the box

    e is ``radius`` at first (1 in the paper); by default twice the distance at which the margin's tangent crosses 0,
    which a network that falls to a hundredth of a pixel needs: a hundred steps take 1 no lower than 0.006.
    a falls from 1 to 0.01 along a half cosine. A zero gradient is replaced by a random direction. Pixels
    are not rounded to 256 levels: the radii of interest here are smaller than one level.

    Source: Rony et al., "Decoupling direction and norm for efficient gradient-based L2 adversarial attacks and
    defenses", CVPR 2019, algorithm 1.

    Raises ``UserError`` for another norm than ``l2``, an unknown loss, a count below 1, a ``gamma`` outside (0, 1] or a
    radius that is no positive number.
    """
    if norm != "l2":
        raise UserError(f"ddn works in l2 only, not in {norm}")
    check_count("steps", steps)
    check_positive("gamma", gamma, most=1)
    if radius is not None:
        check_positive("radius", radius)
    chosen = find_loss(loss)
    unit = Threat("l2", 1.0)
    nearest = Nearest(target, images, labels, norm, generator)
    rows = nearest.active
    if not len(rows):
        return nearest.result()
    target.mode.start()
    clean, truth = images[rows], labels[rows]
    change = torch.zeros_like(clean)
    if radius is None:
        found = target.step(clean, truth, margin, generator)
        slope = found.gradient.double().flatten(1).norm(dim=1)
        size = (
            torch.where(slope > 0, 2 * found.loss.abs() / slope, 1).clamp_max(clean[0].numel() ** 0.5).to(clean.dtype)
        )
    else:
        size = torch.full((len(rows),), radius, device=images.device, dtype=images.dtype)
    for step in range(steps):
        length = 0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2
        found = target.step(clean + change, truth, chosen, generator)
        wrong = nearest.update(rows, clean + change, found.margin)
        flat = expand((found.gradient == 0).flatten(1).all(1), clean)
        noise = torch.randn(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
        change = change + length * unit.steepest(torch.where(flat, noise, found.gradient))
        if step:
            size = size * torch.where(wrong, 1 - gamma, 1 + gamma)
        scale = size / norm_of(change, "l2").clamp_min(torch.finfo(change.dtype).tiny)
        change = (clean + change * expand(scale, change)).clamp(0, 1) - clean
    nearest.update(rows, clean + change, target.margins(clean + change, truth, generator))
    return nearest.result()
