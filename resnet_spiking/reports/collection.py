"""Several published studies read as one: for instance parts of a table that were measured on different machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from resnet_spiking.errors import UserError
from resnet_spiking.reports.results import Results, Row, find_results, load_results


def load_collection(path: Path) -> Results:
    """Read the results of one study, or of every study whose results stand in a folder of ``path``.

    Args:
        path: a study folder, its results folder, or a folder of results folders
            (``path/<name>/manifest.json``), which are read in the order of their names.

    Raises:
        UserError: no results there, one of them is not what ``load_results`` accepts, a run or an attack
            that two of them hold.
    """
    if not find_results(path) and path.is_dir():
        parts = [part for part in sorted(path.iterdir()) if find_results(part)]
        if parts:
            return _together(path, [load_results(part) for part in parts])
    return load_results(path)


def _together(path: Path, parts: list[Results]) -> Results:
    parts = _told_apart(parts)
    _refuse_twice(parts, "run", lambda part: (row["key"] for row in part.rows))
    _refuse_twice(parts, "attack", lambda part: part.attacks)
    return Results(
        folder=path,
        name=", ".join(part.name for part in parts),
        command="; ".join(dict.fromkeys(part.command for part in parts)),
        written=_written(parts),
        rows=sorted((row for part in parts for row in part.rows), key=lambda row: row["key"]),
        predictions=_union(part.predictions for part in parts),
        labels=_union(part.labels for part in parts),
        classes=_union(part.classes for part in parts),
        curves=[record for part in parts for record in part.curves],
        traces=_union(part.traces for part in parts),
        attacks=_union(part.attacks for part in parts),
        scaling=[row for part in parts for row in part.scaling],
        unfinished=dict(sum((Counter(part.unfinished) for part in parts), Counter[str]())),
    )


def _told_apart(parts: list[Results]) -> list[Results]:
    """Give runs of one key that computed in different precisions keys of their own.

    A key is made of the settings that were asked for, and ``precision = "auto"`` is another one on another machine.
    """
    first: dict[str, str] = {}
    found = []
    for part in parts:
        precisions = {row["key"]: row["config"]["precision"] for row in part.rows}
        names = {
            key: f"{key}-{precision}"
            for key, precision in precisions.items()
            if first.setdefault(key, precision) != precision
        }
        found.append(_renamed(part, names) if names else part)
    return found


def _renamed(part: Results, names: dict[str, str]) -> Results:
    def keyed(records: list[Row]) -> list[Row]:
        return [{**record, "key": names.get(record["key"], record["key"])} for record in records]

    def by_key(mapping: dict[str, Any]) -> dict[str, Any]:
        return {names.get(key, key): value for key, value in mapping.items()}

    def matched(result: dict[str, Any]) -> dict[str, Any]:
        return {
            **result,
            "models": [{**model, "key": names.get(model["key"], model["key"])} for model in result["models"]],
        }

    return replace(
        part,
        rows=keyed(part.rows),
        curves=keyed(part.curves),
        predictions=by_key(part.predictions),
        traces=by_key(part.traces),
        attacks={label: matched(result) for label, result in part.attacks.items()},
    )


def _refuse_twice(parts: list[Results], what: str, names: Callable[[Results], Iterable[str]]) -> None:
    """Refuse what would be counted twice: two machines' figures of one run are not two seeds."""
    owners: dict[str, Results] = {}
    for part in parts:
        for name in names(part):
            if name in owners:
                raise UserError(
                    f"the {what} {name} is in {owners[name].folder} and in {part.folder}, and may be counted once; "
                    "take it out of one of the two studies and export that one again, or report on one of them"
                )
            owners[name] = part


def _union(mappings: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {name: value for mapping in mappings for name, value in mapping.items()}


def _written(parts: list[Results]) -> dict[str, Any]:
    """Return who wrote the parts: every version that any of them names."""
    found: dict[str, dict[str, None]] = {}
    for part in parts:
        for name, version in (part.written.get("versions") or part.written).items():
            if isinstance(version, str):
                found.setdefault(name, {})[version] = None
    return {"versions": {name: " and ".join(versions) for name, versions in found.items()}}
