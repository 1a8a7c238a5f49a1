from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resnet_spiking.attacks.bundles import BUNDLES, Bundle, Checking, Stage
from resnet_spiking.data.folder import load_folder
from resnet_spiking.errors import UserError
from resnet_spiking.storage.files import file_sha256
from resnet_spiking.studies import dry_run
from resnet_spiking.studies import study as study_module
from resnet_spiking.studies.board import TimeLeft
from resnet_spiking.studies.dry_run import print_dry_run
from resnet_spiking.studies.export import export_study
from resnet_spiking.studies.folder import claimed, read_stored_study
from resnet_spiking.studies.ledger import Ledger
from resnet_spiking.studies.status import is_running, read_board, read_entries
from resnet_spiking.studies.study import Execution, run_study
from resnet_spiking.studies.study_file import Study, parse_study
from resnet_spiking.studies.traces import trace_run
from resnet_spiking.studies.work import Resources
from resnet_spiking.training.verify import load_network

from .conftest import Inline, Silent, make_study


@pytest.fixture(scope="module")
def finished(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A finished study of Default and two heads, each with two seeds on one Default, and what ran."""
    folder = tmp_path_factory.mktemp("study") / "tiny"
    study = make_study(pictures, neuron=["lif", "relu"], seed=[0, 1], default_seed=0)
    return folder, run_inline(study, folder).log


def run_inline(study: Study, folder: Path, watch: Silent | None = None) -> Inline:
    engine = Inline()
    execution = Execution(resources=Resources(cache_dir=folder.parent / "cache"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_module, "start_engine", lambda execution, folder: engine)
        tally = run_study(study, folder, execution, watch or Silent())
    assert not tally.errors, "; ".join(error for _, error, _ in tally.errors)
    return engine


def read_rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results" / "rows.jsonl").read_text().splitlines()]


def test_each_thing_is_done_once(finished: tuple[Path, list[str]]) -> None:
    folder, log = finished
    kinds = [label.split("-")[0] if not label.startswith("shapes") else "run" for label in log]
    assert kinds == ["check", "features", "run", "pooled", "run", "run", "run", "run"]
    assert len(list((folder / "runs").glob("default-*"))) == 1


def test_results_hold_every_run_and_say_what_they_are(finished: tuple[Path, list[str]], pictures: Path) -> None:
    folder, _ = finished
    rows = read_rows(folder)
    assert [row["key"] for row in rows] == sorted(row["key"] for row in rows)
    assert sorted((row["variant"], row["seed"]) for row in rows) == [
        ("default", 0),
        *((neuron, seed) for neuron in ("lif", "relu") for seed in (0, 1)),
    ]
    manifest = json.loads((folder / "results" / "manifest.json").read_text())
    assert manifest["format"] == 1
    assert all(file_sha256(folder / "results" / name) == sha256 for name, sha256 in manifest["files"].items())
    arrays = np.load(folder / "results" / "predictions.npz")
    data = load_folder(pictures, side=32)
    labels = arrays[f"labels-{data.sha256[:16]}"]
    assert labels.tolist() == data.test.labels.tolist()
    assert json.loads(str(arrays[f"classes-{data.sha256[:16]}"])) == list(data.classes)
    for row in rows:
        assert row["dataset"] == "shapes"
        assert (arrays[row["key"]] == labels).mean() == pytest.approx(row["test"]["accuracy"])
        assert row["hashes"]["model"] == file_sha256(folder / "runs" / row["run"] / "model.safetensors")
    curves = [json.loads(line) for line in (folder / "results" / "curves.jsonl").read_text().splitlines()]
    assert {(line["key"], line["phase"]) for line in curves} == {
        (row["key"], "default" if row["variant"] == "default" else "spiking") for row in rows
    }


def test_the_traced_spikes_are_the_networks_own(finished: tuple[Path, list[str]], pictures: Path) -> None:
    folder, _ = finished
    (row,) = [row for row in read_rows(folder) if row["variant"] == "lif" and row["seed"] == 0]
    data = load_folder(pictures, side=32)
    run = folder / "runs" / row["run"]
    backbone, decoder, config = load_network(run)
    with torch.no_grad():
        _, layers = decoder.trace(backbone(data.test.pixels(torch.tensor([0]))))
    stored = np.load(folder / "results" / "traces.npz")
    assert {name.split("/")[0] for name in stored} == {
        row["key"] for row in read_rows(folder) if row["variant"] not in ("default", "relu") and row["seed"] == 0
    }
    spikes, membrane = stored[f"{row['key']}/spikes"], stored[f"{row['key']}/membrane"]
    assert np.array_equal(spikes, layers[0][:, 0].numpy())
    assert membrane.shape == (config.num_steps, 8)
    # The neuron resets to zero: a membrane is zero exactly where it has spiked.
    assert np.array_equal(membrane == 0, spikes == 1)
    assert stored[f"{row['key']}/image"].shape == (3, 16, 16)
    assert trace_run(run, data.test, 3).spikes.shape == spikes.shape


def test_again_does_nothing_and_a_further_neuron_runs_alone(
    finished: tuple[Path, list[str]], pictures: Path, tmp_path: Path
) -> None:
    folder, _ = finished
    before = {path: path.read_bytes() for path in (folder / "results").iterdir()}
    study = read_stored_study(folder)
    assert run_inline(study, folder).log == []
    assert {path: path.read_bytes() for path in (folder / "results").iterdir()} == before
    wider = make_study(pictures, neuron=["lif", "relu", "paralif-t"], seed=[0, 1], default_seed=0)
    assert [label.split("-")[2:4] for label in run_inline(wider, folder).log if label != "check"] == [
        ["paralif", "t"]
    ] * 2
    assert len(read_rows(folder)) == 7
    run_inline(study, folder)
    assert {path: path.read_bytes() for path in (folder / "results").iterdir()} == before


def test_a_missing_or_changed_result_is_made_again_to_the_same_figures(
    finished: tuple[Path, list[str]], pictures: Path
) -> None:
    folder, _ = finished
    rows = read_rows(folder)
    spoiled = [row for row in rows if row["variant"] == "lif"]
    (folder / "runs" / spoiled[0]["run"] / "model.safetensors").unlink()
    result = folder / "runs" / spoiled[1]["run"] / "result.json"
    result.write_text(result.read_text().replace('"accuracy": ', '"accuracy": 1'))
    log = run_inline(read_stored_study(folder), folder).log
    assert sorted(log[1:]) == sorted(row["run"] for row in spoiled)
    assert [(row["test"], row["hashes"]) for row in read_rows(folder)] == [(row["test"], row["hashes"]) for row in rows]


def test_a_checkpoint_that_is_not_the_published_one_is_made_again(finished: tuple[Path, list[str]]) -> None:
    folder, _ = finished
    rows, watch = read_rows(folder), Silent()
    run = next(row["run"] for row in rows if row["variant"] == "relu")
    model = folder / "runs" / run / "model.safetensors"
    content = model.read_bytes()
    model.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert run_inline(read_stored_study(folder), folder, watch).log[1:] == [run]
    assert f"{run}: {model} is damaged, doing this run again" in watch.lines
    assert model.read_bytes() == content
    assert [row["hashes"] for row in read_rows(folder)] == [row["hashes"] for row in rows]


def test_files_that_export_needs_come_back_without_training_what_is_there(finished: tuple[Path, list[str]]) -> None:
    folder, _ = finished
    study, rows = read_stored_study(folder), read_rows(folder)
    models = {path: path.stat().st_mtime_ns for path in (folder / "runs").glob("shapes-*/model.safetensors")}
    shutil.rmtree(folder / "labels")
    assert len(run_inline(study, folder).log) == 2  # the check, and one run that is found finished
    assert {path: path.stat().st_mtime_ns for path in models} == models
    assert read_rows(folder) == rows
    runs = [folder / "runs" / row["run"] for row in rows if row["variant"] == "relu"]
    (runs[0] / "metrics.jsonl").unlink()
    (runs[1] / "config.json").unlink()
    assert sorted(run_inline(study, folder).log[1:]) == sorted(run.name for run in runs)
    assert [(row["test"], row["hashes"]) for row in read_rows(folder)] == [(row["test"], row["hashes"]) for row in rows]


def halve(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_damaged_files_are_said_and_come_back_training_only_what_must_be(finished: tuple[Path, list[str]]) -> None:
    folder, _ = finished
    study, watch = read_stored_study(folder), Silent()
    before = {path.name: path.read_bytes() for path in (folder / "results").glob("*.npz")}
    models = {path: path.stat().st_mtime_ns for path in (folder / "runs").glob("*/model.safetensors")}
    (curve,), (traces,), (labels,) = (
        folder.glob(name)
        for name in ("runs/shapes-*-lif-*h1-*/metrics.jsonl", "runs/shapes-*-lif-*-s0-*/traces.npz", "labels/*.json")
    )
    for path, damaged in ((labels, b"{"), (traces, b""), (curve, b"")):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=rf"{path} is damaged; .*python -m resnet_spiking.study {folder}"):
            export_study(folder, read_entries(folder))
    assert len(set(run_inline(study, folder, watch).log)) == 4  # the check, and a run for each
    for said in (
        f"{curve} is damaged, doing this run again",
        "the traces of its spikes are missing or damaged, writing them",
        "the labels of its test images are missing or damaged, writing them",
    ):
        assert any(said in line for line in watch.lines)
    assert [path for path in models if path.stat().st_mtime_ns != models[path]] == [
        curve.with_name("model.safetensors")
    ]
    assert {path.name: path.read_bytes() for path in (folder / "results").glob("*.npz")} == before
    assert run_inline(study, folder).log == []


def test_a_default_whose_curve_is_lost_is_named_with_what_brings_it_back(
    finished: tuple[Path, list[str]], tmp_path: Path
) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(finished[0], folder)
    shutil.copytree(finished[0].parent / "cache", tmp_path / "cache")
    study, rows = read_stored_study(folder), read_rows(folder)
    curves = [*(folder / "runs").glob("*default-*/metrics.jsonl")]
    assert len(curves) == 2
    for path in curves:
        path.write_bytes(b"{")
    (source,) = (folder / "runs").glob("default-*")
    with pytest.raises(AssertionError, match=rf"{source}/metrics.jsonl is damaged; delete the folder {source}: "):
        run_inline(study, folder)
    shutil.rmtree(source)
    assert len(run_inline(study, folder).log) == 2
    watch = Silent()
    for name in ("default-*/result.json", "shapes-*-relu-*h1-*/config.json"):
        (path,) = (folder / "runs").glob(name)
        halve(path)
    run_inline(study, folder, watch)
    assert any(f"{source}/result.json is damaged: this Default is trained again where" in line for line in watch.lines)
    assert any("config.json is damaged, doing this run again" in line for line in watch.lines)
    assert [(row["test"], row["hashes"]) for row in read_rows(folder)] == [(row["test"], row["hashes"]) for row in rows]


def test_labels_of_other_images_are_not_published(finished: tuple[Path, list[str]]) -> None:
    folder, _ = finished
    (path,) = (folder / "labels").iterdir()
    stored = json.loads(path.read_text())
    before = {path: path.read_bytes() for path in (folder / "results").iterdir()}
    for labels in (stored["labels"][1:], [(label + 1) % len(stored["classes"]) for label in stored["labels"]]):
        path.write_text(json.dumps({**stored, "labels": labels}))
        with pytest.raises(UserError, match=rf"{path} does not give the accuracy of .*; delete it, then python -m"):
            export_study(folder, read_entries(folder))
    assert {path: path.read_bytes() for path in (folder / "results").iterdir()} == before
    path.unlink()
    run_inline(read_stored_study(folder), folder)
    assert json.loads(path.read_text()) == stored


def test_a_folder_that_lost_its_study_takes_it_again(finished: tuple[Path, list[str]]) -> None:
    folder, _ = finished
    study = read_stored_study(folder)
    (folder / "study.json").unlink()
    assert run_inline(study, folder).log == []
    assert read_stored_study(folder) == study


def test_a_refused_study_leaves_the_one_in_the_folder(finished: tuple[Path, list[str]], pictures: Path) -> None:
    folder, _ = finished
    stored, entries = (folder / "study.json").read_bytes(), read_entries(folder)
    with pytest.raises(UserError, match="norse weighs its input"):
        run_inline(make_study(pictures, neuron="norse-lif", beta=1.0), folder)
    assert (folder / "study.json").read_bytes() == stored
    assert read_entries(folder) == entries


def test_a_dataset_of_another_name_is_published_from_the_runs_it_has(
    finished: tuple[Path, list[str]], pictures: Path
) -> None:
    folder, _ = finished
    study, rows = read_stored_study(folder), read_rows(folder)
    values = study.as_dict()
    values["datasets"] = {"forms": values["datasets"]["shapes"]}
    values["grid"][0]["dataset"] = ["forms"]
    assert run_inline(parse_study(values, "renamed"), folder).log == []
    assert read_rows(folder) == [{**row, "dataset": "forms"} for row in rows]
    run_inline(study, folder)


def test_a_dry_run_takes_the_folders_that_a_study_takes(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dry_run, "estimate", lambda *_, **__: {})
    study = make_study(pictures)
    print_dry_run(study, tmp_path, Resources(), 1)
    assert "tiny: 3 tasks, 3 to do" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    (tmp_path / "thesis.tex").write_text("…")
    with pytest.raises(UserError, match="holds files but no study"):
        print_dry_run(study, tmp_path, Resources(), 1)


def test_status_reads_the_ledger_beside_a_running_study(finished: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, _ = finished
    board = read_board(folder)
    assert (board.count("done"), board.total, board.time_left()) == (5, 5, TimeLeft(0, whole=True))
    assert not is_running(folder)
    with claimed(folder, read_stored_study(folder), {}):
        assert is_running(folder)
        assert len(read_entries(folder)) == 7
        with pytest.raises(UserError, match="another study is running"), claimed(folder, read_stored_study(folder), {}):
            pass


def test_what_a_killed_study_left_running_waits(finished: tuple[Path, list[str]], tmp_path: Path) -> None:
    shutil.copytree(finished[0], tmp_path / "copy")
    with closing(Ledger(tmp_path / "copy")) as ledger:
        ledger.start(next(entry.key for entry in ledger.entries() if entry.kind == "run"), "worker 1", "log")
    assert (read_board(tmp_path / "copy").count("running"), read_board(tmp_path / "copy").count("waiting")) == (0, 1)
    with claimed(tmp_path / "copy", read_stored_study(tmp_path / "copy"), {}):
        assert read_board(tmp_path / "copy").count("running") == 1


def test_a_folder_that_is_something_else_is_left_alone(tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "thesis.tex").write_text("…")
    with pytest.raises(UserError, match="holds files but no study"):
        run_inline(make_study(pictures), tmp_path)
    with pytest.raises(UserError, match="no study folder"):
        read_entries(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_impossible_head_is_refused_before_any_work(tmp_path: Path, pictures: Path) -> None:
    study = make_study(pictures, neuron="norse-lif", beta=1.0)
    with pytest.raises(UserError, match="norse weighs its input"):
        run_inline(study, tmp_path / "study")
    assert not list((tmp_path / "study" / "runs").iterdir())


def test_networks_are_attacked_one_by_one_and_put_together(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checking = Checking(images=2, survivors=1, steps=1, long_steps=2, restarts=1, probes=2)
    stages = (Stage("fgsm"), Stage("transfer", source="default", options={"steps": 2}))
    monkeypatch.setitem(BUNDLES, "quick", Bundle("quick", "seconds", stages, checking=checking))
    attack = {"bundle": "quick", "eps": ["16/255"], "samples": 2}
    study = make_study(pictures, attack=[attack], neuron="lif", seed=0)
    folder = tmp_path / "attacked"
    log = run_inline(study, folder).log
    (label,) = (path.name for path in (folder / "attacks").iterdir())
    assert [name.removeprefix(label).split("-")[1:2] for name in log[-3:]] == [["default"], ["lif"], []]
    result = json.loads((folder / "results" / "attacks" / label / "result.json").read_text())
    assert [entry["name"] for entry in result["models"]] == ["default", "lif"]
    assert [row["eps"] for row in result["models"][1]["mcnemar"]] == [16 / 255]
    assert sorted(path.name for path in (folder / "attacks" / label).iterdir()) == [
        "adversarial-default.npz", "adversarial-lif.npz", "config.json", "curves.png", "panel.png", "result.json",
        "table.csv",
    ]  # fmt: skip
