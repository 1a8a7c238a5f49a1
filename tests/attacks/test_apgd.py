"""APGD: closed-form optima, its schedule, and torchattacks' own."""

from __future__ import annotations

import copy

import pytest
import torch
import torchattacks
from attack_cases import linear_case, target_of
from torch import Tensor, nn

from resnet_spiking.attacks.apgd import apgd, apgd_targeted
from resnet_spiking.attacks.schedule import checkpoints
from resnet_spiking.attacks.threat import Norm, Threat
from resnet_spiking.errors import UserError


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("loss", ["ce", "margin", "dlr"])
def test_success_exactly_when_the_closed_form_says_so(norm: Norm, loss: str, generator: torch.Generator) -> None:
    """Two classes: the largest margin in the ball is ``m + eps ||w||_q``, so success begins at ``|m| / ||w||_q``."""
    case = linear_case()
    distance = getattr(case, norm)
    target = target_of(case.model, case.images)
    for factor, success in ((0.998, False), (1.002, True)):
        for image in range(len(case.images)):
            one = slice(image, image + 1)
            threat = Threat(norm, factor * float(distance[image]))
            found = apgd(target, case.images[one], case.labels[one], threat, generator=generator, loss=loss)
            assert found.success.item() is success, (factor, image)
            if not success:
                start = float(target.margins(case.images[one], case.labels[one]))
                assert float(found.margin) == pytest.approx((1 - factor) * start, rel=0.05)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("loss", ["margin", "dlr"])
def test_targeted_at_every_class_finds_the_nearest_border(norm: Norm, loss: str, generator: torch.Generator) -> None:
    case = linear_case(classes=5, count=6)
    target = target_of(case.model, case.images)
    for factor, success in ((0.995, False), (1.005, True)):
        for image, distance in enumerate(getattr(case, norm).tolist()):
            one = slice(image, image + 1)
            found = apgd_targeted(
                target,
                case.images[one],
                case.labels[one],
                Threat(norm, factor * distance),
                generator=generator,
                loss=loss,
                steps=50,
            )
            assert found.success.item() is success, (factor, image)


def test_checkpoints_of_a_hundred_steps_are_those_of_the_paper() -> None:
    """p = 0, 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99."""
    assert list(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert list(checkpoints(100).values()) == [22, 19, 16, 13, 10, 7, 6, 6]
    assert list(checkpoints(5)) == [1, 2, 3, 4]
    assert checkpoints(1) == {}


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.05), ("linf", 0.07), ("l2", 0.9)])
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_as_strong_as_torchattacks(
    norm: Norm, eps: float, loss: str, trained: nn.Module, bars: tuple[Tensor, Tensor], generator: torch.Generator
) -> None:
    images, labels = bars
    peer = torchattacks.APGD(trained, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, steps=50, loss=loss)
    with torch.random.fork_rng():
        theirs = trained(peer(images, labels)).argmax(1) == labels
    target = target_of(trained, images)
    ours = ~apgd(target, images, labels, Threat(norm, eps), generator=generator, steps=50, loss=loss).success
    assert 0 < theirs.sum() < len(images)
    assert ours.sum() <= theirs.sum()
    assert ours.sum() >= theirs.sum() - 3


def test_restarts_and_targets_only_add(trained: nn.Module, bars: tuple[Tensor, Tensor]) -> None:
    images, labels = bars
    target, threat = target_of(trained, images), Threat("linf", 0.07)
    once, thrice = (
        apgd(target, images, labels, threat, generator=torch.Generator().manual_seed(0), steps=8, restarts=n).success
        for n in (1, 3)
    )
    assert (once <= thrice).all()


def test_an_image_stops_at_its_first_success(trained: nn.Module, bars: tuple[Tensor, Tensor]) -> None:
    images, labels = bars
    target = target_of(trained, images)
    found = apgd(target, images, labels, Threat("linf", 0.3), generator=torch.Generator().manual_seed(0), steps=50)
    assert found.success.all()
    # Gradients are taken at the random start and at each step up to the success, and for no image after it.
    assert target.meter.backwards == int(found.steps.sum())
    assert target.meter.backwards < 10 * len(images)


def test_the_returned_image_is_the_one_of_the_margin(trained: nn.Module, bars: tuple[Tensor, Tensor]) -> None:
    images, labels = bars
    target = target_of(trained, images)
    found = apgd(target, images, labels, Threat("linf", 0.07), generator=torch.Generator().manual_seed(0), steps=20)
    assert torch.allclose(target.margins(found.images, labels), found.margin, atol=1e-5)
    assert (found.margin >= target.margins(images, labels) - 1e-5).all()
    assert torch.equal(found.success, found.margin >= 0)


def test_what_it_refuses(trained: nn.Module, bars: tuple[Tensor, Tensor], generator: torch.Generator) -> None:
    images, labels = bars
    target, threat = target_of(trained, images), Threat("linf", 0.1)
    with pytest.raises(UserError, match="did you mean 'dlr'"):
        apgd(target, images, labels, threat, generator=generator, loss="dl")
    with pytest.raises(UserError, match="choose from: margin, dlr"):
        apgd_targeted(target, images, labels, threat, generator=generator, loss="ce")
    for name in ("steps", "restarts", "classes"):
        with pytest.raises(UserError, match=name):
            apgd_targeted(target, images, labels, threat, generator=generator, **{name: 0})


@pytest.mark.parametrize(("loss", "rho"), [("ce", 0.75), ("dlr", 0.75), ("ce", 0.5), ("ce", 1.0), ("ce", 0.0)])
def test_every_iterate_is_that_of_torchattacks(
    loss: str, rho: float, trained: nn.Module, bars: tuple[Tensor, Tensor],
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """From the same start: steps, momentum, halvings and returns to the top, on images that no step breaks."""
    eps = 0.006
    model, seen = copy.deepcopy(trained).double(), []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    images, labels = bars[0].double(), bars[1]
    found = apgd(target_of(model, images), images, labels, Threat("linf", eps), generator=generator, loss=loss, rho=rho)
    images, labels = images[~found.success], labels[~found.success]
    assert len(images) > 20
    del seen[:]
    peer = torchattacks.APGD(model, norm="Linf", eps=eps, steps=100, loss=loss, rho=rho)
    with torch.random.fork_rng():
        peer(images, labels)
    theirs = torch.stack(seen[-101:])
    monkeypatch.setattr(Threat, "random_rim", lambda self, clean, generator: theirs[0])
    target = target_of(model, images)
    del seen[:]
    apgd(target, images, labels, Threat("linf", eps), generator=generator, loss=loss, rho=rho)
    ours = torch.stack(seen[-101:])
    # A sign of a gradient near zero may round the other way, and does so in few images.
    same = (ours - theirs).abs().amax((0, 2, 3, 4)) < 1e-6
    assert same.float().mean() > 0.9
