"""Accuracy of every variant as points with intervals, beside the Default that it is compared with."""

from __future__ import annotations

from resnet_spiking.reports.digest import Digest, name_of
from resnet_spiking.reports.drawing.chart import Axis, Chart, Series
from resnet_spiking.reports.drawing.scale import padded
from resnet_spiking.reports.figures.figure import Figure, Panel
from resnet_spiking.reports.groups import Group
from resnet_spiking.reports.table import plus_minus
from resnet_spiking.reports.tables.accuracy import record

CAPTION = (
    "Test accuracy. Mark: mean over seeds; pale dots: single seeds; bar: 95 % interval (Student's t over seeds, for "
    "one seed Wilson's); dashed line: Default."
)


def draw(digest: Digest) -> Figure:
    """Return one panel for each dataset, backbone and way of training."""
    panels = [_panel(digest, title, groups) for title, groups in digest.panels.items()]
    records = [record(group) for groups in digest.panels.values() for group in groups]
    return Figure("accuracy", "Accuracy by variant", CAPTION, panels, records, more=digest.left_out)


def _panel(digest: Digest, title: str, groups: list[Group]) -> Panel:
    shown = list(reversed(groups))
    bounds = [100 * v for group in groups for v in (max(0, group.accuracy.low), min(1, group.accuracy.high))]
    bounds += [100 * row["test"]["accuracy"] for group in groups for row in group.rows]
    names = [name_of(group.variant) for group in shown]
    chart = Chart(
        title,
        "; ".join(
            f"{name_of(g.variant)} {plus_minus(g.accuracy.mean, g.accuracy.std)}, n = {g.accuracy.n}" for g in groups
        ),
        Axis("test accuracy [%]", *padded(bounds, floor=0, ceiling=100)),
        Axis("", -0.6, len(shown) - 0.4, lambda value: names[round(value)], at=range(len(shown))),
        height=72 + 21 * len(shown),
        left=max(60, 14 + int(6 * max(map(len, names)))),
    )
    if groups[0].is_default:
        chart.rule(100 * groups[0].accuracy.mean)
    for place, group in enumerate(shown):
        look, mean = digest.style(group.variant), group.accuracy
        seeds = [100 * row["test"]["accuracy"] for row in group.rows]
        chart.points(
            Series(
                name_of(group.variant), [100 * mean.mean], [place], look, [100 * mean.low], [100 * mean.high],
                [f"{name_of(group.variant)}: {plus_minus(mean.mean, mean.std)}, n = {mean.n}"],
            ),
            sideways=True,
        )  # fmt: skip
        if mean.n > 1:
            chart.dots(seeds, [place + 0.28] * len(seeds), look)
    return Panel(title, chart.svg(legend=False), " ".join([title, *names]))
