"""Checks on models of which it is known what they must say: sound ones, and planted ones that must be caught."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import evaluation_cases as cases
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from resnet_spiking.attacks.examples import BROKEN, NOT_TRIED, SURVIVED
from resnet_spiking.attacks.subjects import Subject
from resnet_spiking.attacks.trust import blackbox, bounds, convergence, gradients, hygiene, randomness, surrogates
from resnet_spiking.attacks.trust.probe import Probe

sys.path.insert(0, str(Path(__file__).parents[1]))


from resnet_spiking.attacks.bundles import Bundle, Stage
from resnet_spiking.attacks.gradients.mode import OwnSurrogate
from resnet_spiking.attacks.losses import margin
from resnet_spiking.attacks.settings import Order
from resnet_spiking.attacks.sweep import sweep
from resnet_spiking.attacks.target import attackable
from resnet_spiking.attacks.threat import Norm
from resnet_spiking.attacks.trust import (
    controls,
    ordering,
)
from resnet_spiking.attacks.trust.check import Check
from resnet_spiking.attacks.trust.recording import recording
from resnet_spiking.attacks.trust.suite import run_checks, unreliable

BUNDLE = Bundle(
    "b",
    "",
    (Stage("apgd-ce", "atan:2", {"steps": 5}), Stage("square", options={"queries": 60})),
    checking=cases.CHECKING,
)


@contextmanager
def probing(
    model: nn.Module, eps: tuple[float, ...] = (0.03, 0.1), bundle: Bundle = BUNDLE, order: Order = "ascending"
) -> Iterator[Probe]:
    sample, settings = cases.digits_sample(20), cases.settings_for(bundle, eps, draws=20, votes=20, order=order)
    subject = Subject("model", model)
    with attackable(model):
        target = cases.target_for(model, sample, settings)
        found = sweep(subject, target, sample, settings)
        yield Probe(subject, target, sample, settings, found)


def verdicts(probe: Probe) -> dict[str, Any]:
    found = run_checks(probe, hygiene.hashes({"model": probe.subject.model}))
    return {check["name"]: check for check in found}


@pytest.fixture(scope="module")
def sound() -> Iterator[Probe]:
    torch.set_num_threads(1)
    with probing(cases.linear_digits()) as probe:
        yield probe


@pytest.fixture(scope="module")
def spiking() -> Iterator[Probe]:
    torch.set_num_threads(1)
    with probing(cases.spiking_digits("lif"), (0.05, 0.2)) as probe:
        yield probe


def test_a_smooth_model_passes_every_check_that_applies(sound: Probe) -> None:
    found = verdicts(sound)
    assert list(found) == [f"T{number:02d}" for number in range(1, 25)]
    failed = {name: check for name, check in found.items() if check["passed"] is False}
    # Five iterations on eight images are what T08 is there to say no to; all else must hold.
    assert set(failed) <= {"T08"}, failed
    assert all(check["reason"] for check in found.values() if check["passed"] is None)
    assert {name for name, check in found.items() if check["passed"] is None} == {
        "T12", "T13", "T14", "T17", "T18", "T21",
    }  # fmt: skip


def test_a_model_without_gradient_is_caught() -> None:
    with probing(cases.WithoutGradient(cases.linear_digits())) as probe:
        assert gradients.zero_gradient(probe).passed is False
        assert "100.0" in str(gradients.zero_gradient(probe).value)
        # The search without gradient finds what the white-box attack could not.
        assert blackbox.gradients_win(probe).passed is False
        assert gradients.finite_difference(probe).passed is False


def test_a_model_with_undeclared_noise_is_caught() -> None:
    with probing(cases.Noisy(cases.linear_digits())) as probe:
        found = randomness.declared(probe)
        assert found.passed is False
        assert "does NOT say so" in str(found.value)


def test_a_model_that_turns_nan_is_caught() -> None:
    with probing(cases.NanOffGrid(cases.linear_digits())) as probe:
        assert not probe.examples.is_broken.any()
        found = bounds.bounds(probe)
        assert found.passed is False
        assert gradients.zero_gradient(probe).passed is False


def test_a_saturated_model_is_caught() -> None:
    with probing(cases.linear_digits(scale=1e6)) as probe:
        assert gradients.zero_gradient(probe).passed is False
        saturated = gradients.saturation(probe)
        assert "100.0 % at probability 1" in str(saturated.value)
        assert saturated.passed is True  # the margin attack does what cross-entropy cannot
        left = probe.attack("apgd-margin", steps=5).sum(), probe.attack("apgd-ce", steps=5).sum()
        assert left[0] < left[1]


def test_a_failed_check_stamps_the_result() -> None:
    checks = [Check("T01", "", 0.0, "", True), Check("T02", "", 0.0, "", False), Check("T03", "", "", "", None, "why")]
    assert unreliable([check.as_dict() for check in checks]) == ["T02"]


def test_replay_notices_a_table_that_is_not_the_models(sound: Probe) -> None:
    assert bounds.clean_replay(sound).passed is True
    table = replace(sound.examples, clean_correct=~sound.examples.clean_correct)
    assert bounds.clean_replay(_with(sound, table)).passed is False


def test_bounds_notice_an_image_outside_the_ball(sound: Probe) -> None:
    assert bounds.bounds(sound).passed is True
    moved = sound.examples.adversarial.copy()
    row = int(sound.examples.is_broken.nonzero()[0][0])
    moved[row, 0, 0, 0] += 0.2 if moved[row, 0, 0, 0] < 0.5 else -0.2
    found = bounds.bounds(_with(sound, replace(sound.examples, adversarial=moved)))
    assert found.passed is False


def test_ordering_notices_an_attack_that_gets_weaker(sound: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ordering.more_steps(sound).passed is True
    assert ordering.monotone(sound).passed is True
    assert ordering.noise_floor(sound).passed is True
    standing = {"fgsm": 1, "pgd": 5, "noise": 2, "apgd-ce": 7}
    monkeypatch.setattr(sound, "attack", lambda name, **options: np.arange(8) < standing[name])
    assert ordering.more_steps(sound).passed is False
    assert ordering.noise_floor(sound).passed is False
    assert ordering.unbounded(sound).passed is False
    rising = count()
    monkeypatch.setattr(sound, "attack", lambda name, **options: np.arange(8) < 2 * next(rising))
    assert ordering.monotone(sound).passed is False


def test_what_was_taken_to_stand_is_attacked_after_all(monkeypatch: pytest.MonkeyPatch) -> None:
    with probing(cases.linear_digits(), (0.005, 0.01, 0.02), order="descending") as probe:
        found = ordering.monotone(probe)
        assert found.passed is True
        assert "0 of 4 that were taken to stand fall" in str(found.value)
        attack = probe.attack

        def stronger_there(name: str, rows: Any = None, **options: Any) -> Any:
            return attack(name, rows, **options) if rows is None else np.zeros(len(rows), bool)

        monkeypatch.setattr(probe, "attack", stronger_there)
        assert ordering.monotone(probe).passed is False


def test_convergence_notices_an_attack_that_stopped_early() -> None:
    with probing(cases.linear_digits(), (0.1,), Bundle("b", "", (Stage("noise"),), checking=cases.CHECKING)) as probe:
        assert probe.survivors().size
        assert convergence.converged(probe).passed is False


def test_nothing_left_is_nothing_to_converge(sound: Probe) -> None:
    everything = replace(sound.examples, broken=np.zeros(20, np.int64))
    found = convergence.converged(_with(sound, everything))
    assert (found.passed, found.reason) == (None, "nothing survives the bundle")


def test_black_box_counts_new_successes_of_the_survivors(sound: Probe) -> None:
    assert blackbox.gradients_win(sound).passed is True
    tried = sound.examples.tried.copy()
    row = int(sound.examples.surviving(0).nonzero()[0][0])
    tried[0, 1, row] = BROKEN
    found = blackbox.gradients_win(_with(sound, replace(sound.examples, tried=tried)))
    assert found.passed is False
    assert "square 1 of" in str(found.value)


@pytest.mark.parametrize(("order", "worst"), [("ascending", "10.00"), ("descending", "5.00")])
def test_black_box_is_judged_by_the_images_it_was_chosen_from(order: Order, worst: str) -> None:
    """In descending order the images that stand in the larger ball are no candidates at the smaller radius."""
    bundle = replace(BUNDLE, stages=(BUNDLE.stages[0], replace(BUNDLE.stages[1], first=1)))
    with probing(cases.linear_digits(), bundle=bundle, order=order) as probe:
        count = len(probe.examples)
        tried = np.full_like(probe.examples.tried, NOT_TRIED)
        tried[0, 1, 0] = BROKEN
        # Image 0 falls at the smaller radius by the search alone; 1 stands at both; the others fell before.
        broken = np.zeros(count, np.int64)
        broken[1] = 2
        table = replace(probe.examples, clean_correct=np.ones(count, bool), broken=broken, tried=tried)
        assert str(blackbox.gradients_win(_with(probe, table)).value).startswith(f"{worst} %")


def test_surrogates_that_are_not_swapped_are_noticed(spiking: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    found = surrogates.sensitivity(spiking)
    assert found.passed is not None
    assert "IDENTICAL" not in str(found.value)
    # norse 1.1.0's super spike ignores its slope: that every mode is the layer's own looks the same.
    monkeypatch.setattr(surrogates, "make_mode", lambda mode: OwnSurrogate())
    found = surrogates.sensitivity(spiking)
    assert found.passed is False
    assert "IDENTICAL" in str(found.value)


def test_the_edge_of_a_grid_that_wins_is_noticed() -> None:
    assert surrogates._edge_ahead({"atan:0.5": 4, "atan:2": 9, "atan:8": 9, "triangle:1": 1, "ste": 0}) == 5
    assert surrogates._edge_ahead({"atan:0.5": 9, "atan:2": 4, "atan:8": 5, "triangle:1": 1, "ste": 0}) == 0
    assert surrogates._beyond({"atan:8": 2, "atan:2": 9, "triangle:1": 0}, 3) == ["atan:32"]
    assert surrogates._beyond({"atan:8": 9, "atan:2": 2, "triangle:1": 0}, 3) == ["atan:0.5"]
    assert surrogates._beyond({"atan:8": 9, "atan:2": 6, "triangle:1": 0}, 3) == []


def test_the_edge_of_a_grid_of_two_slopes_is_looked_beyond(spiking: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    count = len(spiking.rows)
    standing = {"atan:2": count, "atan:8": count // 2, "triangle:1": count, "atan:32": 0}
    asked = []

    def attack(name: str, *, mode: str, steps: int) -> np.ndarray[Any, Any]:
        asked.append(mode)
        return np.arange(count) < standing[mode]

    monkeypatch.setattr(type(spiking), "attack", lambda self, name, **options: attack(name, **options))
    found = surrogates.sensitivity(spiking)
    assert asked == ["atan:2", "atan:8", "triangle:1", "atan:32"]
    assert found.passed is False
    assert "atan:32 0.0" in str(found.value)
    standing["atan:32"] = count // 2
    assert surrogates.sensitivity(spiking).passed is True


class EveryOtherPixel(nn.Module):
    """Reads a quarter of the pixels of a digit; with ``hidden``, also the others, without a gradient."""

    def __init__(self, hidden: bool) -> None:
        super().__init__()
        self.hidden = hidden
        self.inner = cases.linear_digits()
        self.register_buffer("read", torch.zeros(8, 8))
        self.read[::2, ::2] = 1

    def forward(self, pixels: Tensor) -> Tensor:
        rest = pixels.detach() if self.hidden else torch.zeros_like(pixels)
        return self.inner(pixels * self.read + rest * (1 - self.read))


@pytest.mark.parametrize("hidden", [False, True])
def test_pixels_that_a_model_does_not_read_are_no_masked_gradient(hidden: bool) -> None:
    with probing(EveryOtherPixel(hidden)) as probe:
        found = gradients.zero_gradient(probe)
    assert found.passed is not hidden
    assert ("75.0 % unread" in str(found.value)) is not hidden


def test_own_surrogate_and_other_modes_are_measured(spiking: Probe) -> None:
    assert "under own" in str(surrogates.own_surrogate(spiking).value)
    found = surrogates.other_modes(spiking)
    assert all(mode in str(found.value) for mode in ("bptr", "ste", "rga", "hart", "relu"))
    assert "expected" not in str(found.value)


def test_draws_and_their_number() -> None:
    with probing(cases.spiking_digits("paralif-sb"), (0.2,)) as probe:
        found = randomness.declared(probe)
        assert found.passed is True
        assert "20 draws, 20 votes (majority)" in str(found.value)
        few = _with(probe, probe.examples)
        few.target = replace(probe.target, draws=3)
        assert randomness.declared(few).passed is False
        averaged = randomness.averaged(probe)
        assert averaged.passed is not None
        assert "SNR" in str(averaged.value)
        assert hygiene.silent_success(probe).passed is None


def test_finite_differences_agree_with_a_linear_models_gradient(sound: Probe) -> None:
    # 20 random directions of 64 dimensions explain sqrt(20 / 84) of a linear function's gradient on average.
    found = gradients.finite_difference(sound)
    assert float(str(found.value).split()[0]) == pytest.approx((20 / 84) ** 0.5, abs=0.15)


@pytest.mark.parametrize(("norm", "eps", "half"), [("linf", 0.04, "5.1/255"), ("l2", 0.3, "0.15")])
def test_a_linear_model_on_larger_images_passes_in_either_norm(norm: Norm, eps: float, half: str) -> None:
    """20 random directions of 64 x 64 pixels show 7 % of even the true gradient."""
    model = nn.Sequential(nn.AvgPool2d(8), cases.linear_digits()).eval()
    small = cases.digits_sample(20)
    images = replace(small.images, images=small.images.images.repeat_interleave(8, 2).repeat_interleave(8, 3))
    sample = replace(small, images=images)
    settings = cases.settings_for(BUNDLE, (eps,), norm=norm)
    subject = Subject("model", model)
    with attackable(model):
        target = cases.target_for(model, sample, settings)
        probe = Probe(subject, target, sample, settings, sweep(subject, target, sample, settings))
        assert gradients.finite_difference(probe).passed is True
        unstable = gradients.unstable(probe)
        assert unstable.passed is True
        assert str(unstable.value).endswith(f"within {half}")


def test_a_jagged_loss_is_noticed(sound: Probe) -> None:
    assert gradients.unstable(sound).passed is True

    class Jagged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = cases.linear_digits()

        def forward(self, images: Tensor) -> Tensor:
            logits = self.inner(images)
            return logits * (1 + 0.9 * torch.sin(1e4 * images.flatten(1).sum(1, keepdim=True)))

    with probing(Jagged()) as probe:
        assert gradients.unstable(probe).passed is False


def test_hygiene_notices_train_mode_and_changed_weights(sound: Probe) -> None:
    before = hygiene.hashes({"model": sound.subject.model})
    assert hygiene.eval_mode(sound, before).passed is True
    assert hygiene.eval_mode(sound, {"model": "other"}).passed is False
    sound.subject.model.get_submodule("1").train()
    assert hygiene.eval_mode(sound, before).passed is False
    sound.subject.model.get_submodule("1").eval()


def test_hygiene_notices_lost_successes_and_low_precision(sound: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hygiene.silent_success(sound).passed is True
    monkeypatch.setattr(sound.sweep.spent[0, 0], "silent", 1)
    assert hygiene.silent_success(sound).passed is False
    assert hygiene.precision(sound).passed is True
    torch.set_float32_matmul_precision("high")
    try:
        assert hygiene.precision(sound).passed is False
    finally:
        torch.set_float32_matmul_precision("highest")


def test_a_model_that_remembers_is_noticed(sound: Probe) -> None:
    assert hygiene.state_leak(sound).passed is True

    class Remembering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.calls = cases.linear_digits(), 0

        def forward(self, images: Tensor) -> Tensor:
            self.calls += 1
            return self.inner(images) * (1 + 0.001 * self.calls) + 0.3 * torch.sin(torch.arange(10.0) * self.calls)

    with probing(Remembering(), (0.1,), Bundle("b", "", (), checking=cases.CHECKING)) as probe:
        probe.target = replace(probe.target, stochastic=False, draws=1, votes=1, rule="single")
        assert hygiene.state_leak(probe).passed is False


def test_the_undefended_control_is_default_at_eight_levels(sound: Probe) -> None:
    assert controls.undefended(sound).reason == "no Default among the runs"
    colour = replace(sound.examples, images=np.zeros((20, 3, 8, 8), np.uint8), eps=np.array([0.03, 0.1]))
    for broken, passed in ((np.full(20, 2), False), (np.zeros(20, np.int64), True)):
        probe = _with(sound, replace(colour, broken=broken, clean_correct=np.ones(20, bool)))
        probe.subject = Subject("default", sound.subject.model)
        assert controls.undefended(probe).passed is passed
    # What a larger radius breaks is no news: half stand at 8/255 and above it, none at 64/255.
    wide = replace(colour, eps=np.array([8 / 255, 64 / 255]), broken=np.arange(20) % 2, clean_correct=np.ones(20, bool))
    probe = _with(sound, wide)
    probe.subject = Subject("default", sound.subject.model)
    assert controls.undefended(probe).passed is False
    assert "50.0 % at 8/255" in str(controls.undefended(probe).value)


def test_a_radius_of_nothing_is_not_where_checks_look(sound: Probe) -> None:
    settings = replace(sound.settings, eps=(0.0, 0.1), labels=("0", "0.1"))
    probe = Probe(sound.subject, sound.target, sound.sample, settings, sound.sweep)
    assert probe.radius == 1
    assert probe.eps == 0.1


def test_a_kill_between_a_checks_parts_and_its_verdict_costs_the_verdict_alone() -> None:
    with probing(cases.linear_digits()) as probe:
        for check in (convergence.converged, gradients.finite_difference):
            check(probe)
        again = verdicts(probe)
    assert {again[name]["name"] for name in ("T08", "T15")} == {"T08", "T15"}


def test_a_check_for_randomness_has_its_own() -> None:
    values = []
    for seed in (1, 2):
        with probing(cases.Noisy(cases.linear_digits())) as probe, torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            values.append(randomness.declared(probe).value)
    assert values[0] == values[1]


def test_a_twin_must_not_transfer_better_than_the_own_attack(sound: Probe) -> None:
    assert blackbox.transfer_from_twin(sound).passed is None
    twin = Subject("twin", cases.linear_digits(scale=2.0))
    probe = _with(sound, sound.examples)
    probe.others = {"twin": (twin, sound.sweep)}
    assert blackbox.transfer_from_twin(probe).passed is True
    untouched = replace(sound.examples, broken=np.full(20, 2))
    probe = _with(sound, untouched)
    probe.others = {"twin": (twin, sound.sweep)}
    assert blackbox.transfer_from_twin(probe).passed is False


def test_recording_follows_images_through_a_shrinking_attack(sound: Probe) -> None:
    images, labels = sound.batch(sound.rows[:4])
    target = recording(sound.target, OwnSurrogate())
    for kept in (torch.tensor([0, 2, 3]), torch.tensor([0, 2])):
        target.step(images, labels, margin)
        images, labels = images[kept], labels[kept]
        target.mode.select(kept)
    target.step(images, labels, margin)
    assert [step.tolist() for step in target.record.indices] == [[0, 1, 2, 3], [0, 2, 3], [0, 3]]
    assert [len(target.record.curve(image)) for image in range(4)] == [3, 1, 2, 3]
    assert target.record.zero_share() == 0


def test_a_model_that_is_always_wrong_has_nothing_to_check() -> None:
    model = cases.linear_digits(scale=-1.0)
    with probing(model) as probe:
        found = verdicts(probe)
    assert all(check["passed"] in (True, None) for check in found.values()), found
    assert found["T05"]["reason"] == "no image is classified correctly"


def _with(probe: Probe, examples: Any) -> Probe:
    """The same probe over another table."""
    return Probe(probe.subject, probe.target, probe.sample, probe.settings, replace(probe.sweep, examples=examples))


def table_of(probe: Probe, count: int, **arrays: Any) -> Probe:
    """The probe over ``count`` copies of its first image, all classified correctly, none broken."""
    table = probe.examples
    grown = {
        name: np.repeat(getattr(table, name)[:1], count, 0)
        for name in ("images", "index", "label", "clean_prediction", "adversarial", "margin", "steps", "minimum_norm")
    }
    radii, stages = len(table.eps), len(table.stages)
    grown |= {
        "clean_correct": np.ones(count, bool), "broken": np.full(count, radii), "broken_by": np.full(count, -1),
        "tried": np.full((radii, stages, count), NOT_TRIED, np.int8),
    }  # fmt: skip
    return _with(probe, replace(table, **{**grown, **arrays}))


@pytest.mark.parametrize(("broken", "passed"), [(2, True), (3, False)])
def test_black_box_may_break_a_five_hundredth(sound: Probe, broken: int, passed: bool) -> None:
    tried = np.full((2, 2, 1000), NOT_TRIED, np.int8)
    tried[:, 1] = SURVIVED
    tried[0, 1, :broken] = BROKEN
    at = np.full(1000, 2)
    at[:broken] = 0
    assert blackbox.gradients_win(table_of(sound, 1000, tried=tried, broken=at)).passed is passed


def test_a_model_of_another_kind_is_no_twin(sound: Probe) -> None:
    probe = _with(sound, sound.examples)
    probe.others = {"other": (Subject("other", cases.linear_digits(scale=2.0), "paralif-sb"), sound.sweep)}
    assert blackbox.transfer_from_twin(probe).reason == "no run of the same variant from another seed is given"


@pytest.mark.parametrize("field", ["outside", "not_finite"])
def test_bounds_notice_what_attacks_returned(sound: Probe, monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    assert bounds.bounds(sound).passed is True
    monkeypatch.setattr(sound.sweep.spent[0, 0], field, 1)
    assert bounds.bounds(sound).passed is False


def test_bounds_notice_an_image_outside_the_box_alone(sound: Probe) -> None:
    table, moved = sound.examples, sound.examples.adversarial.copy()
    row = int(table.is_broken.nonzero()[0][0])
    dark = np.unravel_index(int(table.images[row].argmin()), table.images[row].shape)
    assert table.images[row][dark] == 0
    moved[(row, *dark)] = -0.5 * table.smallest_eps[row]  # in the ball still
    assert bounds.bounds(_with(sound, replace(table, adversarial=moved))).passed is False


def test_images_that_fool_as_floats_alone_are_noticed(sound: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bounds.eight_bits(sound).passed is True

    class OffGrid(nn.Module):
        """Right on 8-bit images, wrong elsewhere."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = cases.linear_digits()

        def forward(self, images: Tensor) -> Tensor:
            levels = images * 255
            off = ((levels - levels.round()).abs() > 1e-3).flatten(1).any(1)
            logits = self.inner(images)
            return torch.where(off[:, None], -logits, logits)

    with probing(OffGrid()) as probe:
        found = bounds.eight_bits(probe)
    assert str(found.value).startswith("100.0 % as floats, 0.0 % as bytes")
    assert found.passed is False


def test_replay_notices_an_attack_of_radius_zero_that_moves(sound: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        def load(self) -> Any:
            return lambda target, images, *_, **__: type("Found", (), {"images": images + 1e-3})()

    monkeypatch.setattr(bounds, "find_attack", lambda name: Entry())
    assert bounds.clean_replay(sound).passed is False


def test_convergence_looks_at_the_last_steps_of_the_loss(sound: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "attack", lambda name, rows, **_: np.ones(len(rows), bool))
    for spread, passed in ((0.05, True), (0.06, False)):
        monkeypatch.setattr(convergence, "_spread", lambda *_, spread=spread: spread)
        assert convergence.converged(sound).passed is passed


def test_gradients_that_are_zero_in_most_pixels_are_noticed() -> None:
    class Cropped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.seen = cases.linear_digits(), torch.zeros(8, 8)
            self.seen[3:5] = 1

        def forward(self, images: Tensor) -> Tensor:
            return self.inner(images.detach() * (1 - self.seen) + images * self.seen)

    with probing(Cropped()) as probe:
        found = gradients.zero_gradient(probe)
    assert "75.0 % of pixels" in str(found.value)
    assert found.passed is False


def test_few_votes_are_not_enough() -> None:
    with probing(cases.spiking_digits("paralif-sb"), (0.2,)) as probe:
        probe.target = replace(probe.target, votes=3)
        assert randomness.declared(probe).passed is False


@pytest.mark.parametrize(("ratio", "error", "passed"), [(3.0, 0.005, True), (2.9, 0.0, False), (9.0, 0.006, False)])
def test_noise_and_unsteady_figures_are_noticed(
    ratio: float, error: float, passed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with probing(cases.spiking_digits("paralif-sb"), (0.2,)) as probe:
        monkeypatch.setattr(probe, "attack", lambda name, rows, **_: np.ones(len(rows), bool))
        monkeypatch.setattr(randomness, "_signal_to_noise", lambda _: ratio)
        monkeypatch.setattr(randomness, "_standard_error", lambda _: error)
        assert randomness.averaged(probe).passed is passed


def test_labels_that_depend_on_the_batch_are_noticed() -> None:
    class Neighbours(nn.Module):
        """Normalises by the batch: the same twice, another one alone."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = cases.linear_digits()

        def forward(self, images: Tensor) -> Tensor:
            return self.inner(images) + 5 * self.inner(images).mean(0, keepdim=True).roll(1, 1) * (len(images) > 1)

    with probing(Neighbours()) as probe:
        found = hygiene.state_leak(probe)
    assert "twice the same: True" in str(found.value)
    assert found.passed is False


def test_parameters_of_half_precision_are_noticed(sound: Probe) -> None:
    sound.subject.model.register_buffer("narrow", torch.zeros(2, dtype=torch.bfloat16))
    try:
        found = hygiene.precision(sound)
    finally:
        del sound.subject.model.narrow
    assert "torch.bfloat16" in str(found.value)
    assert found.passed is False


@pytest.mark.parametrize(
    ("standing", "sensitive", "own"),
    [
        ({"atan:2": [1, 1, 0, 0], "atan:8": [1, 1, 0, 0], "triangle:1": [1, 1, 0, 0], "own": [1, 1, 0, 0]}, True, True),
        (
            {"atan:2": [1, 1, 1, 0], "atan:8": [1, 1, 0, 1], "triangle:1": [0, 1, 1, 1], "own": [1, 0, 0, 0]},
            False,
            True,
        ),
        (
            {"atan:2": [1, 1, 1, 1], "atan:8": [1, 1, 1, 1], "triangle:1": [1, 1, 1, 1], "own": [1, 1, 0, 0]},
            True,
            False,
        ),
        ({"atan:2": [1, 1, 1, 1], "atan:8": [1, 1, 1, 1], "triangle:1": [1, 1, 1, 1], "own": [1, 1, 1, 0]}, True, True),
    ],
    ids=["alike", "no single one is the union", "training's breaks two more", "training's breaks one more"],
)
def test_a_grid_is_judged_by_its_union(
    spiking: Probe, monkeypatch: pytest.MonkeyPatch, standing: dict[str, list[int]], sensitive: bool, own: bool
) -> None:
    monkeypatch.setattr(spiking, "attack", lambda name, *_, mode, **__: np.array(standing[mode], bool))
    monkeypatch.setattr(spiking, "rows", spiking.rows[:4])
    monkeypatch.setattr(spiking, "checking", replace(spiking.checking, surrogates=("atan:2", "atan:8", "triangle:1")))
    assert surrogates.sensitivity(spiking).passed is sensitive
    assert surrogates.own_surrogate(spiking).passed is own


def test_a_slope_at_the_edge_that_wins_by_more_than_is_allowed_is_noticed(
    spiking: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = {"atan:1": 4, "atan:2": 4, "atan:4": 2}
    monkeypatch.setattr(spiking, "attack", lambda name, *_, mode, **__: np.arange(4) < left[mode])
    monkeypatch.setattr(spiking, "rows", spiking.rows[:4])
    monkeypatch.setattr(spiking, "checking", replace(spiking.checking, surrogates=tuple(left)))
    assert surrogates.sensitivity(spiking).passed is False
    left["atan:4"] = 3
    assert surrogates.sensitivity(spiking).passed is True


@pytest.mark.parametrize(("broken", "passed"), [(0, True), (1, False)])
def test_another_mode_that_breaks_survivors_is_noticed(
    spiking: Probe, monkeypatch: pytest.MonkeyPatch, broken: int, passed: bool
) -> None:
    """One of four survivors tried stands for a quarter of all that survive."""
    everything = _with(spiking, replace(spiking.examples, broken=np.full(20, 2), clean_correct=np.ones(20, bool)))
    monkeypatch.setattr(everything, "attack", lambda name, rows, **_: np.arange(len(rows)) >= broken)
    found = surrogates.other_modes(everything)
    assert found.passed is passed
    assert str(found.value).endswith("25.0 points" if broken else "0.0 points")


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_finite_differences_step_a_quarter_of_the_radius(norm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In L2 a step of all pixels together, in Linf the standard deviation of one pixel."""
    sample, settings = cases.digits_sample(20), cases.settings_for(BUNDLE, (0.2,), norm=norm)
    model = cases.linear_digits()
    subject = Subject("model", model)
    from resnet_spiking.attacks.sweep import sweep
    from resnet_spiking.attacks.target import attackable

    with attackable(model):
        target = cases.target_for(model, sample, settings)
        probe = Probe(subject, target, sample, settings, sweep(subject, target, sample, settings))
        images, _ = probe.batch(probe.rows[: gradients.SMOOTHED_IMAGES])
        seen: list[Tensor] = []
        handle = model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
        gradients.finite_difference(probe)
        handle.remove()
    steps = torch.stack([points - images for points in seen if len(points) == len(images)][-10:])
    size = steps.flatten(2).norm(dim=2).mean() if norm == "l2" else steps.std()
    assert float(size) == pytest.approx(probe.eps / 4, rel=0.05)


def test_signal_to_noise_of_a_known_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradient w + n, |w| = 10, n of standard deviation 1 in each of 64 pixels: over 20 draws 10.2 / (8 / sqrt(20))."""

    class Shaky(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            slope = torch.full((64,), 10 / 8) + torch.randn(64)
            logits = torch.full((len(images), 10), -1e4) + 0 * images.flatten(1)[:, :10]
            logits[:, 0], logits[:, 1] = -(images.flatten(1) @ slope), 0
            return logits

    with probing(cases.linear_digits()) as probe:
        shaky = Shaky()
        probe.target = replace(probe.target, model=shaky, climbed=shaky, stochastic=True, rule="majority", votes=1)
        batch = probe.batch
        monkeypatch.setattr(probe, "batch", lambda rows: (batch(rows)[0], torch.zeros(len(rows), dtype=torch.long)))
        assert randomness._signal_to_noise(probe) == pytest.approx((100 + 64 / 20) ** 0.5 / (8 / 20**0.5), rel=0.15)
