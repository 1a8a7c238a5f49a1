"""The results of a study: everything that is published, and all that a report reads."""

from __future__ import annotations

import json
import shlex
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from resnet_spiking.errors import UserError
from resnet_spiking.storage.arrays import Arrays, save_arrays
from resnet_spiking.storage.files import file_sha256, write_atomically, write_json
from resnet_spiking.studies.intact import TRACES, flaw, made, read_curve, read_traces
from resnet_spiking.studies.labels import labels_path, narrow, read_labels
from resnet_spiking.studies.ledger import Entry

FORMAT = 1
ROUNDING = 1e-9
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
    last; the same runs give the same bytes, apart from measured seconds. The manifest says how many of the study's
    runs and attacks are ``unfinished``.

    Raises ``UserError`` before anything is written when files of a finished run or attack are missing or damaged.
    """
    entries = list(entries)
    done = [entry for entry in entries if entry.state == "done"]
    left = Counter(entry.kind for entry in entries if entry.state != "done" and entry.kind in ("run", "attack"))
    runs = sorted((entry for entry in done if entry.kind == "run"), key=lambda entry: entry.key)
    attacks = sorted((entry for entry in done if entry.kind == "attack"), key=lambda entry: entry.label)
    again = f"python -m resnet_spiking.study {shlex.quote(str(folder))}"
    for entry in (*runs, *attacks):
        if found := flaw(folder, entry, published=True):
            raise UserError(f"{found}; {again} does this {entry.kind} again")
    rows: list[dict[str, Any]] = []
    arrays: Arrays = {}
    curves: list[dict[str, Any]] = []
    traces: Arrays = {}
    for entry in runs:
        run = made(folder, entry)
        result = json.loads((run / "result.json").read_text())
        rows.append(_row(entry, run.name, result))
        arrays[entry.key] = narrow(result["predictions"])
        curves += [{"key": entry.key, **record} for record in read_curve(run) or ()]
        traces |= {f"{entry.key}/{name}": array for name, array in _traces(run, again).items()}
    for data_sha256 in sorted({row["hashes"]["data"] for row in rows}):
        labels, classes = read_labels(folder, data_sha256)
        arrays[f"labels-{data_sha256[:16]}"] = labels
        arrays[f"classes-{data_sha256[:16]}"] = np.array(json.dumps(classes))
    _check_accuracies(folder, rows, arrays, again)
    results = folder / "results"
    if results.exists() and not results.is_dir():
        raise UserError(f"{results} is a file; move it away, then {again} writes the results there")
    results.mkdir(exist_ok=True)
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
        **({"unfinished": dict(sorted(left.items()))} if left else {}),
    }
    write_json(results / "manifest.json", manifest)
    return results


def changed_images(results: Path) -> list[str]:
    """Return a line for each dataset whose images changed between the runs in ``results``.

    A run is found again by the names and sizes of its files, so that files whose content alone changed go unnoticed.
    """
    found: dict[tuple[Any, ...], Counter[str]] = {}
    for line in (results / "rows.jsonl").read_text().splitlines():
        row = json.loads(line)
        samples = (row["config"].get(name) for name in ("train_samples", "test_samples"))
        found.setdefault((row["dataset"], *samples), Counter())[row["hashes"]["data"][:8]] += 1
    return [
        f"{dataset}: its images changed between runs, though neither their names nor their sizes did "
        f"({', '.join(f'{count} runs on {data}' for data, count in versions.items())}); reports keep these apart; to "
        "train all on the present ones, give the study another --output-dir"
        for (dataset, *_), versions in found.items()
        if len(versions) > 1
    ]


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


def _traces(run: Path, again: str) -> Arrays:
    if not (run / TRACES).exists():
        return {}
    traces = read_traces(run)
    if traces is None:
        raise UserError(f"{run / TRACES} is damaged; delete it, then {again}")
    return traces


def _check_accuracies(folder: Path, rows: list[dict[str, Any]], arrays: Arrays, again: str) -> None:
    """Refuse labels by which a run has another accuracy than the one that it measured: no report would take it."""
    for row in rows:
        predicted, labels = arrays[row["key"]], arrays[f"labels-{row['hashes']['data'][:16]}"]
        fits = predicted.shape == labels.shape
        if not fits or abs(float((predicted == labels).mean()) - row["test"]["accuracy"]) > ROUNDING:
            path = labels_path(folder, row["hashes"]["data"])
            raise UserError(
                f"{path} does not give the accuracy of {row['run']}; delete it, then {again} writes it again"
            )


def _copy_attacks(folder: Path, results: Path, attacks: list[Entry]) -> Iterator[Path]:
    for entry in attacks:
        source, target = made(folder, entry), results / "attacks" / entry.label
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
    paths = [path for entry in attacks for path in sorted(made(folder, entry).glob("*.npz"))]
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in paths}


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    write_atomically(path, lambda temporary: temporary.write_text(text))
    return path


def _write_arrays(path: Path, arrays: Arrays) -> Path:
    save_arrays(path, arrays, compressed=True)
    return path
