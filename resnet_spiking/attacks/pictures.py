"""Figures of a robustness evaluation: accuracy against radius, and adversarial images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from resnet_spiking.attacks.wording import level, stamps
from resnet_spiking.storage.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from resnet_spiking.attacks.examples import Examples

# Okabe and Ito's colours, which colour-blind readers tell apart; markers and line styles repeat the difference.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":")
IMAGES = 6


def curves(result: dict[str, Any]) -> Figure:
    """Return accuracy against radius for each model, with the 95 % interval as a band; 0 is the clean accuracy."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    scale = 255 if result["norm"] == "linf" else 1
    for place, entry in enumerate(result["models"]):
        rows = [{"eps": 0.0, **entry["clean"]}, *entry["robust"]]
        at = [row["eps"] * scale for row in rows]
        low, high = zip(*(row["interval"] for row in rows), strict=True)
        colour = COLOURS[place % len(COLOURS)]
        stamp = " (UNRELIABLE)" if entry["unreliable"] else ""
        axes.fill_between(at, [100 * v for v in low], [100 * v for v in high], color=colour, alpha=0.15, linewidth=0)
        axes.plot(
            at, [100 * row["accuracy"] for row in rows], color=colour, marker=MARKERS[place % len(MARKERS)],
            linestyle=LINES[place % len(LINES)], label=entry["name"] + stamp,
        )  # fmt: skip
    smallest = min((eps for eps in result["eps"] if eps), default=1 / 255) * scale
    axes.set_xscale("symlog", base=2, linthresh=smallest)
    axes.set_xticks([0, *(eps * scale for eps in result["eps"] if eps)], ["0", *_ticks(result)])
    axes.minorticks_off()
    axes.set_ylim(-2, 102)
    axes.set_xlabel("eps (Linf, of 255 levels)" if result["norm"] == "linf" else "eps (L2, pixels in [0, 1])")
    axes.set_ylabel("accuracy, worst case (%)")
    axes.set_title(f"{result['dataset']}, {result['samples']} images, bundle {result['bundle']}")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def panel(result: dict[str, Any], tables: Mapping[str, Examples]) -> Figure:
    """Return, per model, adversarial images with the perturbation beside each, amplified to the full range.

    The images that need the largest radius come first: of those that fell, the hardest. Middle grey is no change.
    """
    from matplotlib.figure import Figure

    shown = {name: _hardest(table) for name, table in tables.items()}
    columns = max(1, max((len(rows) for rows in shown.values()), default=1))
    figure = Figure(figsize=(1.5 * columns + 1, 3.4 * len(tables)), layout="constrained")
    grid = figure.subplots(2 * len(tables), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    write = level(result["norm"])
    for place, (name, table) in enumerate(tables.items()):
        distance = table.distance(result["norm"])
        upper, lower = grid[2 * place], grid[2 * place + 1]
        for column, row in enumerate(shown[name]):
            change = table.adversarial[row] - table.clean()[row]
            largest = float(np.abs(change).max())
            factor = 0.5 / largest if largest else 1.0
            _show(upper[column], table.adversarial[row])
            _show(lower[column], 0.5 + change * factor)
            truth = result["classes"][int(table.label[row])]
            upper[column].set_title(f"{truth}\n{write(float(distance[row]))}", fontsize=7)
            lower[column].set_title(f"change × {2 * factor:.0f}", fontsize=7)
        upper[0].text(-0.1, 0.5, name, transform=upper[0].transAxes, ha="right", va="center", fontsize=8, rotation=90)
    lines = stamps(result)
    if lines:
        figure.suptitle("\n".join(lines), fontsize=8)
    return figure


def save_curves(result: dict[str, Any], path: Path) -> None:
    """Write ``curves`` as PNG, atomically."""
    _save(curves(result), path)


def save_panel(result: dict[str, Any], tables: Mapping[str, Examples], path: Path) -> None:
    """Write ``panel`` as PNG, atomically."""
    _save(panel(result, tables), path)


def _hardest(table: Examples) -> list[int]:
    rows = table.is_broken.nonzero()[0]
    return rows[np.argsort(-table.broken[rows], kind="stable")][:IMAGES].tolist()


def _show(axes: Any, image: NDArray[np.float32]) -> None:
    pixels = np.clip(image, 0, 1).transpose(1, 2, 0)
    axes.imshow(pixels if pixels.shape[2] == 3 else pixels[..., 0], cmap="gray", vmin=0, vmax=1)


def _ticks(result: dict[str, Any]) -> list[str]:
    return [label.removesuffix("/255") for label, eps in zip(result["eps_labels"], result["eps"], strict=True) if eps]


def _save(figure: Figure, path: Path) -> None:
    # Without matplotlib's version the same figures give the same bytes.
    write_atomically(
        path, lambda temporary: figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})
    )
