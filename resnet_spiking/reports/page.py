"""The page: one HTML file with everything in it, readable without scripts, sortable and filterable with them."""

from __future__ import annotations

import base64
from importlib import resources

from resnet_spiking.reports.digest import Digest
from resnet_spiking.reports.drawing.chart import CHART_CSS
from resnet_spiking.reports.drawing.markup import Markup, element, join
from resnet_spiking.reports.drawing.palette import DARK_CSS, LIGHT_CSS
from resnet_spiking.reports.figures.catalogue import FIGURES
from resnet_spiking.reports.figures.figure import Figure
from resnet_spiking.reports.groups import devices_of
from resnet_spiking.reports.statistics import INTERVAL, PAIRED, SPREAD
from resnet_spiking.reports.table import Cell, Column, Record, Table, to_csv, to_json
from resnet_spiking.reports.tables.whole import Tables

# Nothing may be fetched: a browser enforces what the page promises.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def make_page(digest: Digest, figures: dict[str, Figure] | None = None, tables: Tables | None = None) -> str:
    """Return the page of a study's results as HTML.

    Args:
        figures: what ``draw_all`` returned, where it is at hand already.
        tables: of this digest, where they are at hand already.
    """
    figures, tables = figures or draw_all(digest), tables or Tables.of(digest)
    sections = [("accuracy-table", "Accuracy table", _accuracy(digest, tables.accuracy))]
    for name, figure in figures.items():
        sections.append((name, figure.title, _figure(digest, name, figure, tables)))
        if name == "robustness":
            sections.append(("trust", "Trust checks", _trust(digest, tables)))
    sections.append(("about", "How the figures were made", _about(digest)))
    navigation = element(
        "nav",
        element("ul", *(element("li", element("a", title, href=f"#{name}")) for name, title, _ in sections)),
        aria_label="Sections",
    )
    body = join(
        element("a", "Skip to the content", href="#content", class_="skip"),
        element("header", element("h1", f"Study: {digest.results.name}"), element("p", _lead(digest)), navigation),
        _controls(tables.accuracy),
        element(
            "main",
            *(
                element("section", element("h2", title, id=f"{name}-heading"), content, id=name,
                        aria_labelledby=f"{name}-heading")
                for name, title, content in sections
            ),
            id="content",
        ),
        element("script", Markup(_static("report.js"))),
    )  # fmt: skip
    style = f":root{{{LIGHT_CSS}}}@media (prefers-color-scheme:dark){{:root{{{DARK_CSS}}}}}"
    style += CHART_CSS + _static("report.css")
    # Paper is white, whatever the screen was.
    style += f"@media print{{:root{{{LIGHT_CSS}}}}}"
    head = join(
        element("meta", charset="utf-8"),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name_="color-scheme", content="light dark"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("title", f"Study: {digest.results.name}"),
        element("style", Markup(style)),
    )
    return f"<!doctype html>\n{element('html', element('head', head), element('body', body), lang='en')}\n"


def draw_all(digest: Digest) -> dict[str, Figure]:
    """Return every figure, in the order of the page."""
    return {name: draw(digest) for name, draw in FIGURES.items()}


def data_links(name: str, records: list[Record]) -> Markup:
    """Return links that save the records as CSV and as JSON; both are inside the page."""
    links = [
        element("a", text, download=f"{name}.{suffix}", href=_address(kind, content))
        for text, suffix, kind, content in (
            ("CSV", "csv", "text/csv", to_csv(records)),
            ("JSON", "json", "application/json", to_json(records)),
        )
    ]
    return element("p", f"Data ({_many(len(records), 'record')}): ", links[0], ", ", links[1], class_="data")


def _address(kind: str, text: str) -> str:
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"


def _static(name: str) -> str:
    return (resources.files("resnet_spiking.reports") / "static" / name).read_text()


def _lead(digest: Digest) -> str:
    groups, rows = digest.groups, digest.results.rows
    variants = len({group.variant for group in groups if not group.is_default})
    datasets = sorted({str(group["dataset"]) for group in groups})
    backbones = sorted({str(group["backbone"]) for group in groups})
    seeds = len({row["seed"] for row in rows})
    attacks = len(digest.results.attacks)
    left = [_many(count, kind) for kind, count in sorted(digest.results.unfinished.items(), reverse=True) if count]
    return (
        f"{_many(len(rows), 'finished run')} in {_many(len(groups), 'setting')}: {_many(variants, 'neuron')} beside "
        f"Default on {', '.join(backbones)} and {', '.join(datasets)}, {_many(seeds, 'seed')}"
        + (f", {_many(attacks, 'attack result')}." if attacks else ".")
        + (f" The study is not finished: {' and '.join(left)} to come, or failed." if left else "")
    )


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _controls(table: Table) -> Markup:
    options = [element("option", column.heading, value=column.name) for column in table.columns]
    options.insert(0, element("option", "as in the study", value=""))
    return element(
        "form",
        element("label", "Filter ", element("input", type="search", id="filter", placeholder="lif cifar10 …",
                                            autocomplete="off")),
        element("label", "Sort ", element("select", *options, id="sort")),
        element("label", element("input", type="checkbox", id="descending"), " descending"),
        element("output", "", id="count", aria_live="polite"),
        id="controls", role="search", aria_label="Filter and sort", hidden=True,
    )  # fmt: skip


def _accuracy(digest: Digest, table: Table) -> Markup:
    if not digest.groups:
        return element(
            "p", "No run has finished yet; run `python -m resnet_spiking.study` again to continue.", class_="absent"
        )
    words = [
        f"{digest.title(group)} {' '.join(cell.text for cell in row)}"
        for group, row in zip(digest.groups, table.rows, strict=True)
    ]
    return join(
        html_table(table, words, ident="accuracies"),
        data_links("accuracy-table", table.records),
        _made(digest, "accuracy"),
    )


def _figure(digest: Digest, name: str, figure: Figure, tables: Tables) -> Markup:
    if not figure.panels:
        return element("p", *_coded(figure.absent), class_="absent")
    panels = element(
        "div",
        *(
            element("figure", panel.drawing, class_="wide" if panel.drawing.startswith("<img") else None,
                    data_words=panel.words)
            for panel in figure.panels
        ),
        class_="panels",
    )  # fmt: skip
    parts = [element("p", figure.caption, class_="caption"), panels]
    if figure.more:
        parts.append(element("p", figure.more, class_="caption"))
    parts.append(data_links(name, figure.records))
    if name == "robustness":
        parts += [_titled(table, entry.commands) for entry, table in tables.robustness]
    elif name == "scaling":
        parts += [_titled(table, []) for table in tables.scaling]
    return join(*parts, _made(digest, name))


def _trust(digest: Digest, tables: Tables) -> Markup:
    if not tables.trust:
        return element("p", *_coded("No model was attacked, so there is nothing to trust or not; attack one with "
                                    "`python -m resnet_spiking.attack RUN`."), class_="absent")  # fmt: skip
    parts = []
    for label, result, table in tables.trust:
        parts.append(_titled(table, [result["command"]]))
        failed = [r for r in table.records if r["state"] == "failed"]
        if failed:
            lines = (
                f"{r['model']}: {r['check']} {r['title']}: {r['value']}, passes at {r['threshold']}" for r in failed
            )
            parts.append(element("ul", *(element("li", line) for line in lines), class_="failed"))
        parts.append(data_links(f"trust-{label}", table.records))
    return join(
        element("p", "✓ passed, ✗ failed, ○ not applicable. A failed check makes the model's robust accuracy an upper "
                     "bound: the attack may be what failed.", class_="caption"),
        *parts,
        _made(digest, "robustness"),
    )  # fmt: skip


def _titled(table: Table, commands: list[str]) -> Markup:
    codes = [element("code", command) for command in dict.fromkeys(commands)]
    made = [element("p", "Attacked by ", *(join(code, " ") for code in codes), class_="made")] if codes else []
    return join(element("h3", table.title), html_table(table), *made)


def html_table(table: Table, words: list[str] | None = None, ident: str | None = None) -> Markup:
    """Return a table that sorts by its headings, with what holds for all rows above it and the notes below.

    Args:
        words: for each row, what the page's filter looks in; the row's texts if left out.
    """
    head = element("tr", *(_heading(column) for column in table.columns))
    found = words or [" ".join([table.title, table.common, *(cell.text for cell in row)]) for row in table.rows]
    body = [
        element("tr", *map(_cell, table.columns, row, range(len(row))), data_words=word)
        for row, word in zip(table.rows, found, strict=True)
    ]
    notes = [element("p", note, class_="note") for note in table.notes]
    common = [element("p", table.common, class_="common")] if table.common else []
    whole = element(
        "table",
        element("caption", table.title, class_="hidden"),
        element("thead", head),
        element("tbody", *body),
        id=ident,
    )
    return join(
        *common, element("div", whole, class_="scroll", tabindex=0, role="region", aria_label=table.title), *notes
    )


def _heading(column: Column) -> Markup:
    return element(
        "th", column.heading, scope="col", data_column=column.name, class_="number" if column.numeric else None
    )


def _cell(column: Column, cell: Cell, index: int) -> Markup:
    classes = " ".join(name for name in ("number" if column.numeric else "", cell.state) if name)
    value = cell.value if cell.value is not None else None if cell.text == "–" else cell.text
    text = element("strong", cell.text) if cell.bold else cell.text
    name = "th" if index == 0 else "td"
    shown = f"{value:.10g}" if isinstance(value, float) else value
    return element(name, text, scope="row" if index == 0 else None, class_=classes or None, data_label=column.heading,
                   data_value=shown)  # fmt: skip


def _made(digest: Digest, name: str) -> Markup:
    return element(
        "p", "Measured by ", element("code", digest.results.command), ", drawn by ", element("code", digest.command),
        f" (figures/{name}*.svg)." if name in FIGURES else ".", class_="made",
    )  # fmt: skip


def _coded(text: str) -> list[str]:
    """Turn what stands in backticks into code."""
    return [element("code", part) if index % 2 else part for index, part in enumerate(text.split("`"))]


def _about(digest: Digest) -> Markup:
    results = digest.results
    warnings = [f"{row['run']}: {warning}" for row in results.rows for warning in row["warnings"]]
    written = results.written.get("versions") or results.written
    versions = ", ".join(f"{name} {value}" for name, value in sorted(written.items()) if isinstance(value, str))
    devices = sorted({device for row in results.rows for device in devices_of(row)})
    random = sorted({name for row in results.rows for name in (row["hashes"].get("backbone") or {}).get("random", ())})
    facts = [
        SPREAD,
        INTERVAL,
        PAIRED,
        f"Devices: {', '.join(devices) or 'none'}.",
        *([f"Written by: {versions}."] if versions else []),
        *(
            [f"Started from random weights, as the given file had none for them: {', '.join(random)}."]
            if random
            else []
        ),
        "Every file that this page shows was compared with the sha256 in manifest.json, and every accuracy with its "
        "per-image predictions where they were published.",
    ]
    parts = [element("ul", *(element("li", fact) for fact in facts))]
    if warnings:
        parts.append(element("h3", _many(len(warnings), "warning")))
        parts.append(element("ul", *(element("li", warning) for warning in warnings), class_="failed"))
    return join(*parts)
