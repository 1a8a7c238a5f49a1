"""A result as one long table: ``table.csv``."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from resnet_spiking.storage.files import write_atomically

COLUMNS = (
    "model", "variant", "norm", "eps", "eps_label", "attack", "mode", "accuracy", "low", "high", "tried",
    "seconds", "forwards_per_image", "backwards_per_image", "head_forwards_per_image", "unreliable",
)  # fmt: skip


def csv_text(result: dict[str, Any]) -> str:
    """Return the long table: a row per model, radius and attack; ``clean`` and ``worst case`` are attacks there."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for entry in result["models"]:
        same = {"model": entry["name"], "variant": entry["variant"], "norm": result["norm"]}
        same["unreliable"] = " ".join(entry["unreliable"])
        writer.writerow({**same, "eps": 0.0, "eps_label": "0", "attack": "clean", **_spread(entry["clean"], result)})
        for label, row in zip(result["eps_labels"], entry["robust"], strict=True):
            where = {**same, "eps": row["eps"], "eps_label": label}
            writer.writerow({**where, "attack": "worst case", **_spread(row, result)})
            for attack, own in row["attacks"].items():
                writer.writerow({**where, "attack": attack, **_own(own)})
    return out.getvalue()


def write_csv(result: dict[str, Any], path: Path) -> None:
    """Write ``csv_text`` atomically."""
    text = csv_text(result)
    write_atomically(path, lambda temporary: temporary.write_text(text))


def _spread(row: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    low, high = row["interval"]
    return {"accuracy": row["accuracy"], "low": low, "high": high, "tried": result["samples"]}


def _own(own: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {key: own[key] for key in ("accuracy", "tried", "mode", "seconds") if key in own}
    for spent in ("forwards", "backwards", "head_forwards"):
        if spent in own:
            row[f"{spent}_per_image"] = own[spent] / own["tried"]
    return row
