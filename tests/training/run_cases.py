"""What the tests of runs share: a small configuration, a stop on time, and what a run leaves without its times."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from resnet_spiking.config import RunConfig
from resnet_spiking.data.images import Dataset

CONFIG = RunConfig(
    dataset="folder",
    weights="none",
    image_size=32,
    hidden=(24,),
    num_steps=5,
    default_epochs=2,
    spiking_epochs=2,
    batch_size=24,
    lr=2e-3,
    head_lr=5e-3,
    precision="fp32",
)


def stored(data: Dataset) -> Dataset:
    """Images that come from files, as a run remembers them."""
    train, test = (replace(split, source="pictures") for split in (data.train, data.test))
    return replace(data, train=train, test=test)


class StopAfter:
    """Asks to stop at the given call, once."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self) -> bool:
        self.left -= 1
        return self.left == 0


def metrics(run: Path) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in entries]


def figures(result: dict[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in ("test", "predictions", "hashes", "config", "evidence", "default")}
