"""FGSM: one step."""

from __future__ import annotations

import torch
from torch import Tensor

from resnet_spiking.attacks.best import Best, Outcome, survivors
from resnet_spiking.attacks.losses import find_loss
from resnet_spiking.attacks.target import Target
from resnet_spiking.attacks.threat import Threat


def fgsm(
    target: Target, images: Tensor, labels: Tensor, threat: Threat, *, generator: torch.Generator, loss: str = "ce"
) -> Outcome:
    """Return ``P(x + eps s(grad L(x)))``, s the sign or the unit L2 norm, P the projection onto ball and box.

    Source: Goodfellow et al., "Explaining and harnessing adversarial examples", ICLR 2015.

    Raises ``UserError`` for an unknown loss.
    """
    chosen = find_loss(loss)
    best = Best(images)
    if not len(images):
        return best.outcome()
    target.mode.start()
    index = best.active
    found = target.step(images, labels, chosen, generator)
    done = best.update(index, images, found.margin, 0)
    index, clean, truth, gradient = survivors(target, done, index, images, labels, found.gradient)
    if threat.eps and len(index):
        moved = threat.project(clean + threat.eps * threat.steepest(gradient), clean)
        best.update(index, moved, target.margins(moved, truth, generator), 1)
    return best.outcome()
