"""The traffic light: one row for each trust check, one column for each attacked model."""

from __future__ import annotations

from typing import Any

from resnet_spiking.reports.table import Cell, Column, Record, Table

STATES = {True: ("✓", "passed", "good"), False: ("✗", "failed", "bad"), None: ("○", "not applicable", "none")}


def trust_table(label: str, result: dict[str, Any], dataset: str) -> Table:
    """Return which trust checks each model of an attack result passed, and above them the verdict on the model."""
    models = result["models"]
    by_name = [{check["name"]: check for check in model["checks"]} for model in models]
    first = {check["name"]: check for checks in by_name for check in checks.values()}
    rows = [[Cell("verdict"), Cell(""), *(_verdict(model["unreliable"]) for model in models)]]
    records: list[Record] = []
    for name, known in first.items():
        row = [Cell(f"{name} {known['title']}"), Cell(known["threshold"])]
        for model, checks in zip(models, by_name, strict=True):
            check = checks.get(name, {"passed": None, "reason": "not run"})
            symbol, word, state = STATES[check.get("passed")]
            value = None if check.get("value") is None else _text(check["value"])
            # Where a check does not apply its value says no more than the word.
            measured = f": {value}" if value is not None and check.get("passed") is not None else ""
            row.append(Cell(f"{symbol} {word}{measured}", f"{symbol} {word}", state=state))
            records.append({
                "result": label,
                "model": model["name"],
                "check": name,
                "title": known["title"],
                "state": word,
                "value": value,
                "threshold": known["threshold"],
                "reason": check.get("reason"),
            })  # fmt: skip
        rows.append(row)
    heads = [Column(model["name"], "Default" if model["name"] == "default" else model["name"]) for model in models]
    columns = [Column("check", "check"), Column("threshold", "passes at"), *heads]
    return Table("trust", f"Trust checks: {label}", columns, rows, records, common=setup(result, dataset))


def setup(result: dict[str, Any], dataset: str) -> str:
    """Say on what data, how many images, and by what the models of an attack result were attacked."""
    return f"{dataset}, {result['samples']:,} test images, {result['norm']}, bundle {result['bundle']}."


def _verdict(unreliable: list[str]) -> Cell:
    failed = ", ".join(unreliable)
    return Cell(f"✗ UNRELIABLE: {failed}", failed, state="bad") if failed else Cell("✓ reliable", "", state="good")


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
