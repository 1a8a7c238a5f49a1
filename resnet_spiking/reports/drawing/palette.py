"""Colours, marks and dashes that tell series apart, in colour, in grey and for colour-blind readers.

The hues follow Okabe and Ito (https://jfly.uni-koeln.de/color/), darkened for white paper and lightened for dark
screens until each has a contrast of 3:1 at least (WCAG 2.1, 1.4.11). The seventh is the ink, which Default keeps.
"""

from __future__ import annotations

from dataclasses import dataclass

LIGHT = ("#0072b2", "#d55e00", "#00896a", "#a8558c", "#8a6d00", "#3a86c8")
DARK = ("#56b4e9", "#ff8a4c", "#2fc79b", "#e79fc9", "#e6c229", "#8fa8ff")
PAPER, NIGHT = "#ffffff", "#14171c"
MARKS = ("circle", "square", "triangle", "diamond", "down", "cross")
DASHES = ("", "6 3", "2 2", "8 3 2 3")


@dataclass(frozen=True)
class Style:
    """``colour``: a CSS colour; ``mark``: a name of ``MARKS``; ``dash``: an SVG dash pattern, empty: solid."""

    colour: str
    mark: str
    dash: str


INK = Style("var(--ink)", "square", "")


def style(index: int) -> Style:
    """Return the style of series ``index``; colour, mark and dash repeat with different periods."""
    colour, turn = index % len(LIGHT), index // len(LIGHT)
    return Style(f"var(--c{colour})", MARKS[(index + turn) % len(MARKS)], DASHES[turn % len(DASHES)])


def variables(colours: tuple[str, ...], ink: str, paper: str, faint: str) -> str:
    """Return CSS declarations of the colours that the charts use."""
    return "".join(f"--c{index}:{colour};" for index, colour in enumerate(colours)) + \
        f"--ink:{ink};--paper:{paper};--faint:{faint};"  # fmt: skip


LIGHT_CSS = variables(LIGHT, "#1b1f24", PAPER, "#6b7280")
DARK_CSS = variables(DARK, "#e8eaed", NIGHT, "#9aa4b2")
