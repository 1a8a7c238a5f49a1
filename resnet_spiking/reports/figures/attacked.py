"""Robustness curves: accuracy under the whole bundle against the budget."""

from __future__ import annotations

from resnet_spiking.reports.attacked import Attacked, attacked
from resnet_spiking.reports.digest import Digest
from resnet_spiking.reports.drawing.chart import Axis, Chart
from resnet_spiking.reports.drawing.chart import Series as Line
from resnet_spiking.reports.figures.figure import STUDY, Figure, Panel
from resnet_spiking.reports.tables.attacks import robustness_table

CAPTION = (
    "Share of images classified correctly under every attack of the bundle, against the budget ε. Band: Wilson's 95 % "
    "interval over the images; where a setting has several seeds, Student's t interval of their mean. ✗: a trust check "
    "failed, the curve is an upper bound."
)


def draw(digest: Digest) -> Figure:
    """Return one panel for each comparison of attacked models."""
    found = attacked(digest)
    begun = digest.results.unfinished.get("attack")
    absent = (
        ""
        if found
        else f"No attack of this study has finished yet; run `{STUDY}` again to continue."
        if begun
        else f"No model was attacked in this study; add an [[attack]] block to its file and run `{STUDY}`, or attack "
        "one run with `python -m resnet_spiking.attack RUN`."
    )
    records = [record for entry in found for record in robustness_table(entry).records]
    return Figure("robustness", "Robustness curves", CAPTION, [_panel(digest, e) for e in found], records, absent)


def _panel(digest: Digest, entry: Attacked) -> Panel:
    budgets = {0.0: "clean", **{eps: entry.budgets[eps] for eps in sorted(entry.budgets) if eps > 0}}
    # Budgets double from one to the next: equal steps show them better than a linear axis.
    place = {eps: float(index) for index, eps in enumerate(budgets)}
    texts = list(budgets.values())
    chart = Chart(
        f"{entry.title} · {entry.norm}",
        "",
        Axis("ε", -0.15, max(1.0, len(place) - 1.0) + 0.25, lambda v: texts[round(v)], at=list(place.values())),
        Axis("accuracy [%]", 0, 100),
        height=280,
    )
    words = []
    for series in entry.series:
        points = [(eps, found[0]) for eps in budgets if (found := series.at(eps)) is not None]
        several = f" (n = {len(series.models)})" if len(series.models) > 1 else ""
        name = series.name + several + (" ✗" if series.failed else "")
        said = [f"{budgets[eps]} {100 * accuracy.mean:.1f} %" for eps, accuracy in points]
        failed = [f"unreliable by {', '.join(series.failed)}"] if series.failed else []
        words.append(f"{series.name}{several}: {', '.join([*said, *failed])}")
        chart.line(
            Line(
                name,
                [place[eps] for eps, _ in points],
                [100 * accuracy.mean for _, accuracy in points],
                digest.style(series.variant),
                [100 * accuracy.low for _, accuracy in points],
                [100 * accuracy.high for _, accuracy in points],
                [f"{name}, {text}" for text in said],
            )
        )
    chart.description = "; ".join(words)
    variants = " ".join(series.name for series in entry.series)
    return Panel(f"{entry.title} {entry.threat}", chart.svg(), f"{entry.title} {entry.threat} {variants}")
