"""AutoAttack out of torchattacks' parts, with the settings that give it its name."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from resnet_spiking.attacks.best import Outcome
from resnet_spiking.attacks.checks import check_count
from resnet_spiking.attacks.classic.attacks import (
    DLR_CLASSES,
    NORM,
    TARGETED_DLR_CLASSES,
    apgd_stage,
    square_stage,
)
from resnet_spiking.attacks.classic.guard import Stage, guarded
from resnet_spiking.attacks.target import Target
from resnet_spiking.attacks.threat import Threat
from resnet_spiking.errors import UserError

TARGETS = 9


def autoattack(
    target: Target,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    generator: torch.Generator,
    steps: int = 100,
    queries: int = 5000,
) -> Outcome:
    """Run the official AutoAttack, each part on the images that the parts before it have left.

    Deterministic model, version ``standard``: APGD-CE, APGD-T and FAB-T at the 9 other classes of largest logit, 100
    iterations and one restart each, then Square with 5,000 queries. Stochastic model, version ``rand``: APGD-CE and
    APGD-DLR, 100 iterations, over the target's draws (official: 20).

    torchattacks' class of this name runs 10 iterations, targets every class and seeds by the clock.
    Fewer ``steps`` or ``queries`` than the defaults are not AutoAttack.

    Source: Croce and Hein, ICML 2020, and github.com/fra31/auto-attack; parts from torchattacks 3.5.1.

    Raises ``UserError`` for a model with too few classes: four, or three for ``rand``.
    """
    check_count("steps", steps)
    check_count("queries", queries)
    needed = DLR_CLASSES if target.stochastic else TARGETED_DLR_CLASSES
    if target.classes < needed:
        raise UserError(f"AutoAttack's DLR losses need {needed} classes, this model has {target.classes}; use ta-apgd")
    ce = apgd_stage(threat, "ce", steps)
    if target.stochastic:
        return guarded(target, images, labels, threat, ce, apgd_stage(threat, "dlr", steps), generator=generator)
    targets = min(TARGETS, target.classes - 1)
    stages = [ce, apgdt_stage(threat, steps, targets), fab_stage(threat, steps, targets), square_stage(threat, queries)]
    return guarded(target, images, labels, threat, *stages, generator=generator)


def apgdt_stage(threat: Threat, steps: int, targets: int) -> Stage:
    import torchattacks

    def make(model: nn.Module, seed: int) -> torchattacks.APGDT:
        return torchattacks.APGDT(
            model,
            norm=NORM[threat.norm],
            eps=threat.eps,
            steps=steps,
            n_restarts=1,
            seed=seed,
            eot_iter=1,
            rho=0.75,
            n_classes=targets + 1,
        )

    # In L2 it moves every image by the step size of the first of the batch.
    return Stage(make, alone=threat.norm == "l2")


def fab_stage(threat: Threat, steps: int, targets: int) -> Stage:
    import torchattacks

    def make(model: nn.Module, seed: int) -> torchattacks.FAB:
        return torchattacks.FAB(
            # FAB mixes its logits with fp32 tensors.
            nn.Sequential(model, Single()),
            norm=NORM[threat.norm],
            eps=threat.eps,
            steps=steps,
            n_restarts=1,
            alpha_max=0.1,
            eta=1.05,
            beta=0.9,
            seed=seed,
            multi_targeted=True,
            n_classes=targets + 1,
        )

    return Stage(make)


class Single(nn.Module):
    """Logits in fp32."""

    def forward(self, logits: Tensor) -> Tensor:
        return logits.float()
