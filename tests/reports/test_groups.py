from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnet_spiking.data import cifar
from resnet_spiking.data.datasets import load_dataset
from resnet_spiking.data.names import DATASETS, MIRRORED
from resnet_spiking.errors import UserError
from resnet_spiking.reports.digest import Digest
from resnet_spiking.reports.readme import KINDS, render
from resnet_spiking.reports.request import parse_request
from resnet_spiking.reports.results import load_results
from resnet_spiking.reports.statistics import UNEVEN
from resnet_spiking.reports.tables.accuracy import accuracy_table
from resnet_spiking.reports.tables.matrix import matrix_table
from resnet_spiking.studies.export import changed_images


def digest_of(made: Any, folder: Path) -> Digest:
    return Digest.of(load_results(made.write(folder)), folder)


def shown(digest: Digest, *columns: str) -> list[list[str]]:
    return [[cell.text for cell in row] for row in accuracy_table(digest.groups, columns).rows]


def with_backbone(made: Any, key: str, sha256: str, *random: str) -> None:
    row = next(row for row in made.rows if row["key"] == key)
    row["hashes"]["backbone"] = {"weights": Path(row["weights"]).name, "sha256": sha256, "random": list(random)}
    row["weights"] = Path(row["weights"]).name


def write_idx(path: Path, array: np.ndarray[Any, Any]) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def test_the_table_of_mirrored_datasets_says_what_the_loaders_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Loader:
        filename = "none"
        data, targets, classes = np.zeros((2, 32, 32, 3), np.uint8), (0, 1), ("a", "b")

        def __init__(self, *_: object, **__: object) -> None: ...

    monkeypatch.setattr(cifar, "LOADERS", dict.fromkeys(cifar.LOADERS, Loader))
    for stem in ("train", "t10k"):
        write_idx(tmp_path / f"{stem}-images-idx3-ubyte.gz", np.zeros((2, 28, 28), np.uint8))
        write_idx(tmp_path / f"{stem}-labels-idx1-ubyte.gz", np.arange(2, dtype=np.uint8))
        for label in "ab":
            place = tmp_path / ("train" if stem == "train" else "test") / label
            place.mkdir(parents=True)
            Image.new("RGB", (4, 4)).save(place / "0.png")
    assert {name for name in DATASETS if load_dataset(name, tmp_path, download=False).flip} == set(MIRRORED)


def test_a_flip_that_is_the_datasets_own_is_no_setting_of_its_own(invented: Any, tmp_path: Path) -> None:
    """Two grids but for ``flip = false`` on the digits: four runs of two networks, as a study publishes them."""
    for flip in (None, False):
        invented.run("default", 0, range(20), "digits")
        invented.run("lif", 0, range(30), "digits", flip=flip)
    for row in invented.rows:
        row["hashes"]["model"] = row["variant"]
    digest = digest_of(invented, tmp_path / "results")
    assert [(group.variant, group["flip"], len(group.keys)) for group in digest.groups] == [
        ("default", None, 2),
        ("lif", None, 2),
    ]
    lif = f"{2 / 2**10:.3f}"
    assert shown(digest, "variant", "n", "accuracy", "p") == [
        ["Default", "1", "90.00 %", "–"],
        ["lif", "1", "85.00 %", lif],
    ]
    assert digest.groups[1].networks == 1


def test_a_flip_against_the_datasets_own_is_another_network(invented: Any, tmp_path: Path) -> None:
    invented.run("default", 0, range(20), "digits")
    invented.run("default", 0, range(30), "digits", flip=True)
    invented.run("default", 0, range(20), "cifar10", flip=True)
    invented.run("default", 1, range(30), "cifar10")
    invented.run("default", 0, range(40), "cifar10", flip=False)
    digest = digest_of(invented, tmp_path / "results")
    assert sorted((g["dataset"], str(g["flip"]), g.accuracy.n) for g in digest.groups) == [
        ("cifar10", "False", 1), ("cifar10", "None", 2), ("digits", "None", 1), ("digits", "True", 1)
    ]  # fmt: skip


def test_two_trainings_of_one_seed_are_no_two_seeds(invented: Any, tmp_path: Path) -> None:
    first, second = (invented.run("default", 0, range(wrong)) for wrong in (20, 30))
    with pytest.raises(UserError, match="same settings and seeds and are different networks") as stopped:
        digest_of(invented, tmp_path / "results")
    assert all(key in str(stopped.value) for key in (first, second))


def test_a_heads_own_seed_counts_however_it_is_written(invented: Any, tmp_path: Path) -> None:
    invented.run("default", 0, range(20))
    keys = [invented.run("lif", 0, range(30), head_seed=head) for head in (None, 0, 1)]
    for row in invented.rows[1:3]:
        row["hashes"]["model"] = "one network"
    invented.rows[3]["seed"] = 1
    _, group = digest_of(invented, tmp_path / "results").groups
    assert group.accuracy.n == 2
    assert set(group.keys) == set(keys)
    invented.rows[2]["hashes"]["model"] = "another"
    with pytest.raises(UserError, match="are different networks"):
        digest_of(invented, tmp_path / "again")


def test_a_difference_from_another_default_is_refused(invented: Any, tmp_path: Path) -> None:
    invented.run("default", 0, range(20))
    invented.run("lif", 0, range(30))
    invented.rows[1]["default"]["accuracy"] = 0.7
    with pytest.raises(UserError, match=r"its Default has accuracy 0\.700000, and .* has 0\.900000"):
        digest_of(invented, tmp_path / "results")


def test_nothing_is_best_where_means_are_over_other_defaults(invented: Any, tmp_path: Path) -> None:
    """Default's first seed, on which the heads stand, is its best: the mean of three lies below the head's."""
    for seed, wrong in enumerate((20, 30, 40)):
        invented.run("default", seed, range(wrong))
    invented.run("lif", 0, range(24))
    digest = digest_of(invented, tmp_path / "results")
    table = accuracy_table(digest.groups, ("variant", "accuracy", "difference"))
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["Default", "85.00 ± 5.00 %", "–"],
        ["lif", "88.00 %", "−2.00"],
    ]
    matrix = matrix_table(digest.groups, ("dataset",), {})
    for made in (table, matrix):
        assert not any(cell.bold for row in made.rows for cell in row)
        assert UNEVEN in made.notes
    even = accuracy_table(digest_of(on_all_defaults(invented), tmp_path / "even").groups, ("variant", "accuracy"))
    assert [cell.bold for row in even.rows for cell in row] == [False, True, False, False]
    assert UNEVEN not in even.notes


def on_all_defaults(made: Any) -> Any:
    for seed, wrong in ((1, 34), (2, 44)):
        made.run("lif", seed, range(wrong))
    return made


def test_weights_may_lie_elsewhere(invented: Any, tmp_path: Path) -> None:
    for seed, folder in enumerate(("/one", "/other/place")):
        for variant, wrong in (("default", 20), ("lif", 30)):
            key = invented.run(variant, seed, range(wrong), weights=f"{folder}/encoder.safetensors")
            with_backbone(invented, key, "ab" * 32, "layer4")
    # The next head was trained after its Default, with the file at another place.
    row = invented.rows[-1]
    row["config"]["weights"] = "/third/encoder.safetensors"
    digest = digest_of(invented, tmp_path / "results")
    assert shown(digest, "variant", "weights", "n", "p") == [
        ["Default", "encoder.safetensors", "2", "–"],
        ["lif", "encoder.safetensors", "2", f"{2 / 2**10:.3f}"],
    ]
    assert {digest.network_title(group) for group in digest.groups} == {"cifar10 · resnet18 · 64 px"}


def test_other_weights_of_one_name_stay_apart_and_can_be_told(invented: Any, tmp_path: Path) -> None:
    hashes = [("ab" * 32, ()), ("cd" * 32, ()), ("cd" * 32, ("layer4",))]
    for number, (sha256, random) in enumerate(hashes):
        key = invented.run("default", 0, range(10 * (number + 1)), weights=f"/{number}/encoder.safetensors")
        with_backbone(invented, key, sha256, *random)
    # A hash is of the frozen stages: it differs where their number does, and the name says enough.
    key = invented.run("default", 0, range(40), weights="/0/encoder.safetensors", freeze_depth=2)
    with_backbone(invented, key, "ef" * 32)
    digest = digest_of(invented, tmp_path / "results")
    assert sorted(shown(digest, "weights", "n", "accuracy")) == [
        ["encoder.safetensors", "1", "80.00 %"],
        ["encoder.safetensors@abababab", "1", "95.00 %"],
        ["encoder.safetensors@cdcdcdcd", "1", "90.00 %"],
        ["encoder.safetensors@cdcdcdcd-layer4", "1", "85.00 %"],
    ]
    assert len({digest.network_title(group) for group in digest.groups}) == 4
    for wanted, n in (("encoder.safetensors", 4), ("encoder.safetensors@ab*", 1)):
        table = render(parse_request(f"accuracy weights={wanted} columns=accuracy", KINDS), digest)
        assert table.count(" % |") + table.count(" %** |") == n


def test_images_that_changed_under_one_name_stay_apart_and_can_be_told(invented: Any, tmp_path: Path) -> None:
    keys = [invented.run("default", seed, range(10), dataset="pictures") for seed in (0, 1)]
    invented.run("default", 0, range(20))
    (row,) = (row for row in invented.rows if row["key"] == keys[1])
    first, row["hashes"]["data"] = row["hashes"]["data"], "ab" * 32
    digest = digest_of(invented, tmp_path / "results")
    assert sorted(shown(digest, "dataset", "n")) == [
        ["cifar10", "1"],
        *sorted([["pictures@abababab", "1"], [f"pictures@{first[:8]}", "1"]]),
    ]
    for wanted, n in (("pictures", 2), ("pictures@ab*", 1)):
        table = render(parse_request(f"accuracy dataset={wanted} columns=accuracy", KINDS), digest)
        assert table.count(" % |") + table.count(" %** |") == n
    (line,) = changed_images(tmp_path / "results")
    assert line.startswith(
        "pictures: its images changed between runs, though neither their names nor their sizes did ("
    )
    assert "1 runs on abababab" in line


def test_random_weights_of_several_seeds_are_one_setting(invented: Any, tmp_path: Path) -> None:
    for seed in range(2):
        with_backbone(invented, invented.run("default", seed, range(20), weights="none"), f"{seed}" * 64)
    assert shown(digest_of(invented, tmp_path / "results"), "weights", "n") == [["none", "2"]]


def test_where_nothing_is_frozen_the_hash_says_nothing_and_the_path_decides(invented: Any, tmp_path: Path) -> None:
    for number in range(2):
        key = invented.run("default", 0, range(10 + number), weights=f"/{number}/e.safetensors", freeze_depth=0)
        with_backbone(invented, key, "ab" * 32)
    found = shown(digest_of(invented, tmp_path / "results"), "weights", "n")
    assert found == [["/0/e.safetensors", "1"], ["/1/e.safetensors", "1"]]
