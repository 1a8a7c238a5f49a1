"""The target: gradients averaged over draws, rules, what it restores and what it leaves alone."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from attack_cases import BrokenGradient, BrokenOffClean, Fixed, Votes, linear_case, rate_classifier, target_of
from torch import Tensor, nn

from resnet_spiking.attacks.gradients.names import make_mode
from resnet_spiking.attacks.losses import LOSSES
from resnet_spiking.attacks.target import attackable, make_target
from resnet_spiking.errors import UserError
from resnet_spiking.network.classifier import Classifier


@pytest.mark.parametrize("mode", ["own", "assg"])
@pytest.mark.parametrize("loss", LOSSES)
def test_one_pass_and_k_head_draws_have_the_gradient_of_k_full_passes(loss: str, mode: str) -> None:
    """The draws run as one batch, or one by one under a mode that keeps state per image."""
    model = rate_classifier()
    images = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 1, 2, 0])
    target = target_of(model, images, draws=7, mode=make_mode(mode))
    found = target.step(images, labels, LOSSES[loss], torch.Generator().manual_seed(9))

    pixels = images.clone().requires_grad_()
    same_draws = torch.Generator().manual_seed(9)
    with make_mode(mode).applied(model):
        if mode == "own":
            logits = model(pixels.repeat(7, 1, 1, 1), same_draws).unflatten(0, (7, 4))
        else:
            logits = torch.stack([model(pixels, same_draws) for _ in range(7)])
        values = torch.stack([LOSSES[loss](draw, labels) for draw in logits]).mean(0)
    (gradient,) = torch.autograd.grad(values.sum(), pixels)
    assert gradient.abs().max() > 0
    assert torch.allclose(found.gradient, gradient, rtol=1e-4, atol=1e-6)
    assert torch.allclose(found.loss, values.detach(), rtol=1e-6)


def test_draws_cost_the_head_alone(generator: torch.Generator) -> None:
    model, images = rate_classifier(), torch.rand(4, 3, 12, 12)
    target = target_of(model, images, draws=7, votes=3)
    passes = []
    model.backbone.register_forward_hook(lambda module, inputs, output: passes.append(len(output)))
    target.logits(images, generator)
    assert passes == [4]
    assert (target.meter.forwards, target.meter.head_forwards, target.meter.backwards) == (4, 28, 0)


def test_groups_of_draws_change_nothing_but_the_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over many draws is the same whether they run alone, by twos or together."""
    model, images = rate_classifier(), torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    target = target_of(model, images, draws=1001)
    means = []
    for rows in (1, 9, 10_000):
        monkeypatch.setattr("resnet_spiking.attacks.target.ROWS", rows)
        logits = target.logits(images, torch.Generator().manual_seed(rows))
        assert logits.shape == (1001, 4, 3)
        means.append(logits.mean(0))
    error = 4 * (2 / 1001) ** 0.5 * logits.std(0)
    assert ((means[0] - means[1]).abs() < error).all()
    assert ((means[0] - means[2]).abs() < error).all()


def test_another_stochastic_module_runs_whole_for_each_draw(generator: torch.Generator) -> None:
    images = torch.rand(3, 1, 2, 2)
    target = target_of(Votes([0.5, 0.5]), images, draws=6)
    assert target.logits(images, generator).shape == (6, 3, 2)
    assert target.meter.forwards == 18


def test_differences_are_the_gradients_of_each_class(generator: torch.Generator) -> None:
    case = linear_case(classes=4)
    target = target_of(case.model, case.images)
    classes = torch.stack([(case.labels + shift) % 4 for shift in (1, 2, 3)], dim=1)
    values, gradients, margins = target.differences(case.images, case.labels, classes, generator)
    logits, weight = case.model(case.images), case.layer.weight
    for column in range(3):
        j = classes[:, column]
        rows = torch.arange(len(j))
        assert torch.allclose(values[column], logits[rows, j] - logits[rows, case.labels])
        assert torch.allclose(gradients[column].flatten(1), weight[j] - weight[case.labels])
    assert torch.allclose(margins, values.amax(0))
    assert (target.meter.forwards, target.meter.backwards) == (12, 36)


def test_deterministic_and_stochastic_models_are_told_apart() -> None:
    images = torch.rand(4, 3, 12, 12)
    assert not target_of(rate_classifier(encoding="direct"), images).stochastic
    assert target_of(rate_classifier(), images).stochastic
    assert target_of(Votes([0.5, 0.3, 0.2]), images).stochastic
    assert target_of(rate_classifier(encoding="direct"), images, rule="majority").rule == "single"


VOTES = torch.tensor(  # [5 draws, 3 images, 3 classes]; the label is 0 everywhere
    [
        [[2.0, 1, 0], [2, 1, 0], [2, 1, 0]],
        [[2.0, 1, 0], [2, 1, 0], [2, 1, 0]],
        [[0.0, 1, 0], [0, 1, 0], [2, 1, 0]],
        [[0.0, 1, 0], [0, 0, 1], [0, 1, 0]],
        [[1.0, 1, 0], [1, 0, 1], [0, 1, 0]],
    ]
)


class Recited(nn.Module):
    """Returns the given logits draw by draw."""

    stochastic = True

    def __init__(self, draws: Tensor) -> None:
        super().__init__()
        self.draws, self.turn = draws, 0

    def forward(self, images: Tensor) -> Tensor:
        self.turn += 1
        return self.draws[(self.turn - 1) % len(self.draws), : len(images)]


def test_rules_on_hand_computed_votes() -> None:
    """Image 0: 2 votes of 5 against 3 for class 1. Image 1: 2 votes against 1 and 2. Image 2: 3 votes of 5."""
    images, labels = torch.rand(3, 1, 2, 2), torch.zeros(3, dtype=torch.long)
    majority = target_of(Recited(VOTES), images, votes=5, rule="majority")
    expected = target_of(Recited(VOTES), images, votes=5, rule="expected")
    # Image 1: two draws for 0, one for 1, and two in which 2 wins or ties with 0: a tie in votes, so wrong.
    assert majority.correct(images, labels).tolist() == [False, False, True]
    assert expected.correct(images, labels).tolist() == [False, False, True]
    wider = torch.cat([VOTES, torch.tensor([[[2.0, 1, 0]] * 3])])  # a sixth draw, right for all
    majority = target_of(Recited(wider), images, votes=6, rule="majority")
    expected = target_of(Recited(wider), images, votes=6, rule="expected")
    # Image 0: 3 to 3. Image 1: 3 to 2 to 1, but right in no more than half. Image 2: 4 to 2.
    assert majority.correct(images, labels).tolist() == [False, True, True]
    assert expected.correct(images, labels).tolist() == [False, False, True]


def test_ties_of_a_deterministic_model_count_as_wrong() -> None:
    images, labels = torch.rand(2, 1, 2, 2), torch.tensor([0, 1])
    target = target_of(Fixed([1.0, 1.0, 0.0]), images)
    assert not target.correct(images, labels).any()


def test_margins_have_the_sign_of_the_verdict(generator: torch.Generator) -> None:
    images = torch.rand(60, 1, 2, 2)
    labels = torch.zeros(60, dtype=torch.long)
    likely = target_of(Votes([0.9, 0.1]), images, draws=15, votes=60).margins(images, labels, generator)
    beaten = target_of(Votes([0.1, 0.9]), images, draws=15, votes=60).margins(images, labels, generator)
    assert (likely < 0).all()
    assert (beaten >= 0).all()


def test_a_lucky_draw_is_no_success(generator: torch.Generator) -> None:
    """An image that is right in 60 % of the draws is lost by chance in a few of many looks; independent votes tell."""
    images = torch.rand(400, 1, 1, 1)
    labels = torch.zeros(400, dtype=torch.long)
    target = target_of(Votes([0.6, 0.4]), images, draws=5, votes=101)
    assert (target.margins(images, labels, generator) >= 0).float().mean() < 0.02
    draws = target.logits(images, generator)
    assert ((draws.argmax(-1) == 0).float().mean(0) < 0.5).float().mean() > 0.2


def test_the_global_generator_is_left_alone(generator: torch.Generator) -> None:
    images, labels = torch.rand(4, 3, 12, 12), torch.zeros(4, dtype=torch.long)
    for model in (Votes([0.6, 0.3, 0.1]), rate_classifier()):
        before = torch.random.get_rng_state()
        target = target_of(model, images, draws=3, votes=3)
        target.step(images, labels, LOSSES["ce"], generator)
        target.correct(images, labels, generator)
        assert torch.equal(torch.random.get_rng_state(), before)


def test_draws_follow_the_generator() -> None:
    images = torch.rand(50, 1, 2, 2)
    target = target_of(Votes([0.5, 0.5]), images, draws=3)
    first, again, other = (target.logits(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_gradients_that_are_zero_or_broken_are_counted(generator: torch.Generator) -> None:
    images, labels = torch.rand(4, 3, 2, 2), torch.zeros(4, dtype=torch.long)
    for connected in (True, False):
        target = target_of(Fixed([1.0, 0.0], connected), images)
        assert not target.step(images, labels, LOSSES["ce"], generator).gradient.any()
        assert (target.meter.zero_gradients, target.meter.broken_gradients) == (4, 0)
    case = linear_case()
    target = target_of(BrokenGradient(case.model), case.images)
    gradient = target.step(case.images, case.labels, LOSSES["margin"], generator).gradient
    assert gradient.isfinite().all()
    assert not gradient[:, 0, 0, :2].any()
    assert (target.meter.zero_gradients, target.meter.broken_gradients) == (0, 12)


def test_modes_gradients_and_precision_are_restored_module_by_module() -> None:
    model = rate_classifier().train()
    model.backbone.get_submodule("0").eval()
    model.decoder.precision = "bf16"
    model.decoder.head.requires_grad_(True)
    modes = [module.training for module in model.modules()]
    wanted = [parameter.requires_grad for parameter in model.parameters()]

    def fail() -> None:
        with attackable(model):
            assert not any(module.training for module in model.modules())
            assert not any(parameter.requires_grad for parameter in model.parameters())
            assert model.decoder.precision == "fp32"
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert model.decoder.precision == "bf16"
    assert len(set(modes)) == len(set(wanted)) == 2


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Identity(), "logits"),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 1)), "classes >= 2"),
        (Fixed([1.0, torch.nan]), "not finite"),
        (Fixed([1.0, torch.inf]), "not finite"),
    ],
)
def test_models_that_cannot_be_attacked(model: nn.Module, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_target(model, torch.rand(2, 3, 2, 2))


def test_settings_that_mean_nothing() -> None:
    images = torch.rand(2, 3, 2, 2)
    with pytest.raises(UserError, match="did you mean 'majority'"):
        target_of(Votes([0.5, 0.5]), images, rule="majorty")
    with pytest.raises(UserError, match="one draw decides nothing"):
        make_target(Votes([0.5, 0.5]), images, rule="single")
    with pytest.raises(UserError, match="draws"):
        make_target(Votes([0.5, 0.5]), images, draws=0)
    with pytest.raises(UserError, match="at least one image"):
        make_target(Votes([0.5, 0.5]), images[:0])


def test_gradients_are_of_the_model_without_its_norms_and_verdicts_of_the_model_itself() -> None:
    model = rate_classifier(encoding="direct")
    norm = nn.BatchNorm2d(4).eval().requires_grad_(False)
    norm.running_mean, norm.running_var = torch.tensor([0.3, -0.2, 0.1, -0.4]), torch.tensor([0.5, 0.1, 0.3, 0.8])
    norm.weight.data, norm.bias.data = torch.tensor([1.5, 0.7, 1.2, 0.9]), torch.tensor([-0.3, 0.2, 0.4, -0.1])
    model.backbone.insert(1, norm)
    images = (
        torch.rand(12, 3, 12, 12, generator=torch.Generator().manual_seed(1))
        ** torch.linspace(0.05, 9, 12)[:, None, None, None]
    )
    labels = model(images).argmax(1)
    target = target_of(model, images)
    passes = []
    norm.register_forward_hook(lambda module, inputs, output: passes.append(len(output)))
    found = target.step(images, labels, LOSSES["ce"])
    assert not passes
    pixels = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(LOSSES["ce"](model(pixels), labels).sum(), pixels)
    assert gradient.abs().max() > 0
    torch.testing.assert_close(found.gradient, gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()))

    # Gradients of what sees the neighbour's image: it finds others right, and has no say in the verdict.
    neighbours = Classifier(nn.Sequential(Rolled(), *model.backbone), model.decoder)
    mistaken = dataclasses.replace(target, climbed=neighbours)
    elsewhere = labels.roll(1) != labels
    assert elsewhere.any()
    assert torch.equal(mistaken.step(images, labels, LOSSES["ce"]).margin > 0, elsewhere)
    assert mistaken.correct(images, labels).all()
    assert (mistaken.margins(images, labels) < 0).all()


class Rolled(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.roll(1, 0)


@pytest.mark.parametrize("rule", ["majority", "expected"])
@pytest.mark.parametrize(("lost", "beaten"), [(50, False), (59, False), (61, True), (100, True)])
def test_an_image_is_lost_by_two_standard_errors_of_the_votes(rule: str, lost: int, beaten: bool) -> None:
    """Of 100 votes the share that is lost must be 0.5 + 1 / sqrt(100) at least, after draws that were lost."""
    images, labels = torch.rand(1, 1, 2, 2), torch.zeros(1, dtype=torch.long)
    right, wrong = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    model = Recited(torch.stack([wrong] * 3 + [wrong] * lost + [right] * (100 - lost))[:, None])
    target = target_of(model, images, draws=3, votes=100, rule=rule)
    model.turn = 0
    assert bool(target.margins(images, labels) >= 0) is beaten


def test_margins_that_the_verdict_corrects_keep_their_order() -> None:
    """Ahead on the mean of the draws and lost by the rule: barely not negative, in the order of the means."""
    found = []
    for ahead in (2.0, 4.0, 8.0):
        draws = torch.tensor([[ahead, 0.0], [0.0, 0.5], [0.0, 0.5]])
        images, model = torch.rand(1, 1, 2, 2), Recited(torch.cat([draws, torch.tensor([[0.0, 1.0]] * 10)])[:, None])
        target = target_of(model, images, draws=3, votes=10, rule="expected")
        model.turn = 0
        found.append(float(target.margins(images, torch.zeros(1, dtype=torch.long))))
    assert 1e-5 > found[0] > found[1] > found[2] >= 0


def test_what_has_no_finite_logits_is_no_success_of_an_attack() -> None:
    images, labels = torch.full((2, 1, 2, 2), 0.5), torch.zeros(2, dtype=torch.long)
    target = target_of(BrokenOffClean(), images)
    moved = images + torch.tensor([0.0, 0.1]).view(2, 1, 1, 1)
    assert target.correct(moved, labels).tolist() == [True, True]
    assert target.finite(moved).tolist() == [True, False]


def test_an_autocast_around_an_attack_is_off_inside() -> None:
    from resnet_spiking.attacks.target import attackable, make_target

    model, images = rate_classifier(encoding="direct"), torch.rand(2, 3, 12, 12)
    plain = model(images)
    with torch.autocast("cpu", torch.bfloat16), attackable(model):
        assert not torch.is_autocast_enabled("cpu")
        assert torch.equal(make_target(model, images).logits(images)[0], plain)
