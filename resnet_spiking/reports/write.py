"""Writing a report: the page, the tables for people and for programs, the figures as files."""

from __future__ import annotations

import re
from pathlib import Path

from resnet_spiking.errors import UserError
from resnet_spiking.reports.digest import Digest
from resnet_spiking.reports.drawing.chart import standalone
from resnet_spiking.reports.page import draw_all, make_page
from resnet_spiking.reports.table import Record, Table, to_csv, write_parquet
from resnet_spiking.reports.tables.runs import run_records
from resnet_spiking.reports.tables.whole import Tables
from resnet_spiking.storage.files import write_atomically


def write_report(digest: Digest, output: Path, *, parquet: bool = False) -> list[Path]:
    """Write a report and return its files, the page first.

    Args:
        output: folder; made when absent. It gets ``report.html``, ``report.md``, ``tables/*.csv`` and
            ``figures/*.svg``; files of the same names are replaced.
        parquet: write ``tables/*.parquet`` as well, which needs the extra ``[parquet]``.

    Raises:
        UserError: the folder cannot be written, or pyarrow is missing.
    """
    figures = draw_all(digest)
    tables = Tables.of(digest)
    texts = {"report.html": make_page(digest, figures, tables), "report.md": _markdown(digest, tables.filled)}
    records = program_tables(digest, tables.filled)
    texts |= {f"tables/{name}.csv": to_csv(rows) for name, rows in records.items()}
    for name, figure in figures.items():
        for index, panel in enumerate(figure.panels, 1):
            if panel.drawing.startswith("<svg"):
                suffix = f"-{index}" if len(figure.panels) > 1 else ""
                texts[f"figures/{name}{suffix}.svg"] = standalone(panel.drawing)
    written = []
    try:
        for folder in (output, output / "tables", output / "figures"):
            folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_atomically(output / name, lambda temporary, text=text: temporary.write_text(text))  # type: ignore[misc]
            written.append(output / name)
        for name, rows in records.items() if parquet else ():
            path = output / "tables" / f"{name}.parquet"
            write_atomically(path, lambda temporary, rows=rows: write_parquet(rows, temporary))  # type: ignore[misc]
            written.append(path)
    except OSError as error:
        raise UserError(f"cannot write to {output} ({error.strerror}); choose another --output-dir") from None
    return written


def program_tables(digest: Digest, tables: list[Table]) -> dict[str, list[Record]]:
    """Return name → records: the tables' in full precision, and one record a run."""
    found: dict[str, list[Record]] = {"runs": run_records(digest.results.rows)}
    for table in tables:
        found.setdefault(table.name, []).extend(table.records)
    return {name: records for name, records in found.items() if records}


def _markdown(digest: Digest, tables: list[Table]) -> str:
    parts = [
        f"# Study: {digest.results.name}",
        f"Measured by `{digest.results.command}`, written by `{digest.command}`.",
    ]
    for table in tables:
        parts += [f"## {table.title}", table.markdown()]
    return re.sub(r"\n{3,}", "\n\n", "\n\n".join(parts)) + "\n"
