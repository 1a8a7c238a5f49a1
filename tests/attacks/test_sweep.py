from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import evaluation_cases as cases
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from resnet_spiking.attacks.bundles import Bundle, Stage
from resnet_spiking.attacks.examples import BROKEN, NOT_TRIED, SURVIVED, Examples
from resnet_spiking.attacks.journal import Journal
from resnet_spiking.attacks.names import ATTACKS, AttackEntry
from resnet_spiking.attacks.settings import ORDERS, Order, Settings
from resnet_spiking.attacks.subjects import Sample, Subject
from resnet_spiking.attacks.sweep import Sweep, Watch, sweep
from resnet_spiking.attacks.target import attackable
from resnet_spiking.errors import Interrupted, UserError


def run(
    model: nn.Module, sample: Sample, settings: Settings, journal: Journal | None = None, **arguments: Any
) -> Sweep:
    with attackable(model):
        target = cases.target_for(model, sample, settings)
        return sweep(Subject("model", model), target, sample, settings, journal, **arguments)


def same(one: Examples, other: Examples) -> bool:
    pairs = ((getattr(one, field.name), getattr(other, field.name)) for field in fields(Examples))
    return all(a == b if isinstance(a, str) else a.tobytes() == b.tobytes() for a, b in pairs)


def linear_worst_margin(model: nn.Module, images: Tensor, labels: Tensor, eps: float) -> Tensor:
    """The largest margin in ball and box of a linear model: every pixel goes as far as it may, for each class."""
    layer = model.get_submodule("1")
    assert isinstance(layer, nn.Linear)
    weight, flat = layer.weight.double(), images.flatten(1).double()
    up, down = (1 - flat).clamp_max(eps), flat.clamp_max(eps)
    logits = flat @ weight.T + layer.bias.double()
    slopes = weight[None] - weight[labels][:, None]  # [B, classes, pixels]
    gains = (slopes.clamp_min(0) * up[:, None] + slopes.clamp_max(0).abs() * down[:, None]).sum(2)
    margins = logits - logits.gather(1, labels[:, None]) + gains
    return margins.scatter(1, labels[:, None], -torch.inf).amax(1)


@pytest.fixture(scope="module")
def linear() -> nn.Module:
    return cases.linear_digits()


@pytest.mark.parametrize("order", ORDERS)
def test_robust_accuracy_of_a_linear_model_is_its_closed_form(linear: nn.Module, order: Order) -> None:
    sample = cases.digits_sample(60)
    radii = (0.005, 0.01, 0.02, 0.03)
    stages = (Stage("apgd-ce", options={"steps": 20}), Stage("apgd-t", options={"steps": 20, "loss": "margin"}))
    found = run(linear, sample, cases.settings_for(Bundle("b", "", stages), radii, order=order)).examples
    for radius, eps in enumerate(radii):
        standing = linear_worst_margin(linear, sample.pixels(), sample.labels, eps) < 0
        assert np.array_equal(found.surviving(radius), standing.numpy()), eps
    assert 0 < found.surviving(3).sum() < found.surviving(0).sum()


def test_the_worst_case_is_the_minimum_over_attacks_and_radii(linear: nn.Module) -> None:
    stages = tuple(Stage(name, everything=True) for name in ("noise", "fgsm", "pgd"))
    settings = cases.settings_for(Bundle("b", "", stages), (0.03, 0.1, 0.2))
    found = run(linear, cases.digits_sample(40), settings).examples
    each = found.tried[:, :, found.clean_correct] == BROKEN
    assert each.any()
    by_any_so_far = np.logical_or.accumulate(each.any(1), 0)
    for radius in range(3):
        assert np.array_equal(found.surviving(radius)[found.clean_correct], ~by_any_so_far[radius])
    assert (found.tried[:, :, ~found.clean_correct] == NOT_TRIED).all()


def test_only_what_still_stands_is_attacked(linear: nn.Module) -> None:
    sample = cases.digits_sample(30)
    bundle = Bundle("b", "", (Stage("pgd", options={"steps": 4}), Stage("apgd-ce", options={"steps": 4})))
    found = run(linear, sample, cases.settings_for(bundle, (0.02, 0.06, 0.1))).examples
    for radius in range(3):
        before = found.clean_correct & (found.broken >= radius)
        assert np.array_equal(found.tried[radius, 0] != NOT_TRIED, before)
        left = before & (found.tried[radius, 0] != BROKEN)
        assert np.array_equal(found.tried[radius, 1] != NOT_TRIED, left)


def test_in_descending_order_an_image_fails_to_fall_once(linear: nn.Module) -> None:
    sample = cases.digits_sample(60)
    # Exact on a linear model, so that both orders must agree.
    bundle = Bundle("b", "", (Stage("apgd-t", options={"steps": 20, "loss": "margin", "classes": 9}),))
    radii = (0.002, 0.005, 0.01, 0.02, 0.03)
    up, down = (run(linear, sample, cases.settings_for(bundle, radii, order=order)) for order in ORDERS)
    table = down.examples
    assert np.array_equal(table.broken, up.examples.broken)
    tried, stood = table.tried[:, 0] != NOT_TRIED, table.tried[:, 0] == SURVIVED
    assert np.array_equal(tried[-1], table.clean_correct)
    for radius in range(len(radii) - 1):
        assert np.array_equal(tried[radius], table.clean_correct & (table.tried[radius + 1, 0] == BROKEN))
        assert np.array_equal(table.inferred(radius), table.surviving(radius) & ~tried[radius])
    assert (stood.sum(0) <= 1).all()
    assert (stood.sum(0) == 1)[table.clean_correct & (table.broken > 0)].all()
    # Each image that stands at all pays for one whole attack, and one in ascending order for one a radius.
    spent = [sum(cost.backwards for cost in found.spent.values()) for found in (up, down)]
    assert spent[1] < 0.5 * spent[0]
    assert table.inferred(0).sum() > 10


def test_progress_rises_to_the_whole(linear: nn.Module) -> None:
    for order in ORDERS:
        seen: list[tuple[int, int]] = []
        settings = cases.settings_for(cases.TINY, (0.005, 0.02), order=order)
        run(linear, cases.digits_sample(20), settings, watch=Watch(progress=lambda *at, seen=seen: seen.append(at)))
        assert len({whole for _, whole in seen}) == 1
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)
        assert seen[-1][0] == seen[-1][1] > seen[0][0]


def test_descending_order_starts_from_minimum_norms(linear: nn.Module) -> None:
    sample = cases.digits_sample(30)
    bundle = Bundle("b", "", (Stage("apgd-ce"),), minimum_norm=Stage("fmn", options={"steps": 50}))
    found = run(linear, sample, cases.settings_for(bundle, (0.005, 0.01, 0.02, 0.3), order="descending")).examples
    above = np.searchsorted(found.eps, found.minimum_norm)
    attacked = found.tried[:, 1] != NOT_TRIED
    for row in found.clean_correct.nonzero()[0].tolist():
        expected = [radius for radius in range(found.broken[row] - 1, above[row]) if radius >= 0]
        assert attacked[:, row].nonzero()[0].tolist() == expected


def test_a_broken_image_costs_nothing_at_larger_radii(linear: nn.Module) -> None:
    sample, bundle = cases.digits_sample(20), Bundle("b", "", (Stage("apgd-ce", options={"steps": 10}),))
    seen = []
    for radii in ((0.5,), (0.5, 0.7, 1.0)):
        model = cases.Counting(linear)
        found = run(model, sample, cases.settings_for(bundle, radii)).examples
        assert not found.surviving(0).any()
        seen.append(model.seen)
    assert seen[0] == seen[1]


def test_clean_errors_are_never_attacked(linear: nn.Module) -> None:
    sample = cases.digits_sample(20)
    with torch.no_grad():
        wrong = (linear(sample.pixels()).argmax(1) + 1) % 10
    labels = sample.images.labels.clone()
    labels[sample.indices] = wrong
    images = type(sample.images)(sample.images.images, labels, sample.images.classes)
    mislabelled = Sample(images, sample.indices, "digits", "")
    counted = []
    for bundle in (Bundle("none", "", ()), cases.TINY):
        model = cases.Counting(linear)
        found = run(model, mislabelled, cases.settings_for(bundle))
        assert found.examples.surviving(0).sum() == 0
        counted.append(model.seen)
    assert counted[0] == counted[1]


def test_a_minimum_norm_image_counts_from_its_norm_on(linear: nn.Module) -> None:
    sample = cases.digits_sample(30)
    bundle = Bundle("b", "", (), minimum_norm=Stage("fmn", options={"steps": 30}))
    settings = cases.settings_for(bundle, (0.02, 0.05, 0.1, 0.3))
    found = run(linear, sample, settings).examples
    norms = found.minimum_norm
    assert np.isfinite(norms[found.clean_correct]).all()
    for radius, eps in enumerate(settings.eps):
        assert np.array_equal(found.surviving(radius), found.clean_correct & (norms > eps))
    kept = found.is_broken
    assert found.distance("linf")[kept] == pytest.approx(norms[kept], abs=1e-6)
    with torch.no_grad():
        again = linear(torch.from_numpy(found.adversarial[kept])).argmax(1).numpy()
    assert (again != found.label[kept]).all()


@pytest.mark.parametrize(
    ("kind", "order"),
    [
        ("lif", "ascending"),
        ("lif", "descending"),
        ("paralif-sb", "ascending"),
        ("paralif-sb", "descending"),
        ("noise", "ascending"),
    ],
)
def test_a_stopped_sweep_continues_to_the_same_bits(tmp_path: Path, kind: str, order: Order, linear: nn.Module) -> None:
    model = cases.Noisy(linear) if kind == "noise" else cases.spiking_digits(kind)
    sample, settings = cases.digits_sample(16), cases.settings_for(eps=(0.05, 0.2), order=order)
    whole = run(model, sample, settings)
    journal, stops = Journal(tmp_path / "state"), 0
    for calls in (30, 150, 60, 400):
        left = [calls]

        def should_stop(left: list[int] = left) -> bool:
            left[0] -= 1
            return left[0] < 0

        try:
            run(model, sample, settings, journal, watch=Watch(should_stop=should_stop))
        except Interrupted:
            stops += 1
    assert stops >= 2
    resumed = run(model, sample, settings, Journal(tmp_path / "state"))
    assert same(resumed.examples, whole.examples)
    assert resumed.spent.keys() == whole.spent.keys()
    for place, spent in whole.spent.items():
        assert (spent.forwards, spent.backwards) == (resumed.spent[place].forwards, resumed.spent[place].backwards)
    reread = run(model, sample, settings, Journal(tmp_path / "state"), watch=Watch(should_stop=lambda: True))
    assert same(reread.examples, whole.examples)


@pytest.mark.parametrize("kind", ["nan", "outside ball", "outside box", "clean"])
def test_what_an_attack_claims_is_not_believed(monkeypatch: pytest.MonkeyPatch, linear: nn.Module, kind: str) -> None:
    entry = AttackEntry("junk", "evaluation_cases:junk", ("linf",), "white-box", "", {"kind": kind})
    monkeypatch.setitem(ATTACKS, "junk", entry)
    settings = cases.settings_for(Bundle("b", "", (Stage("junk"),)), (0.01,))
    found = run(linear, cases.digits_sample(12), settings)
    assert not found.examples.is_broken.any()
    assert np.isfinite(found.examples.adversarial).all()
    spent, correct = found.spent[0, 0], int(found.examples.clean_correct.sum())
    expected = {"nan": (0, correct, 0), "outside ball": (correct, 0, correct), "clean": (correct, 0, 0)}
    expected["outside box"] = expected["outside ball"]
    assert (spent.silent, spent.not_finite, spent.outside) == expected[kind]


def test_stages_that_cannot_run_say_why(linear: nn.Module) -> None:
    stages = (Stage("transfer", source="default"), Stage("ddn"), Stage("fgsm"))
    found = run(linear, cases.digits_sample(5), cases.settings_for(Bundle("b", "", stages)))
    assert "transfer from" in found.skipped["transfer from default"]
    assert found.skipped["ddn"] == "not defined for linf"
    assert found.examples.stages.tolist() == ["fgsm"]


def test_transfers_come_from_the_models_given(linear: nn.Module) -> None:
    sample, settings = cases.digits_sample(12), cases.settings_for(eps=(0.3,))
    stages = (Stage("transfer", source="default"), Stage("transfer", source="others"))
    settings = cases.settings_for(Bundle("b", "", stages), (0.3,))
    twin = cases.linear_digits()
    with attackable(twin):
        source = cases.target_for(twin, sample, settings)
        found = run(linear, sample, settings, sources={"default": source, "model": source})
    assert found.examples.stages.tolist() == ["transfer from default"]
    assert found.spent[0, 0].backwards > 0
    assert found.examples.is_broken.sum() == found.examples.clean_correct.sum()


@pytest.mark.parametrize("order", ORDERS)
def test_the_best_mode_is_the_one_of_largest_margin_on_the_same_images(order: Order) -> None:
    model, sample = cases.spiking_digits("lif"), cases.digits_sample(12)
    stages = (
        Stage("apgd-ce", "atan:2", {"steps": 5}),
        Stage("apgd-ce", "triangle:0.001", {"steps": 5}),
        Stage("apgd-t", "best", {"steps": 2}),
    )
    found = run(model, sample, cases.settings_for(Bundle("b", "", stages), (0.05,), order=order))
    assert found.examples.surviving(0).any()
    assert found.spent[0, 2].mode in ("atan:2", "triangle:0.001")
    assert found.examples.stages[2] == "apgd-t+best"


def test_state_about_other_images_is_not_used(tmp_path: Path, linear: nn.Module) -> None:
    journal, settings = Journal(tmp_path), cases.settings_for(Bundle("b", "", (Stage("fgsm"),)))
    whole = cases.digits_sample(14)
    run(linear, whole, settings, journal)
    for rows in (slice(0, 3), slice(4, 11)):
        part = Sample(whole.images, whole.indices[rows], "digits", "")
        found, alone = run(linear, part, settings, journal), run(linear, part, settings)
        assert np.array_equal(found.examples.adversarial, alone.examples.adversarial)
        assert np.array_equal(found.examples.broken, alone.examples.broken)
        assert np.array_equal(found.examples.label, whole.labels[rows].numpy())


def test_settings_refuse_what_is_no_radius() -> None:
    wrong_radii = {(0.2, 0.1): "ascending", (): "none", (0.1, 0.1): "distinct", (1.5,): "0, 1", (-0.1,): "0, 1"}
    for eps, text in wrong_radii.items():
        with pytest.raises(UserError, match=text):
            cases.settings_for(eps=eps)
    for wrong in ({"batch_size": 0}, {"seed": -1}, {"votes": 0}, {"rule": "any"}, {"norm": "l1"}, {"order": "up"}):
        with pytest.raises(UserError):
            cases.settings_for(**wrong)


def test_in_descending_order_a_stochastic_model_leaves_no_image_between() -> None:
    """The climb goes down by its own draws; images that only independent ones find fallen go down as well."""
    model, sample = cases.spiking_digits("paralif-sb"), cases.digits_sample(60)
    bundle = Bundle("b", "", (Stage("apgd-ce", mode="expected", options={"steps": 8}),))
    radii = tuple(0.03 * number for number in range(1, 9))
    settings = cases.settings_for(bundle, radii, order="descending", draws=4)
    table = run(model, sample, settings).examples
    tried = table.tried[:, 0] != NOT_TRIED
    fallen = table.clean_correct & (table.broken > 0) & (table.broken < len(radii))
    assert fallen.sum() > 10
    below = table.broken[fallen] - 1
    assert tried[below, fallen.nonzero()[0]].all()
