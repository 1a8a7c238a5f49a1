from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spiking.errors import UserError
from resnet_spiking.reports.results import load_results


def test_a_study_folder_and_its_results_folder_read_the_same(published: Path) -> None:
    one, other = load_results(published), load_results(published.parent)
    assert one.folder == other.folder == published
    assert len(one.rows) == len({row["key"] for row in one.rows}) == 42
    assert one.rows == sorted(one.rows, key=lambda row: row["key"])
    assert set(one.attacks) == {"linf"}
    assert set(one.traces) <= {row["key"] for row in one.rows}
    row = one.rows[0]
    correct = one.correct(row)
    assert correct is not None
    assert correct.mean() == pytest.approx(row["test"]["accuracy"])


def changed_rows(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    lines = (folder / "rows.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    change(first)
    (folder / "rows.jsonl").write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as stopped:
        load_results(folder)
    assert "\n" not in str(stopped.value)
    return str(stopped.value)


def test_no_results_is_said_with_the_command_that_makes_them(tmp_path: Path) -> None:
    assert "python -m resnet_spiking.study" in refusal(tmp_path)
    assert "is not a folder" in refusal(tmp_path / "absent")


@pytest.mark.parametrize("found", [0, 2, None, "1"])
def test_another_format_is_refused_with_its_number(published: Path, reseal: Callable[..., None], found: object) -> None:
    reseal(published, format=found)
    message = refusal(published)
    assert f"format {found}" in message
    assert "reads format 1" in message


@pytest.mark.parametrize("name", ["rows.jsonl", "predictions.npz", "curves.jsonl", "attacks/linf/result.json"])
def test_a_missing_file_is_named(published: Path, name: str) -> None:
    (published / name).unlink()
    message = refusal(published)
    assert str(published / name) in message
    assert "missing" in message


def test_adversarial_images_need_not_be_published(published: Path) -> None:
    manifest = json.loads((published / "manifest.json").read_text())
    manifest["files"]["attacks/linf/adversarial-lif.npz"] = "0" * 64
    (published / "manifest.json").write_text(json.dumps(manifest))
    assert load_results(published).attacks


def test_a_doctored_file_is_noticed_by_its_hash(published: Path) -> None:
    changed_rows(published, lambda row: row["test"].update(accuracy=0.99))
    message = refusal(published)
    assert "rows.jsonl" in message
    assert "sha256" in message


def test_a_doctored_accuracy_is_noticed_by_its_predictions(published: Path, reseal: Callable[..., None]) -> None:
    changed_rows(published, lambda row: row["test"].update(accuracy=0.99))
    reseal(published)
    assert "accuracy 0.990000, but its predictions give" in refusal(published)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda row: row.pop("test"), "'test' is missing"),
        (lambda row: row["test"].pop("accuracy"), "'test.accuracy' is missing"),
        (lambda row: row["test"].update(accuracy=91.0), "'test.accuracy' must be a number in [0, 1], not '91.0'"),
        (lambda row: row["test"].update(accuracy=True), "'test.accuracy' must be a number"),
        (lambda row: row["test"].update(spike_rates=0.1), "'test.spike_rates' must be a list"),
        (lambda row: row["test"].update(spike_rates=["x"]), "'test.spike_rates[0]' must be a number"),
        (lambda row: row.update(seed=-1), "'seed' must be a whole number"),
        (lambda row: row.update(dataset=3), "'dataset' must be a text"),
        (lambda row: row.update(config=[]), "'config' must be an object"),
        (lambda row: row["config"].update(backbone=[]), "config: "),
        (lambda row: row["seconds"].update(training="long"), "'seconds.training' must be a number"),
        (lambda row: row["hashes"].update(backbone=3), "'hashes.backbone' must be an object"),
    ],
)
def test_a_malformed_row_is_refused_with_line_and_field(
    published: Path, reseal: Callable[..., None], change: Callable[[dict[str, Any]], object], expected: str
) -> None:
    changed_rows(published, change)
    reseal(published)
    message = refusal(published)
    assert "rows.jsonl, line 1" in message
    assert expected in message


ODD_MANIFESTS = {
    "written": (3, "the field 'written' must be an object, not '3'"),
    "written.versions": ({"versions": ["torch"]}, "the field 'written.versions' must be an object"),
    "files": ({"rows.jsonl": 3}, "the field 'files.rows.jsonl' must be a text"),
}


@pytest.mark.parametrize("field", ODD_MANIFESTS)
def test_an_odd_manifest_is_refused_with_its_field(published: Path, reseal: Callable[..., None], field: str) -> None:
    value, expected = ODD_MANIFESTS[field]
    reseal(published, **{field.partition(".")[0]: value})
    message = refusal(published)
    assert f"{published / 'manifest.json'}: " in message
    assert expected in message


ODD_ATTACKS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no model": (lambda result: result.update(models=[]), "'models' is empty"),
    "radii": (lambda result: result["eps_labels"].pop(), "'eps_labels' and 'robust' of default do not have the same"),
    "run": (lambda result: result["models"][0].update(run=3), "'models[0].run' must be a text"),
    "interval": (lambda result: result["models"][0]["clean"]["interval"].pop(), "clean.interval' must be two numbers"),
    "attack": (
        lambda result: result["models"][1]["robust"][0]["attacks"].update(fgsm={}),
        "'models[1].robust[0].attacks.fgsm.accuracy' is missing",
    ),
    "median": (lambda result: result["models"][0]["minimum_norm"].update(median="x"), "median' must be a number"),
}


def test_an_odd_attack_is_refused_with_its_field(published: Path, reseal: Callable[..., None]) -> None:
    path = published / "attacks" / "linf" / "result.json"
    whole = path.read_text()
    for change, expected in ODD_ATTACKS.values():
        result = json.loads(whole)
        change(result)
        path.write_text(json.dumps(result))
        reseal(published)
        message = refusal(published)
        assert f"{path}: " in message
        assert expected in message


def test_odd_arrays_are_refused(published: Path, reseal: Callable[..., None]) -> None:
    for name, changes in {
        "predictions.npz": [
            ("labels-", np.array(3), "predictions of 200 and 1 labels"),
            ("classes-", np.array('["plane"]'), "names 1 classes and holds others"),
            ("classes-", np.array([255], dtype=np.uint8), "class names are not a JSON list"),
        ],
        "traces.npz": [
            ("spikes", np.zeros(3, dtype=np.uint8), "are not [steps, neurons]"),
            ("membrane", np.zeros((2, 8)), "are not [steps, neurons]"),
            ("image", np.zeros((16, 16), dtype=np.uint8), "is not [3, height, width] of bytes"),
        ],
    }.items():
        path = published / name
        before = path.read_bytes()
        arrays = dict(np.load(path))
        for part, value, expected in changes:
            changed = next(key for key in arrays if part in key)
            np.savez_compressed(path, **{**arrays, changed: value})
            reseal(published)
            assert expected in refusal(published)
        path.write_bytes(before)


def test_damage_is_refused(published: Path, reseal: Callable[..., None]) -> None:
    before = {name: (published / name).read_bytes() for name in ("rows.jsonl", "predictions.npz", "scaling.csv")}
    columns = b"axis,value,contender,milliseconds,mebibytes\n"
    damage = [
        *(("rows.jsonl", content) for content in (b"{", b"[1]", b"\xff\xfe", b"[" * 100_000)),
        *(("predictions.npz", content) for content in (b"PK", b"")),
        *(("scaling.csv", content) for content in (b"axis,value\nT,4\n", b"\xff", columns + b"T,nan,lif,1,1\n")),
    ]
    for name, content in damage:
        (published / name).write_bytes(content)
        reseal(published)
        assert name in refusal(published)
        (published / name).write_bytes(before[name])
    reseal(published)
    lines = before["rows.jsonl"].splitlines(keepends=True)
    (published / "rows.jsonl").write_bytes(b"".join([*lines, lines[0]]))
    reseal(published)
    assert "twice" in refusal(published)


def test_an_attack_of_another_format_is_refused(published: Path, reseal: Callable[..., None]) -> None:
    path = published / "attacks" / "linf" / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 7}))
    reseal(published)
    assert "format 7" in refusal(published)


def test_pickles_are_never_loaded(published: Path, reseal: Callable[..., None]) -> None:
    np.savez(published / "predictions.npz", x=np.array([{"a": 1}], dtype=object))
    reseal(published)
    assert "damaged" in refusal(published)
