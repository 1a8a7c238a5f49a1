"""Run time of the neurons against T and N, from ``scaling.csv``."""

from __future__ import annotations

from typing import Any

from resnet_spiking.reports.digest import Digest
from resnet_spiking.reports.drawing.chart import Axis, Chart, Series
from resnet_spiking.reports.drawing.palette import style
from resnet_spiking.reports.figures.figure import Figure, Panel
from resnet_spiking.reports.table import engineering

CAPTION = "Forward and backward of one layer; both axes logarithmic. N = 256 where T varies, T = 20 where N varies."
AXES = {"T": "T (time steps)", "N": "N (neurons)"}


def draw(digest: Digest) -> Figure:
    """Return a panel of time against T and one against N."""
    rows = digest.results.scaling
    panels = [_panel(rows, axis) for axis in AXES if len({row["value"] for row in rows if row["axis"] == axis}) > 1]
    absent = (
        ""
        if panels
        else "The results have no scaling.csv; measure with `python bench/neurons_scaling.py --output DIRECTORY` and "
        "copy its neurons-scaling.csv there."
    )
    return Figure("scaling", "Run time of the neurons", CAPTION, panels, rows if panels else [], absent)


def _panel(rows: list[dict[str, Any]], axis: str) -> Panel:
    chosen = [row for row in rows if row["axis"] == axis]
    names = list(dict.fromkeys(row["contender"] for row in rows))
    values, times = sorted({row["value"] for row in chosen}), [row["milliseconds"] for row in chosen]
    title = f"Time against {axis}"
    lines = {name: sorted((r["value"], r["milliseconds"]) for r in chosen if r["contender"] == name) for name in names}
    words = "; ".join(
        f"{name} {points[0][1]:.3g} ms at {points[0][0]:g} to {points[-1][1]:.3g} ms at {points[-1][0]:g}"
        for name, points in lines.items()
        if points
    )
    chart = Chart(
        title, words, Axis(AXES[axis], values[0] / 1.15, values[-1] * 1.15, log=True, at=values),
        Axis("milliseconds", min(times) / 1.3, max(times) * 1.3, lambda value: engineering(value), log=True),
        height=300,
    )  # fmt: skip
    for index, name in enumerate(names):
        if lines[name]:
            x, y = zip(*lines[name], strict=True)
            tips = [f"{name}: {time:.3g} ms at {axis} = {at:g}" for at, time in lines[name]]
            chart.line(Series(name, x, y, style(index), tips=tips))
    return Panel(axis, chart.svg(), f"{title} {' '.join(names)}")
