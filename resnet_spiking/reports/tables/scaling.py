"""The table of neuron run times, from ``scaling.csv``."""

from __future__ import annotations

from typing import Any

from resnet_spiking.reports.table import ABSENT, Cell, Column, Table, engineering

NOTE = "Forward and backward of one layer, milliseconds (k: a thousand); the fastest in bold."


def scaling_table(rows: list[dict[str, Any]], axis: str) -> Table:
    """Return milliseconds of each contender against ``axis`` (T or N)."""
    chosen = [row for row in rows if row["axis"] == axis]
    values = sorted({row["value"] for row in chosen})
    found = {(row["contender"], row["value"]): row["milliseconds"] for row in chosen}
    fastest = {value: min(time for (_, at), time in found.items() if at == value) for value in values}
    names = list(dict.fromkeys(row["contender"] for row in chosen))
    cells = [
        [Cell(name)]
        + [
            Cell(engineering(time), time, time == fastest[value])
            if (time := found.get((name, value))) is not None
            else Cell(ABSENT)
            for value in values
        ]
        for name in names
    ]
    columns = [Column("contender", "neuron"), *(Column(f"{value:g}", f"{axis} = {value:g}", True) for value in values)]
    return Table("scaling", f"Run time against {axis}", columns, cells, chosen, notes=[NOTE])
