"""The trap: what weak attacks with the training surrogate would have reported, beside the worst case of the bundle."""

from __future__ import annotations

from typing import Any

from resnet_spiking.reports.table import ABSENT, Cell, Column, Record, Table, percent
from resnet_spiking.reports.tables.trust import setup

NOTE = (
    "FGSM and PGD-10 with the surrogate that the neurons were trained with are the figures that studies of spiking "
    "networks usually publish; bundle: the worst case over all attacks, which is the robust accuracy. Shares of all "
    "images."
)


def trap_table(label: str, result: dict[str, Any], dataset: str) -> Table:
    """Return a row for each attacked model, and at each eps what each weak attack, and the bundle, leave."""
    labels = dict(zip(result["eps"], result["eps_labels"], strict=True))
    weak = list(dict.fromkeys(name for model in result["models"] for row in model["trap"] for name in _attacks(row)))
    names = [*weak, "bundle"]
    rows, records = [], []
    for model in result["models"]:
        name = "Default" if model["name"] == "default" else model["name"]
        found = {row["eps"]: row for row in model["trap"]}
        row = [Cell(name)]
        for eps in labels:
            for attack in names:
                value = found.get(eps, {}).get(attack)
                cell = Cell(ABSENT) if value is None else Cell(percent(value, 1), value, attack == "bundle")
                row.append(cell)
        rows.append(row)
        records += [_record(label, model["name"], point) for point in model["trap"]]
    heads = [
        Column(f"{attack} {eps}", f"{_written(attack)} at {labels[eps]}", True) for eps in labels for attack in names
    ]
    title = f"Weak attacks beside the bundle: {label}"
    columns = [Column("model", "model"), *heads]
    return Table("trap", title, columns, rows, records, common=setup(result, dataset), notes=[NOTE])


def _attacks(row: dict[str, float]) -> list[str]:
    return [name for name in row if name not in ("eps", "bundle", "overstated")]


def _written(attack: str) -> str:
    return attack if attack == "bundle" else attack.upper()


def _record(label: str, model: str, point: dict[str, float]) -> Record:
    return {"result": label, "model": model, **point}
