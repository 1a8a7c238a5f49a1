"""Transfer: images crafted on one model, tried on another."""

from __future__ import annotations

import torch
from torch import Tensor

from resnet_spiking.attacks.best import Best, Outcome, survivors
from resnet_spiking.attacks.checks import check_count, check_not_negative, check_positive
from resnet_spiking.attacks.losses import find_loss
from resnet_spiking.attacks.target import Target
from resnet_spiking.attacks.threat import Threat, over_mean
from resnet_spiking.errors import UserError


def transfer(
    target: Target,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    generator: torch.Generator,
    source: Target,
    steps: int = 40,
    step_size: float | None = None,
    momentum: float = 1.0,
    loss: str = "margin",
    every: int = 5,
) -> Outcome:
    """Climb the loss of ``source`` with MI-FGSM and try the iterate on ``target`` after ``every`` steps.

    ``g <- momentum g + grad L / mean|grad L|``, ``x <- P(x + a s(g))``, s the sign or the unit L2 norm; ``step_size`` a
    is ``2.5 eps / steps`` by default. The climb goes on past the border of the source (an
    image that barely fools one model fools no other), and stops per image when the target is fooled. The
    target's gradient is never taken.

    Source: Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018, algorithm 1.

    Raises ``UserError`` for a source that is no model, an unknown loss, a count below 1, a step that is no positive
    number or a negative momentum.
    """
    if not isinstance(source, Target):
        raise UserError(f"source must be the model to craft on, not {source!r}")
    chosen = find_loss(loss)
    check_count("steps", steps)
    check_count("every", every)
    check_not_negative("momentum", momentum)
    if step_size is not None:
        check_positive("step_size", step_size)
    length = 2.5 * threat.eps / steps if step_size is None else step_size
    best = Best.of_clean(target, images, labels, generator)
    rows = best.active
    if not threat.eps or not len(rows):
        return best.outcome()
    source.mode.start()
    clean, truth = images[rows], labels[rows]
    moved, gathered = clean, torch.zeros_like(clean)
    for step in range(1, steps + 1):
        gradient = source.step(moved, truth, chosen, generator).gradient
        gathered = momentum * gathered + over_mean(gradient)
        moved = threat.project(moved + length * threat.steepest(gathered), clean)
        if step % every and step < steps:
            continue
        done = best.update(rows, moved, target.margins(moved, truth, generator), step)
        rows, clean, truth, moved, gathered = survivors(source, done, rows, clean, truth, moved, gathered)
        if not len(rows):
            break
    return best.outcome()
