"""DeepFool: steps to the nearest border of the linearised classifier."""

from __future__ import annotations

import torch
from torch import Tensor

from resnet_spiking.attacks.apgd import other_classes
from resnet_spiking.attacks.best import survivors
from resnet_spiking.attacks.checks import check_count, check_not_negative
from resnet_spiking.attacks.minimum import MinimumNorm, Nearest
from resnet_spiking.attacks.target import Target
from resnet_spiking.attacks.threat import Norm, Threat, expand


def deepfool(
    target: Target,
    images: Tensor,
    labels: Tensor,
    *,
    norm: Norm = "l2",
    generator: torch.Generator,
    steps: int = 50,
    overshoot: float = 0.02,
    candidates: int = 9,
) -> MinimumNorm:
    """Walk each image to the nearest of the borders with its ``candidates`` best other classes j.

    With ``f_j = z_j - z_y``, ``w_j = grad f_j`` and the dual norm q (1 for L-infinity)::

        j = argmin |f_j| / ||w_j||_q        r <- r + |f_j| / ||w_j||_q s(w_j)        x_k = clip(x + (1 + overshoot) r)

    s is the sign or the unit L2 norm; pixels that cannot move further are left out of w.
    All images walk together; each stops when it is misclassified. Classes whose gradient is
    zero are left out, and an image with no class left stops, not found: there is no direction to go.
    One step costs one forward and ``candidates`` backward passes.

    Source: Moosavi-Dezfooli et al., "DeepFool: a simple and accurate method to fool deep neural networks",
    CVPR 2016, algorithm 2 and section 3.4.

    Raises ``UserError`` for a count below 1, an unknown norm or a negative overshoot.
    """
    check_count("steps", steps)
    check_count("candidates", candidates)
    check_not_negative("overshoot", overshoot)
    threat = Threat(norm, 1.0)
    nearest = Nearest(target, images, labels, norm, generator)
    rows = nearest.active
    if not len(rows):
        return nearest.result()
    clean, truth = images[rows], labels[rows]
    classes = other_classes(target, clean, truth, generator, candidates)
    target.mode.start()
    moved, change = clean, torch.zeros_like(clean)
    for step in range(steps + 1):
        if step == steps:
            nearest.update(rows, moved, target.margins(moved, truth, generator))
            break
        values, gradients, margins = target.differences(moved, truth, classes, generator)
        done = nearest.update(rows, moved, margins)
        # A pixel at the edge of the box takes no part in a step that leads out of it.
        gradients = gradients.masked_fill(((moved <= 0) & (gradients < 0)) | ((moved >= 1) & (gradients > 0)), 0)
        slopes = gradients.double().flatten(2).norm(p=1 if norm == "linf" else 2, dim=2)  # [k, B]
        distances = (values.double().abs() / slopes).nan_to_num(torch.inf, posinf=torch.inf)
        distance, chosen = distances.min(0)
        # Walking further than the box is wide helps nobody and may overflow.
        distance = distance.clamp_max(clean[0].numel())
        direction = threat.steepest(gradients[chosen, torch.arange(len(rows), device=rows.device)])
        done = done | ~distances.isfinite().any(0)
        change = change + direction * expand(distance.to(change.dtype), direction)
        rows, clean, truth, classes, change = survivors(target, done, rows, clean, truth, classes, change)
        if not len(rows):
            break
        moved = (clean + (1 + overshoot) * change).clamp(0, 1)
    return nearest.result()
