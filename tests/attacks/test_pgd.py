"""PGD: closed form, torchattacks' PGD, and the best iterate."""

from __future__ import annotations

import pytest
import torch
import torchattacks
from attack_cases import linear_case, target_of
from torch import Tensor, nn

from resnet_spiking.attacks.pgd import pgd
from resnet_spiking.attacks.threat import Norm, Threat


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_success_exactly_when_the_closed_form_says_so(norm: Norm, generator: torch.Generator) -> None:
    case = linear_case()
    distance = getattr(case, norm)
    target = target_of(case.model, case.images)
    for factor, success in ((0.99, False), (1.02, True)):
        for image in range(len(case.images)):
            one = slice(image, image + 1)
            threat = Threat(norm, factor * float(distance[image]))
            found = pgd(target, case.images[one], case.labels[one], threat, generator=generator, steps=50)
            assert found.success.item() is success


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.07), ("l2", 0.9)])
def test_never_weaker_than_torchattacks(
    norm: Norm, eps: float, trained: nn.Module, bars: tuple[Tensor, Tensor], generator: torch.Generator
) -> None:
    images, labels = bars
    settings = {"eps": eps, "steps": 20, "random_start": False}
    step = eps / 8
    peer = (
        torchattacks.PGD(trained, alpha=step, **settings)
        if norm == "linf"
        else torchattacks.PGDL2(trained, alpha=step, **settings)
    )
    theirs = trained(peer(images, labels)).argmax(1) != labels
    found = pgd(
        target_of(trained, images),
        images,
        labels,
        Threat(norm, eps),
        generator=generator,
        steps=20,
        step_size=step,
        random_start=False,
    )
    assert 0 < theirs.sum() < len(images)
    assert (found.success | ~theirs).all()
    assert found.success.sum() <= theirs.sum() + 2


def test_a_step_that_is_too_long_loses_nothing(
    trained: nn.Module, bars: tuple[Tensor, Tensor], generator: torch.Generator
) -> None:
    """From step to step such an ascent jumps to and fro; each image keeps the best that it ever had."""
    images, labels = bars
    target, threat = target_of(trained, images), Threat("linf", 0.03)
    previous = None
    for steps in (1, 2, 5, 11):
        found = pgd(
            target, images, labels, threat, generator=generator, steps=steps, step_size=0.06, random_start=False
        )
        assert torch.allclose(target.margins(found.images, labels), found.margin, atol=1e-5)
        if previous is not None:
            assert (found.margin >= previous.margin - 1e-6)[~previous.success].all()
            assert found.success[previous.success].all()
        previous = found


def test_restarts_go_on_with_the_survivors(
    trained: nn.Module, bars: tuple[Tensor, Tensor], generator: torch.Generator
) -> None:
    images, labels = bars
    target = target_of(trained, images)
    found = pgd(target, images, labels, Threat("linf", 0.07), generator=generator, steps=4, restarts=3)
    lost, left = found.steps[found.success], int((~found.success).sum())
    assert left > 0
    # 4 gradients a restart for a survivor; for the others one at each look up to the success, if that was not the
    # last of a restart, which needs none (looks 5, 10 and 15).
    assert target.meter.backwards == 12 * left + int((lost - lost // 5).sum())
