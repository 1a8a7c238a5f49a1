"""Reading a results folder: everything a report shows, checked against the manifest's hashes and the schema."""

from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_spiking.config import RunConfig
from resnet_spiking.errors import UserError
from resnet_spiking.reports import schema
from resnet_spiking.storage.arrays import Arrays, load_arrays
from resnet_spiking.storage.files import file_sha256

FORMAT = 1
ATTACK_FORMAT = 1

_HALF = re.compile(rb"\\u[dD][89a-fA-F]")

Row = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """The content of a results folder.

    ``rows``: one a finished run. ``predictions``: key → predicted classes [images]; ``labels`` and ``classes``:
    sha256 of the data → true classes [images], names. ``curves``: one record an epoch. ``traces``: key →
    ``spikes`` [T, N], ``membrane`` [T, M], ``image`` [3, H, W]. ``attacks``: label → its result.json, with
    ``panel`` the bytes of panel.png where there is one, and in each model ``key``, of the row of its run if these
    results have one. ``scaling``: neuron run times. ``unfinished``: how many runs and attacks, by kind, the study has
    besides.
    """

    folder: Path
    name: str
    command: str
    written: dict[str, Any]
    rows: list[Row]
    predictions: dict[str, NDArray[Any]] = field(default_factory=dict)
    labels: dict[str, NDArray[Any]] = field(default_factory=dict)
    classes: dict[str, list[str]] = field(default_factory=dict)
    curves: list[Row] = field(default_factory=list)
    traces: dict[str, dict[str, NDArray[Any]]] = field(default_factory=dict)
    attacks: dict[str, dict[str, Any]] = field(default_factory=dict)
    scaling: list[Row] = field(default_factory=list)
    unfinished: dict[str, int] = field(default_factory=dict)

    def labels_of(self, row: Row) -> NDArray[Any] | None:
        """Return the true classes of the row's test images; None when they were not published."""
        return self.labels.get(row["hashes"]["data"][:16])

    def correct(self, row: Row) -> NDArray[Any] | None:
        """Return, for each test image, whether the row's network named its class; None without predictions."""
        labels, predicted = self.labels_of(row), self.predictions.get(row["key"])
        return None if labels is None or predicted is None else predicted == labels

    @property
    def unchecked(self) -> list[str]:
        """The runs whose accuracy nothing confirms, as their predictions or labels were not published."""
        return [row["run"] for row in self.rows if self.correct(row) is None]


def find_results(path: Path) -> Path | None:
    """Return the results folder that ``path`` is or holds; None when there is none."""
    return next((folder for folder in (path, path / "results") if (folder / "manifest.json").is_file()), None)


def results_folder(path: Path) -> Path:
    """Return what ``find_results`` does. Raises ``UserError`` when there is none."""
    found = find_results(path)
    if found:
        return found
    if not path.is_dir():
        raise UserError(f"{path} is not a folder; name a study folder or its results folder")
    raise UserError(
        f"{path} holds no results (manifest.json is missing there and in {path / 'results'}); "
        "name a study folder, or run the study: python -m resnet_spiking.study"
    )


def load_results(path: Path) -> Results:
    """Read the results of a study.

    Args:
        path: a study folder, or its results folder.

    Raises:
        UserError: no results there, another format, a file that is missing, damaged, or not the one
            that the manifest names, a field that is missing or malformed.
    """
    folder = results_folder(path)
    manifest = _json(folder / "manifest.json")
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise UserError(
            f"{folder} has results of format {found}; this version reads format {FORMAT}: publish them again with "
            "python -m resnet_spiking.study of this version, or report with the version that wrote them"
        )
    schema.check(manifest, schema.MANIFEST, str(folder / "manifest.json"))
    files = manifest["files"]
    _verify(folder, files)
    if "rows.jsonl" not in files:
        raise UserError(f"{folder / 'manifest.json'} lists no rows.jsonl; publish the results again")
    rows = _records(folder / "rows.jsonl", schema.ROW)
    usual = RunConfig().as_dict()
    for line, row in enumerate(rows, 1):
        try:
            # What another version asked for besides is shown as it is.
            RunConfig.from_dict({name: value for name, value in row["config"].items() if name in usual})
        except UserError as error:
            raise UserError(
                f"{folder / 'rows.jsonl'}, line {line}: config: {error}; publish the results again"
            ) from None
        # What an older version did not ask for was what is usual now.
        row["config"] = {**usual, **row["config"]}
    keys = [row["key"] for row in rows]
    if len(set(keys)) != len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise UserError(f"{folder / 'rows.jsonl'} has the key {twice} twice; publish the results again")
    predictions, labels, classes = _predictions(folder / "predictions.npz") if "predictions.npz" in files else \
        ({}, {}, {})  # fmt: skip
    attacks = {name.split("/")[1]: _attack(folder, name, files) for name in sorted(files) if _is_attack(name)}
    by_run = {row["run"]: row["key"] for row in rows}
    for attack in attacks.values():
        for model in attack["models"]:
            model["key"] = by_run.get(Path(model.get("run") or "").name)
    results = Results(
        folder=folder,
        name=manifest["study"],
        command=manifest["command"],
        written=manifest.get("written") or {},
        rows=rows,
        predictions=predictions,
        labels=labels,
        classes=classes,
        curves=_records(folder / "curves.jsonl", schema.CURVE) if "curves.jsonl" in files else [],
        traces=_traces(folder / "traces.npz") if "traces.npz" in files else {},
        attacks=attacks,
        scaling=_scaling(folder / "scaling.csv") if "scaling.csv" in files else [],
        unfinished=manifest.get("unfinished") or {},
    )
    _check_predictions(results)
    return results


def _verify(folder: Path, files: dict[str, str]) -> None:
    for name, sha256 in files.items():
        path = folder / name
        if not path.is_file():
            # Adversarial images may be too large to publish: their hash stays in the manifest.
            if Path(name).match("attacks/*/adversarial-*.npz"):
                continue
            raise UserError(f"{path} is missing, though manifest.json lists it; publish the results again")
        if file_sha256(path) != sha256:
            raise UserError(
                f"{path} is not the file that manifest.json names (its sha256 differs): it was changed after the "
                "study wrote it; publish the results again"
            )


def _check_predictions(results: Results) -> None:
    """Refuse a row whose accuracy is not that of its published predictions."""
    for row in results.rows:
        labels, predicted = results.labels_of(row), results.predictions.get(row["key"])
        if labels is None or predicted is None:
            continue
        where = f"{results.folder / 'rows.jsonl'}, key {row['key']}"
        if predicted.ndim != 1 or predicted.shape != labels.shape or len(labels) != row["test"]["images"]:
            raise UserError(
                f"{where}: {row['test']['images']} test images, but predictions of {predicted.size} and "
                f"{labels.size} labels in predictions.npz; publish the results again"
            )
        accuracy = float((predicted == labels).mean())
        if abs(accuracy - row["test"]["accuracy"]) > 1e-9:
            raise UserError(
                f"{where}: accuracy {row['test']['accuracy']:.6f}, but its predictions give {accuracy:.6f}; "
                "publish the results again"
            )
        names = results.classes.get(row["hashes"]["data"][:16])
        if names and any(array.dtype.kind not in "iu" or array.max() >= len(names) for array in (predicted, labels)):
            raise UserError(
                f"{where}: predictions.npz names {len(names)} classes and holds others; publish the results again"
            )


def _json(path: Path) -> Any:
    try:
        return _parsed(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        raise UserError(f"{path} is missing or damaged; publish the results again") from None


def _parsed(text: bytes) -> Any:
    """Raises ValueError: no JSON, or half of a pair of UTF-16 in it, which no file can hold as text."""
    value = json.loads(text)
    if _HALF.search(text):
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _records(path: Path, shape: dict[str, schema.Shape]) -> list[Row]:
    records = []
    # As bytes: a line that is no UTF-8 is one that is no JSON.
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        where = f"{path}, line {number}"
        try:
            record = _parsed(line)
        except (ValueError, RecursionError):
            raise UserError(f"{where}: not JSON; publish the results again") from None
        schema.check(record, shape, where)
        records.append(record)
    return records


def _arrays(path: Path) -> Arrays:
    try:
        return load_arrays(path)
    except ValueError:
        raise UserError(f"{path} is damaged; publish the results again") from None


def _predictions(
    path: Path,
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]], dict[str, list[str]]]:
    arrays = _arrays(path)
    labels = {name.removeprefix("labels-"): array for name, array in arrays.items() if name.startswith("labels-")}
    classes = {
        name.removeprefix("classes-"): [str(word) for word in _names(array, path)]
        for name, array in arrays.items()
        if name.startswith("classes-")
    }
    rest = {name: array for name, array in arrays.items() if not name.startswith(("labels-", "classes-"))}
    return rest, labels, classes


def _names(array: NDArray[Any], path: Path) -> list[object]:
    """Read a JSON list of names, kept as a text or as its bytes."""
    try:
        names = _parsed(array.tobytes() if array.dtype == np.uint8 else str(array).encode())
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list):
        raise UserError(f"{path}: class names are not a JSON list; publish the results again")
    return names


def _traces(path: Path) -> dict[str, dict[str, NDArray[Any]]]:
    found: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in _arrays(path).items():
        key, _, part = name.rpartition("/")
        found.setdefault(key, {})[part] = array
    for key, parts in found.items():
        missing = {"spikes", "membrane", "image"} - set(parts)
        if missing:
            raise UserError(f"{path}: {key} has no {', '.join(sorted(missing))}; publish the results again")
        spikes, membrane, image = parts["spikes"], parts["membrane"], parts["image"]
        drawn = spikes.ndim == membrane.ndim == 2 and spikes.size and membrane.size and len(spikes) == len(membrane)
        if not drawn or spikes.dtype.kind not in "biu" or membrane.dtype.kind != "f":
            raise UserError(f"{path}: spikes and membrane of {key} are not [steps, neurons]; publish the results again")
        if image.ndim != 3 or len(image) != 3 or not image.size or image.dtype != np.uint8:
            raise UserError(f"{path}: image of {key} is not [3, height, width] of bytes; publish the results again")
    return found


def _is_attack(name: str) -> bool:
    return Path(name).match("attacks/*/result.json")


def _attack(folder: Path, name: str, files: dict[str, str]) -> dict[str, Any]:
    result = _json(folder / name)
    found = result.get("format") if isinstance(result, dict) else None
    if found != ATTACK_FORMAT:
        raise UserError(
            f"{folder / name} has format {found}; this version reads format {ATTACK_FORMAT}: run the attack again"
        )
    schema.check(result, schema.ATTACK, str(folder / name))
    for model in result["models"]:
        if not len(result["eps"]) == len(result["eps_labels"]) == len(model["robust"]):
            raise UserError(
                f"{folder / name}: the fields 'eps', 'eps_labels' and 'robust' of {model['name']} do not have the same "
                "radii; publish the results again"
            )
    if not result["models"]:
        raise UserError(f"{folder / name}: the field 'models' is empty; publish the results again")
    panel = str(Path(name).parent / "panel.png")
    return {**result, "panel": (folder / panel).read_bytes() if panel in files else None}


def _scaling(path: Path) -> list[Row]:
    try:
        with path.open(newline="") as file:
            return [
                {
                    "axis": row["axis"],
                    "contender": row["contender"],
                    **{name: _finite(row[name]) for name in ("value", "milliseconds", "mebibytes")},
                }
                for row in csv.DictReader(file)
            ]
    except (KeyError, TypeError, ValueError, csv.Error):
        raise UserError(f"{path} must have the columns {', '.join(schema.SCALING)} with numbers in them") from None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not finite")
    return number
