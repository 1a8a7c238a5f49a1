"""Results that were changed so that they still agree with themselves in what is easy to check."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import evaluation_cases as cases
import numpy as np
import pytest
import torch

from resnet_spiking.attacks.bundles import BUNDLES, Bundle, Stage, single
from resnet_spiking.attacks.evaluation import evaluate
from resnet_spiking.attacks.examples import Examples
from resnet_spiking.attacks.figures import figures_of, trap
from resnet_spiking.attacks.long_table import write_csv
from resnet_spiking.attacks.subjects import Sample, Subject
from resnet_spiking.attacks.verify import _close, compare
from resnet_spiking.storage.files import file_sha256

SAMPLE = 60
BUNDLE = Bundle(
    "small", "", (Stage("fgsm"), Stage("apgd-ce", "own", {"steps": 10})),
    minimum_norm=Stage("fmn", "own", {"steps": 20}), checking=cases.CHECKING,
)  # fmt: skip
EPS = (0.01, 0.04, 0.3)


def models(name: str) -> list[Subject]:
    return [Subject("model", cases.linear_digits() if name == "linear" else cases.spiking_digits("paralif-sb"))]


def evaluated(name: str, path: Path) -> Path:
    torch.set_num_threads(1)
    evaluate(models(name), cases.digits_sample(SAMPLE), cases.settings_for(BUNDLE, EPS), path)
    return path


@pytest.fixture(scope="module", params=["linear", "stochastic"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    return request.param, evaluated(request.param, tmp_path_factory.mktemp("verify") / request.param)


@pytest.fixture
def copy(whole: tuple[str, Path], tmp_path: Path) -> tuple[str, Path]:
    return whole[0], Path(shutil.copytree(whole[1], tmp_path / "copy"))


def verified(name: str, folder: Path) -> list[str]:
    result = json.loads((folder / "result.json").read_text())
    rows = compare(folder, result, models(name), cases.digits_sample(SAMPLE), torch.device("cpu"))
    return [row.figure for row in rows if not row.agrees]


def rewrite(folder: Path, change: Callable[[Examples], object], also: Callable[[dict[str, Any]], object] = id) -> None:
    """Change the table and make figures, hash and CSV follow from it, as an author could."""
    path = folder / "adversarial-model.npz"
    table = Examples.load(path)
    change(table)
    table.save(path)
    result = json.loads((folder / "result.json").read_text())
    (entry,) = result["models"]
    figures = figures_of(table)
    entry.update(figures, trap=trap(figures))
    entry["adversarial"]["sha256"] = file_sha256(path)
    also(result)
    write_csv(result, folder / "table.csv")
    (folder / "result.json").write_text(json.dumps(result))


def test_what_was_measured_verifies(copy: tuple[str, Path]) -> None:
    name, folder = copy
    assert verified(name, folder) == []
    rewrite(folder, lambda table: None)
    assert verified(name, folder) == []


def test_falling_later_than_the_attacks_say_is_noticed(copy: tuple[str, Path]) -> None:
    name, folder = copy

    def later(table: Examples) -> None:
        assert (table.broken < 2).any()
        table.broken[table.broken < 2] = 2

    rewrite(folder, later)
    found = verified(name, folder)
    assert "model: who fell, and to what" in found
    assert ("model: standing within their minimum norm" in found) is (name == "linear")


def test_a_longer_minimum_norm_than_its_images_is_noticed(copy: tuple[str, Path]) -> None:
    name, folder = copy
    rewrite(folder, lambda table: table.minimum_norm.__imul__(10))
    assert ("model: minimum norms that are not their image's" in verified(name, folder)) is (name == "linear")


def test_verdicts_that_were_exchanged_are_noticed(copy: tuple[str, Path]) -> None:
    """Clean errors declared right and never broken, as many broken images declared clean errors: no mean moves."""
    name, folder = copy

    def exchange(table: Examples) -> None:
        wrong = (~table.clean_correct).nonzero()[0]
        fallen = (table.clean_correct & table.is_broken).nonzero()[0][: len(wrong)]
        assert len(wrong) == len(fallen) > 1
        for rows, right in ((wrong, True), (fallen, False)):
            table.clean_correct[rows] = right
            table.broken[rows], table.broken_by[rows] = len(EPS), -1
            table.adversarial[rows] = table.clean()[rows]
            table.minimum_norm[rows] = np.inf
            table.tried[:, :, rows] = 0 if right else -1

    rewrite(folder, exchange)
    found = verified(name, folder)
    assert "model: clean images with another verdict, rescored" in found
    assert "model: clean accuracy, rescored" not in found


def test_another_class_than_the_models_is_noticed(copy: tuple[str, Path]) -> None:
    name, folder = copy
    rewrite(folder, lambda table: table.clean_prediction.__iadd__(1).__imod__(10))
    assert ("model: clean images of another class, rescored" in verified(name, folder)) is (name == "linear")


@pytest.mark.parametrize(
    ("figure", "change"),
    [
        ("eps of the labels[2]", lambda r: r["eps_labels"].__setitem__(2, "8/255")),
        ("eps of the labels[2]", lambda r: r["eps_labels"].__setitem__(2, "far")),
        ("settings.bundle", lambda r: r.update(bundle="standard")),
        ("model: attacks of standard", lambda r: r.update(bundle="standard")),
        ("model: attacks[2]", lambda r: r["models"][0]["stages"].__setitem__(2, "apgd-ce-1000")),
        ("settings.eps[0]", lambda r: r["settings"]["eps"].__setitem__(0, 0.02)),
        ("settings.norm", lambda r: r["settings"].update(norm="l2")),
    ],
)
def test_a_figure_under_another_name_is_noticed(copy: tuple[str, Path], figure: str, change: Any) -> None:
    name, folder = copy
    rewrite(folder, lambda table: None, change)
    assert figure in verified(name, folder)


def test_a_bundle_that_claims_more_than_it_may_is_noticed(tmp_path: Path) -> None:
    bundle = BUNDLES["quick"]
    subject, sample = models("linear"), cases.digits_sample(8)
    evaluate(subject, sample, cases.settings_for(bundle, (0.3,)), tmp_path)
    result = json.loads((tmp_path / "result.json").read_text())
    device = torch.device("cpu")
    assert all(row.agrees for row in compare(tmp_path, result, subject, sample, device))
    result["indicative"] = False
    assert [row.figure for row in compare(tmp_path, result, subject, sample, device) if not row.agrees] == [
        "indicative"
    ]


def test_stored_images_outside_the_box_and_other_labels_are_noticed(tmp_path: Path) -> None:
    subjects, sample = [Subject("m", cases.linear_digits())], cases.digits_sample(12)
    evaluate(
        subjects,
        sample,
        cases.settings_for(Bundle("b", "", (Stage("fgsm"),), checking=cases.CHECKING), (0.2,)),
        tmp_path / "e",
    )
    result = json.loads((tmp_path / "e" / "result.json").read_text())

    def differing(sample: Sample) -> set[str]:
        return {
            row.figure
            for row in compare(tmp_path / "e", result, subjects, sample, torch.device("cpu"))
            if not row.agrees
        }

    assert differing(sample) == set()
    labels = sample.images.labels.clone()
    labels[sample.indices[0]] = (labels[sample.indices[0]] + 1) % 10
    assert "m: clean images" in differing(replace(sample, images=replace(sample.images, labels=labels)))
    path = tmp_path / "e" / "adversarial-m.npz"
    table = Examples.load(path)
    row = int(table.is_broken.nonzero()[0][0])
    dark = np.unravel_index(int(table.images[row].argmin()), table.images[row].shape)
    assert table.images[row][dark] == 0
    table.adversarial[(row, *dark)] = -0.1  # half of the ball's radius
    table.save(path)
    assert "m: ball, box, finite" in differing(sample)


@pytest.mark.parametrize(("changed", "agrees"), [(9, True), (10, False)])
def test_a_stochastic_figure_may_move_by_three_standard_errors(changed: int, agrees: bool) -> None:
    """Of 100 images: 9 change their verdict, 3 sqrt(9) = 9; 10 do, 3 sqrt(10) = 9.5."""
    before = np.ones(100, bool)
    assert _close("f", before, np.arange(100) >= changed, True).agrees is agrees
    assert _close("f", before, np.arange(100) >= 1, False).agrees is False


@pytest.mark.parametrize(
    ("attack", "norm", "eps", "order"),
    [
        ("apgd-ce", "linf", (0.02, 0.3), "ascending"),
        ("ta-pgd", "linf", (0.02, 0.3), "ascending"),
        ("fgsm", "l2", (0.125, 0.25, 0.5, 1.0, 2.0), "ascending"),
        ("noise", "l2", (0.125, 0.25, 0.5, 1.0, 2.0), "ascending"),
        ("pgd", "l2", (0.5, 0.55, 0.6), "descending"),
        ("fmn", "linf", (0.01, 0.04, 0.1), "ascending"),
        ("deepfool", "l2", (0.1, 1.0), "ascending"),
        ("transfer", "linf", (0.02, 0.3), "ascending"),
    ],
)
def test_one_attack_alone_verifies(tmp_path: Path, attack: str, norm: str, eps: tuple[float, ...], order: str) -> None:
    """Clipping to the box shortens what an L2 attack finds: it may lie in a smaller ball, where the attack failed."""
    subjects, sample = models("linear"), cases.digits_sample(200)
    if attack == "transfer":
        subjects = [Subject("default", cases.spiking_digits("lif")), *subjects]
    settings = cases.settings_for(single(attack), eps, norm=norm, order=order, batch_size=64)
    only = ["model"] if attack == "transfer" else None
    result = evaluate(subjects, sample, settings, tmp_path / "e", only=only)
    rows = compare(tmp_path / "e", result, subjects[-1:], sample, torch.device("cpu"))
    assert [row.figure for row in rows if not row.agrees] == []


def test_a_minimum_norm_that_a_stochastic_model_takes_back_verifies(tmp_path: Path) -> None:
    subjects, sample = models("stochastic"), cases.digits_sample(200)
    settings = cases.settings_for(single("fmn"), (0.01, 0.04, 0.1, 0.3), batch_size=64)
    result = evaluate(subjects, sample, settings, tmp_path / "e")
    table = Examples.load(tmp_path / "e" / "adversarial-model.npz")
    taken_back = (table.tried[:, 0] == 1).any(0) & ~table.is_broken
    assert taken_back.any()
    rows = compare(tmp_path / "e", result, subjects, sample, torch.device("cpu"))
    assert [row.figure for row in rows if not row.agrees] == []


def test_a_norm_just_above_a_radius_verifies(tmp_path: Path) -> None:
    subjects, sample = models("linear"), cases.digits_sample(20)
    evaluate(subjects, sample, cases.settings_for(single("fmn"), (0.5,)), tmp_path / "a")
    norms = Examples.load(tmp_path / "a" / "adversarial-model.npz").minimum_norm
    eps = float(np.sort(norms[np.isfinite(norms) & (norms > 0)])[5]) - 5e-7
    result = evaluate(subjects, sample, cases.settings_for(single("fmn"), (eps, 0.5)), tmp_path / "b")
    rows = compare(tmp_path / "b", result, subjects, sample, torch.device("cpu"))
    assert [row.figure for row in rows if not row.agrees] == []
