"""FMN: fast minimum-norm attack."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from resnet_spiking.attacks.checks import check_count, check_not_negative, check_positive
from resnet_spiking.attacks.losses import margin
from resnet_spiking.attacks.minimum import MinimumNorm, Nearest
from resnet_spiking.attacks.target import Target
from resnet_spiking.attacks.threat import Norm, Threat, expand, norm_of


def fmn(
    target: Target,
    images: Tensor,
    labels: Tensor,
    *,
    norm: Norm = "linf",
    generator: torch.Generator,
    steps: int = 200,
    step_size: float = 1.0,
    shrink: float = 0.05,
) -> MinimumNorm:
    """Look for the nearest misclassified image: climb the margin f inside a ball that follows the border.

    Per image, with the change d (0 at first) and a dual norm q::

        before any success : e <- max(e (1 + c), ||d|| + |f(x + d)| / ||grad f||_q)   (where f's tangent crosses 0)
        misclassified      : e <- min(e (1 - c), smallest norm found)
        not, but once      : e <- e (1 + c)
        d <- P_e(d + a grad f / ||grad f||_2)

    The first maximum is ours: a straight border, or one beyond the edge of the box, is otherwise approached for ever
    and never crossed. ``a`` falls from ``step_size`` pixels to a hundredth of it, ``c`` from ``shrink`` to a fiftieth,
    both along a half cosine. One step costs a forward and a backward pass.

    Source: Pintor et al., "Fast minimum-norm adversarial attacks through adaptive norm constraints", NeurIPS 2021.

    Raises ``UserError`` for a count below 1, an unknown norm, a step that is no positive number or a ``shrink`` outside
    [0, 1].
    """
    check_count("steps", steps)
    check_positive("step_size", step_size)
    check_not_negative("shrink", shrink, most=1)
    threat, dual = Threat(norm, 1.0), "l1" if norm == "linf" else "l2"
    nearest = Nearest(target, images, labels, norm, generator)
    rows = nearest.active
    if not len(rows):
        return nearest.result()
    target.mode.start()
    clean, truth = images[rows], labels[rows]
    moved = clean
    radius = torch.full((len(rows),), torch.inf, device=images.device, dtype=images.dtype)
    for step in range(steps):
        fall = (1 + math.cos(math.pi * step / steps)) / 2
        length = step_size * (0.01 + 0.99 * fall)
        change = shrink * (0.02 + 0.98 * fall)
        found = target.step(moved, truth, margin, generator)
        wrong = nearest.update(rows, moved, found.margin)
        slope = _dual(found.gradient, dual)
        gap = (found.loss.abs() / slope).nan_to_num(torch.inf, posinf=torch.inf).to(radius.dtype)
        tangent = norm_of(moved - clean, norm) + gap
        best = nearest.norms[rows]
        grown = radius * (1 + change)
        unbroken = torch.where(grown.isfinite(), torch.maximum(grown, tangent), tangent)
        growing = torch.where(best.isfinite(), grown, unbroken)
        radius = torch.where(wrong, torch.minimum(radius * (1 - change), best), growing)
        direction = Threat("l2", 1.0).steepest(found.gradient)
        moved = _within(threat, moved + length * direction, clean, radius)
    nearest.update(rows, moved, target.margins(moved, truth, generator))
    return nearest.result()


def _dual(gradient: Tensor, norm: str) -> Tensor:
    """Return the L1 or L2 norm ``[B]`` in fp64, so that a steep surrogate's squares do not overflow."""
    return gradient.double().flatten(1).norm(p=1 if norm == "l1" else 2, dim=1)


def _within(threat: Threat, moved: Tensor, images: Tensor, radius: Tensor) -> Tensor:
    """Project onto the ball of each image's own ``radius [B]``, then onto the box."""
    change = moved - images
    if threat.norm == "linf":
        limit = expand(radius, change)
        change = torch.minimum(torch.maximum(change, -limit), limit)
    else:
        length = norm_of(change, "l2").clamp_min(torch.finfo(change.dtype).tiny)
        change = change * expand((radius / length).clamp_max(1.0), change)
    return (images + change).clamp(0, 1)
