"""What a further neuron costs on a frozen Default, and what exporting 1,000 finished runs costs.

The first run computes features, trains Default and the first head; every other one is what a study's worker does
next in the same process. Ratios are of processor time, so that other work on the machine does not move them.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from resnet_spiking.config import RunConfig
from resnet_spiking.data.digits import load_digits
from resnet_spiking.environment import Environment
from resnet_spiking.storage.files import write_json
from resnet_spiking.studies.export import export_study
from resnet_spiking.studies.ledger import Entry
from resnet_spiking.studies.memory import Memory
from resnet_spiking.training.run import train_run

CONFIG = RunConfig(neuron="lif", image_size=128, default_epochs=5, spiking_epochs=5, train="head")
LIMIT = 0.03


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Environment, float]:
    """The first run's folder, the environment with its memory, and its processor seconds."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("study")
    environment = Environment(cache_dir=folder / "cache", remember=Memory())
    began = time.process_time()
    train_run(CONFIG, folder / "runs" / "first", environment, data=load_digits())
    return folder, environment, time.process_time() - began


@pytest.mark.parametrize("neuron", ["lif", "paralif-t", "paralif-sb", "snntorch-lif", "norse-lifbox"])
def test_a_further_head(benchmark: BenchmarkFixture, first: tuple[Path, Environment, float], neuron: str) -> None:
    folder, environment, whole = first
    benchmark.group = "a further head on the same Default, digits at 128 px"
    config = replace(CONFIG, neuron=neuron, head_seed=1)
    spent = []

    def run() -> None:
        began = time.process_time()
        train_run(config, folder / "runs" / neuron, environment, data=load_digits(), overwrite=True)
        spent.append(time.process_time() - began)

    benchmark.pedantic(run, rounds=2, warmup_rounds=1)
    share = min(spent) / whole
    benchmark.extra_info["share of the first run in %"] = 100 * share
    # Libraries that loop over time in Python are slower than our own neurons; they are shown, not judged.
    if neuron in ("lif", "paralif-t", "paralif-sb"):
        assert share <= LIMIT


def test_exporting_a_thousand_runs(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    benchmark.group = "export"
    draw = np.random.default_rng(0)
    (tmp_path / "labels").mkdir()
    labels = draw.integers(0, 10, 10_000).tolist()
    write_json(tmp_path / "labels" / f"{'0' * 64}.json", {"classes": list("abcdefghij"), "labels": labels})
    write_json(tmp_path / "study.json", {"name": "thousand"})
    entries = []
    for number in range(1000):
        run = tmp_path / "runs" / f"run-{number}"
        run.mkdir(parents=True)
        predictions = np.where(draw.random(10_000) < 0.9, labels, draw.integers(0, 10, 10_000)).tolist()
        result = {
            "variant": "lif", "epochs": "<5,5>", "config": CONFIG.as_dict(), "predictions": predictions,
            "test": {"accuracy": float(np.mean(np.equal(predictions, labels)))},
            "hashes": {"backbone": {"weights": "none"}, "data": "0" * 64}, "seconds": {},
            "provenance": {"command": "study", "versions": {}, "git": "none"},
        }  # fmt: skip
        (run / "result.json").write_text(json.dumps(result))
        (run / "metrics.jsonl").write_text('{"phase": "spiking", "epoch": 1}\n' * 5)
        entries.append(
            Entry(
                f"{number:016}", "run", run.name, {"dataset": "x"}, "done", 1, None, None, 1.0, None, None, None, None
            )
        )
    benchmark.pedantic(export_study, (tmp_path, entries), rounds=1)
