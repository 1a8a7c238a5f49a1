from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from resnet_spiking.errors import UserError
from resnet_spiking.reports.attacked import attacked
from resnet_spiking.reports.collection import load_collection
from resnet_spiking.reports.digest import Digest
from resnet_spiking.reports.groups import group_rows
from resnet_spiking.reports.results import load_results


@pytest.fixture
def collection(whole: Any, tmp_path: Path) -> Path:
    """Two studies side by side: ``first``, and ``second`` with two more seeds and an attack on one of them."""
    whole.write(tmp_path / "results" / "first")
    second = type(whole)(name="later")
    for seed, wrong in ((7, range(10)), (8, range(20))):
        second.run("default", seed, wrong)
        second.run("lif", seed, range(30))
    second.attack("later", ("default", "lif"))
    second.write(tmp_path / "results" / "second")
    return tmp_path / "results"


def test_one_study_is_read_as_it_is(published: Path) -> None:
    for path in (published, published.parent):
        read = load_collection(path)
        assert (read.folder, read.rows, read.command) == (published, *_of(published))


def _of(folder: Path) -> tuple[list[dict[str, Any]], str]:
    alone = load_results(folder)
    return alone.rows, alone.command


def test_seeds_of_two_studies_stand_in_one_row_paired_with_their_own_default(collection: Path) -> None:
    first, second, both = (load_collection(path) for path in (collection / "first", collection / "second", collection))
    assert both.folder == collection
    assert both.name == "invented, later"
    assert len(both.rows) == len(first.rows) + len(second.rows)
    assert set(both.attacks) == {"linf", "later"}
    assert {**first.predictions, **second.predictions}.keys() == both.predictions.keys()

    def lif(results: Any) -> Any:
        wanted = ("lif", "cifar10", 20, "direct")
        names = ("variant", "dataset", "num_steps", "encoding")
        return next(group for group in group_rows(results) if tuple(group[name] for name in names) == wanted)

    together = lif(both)
    assert together.accuracy.n == lif(first).accuracy.n + lif(second).accuracy.n == 5
    # By hand: of 200 images, Default gets 10 or 20 wrong, lif 30, of which the first ones are the same.
    assert lif(second).difference == pytest.approx(((170 - 190) + (170 - 180)) / 2 / 200)
    assert together.difference == pytest.approx((3 * lif(first).difference + 2 * lif(second).difference) / 5)


def test_what_two_studies_hold_is_counted_once_or_not_at_all(collection: Path) -> None:
    shutil.copytree(collection / "second", collection / "third")
    with pytest.raises(UserError) as stopped:
        load_collection(collection)
    message = str(stopped.value)
    assert "\n" not in message
    assert str(collection / "second") in message
    assert str(collection / "third") in message


def test_one_study_on_two_machines_that_compute_in_other_precisions_is_two(whole: Any, tmp_path: Path) -> None:
    wrong = {"fp32": 10, "bf16": 40}
    for precision, count in wrong.items():
        study = type(whole)(name=precision)
        for variant in ("default", "lif"):
            study.run(variant, 0, range(count), precision="auto")
        for row in study.rows:
            row["config"]["precision"] = precision
        study.write(tmp_path / precision)
    alone = {precision: load_results(tmp_path / precision) for precision in wrong}
    assert [row["key"] for row in alone["bf16"].rows] == [row["key"] for row in alone["fp32"].rows]
    both = load_collection(tmp_path)
    assert len({row["key"] for row in both.rows}) == 4
    for row in both.rows:
        correct = both.correct(row)
        assert correct is not None
        assert (~correct).sum() == wrong[row["config"]["precision"]]
    for name in ("predictions", "traces"):
        assert getattr(both, name).keys() <= {row["key"] for row in both.rows}
    assert {record["key"] for record in both.curves} <= {row["key"] for row in both.rows}
    assert len(both.curves) == sum(len(part.curves) for part in alone.values())
    assert {group.accuracy.n for group in group_rows(both)} == {1}


def test_an_attack_belongs_to_a_run_of_its_own_study(whole: Any, tmp_path: Path) -> None:
    """One study on two machines: the runs have the same names, and only the second machine attacked."""
    for precision, count in {"bf16": 10, "fp32": 40}.items():
        study = type(whole)(name=precision)
        for variant in ("default", "lif"):
            study.run(variant, 0, range(count), precision="auto")
        for row in study.rows:
            row["config"]["precision"] = precision
        if precision == "bf16":
            study.attack("linf", ("default", "lif", "relu"))
            for model, row in zip(study.attacks["linf"]["models"], study.rows, strict=False):
                model["run"] = f"runs/{row['run']}"
        study.write(tmp_path / precision)
    (tmp_path / "bf16").rename(tmp_path / "z-bf16")  # a folder's place among the others says nothing
    for later in (True, False):
        if not later:
            (tmp_path / "z-bf16").rename(tmp_path / "a-bf16")
        digest = Digest.of(load_collection(tmp_path), tmp_path)
        (entry,) = attacked(digest)
        assert "precision bf16" in entry.title
        found = [digest.by_key.get(model["key"]) for series in entry.series for model in series.models]
        assert [group and (group.variant, group["precision"]) for group in found] == [
            ("default", "bf16"), ("lif", "bf16"), None
        ]  # fmt: skip


def test_an_attack_of_a_run_that_its_study_does_not_hold_stands_for_itself(collection: Path, whole: Any) -> None:
    other = type(whole)(name="other")
    other.run("default", 3, range(5))
    other.attack("elsewhere", ("default",))
    other.attacks["elsewhere"]["models"][0]["run"] = f"runs/{whole.rows[0]['run']}"
    other.write(collection / "third")
    digest = Digest.of(load_collection(collection), collection)
    assert next(entry.title for entry in attacked(digest) if "elsewhere" in entry.labels) == "elsewhere"


def test_a_damaged_part_is_refused(collection: Path) -> None:
    (collection / "second" / "curves.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match=r"second.*sha256"):
        load_collection(collection)


def test_no_results_is_said_as_for_one_study(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=r"manifest\.json is missing"):
        load_collection(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        load_collection(tmp_path / "absent")
