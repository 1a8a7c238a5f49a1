"""torchattacks through gradient modes that keep state per image, or that change the forward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attack_cases import rate_classifier, target_of
from torch import Tensor

from resnet_spiking.attacks import attack, make_mode, minimum_norm
from resnet_spiking.attacks.classic.attacks import apgd, fgsm
from resnet_spiking.attacks.classic.witness import Judge, Witness
from resnet_spiking.attacks.losses import cross_entropy
from resnet_spiking.attacks.threat import Threat
from resnet_spiking.network.classifier import Classifier

OPTIONS: dict[str, dict[str, Any]] = {
    "ta-fgsm": {},
    "ta-pgd": {"steps": 15},
    "ta-eotpgd": {"steps": 5},
    "ta-apgd": {"steps": 15},
}


def case(encoding: str) -> tuple[Classifier, Tensor, Tensor]:
    model = rate_classifier(encoding=encoding)
    images = torch.rand(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    return model, images, model(images, torch.Generator().manual_seed(1)).argmax(1)


def silent(iterates: Tensor, judge: Judge) -> None: ...


@pytest.mark.parametrize("mode", ["own", "atan:8", "triangle:1", "assg", "hart", "relu"])
def test_the_gradient_is_that_of_the_mode(mode: str, generator: torch.Generator) -> None:
    model, images, labels = case("direct")
    target = target_of(model, images, mode=make_mode(mode))
    expected = target.step(images, labels, cross_entropy, generator).gradient
    target.mode.start()
    pixels = images.clone().requires_grad_()
    loss = cross_entropy(Witness(target, generator, silent)(pixels), labels).sum()
    (found,) = torch.autograd.grad(loss, pixels)
    assert found.abs().max() > 0
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_modes_lead_to_different_images(generator: torch.Generator) -> None:
    model, images, labels = case("direct")
    found = []
    for mode in ("atan:0.5", "triangle:1"):
        target = target_of(model, images, mode=make_mode(mode))
        found.append(fgsm(target, images, labels, Threat("linf", 0.01), generator=generator).images)
    assert not torch.equal(*found)


@pytest.mark.parametrize("encoding", ["direct", "rate"])
@pytest.mark.parametrize("name", OPTIONS)
def test_adaptive_sharpness_with_and_without_draws(name: str, encoding: str) -> None:
    model, images, labels = case(encoding)
    found = attack(model, images, labels, name, eps=0.2, gradient="assg", draws=5, **OPTIONS[name])
    assert float((found - images).abs().max()) <= 0.2 + 1e-6
    assert not torch.equal(found, images)


def test_adaptive_sharpness_follows_the_survivors_of_autoattack() -> None:
    # Four classes at least: the three of the case and one that never wins.
    model, images, labels = case("direct")
    wide = torch.nn.Sequential(model, torch.nn.ConstantPad1d((0, 1), -1.0)).eval()
    found = attack(wide, images, labels, "ta-autoattack", eps=0.02, gradient="assg", steps=8, queries=10)
    assert float((found - images).abs().max()) <= 0.02 + 1e-6


@pytest.mark.parametrize("name", ["ta-deepfool", "ta-cw"])
def test_minimum_norms_through_adaptive_sharpness(name: str) -> None:
    model, images, labels = case("direct")
    options: dict[str, Any] = {} if name == "ta-deepfool" else {"steps": 30, "learning_rate": 0.05}
    result = minimum_norm(model, images, labels, name, norm="l2", gradient="assg", **options)
    assert result.found.sum() >= 3


@pytest.mark.parametrize("encoding", ["direct", "rate"])
def test_success_is_never_taken_from_a_relaxed_forward(encoding: str, generator: torch.Generator) -> None:
    model, images, labels = case(encoding)
    target = target_of(model, images, draws=7, votes=200, mode=make_mode("relu"))
    found = apgd(target, images, labels, Threat("linf", 0.1), generator=generator, steps=10)
    assert found.success.any()
    judge = target_of(model, images, votes=1000)
    still_right = judge.correct(found.images, labels, torch.Generator().manual_seed(7))
    assert not still_right[found.success].any()
