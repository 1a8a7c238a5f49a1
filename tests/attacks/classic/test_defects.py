"""Each known defect of torchattacks 3.5.1: shown in the library as it is, then shown not to reach our results."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torchattacks
from torch import Tensor, nn

from resnet_spiking.attacks.best import Outcome
from resnet_spiking.attacks.classic.attacks import apgd, fgsm, pgd, square
from resnet_spiking.attacks.classic.autoattack import apgdt_stage, autoattack
from resnet_spiking.attacks.classic.guard import guarded
from resnet_spiking.attacks.classic.minimum import cw, deepfool
from resnet_spiking.attacks.losses import margin
from resnet_spiking.attacks.target import Target, attackable, make_target
from resnet_spiking.attacks.threat import Threat
from resnet_spiking.errors import UserError

Digits = tuple[Tensor, Tensor]
EPS = 0.1
LINF = Threat("linf", EPS)


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fooled(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Success as torchattacks' own ``save`` counts it."""
    return model(images).argmax(1) != labels


class Function(nn.Module):
    """A model made of a function; its one parameter tells torchattacks the device."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.parameter = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images) * self.parameter


@pytest.mark.parametrize(
    ("attack", "run"),
    [(torchattacks.APGD, apgd), (partial(torchattacks.Square, n_queries=100), partial(square, queries=100))],
)
def test_the_global_generator_is_reseeded(smooth: nn.Module, digits: Digits, attack: Any, run: Any) -> None:
    after = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        attack(smooth, eps=EPS)(*digits)
        after.append(torch.rand(3))
    assert torch.equal(*after)
    target = make_target(smooth, digits[0])
    images = []
    for seed in (1, 2):
        state = torch.manual_seed(seed).get_state()
        images.append(run(target, *digits, LINF, generator=seeded()).images)
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(*images)


def test_the_noise_of_a_stochastic_model_is_the_same_in_each_batch(smooth: nn.Module, digits: Digits) -> None:
    noises: list[Tensor] = []

    def draw(images: Tensor) -> Tensor:
        noises.append(torch.randn(len(images), 10))
        return smooth(images) + 0.01 * noises[-1]

    model = Function(draw)
    right = (~fooled(smooth, *digits)).nonzero().squeeze(1)[:20]
    batches = [(digits[0][some], digits[1][some]) for some in right.split(10)]

    def noise_of(attack: Callable[[Tensor, Tensor], Any]) -> list[Tensor]:
        found = []
        for images, labels in batches:
            noises.clear()
            attack(images, labels)
            found.append(torch.stack([noise for noise in noises[-4:] if len(noise) == 10]))
        return found

    assert torch.equal(*noise_of(torchattacks.Square(model, eps=0.001, n_queries=4)))
    target = make_target(model, digits[0], draws=2, votes=2)
    generator, threat = seeded(), Threat("linf", 0.001)
    assert not torch.equal(
        *noise_of(lambda images, labels: square(target, images, labels, threat, generator=generator, queries=4))
    )


def test_a_frozen_batch_norm_is_switched_to_train(smooth: nn.Module, digits: Digits) -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), smooth)
    flags = [(module, module.training) for module in model.train().modules()]
    model[0].eval()
    torchattacks.FGSM(model, eps=EPS)(*digits)
    assert model[0].training
    model[0].eval()
    flags = [(module, module.training) for module in model.modules()]
    statistics = model[0].running_mean.clone()
    with attackable(model):
        target = make_target(model, digits[0])
    for run in (fgsm, pgd, apgd):
        run(target, *digits, LINF, generator=seeded())
        assert all(module.training is training for module, training in flags)
    deepfool(target, digits[0][:2], digits[1][:2], generator=seeded())
    assert all(module.training is training for module, training in flags)
    assert torch.equal(model[0].running_mean, statistics)


@pytest.mark.parametrize("run", [fgsm, pgd, apgd, square, autoattack])
def test_pixels_outside_the_box_are_clipped_in_silence(
    smooth: nn.Module, digits: Digits, target: Target, run: Callable[..., Outcome]
) -> None:
    normalised = 5 * digits[0] - 2
    changed = torchattacks.PGD(smooth, eps=EPS)(normalised, digits[1]) - normalised
    assert float(changed.abs().max()) > 10 * EPS
    with pytest.raises(UserError, match=r"pixels in \[0, 1\], found -2 to 3"):
        run(target, normalised, digits[1], LINF, generator=seeded())


def test_nan_counts_as_success() -> None:
    """A saturated head has no gradient: DeepFool divides 0 by 0."""
    model = Function(lambda images: torch.eye(3)[torch.zeros(len(images)).long()] + 0 * images.sum())
    images, labels = torch.full((2, 1, 4, 4), 0.5), torch.zeros(2).long()
    raw = torchattacks.DeepFool(model)(images, labels)
    assert raw.isnan().all()
    nan_model = Function(lambda images: images.flatten(1)[:, :3] + torch.tensor([0.0, 1.0, 0.0]))
    assert fooled(nan_model, raw, labels + 1).all()
    target = make_target(model, images)
    result = deepfool(target, images, labels, generator=seeded())
    assert not result.found.any()
    assert torch.equal(result.images, images)
    assert target.meter.zero_gradients > 0


def test_nan_logits_count_as_success(smooth: nn.Module, digits: Digits) -> None:
    """Logits that overflow unless every pixel is one of 256 levels: argmax of NaN is some other class."""

    def overflow(images: Tensor) -> Tensor:
        levels = 255 * images
        clean = (levels - levels.round()).abs().flatten(1).amax(1, keepdim=True) < 1e-3
        return torch.where(clean, smooth(images), torch.nan)

    labels = digits[1].clone()
    right = ~fooled(smooth, *digits)
    raw = torchattacks.PGD(Function(overflow), eps=EPS)(*digits)
    assert (fooled(Function(overflow), raw, labels) & right).sum() > 10
    target = make_target(Function(overflow), digits[0])
    for run in (fgsm, pgd, apgd):
        outcome = run(target, *digits, LINF, generator=seeded())
        assert torch.equal(outcome.success, ~right)
        assert overflow(outcome.images).isfinite().all()


def test_the_last_iterate_is_returned_not_the_best() -> None:
    """Another class wins in a narrow band only, and steps of this size cross it."""
    queried: list[Tensor] = []

    def band(images: Tensor) -> Tensor:
        queried.append(images.detach().clone())
        height = images.flatten(1).mean(1)
        return torch.stack([torch.zeros_like(height), 0.008 - (height - 0.53).abs()], 1)

    images, labels = torch.full((64, 1, 8, 8), 0.5), torch.zeros(64).long()
    model = Function(band)
    raw = torchattacks.PGD(model, eps=0.06, alpha=0.02, steps=7)(images, labels)
    ever = torch.stack([fooled(model, iterate, labels) for iterate in [*queried, raw]]).any(0)
    lost = ever & ~fooled(model, raw, labels)
    assert lost.any()

    target = make_target(model, images)
    queried.clear()
    outcome = pgd(target, images, labels, Threat("linf", 0.06), generator=seeded(), alpha=0.02, steps=7)
    asked = [iterate for iterate in queried if len(iterate) == 64]
    ever = torch.stack([margin(model(iterate), labels) >= 0 for iterate in asked]).any(0)
    assert 0 < int(ever.sum())
    assert torch.equal(outcome.success, ever)
    assert torch.equal(margin(model(outcome.images), labels) >= 0, ever)


def test_cw_is_wrong_for_negative_logits(smooth: nn.Module, digits: Digits) -> None:
    images, labels = digits[0][:6], digits[1][:6]
    lowered = Function(lambda pixels: smooth(pixels) - 128)
    options: dict[str, Any] = {"c": 10, "steps": 60, "lr": 0.05}
    usual = fooled(smooth, torchattacks.CW(Function(smooth), **options)(images, labels), labels)
    shifted = fooled(lowered, torchattacks.CW(lowered, **options)(images, labels), labels)
    assert int(usual.sum()) - int(shifted.sum()) >= 4

    results = []
    for model in (Function(smooth), lowered):
        target = make_target(model, images)
        results.append(cw(target, images, labels, generator=seeded(), steps=60, learning_rate=0.05, constants=(10.0,)))
    assert results[0].found.all()
    assert results[1].found.all()
    # z - 128 is rounded to 2^-17: the same search, not the same bits.
    torch.testing.assert_close(results[1].norms, results[0].norms, rtol=0.02, atol=0)


def test_cw_stops_the_whole_batch_when_one_image_gets_worse(smooth: nn.Module, digits: Digits) -> None:
    right = (~fooled(smooth, *digits)).nonzero().squeeze(1)[:2]
    images, labels = digits[0][right].clone(), digits[1][right]

    class Uphill(torch.autograd.Function):
        """The identity, whose gradient points the other way."""

        @staticmethod
        def forward(ctx: Any, value: Tensor) -> Tensor:
            return value.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return -gradient

    def model_of(pixels: Tensor) -> Tensor:
        # The first pixel of digits is always dark; where it is lit, the gradient misleads.
        lit = (pixels[:, :1, :1, :1] > 0.5).expand_as(pixels)
        return smooth(torch.where(lit, Uphill.apply(pixels), pixels)) * torch.where(lit[:, 0, 0, :1], 30, 1)

    images[1, 0, 0, 0] = 1
    model = Function(model_of)
    attack = torchattacks.CW(model, c=10, steps=20, lr=0.05)
    alone = fooled(model, attack(images[:1], labels[:1]), labels[:1])
    beside = fooled(model, attack(images, labels), labels)[:1]
    assert alone.all()
    assert not beside.any()
    target = make_target(model, images)
    options: dict[str, Any] = {"steps": 20, "learning_rate": 0.05, "constants": (10.0,)}
    together = cw(target, images, labels, generator=seeded(), **options)
    assert together.found[0]
    assert torch.equal(together.images[:1], cw(target, images[:1], labels[:1], generator=seeded(), **options).images)


def test_cw_cannot_move_black_and_white_pixels() -> None:
    weight = torch.randn(16, 3, generator=seeded())
    model = Function(lambda images: images.flatten(1) @ weight)
    images = torch.rand(2, 1, 4, 4, generator=seeded()).round()
    labels = model(images).argmax(1)
    raw = torchattacks.CW(model, c=10, steps=300, lr=0.05)(images, labels)
    assert torch.equal(raw, images)
    options: dict[str, Any] = {"steps": 300, "learning_rate": 0.05, "constants": (10.0,)}
    assert cw(make_target(model, images), images, labels, generator=seeded(), **options).found.all()


def test_parameters_are_given_gradients(smooth: nn.Module, digits: Digits) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    images, labels = digits[0][:2], digits[1][:2]
    for attack in (torchattacks.DeepFool(model, steps=1), torchattacks.CW(model, steps=1)):
        model.zero_grad()
        attack(images, model(images).argmax(1))
        assert model[1].weight.grad is not None
    model.zero_grad()
    target = make_target(model, images)
    labels = model(images).argmax(1)
    for run in (deepfool, cw):
        run(target, images, labels, generator=seeded(), steps=2)
    autoattack(target, images, labels, Threat("linf", 0.001), generator=seeded(), steps=3, queries=3)
    assert model[1].weight.grad is None
    assert model[1].weight.requires_grad


def test_autoattack_runs_ten_iterations_of_other_settings(
    target: Target, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = torchattacks.AutoAttack(target.model, n_classes=100)._autoattack.attacks
    assert [part.steps for part in raw[:3]] == [10, 10, 10]
    assert [part.n_target_classes for part in raw[1:3]] == [99, 99]
    assert raw[3].rescale_schedule
    assert all(isinstance(part.seed, float) for part in raw)

    runs = []
    for _ in range(2):
        parts: list[Any] = []

        def spy(self: Any, images: Tensor, labels: Tensor, parts: list[Any] = parts) -> Tensor:
            parts.append(self)
            return images

        monkeypatch.setattr(torchattacks.attack.Attack, "__call__", spy)
        autoattack(target, *digits, Threat("linf", 8 / 255), generator=seeded())
        runs.append(parts)
    ours = runs[0]
    assert [part.attack for part in ours] == ["APGD", "APGDT", "FAB", "Square"]
    assert [part.steps for part in ours[:3]] == [100, 100, 100]
    assert [part.n_target_classes for part in ours[1:3]] == [9, 9]
    assert [part.n_restarts for part in ours] == [1, 1, 1, 1]
    assert ours[0].loss == "ce"
    assert (ours[0].thr_decr, ours[1].thr_decr) == (0.75, 0.75)
    assert ours[2].multi_targeted
    assert (ours[2].alpha_max, ours[2].eta, ours[2].beta) == (0.1, 1.05, 0.9)
    assert (ours[3].n_queries, ours[3].p_init, ours[3].loss, ours[3].rescale_schedule) == (5000, 0.8, "margin", False)
    assert {(part.norm, part.eps) for part in ours} == {("Linf", 8 / 255)}
    assert [part.seed for part in ours] == [part.seed for part in runs[1]]


class Failing(nn.Module):
    """Raises at one forward pass."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.calls_left = -1

    def forward(self, images: Tensor) -> Tensor:
        self.calls_left -= 1
        if self.calls_left == 0:
            raise RuntimeError("out of memory")
        return self.model(images)


def test_an_exception_leaves_the_next_attack_wrong(smooth: nn.Module, digits: Digits) -> None:
    model = Failing(smooth)
    raw = torchattacks.FGSM(model, eps=EPS)
    raw.set_normalization_used([0.5], [0.5])
    normalised = (digits[0] - 0.5) / 0.5
    before = raw(normalised, digits[1])
    model.calls_left = 1
    with pytest.raises(RuntimeError):
        raw(normalised, digits[1])
    assert not torch.allclose(raw(normalised, digits[1]), before)

    target = make_target(model.train(), digits[0])
    for run in (fgsm, pgd, apgd):
        expected = run(target, *digits, LINF, generator=seeded()).images
        state = torch.get_rng_state()
        model.calls_left = 2
        with pytest.raises(RuntimeError, match="out of memory"):
            run(target, *digits, LINF, generator=seeded())
        assert torch.equal(torch.get_rng_state(), state)
        assert model.training
        assert torch.equal(run(target, *digits, LINF, generator=seeded()).images, expected)


def test_multiattack_attacks_what_is_misclassified_already(smooth: nn.Module, digits: Digits) -> None:
    images = digits[0]
    labels = digits[1].clone()
    labels[:5] = (smooth(images[:5]).argmax(1) + 1) % 10
    parts = [torchattacks.FGSM(smooth, eps=EPS), torchattacks.PGD(smooth, eps=EPS)]
    raw = torchattacks.MultiAttack(parts)(images, labels)
    assert not torch.equal(raw[:5], images[:5])
    outcome = autoattack(make_target(smooth, images), images, labels, LINF, generator=seeded(), steps=5, queries=5)
    assert torch.equal(outcome.images[:5], images[:5])
    assert outcome.success[:5].all()
    assert outcome.steps[:5].tolist() == [0] * 5


def test_scoring_builds_a_graph(digits: Digits) -> None:
    graphs: list[bool] = []

    def watched(images: Tensor) -> Tensor:
        graphs.append(images.requires_grad)
        return images.flatten(1)[:, 20:30]

    model = Function(watched)
    scored: list[bool] = []
    model.register_forward_hook(lambda module, given, logits: scored.append(logits.requires_grad))
    torchattacks.Square(model, eps=EPS, n_queries=2)(*digits)
    assert any(graph and not wanted for graph, wanted in zip(scored, graphs, strict=True))
    graphs.clear()
    scored.clear()
    target = make_target(model, digits[0])
    for run in (pgd, apgd, partial(square, queries=20)):
        run(target, *digits, LINF, generator=seeded())
    assert len(scored) > 10
    assert not any(graph and not wanted for graph, wanted in zip(scored, graphs, strict=True))


def test_the_gradient_through_a_confident_label_is_lost_in_fp32() -> None:
    """Where the probability of the label rounds to 1, its share of the gradient rounds to 0."""
    weight = torch.randn(2, 16, generator=seeded())
    bias = torch.tensor([25.0, 0.0])
    model = Function(lambda images: images.flatten(1) @ weight.T + bias)
    images, labels = torch.full((1, 1, 4, 4), 0.5), torch.zeros(1).long()
    steepest = (weight[1] - weight[0]).sign()
    raw = (torchattacks.FGSM(model, eps=EPS)(images, labels) - images).flatten().sign()
    assert torch.equal(raw, weight[1].sign())
    assert not torch.equal(raw, steepest)
    outcome = fgsm(make_target(model, images), images, labels, LINF, generator=seeded())
    assert torch.equal((outcome.images - images).flatten().sign(), steepest)


def test_one_lucky_draw_counts_as_success() -> None:
    """No gradient, and a margin of 1.5 standard deviations: single draws are wrong often, majorities hardly ever."""
    clean = torch.tensor([2.0, 0.0])
    model = Function(lambda images: clean + torch.randn(len(images), 2) + 0 * images.sum())
    images, labels = torch.full((32, 1, 4, 4), 0.5), torch.zeros(32).long()
    still_right, _ = torchattacks.APGD(model, eps=EPS, steps=40).perturb(images, labels)
    assert int((~still_right).sum()) >= 30
    target = make_target(model, images, draws=20, votes=41)
    assert target.stochastic
    outcome = apgd(target, images, labels, LINF, generator=seeded(), steps=40)
    assert int(outcome.success.sum()) <= 1


def test_apgdt_in_l2_moves_every_image_by_the_first_ones_step(smooth: nn.Module, digits: Digits) -> None:
    right = (~fooled(smooth, *digits)).nonzero().squeeze(1)[:8]
    images, labels = digits[0][right], digits[1][right]
    threat = Threat("l2", 0.3)
    target = make_target(smooth, images)
    raw, ours = [], []
    for mate in range(7):
        pair = torch.tensor([mate, 7])
        # The random start of the second image of each pair is the same.
        attack = torchattacks.APGDT(smooth, norm="L2", eps=0.3, steps=40, n_classes=2)
        attack.target_class = 2
        torch.manual_seed(0)
        raw.append(attack.attack_single_run(images[pair], labels[pair])[0][1].detach())
        stage = apgdt_stage(threat, steps=40, targets=1)
        ours.append(guarded(target, images[pair], labels[pair], threat, stage, generator=seeded()).images[1])
    assert any(not torch.equal(raw[0], other) for other in raw[1:])
    assert all(torch.equal(ours[0], other) for other in ours[1:])


def test_nothing_is_printed_about_the_device(digits: Digits, capsys: pytest.CaptureFixture[str]) -> None:
    class Bare(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, :10]

    torchattacks.FGSM(Bare(), eps=EPS)
    assert "Failed to set device" in capsys.readouterr().out
    pgd(make_target(Bare(), digits[0]), *digits, LINF, generator=seeded())
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
