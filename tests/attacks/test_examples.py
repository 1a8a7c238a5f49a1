from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from resnet_spiking.attacks.examples import BROKEN, NOT_TRIED, SURVIVED, Examples
from resnet_spiking.attacks.figures import figures_of, paired, trap
from resnet_spiking.errors import UserError
from resnet_spiking.proportions import mcnemar, wilson
from resnet_spiking.storage.arrays import load_arrays, save_arrays


def made_by_hand() -> Examples:
    """Five images, two radii, attacks fmn, fgsm (on everything) and square: image 4 is a clean error."""
    tried = np.full((2, 3, 5), NOT_TRIED, np.int8)
    tried[0, 0] = [BROKEN, SURVIVED, SURVIVED, SURVIVED, NOT_TRIED]
    tried[1, 0] = [BROKEN, BROKEN, SURVIVED, SURVIVED, NOT_TRIED]
    tried[:, 1, :4] = SURVIVED
    tried[1, 1, 0] = BROKEN
    tried[1, 2] = [NOT_TRIED, NOT_TRIED, BROKEN, SURVIVED, NOT_TRIED]
    images = np.arange(5 * 12, dtype=np.uint8).reshape(5, 3, 2, 2)
    adversarial = images.astype(np.float32) / np.float32(255)
    adversarial[0, 0, 0, 0] += 0.01
    adversarial[1] += 0.02
    adversarial[2, 1, 1, 1] += 0.025
    return Examples(
        norm="linf",
        eps=np.array([0.01, 0.03]),
        stages=np.array(["fmn", "fgsm", "square"]),
        images=images,
        index=np.arange(5),
        label=np.array([0, 1, 2, 0, 1]),
        clean_prediction=np.array([0, 1, 2, 0, 0]),
        clean_correct=np.array([True, True, True, True, False]),
        broken=np.array([0, 1, 1, 2, 2]),
        broken_by=np.array([0, 0, 2, -1, -1]),
        adversarial=adversarial,
        margin=np.array([0.1, 0.2, 0.3, -0.4, 0.5], np.float32),
        steps=np.array([0, 0, 7, 0, 0]),
        minimum_norm=np.array([0.01, 0.02, np.inf, np.inf, np.inf]),
        tried=tried,
    )


def test_figures_by_hand() -> None:
    found = figures_of(made_by_hand())
    assert found["clean"] == {"accuracy": 0.8, "interval": list(wilson(4, 5))}
    small, large = found["robust"]
    assert (small["eps"], small["accuracy"], large["accuracy"]) == (0.01, 0.6, 0.2)
    assert small["interval"] == list(wilson(3, 5))
    assert small["attacks"] == {
        "fmn": {"accuracy": 0.75, "tried": 4, "overall": 0.6},
        "fgsm": {"accuracy": 1.0, "tried": 4, "overall": 0.8},
    }
    assert large["attacks"]["square"] == {"accuracy": 0.5, "tried": 2}
    assert found["minimum_norm"] == {"attack": "fmn", "median": None, "found": 2, "of": 4}


def test_the_trap_is_what_the_literature_would_have_said() -> None:
    small, large = trap(figures_of(made_by_hand()))
    assert small == {"eps": 0.01, "fgsm": 0.8, "bundle": 0.6, "overstated": pytest.approx(0.2)}
    assert (large["fgsm"], large["bundle"]) == (0.6, 0.2)


def test_pairing_counts_the_images_on_which_two_models_differ() -> None:
    mine, default = made_by_hand(), made_by_hand()
    default.broken = np.array([2, 0, 0, 0, 2])
    small, large = paired(mine, default)
    assert (small["better"], small["worse"], small["p"]) == (3, 1, mcnemar(3, 1))
    assert (large["better"], large["worse"], large["p"]) == (1, 1, 1.0)


def test_a_table_without_attacks_has_no_minimum_norm() -> None:
    table = made_by_hand()
    table.minimum_norm[:] = np.inf
    assert "minimum_norm" not in figures_of(table)


def test_distances_are_those_of_the_kept_images() -> None:
    table = made_by_hand()
    assert table.distance("linf") == pytest.approx([0.01, 0.02, 0.025, 0, 0], abs=1e-7)
    assert table.distance("l2")[1] == pytest.approx(0.02 * np.sqrt(12), abs=1e-6)
    assert table.smallest_eps.tolist() == [0.01, 0.03, 0.03, np.inf, np.inf]


def test_storing_loses_no_bit(tmp_path: Path) -> None:
    table = made_by_hand()
    table.save(tmp_path / "a.npz")
    again = Examples.load(tmp_path / "a.npz")
    again.save(tmp_path / "b.npz")
    for field in fields(Examples):
        stored, kept = np.asarray(getattr(again, field.name)), np.asarray(getattr(table, field.name))
        assert stored.tobytes() == kept.tobytes(), field.name
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_damaged_or_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing or damaged"):
        Examples.load(tmp_path / "absent.npz")
    made_by_hand().save(tmp_path / "a.npz")
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[:1000])
    with pytest.raises(UserError, match=r"a\.npz is missing or damaged"):
        Examples.load(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("label", np.zeros(4, np.int64), r"label is int64 \[4\]"),
        ("label", np.array(["0"] * 5), r"label is <U1 \[5\]"),
        ("adversarial", np.zeros((5, 3, 2, 2)), r"adversarial is float64 \[5, 3, 2, 2\]"),
        ("images", np.array(3, np.uint8), r"images is uint8 \[\]"),
        ("stages", np.array(["fmn"]), r"tried is int8 \[2, 3, 5\]"),
        ("broken", np.full(5, 9), r"broken has values outside 0\.\.2"),
        ("broken_by", np.full(5, 3), r"broken_by has values outside -1\.\.2"),
    ],
)
def test_a_table_that_no_attack_wrote_is_refused(tmp_path: Path, name: str, wrong: np.ndarray, said: str) -> None:
    table = made_by_hand()
    arrays = {field.name: np.asarray(getattr(table, field.name)) for field in fields(Examples)}
    np.savez(tmp_path / "a.npz", **{**arrays, name: wrong})
    with pytest.raises(UserError, match=rf"a\.npz is missing or damaged \({said}\)"):
        Examples.load(tmp_path / "a.npz")


@pytest.mark.parametrize(("place", "change"), [(8, 1), (10, 99)])
def test_arrays_whose_archive_asks_for_what_cannot_be_done_are_damaged(tmp_path: Path, place: int, change: int) -> None:
    path = tmp_path / "arrays.npz"
    save_arrays(path, {"a": np.arange(3)})
    found = bytearray(path.read_bytes())
    # Of the archive's directory: bit 0 of the flags is a password, an unknown number a method of compression.
    found[found.index(b"PK\x01\x02") + place] |= change
    path.write_bytes(found)
    with pytest.raises(ValueError, match=r"password|compression"):
        load_arrays(path)
