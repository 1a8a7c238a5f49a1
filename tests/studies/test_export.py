"""What a study publishes of an attack."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resnet_spiking.errors import UserError
from resnet_spiking.storage.files import file_sha256
from resnet_spiking.studies.export import export_study
from resnet_spiking.studies.labels import read_labels
from resnet_spiking.studies.ledger import Entry


def test_attacks_are_published_without_the_folders_of_this_machine(tmp_path: Path) -> None:
    made = tmp_path / "attacks" / "digits-quick"
    made.mkdir(parents=True)
    models = [{"name": name, "run": f"{tmp_path}/runs/digits-{name}", "clean": 0.5} for name in ("default", "lif")]
    (made / "result.json").write_text(json.dumps({"format": 1, "models": models}))
    (made / "table.csv").write_text("model\n")
    (made / "adversarial-lif.npz").write_bytes(b"large")
    (tmp_path / "study.json").write_text('{"name": "x"}')
    entry = Entry("k", "attack", made.name, {}, "done", 1, None, None, 1.0, None, None, None, None)
    results = export_study(tmp_path, [entry])
    published = results / "attacks" / made.name
    assert sorted(path.name for path in published.iterdir()) == ["result.json", "table.csv"]
    result = json.loads((published / "result.json").read_text())
    assert result["models"] == [{**model, "run": f"runs/digits-{model['name']}"} for model in models]
    manifest = json.loads((results / "manifest.json").read_text())
    assert manifest["files"]["attacks/digits-quick/result.json"] == file_sha256(published / "result.json")
    assert list(manifest["kept_elsewhere"]) == ["attacks/digits-quick/adversarial-lif.npz"]
    assert str(tmp_path) not in "".join(path.read_text() for path in results.rglob("*.json*"))


def test_what_is_missing_is_named_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text('{"name": "x"}')
    run = tmp_path / "runs" / "digits-lif"
    entry = Entry("k", "run", run.name, {}, "done", 1, None, None, 1.0, "runs/digits-lif/result.json", "", None, None)
    with pytest.raises(UserError, match=r"runs/digits-lif is missing; python -m resnet_spiking.study .* run again"):
        export_study(tmp_path, [entry])
    run.mkdir(parents=True)
    (run / "result.json").write_text("{}")
    with pytest.raises(UserError, match=r"runs/digits-lif/metrics.jsonl is missing"):
        export_study(tmp_path, [entry])
    attack = Entry("a", "attack", "digits-quick", {}, "done", 1, None, None, 1.0, None, None, None, None)
    with pytest.raises(UserError, match=r"attacks/digits-quick is missing; .* does this attack again"):
        export_study(tmp_path, [attack])
    assert not (tmp_path / "results").exists()


def test_missing_labels_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"labels/00ff.json is missing; python -m resnet_spiking.study .* writes it"):
        read_labels(tmp_path, "00ff")


def test_a_file_in_the_place_of_the_results_is_kept(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text('{"name": "x"}')
    (tmp_path / "results").write_text("mine")
    with pytest.raises(UserError, match=r"results is a file; move it away, then python -m resnet_spiking.study"):
        export_study(tmp_path, [])
    assert (tmp_path / "results").read_text() == "mine"


def test_adversarial_images_that_stay_are_named_by_their_hash(tmp_path: Path) -> None:
    made = tmp_path / "attacks" / "x"
    made.mkdir(parents=True)
    (made / "result.json").write_text(json.dumps({"format": 1, "models": []}))
    (made / "adversarial-lif.npz").write_bytes(b"large")
    (tmp_path / "study.json").write_text('{"name": "x"}')
    entry = Entry("k", "attack", "x", {}, "done", 1, None, None, 1.0, None, None, None, None)
    manifest = json.loads((export_study(tmp_path, [entry]) / "manifest.json").read_text())
    assert manifest["kept_elsewhere"] == {"attacks/x/adversarial-lif.npz": file_sha256(made / "adversarial-lif.npz")}


def test_what_is_unfinished_is_published_with_the_rest(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text('{"name": "x"}')
    states = [("run", "waiting"), ("run", "failed"), ("attack", "running"), ("features", "waiting")]
    entries = [
        Entry(f"{number}", kind, f"{number}", {}, state, 0, None, None, None, None, None, None, None)
        for number, (kind, state) in enumerate(states)
    ]
    manifest = json.loads((export_study(tmp_path, entries) / "manifest.json").read_text())
    assert manifest["unfinished"] == {"attack": 1, "run": 2}
    assert "unfinished" not in json.loads((export_study(tmp_path, []) / "manifest.json").read_text())
