"""The labels and class names of each test set a study uses, kept beside its runs for the results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnet_spiking.data.images import Dataset
from resnet_spiking.training.files import write_json

FOLDER = "labels"


def keep_labels(folder: Path, data: Dataset) -> None:
    """Store the test labels ``[N]`` and the class names of ``data`` below a study folder, once."""
    path = folder / FOLDER / f"{data.sha256}.json"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        write_json(path, {"classes": list(data.classes), "labels": data.test.labels.tolist()})


def read_labels(folder: Path, data_sha256: str) -> tuple[NDArray[np.integer], list[str]]:
    """Return what ``keep_labels`` stored: labels ``[N]`` and class names."""
    stored = json.loads((folder / FOLDER / f"{data_sha256}.json").read_text())
    return narrow(stored["labels"]), stored["classes"]


def narrow(classes: list[int]) -> NDArray[np.integer]:
    """Return class numbers as uint8 where they fit, else as uint16."""
    values = np.asarray(classes, dtype=np.int64)
    return values.astype(np.uint8 if values.max(initial=0) < 256 else np.uint16)
