from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import confusion_matrix

from resnet_spiking.reports.attacked import attacked
from resnet_spiking.reports.digest import Digest
from resnet_spiking.reports.figures.catalogue import FIGURES
from resnet_spiking.reports.figures.confusion import confusion
from resnet_spiking.reports.results import load_results


@pytest.fixture
def digest(published: Path) -> Digest:
    return Digest.of(load_results(published), published)


@pytest.mark.parametrize("name", FIGURES)
def test_each_figure_has_panels_data_and_words(digest: Digest, name: str) -> None:
    figure = FIGURES[name](digest)
    assert figure.panels
    assert figure.records
    assert not figure.absent
    assert figure.caption.endswith(".")
    for panel in figure.panels:
        root = ElementTree.fromstring(panel.drawing) if panel.drawing.startswith("<svg") else None
        alt = root.get("aria-label") if root is not None else re.findall(r'alt="([^"]+)"', panel.drawing)[0]
        assert alt
        assert len(alt) > 40
        assert "nan" not in panel.drawing
    assert len({panel.name for panel in figure.panels}) == len(figure.panels)


@pytest.mark.parametrize("name", [name for name in FIGURES if name != "accuracy"])
def test_a_figure_without_data_names_the_command_that_makes_it(invented: Any, tmp_path: Path, name: str) -> None:
    invented.run("default", 0, range(10))
    invented.curves.clear()
    invented.arrays.clear()
    digest = Digest.of(load_results(invented.write(tmp_path / "results")), tmp_path)
    figure = FIGURES[name](digest)
    assert not figure.panels
    assert re.search(r"`python .+`", figure.absent)
    assert figure.absent.endswith(".")


def test_variants_are_compared_with_the_default_of_their_dataset(digest: Digest) -> None:
    title = "cifar10 · resnet18 · 64 px · weights imagenet · freeze depth 3 · head trained"
    assert [group.variant for group in digest.panels[title]] == [
        "default", "lif", "snntorch-lif", "norse-lifbox", "paralif-sb", "relu"
    ]  # fmt: skip
    # lif was run at five values of T and with two encodings: the figure takes the three-seed one.
    lif = next(g for g in digest.principal if g.variant == "lif" and g["dataset"] == "cifar10")
    assert (lif["num_steps"], lif["encoding"], lif.accuracy.n) == (20, "direct", 3)


def test_sweeps_are_found_among_the_rows(digest: Digest) -> None:
    found: dict[str, list[str]] = {}
    for record in FIGURES["sweeps"](digest).records:
        found.setdefault(record["setting"], []).append(record["value"])
    assert found == {"num_steps": ["2", "4", "8", "20", "50"], "encoding": ["direct", "rate"]}


def test_training_curves_are_means_with_sample_std(digest: Digest) -> None:
    records = [r for r in FIGURES["training"](digest).records if r["series"] == "lif" and "fashion" in r["panel"]]
    group = next(g for g in digest.principal if g.variant == "lif" and g["dataset"] == "fashion-mnist")
    curves = [[e["test_accuracy"] for e in digest.results.curves if e["key"] == row["key"]] for row in group.rows]
    assert [r["epoch"] for r in records] == [6, 7, 8, 9, 10]  # after Default's five
    assert [r["accuracy_mean"] for r in records] == pytest.approx(np.mean(curves, axis=0))
    assert [r["accuracy_std"] for r in records] == pytest.approx(np.std(curves, axis=0, ddof=1))


def test_transfer_and_scratch_stand_in_one_panel(digest: Digest) -> None:
    figure = FIGURES["transfer"](digest)
    assert len(figure.panels) == 1
    assert {r["series"] for r in figure.records} == {"scratch <5>", "transfer, 3 stages frozen <5>"}
    assert all(r["accuracy_std"] is None for r in figure.records if r["series"].startswith("scratch"))


def test_confusion_agrees_with_scikit_learn(digest: Digest) -> None:
    group = next(g for g in digest.groups if g.accuracy.n == 3)
    labels = digest.results.labels_of(group.rows[0])
    assert labels is not None
    expected = sum(confusion_matrix(labels, digest.results.predictions[row["key"]]) for row in group.rows)
    assert np.array_equal(confusion(group), expected)


def test_a_hundred_classes_become_an_image(invented: Any, tmp_path: Path) -> None:
    key = invented.run("default", 0, range(10))
    name = next(name for name in invented.arrays if name.startswith("labels-"))
    invented.arrays[name] = (np.arange(200) % 100).astype(np.uint8)
    del invented.arrays[name.replace("labels", "classes")]
    invented.arrays[key] = invented.arrays[name].copy()
    invented.arrays[key][:10] = 99
    panel = FIGURES["confusion"](Digest.of(load_results(invented.write(tmp_path / "results")), tmp_path)).panels[0]
    assert panel.drawing.count("<rect") == 0
    assert "data:image/png" in panel.drawing


def test_a_raster_has_a_dash_for_each_spike(digest: Digest) -> None:
    figure = FIGURES["traces"](digest)
    for panel, record in zip(figure.panels, figure.records, strict=True):
        root = ElementTree.fromstring(panel.drawing)
        raster = next(path.get("d") or "" for path in root.iter("path") if "h" in (path.get("d") or ""))
        assert raster.count("M") == np.sum(record["spikes"])


def test_robustness_bands_are_the_published_intervals_or_t_over_models(whole: Any, tmp_path: Path) -> None:
    variants = ("default", "snntorch-lif", "paralif-sb")
    for seed in range(3):
        runs = [next(r["run"] for r in whole.rows if (r["variant"], r["seed"], r["dataset"]) == (v, seed, "cifar10"))
                for v in variants]  # fmt: skip
        whole.attack(f"s{seed}", variants, unreliable="paralif-sb" if seed == 2 else "")
        for model, run in zip(whole.attacks[f"s{seed}"]["models"], runs, strict=True):
            model["run"] = f"studies/quick/runs/{run}"
            model["clean"] = {"accuracy": 0.9 + 0.01 * seed, "interval": [0.8, 0.95]}
    digest = Digest.of(load_results(whole.write(tmp_path / "results")), tmp_path)
    alone, together = attacked(digest)  # "linf" has runs that no row describes
    assert (alone.labels, together.labels) == (["linf"], ["s0", "s1", "s2"])
    assert [(s.name, len(s.models), s.failed) for s in together.series] == [
        ("Default", 3, []), ("snntorch-lif", 3, []), ("paralif-sb", 3, ["T09"])
    ]  # fmt: skip
    found = together.series[0].at(0)
    assert found is not None
    half = stats.t.ppf(0.975, 2) * 0.01 / 3**0.5
    assert (found[0].mean, found[0].std, found[0].high) == pytest.approx((0.91, 0.01, 0.91 + half))
    one = alone.series[0].at(0)
    assert one is not None
    assert (one[0].std, one[0].low, one[0].high) == (None, 0.86, 0.93)
    drawing = FIGURES["robustness"](digest).panels[1].drawing
    assert "snntorch-lif (n = 3)" in drawing
    assert "paralif-sb (n = 3) ✗" in drawing


def test_all_else_is_equal_in_a_panel_of_a_sweep(invented: Any, tmp_path: Path) -> None:
    invented.run("default", 0, range(20))
    for steps in (2, 4, 8):
        invented.run("lif", 0, range(20 + steps), num_steps=steps)
        invented.run("norse-lif", 0, range(20 + steps), num_steps=steps)
    for steps in (2, 4):
        invented.run("paralif-t", 0, range(30 + steps), num_steps=steps, train="decoder")
        invented.run("lif", 0, range(40 + steps), num_steps=steps, beta=0.5)
    digest = Digest.of(load_results(invented.write(tmp_path / "results")), tmp_path)
    panels: dict[str, set[str]] = {}
    for entry in FIGURES["sweeps"](digest).records:
        if entry["setting"] == "num_steps":
            panels.setdefault(entry["panel"], set()).add(entry["variant"])
    assert panels == {
        "cifar10 · resnet18 · 64 px · train head": {"lif", "norse-lif"},
        "cifar10 · resnet18 · 64 px · train decoder": {"paralif-t"},
    }


def test_a_control_without_spikes_has_no_spike_rate_and_no_raster(invented: Any, tmp_path: Path) -> None:
    """What its runs have in their place is the mean of its outputs."""
    invented.run("default", 0, range(20))
    for variant in ("lif", "relu"):
        invented.trace(invented.run(variant, 0, range(20)))
        invented.rows[-1]["test"]["spike_rates"] = [0.4]
    digest = Digest.of(load_results(invented.write(tmp_path / "results")), tmp_path)
    assert {group.variant: group.spike_rate for group in digest.groups} == {"default": None, "lif": 0.4, "relu": None}
    for name in ("traces", "spike-rate"):
        assert {entry["variant"] for entry in FIGURES[name](digest).records} == {"lif"}


def test_a_variant_looks_the_same_in_every_figure(digest: Digest) -> None:
    assert digest.style("default").colour == "var(--ink)"
    looks = {name: digest.style(name) for name in ("lif", "snntorch-lif", "norse-lifbox", "paralif-sb", "relu")}
    assert len(set(looks.values())) == 5
    for name in ("accuracy", "spike-rate", "training", "robustness"):
        drawing = FIGURES[name](digest).panels[0].drawing
        assert looks["snntorch-lif"].colour in drawing
