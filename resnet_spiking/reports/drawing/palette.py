"""Colours, marks and dashes that tell series apart, in colour, in grey and for colour-blind readers.

Started from Okabe and Ito (https://jfly.uni-koeln.de/color/) and moved until, on white paper and on a dark screen,
each has a contrast of 3:1 at least (WCAG 2.1, 1.4.11) and any two lie 18 units of CIELAB apart for normal eyes and
for protanopes, deuteranopes and tritanopes as Machado, Oliveira and Fernandes simulate them (IEEE TVCG 15, 2009); a
test measures both. The seventh is the ink, which Default keeps.
"""

from __future__ import annotations

from dataclasses import dataclass

LIGHT = ("#0869b4", "#d55e00", "#009e73", "#cd63a4", "#7a1f1f", "#8560f2")
DARK = ("#56b4e9", "#ff8a4c", "#1ce579", "#e0a0c1", "#f0e442", "#8f7bff")
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
