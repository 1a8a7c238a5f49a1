"""The results of a study: everything that is published, and all that a report reads."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_spiking.errors import UserError
from resnet_spiking.studies.labels import narrow, read_labels
from resnet_spiking.studies.ledger import Entry
from resnet_spiking.training.files import file_sha256, write_atomically, write_json

FORMAT = 1
READ = {"run": ("result.json", "metrics.jsonl"), "attack": ("result.json",)}
PUBLISHED = ("result.json", "table.csv", "curves.png", "panel.png")
COPIED = (
    "test",
    "default",
    "operations",
    "stages",
    "seconds",
    "devices",
    "hashes",
    "evidence",
    "warnings",
    "neurons",
    "provenance",
)


def export_study(folder: Path, entries: Iterable[Entry]) -> Path:
    """Write ``folder/results`` from the finished runs and attacks; return it.

    ``rows.jsonl`` (a row a run), ``predictions.npz``, ``curves.jsonl``, ``traces.npz``, ``attacks/<label>/`` and
    ``manifest.json`` with the sha256 of every file. Each file is replaced as a whole, the manifest
    last; the same runs give the same bytes, apart from measured seconds.

    Raises ``UserError`` before anything is written when files of a finished run or attack are missing.
    """
    done = [entry for entry in entries if entry.state == "done"]
    runs = sorted((entry for entry in done if entry.kind == "run"), key=lambda entry: entry.key)
    attacks = sorted((entry for entry in done if entry.kind == "attack"), key=lambda entry: entry.label)
    for entry in (*runs, *attacks):
        _check_complete(folder, entry)
    results = folder / "results"
    results.mkdir(exist_ok=True)
    rows: list[dict[str, Any]] = []
    arrays: dict[str, NDArray[Any]] = {}
    curves: list[dict[str, Any]] = []
    traces: dict[str, NDArray[Any]] = {}
    for entry in runs:
        run = _made(folder, entry)
        result = json.loads((run / "result.json").read_text())
        rows.append(_row(entry, run.name, result))
        arrays[entry.key] = narrow(result["predictions"])
        curves += _curves(entry.key, run)
        traces.update(_traces(entry.key, run))
    for data_sha256 in sorted({row["hashes"]["data"] for row in rows}):
        labels, classes = read_labels(folder, data_sha256)
        arrays[f"labels-{data_sha256[:16]}"] = labels
        arrays[f"classes-{data_sha256[:16]}"] = np.array(json.dumps(classes))
    written = [
        _write_lines(results / "rows.jsonl", rows),
        _write_arrays(results / "predictions.npz", arrays),
        _write_lines(results / "curves.jsonl", curves),
        _write_arrays(results / "traces.npz", traces),
        *_copy_attacks(folder, results, attacks),
    ]
    manifest = {
        "format": FORMAT,
        "study": json.loads((folder / "study.json").read_text())["name"],
        "command": rows[0]["provenance"]["command"] if rows else "",
        "written": {key: rows[0]["provenance"][key] for key in ("versions", "git")} if rows else {},
        "files": {path.relative_to(results).as_posix(): file_sha256(path) for path in sorted(written)},
        "kept_elsewhere": _kept_elsewhere(folder, attacks),
    }
    write_json(results / "manifest.json", manifest)
    return results


def _made(folder: Path, entry: Entry) -> Path:
    """Return the folder of a run or attack, which keeps its name when its dataset gets another one."""
    return (folder / entry.result).parent if entry.result else folder / f"{entry.kind}s" / entry.label


def _check_complete(folder: Path, entry: Entry) -> None:
    made = _made(folder, entry)
    missing = [made / name for name in READ[entry.kind] if not (made / name).is_file()]
    if missing:
        again = f"python -m resnet_spiking.study {shlex.quote(str(folder))}"
        raise UserError(f"{missing[0] if made.is_dir() else made} is missing; {again} does this {entry.kind} again")


def _row(entry: Entry, run: str, result: dict[str, Any]) -> dict[str, Any]:
    config = result["config"]
    head_seed = config.get("head_seed")
    return {
        "key": entry.key,
        "run": run,
        "variant": result["variant"],
        "mode": config["mode"],
        "dataset": entry.payload["dataset"],
        "backbone": config["backbone"],
        "weights": result["hashes"]["backbone"]["weights"],
        "freeze_depth": config["freeze_depth"],
        "image_size": config["image_size"],
        "epochs": result["epochs"],
        "train": config["train"],
        "spiking": config.get("spiking", "head"),
        "seed": config["seed"] if head_seed is None else head_seed,
        "default_seed": config["seed"],
        "num_steps": config["num_steps"],
        "encoding": config["encoding"],
        "config": config,
        **{name: result[name] for name in COPIED if name in result},
    }


def _curves(key: str, run: Path) -> Iterator[dict[str, Any]]:
    for line in (run / "metrics.jsonl").read_text().splitlines():
        yield {"key": key, **json.loads(line)}


def _traces(key: str, run: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    if (run / "traces.npz").exists():
        with np.load(run / "traces.npz") as stored:
            for name in ("spikes", "membrane", "image"):
                yield f"{key}/{name}", stored[name]


def _copy_attacks(folder: Path, results: Path, attacks: list[Entry]) -> Iterator[Path]:
    for entry in attacks:
        source, target = _made(folder, entry), results / "attacks" / entry.label
        target.mkdir(parents=True, exist_ok=True)
        for name in PUBLISHED:
            if name == "result.json":
                result = json.loads((source / name).read_text())
                for model in result["models"]:
                    # Where the study lies on this machine is nobody's business; the run's name is what finds it.
                    model["run"] = f"runs/{Path(model['run']).name}"
                write_json(target / name, result)
                yield target / name
            elif (source / name).exists():
                write_atomically(target / name, partial(shutil.copyfile, source / name))
                yield target / name


def _kept_elsewhere(folder: Path, attacks: list[Entry]) -> dict[str, str]:
    """Return the sha256 of adversarial images, which stay in the study's folder: they can be large."""
    paths = [path for entry in attacks for path in sorted(_made(folder, entry).glob("*.npz"))]
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in paths}


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    write_atomically(path, lambda temporary: temporary.write_text(text))
    return path


def _write_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> Path:
    def write(temporary: Path) -> None:
        with temporary.open("wb") as handle:
            # numpy stamps every member with the same date: equal arrays give equal bytes.
            np.savez_compressed(handle, **arrays)  # type: ignore[arg-type]

    write_atomically(path, write)
    return path
