from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from run_cases import CONFIG, StopAfter, figures, metrics

from resnet_spiking.data.images import Dataset, ImageSet
from resnet_spiking.environment import Environment
from resnet_spiking.errors import Interrupted, UserError
from resnet_spiking.training.run import train_run


def test_a_run_that_goes_on_elsewhere_names_both_devices(
    tmp_path: Path, shapes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_on(device: str, *, calls: int = 0, resume: bool = False) -> tuple[dict[str, Any], list[str]]:
        monkeypatch.setattr("resnet_spiking.training.phase.device_name", lambda _: device)
        lines: list[str] = []
        environment = Environment(report=lines.append, should_stop=StopAfter(calls))
        return train_run(CONFIG, tmp_path / "run", environment, data=shapes, resume=resume), lines

    with pytest.raises(Interrupted):
        train_on("one GPU", calls=3)
    result, lines = train_on("cpu", resume=True)
    assert result["default"]["devices"] == ["cpu", "one GPU"]
    assert result["devices"] == ["cpu"]
    (folder,) = tmp_path.glob("default-*")
    assert json.loads((folder / "result.json").read_text())["devices"] == ["cpu", "one GPU"]
    assert [line.partition(":")[0] for line in lines if "has run on" in line] == [
        "this default phase has run on cpu and one GPU"
    ]


def test_a_run_that_goes_on_with_more_threads_says_so(tmp_path: Path, shapes: Dataset) -> None:
    """Sums in another order have other last bits."""
    lines: list[str] = []
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with pytest.raises(Interrupted):
            train_run(CONFIG, tmp_path / "run", Environment(should_stop=StopAfter(10)), data=shapes)
        torch.set_num_threads(2)
        result = train_run(CONFIG, tmp_path / "run", Environment(report=lines.append), data=shapes, resume=True)
    finally:
        torch.set_num_threads(before)
    assert "this spiking phase has run on 1 and 2 threads: not the bits of one alone" in lines
    assert result["threads"] == [1, 2]
    (folder,) = tmp_path.glob("default-*")
    assert json.loads((folder / "result.json").read_text())["threads"] == [1]


@pytest.mark.parametrize("train", ["decoder", "head"])
@pytest.mark.parametrize("neuron", ["snntorch-lif", "paralif-sb"])
def test_an_interrupted_run_resumes_to_the_same_bytes(tmp_path: Path, shapes: Dataset, neuron: str, train: str) -> None:
    config = replace(CONFIG, neuron=neuron, train=train)
    whole = train_run(config, tmp_path / "a" / "run", data=shapes)
    for stop in (3, 8, 2):
        with pytest.raises(Interrupted):
            train_run(
                config, tmp_path / "b" / "run", Environment(should_stop=StopAfter(stop)), data=shapes,
                resume=(tmp_path / "b" / "run").exists(),
            )  # fmt: skip
    resumed = train_run(config, tmp_path / "b" / "run", data=shapes, resume=True)
    assert figures(resumed) == figures(whole)
    assert metrics(tmp_path / "b" / "run") == metrics(tmp_path / "a" / "run")


def test_a_run_stopped_while_features_are_computed_resumes(tmp_path: Path, shapes: Dataset) -> None:
    stopped = Environment(cache_dir=tmp_path / "cache", should_stop=StopAfter(1))
    with pytest.raises(Interrupted):
        train_run(CONFIG, tmp_path / "run", stopped, data=shapes)
    assert not list((tmp_path / "cache").iterdir())
    train_run(CONFIG, tmp_path / "run", Environment(cache_dir=tmp_path / "cache"), data=shapes, resume=True)
    assert (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize("calls", [2, 12])
def test_a_run_does_not_go_on_with_other_data_or_weights(tmp_path: Path, shapes: Dataset, calls: int) -> None:
    """Neither in Default's epochs nor in the branch's."""
    with pytest.raises(Interrupted):
        train_run(CONFIG, tmp_path / "run", Environment(should_stop=StopAfter(calls)), data=shapes)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    more = ImageSet(shapes.train.images[:-3], shapes.train.labels[:-3], shapes.classes)
    other = Dataset("folder", more, shapes.test, True)
    if calls == 2:
        # Default has a name made of its data: another one is begun, and nothing of the first is taken.
        result = train_run(CONFIG, tmp_path / "run", data=other, resume=True)
        assert figures(result) == figures(train_run(CONFIG, tmp_path / "fresh" / "run", data=other))
        return
    with pytest.raises(UserError, match=r"last\.ckpt was begun on other data, Default than there is now"):
        train_run(CONFIG, tmp_path / "run", data=other, resume=True)
    assert all(path.read_bytes() == content for path, content in before.items())
    train_run(CONFIG, tmp_path / "run", data=shapes, resume=True)


def test_a_default_goes_on_with_another_value_of_what_nothing_reads(tmp_path: Path, shapes: Dataset) -> None:
    """It has the same name, for whoever needs it."""
    with pytest.raises(Interrupted):
        train_run(replace(CONFIG, momentum=0.5), tmp_path / "run", Environment(should_stop=StopAfter(4)), data=shapes)
    assert list(tmp_path.glob("default-*/last.ckpt"))
    other = train_run(CONFIG, tmp_path / "other", data=shapes)
    result = train_run(replace(CONFIG, momentum=0.5), tmp_path / "run", data=shapes, resume=True)
    assert other["hashes"]["model"] == result["hashes"]["model"]


def test_a_checkpoint_that_no_run_wrote_is_refused(tmp_path: Path, shapes: Dataset) -> None:
    with pytest.raises(Interrupted):
        train_run(CONFIG, tmp_path / "run", Environment(should_stop=StopAfter(10)), data=shapes)
    path = tmp_path / "run" / "last.ckpt"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 0x40
    for damaged in (whole[:3000], flipped):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"last\.ckpt is damaged or no checkpoint"):
            train_run(CONFIG, tmp_path / "run", data=shapes, resume=True)
    path.write_bytes(whole)
    state = torch.load(path, weights_only=True)
    progress = state["progress"]
    newer = {**state["config"], "neuron": "newer"}
    for change in ({"optimizer": 3}, {"progress": {**progress, "epoch": 99}}, {"config": newer}):
        torch.save({**state, **change}, path)
        with pytest.raises(UserError, match=r"last\.ckpt is damaged or no checkpoint; delete it to start this phase"):
            train_run(CONFIG, tmp_path / "run", data=shapes, resume=True)
