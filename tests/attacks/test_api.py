"""`attack` and `minimum_norm`: what they promise for any model, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from attack_cases import (
    BrokenGradient,
    BrokenOffClean,
    Fixed,
    Scaled,
    Votes,
    linear_case,
    rate_classifier,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from resnet_spiking.attacks import attack, minimum_norm
from resnet_spiking.attacks.names import ATTACKS
from resnet_spiking.attacks.target import Rule
from resnet_spiking.attacks.threat import Norm, norm_of
from resnet_spiking.errors import UserError

WITH_EPS = [name for name in ATTACKS if ATTACKS[name].kind != "minimum-norm" and not name.startswith("ta-")]
DRAWS_NOTHING = ("fgsm", "transfer")
QUICK: dict[str, dict[str, Any]] = {
    "noise": {"tries": 3},
    "fgsm": {},
    "square": {"queries": 30},
    "transfer": {"steps": 6},
}


def options(name: str, source: nn.Module) -> dict[str, Any]:
    return {**QUICK.get(name, {"steps": 6}), **({"source": source} if name == "transfer" else {})}


def small(classes: int, shape: tuple[int, ...], seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), 8), nn.GELU(), nn.Linear(8, classes))


@pytest.mark.parametrize("name", WITH_EPS)
@settings(max_examples=8)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)),
    count=st.integers(0, 5),
    classes=st.integers(2, 5),
    eps=st.sampled_from([0, "1/255", 0.1, 1.0]),
    seed=st.integers(0, 99),
)
def test_always_in_ball_and_box(
    name: str, norm: Norm, shape: tuple[int, ...], count: int, classes: int, eps: float | str, seed: int
) -> None:
    draws = torch.Generator().manual_seed(seed)
    images = torch.rand((count, *shape), generator=draws).round(decimals=1)  # some pixels at the edge of the box
    labels = torch.randint(0, classes, (count,), generator=draws)
    model, before = small(classes, shape, seed), images.clone()
    found = attack(
        model,
        images,
        labels,
        name,
        norm=norm,
        eps=eps,
        batch_size=3,
        seed=seed,
        **options(name, small(classes, shape, 7)),
    )
    radius = 1 / 255 if eps == "1/255" else float(eps)
    assert found.shape == images.shape
    assert found.isfinite().all()
    assert not count or (float(found.min()) >= 0 and float(found.max()) <= 1)
    assert (norm_of(found - images, norm) <= radius + 1e-6).all()
    assert torch.equal(images, before)
    assert eps != 0 or torch.equal(found, images)


@pytest.mark.parametrize("name", WITH_EPS)
@pytest.mark.parametrize("model", [Fixed([1.0, 0.0]), Fixed([1.0, 0.0], connected=False), BrokenOffClean()])
def test_no_success_is_claimed_where_there_is_none(name: str, model: nn.Module) -> None:
    """Gradients of zero, none at all, NaN logits away from the clean image: finite images, still of class 0."""
    images, labels = torch.full((3, 2, 5, 5), 0.5), torch.zeros(3, dtype=torch.long)
    found = attack(model, images, labels, name, eps=0.1, **options(name, Fixed([1.0, 0.0])))
    assert found.isfinite().all()
    assert (model(found).argmax(1) == 0).all()
    assert model(found).isfinite().all()


@pytest.mark.parametrize("name", [name for name in WITH_EPS if name not in ("noise", "square", "transfer")])
def test_saturated_and_broken_gradients_stop_nobody(name: str) -> None:
    """Probabilities of exactly 1, and NaN and infinity in two of sixty pixels: still beaten just beyond the border."""
    case = linear_case()
    eps = 1.25 * float(case.linf.max())
    for model in (Scaled(case.model, 30.0), BrokenGradient(case.model)):
        found = attack(model, case.images, case.labels, name, eps=eps, **({} if name == "fgsm" else {"steps": 20}))
        assert (case.model(found).argmax(1) != case.labels).all()


@pytest.mark.parametrize("name", [*WITH_EPS, "fmn", "deepfool"])
def test_one_seed_fixes_everything_and_nothing_else_moves(name: str) -> None:
    model = rate_classifier()
    images = torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    source = small(3, (3, 12, 12), 0)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(found))
        before = torch.random.get_rng_state()
        if name in WITH_EPS:
            found.append(attack(model, images, labels, name, eps=0.05, seed=seed, draws=3, **options(name, source)))
        else:
            found.append(minimum_norm(model, images, labels, name, norm="l2", seed=seed, draws=3, steps=4).images)
        assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(found[0], found[1])
    if name not in (*DRAWS_NOTHING, "fmn", "deepfool"):
        assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["fgsm", "pgd", "transfer", "fmn", "deepfool"])
def test_deterministic_attacks_know_no_batch(name: str, norm: Norm) -> None:
    model, source = small(4, (3, 6, 6), 1).double(), small(4, (3, 6, 6), 2).double()
    images = torch.rand(9, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = model(images).argmax(1)
    extra = options(name, source) | ({"random_start": False} if name == "pgd" else {})
    call: Any = attack if name in WITH_EPS else minimum_norm
    radius = {"eps": 0.02} if name in WITH_EPS else {}
    one, all_ = (call(model, images, labels, name, norm=norm, batch_size=size, **radius, **extra) for size in (1, 64))
    pairs = (one, all_) if name in WITH_EPS else (one.images, all_.images)
    assert torch.allclose(*pairs, atol=1e-9)
    assert not torch.allclose(pairs[0], images)


def test_a_stochastic_model_is_beaten_by_its_expectation() -> None:
    """The label wins until the pixels leave 0.5, then it loses more and more often."""

    class Noisy(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            edge = images.mean((1, 2, 3)) - 0.55
            return torch.stack([torch.zeros_like(edge), edge], dim=1) + 0.05 * torch.randn(len(images), 2)

    images, labels = torch.full((8, 1, 4, 4), 0.5), torch.zeros(8, dtype=torch.long)
    rules: tuple[Rule, ...] = ("majority", "expected")
    for rule in rules:
        found = attack(Noisy(), images, labels, eps=0.2, rule=rule, draws=10, steps=20)
        with torch.random.fork_rng():
            wrong = torch.stack([Noisy()(found).argmax(1) for _ in range(400)]).float().mean(0)
        assert (wrong > 0.5).all()


def test_a_model_in_train_mode_is_attacked_in_eval_mode_and_restored(
    trained: nn.Sequential, bars: tuple[Tensor, Tensor]
) -> None:
    import copy

    images, labels = bars
    model = copy.deepcopy(trained).train().requires_grad_(True)
    model[2].eval()
    modes = [module.training for module in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    expected = attack(trained, images, labels, "pgd", eps=0.05, steps=5)
    assert torch.equal(attack(model, images, labels, "pgd", eps=0.05, steps=5), expected)
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_no_graph_is_left_behind(trained: nn.Module, bars: tuple[Tensor, Tensor]) -> None:
    found = attack(trained, *bars, "fgsm", eps=0.05)
    assert not found.requires_grad
    assert not minimum_norm(trained, *bars, steps=3).images.requires_grad


def test_minimum_norms_of_nothing_and_of_one(trained: nn.Module, bars: tuple[Tensor, Tensor]) -> None:
    images, labels = bars
    empty = minimum_norm(trained, images[:0], labels[:0])
    assert (len(empty.images), len(empty.norms), len(empty.found)) == (0, 0, 0)
    assert minimum_norm(trained, images[:1], labels[:1], steps=30).found.tolist() == [True]


IMAGES, LABELS = torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"eps": -0.1}, "eps must be 0 or a positive number"),
        ({"eps": 1.5}, "eps must lie in"),
        ({"eps": "8/25/5"}, "malformed"),
        ({"images": IMAGES * 2 - 0.5}, "put normalisation inside the model"),
        ({"images": (IMAGES * 255).byte()}, "divide bytes by 255"),
        ({"images": IMAGES.half()}, "fp32"),
        ({"images": IMAGES[0]}, r"\[B, C, H, W\]"),
        ({"images": IMAGES.where(IMAGES < 0.9, torch.nan)}, "not finite"),
        ({"labels": LABELS + 1}, r"labels must lie in 0\.\.2, found 1\.\.3"),
        ({"labels": LABELS - 1}, "found -1"),
        ({"labels": LABELS[:3]}, "labels must be 4 class indices"),
        ({"labels": LABELS.float()}, "labels must be 4 class indices"),
        ({"name": "sapdg"}, "did you mean 'sapgd'"),
        ({"name": "fmn"}, r"use minimum_norm"),
        ({"norm": "l1"}, "choose from: linf, l2"),
        ({"batch_size": 0}, "batch_size must be a whole number"),
        ({"draws": 0}, "draws must be"),
        ({"stepz": 5}, "no option 'stepz' .did you mean 'steps'"),
        ({"steps": 0}, "steps must be"),
        ({"loss": "dlr"}, "apgd-ce has no option 'loss'"),
        ({"name": "transfer"}, "transfer needs the option 'source'"),
        ({"name": "transfer", "source": small(2, (3, 6, 6), 0)}, "labels must lie in 0..1"),
        ({"name": "transfer", "source": 3}, "source must be the model to craft on, not 3"),
        ({"name": "noise", "kind": "corners"}, "did you mean 'corner'"),
        ({"rho": 1.5}, "rho must be a number from 0 to 1, not 1.5"),
        ({"name": "apgd-t", "rho": -0.1, "classes": 2}, "rho must be"),
        ({"name": "pgd", "step_size": math.nan}, "step_size must be a number above 0, not nan"),
        ({"name": "pgd", "step_size": "1/255"}, "step_size must be a number above 0, not '1/255'"),
        ({"name": "pgd", "step_size": 0}, "step_size must be"),
        ({"name": "transfer", "source": nn.Flatten(), "step_size": -0.1}, "step_size must be"),
        ({"name": "transfer", "source": nn.Flatten(), "momentum": math.inf}, "momentum must be a number of at least 0"),
        ({"name": "square", "p_init": -1}, "p_init must be a number above 0 of at most 1, not -1"),
        ({"name": "square", "p_init": True}, "p_init must be"),
        ({"name": "ta-pgd", "alpha": math.nan}, "alpha must be"),
    ],
)
def test_bad_input_is_one_clear_line(changes: dict[str, Any], words: str) -> None:
    given_ = {"model": small(3, (3, 6, 6), 0), "images": IMAGES, "labels": LABELS, **changes}
    with pytest.raises(UserError, match=words) as caught:
        attack(**given_)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "pgd"}, "finds no minimum norm"),
        ({"name": "ddn", "norm": "linf"}, "l2 only"),
        ({"steps": 0}, "steps"),
        ({"step_size": 0.0}, "step_size must be a number above 0"),
        ({"shrink": 2}, "shrink must be a number from 0 to 1, not 2"),
        ({"name": "ddn", "norm": "l2", "gamma": 0}, "gamma must be a number above 0 of at most 1"),
        ({"name": "ddn", "norm": "l2", "radius": -1.0}, "radius must be"),
        ({"name": "deepfool", "overshoot": math.nan}, "overshoot must be a number of at least 0, not nan"),
        ({"name": "ta-deepfool", "norm": "l2", "overshoot": -0.1}, "overshoot must be"),
        ({"name": "ta-cw", "norm": "l2", "learning_rate": 0}, "learning_rate must be"),
        ({"name": "ta-cw", "norm": "l2", "constants": (1.0, math.nan)}, "each of constants must be"),
    ],
)
def test_bad_input_of_minimum_norm(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        minimum_norm(small(3, (3, 6, 6), 0), IMAGES, LABELS, **changes)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_labels_of_any_whole_numbers(dtype: torch.dtype) -> None:
    model = small(3, (3, 6, 6), 0)
    found, expected = (attack(model, IMAGES, labels, "apgd-ce", steps=3) for labels in (LABELS.to(dtype), LABELS))
    assert torch.equal(found, expected)


def test_logits_that_are_not_finite_on_a_later_batch_are_refused() -> None:
    class BrokenOnBlack(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            light = images.mean((1, 2, 3))
            return torch.stack([light, light.log()], dim=1)

    images = torch.full((12, 1, 2, 2), 0.5)
    images[11] = 0
    with pytest.raises(UserError, match="not finite on 1 clean image"):
        attack(BrokenOnBlack(), images, torch.zeros(12, dtype=torch.long), "fgsm", eps=0.1)


def test_a_refused_call_restores_the_model() -> None:
    model = small(3, (3, 6, 6), 0).train()
    with pytest.raises(UserError):
        attack(model, IMAGES, LABELS + 1)
    assert all(module.training for module in model.modules())


def test_votes_decide_not_single_draws() -> None:
    """A model that is right in 80 % of the draws whatever the pixels has lost nothing."""
    images, labels = torch.rand(5, 1, 3, 3), torch.zeros(5, dtype=torch.long)
    found = attack(Votes([0.8, 0.2]), images, labels, "noise", eps=0.1, draws=15, tries=20)
    assert found.isfinite().all()


class InPlace(nn.Module):
    """Normalises its input in place, as torchvision's Normalize(inplace=True) does."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model(pixels.sub_(0.5).div_(0.25))


class Without(nn.Module):
    """A model whose author wrapped its forward pass in no_grad."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        return self.model(pixels)


@pytest.mark.parametrize("name", ["apgd-ce", "square", "pgd", "ta-pgd"])
def test_a_model_that_changes_its_input_changes_nothing_of_ours(name: str) -> None:
    model, images, labels = small(3, (3, 5, 5), 1), torch.rand(6, 3, 5, 5), torch.arange(6) % 3
    before = images.clone()
    found = attack(InPlace(model), images, labels, name, eps="8/255", **options(name, model))
    assert torch.equal(images, before)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert float(norm_of(found - images, "linf").max()) <= 8 / 255 + 1e-6


def test_inference_mode_takes_no_gradient_away() -> None:
    case = linear_case()
    eps = 1.25 * float(case.linf.max())
    with torch.inference_mode():
        found = attack(case.model, case.images.clone(), case.labels.clone(), eps=eps, steps=20)
        assert (case.model(found).argmax(1) != case.labels).all()
        assert minimum_norm(case.model, case.images.clone(), case.labels.clone(), steps=20).found.all()


def test_an_attack_without_gradients_says_so(recwarn: pytest.WarningsRecorder) -> None:
    case = linear_case()
    eps = 1.25 * float(case.linf.max())
    attack(case.model, case.images, case.labels, eps=eps, steps=5)
    attack(Without(case.model), case.images, case.labels, "square", eps=eps, queries=5)
    assert not recwarn.list  # which is told of everything, whatever the configuration ignores
    for model in (Without(case.model), Scaled(case.model, 1e6)):
        with pytest.warns(UserWarning, match=r"\d+ of \d+ gradients to the pixels were zero") as said:
            attack(model, case.images, case.labels, eps=eps, steps=5)
        assert said[0].filename == __file__


def test_images_with_a_graph_come_back_without_one(recwarn: pytest.WarningsRecorder) -> None:
    case = linear_case()
    images = case.images.clone().requires_grad_()
    assert not attack(case.model, images, case.labels, steps=5).requires_grad
    assert not minimum_norm(case.model, images, case.labels, steps=5).images.requires_grad
    assert not recwarn.list


class Pair(nn.Module):
    def forward(self, pixels: Tensor) -> Any:
        return pixels.flatten(1), pixels


class Total(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.sum()


class Squeezed(nn.Module):
    """Right for every batch but one of a single image."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.flatten(1)[:, :3].squeeze()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model": Pair()}, "must return logits .B, classes., not a tuple; wrap it"),
        ({"model": Total()}, r"must return logits .B, classes., here \[3, classes >= 2\], not \[\]"),
        ({"model": Squeezed()}, r"here \[1, 3\], not \[3\]"),
        ({"model": lambda pixels: pixels}, "must be a torch.nn.Module, not a function"),
        ({"model": small(3, (1, 2, 2), 0).double()}, "does not take torch.float32 images .*bring the images"),
        ({"images": [[0.5]]}, "images must be a torch.Tensor .B, C, H, W., not a list"),
        ({"labels": [0, 1, 2]}, "labels must be a torch.Tensor of class indices, not a list"),
        ({"gradient": 3}, "gradient must be a mode or its name, such as atan:2, not 3"),
    ],
)
def test_what_is_no_model_and_no_tensor_is_one_line(changed: dict[str, Any], said: str) -> None:
    usual: dict[str, Any] = {
        "model": small(3, (1, 2, 2), 0),
        "images": torch.full((3, 1, 2, 2), 0.5),
        "labels": torch.tensor([0, 1, 2]),
        "batch_size": 2,
    }
    with pytest.raises(UserError, match=said) as stopped:
        attack(**{**usual, **changed})
    assert "\n" not in str(stopped.value)
