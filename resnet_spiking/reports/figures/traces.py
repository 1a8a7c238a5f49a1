"""What a neuron does with one image: spike raster and membrane traces."""

from __future__ import annotations

import base64
import io
import textwrap
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnet_spiking.reports.digest import Digest
from resnet_spiking.reports.drawing.chart import WIDTH, context, image
from resnet_spiking.reports.drawing.markup import Markup, element, join
from resnet_spiking.reports.drawing.scale import Scale, padded, ticks
from resnet_spiking.reports.figures.figure import STUDY, Figure, Panel
from resnet_spiking.reports.groups import Group
from resnet_spiking.reports.results import Row
from resnet_spiking.reports.table import Record

CAPTION = (
    "One test image (corner), the spikes of the first spiking layer (a dash a spike, a line a neuron) and the membrane "
    "of some of its neurons (lines) with the threshold (dashed)."
)
MOST = 24
LETTERS = 46
LEFT, RIGHT, TOP, RASTER, GAP, TRACES = 44, WIDTH - 12, 74, 150, 26, 110


def draw(digest: Digest) -> Figure:
    """Return one panel for each group whose first traced run was published, ``MOST`` at most."""
    panels: list[Panel] = []
    records: list[Record] = []
    for group in digest.groups:
        row = next((row for row in group.rows if row["key"] in digest.results.traces), None)
        if row is None or group.control:
            continue
        if len(panels) < MOST:
            panels.append(_panel(digest, group, row))
        records.append(_record(digest.title(group), row, digest.results.traces[row["key"]]))
    more = f"{len(records) - MOST} more in the data; narrow the report with --only." if len(records) > MOST else ""
    absent = "" if panels else f"The results have no traces.npz; publish them again with `{STUDY}`."
    return Figure("traces", "Spikes and membranes of one image", CAPTION, panels, records, absent, more)


def _panel(digest: Digest, group: Group, row: Row) -> Panel:
    trace = digest.results.traces[row["key"]]
    spikes, membrane = trace["spikes"], trace["membrane"].astype(np.float64)
    title = f"{group.variant}, seed {row['seed']}"
    steps, neurons = spikes.shape
    rate = float((spikes != 0).mean())
    words = (
        f"{digest.title(group)}: {int((spikes != 0).sum())} spikes of {neurons} neurons in {steps} steps, "
        f"{rate:.1%} of all; membranes of {membrane.shape[1]} neurons between {np.nanmin(membrane):.2f} and "
        f"{np.nanmax(membrane):.2f}"
    )
    look = digest.style(group.variant).colour
    said = f"{digest.title(group)} · {rate:.1%} of steps spike"
    # A long name moves what stands below it.
    top = max(TOP, 40 + 13 * len(textwrap.wrap(said, LETTERS)))
    across = Scale(0, steps, LEFT, RIGHT)
    body = join(
        element("text", title, x=12, y=15, class_="t"),
        context(said, LETTERS, 31),
        element("image", href=_png(trace["image"]), x=RIGHT - 56, y=6, width=56, height=56, class_="pixels"),
        _raster(spikes, across, look, top),
        _membranes(membrane, row, across, look, top + RASTER + GAP),
    )
    height = top + RASTER + GAP + TRACES + 36
    return Panel(
        f"{group.variant} {digest.title(group)}",
        image(title, words, WIDTH, height, body),
        f"{title} {digest.title(group)}",
    )


def _raster(spikes: NDArray[Any], across: Scale, colour: str, top: float) -> Markup:
    steps, neurons = spikes.shape
    line = RASTER / neurons
    width, tall = max(1.2, (RIGHT - LEFT) / steps * 0.6), max(1.0, line * 0.7)
    dashes = "".join(
        f"M{across(float(t)):.1f} {top + line * (n + 0.5):.1f}h{width:.1f}" for t, n in np.argwhere(spikes)
    )
    return join(
        element("line", x1=LEFT, x2=RIGHT, y1=top + RASTER, y2=top + RASTER, class_="a"),
        element("path", d=dashes, stroke=colour, stroke_width=float(tall), fill="none"),
        _label("neuron", top + RASTER / 2),
        element("text", "1", x=LEFT - 6, y=top + 8, text_anchor="end"),
        element("text", str(neurons), x=LEFT - 6, y=top + RASTER, text_anchor="end"),
    )


def _membranes(membrane: NDArray[Any], row: Row, across: Scale, colour: str, start: float) -> Markup:
    steps, neurons = membrane.shape
    threshold = float(row["config"]["threshold"])
    low, high = padded([float(np.nanmin(membrane)), float(np.nanmax(membrane)), threshold])
    up = Scale(low, high, start + TRACES, start)
    parts = [element("line", x1=LEFT, x2=RIGHT, y1=start + TRACES, y2=start + TRACES, class_="a")]
    for value in _beside(threshold, ticks(low, high, 3), (high - low) / 8):
        parts.append(element("text", f"{value:g}", x=LEFT - 6, y=up(value) + 4, text_anchor="end"))
        parts.append(element("line", x1=LEFT, x2=RIGHT, y1=up(value), y2=up(value), class_="g"))
    for index in range(neurons):
        path = "L".join(f"{across(t + 0.5):.1f} {up(float(membrane[t, index])):.1f}" for t in range(steps))
        opacity = 0.35 + 0.65 * (neurons - index) / neurons
        parts.append(
            element("path", d=f"M{path}", fill="none", stroke=colour, stroke_width=1.2, stroke_opacity=opacity)
        )
    parts.append(element("line", x1=LEFT, x2=RIGHT, y1=up(threshold), y2=up(threshold), stroke="var(--ink)",
                         stroke_dasharray="4 3"))  # fmt: skip
    for value in (tick for tick in ticks(0, steps, 5) if tick.is_integer()):
        parts.append(element("text", f"{value:g}", x=across(value), y=start + TRACES + 15, text_anchor="middle"))
    parts.append(
        element("text", "time step", x=(LEFT + RIGHT) / 2, y=start + TRACES + 31, text_anchor="middle", class_="f")
    )
    parts.append(_label("membrane", start + TRACES / 2))
    return join(*parts)


def _beside(value: float, places: list[float], apart: float) -> list[float]:
    """Return ``value`` and those of ``places`` that leave its label room."""
    return [value, *(place for place in places if abs(place - value) > apart)]


def _label(text: str, y: float) -> Markup:
    return element("text", text, x=11, y=y, transform=f"rotate(-90 11 {y:g})", text_anchor="middle", class_="f")


def _png(pixels: NDArray[Any]) -> str:
    """Return an image [3, H, W] of bytes as a data address."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _record(title: str, row: Row, trace: dict[str, NDArray[Any]]) -> Record:
    spikes = [[int(value) for value in step] for step in trace["spikes"]]
    membrane = [[round(float(value), 4) for value in step] for step in trace["membrane"]]
    return {"panel": title, "variant": row["variant"], "key": row["key"], "spikes": spikes, "membrane": membrane}
