from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from resnet_spiking.data.images import Dataset
from resnet_spiking.studies.board import Board
from resnet_spiking.studies.engines import Engine
from resnet_spiking.studies.memory import Memory
from resnet_spiking.studies.perform import perform
from resnet_spiking.studies.study_file import Study, parse_study
from resnet_spiking.studies.work import Outcome, Work


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory, fixed_shapes: Dataset) -> Path:
    """The shapes as an image folder."""
    root = tmp_path_factory.mktemp("data") / "pictures"
    for name, images in (("train", fixed_shapes.train), ("test", fixed_shapes.test)):
        for index in range(len(images)):
            folder = root / name / images.classes[images.labels[index]]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images.images[index].permute(1, 2, 0).numpy()).save(folder / f"{index:03}.png")
    return root


TINY: dict[str, Any] = {
    "dataset": "shapes",
    "weights": "none",
    "neuron": ["lif", "relu"],
    "epochs": "1,1",
    "num_steps": 3,
    "hidden": 8,
    "batch_size": 24,
    "train": "head",
    "precision": "fp32",
}


def make_study(pictures: Path, name: str = "tiny", *, attack: Sequence[dict[str, Any]] = (), **axes: Any) -> Study:
    datasets = {"shapes": {"kind": "folder", "data_dir": str(pictures), "image_size": 32}}
    return parse_study({"name": name, "datasets": datasets, "grid": [{**TINY, **axes}], "attack": [*attack]}, name)


class Inline(Engine):
    """Runs each task in this process, when it is waited for."""

    def __init__(self, do: Callable[[Work], Outcome] | None = None) -> None:
        self.memory = Memory()
        self.do = do or (lambda work: perform(work, self.memory))
        self.given: list[Work] = []
        self.log: list[str] = []

    def room(self) -> int:
        return 1 - len(self.given)

    def place(self, ready: Sequence[Work]) -> tuple[Work, str] | None:
        if not ready or not self.room():
            return None
        self.given.append(ready[0])
        return ready[0], "inline"

    def wait(self, seconds: float) -> list[Outcome]:
        if not self.given:
            return []
        work = self.given.pop()
        self.log.append(work.label)
        return [self.do(work)]

    def close(self) -> None:
        pass


class Silent:
    """Keeps what a study says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    def show(self, board: Board) -> None:
        pass


@pytest.fixture(autouse=True)
def _command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that runs in this process names its study's command line; put pytest's back afterwards."""
    monkeypatch.setattr(sys, "argv", list(sys.argv))
