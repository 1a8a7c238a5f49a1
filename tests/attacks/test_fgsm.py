"""FGSM: one step, exact on a linear model, equal to torchattacks'."""

from __future__ import annotations

import pytest
import torch
import torchattacks
from attack_cases import Scaled, linear_case, target_of
from torch import Tensor, nn

from resnet_spiking.attacks.fgsm import fgsm
from resnet_spiking.attacks.threat import Norm, Threat


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_exact_on_two_linear_classes(norm: Norm, generator: torch.Generator) -> None:
    case = linear_case()
    distance = getattr(case, norm)
    target = target_of(case.model, case.images)
    for factor in (0.9999, 1.0001):
        for image in range(len(case.images)):
            one = slice(image, image + 1)
            threat = Threat(norm, factor * float(distance[image]))
            found = fgsm(target, case.images[one], case.labels[one], threat, generator=generator)
            assert found.success.item() is (factor > 1)


def test_the_step_is_that_of_torchattacks(
    trained: nn.Module, bars: tuple[Tensor, Tensor], generator: torch.Generator
) -> None:
    images, labels = bars
    # Less sure of itself, since theirs is fp32: see test_losses.
    model = Scaled(trained, 0.1)
    target = target_of(model, images)
    found = fgsm(target, images, labels, Threat("linf", 0.02), generator=generator)
    theirs = torchattacks.FGSM(model, eps=0.02)(images, labels)
    moved = found.steps == 1
    assert moved.float().mean() > 0.8
    # All but pixels whose gradient is 0 up to rounding.
    assert ((found.images[moved] - theirs[moved]).abs() < 1e-6).float().mean() > 0.99
    assert target.meter.backwards == len(images)
