"""PGD: projected gradient ascent with a fixed step."""

from __future__ import annotations

import torch
from torch import Tensor

from resnet_spiking.attacks.best import Best, Outcome, survivors
from resnet_spiking.attacks.checks import check_count, check_positive
from resnet_spiking.attacks.losses import find_loss
from resnet_spiking.attacks.target import Target
from resnet_spiking.attacks.threat import Threat


def pgd(
    target: Target,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    generator: torch.Generator,
    steps: int = 40,
    step_size: float | None = None,
    restarts: int = 1,
    random_start: bool = True,
    loss: str = "ce",
) -> Outcome:
    """Climb ``x_{k+1} = P(x_k + a s(grad L(x_k)))``, s the sign or the unit L2 norm; keep the best iterate.

    ``step_size`` a is in pixels; by default ``2.5 eps / steps``, which reaches any point of the ball from any other.

    Source: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018.

    Raises ``UserError`` for an unknown loss, a count below 1 or a step that is no positive number.
    """
    chosen = find_loss(loss)
    check_count("steps", steps)
    check_count("restarts", restarts)
    if step_size is not None:
        check_positive("step_size", step_size)
    length = 2.5 * threat.eps / steps if step_size is None else step_size
    best = Best.of_clean(target, images, labels, generator)
    spent = 0
    for _ in range(restarts if threat.eps else 0):
        index = best.active
        if not len(index):
            break
        target.mode.start()
        clean, truth = images[index], labels[index]
        moved = threat.random_start(clean, generator) if random_start else clean
        for _ in range(steps):
            found = target.step(moved, truth, chosen, generator)
            spent += 1
            done = best.update(index, moved, found.margin, spent)
            index, clean, truth, moved, gradient = survivors(target, done, index, clean, truth, moved, found.gradient)
            if not len(index):
                break
            moved = threat.project(moved + length * threat.steepest(gradient), clean)
        else:
            spent += 1
            best.update(index, moved, target.margins(moved, truth, generator), spent)
    return best.outcome()
