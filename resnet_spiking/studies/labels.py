"""The labels and class names of each test set a study uses, kept beside its runs for the results."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from resnet_spiking.errors import UserError
from resnet_spiking.training.files import write_json

if TYPE_CHECKING:
    from resnet_spiking.data.images import Dataset

FOLDER = "labels"


def keep_labels(folder: Path, data: Dataset) -> None:
    """Store the test labels ``[N]`` and the class names of ``data`` below a study folder, once."""
    if not has_labels(folder, data.sha256):
        path = _path(folder, data.sha256)
        path.parent.mkdir(exist_ok=True)
        write_json(path, {"classes": list(data.classes), "labels": data.test.labels.tolist()})


def has_labels(folder: Path, data_sha256: str) -> bool:
    """Say whether ``keep_labels`` has stored the labels of this data."""
    return _path(folder, data_sha256).is_file()


def read_labels(folder: Path, data_sha256: str) -> tuple[NDArray[np.integer], list[str]]:
    """Return what ``keep_labels`` stored: labels ``[N]`` and class names. Raises ``UserError`` when it is not there."""
    path = _path(folder, data_sha256)
    if not path.is_file():
        raise UserError(f"{path} is missing; python -m resnet_spiking.study {shlex.quote(str(folder))} writes it again")
    stored = json.loads(path.read_text())
    return narrow(stored["labels"]), stored["classes"]


def _path(folder: Path, data_sha256: str) -> Path:
    return folder / FOLDER / f"{data_sha256}.json"


def narrow(classes: list[int]) -> NDArray[np.integer]:
    """Return class numbers as uint8 where they fit, else as uint16."""
    values = np.asarray(classes, dtype=np.int64)
    return values.astype(np.uint8 if values.max(initial=0) < 256 else np.uint16)
