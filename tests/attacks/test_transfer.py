"""Transfer: crafted on one model, judged on another."""

from __future__ import annotations

import pytest
import torch
from attack_cases import Fixed, linear_case, target_of
from torch import Tensor, nn

from resnet_spiking.attacks.pgd import pgd
from resnet_spiking.attacks.threat import Norm, Threat
from resnet_spiking.attacks.transfer import transfer


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_from_a_model_of_equal_gradient_the_closed_form(norm: Norm, generator: torch.Generator) -> None:
    """The source has the victim's weights and another bias: it is fooled long before, and the climb goes on."""
    case = linear_case()
    target = target_of(case.model, case.images)
    flat, layer = nn.Flatten(), nn.Linear(60, 2, dtype=torch.float64)
    layer.weight.data, layer.bias.data = case.layer.weight.data, case.layer.bias.data.clone()
    source = target_of(nn.Sequential(flat, layer), case.images)
    for factor, success in ((0.99, False), (1.01, True)):
        for image, distance in enumerate(getattr(case, norm).tolist()):
            one, label = slice(image, image + 1), int(case.labels[image])
            layer.bias.data.copy_(case.layer.bias)
            layer.bias.data[1 - label] += 5
            found = transfer(
                target,
                case.images[one],
                case.labels[one],
                Threat(norm, factor * distance),
                generator=generator,
                source=source,
            )
            assert found.success.item() is success


def test_the_target_gives_no_gradient(
    trained: nn.Module, bars: tuple[Tensor, Tensor], generator: torch.Generator
) -> None:
    images, labels = bars
    target, source = target_of(trained, images), target_of(trained, images)
    found = transfer(target, images, labels, Threat("linf", 0.07), generator=generator, source=source)
    assert target.meter.backwards == 0 < source.meter.backwards
    assert torch.equal(target.correct(found.images, labels), ~found.success)
    # From itself it is a white-box attack, and much as strong as one.
    other = pgd(target, images, labels, Threat("linf", 0.07), generator=generator)
    assert 0 < other.success.sum() < len(images)
    assert abs(int(found.success.sum()) - int(other.success.sum())) <= 2


def test_a_source_without_gradient_moves_nothing(generator: torch.Generator) -> None:
    case = linear_case()
    source = target_of(Fixed([1.0, 0.0]), case.images)
    target = target_of(case.model, case.images)
    found = transfer(target, case.images, case.labels, Threat("linf", 0.5), generator=generator, source=source)
    assert not found.success.any()
    assert torch.equal(found.images, case.images)
