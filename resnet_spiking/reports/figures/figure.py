"""What every figure is: panels, the data in them, and the command that makes it."""

from __future__ import annotations

from dataclasses import dataclass, field

from resnet_spiking.reports.drawing.markup import Markup
from resnet_spiking.reports.table import Record


@dataclass(frozen=True)
class Panel:
    """One drawing. ``words``: what the page's filter looks in. ``name``: for its file."""

    name: str
    drawing: Markup
    words: str


@dataclass(frozen=True)
class Figure:
    """``absent`` says, when there is nothing to draw, what is missing and which command makes it."""

    name: str
    title: str
    caption: str
    panels: list[Panel] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    absent: str = ""
    more: str = ""


STUDY = "python -m resnet_spiking.study"
