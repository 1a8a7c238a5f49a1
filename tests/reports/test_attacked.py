from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resnet_spiking.reports.attacked import attacked
from resnet_spiking.reports.digest import Digest
from resnet_spiking.reports.readme import KINDS, render
from resnet_spiking.reports.request import parse_request
from resnet_spiking.reports.results import load_results
from resnet_spiking.reports.tables.attacks import robustness_table


def digest_of(made: Any, folder: Path) -> Digest:
    return Digest.of(load_results(made.write(folder)), folder)


def attack(made: Any, label: str, *runs: tuple[str, int]) -> list[dict[str, Any]]:
    """Attack the first runs of these variants and seeds (of the head, where it has one); return the models."""
    made.attack(label, [variant for variant, _ in runs])
    models: list[dict[str, Any]] = made.attacks[label]["models"]
    for model, wanted in zip(models, runs, strict=True):
        run = next(row["run"] for row in made.rows if (row["variant"], row["seed"]) == wanted)
        model["run"] = f"runs/{run}"
    return models


def shown(digest: Digest) -> list[list[str]]:
    (entry,) = attacked(digest)
    table = robustness_table(entry)
    kept = [index for index, column in enumerate(table.columns) if column.name in ("model", "n", "clean")]
    return [[row[index].text for index in kept] for row in table.rows]


@pytest.fixture
def heads(invented: Any) -> Any:
    """One Default, and two heads of two neurons on it."""
    invented.run("default", 0, range(20))
    for variant in ("lif", "relu"):
        for seed in (1, 2):
            key = invented.run(variant, 0, range(20 + seed), head_seed=seed)
            next(row for row in invented.rows if row["key"] == key)["seed"] = seed
    return invented


def test_a_default_that_two_attacks_share_is_one_network(heads: Any, tmp_path: Path) -> None:
    """Two [[attack]] blocks with other neurons each."""
    attack(heads, "one", ("default", 0), ("lif", 1))
    attack(heads, "two", ("default", 0), ("relu", 1))
    digest = digest_of(heads, tmp_path / "results")
    assert shown(digest) == [[name, "90.0 % [86.0, 93.0]"] for name in ("Default", "lif", "relu")]
    (entry,) = attacked(digest)
    assert entry.labels == ["one", "two"]
    records = [record for record in robustness_table(entry).records if record["eps"] == 0]
    assert [(record["result"], record["variant"]) for record in records] == [
        ("one", "default"), ("one", "lif"), ("two", "relu")
    ]  # fmt: skip


def test_heads_of_several_seeds_stand_beside_one_default(heads: Any, tmp_path: Path) -> None:
    """``default_seed = 0`` with ``seeds = [1, 2]``."""
    for seed, accuracy in ((1, 0.88), (2, 0.92)):
        models = attack(heads, f"s{seed}", ("default", 0), ("lif", seed))
        models[1]["clean"] = {"accuracy": accuracy, "interval": [0.8, 0.95]}
    assert shown(digest_of(heads, tmp_path / "results")) == [
        ["Default", "1", "90.0 % [86.0, 93.0]"],
        ["lif", "2", "90.00 ± 2.83 %"],
    ]


@pytest.mark.parametrize("what", ["robust", "clean", "trust", "norm"])
def test_evaluations_of_one_network_that_differ_are_no_two_seeds(heads: Any, tmp_path: Path, what: str) -> None:
    attack(heads, "one", ("default", 0), ("lif", 1))
    default = attack(heads, "two", ("default", 0), ("lif", 2))[0]
    if what == "robust":
        default["robust"][-1]["accuracy"] = 0.01
    elif what == "clean":
        default["clean"]["accuracy"] = 0.89
    elif what == "trust":
        default["unreliable"] = ["T09"]
    else:
        default["minimum_norm"]["median"] = 0.1
    rows = shown(digest_of(heads, tmp_path / "results"))
    assert [row[:2] for row in rows] == [["Default (one)", "1"], ["Default (two)", "1"], ["lif", "2"]]
    assert rows[0][2] == "90.0 % [86.0, 93.0]"


def test_two_runs_of_one_network_are_one(invented: Any, tmp_path: Path) -> None:
    for flip in (None, False):
        invented.run("default", 0, range(20), "digits", flip=flip)
    for label, row in zip(("one", "two"), invented.rows, strict=True):
        row["hashes"]["model"] = "same"
        invented.attack(label, ["default"])
        invented.attacks[label]["models"][0]["run"] = f"runs/{row['run']}"
    assert shown(digest_of(invented, tmp_path / "results")) == [["Default", "90.0 % [86.0, 93.0]"]]


def test_models_that_no_row_describes_stand_for_themselves(heads: Any, tmp_path: Path) -> None:
    for label in ("one", "two"):
        models = attack(heads, label, ("default", 0), ("lif", 1))
        models[1]["run"] = f"runs/gone-{label}"
    rows = shown(digest_of(heads, tmp_path / "results"))
    assert [row[0] for row in rows] == ["Default", "lif (one)", "lif (two)"]


def test_labels_and_datasets_are_found_by_their_own_names(invented: Any, tmp_path: Path) -> None:
    """``[1]`` in a pattern stands for ``1``."""
    invented.run("default", 0, range(20), "pictures")
    invented.rows[0]["dataset"] = "pictures[1]"
    attack(invented, "linf[1]", ("default", 0))
    digest = digest_of(invented, tmp_path / "results")
    for request in ("robustness result=linf[1]", "robustness dataset=pictures[1]", "trust result=linf[1]"):
        assert "Default" in render(parse_request(request, KINDS), digest)
    assert "90.00 %" in render(parse_request("accuracy dataset=pictures[1]", KINDS), digest)
