"""Curves over epochs, averaged over seeds: shared by training curves and the transfer contrast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from resnet_spiking.reports.digest import Digest
from resnet_spiking.reports.drawing.chart import Axis, Chart, Series
from resnet_spiking.reports.drawing.markup import Markup
from resnet_spiking.reports.drawing.palette import Style
from resnet_spiking.reports.drawing.scale import padded
from resnet_spiking.reports.groups import Group
from resnet_spiking.reports.table import Record


@dataclass(frozen=True)
class Curve:
    """Mean over seeds of an accuracy at each epoch; ``std`` is the sample standard deviation, empty for one seed."""

    label: str
    style: Style
    epochs: list[int]
    mean: list[float]
    std: list[float]
    n: int

    def records(self, panel: str) -> list[Record]:
        stds: Sequence[float | None] = self.std or [None] * len(self.mean)
        return [
            {"panel": panel, "series": self.label, "epoch": epoch, "accuracy_mean": mean, "accuracy_std": std,
             "n": self.n}
            for epoch, mean, std in zip(self.epochs, self.mean, stds, strict=True)
        ]  # fmt: skip


def curve(digest: Digest, group: Group, label: str, style: Style, phase: str, start: int = 0) -> Curve | None:
    """Return the group's curve in one phase, its first epoch at ``start`` + 1; None without records.

    Test accuracy where every epoch of every seed has it, else training accuracy.
    """
    by_key = digest.curves_by_key
    found = [[e for e in by_key.get(row["key"], []) if e["phase"] == phase] for row in group.rows]
    found = [sorted(entries, key=lambda entry: entry["epoch"]) for entries in found if entries]
    if not found:
        return None
    length = min(map(len, found))
    name = "test_accuracy" if all(e.get("test_accuracy") is not None for es in found for e in es) else "train_accuracy"
    values = np.array([[entry[name] for entry in entries[:length]] for entries in found])
    std = values.std(axis=0, ddof=1).tolist() if len(values) > 1 else []
    return Curve(label, style, [start + 1 + i for i in range(length)], values.mean(axis=0).tolist(), std, len(values))


def chart_of(title: str, curves: list[Curve], branch: int | None = None) -> Markup:
    """Draw curves with a band of one sample standard deviation; a dashed line after epoch ``branch``."""
    last = max(epoch for c in curves for epoch in c.epochs)
    values = [100 * v for c in curves for v in _bounds(c)]
    words = "; ".join(f"{c.label}: {100 * c.mean[0]:.1f} to {100 * c.mean[-1]:.1f} %, n = {c.n}" for c in curves)
    whole = [epoch for epoch in range(1, last + 1) if last <= 12 or epoch % -(-last // 8) == 0]
    chart = Chart(
        title, words, Axis("epoch", 1, max(2, last), at=whole),
        Axis("accuracy [%]", *padded(values, floor=0, ceiling=100)),
    )  # fmt: skip
    if branch is not None:
        chart.rule(branch)
    for c in curves:
        low = [100 * (mean - std) for mean, std in zip(c.mean, c.std, strict=False)]
        high = [100 * (mean + std) for mean, std in zip(c.mean, c.std, strict=False)]
        tips = [f"{c.label}, epoch {epoch}: {100 * m:.2f} %" for epoch, m in zip(c.epochs, c.mean, strict=True)]
        chart.line(Series(c.label, c.epochs, [100 * m for m in c.mean], c.style, low, high, tips))
    return chart.svg()


def _bounds(c: Curve) -> list[float]:
    return [*c.mean, *(m + sign * s for m, s in zip(c.mean, c.std, strict=False) for sign in (-1, 1))]
