"""A chart as an SVG image: axes, lines with bands, points with whiskers, legend, title and description."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from resnet_spiking.reports.drawing.markup import Markup, element, join
from resnet_spiking.reports.drawing.palette import DARK_CSS, LIGHT_CSS, Style
from resnet_spiking.reports.drawing.scale import Scale, log_ticks, ticks

WIDTH, HEIGHT = 360, 250
LETTER = 5.9
"""Mean width of a letter at 11 pixels: enough to place a legend without measuring fonts."""
LINE = 12
"""From one row of labels to the next."""

CHART_CSS = (
    "text{font:11px system-ui,sans-serif;fill:var(--ink)}.t{font-weight:600;font-size:12px}"
    ".g{stroke:var(--faint);stroke-opacity:.25}.a{stroke:var(--faint)}.f{fill:var(--faint)}"
)


@dataclass(frozen=True)
class Series:
    """Points of one name. ``low`` and ``high`` bound each y: a band of a line, whiskers of points."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    style: Style
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    tips: Sequence[str] = ()


@dataclass(frozen=True)
class Axis:
    """One axis: label, range, and how values are written."""

    label: str
    low: float
    high: float
    write: Callable[[float], str] = lambda value: f"{value:g}"
    log: bool = False
    at: Sequence[float] | None = None


@dataclass
class Chart:
    """An image of 360 pixels width, readable on a phone; ``svg`` returns it.

    ``title`` stands above it; ``description`` is its alternative text: what the drawing shows, in words.
    """

    title: str
    description: str
    x: Axis
    y: Axis
    height: int = HEIGHT
    left: int = 52
    marks: list[Markup] = field(default_factory=list)
    labels: list[tuple[str, Style]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.heading = textwrap.wrap(self.title, 50)
        self.top = 14 + 14 * len(self.heading)
        self.height += self.top - 28
        self.bottom = self.height - 42
        self.across = Scale(self.x.low, self.x.high, self.left, WIDTH - 12, self.x.log)
        self.ticks = list(self._ticks())
        # A second row of labels, where the first has no room for all, moves what stands below it.
        self.height += LINE * max((row for *_, row in self.ticks), default=0)
        self.up = Scale(self.y.low, self.y.high, self.bottom, self.top, self.y.log)

    def line(self, series: Series, band: bool = True) -> None:
        """Draw a line with a mark at each point, and the band between ``low`` and ``high``, or else whiskers."""
        places = self._places(series.x, series.y)
        if not band:
            self._whiskers(series, places)
        elif series.low:
            top, bottom = self._places(series.x, series.high), self._places(series.x, series.low)
            outline = "M" + "L".join(_pair(*place) for place in [*top, *reversed(bottom)]) + "Z"
            self.marks.append(element("path", d=outline, fill=series.style.colour, fill_opacity=0.16))
        self.marks.append(_line(places, series.style))
        if len(places) <= 40:
            self._points(places, series)
        self.labels.append((series.label, series.style))

    def points(self, series: Series, sideways: bool = False) -> None:
        """Draw points, with whiskers from ``low`` to ``high`` along y, or along x when ``sideways``."""
        places = self._places(series.x, series.y)
        self._whiskers(series, places, sideways)
        self._points(places, series)
        self.labels.append((series.label, series.style))

    def _whiskers(self, series: Series, places: list[tuple[float, float]], sideways: bool = False) -> None:
        for (x, y), low, high in zip(places, series.low, series.high, strict=False):
            ends = (
                {"x1": self._across(low), "x2": self._across(high), "y1": y, "y2": y}
                if sideways
                else {"x1": x, "x2": x, "y1": self._up(low), "y2": self._up(high)}
            )
            self.marks.append(element("line", **ends, stroke=series.style.colour, stroke_width=1.5))

    def dots(self, x: Sequence[float], y: Sequence[float], style: Style) -> None:
        """Draw small pale dots: the single runs behind a mean."""
        for place in self._places(x, y):
            self.marks.append(element("circle", cx=place[0], cy=place[1], r=2, fill=style.colour, fill_opacity=0.55))

    def rule(self, x: float) -> None:
        """Draw a dashed vertical line at ``x``."""
        at = self._across(x)
        self.marks.append(
            element("line", x1=at, x2=at, y1=self.top, y2=self.bottom, class_="a", stroke_dasharray="3 3")
        )

    def level(self, y: float) -> None:
        """Draw a dashed horizontal line at ``y``."""
        at = self._up(y)
        self.marks.append(
            element("line", x1=self.left, x2=WIDTH - 12, y1=at, y2=at, class_="a", stroke_dasharray="3 3")
        )

    def svg(self, legend: bool = True) -> Markup:
        """Return the image, as an ``svg`` element with title and description for screen readers."""
        rows, height = self._legend(self.height + 8) if legend and self.labels else (join(), self.height)
        heading = [element("text", line, x=12, y=15 + 14 * i, class_="t") for i, line in enumerate(self.heading)]
        body = join(*heading, self._axes(), *self.marks, rows)
        return image(self.title, self.description, WIDTH, height, body)

    def _places(self, x: Sequence[float], y: Sequence[float]) -> list[tuple[float, float]]:
        return [
            (self._across(a), self._up(b)) for a, b in zip(x, y, strict=True) if math.isfinite(a) and math.isfinite(b)
        ]

    def _across(self, value: float) -> float:
        return self.across(min(max(value, self.x.low), self.x.high))

    def _up(self, value: float) -> float:
        return self.up(min(max(value, self.y.low), self.y.high))

    def _points(self, places: list[tuple[float, float]], series: Series) -> None:
        tips = list(series.tips) or [series.label] * len(places)
        for place, tip in zip(places, tips, strict=False):
            self.marks.append(mark(*place, series.style, tip))

    def _ticks(self) -> Iterator[tuple[float, str, int]]:
        """Yield place, text and row of the labels under the x axis; one that would touch another is left out.

        Values that were asked for (categories, the steps of a sweep) may stand in a second row instead.
        """
        free = [0.0] if self.x.at is None else [0.0, 0.0]
        for value in _at(self.x, 5):
            at, text = self.across(value), self.x.write(value)
            row = next((row for row, end in enumerate(free) if at - LETTER * len(text) / 2 > end), None)
            if row is not None:
                free[row] = at + LETTER * len(text) / 2 + 3
                yield at, text, row

    def _axes(self) -> Markup:
        bottom, right = self.bottom, WIDTH - 12
        parts = []
        for value in _at(self.y, 5):
            at = self.up(value)
            parts.append(element("line", x1=self.left, x2=right, y1=at, y2=at, class_="g"))
            parts.append(element("text", self.y.write(value), x=self.left - 6, y=at + 4, text_anchor="end"))
        for value in _at(self.x, 5):
            at = self.across(value)
            parts.append(element("line", x1=at, x2=at, y1=self.top, y2=bottom, class_="g"))
        for at, text, row in self.ticks:
            parts.append(element("text", text, x=at, y=bottom + 15 + LINE * row, text_anchor="middle"))
        parts.append(element("line", x1=self.left, x2=right, y1=bottom, y2=bottom, class_="a"))
        middle = (self.left + right) / 2
        parts.append(element("text", self.x.label, x=middle, y=self.height - 10, text_anchor="middle", class_="f"))
        turn = f"rotate(-90 11 {(self.top + bottom) / 2:g})"
        if self.y.label:
            parts.append(
                element(
                    "text",
                    self.y.label,
                    x=11,
                    y=(self.top + bottom) / 2,
                    transform=turn,
                    text_anchor="middle",
                    class_="f",
                )
            )
        return join(*parts)

    def _legend(self, top: int) -> tuple[Markup, int]:
        parts, x, y = [], 12.0, top + 4.0
        for label, style in self.labels:
            width = 30 + LETTER * len(label) + 12
            if x > 12 and x + width > WIDTH:
                x, y = 12.0, y + 17
            parts.append(_line([(x, y), (x + 22, y)], style))
            parts.append(mark(x + 11, y, style, ""))
            parts.append(element("text", label, x=x + 27, y=y + 4))
            x += width
        return join(*parts), int(y + 14)


def image(title: str, description: str, width: int, height: int, body: Markup) -> Markup:
    """Return an ``svg`` element that a screen reader announces with its title and description."""
    return element(
        "svg",
        element("title", title),
        element("desc", description),
        body,
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=f"{title}. {description}",
        class_="chart",
    )


def context(text: str, letters: int, y: float) -> Markup:
    """Return a faint second heading, broken after ``letters`` letters; its lines are 13 pixels apart from ``y``."""
    lines = textwrap.wrap(text, letters)
    return join(*(element("text", line, x=12, y=y + 13 * index, class_="f") for index, line in enumerate(lines)))


def standalone(svg: Markup) -> str:
    """Return an ``svg`` element as a file of its own, with its style and a background, for light and dark."""
    css = f"svg{{{LIGHT_CSS}background:var(--paper)}}@media (prefers-color-scheme:dark){{svg{{{DARK_CSS}}}}}{CHART_CSS}"
    head, _, rest = svg.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg" width="720"><style>{css}</style>{rest}\n'


def mark(x: float, y: float, style: Style, tip: str) -> Markup:
    """Return a mark of about seven pixels, with a tip that shows under the pointer."""
    title = [element("title", tip)] if tip else []
    if style.mark == "circle":
        return element("circle", *title, cx=x, cy=y, r=3.4, fill=style.colour)
    shapes = {
        "square": "M-3-3h6v6h-6z",
        "triangle": "M0-4L4 3.2H-4z",
        "diamond": "M0-4.4L4.4 0L0 4.4L-4.4 0z",
        "down": "M0 4L4-3.2H-4z",
        "cross": "M-3.6-2.2L-2.2-3.6L0-1.4L2.2-3.6L3.6-2.2L1.4 0L3.6 2.2L2.2 3.6L0 1.4L-2.2 3.6L-3.6 2.2L-1.4 0z",
    }
    return element("path", *title, d=shapes[style.mark], fill=style.colour, transform=f"translate({x:.1f} {y:.1f})")


def _line(places: list[tuple[float, float]], style: Style) -> Markup:
    path = "M" + "L".join(_pair(*place) for place in places) if places else ""
    return element("path", d=path, fill="none", stroke=style.colour, stroke_width=1.8,
                   stroke_dasharray=style.dash or None)  # fmt: skip


def _pair(x: float, y: float) -> str:
    return f"{x:.1f} {y:.1f}"


def _at(axis: Axis, wanted: int) -> list[float]:
    if axis.at is not None:
        return list(axis.at)
    return log_ticks(axis.low, axis.high) if axis.log else ticks(axis.low, axis.high, wanted)
