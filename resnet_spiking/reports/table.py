"""A table: cells with the text that people read, records with the numbers that programs read."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resnet_spiking.errors import UserError

Record = dict[str, Any]
ABSENT = "–"


@dataclass(frozen=True)
class Cell:
    """``text`` as shown; ``value`` to sort by; ``bold`` for the best; ``state`` for a light (good, bad, none)."""

    text: str
    value: float | str | None = None
    bold: bool = False
    state: str = ""


@dataclass(frozen=True)
class Column:
    """``name`` for programs, ``heading`` for people; numbers align right."""

    name: str
    heading: str
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """``rows``: one cell a column. ``common``: what holds for every row. ``notes``: how figures were made."""

    name: str
    title: str
    columns: list[Column]
    rows: list[list[Cell]]
    records: list[Record]
    common: str = ""
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """Return the table in GitHub's Markdown, ``common`` above and the notes below."""
        lines = [f"{self.common}\n"] if self.common else []
        lines.append("| " + " | ".join(_escape(column.heading) for column in self.columns) + " |")
        lines.append("|" + "|".join("---:" if column.numeric else "---" for column in self.columns) + "|")
        for row in self.rows:
            lines.append("| " + " | ".join(_marked(cell) for cell in row) + " |")
        if self.notes:
            lines.append("\n" + " ".join(self.notes))
        return "\n".join(lines)


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _marked(cell: Cell) -> str:
    return f"**{_escape(cell.text)}**" if cell.bold else _escape(cell.text)


def to_csv(records: list[Record]) -> str:
    """Return the records as CSV; the columns are those of all records, in order of appearance."""
    names = list(dict.fromkeys(name for record in records for name in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({name: json.dumps(v) if isinstance(v, (list, dict)) else v for name, v in record.items()})
    return text.getvalue()


def to_json(records: list[Record]) -> str:
    """Return the records as JSON; what is not finite becomes null, which every reader accepts."""
    return json.dumps(finite(records), ensure_ascii=False)


def finite(value: Any) -> Any:
    """Return the value with null in place of NaN and infinities."""
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_parquet(records: list[Record], path: Path) -> None:
    """Write the records as Parquet. Raises ``UserError`` without the extra ``[parquet]``."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError("--parquet needs pyarrow; pip install 'resnet_spiking[parquet]', or leave it out") from None
    names = list(dict.fromkeys(name for record in records for name in record))
    columns = {name: [record.get(name) for record in records] for name in names}
    parquet.write_table(pyarrow.table(columns), path)


def percent(share: float, digits: int = 2) -> str:
    """Write a share of 1 in percent."""
    return f"{100 * share:.{digits}f} %"


def plus_minus(mean: float, std: float | None) -> str:
    """Write a mean share with its sample standard deviation, in percent; no spread for one run."""
    return f"{100 * mean:.2f} %" if std is None else f"{100 * mean:.2f} ± {100 * std:.2f} %"


def signed(points: float) -> str:
    """Write a difference in points with its sign; zero has none."""
    return f"{points:+.2f}".replace("-", "−") if round(points, 2) else "0.00"


def p_value(p: float) -> str:
    """Write a p-value the way papers do."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def engineering(value: float) -> str:
    """Write a count with three significant digits and a suffix: 12.3 k, 4.56 M."""
    for size, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"
