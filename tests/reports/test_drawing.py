from __future__ import annotations

import itertools
import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from resnet_spiking.reports.drawing.chart import Axis, Chart, Series, standalone
from resnet_spiking.reports.drawing.markup import Markup, element, join
from resnet_spiking.reports.drawing.palette import DARK, INK, LIGHT, NIGHT, PAPER, style
from resnet_spiking.reports.drawing.scale import Scale, log_ticks, padded, ticks

# Machado, Oliveira, Fernandes: A Physiologically-based Model for Simulation of Color Vision Deficiency, 2009.
EYES = {
    "normal": np.eye(3),
    "protanope": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranope": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanope": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
         [0.004733, 0.691367, 0.303900]]
    ),
}  # fmt: skip


def linear(colour: str) -> NDArray[np.float64]:
    """sRGB to linear light (IEC 61966-2-1)."""
    c = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIELAB under D65 of linear light."""
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = matrix @ light.clip(0, 1) / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(first: str, second: str) -> float:
    """WCAG 2.1."""
    low, high = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (first, second))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("colours", "ink", "paper"), [(LIGHT, "#1b1f24", PAPER), (DARK, "#e8eaed", NIGHT)])
def test_colours_stand_out_and_differ_for_every_eye(colours: tuple[str, ...], ink: str, paper: str) -> None:
    assert min(contrast(colour, paper) for colour in colours) >= 3
    for eye, matrix in EYES.items():
        seen = {colour: lab(matrix @ linear(colour)) for colour in (*colours, ink)}
        for first, second in itertools.combinations(seen, 2):
            assert np.linalg.norm(seen[first] - seen[second]) >= 18, (eye, first, second)


def test_two_dozen_series_all_look_different() -> None:
    looks = {style(index) for index in range(24)} | {INK}
    assert len(looks) == 25
    assert len({(style(i).mark, style(i).dash) for i in range(6)}) == 6  # without colour at all


@settings(max_examples=60)
@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(3, 8))
def test_ticks_are_round_evenly_spaced_and_inside(low: float, span: float, wanted: int) -> None:
    found = ticks(low, low + span, wanted)
    step = span / wanted
    assert 1 <= len(found) <= wanted + 1
    assert all(low - 1e-6 * span <= value <= low + span * (1 + 1e-6) for value in found)
    if len(found) > 1:
        gap = found[1] - found[0]
        assert step * 0.99 <= gap <= step * 2.6
        mantissa = gap / 10 ** math.floor(math.log10(gap * 1.0001))
        assert min(abs(mantissa - round_one) for round_one in (1, 2, 5, 10)) < 0.01


def test_log_ticks_and_ranges_by_hand() -> None:
    assert log_ticks(1, 1000) == [1, 10, 100, 1000]
    assert log_ticks(2, 60) == [2, 5, 10, 20, 50]
    assert padded([1, 3], 0.5) == (0, 4)
    assert padded([0.99, 1.0], 0.5, floor=0, ceiling=1) == (pytest.approx(0.985), 1)
    low, high = padded([7, 7])
    assert low < 7 < high
    assert Scale(1, 100, 0, 200, log=True)(10) == 100


def test_a_line_goes_through_its_points_inside_its_band() -> None:
    chart = Chart("title", "words", Axis("x", 0, 10), Axis("y", 0, 1))
    chart.line(Series("a", [0, 5, 10], [0, 0.5, 1], INK, [0, 0.4, 0.9], [0.1, 0.6, 1]))
    svg = ElementTree.fromstring(chart.svg())
    band, line = [path for path in svg.iter("path") if "L" in (path.get("d") or "")][:2]
    # The plot spans x = 52 to 348 pixels and y = 208 (value 0) to 28 (value 1).
    assert line.get("d") == "M52.0 208.0L200.0 118.0L348.0 28.0"
    assert band.get("d") == "M52.0 190.0L200.0 100.0L348.0 28.0L348.0 46.0L200.0 136.0L52.0 208.0Z"
    marks = [path for path in svg.iter("path") if path.get("transform")]
    assert [path.get("transform") for path in marks[:3]] == [
        "translate(52.0 208.0)", "translate(200.0 118.0)", "translate(348.0 28.0)"
    ]  # fmt: skip


def test_a_chart_says_what_it_shows() -> None:
    svg = ElementTree.fromstring(Chart("a < b", "it grows", Axis("x", 0, 1), Axis("y", 0, 1)).svg())
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == "a < b. it grows"
    assert [svg[0].text, svg[1].text] == ["a < b", "it grows"]


def _labels(chart: Chart) -> list[tuple[str, float, float]]:
    """Text, x and y of the labels under the x axis."""
    texts = ElementTree.fromstring(chart.svg()).iter("text")
    return [
        (str(text.text), float(text.get("x", "")), float(text.get("y", "")))
        for text in texts
        if text.get("text-anchor") == "middle" and text.get("class") is None
    ]


def test_labels_never_overlap() -> None:
    """What finds no room in the first row stands in the second, and nowhere when that is full as well."""
    crowded = Chart("t", "d", Axis("x", 0, 1, at=[0.5, 0.9, 0.95, 0.96, 0.99]), Axis("y", 0, 1))
    rows: dict[float, list[str]] = {}
    for text, _, y in _labels(crowded):
        rows.setdefault(y, []).append(text)
    assert list(rows.values()) == [["0.5", "0.9", "0.99"], ["0.95"]]
    assert next(iter(rows)) < list(rows)[1] < crowded.height - 10


def test_every_category_has_its_label() -> None:
    names = ["atan", "fast_sigmoid", "rectangle", "sigmoid", "ste", "triangle"]
    axis = Axis("surrogate", -0.5, 5.5, lambda value: names[int(value)], at=list(range(6)))
    found = _labels(Chart("t", "d", axis, Axis("y", 0, 1)))
    assert [text for text, *_ in found] == names
    width = 6.2  # of a letter, about
    for y in {y for *_, y in found}:
        spans = [(x - width * len(text) / 2, x + width * len(text) / 2) for text, x, row in found if row == y]
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_a_drawing_of_its_own_is_xml_with_its_style() -> None:
    text = standalone(Chart("t", "d", Axis("x", 0, 1), Axis("y", 0, 1)).svg())
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    used = set(re.findall(r"var\((--\w+)\)", text))
    assert used
    assert all(f"{name}:" in text for name in used)


def test_markup_escapes_what_is_not_markup() -> None:
    made = element("p", "a<b>&", Markup("<b>c</b>"), class_="x", title='"q"', hidden=True, data_x=None)
    assert made == '<p class="x" title="&quot;q&quot;" hidden>a&lt;b&gt;&amp;<b>c</b></p>'
    assert join("<", Markup("<i>")) == "&lt;<i>"
    assert element("line", x1=1.0, x2=2.345678) == '<line x1="1" x2="2.35"/>'
