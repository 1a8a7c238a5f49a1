from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torchattacks
from torch import Tensor, nn

from resnet_spiking.attacks.api import attack, minimum_norm
from resnet_spiking.attacks.best import Outcome
from resnet_spiking.attacks.classic.attacks import apgd, eotpgd, fgsm, pgd, square
from resnet_spiking.attacks.classic.autoattack import autoattack
from resnet_spiking.attacks.classic.minimum import cw, deepfool
from resnet_spiking.attacks.losses import margin
from resnet_spiking.attacks.minimum import MinimumNorm
from resnet_spiking.attacks.names import ATTACKS
from resnet_spiking.attacks.target import Target, make_target
from resnet_spiking.attacks.threat import Norm, Threat, norm_of
from resnet_spiking.errors import UserError

Digits = tuple[Tensor, Tensor]
Run = Callable[..., Outcome]
BOUNDED: dict[str, Run] = {
    "fgsm": fgsm,
    "pgd": pgd,
    "eotpgd": eotpgd,
    "apgd-ce": partial(apgd, steps=20),
    "apgd-dlr": partial(apgd, loss="dlr", steps=20),
    "square": partial(square, queries=50),
    "autoattack": partial(autoattack, steps=10, queries=20),
}
L2 = ("pgd", "apgd-ce", "apgd-dlr", "square", "autoattack")
MINIMUM: dict[str, Callable[..., MinimumNorm]] = {
    "deepfool": deepfool,
    "cw": partial(cw, steps=60, learning_rate=0.05),
}
CASES = [(name, "linf", 0.1) for name in BOUNDED] + [(name, "l2", 0.6) for name in L2]


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("name", "norm", "eps"), CASES)
def test_what_a_bounded_attack_promises(target: Target, digits: Digits, name: str, norm: Norm, eps: float) -> None:
    images, labels = digits
    threat = Threat(norm, eps)
    outcome = BOUNDED[name](target, images, labels, threat, generator=seeded())
    clean = margin(target.model(images), labels)
    found = margin(target.model(outcome.images), labels)
    assert outcome.images.isfinite().all()
    assert not outcome.images.requires_grad
    assert float(outcome.images.min()) >= 0
    assert float(outcome.images.max()) <= 1
    assert float(norm_of(outcome.images - images, norm).max()) <= eps + 1e-6
    torch.testing.assert_close(outcome.margin, found, rtol=1e-4, atol=1e-4)
    assert torch.equal(outcome.success, found >= 0)
    assert (found >= clean - 1e-4).all()
    assert torch.equal(outcome.images[clean >= 0], images[clean >= 0])
    assert outcome.success.sum() > (clean >= 0).sum()
    again = BOUNDED[name](target, images, labels, threat, generator=seeded())
    assert torch.equal(again.images, outcome.images)


@pytest.mark.parametrize(("name", "norm", "eps"), CASES)
def test_no_radius_no_image_one_image(target: Target, digits: Digits, name: str, norm: Norm, eps: float) -> None:
    images, labels = digits
    run = BOUNDED[name]
    still = run(target, images, labels, Threat(norm, 0), generator=seeded())
    assert torch.equal(still.images, images)
    assert torch.equal(still.success, margin(target.model(images), labels) >= 0)
    assert len(run(target, images[:0], labels[:0], Threat(norm, eps), generator=seeded()).images) == 0
    assert run(target, images[:1], labels[:1], Threat(norm, eps), generator=seeded()).images.shape == (1, 1, 8, 8)


@pytest.mark.parametrize("name", BOUNDED)
def test_nothing_is_asked_once_all_have_succeeded(target: Target, digits: Digits, name: str) -> None:
    wrong = (target.model(digits[0]).argmax(1) + 1) % 10
    outcome = BOUNDED[name](target, digits[0], wrong, Threat("linf", 0.1), generator=seeded())
    assert outcome.success.all()
    assert torch.equal(outcome.images, digits[0])
    assert (target.meter.forwards, target.meter.backwards) == (24, 0)


def test_a_batch_ends_with_its_last_success(target: Target, digits: Digits) -> None:
    outcome = apgd(target, *digits, Threat("linf", 0.6), generator=seeded())
    assert outcome.success.all()
    assert target.meter.backwards <= 24 * 10


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("fgsm", partial(torchattacks.FGSM, eps=0.1)),
        ("pgd", partial(torchattacks.PGD, eps=0.1, alpha=0.025)),
        ("apgd-ce", partial(torchattacks.APGD, eps=0.1, steps=20)),
        ("apgd-dlr", partial(torchattacks.APGD, eps=0.1, steps=20, loss="dlr")),
        ("square", partial(torchattacks.Square, eps=0.1, n_queries=50, resc_schedule=False)),
    ],
)
def test_not_weaker_than_the_library_alone(
    target: Target, smooth: nn.Module, digits: Digits, name: str, raw: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    alone = margin(smooth(raw(smooth)(*digits)), digits[1]) >= 0
    outcome = BOUNDED[name](target, *digits, Threat("linf", 0.1), generator=seeded())
    # Random starts differ: one image may fall to one and not to the other.
    assert int(outcome.success.sum()) >= int(alone.sum()) - (name != "fgsm")


@pytest.mark.parametrize("name", MINIMUM)
def test_what_a_minimum_norm_attack_promises(target: Target, digits: Digits, name: str) -> None:
    images, labels = digits[0][:8], digits[1][:8].clone()
    labels[0] = (labels[0] + 1) % 10
    result = MINIMUM[name](target, images, labels, generator=seeded())
    assert result.found.all()
    assert result.norms[0] == 0
    assert torch.equal(result.images[0], images[0])
    torch.testing.assert_close(result.norms, norm_of(result.images - images, "l2"))
    # On the border itself: the batch's size decides how it is rounded.
    assert (margin(target.model(result.images), labels) >= -1e-5).all()
    assert float(result.images.min()) >= 0
    assert float(result.images.max()) <= 1
    assert len(MINIMUM[name](target, images[:0], labels[:0], generator=seeded()).images) == 0


def test_deepfool_is_the_library_s_where_it_has_no_defect(target: Target, smooth: nn.Module, digits: Digits) -> None:
    images, labels = digits[0][:8], digits[1][:8]
    raw = torchattacks.DeepFool(smooth)(images, labels)
    result = deepfool(target, images, labels, generator=seeded())
    torch.testing.assert_close(result.norms, norm_of((raw - images).detach(), "l2"), rtol=1e-3, atol=1e-5)


def test_deepfool_finds_the_distance_to_a_hyperplane() -> None:
    class Plane(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            height = images.flatten(1).sum(1)
            return torch.stack([2 - height, height - 2], 1)

    images = torch.full((1, 1, 2, 2), 0.25)
    # The plane sum(x) = 2 lies (2 - 1)/sqrt(4) away, and DeepFool steps 2 % past it.
    result = deepfool(make_target(Plane(), images), images, torch.zeros(1).long(), generator=seeded())
    assert float(result.norms) == pytest.approx(0.5 * 1.02)


class Noisy(nn.Module):
    """Logits with some normal noise from torch's global generator."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model(images)
        return logits + 0.3 * torch.randn_like(logits)


@pytest.mark.parametrize("name", ["fgsm", "pgd", "eotpgd", "apgd-ce", "square", "autoattack"])
def test_a_stochastic_model_falls_under_its_rule(smooth: nn.Module, digits: Digits, name: str) -> None:
    target = make_target(Noisy(smooth), digits[0], draws=5, votes=41)
    outcome = BOUNDED[name](target, *digits, Threat("linf", 0.1), generator=seeded())
    assert int(outcome.success.sum()) >= 4
    still_right = target.correct(outcome.images, digits[1], seeded(11))
    assert int((still_right & outcome.success).sum()) <= 2


def test_eotpgd_spends_whole_passes_and_judges_each_iterate_once(smooth: nn.Module, digits: Digits) -> None:
    images, labels = digits
    target = make_target(Noisy(smooth), images, draws=5, votes=1)
    eotpgd(target, images, labels, Threat("linf", 1e-4), generator=seeded(), steps=3)
    survivors = target.meter.backwards // 15
    assert target.meter.backwards == survivors * 3 * 5
    assert survivors >= 20


def test_autoattack_of_a_stochastic_model_is_its_rand_version(
    smooth: nn.Module, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[Any] = []

    def spy(self: Any, images: Tensor, labels: Tensor) -> Tensor:
        parts.append(self)
        return images

    monkeypatch.setattr(torchattacks.attack.Attack, "__call__", spy)
    target = make_target(Noisy(smooth), digits[0])
    autoattack(target, *digits, Threat("linf", 8 / 255), generator=seeded())
    assert [(part.attack, part.loss, part.steps) for part in parts] == [("APGD", "ce", 100), ("APGD", "dlr", 100)]
    assert target.draws == 20


def test_what_is_refused(target: Target, digits: Digits) -> None:
    linf, l2 = Threat("linf", 0.1), Threat("l2", 0.1)
    with pytest.raises(UserError, match="ta-fgsm works in linf only"):
        fgsm(target, *digits, l2, generator=seeded())
    with pytest.raises(UserError, match="ta-eotpgd works in linf only"):
        eotpgd(target, *digits, l2, generator=seeded())
    with pytest.raises(UserError, match="ta-cw works in l2 only"):
        cw(target, *digits, "linf", generator=seeded())
    with pytest.raises(UserError, match="choose from: ce, dlr"):
        apgd(target, *digits, linf, generator=seeded(), loss="margin")
    with pytest.raises(UserError, match="steps must be a whole number of at least 1"):
        pgd(target, *digits, linf, generator=seeded(), steps=0)
    with pytest.raises(UserError, match="constants must be positive"):
        cw(target, *digits, generator=seeded(), constants=())
    with pytest.raises(UserError, match=r"labels must lie in 0\.\.9"):
        pgd(target, digits[0], digits[1] + 5, linf, generator=seeded())
    with pytest.raises(UserError, match="not finite"):
        pgd(target, digits[0] * torch.nan, digits[1], linf, generator=seeded())


@pytest.mark.parametrize(("classes", "loss"), [(2, "ce"), (3, "dlr")])
def test_few_classes(digits: Digits, classes: int, loss: str) -> None:
    class Few(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, 20 : 20 + classes]

    images = digits[0]
    labels = Few()(images).argmax(1)
    target = make_target(Few(), images)
    with pytest.raises(UserError, match=f"need 4 classes, this model has {classes}"):
        autoattack(target, images, labels, Threat("linf", 0.1), generator=seeded())
    assert apgd(target, images, labels, Threat("linf", 1.0), generator=seeded(), loss=loss, steps=10).success.all()
    if classes == 2:
        with pytest.raises(UserError, match="needs 3 classes"):
            apgd(target, images, labels, Threat("linf", 0.1), generator=seeded(), loss="dlr")


def test_every_row_of_the_table_runs(smooth: nn.Module, digits: Digits) -> None:
    images, labels = digits[0][:6], digits[1][:6]
    options: dict[str, dict[str, Any]] = {
        "ta-square": {"queries": 10},
        "ta-autoattack": {"steps": 5, "queries": 5},
        "ta-cw": {"steps": 10},
    }
    names = [name for name in ATTACKS if name.startswith("ta-")]
    assert len(names) == 8
    for name in names:
        entry = ATTACKS[name]
        for norm in ("linf", "l2"):
            if norm not in entry.norms:
                continue
            if entry.kind == "minimum-norm":
                found = minimum_norm(smooth, images, labels, name, norm=norm, **options.get(name, {})).images
            else:
                found = attack(smooth, images, labels, name, norm=norm, eps=0.1, **options.get(name, {}))
            assert found.shape == images.shape


def test_torchattacks_is_imported_when_an_attack_runs() -> None:
    script = (
        "import sys, resnet_spiking.attacks.classic.attacks, resnet_spiking.attacks.classic.autoattack, "
        "resnet_spiking.attacks.classic.minimum\n"
        "assert 'torchattacks' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
