"""FMN, DDN and DeepFool: closed-form distances, other libraries' distances."""

from __future__ import annotations

from collections.abc import Callable

import foolbox
import pytest
import torch
import torchattacks
from attack_cases import Fixed, Scaled, linear_case, target_of
from torch import Tensor, nn

from resnet_spiking.attacks.ddn import ddn
from resnet_spiking.attacks.deepfool import deepfool
from resnet_spiking.attacks.fmn import fmn
from resnet_spiking.attacks.minimum import MinimumNorm, Nearest
from resnet_spiking.attacks.threat import Norm, norm_of
from resnet_spiking.errors import UserError


def check(found: MinimumNorm, model: nn.Module, images: Tensor, labels: Tensor, norm: str) -> None:
    """Every image that was found is misclassified, in the box, and as far away as is said."""
    assert 0 <= float(found.images.min()) <= float(found.images.max()) <= 1
    logits = model(found.images)
    own = logits.gather(1, labels[:, None]).squeeze(1)
    other = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    assert (other >= own)[found.found].all()
    assert torch.allclose(norm_of(found.images - images, norm)[found.found], found.norms[found.found])


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("classes", [2, 5])
def test_fmn_finds_the_closed_form(norm: Norm, classes: int, generator: torch.Generator) -> None:
    case = linear_case(classes)
    found = fmn(target_of(case.model, case.images), case.images, case.labels, norm=norm, generator=generator)
    check(found, case.model, case.images, case.labels, norm)
    ratio = found.norms / getattr(case, norm)
    assert (ratio >= 1 - 1e-9).all()
    if classes == 2:
        assert (ratio < 1.01).all()
    else:  # The margin looks at the class of largest logit, which need not be the nearest.
        assert ratio.median() < 1.01
        assert (ratio < 1.25).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("classes", [2, 5])
def test_deepfool_overshoots_the_closed_form_by_two_percent(
    norm: Norm, classes: int, generator: torch.Generator
) -> None:
    case = linear_case(classes)
    found = deepfool(target_of(case.model, case.images), case.images, case.labels, norm=norm, generator=generator)
    check(found, case.model, case.images, case.labels, norm)
    assert torch.allclose(found.norms / getattr(case, norm), torch.tensor(1.02, dtype=torch.float64))


def test_ddn_finds_the_closed_form(generator: torch.Generator) -> None:
    case = linear_case()
    found = ddn(target_of(case.model, case.images), case.images, case.labels, generator=generator)
    check(found, case.model, case.images, case.labels, "l2")
    ratio = found.norms / case.l2
    assert (ratio >= 1 - 1e-9).all()
    assert (ratio < 1.05).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fmn_is_no_farther_than_deepfool_of_other_libraries(
    norm: Norm, trained: nn.Module, bars: tuple[Tensor, Tensor], generator: torch.Generator
) -> None:
    images, labels = bars
    target = target_of(trained, images)
    ours = fmn(target, images, labels, norm=norm, generator=generator)
    check(ours, trained, images, labels, norm)
    assert ours.found.all()
    peer = {"linf": foolbox.attacks.LinfDeepFoolAttack, "l2": foolbox.attacks.L2DeepFoolAttack}[norm]
    wrapped = foolbox.PyTorchModel(trained, bounds=(0, 1), device="cpu")
    _, theirs, success = peer()(wrapped, images, labels, epsilons=None)
    assert success.all()
    assert ours.norms.median() <= norm_of(theirs - images, norm).median()
    own = deepfool(target, images, labels, norm=norm, generator=generator)
    check(own, trained, images, labels, norm)
    assert own.norms.median() == pytest.approx(norm_of(theirs - images, norm).median().item(), rel=0.15)
    if norm == "l2":
        other = torchattacks.DeepFool(trained, steps=50)(images, labels)
        assert ours.norms.median() <= norm_of(other - images, norm).median()


def test_ddn_is_close_to_fmn(trained: nn.Module, bars: tuple[Tensor, Tensor], generator: torch.Generator) -> None:
    images, labels = bars
    target = target_of(trained, images)
    found = ddn(target, images, labels, generator=generator, steps=200)
    check(found, trained, images, labels, "l2")
    other = fmn(target, images, labels, norm="l2", generator=generator)
    assert found.norms.median().item() == pytest.approx(other.norms.median().item(), rel=0.1)


@pytest.mark.parametrize("attack", [fmn, ddn, deepfool])
def test_misclassified_images_have_the_norm_zero(
    attack: Callable[..., MinimumNorm], generator: torch.Generator
) -> None:
    case = linear_case(classes=3)
    wrong = (case.labels + 1) % 3
    labels = torch.where(torch.arange(len(wrong)) < 4, wrong, case.labels)
    found = attack(target_of(case.model, case.images), case.images, labels, norm="l2", generator=generator)
    assert found.found.all()
    assert ((found.norms == 0) == (torch.arange(len(wrong)) < 4)).all()
    assert torch.equal(found.images[:4], case.images[:4])


@pytest.mark.parametrize("attack", [fmn, ddn, deepfool])
@pytest.mark.parametrize("connected", [True, False])
def test_nothing_is_found_without_a_gradient(
    attack: Callable[..., MinimumNorm], connected: bool, generator: torch.Generator
) -> None:
    images, labels = torch.rand(3, 3, 4, 4), torch.zeros(3, dtype=torch.long)
    model = Fixed([1.0, 0.0], connected)
    found = attack(target_of(model, images), images, labels, norm="l2", generator=generator)
    assert not found.found.any()
    assert (found.norms == torch.inf).all()
    assert torch.equal(found.images, images)


@pytest.mark.parametrize("attack", [fmn, ddn, deepfool])
@pytest.mark.parametrize("scale", [1e-12, 1e8])
def test_the_scale_of_the_logits_plays_no_part(
    attack: Callable[..., MinimumNorm], scale: float, generator: torch.Generator
) -> None:
    case = linear_case()
    model = Scaled(case.model, scale)
    found = attack(target_of(model, case.images), case.images, case.labels, norm="l2", generator=generator)
    assert (found.norms / case.l2 < 1.05).all()


def test_the_nearest_success_is_kept(generator: torch.Generator) -> None:
    images, labels = torch.full((1, 1, 1, 1), 0.5), torch.tensor([0])
    nearest = Nearest(target_of(Fixed([1.0, 0.0]), images), images, labels, "linf", generator)
    rows = nearest.active
    for moved, margin in ((0.9, 1.0), (0.6, 0.0), (0.55, -0.1), (0.52, torch.nan), (0.7, 3.0)):
        nearest.update(rows, torch.full_like(images, moved), torch.tensor([margin]))
    assert nearest.result().norms.item() == pytest.approx(0.1)


def test_ddn_refuses_linf(generator: torch.Generator) -> None:
    case = linear_case()
    with pytest.raises(UserError, match="l2 only"):
        ddn(target_of(case.model, case.images), case.images, case.labels, norm="linf", generator=generator)


class Bright(nn.Module):
    """Class 1 wins where the mean of the pixels is 0.599 at least; below, the margin rises by 1 as the mean does."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images.detach().clone())
        light = images.mean((1, 2, 3))
        return torch.stack([0.6 - light, torch.where(light > 0.599, 1.0, 0.0)], dim=1)


def test_fmn_looks_at_its_last_step_too(generator: torch.Generator) -> None:
    from resnet_spiking.attacks.fmn import fmn

    images, labels = torch.full((1, 1, 4, 4), 0.5), torch.zeros(1, dtype=torch.long)
    found = fmn(target_of(Bright(), images), images, labels, norm="linf", generator=generator, steps=1)
    assert found.found.all()
    assert found.norms.item() == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fmn_begins_where_the_tangent_crosses_zero(norm: str, generator: torch.Generator) -> None:
    """On a linear model that is the border: |f| / ||w||_q, q dual to the norm."""
    from resnet_spiking.attacks.fmn import fmn

    case = linear_case()
    seen: list[Tensor] = []
    model = nn.Sequential(case.model)
    target = target_of(model, case.images)
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    fmn(target, case.images, case.labels, norm=norm, generator=generator, steps=2)
    moved = seen[-2] if len(seen) > 2 else seen[-1]
    torch.testing.assert_close(norm_of(moved - case.images, norm), getattr(case, norm), rtol=1e-6, atol=0)
