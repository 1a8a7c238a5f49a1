"""Whether what finished tasks left in a study's folder is all there, and what can be read back from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from resnet_spiking.storage.arrays import Arrays, load_arrays
from resnet_spiking.storage.files import file_sha256
from resnet_spiking.studies.ledger import Entry

PUBLISHED_FROM = {"run": ("result.json", "metrics.jsonl"), "attack": ("result.json",)}
NEEDED_LATER = {"run": ("model.safetensors", "config.json"), "attack": ()}
TRACES = "traces.npz"


def made(folder: Path, entry: Entry) -> Path:
    """Return the folder of a run or attack, which keeps its name when its dataset gets another one."""
    return (folder / entry.result).parent if entry.result else folder / f"{entry.kind}s" / entry.label


def flaw(folder: Path, entry: Entry, *, published: bool = False) -> str | None:
    """Say which file of a finished run or attack is missing, damaged or not the one of the ledger's hash.

    ``published``: look only at what results are made of. None when nothing is wrong.
    """
    place = made(folder, entry)
    names = PUBLISHED_FROM[entry.kind] + (() if published else NEEDED_LATER[entry.kind])
    missing = next((place / name for name in names if not (place / name).is_file()), None)
    if missing:
        return f"{missing if place.is_dir() else place} is missing"
    if entry.sha256 is not None and file_sha256(place / "result.json") != entry.sha256:
        return f"{place / 'result.json'} was changed"
    return _damage(place, names)


def is_spoiled(run: Path) -> bool:
    """Say whether a run that was begun in this folder can neither go on nor count as finished."""
    if not (run / "config.json").exists():
        return False
    if not (run / "result.json").exists():
        return _damage(run, ("config.json",)) is not None
    names = PUBLISHED_FROM["run"] + NEEDED_LATER["run"]
    return not all((run / name).is_file() for name in names) or _damage(run, names) is not None


def read_curve(run: Path) -> list[dict[str, Any]] | None:
    """Return the record of each epoch of a finished run; None when they are damaged or not as many as its epochs."""
    try:
        result = json.loads((run / "result.json").read_text())
        epochs = result["config"]["default_epochs" if result["variant"] == "default" else "spiking_epochs"]
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return records if len(records) == epochs and all(isinstance(record, dict) for record in records) else None


def read_traces(run: Path) -> Arrays | None:
    """Return the stored traces of a run; None when there are none, or they are damaged."""
    try:
        found = load_arrays(run / TRACES)
    except ValueError:
        return None
    return found if {"spikes", "membrane", "image"} <= found.keys() else None


def read_object(path: Path) -> dict[str, Any] | None:
    """Return the JSON object that a file holds; None when it holds none."""
    try:
        found = json.loads(path.read_text())
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _damage(place: Path, names: tuple[str, ...]) -> str | None:
    documents = {name: read_object(place / name) for name in names if name.endswith(".json")}
    damaged = next((place / name for name, found in documents.items() if found is None), None)
    if damaged is None and "metrics.jsonl" in names and read_curve(place) is None:
        damaged = place / "metrics.jsonl"
    if damaged is None and "model.safetensors" in names:
        # The checkpoint must have the sha256 that the result publishes.
        hashes = (documents["result.json"] or {}).get("hashes")
        model = place / "model.safetensors"
        if not isinstance(hashes, dict) or hashes.get("model") != file_sha256(model):
            damaged = model
    return None if damaged is None else f"{damaged} is damaged"
