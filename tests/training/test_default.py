from __future__ import annotations

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from run_cases import CONFIG, StopAfter
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from resnet_spiking.attacks.subjects import load_subjects
from resnet_spiking.config import RunConfig
from resnet_spiking.data.images import Dataset
from resnet_spiking.environment import Environment
from resnet_spiking.errors import Interrupted, UserError
from resnet_spiking.network.backbone import build_resnet
from resnet_spiking.storage.lock import exclusive
from resnet_spiking.training.run import train_run
from resnet_spiking.training.verify import load_network, verify_run


def test_a_default_goes_on_for_who_names_the_same_thing_otherwise(tmp_path: Path, shapes: Dataset) -> None:
    whole = train_run(CONFIG, tmp_path / "whole" / "run", data=shapes)
    with pytest.raises(Interrupted):
        train_run(CONFIG, tmp_path / "a", Environment(should_stop=StopAfter(3)), data=shapes)
    (folder,) = tmp_path.glob("default-*")
    assert (folder / "last.ckpt").exists()
    found = train_run(replace(CONFIG, flip=shapes.flip), tmp_path / "b", data=shapes)
    assert found["hashes"] == whole["hashes"]
    assert not (folder / "last.ckpt").exists()
    stored = (json.loads((folder / name).read_text())["config"] for name in ("config.json", "result.json"))
    assert next(stored) == next(stored)


def test_the_folder_of_a_shared_default_is_no_output(tmp_path: Path, shapes: Dataset) -> None:
    train_run(CONFIG, tmp_path / "run", data=shapes)
    (folder,) = tmp_path.glob("default-*")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (tmp_path / "link").symlink_to(folder)
    for output, options in ((folder, {"resume": True}), (folder, {"overwrite": True}), (tmp_path / "link", {})):
        with pytest.raises(UserError, match="a Default that runs beside it share"):
            train_run(CONFIG, output, data=shapes, **options)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_default_is_trained_once_and_shared(tmp_path: Path, shapes: Dataset) -> None:
    lines: list[str] = []
    environment = Environment(report=lines.append)
    train_run(CONFIG, tmp_path / "a", environment, data=shapes)
    result = train_run(replace(CONFIG, neuron="paralif-t"), tmp_path / "b", environment, data=shapes)
    assert any("reusing" in line for line in lines)
    assert len(list(tmp_path.glob("default-*"))) == 1
    assert (tmp_path / result["default"]["run"] / "result.json").exists()
    train_run(replace(CONFIG, seed=1), tmp_path / "c", environment, data=shapes)
    assert len(list(tmp_path.glob("default-*"))) == 2


def test_default_lies_beside_a_run_in_the_current_folder(
    tmp_path: Path, shapes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    train_run(replace(CONFIG, default_epochs=0, spiking_epochs=0), Path(), data=shapes)
    (default,) = tmp_path.glob("default-*")
    subjects, _ = load_subjects([Path()])
    assert [Path(subject.run).resolve() for subject in subjects] == [default, tmp_path / "here"]


def test_who_comes_second_waits_for_the_default_that_another_process_trains(
    tmp_path: Path, shapes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that trained it at once wrote one folder, each over the other's network."""
    monkeypatch.setattr("resnet_spiking.training.default.PAUSE", 0.01)
    config = replace(CONFIG, default_epochs=1, spiking_epochs=0)
    train_run(config, tmp_path / "elsewhere" / "run", data=shapes)
    (trained,) = (tmp_path / "elsewhere").glob("default-*")
    assert {path.name for path in trained.iterdir()} == {
        "config.json", "metrics.jsonl", "model.safetensors", "result.json"
    }  # fmt: skip
    folder, lines = tmp_path / trained.name, []
    folder.mkdir()
    with ExitStack() as elsewhere, ThreadPoolExecutor(1) as pool:
        elsewhere.enter_context(exclusive(folder, busy="nobody else is here"))
        with pytest.raises(Interrupted):
            train_run(config, tmp_path / "run", Environment(should_stop=lambda: True), data=shapes)
        assert not [path.name for path in folder.iterdir() if not path.name.startswith("lock.sqlite")]
        second = pool.submit(
            train_run, config, tmp_path / "run", Environment(report=lines.append), data=shapes, resume=True
        )
        while not lines:
            time.sleep(0.01)
        for path in trained.iterdir():
            shutil.copy(path, folder)
        time.sleep(0.1)
        assert not second.done()
        elsewhere.close()
        result = second.result(timeout=60)
    assert [line.partition(":")[0] for line in lines if "Default" in line] == [
        f"another process trains Default {folder.name}",
        f"Default {folder.name} is trained already",
    ]
    assert result["default"]["accuracy"] == json.loads((trained / "result.json").read_text())["test"]["accuracy"]


def test_a_default_whose_weights_were_replaced_is_not_branched_from(finished: Path, shapes: Dataset) -> None:
    (default,) = finished.parent.glob("default-*")
    other = load_file(default / "model.safetensors")
    with safe_open(default / "model.safetensors", "pt") as handle:
        header = handle.metadata()
    save_file({name: 2 * tensor for name, tensor in other.items()}, default / "model.safetensors", metadata=header)
    with pytest.raises(UserError, match=r"is not the file that the result beside it names .* or delete .*default-"):
        train_run(replace(CONFIG, num_steps=2), finished.parent / "other", data=shapes)
    with pytest.raises(UserError, match="is not the file"):
        load_network(default)
    assert "model sha256" in [row.figure for row in verify_run(default) if not row.agrees]
    # What stands in the way of Default does not cost the finished run that was to be replaced.
    before = (finished / "result.json").read_bytes()
    with pytest.raises(UserError, match="is not the file"):
        train_run(CONFIG, finished, data=shapes, overwrite=True)
    assert (finished / "result.json").read_bytes() == before
    assert (finished / "model.safetensors").exists()
    shutil.rmtree(default)
    train_run(replace(CONFIG, num_steps=2), finished.parent / "other", data=shapes, overwrite=True)


def test_a_copy_of_default_is_its_own_runs(tmp_path: Path, shapes: Dataset) -> None:
    """Not of the run that happened to train it, under other settings of a branch and another name of the weights."""
    torch.manual_seed(0)
    state = build_resnet("resnet18").state_dict()
    for name in ("old.pth", "new.pth"):
        torch.save(state, tmp_path / name)
    config = replace(CONFIG, weights=str(tmp_path / "old.pth"), num_steps=4, default_epochs=1, spiking_epochs=0)
    train_run(config, tmp_path / "branch", data=shapes)
    (tmp_path / "old.pth").unlink()
    alone = replace(CONFIG, weights=str(tmp_path / "new.pth"), default_epochs=1, neuron="none")
    result = train_run(alone, tmp_path / "alone", data=shapes)
    assert RunConfig.from_dict(result["config"]) == alone
    load_network(tmp_path / "alone")
    (folder,) = tmp_path.glob("default-*")
    stored = json.loads((folder / "result.json").read_text())["config"]
    assert stored["num_steps"] == RunConfig().num_steps
