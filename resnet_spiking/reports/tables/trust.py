"""The traffic light: one row for each attacked model, one column for each trust check."""

from __future__ import annotations

from typing import Any

from resnet_spiking.reports.table import Cell, Column, Record, Table

STATES = {True: ("✓", "passed", "good"), False: ("✗", "failed", "bad"), None: ("○", "not applicable", "none")}


def trust_table(label: str, result: dict[str, Any]) -> Table:
    """Return which trust check each model of an attack result passed, with the value that decided."""
    titles = {check["name"]: check["title"] for model in result["models"] for check in model["checks"]}
    rows: list[list[Cell]] = []
    records: list[Record] = []
    for model in result["models"]:
        checks = {check["name"]: check for check in model["checks"]}
        failed = ", ".join(model["unreliable"])
        verdict = (
            Cell(f"✗ UNRELIABLE: {failed}", failed, state="bad") if failed else Cell("✓ reliable", "", state="good")
        )
        row = [Cell("Default" if model["name"] == "default" else model["name"]), verdict]
        for name in titles:
            check = checks.get(name, {"passed": None, "reason": "not run"})
            symbol, word, state = STATES[check.get("passed")]
            row.append(Cell(f"{symbol} {word}", f"{symbol} {word}", state=state))
            records.append({
                "result": label,
                "model": model["name"],
                "check": name,
                "title": titles[name],
                "state": word,
                "value": None if check.get("value") is None else _text(check["value"]),
                "threshold": check.get("threshold"),
                "reason": check.get("reason"),
            })  # fmt: skip
        rows.append(row)
    checks_heads = [Column(name, f"{name} {title}") for name, title in titles.items()]
    columns = [Column("model", "model"), Column("verdict", "verdict"), *checks_heads]
    common = f"{result['dataset']}, {result['samples']:,} test images, bundle {result['bundle']}."
    return Table("trust", f"Trust checks: {label}", columns, rows, records, common=common)


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
