"""torchattacks' attacks with the settings of their papers and official code, each under the guard."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from resnet_spiking.attacks.best import Outcome
from resnet_spiking.attacks.checks import check_count, check_positive
from resnet_spiking.attacks.classic.guard import Stage, guarded
from resnet_spiking.attacks.target import Target
from resnet_spiking.attacks.threat import Threat
from resnet_spiking.errors import UserError

# torchattacks' names of the norms.
NORM = {"linf": "Linf", "l2": "L2"}
# The fewest classes that the DLR loss and its targeted form can be written with.
DLR_CLASSES = 3
TARGETED_DLR_CLASSES = 4


def fgsm(target: Target, images: Tensor, labels: Tensor, threat: Threat, *, generator: torch.Generator) -> Outcome:
    """``x + eps sign(grad CE)``, one forward and one backward pass; Linf.

    Source: Goodfellow et al., "Explaining and harnessing adversarial examples", ICLR 2015; torchattacks 3.5.1.
    """
    import torchattacks

    def make(model: nn.Module, seed: int) -> torchattacks.FGSM:
        return torchattacks.FGSM(model, eps=threat.eps)

    return guarded(target, images, labels, _only(threat, "linf", "ta-fgsm"), Stage(make), generator=generator)


def pgd(
    target: Target,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    generator: torch.Generator,
    steps: int = 10,
    alpha: float | None = None,
) -> Outcome:
    """Projected steps ``x + alpha sign(grad CE)`` (L2: along the unit gradient) from a uniform random start.

    ``alpha`` in pixels; default 2.5 eps / steps, which is torchattacks' 2/255 at its own 8/255 and 10 steps.

    Source: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018;
    torchattacks 3.5.1, ``PGD`` and ``PGDL2``.
    """
    import torchattacks

    check_count("steps", steps)
    size = _alpha(alpha, threat, steps)
    attack = torchattacks.PGD if threat.norm == "linf" else torchattacks.PGDL2

    def make(model: nn.Module, seed: int) -> Callable[[Tensor, Tensor], Tensor]:
        return attack(model, eps=threat.eps, alpha=size, steps=steps, random_start=True)

    return guarded(target, images, labels, threat, Stage(make), generator=generator)


def eotpgd(
    target: Target,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    generator: torch.Generator,
    steps: int = 10,
    alpha: float | None = None,
    eot_iter: int | None = None,
) -> Outcome:
    """``pgd`` along the mean gradient of ``eot_iter`` whole passes of one draw each; Linf.

    ``eot_iter`` defaults to the target's draws (torchattacks: 2, too few). The other attacks here, and all of
    our own, average draws of the head over one pass through the backbone instead, which costs a fraction.

    Source: Zimmermann, "Comment on 'Adv-BNN'", arXiv 1907.00895; Athalye et al., ICML 2018; torchattacks 3.5.1.
    """
    import torchattacks

    passes = target.draws if eot_iter is None else eot_iter
    check_count("steps", steps)
    check_count("eot_iter", passes)
    size = _alpha(alpha, threat, steps)

    def make(model: nn.Module, seed: int) -> torchattacks.EOTPGD:
        return torchattacks.EOTPGD(model, eps=threat.eps, alpha=size, steps=steps, eot_iter=passes)

    return guarded(
        target, images, labels, _only(threat, "linf", "ta-eotpgd"), Stage(make, draws=1), generator=generator
    )


def apgd(
    target: Target,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    generator: torch.Generator,
    loss: str = "ce",
    steps: int = 100,
    restarts: int = 1,
) -> Outcome:
    """APGD on ``loss`` ``ce`` or ``dlr`` with the official 100 iterations, step sizes set per image.

    Source: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
    parameter-free attacks", ICML 2020; torchattacks 3.5.1 (whose default is 10 iterations).

    Raises ``UserError`` for another loss, and for ``dlr`` with fewer than three classes.
    """
    if loss not in ("ce", "dlr"):
        raise UserError(f"loss {loss!r} is unknown to torchattacks' APGD; choose from: ce, dlr")
    if loss == "dlr" and target.classes < DLR_CLASSES:
        raise UserError(f"the DLR loss needs {DLR_CLASSES} classes, this model has {target.classes}; use loss 'ce'")
    check_count("steps", steps)
    check_count("restarts", restarts)
    return guarded(target, images, labels, threat, apgd_stage(threat, loss, steps, restarts), generator=generator)


def square(
    target: Target,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    generator: torch.Generator,
    queries: int = 5000,
) -> Outcome:
    """Square attack on the margin with AutoAttack's settings: 5,000 queries, p = 0.8, schedule not rescaled.

    Source: Andriushchenko et al., "Square attack: a query-efficient black-box adversarial attack via random
    search", ECCV 2020; torchattacks 3.5.1 (whose default rescales the schedule).
    """
    check_count("queries", queries)
    return guarded(target, images, labels, threat, square_stage(threat, queries), generator=generator)


def apgd_stage(threat: Threat, loss: str, steps: int, restarts: int = 1) -> Stage:
    import torchattacks

    def make(model: nn.Module, seed: int) -> torchattacks.APGD:
        return torchattacks.APGD(
            model,
            norm=NORM[threat.norm],
            eps=threat.eps,
            steps=steps,
            n_restarts=restarts,
            seed=seed,
            loss=loss,
            eot_iter=1,
            rho=0.75,
        )

    return Stage(make)


def square_stage(threat: Threat, queries: int) -> Stage:
    import torchattacks

    def make(model: nn.Module, seed: int) -> torchattacks.Square:
        return torchattacks.Square(
            model,
            norm=NORM[threat.norm],
            eps=threat.eps,
            n_queries=queries,
            n_restarts=1,
            p_init=0.8,
            loss="margin",
            resc_schedule=False,
            seed=seed,
        )

    return Stage(make)


def _alpha(alpha: float | None, threat: Threat, steps: int) -> float:
    if alpha is None:
        return 2.5 * threat.eps / steps
    check_positive("alpha", alpha)
    return alpha


def _only(threat: Threat, norm: str, name: str) -> Threat:
    if threat.norm != norm:
        raise UserError(f"{name} works in {norm} only, not in {threat.norm}")
    return threat
