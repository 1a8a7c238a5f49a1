"""The table of the original study: a row for each variant, a column for each dataset and backbone."""

from __future__ import annotations

from resnet_spiking.errors import UserError
from resnet_spiking.reports.groups import Group, differing, plain, uneven, varying
from resnet_spiking.reports.statistics import SPREAD, UNEVEN
from resnet_spiking.reports.table import ABSENT, Cell, Column, Record, Table, plus_minus
from resnet_spiking.reports.tables.accuracy import HEADINGS


def matrix_table(
    groups: list[Group], across: tuple[str, ...], expected: dict[str, tuple[str, ...]], fill: str = ""
) -> Table:
    """Return mean ± std (n) of every variant under every combination of the settings ``across``.

    The best of a column is in bold, where all of it stand on the same seeds of Default.

    Args:
        groups: at most one for each variant and combination.
        across: settings that make the columns, such as dataset and backbone.
        expected: values to show even where no run has them: setting → values.
        fill: the command that would fill empty fields, printed under the table.

    Raises:
        UserError: two groups for one field: the message names what tells them apart.
    """
    fields: dict[tuple[str, tuple[str, ...]], Group] = {}
    for group in groups:
        place = (group.variant, tuple(plain(group[name]) for name in across))
        if place in fields:
            both = [fields[place], group]
            names = [name for name in HEADINGS if len({plain(g[name]) for g in both}) > 1] or varying(both)
            raise UserError(
                f"the matrix has two results for {place[0]}, {', '.join(place[1])}: "
                f"{' and '.join(differing(g, names) for g in both)}; name one of them in the request"
            )
        fields[place] = group
    variants = list(dict.fromkeys(group.variant for group in groups))
    variants += [name for name in expected.get("variant", ()) if name not in variants and "*" not in name]
    columns = list(dict.fromkeys(place[1] for place in fields))
    for column in _combinations(across, expected):
        if column not in columns:
            columns.append(column)
    best = {
        column: max(round(group.accuracy.mean, 4) for place, group in fields.items() if place[1] == column)
        for column in columns
        if any(place[1] == column for place in fields)
    }
    mixed = {column for column in best if uneven(group for place, group in fields.items() if place[1] == column)}
    rows: list[list[Cell]] = []
    records: list[Record] = []
    for variant in variants:
        row = [Cell("Default" if variant == "default" else variant)]
        for column in columns:
            found = fields.get((variant, column))
            if found is None:
                row.append(Cell(ABSENT))
                continue
            text = f"{plus_minus(found.accuracy.mean, found.accuracy.std)} {found['epochs']} ({found.accuracy.n})"
            bold = round(found.accuracy.mean, 4) == best[column] and column not in mixed
            row.append(Cell(text, found.accuracy.mean, bold))
            records.append({"variant": variant, **dict(zip(across, column, strict=True)), "epochs": found["epochs"],
                            "n": found.accuracy.n, "accuracy_mean": found.accuracy.mean,
                            "accuracy_std": found.accuracy.std})  # fmt: skip
        rows.append(row)
    notes = ["Test accuracy, epochs <X,Y>, seeds in brackets.", SPREAD]
    notes += [UNEVEN] if mixed else []
    if fill and any(cell.text == ABSENT for row in rows for cell in row):
        notes.append(f"{ABSENT} has no result yet; `{fill}` fills it.")
    heads = [Column("variant", "variant"), *(Column(" ".join(c), ", ".join(c), True) for c in columns)]
    return Table("matrix", "Variants across " + " and ".join(across), heads, rows, records, notes=notes)


def _combinations(across: tuple[str, ...], expected: dict[str, tuple[str, ...]]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()]
    for name in across:
        values = [value for value in expected.get(name, ()) if not set(value) & set("*?[")]
        found = [(*start, value) for start in found for value in values]
    return found
