"""The labels and class names of each test set a study uses, kept beside its runs for the results."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from resnet_spiking.errors import UserError
from resnet_spiking.storage.files import write_json
from resnet_spiking.studies.intact import read_object

if TYPE_CHECKING:
    from resnet_spiking.data.images import Dataset

FOLDER = "labels"


def keep_labels(folder: Path, data: Dataset) -> None:
    """Store the test labels ``[N]`` and the class names of ``data`` below a study folder, once."""
    if not has_labels(folder, data.sha256):
        path = labels_path(folder, data.sha256)
        path.parent.mkdir(exist_ok=True)
        write_json(path, {"classes": list(data.classes), "labels": data.test.labels.tolist()})


def has_labels(folder: Path, data_sha256: str) -> bool:
    """Say whether ``keep_labels`` has stored the labels of this data, and they can be read."""
    return _stored(labels_path(folder, data_sha256)) is not None


def read_labels(folder: Path, data_sha256: str) -> tuple[NDArray[np.integer], list[str]]:
    """Return what ``keep_labels`` stored: labels ``[N]`` and class names.

    Raises ``UserError`` when it is not there or damaged.
    """
    path = labels_path(folder, data_sha256)
    stored = _stored(path)
    if stored is None:
        state = "damaged" if path.is_file() else "missing"
        raise UserError(f"{path} is {state}; python -m resnet_spiking.study {shlex.quote(str(folder))} writes it again")
    labels, classes = stored
    return narrow(labels), classes


def _stored(path: Path) -> tuple[list[int], list[str]] | None:
    stored = read_object(path) if path.is_file() else None
    if stored is None:
        return None
    labels, classes = stored.get("labels"), stored.get("classes")
    if not isinstance(labels, list) or not isinstance(classes, list):
        return None
    named = all(isinstance(name, str) for name in classes)
    within = all(type(label) is int and 0 <= label < len(classes) for label in labels)
    return (labels, classes) if named and within else None


def labels_path(folder: Path, data_sha256: str) -> Path:
    """Return where ``keep_labels`` stores the labels of this data."""
    return folder / FOLDER / f"{data_sha256}.json"


def narrow(classes: list[int]) -> NDArray[np.integer]:
    """Return class numbers as uint8 where they fit, else as uint16."""
    values = np.asarray(classes, dtype=np.int64)
    return values.astype(np.uint8 if values.max(initial=0) < 256 else np.uint16)
