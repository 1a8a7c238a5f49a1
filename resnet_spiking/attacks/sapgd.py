"""SA-PGD: an ascent scaled per pixel by its own gradients, made for surrogate gradients that vanish."""

from __future__ import annotations

import torch
from torch import Tensor

from resnet_spiking.attacks.best import Best, Outcome, survivors
from resnet_spiking.attacks.checks import check_count
from resnet_spiking.attacks.losses import find_loss
from resnet_spiking.attacks.schedule import checkpoints
from resnet_spiking.attacks.target import Target
from resnet_spiking.attacks.threat import Threat, expand, over_mean

FIRST_MOMENT, SECOND_MOMENT = 0.5, 0.8


def sapgd(
    target: Target,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    generator: torch.Generator,
    steps: int = 100,
    restarts: int = 1,
    loss: str = "ce",
) -> Outcome:
    """Climb from random starts of norm eps with the moments m and v of the gradient g, per image::

        m <- 0.5 m + g / mean|g|        v <- 0.8 v + g^2 / mean(g^2)        t = eta m / sqrt(v)
        x <- P(x + clip(t, -eta, eta))

    P is the projection onto ball and box; eta begins at eps and is halved for all images at APGD's checkpoints.
    In L2 (our extension) the step is m at length eta: dividing by sqrt(v) would make a sign of it. An image whose
    gradient is zero in every pixel starts again from new noise. Meant for the gradient mode ``assg``; works with any.

    Source: Wang et al., arXiv:2512.22522, with a guard where the gradient is zero.

    Raises ``UserError`` for an unknown loss or a count below 1.
    """
    chosen = find_loss(loss)
    check_count("steps", steps)
    check_count("restarts", restarts)
    due = checkpoints(steps)
    best = Best.of_clean(target, images, labels, generator)
    spent = 0
    for _ in range(restarts if threat.eps else 0):
        rows = best.active
        if not len(rows):
            break
        target.mode.start()
        clean, truth = images[rows], labels[rows]
        moved = threat.random_rim(clean, generator)
        first, second = torch.zeros_like(clean), torch.zeros_like(clean)
        size = threat.eps
        for step in range(1, steps + 1):
            found = target.step(moved, truth, chosen, generator)
            spent += 1
            done = best.update(rows, moved, found.margin, spent)
            rows, clean, truth, moved, first, second, gradient = survivors(
                target, done, rows, clean, truth, moved, first, second, found.gradient
            )
            if not len(rows):
                break
            first = FIRST_MOMENT * first + over_mean(gradient)
            second = SECOND_MOMENT * second + over_mean(over_mean(gradient).square())
            ahead = threat.project(moved + _stride(first, second, size, threat), clean)
            lost = expand((gradient == 0).flatten(1).all(1), clean)
            if bool(lost.any()):
                ahead = torch.where(lost, threat.random_rim(clean, generator), ahead)
                first, second = first.masked_fill(lost, 0), second.masked_fill(lost, 0)
            moved = ahead
            if step in due:
                size /= 2
        else:
            spent += 1
            best.update(rows, moved, target.margins(moved, truth, generator), spent)
    return best.outcome()


def _stride(first: Tensor, second: Tensor, size: float, threat: Threat) -> Tensor:
    if threat.norm == "l2":
        return size * threat.steepest(first)
    return (size * first / (second.sqrt() + 1e-12)).clamp(-size, size)
