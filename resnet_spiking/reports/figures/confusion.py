"""Confusion matrices: which classes are taken for which."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnet_spiking.reports.digest import Digest, name_of
from resnet_spiking.reports.drawing.chart import WIDTH, context, image
from resnet_spiking.reports.drawing.markup import Markup, element, join
from resnet_spiking.reports.figures.figure import STUDY, Figure, Panel
from resnet_spiking.reports.groups import Group
from resnet_spiking.reports.table import Record

CAPTION = (
    "Rows: true class; columns: predicted class; percent of the row, over all seeds. Mistakes are shaded from 0 to the "
    "largest one; the diagonal, outlined, is what was right."
)
MOST = 24
LABELLED = 20
LEFT, TOP = 78, 52


def draw(digest: Digest) -> Figure:
    """Return one matrix for each principal group with predictions, ``MOST`` at most."""
    panels: list[Panel] = []
    records: list[Record] = []
    hidden = 0
    for title, groups in digest.panels.items():
        for group in groups:
            found = confusion(group)
            if found is None:
                continue
            if len(panels) >= MOST:
                hidden += 1
                continue
            names = _classes(group, len(found))
            name = name_of(group.variant)
            panels.append(Panel(f"{name} {title}", _matrix(found, names, f"{name}", title), f"{name} {title}"))
            records += [
                {"panel": title, "variant": group.variant, "true": names[i], "predicted": names[j], "images": int(n)}
                for (i, j), n in np.ndenumerate(found)
                if n
            ]
    more = f"{hidden} more matrices: narrow the report with --only." if hidden else ""
    absent = "" if panels else f"The results have no predictions.npz; publish them again with `{STUDY}`."
    return Figure("confusion", "Confusion matrices", CAPTION, panels, records, absent, more)


def confusion(group: Group) -> NDArray[np.int64] | None:
    """Return counts [true, predicted] over all seeds of the group; None without predictions."""
    total: NDArray[np.int64] | None = None
    for row in group.rows:
        labels, predicted = group.results.labels_of(row), group.results.predictions.get(row["key"])
        if labels is None or predicted is None:
            return None
        size = max(len(_classes(group, 0)), int(labels.max()) + 1, int(predicted.max()) + 1)
        counts = np.bincount(labels.astype(np.int64) * size + predicted, minlength=size * size).reshape(size, size)
        total = counts if total is None else total + counts
    return total


def _classes(group: Group, size: int) -> list[str]:
    found = group.results.classes.get(group.rows[0]["hashes"]["data"][:16])
    return found or [str(index) for index in range(size)]


def _matrix(counts: NDArray[Any], names: list[str], title: str, panel: str) -> Markup:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    wrong = shares * (1 - np.eye(len(shares)))
    worst = float(wrong.max())
    side = (WIDTH - LEFT - 12) / len(shares)
    i, j = np.unravel_index(int(wrong.argmax()), wrong.shape)
    words = (
        f"{panel}. Overall {np.trace(counts) / max(counts.sum(), 1):.2%} right; most often {names[i]} is taken for "
        f"{names[j]}, {worst:.1%} of the time"
    )
    parts = [element("text", title, x=12, y=15, class_="t"), context(panel, 58, 30)]
    if len(shares) <= LABELLED:
        parts += _cells(shares, worst, names, side)
    else:
        parts.append(element("image", href=_shades(shares, worst), x=LEFT, y=TOP, width=WIDTH - LEFT - 12,
                             height=WIDTH - LEFT - 12, class_="pixels"))  # fmt: skip
    bottom = TOP + side * len(shares)
    parts.append(element("text", "predicted", x=(LEFT + WIDTH) / 2, y=bottom + 58, text_anchor="middle", class_="f"))
    parts.append(element("text", "true", x=11, y=(TOP + bottom) / 2, class_="f",
                         transform=f"rotate(-90 11 {(TOP + bottom) / 2:g})", text_anchor="middle"))  # fmt: skip
    return image(title, words, WIDTH, int(bottom + 66), join(*parts))


def _cells(shares: NDArray[Any], worst: float, names: list[str], side: float) -> list[Markup]:
    parts = []
    for row, name in enumerate(names):
        middle = TOP + side * (row + 0.5) + 4
        parts.append(element("text", _short(name), x=LEFT - 5, y=middle, text_anchor="end"))
        at = LEFT + side * (row + 0.5) + 4
        parts.append(element("text", _short(name), x=at, y=TOP + side * len(names) + 8, text_anchor="end",
                             transform=f"rotate(-45 {at:.1f} {TOP + side * len(names) + 8:.1f})"))  # fmt: skip
    for (row, column), value in np.ndenumerate(shares):
        x, y = LEFT + side * column, TOP + side * row
        right = row == column
        shade = 0.0 if right or not worst else 0.85 * float(value) / worst
        parts.append(
            element("rect", element("title", f"{names[row]} as {names[column]}: {value:.2%}"), x=x, y=y, width=side - 1,
                    height=side - 1, fill="var(--c1)" if shade else "var(--faint)", fill_opacity=shade or 0.05,
                    stroke="var(--ink)" if right else None)
        )  # fmt: skip
        if value >= 0.005:
            parts.append(element("text", f"{100 * value:.0f}", x=x + side / 2, y=y + side / 2 + 3.5,
                                 text_anchor="middle", class_="n", font_weight=600 if right else None))  # fmt: skip
    return parts


def _short(name: str) -> str:
    return name if len(name) <= 11 else name[:10] + "…"


def _shades(shares: NDArray[Any], worst: float) -> str:
    """Return the matrix as a PNG: too many cells to draw each as an element."""
    strength = np.clip(shares / max(worst, 1e-9), 0, 1)
    alpha = (255 * np.where(np.eye(len(shares), dtype=bool), shares, strength)).astype(np.uint8)
    colour = np.zeros((*shares.shape, 4), np.uint8)
    colour[..., :3] = np.where(np.eye(len(shares), dtype=bool)[..., None], (128, 128, 128), (213, 94, 0))
    colour[..., 3] = alpha
    file = io.BytesIO()
    Image.fromarray(colour).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
