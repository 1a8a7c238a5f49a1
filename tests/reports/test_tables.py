from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from resnet_spiking.errors import UserError
from resnet_spiking.reports.digest import Digest
from resnet_spiking.reports.readme import KINDS
from resnet_spiking.reports.request import parse_request
from resnet_spiking.reports.results import load_results
from resnet_spiking.reports.table import Table, to_csv, to_json
from resnet_spiking.reports.tables.accuracy import accuracy_table
from resnet_spiking.reports.tables.catalogue import make_tables, make_value


def digest_of(made: Any, folder: Path) -> Digest:
    return Digest.of(load_results(made.write(folder)), folder)


def tables(digest: Digest, request: str) -> list[Table]:
    return make_tables(digest, parse_request(request, KINDS))


@pytest.fixture
def known(invented: Any, tmp_path: Path) -> Digest:
    """Of 200 images Default gets 20, 24 and 22 wrong; ``lif`` 18, 26 and 28; ``relu``, of one seed, 30."""
    for seed, wrong in enumerate((20, 24, 22)):
        invented.run("default", seed, range(wrong))
    for seed, wrong in enumerate((18, 26, 28)):
        invented.run("lif", seed, range(wrong))
    invented.run("relu", 0, range(30))
    return digest_of(invented, tmp_path / "results")


def test_the_accuracy_table_by_hand(known: Digest) -> None:
    table = accuracy_table(known.groups, ("variant", "n", "accuracy", "difference", "p"))
    # Default: 90, 88, 89 %; lif: 91, 87, 86 %, mean 88, deviations 3, -1, -2, s = sqrt(14 / 2) = 2.6458.
    # Wrong images are the first ones, so both sides differ on: seed 0, images 18-19 (lif right); seed 1, 24-25
    # and seed 2, 22-27 (Default right): two images of +1, four of -1, two of -2, in sum -6. With random signs the six
    # of 1 give 6 in 1 of 64 cases and 2 or more in 22, the two of 2 give 4 in 1 of 4 and 0 in 2 of 4, so that
    # p = 2 (22 / 64 / 4 + 1 / 64 / 2) = 12 / 64.
    # relu differs from Default's seed 0 on images 20-29: p = 2 / 2**10.
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["Default", "3", "89.00 ± 1.00 %", "–", "–"],
        ["lif", "3", "88.00 ± 2.65 %", "−1.00", f"{12 / 64:.3f}"],
        ["relu", "1", "85.00 %", "−5.00", f"{2 / 2**10:.3f}"],
    ]
    assert not any(row[2].bold for row in table.rows)  # relu has no seeds 1 and 2
    both = accuracy_table(known.groups[:2], ("variant", "n", "accuracy", "difference", "p"))
    assert [row[2].bold for row in both.rows] == [True, False]
    assert "| **89.00 ± 1.00 %** |" in both.markdown()
    assert any("sample standard deviation" in note for note in table.notes)


def test_training_accuracy_is_that_of_the_last_epoch_of_its_own_phase(invented: Any, tmp_path: Path) -> None:
    for seed in range(2):
        invented.run("default", seed, range(20))
        invented.run("lif", seed, range(10))
    invented.run("relu", 0, range(30))
    ends = {("default", 0): 0.9, ("default", 1): 0.8, ("lif", 0): 0.5, ("lif", 1): 0.4}
    for row in invented.rows:
        for record in invented.curves:
            end = ends.get((row["variant"], row["seed"]))
            if record["key"] == row["key"] and end is not None:
                record["train_accuracy"] = end - 0.1 * (4 - record["epoch"])
        if row["variant"] == "lif":
            # A branch's metrics may begin with those of its Default.
            other = {"phase": "default", "epoch": 9, "train_loss": 0.0, "train_accuracy": 1.0}
            invented.curves.insert(0, {"key": row["key"], **other})
    invented.curves = [record for record in invented.curves if record["key"] != invented.rows[-1]["key"]]
    table = accuracy_table(digest_of(invented, tmp_path / "results").groups, ("variant", "train_accuracy"))
    texts = [[cell.text for cell in row] for row in table.rows]
    assert texts == [["Default", "85.0 %"], ["lif", "45.0 %"], ["relu", "–"]]


def test_a_setting_that_is_off_is_asked_for_as_none(invented: Any, tmp_path: Path) -> None:
    invented.run("default", 0, range(20))
    invented.run("lif", 0, range(10))
    invented.run("lif", 0, range(5), alpha=0.8)
    digest = digest_of(invented, tmp_path / "results")
    for alpha, accuracy in (("none", "95.00 %"), ("0.8", "97.50 %")):
        assert make_value(digest, parse_request(f"value column=accuracy variant=lif alpha={alpha}", KINDS)) == accuracy


def test_pairs_by_hand(known: Digest) -> None:
    """``lif`` gets 18, 26 and 28 of 200 images wrong, ``relu`` 30 in the one seed they share, always the first ones."""
    (table,) = tables(known, "pairs")
    # Seed 0: 12 images (18-29) on which only lif is right; both name the same class on the others.
    row = ["lif", "relu", "1", "+6.00", "–", "94.00 %", "0 of 1", f"{2 / 2**12:.3f}".replace("0.000", "< 0.001")]
    assert [[cell.text for cell in found] for found in table.rows] == [row]


def test_pairs_over_seeds(invented: Any, tmp_path: Path) -> None:
    """A neuron against its twin, which answers alike in two seeds of three, and against another."""
    wrong = {"lif": (20, 24, 22), "snntorch-lif": (20, 24, 23), "norse-lifbox": (10, 20, 12)}
    for seed in range(3):
        invented.run("default", seed, range(10))
    for seed in range(3):
        for name, counts in wrong.items():
            invented.run(name, seed, range(counts[seed]))
    digest = digest_of(invented, tmp_path / "results")
    (table,) = tables(digest, "pairs against=lif")
    found = {(record["first"], record["second"]): record for record in table.records}
    assert set(found) == {("lif", "snntorch-lif"), ("lif", "norse-lifbox")}
    twin, other = found["lif", "snntorch-lif"], found["lif", "norse-lifbox"]
    assert (twin["n"], twin["identical"], twin["better"], twin["worse"]) == (3, 2, 1, 0)
    assert twin["agreement"] == pytest.approx((1 + 1 + 199 / 200) / 3)
    gains = np.array([-10, -4, -10]) / 200
    low, high = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    assert other["difference"] == pytest.approx(gains.mean())
    assert (other["difference"] - other["half_interval"], other["difference"] + other["half_interval"]) == (
        pytest.approx(low),
        pytest.approx(high),
    )
    assert other["p"] == pytest.approx(stats.binomtest(0, other["worse"]).pvalue)
    with pytest.raises(UserError, match="no two of these groups"):
        tables(digest, "pairs variant=lif")


def test_records_carry_the_interval_in_full_precision(known: Digest) -> None:
    default, lif, relu = accuracy_table(known.groups).records
    half = stats.t.ppf(0.975, 2) * np.std([0.91, 0.87, 0.86], ddof=1) / np.sqrt(3)
    assert (lif["accuracy_low"], lif["accuracy_high"]) == (pytest.approx(0.88 - half), pytest.approx(0.88 + half))
    assert relu["accuracy_std"] is None
    wilson = stats.binomtest(170, 200).proportion_ci(0.95, "wilson")
    assert (relu["accuracy_low"], relu["accuracy_high"]) == (pytest.approx(wilson.low), pytest.approx(wilson.high))
    assert default["seeds"] == [0, 1, 2]
    assert (lif["better"], lif["worse"]) == (2, 6)


def test_heads_on_one_default_are_said_to_stand_on_one(invented: Any, tmp_path: Path) -> None:
    invented.run("default", 0, range(10))
    keys = [invented.run("lif", 0, range(9 + i)) for i in range(3)]
    for number, key in enumerate(keys):
        row = next(row for row in invented.rows if row["key"] == key)
        row["config"]["head_seed"] = row["seed"] = number
    digest = digest_of(invented, tmp_path / "results")
    lif = accuracy_table(digest.groups, ("n",)).rows[1]
    assert lif[0].text == "3 (1)"


def test_what_every_row_shares_stands_above_the_table(whole: Any, tmp_path: Path) -> None:
    table = accuracy_table(digest_of(whole, tmp_path / "results").groups)
    names = [column.name for column in table.columns]
    assert "backbone" not in names
    assert "backbone resnet18" in table.common
    assert {"dataset", "weights", "num_steps", "encoding", "variant"} <= set(names)


def test_settings_without_a_column_appear_where_they_are_unusual(invented: Any, tmp_path: Path) -> None:
    for seed in (0, 1):
        invented.run("default", seed, range(10))
        invented.run("lif", seed, range(9))
    invented.run("lif", 0, range(9), beta=0.5, surrogate="triangle")
    table = accuracy_table(digest_of(invented, tmp_path / "results").groups)
    index = [column.name for column in table.columns].index("settings")
    assert sorted(row[index].text for row in table.rows) == ["beta=0.5, surrogate=triangle", "–", "–"]
    assert "Unless said otherwise: beta=0.9, surrogate=atan." in table.common


def test_csv_and_json_say_what_the_records_say(whole: Any, tmp_path: Path) -> None:
    records = accuracy_table(digest_of(whole, tmp_path / "results").groups).records
    read = list(csv.DictReader(io.StringIO(to_csv(records))))
    assert [float(row["accuracy_mean"]) for row in read] == [record["accuracy_mean"] for record in records]
    assert read[0]["seeds"] == json.dumps(records[0]["seeds"])
    assert json.loads(to_json(records)) == records
    assert json.loads(to_json([{"loss": float("nan"), "list": [float("inf")]}])) == [{"loss": None, "list": [None]}]


def test_parquet_reads_back(whole: Any, tmp_path: Path) -> None:
    from pyarrow import parquet

    from resnet_spiking.reports.write import write_report

    digest = digest_of(whole, tmp_path / "results")
    write_report(digest, tmp_path / "report", parquet=True)
    read = parquet.read_table(tmp_path / "report" / "tables" / "accuracy.parquet").to_pylist()
    assert [row["accuracy_mean"] for row in read] == [group.accuracy.mean for group in digest.groups]
    assert parquet.read_table(tmp_path / "report" / "tables" / "runs.parquet").num_rows == len(digest.results.rows)


def test_matrix(whole: Any, tmp_path: Path) -> None:
    digest = digest_of(whole, tmp_path / "results")
    request = (
        "matrix weights=imagenet num_steps=20 encoding=direct dataset=cifar10,fashion-mnist,cifar100 backbone=resnet18"
    )
    (table,) = tables(digest, f"{request} fill='python -m resnet_spiking.study --preset seed-table'")
    assert [column.heading for column in table.columns] == [
        "variant", "cifar10, resnet18", "fashion-mnist, resnet18", "cifar100, resnet18"
    ]  # fmt: skip
    lif = next(row for row in table.rows if row[0].text == "lif")
    found = next(g for g in digest.groups if g.variant == "lif" and g["dataset"] == "cifar10" and g.accuracy.n == 3)
    assert lif[1].text == f"{100 * found.accuracy.mean:.2f} ± {100 * (found.accuracy.std or 0):.2f} % <5,5> (3)"
    assert lif[3].text == "–"
    assert "`python -m resnet_spiking.study --preset seed-table` fills it" in table.notes[-1]
    assert sum(row[1].bold for row in table.rows) >= 1
    with pytest.raises(UserError, match=r"two results for lif.*name one of them"):
        tables(digest, "matrix weights=imagenet")


def test_robustness_never_prefers_what_failed_a_check(whole: Any, tmp_path: Path) -> None:
    (table,) = tables(digest_of(whole, tmp_path / "results"), "robustness")
    rows = {row[0].text: row for row in table.rows}
    assert rows["paralif-sb"][2].value > rows["snntorch-lif"][2].value  # type: ignore[operator]
    assert not rows["paralif-sb"][2].bold
    assert rows["snntorch-lif"][2].bold
    assert rows["paralif-sb"][-1].text == "✗ UNRELIABLE: T09"
    assert any("upper bound" in note for note in table.notes)


def test_attack_results_are_asked_for_by_label_or_dataset(whole: Any, tmp_path: Path) -> None:
    digest = digest_of(whole, tmp_path / "results")
    assert len(tables(digest, "robustness result=lin* dataset=cifar10")) == 1
    with pytest.raises(UserError, match=r"no attack result 'linff' .did you mean 'linf'"):
        tables(digest, "robustness result=linff")
    with pytest.raises(UserError, match="matches no attack result"):
        tables(digest, "robustness dataset=fashion-mnist")


def test_trust_has_symbol_word_and_state(whole: Any, tmp_path: Path) -> None:
    (table,) = tables(digest_of(whole, tmp_path / "results"), "trust result=linf")
    assert [column.heading for column in table.columns] == [
        "check", "passes at", "Default", "snntorch-lif", "paralif-sb"
    ]  # fmt: skip
    paralif = {row[0].text: row[4] for row in table.rows}
    assert (paralif["verdict"].text, paralif["verdict"].state) == ("✗ UNRELIABLE: T09", "bad")
    assert (paralif["T01 clean replay"].text, paralif["T01 clean replay"].state) == ("✓ passed: 0.1", "good")
    assert (paralif["T09 zero gradient"].text, paralif["T09 zero gradient"].state) == ("✗ failed: 0.1", "bad")
    assert (paralif["T16 randomness"].text, paralif["T16 randomness"].state) == ("○ not applicable", "none")
    assert [row[2].text for row in table.rows[:3]] == ["✓ reliable", "✓ passed: 0.1", "✓ passed: 0.1"]


def test_attacked_data_have_the_name_that_rows_give_them(whole: Any, tmp_path: Path) -> None:
    attacked = whole.attacks["linf"]
    attacked["dataset"] = "folder"
    attacked["models"][0]["run"] = f"somewhere/{whole.rows[0]['run']}"
    digest = digest_of(whole, tmp_path / "results")
    for kind in ("trust", "trap"):
        (table,) = tables(digest, f"{kind} result=linf")
        assert table.common == "cifar10, 200 test images, linf, bundle standard."


def test_a_table_says_on_which_device_models_were_attacked(whole: Any, tmp_path: Path) -> None:
    """Where every result says so: those from before it was recorded don't."""
    models = whole.attacks["linf"]["models"]
    for model, devices in zip(models, (["cpu"], ["NVIDIA H200"], ["NVIDIA H200", "cpu"]), strict=True):
        (table,) = tables(digest_of(whole, tmp_path / f"without-{model['name']}"), "robustness result=linf")
        assert not any("attacked on" in note for note in table.notes)
        model["devices"] = devices
    (table,) = tables(digest_of(whole, tmp_path / "with"), "robustness result=linf")
    assert (
        table.notes[-1]
        == "Models were attacked on cpu (Default); NVIDIA H200 (snntorch-lif); NVIDIA H200 and cpu (paralif-sb)."
    )
    for model in models:
        model["devices"] = ["cpu"]
    (table,) = tables(digest_of(whole, tmp_path / "same"), "robustness result=linf")
    assert table.notes[-1] == "Models were attacked on cpu."


def test_weak_attacks_beside_the_bundle(whole: Any, tmp_path: Path) -> None:
    for model, gap in zip(whole.attacks["linf"]["models"], (0.1, 0.2, 0.3), strict=True):
        model["trap"] = [
            {"eps": eps, "fgsm": bundle + 2 * gap, "pgd-10": bundle + gap, "bundle": bundle, "overstated": gap}
            for eps, bundle in ((0.5 / 255, 0.25), (1 / 255, 0.125))
        ]
    (table,) = tables(digest_of(whole, tmp_path / "results"), "trap result=linf")
    assert [column.heading for column in table.columns[:5]] == [
        "model", "FGSM at 0.5/255", "PGD-10 at 0.5/255", "bundle at 0.5/255", "FGSM at 1/255",
    ]  # fmt: skip
    assert [cell.text for cell in table.rows[1][:7]] == [
        "snntorch-lif", "65.0 %", "45.0 %", "25.0 %", "52.5 %", "32.5 %", "12.5 %",
    ]  # fmt: skip
    assert [cell.bold for cell in table.rows[1][:4]] == [False, False, False, True]
    assert table.rows[0][7].text == "–"  # no such figure at 2/255
    assert table.records[0]["overstated"] == 0.1


def test_one_value_for_a_sentence(known: Digest) -> None:
    assert make_value(known, parse_request("value column=accuracy variant=relu", KINDS)) == "85.00 %"
    with pytest.raises(UserError, match="matches 3 rows"):
        make_value(known, parse_request("value column=accuracy", KINDS))


@pytest.mark.parametrize(
    ("request_text", "expected"),
    [
        ("acuracy", "did you mean 'accuracy'"),
        ("accuracy datset=cifar10", "did you mean 'dataset'"),
        ("accuracy dataset=mnist", "matches no row"),
        ("accuracy columns=acuracy", "did you mean 'accuracy'"),
        ("accuracy dataset", "name=value"),
        ("accuracy dataset=a dataset=b", "once"),
        ("accuracy 'dataset=a", "malformed"),
        ("matrix across=datset", "did you mean 'dataset'"),
        ("robustness", "has no attack results"),
        ("scaling axis=T", "no scaling.csv"),
        ("scaling dataset=cifar10", "scaling takes axis"),
    ],
)
def test_bad_requests_are_refused_with_what_is_accepted(known: Digest, request_text: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        tables(known, request_text)
