"""Robustness curves: accuracy under the whole bundle against the budget."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from resnet_spiking.reports.digest import Digest, name_of
from resnet_spiking.reports.drawing.chart import Axis, Chart, Series
from resnet_spiking.reports.figures.figure import STUDY, Figure, Panel
from resnet_spiking.reports.table import Record
from resnet_spiking.reports.tables.attacks import robustness_table

CAPTION = (
    "Share of images classified correctly under every attack of the bundle, against the budget ε (zero: clean). Band: "
    "Wilson's 95 % interval over the images; where a variant has several models, Student's t interval of their mean."
)


def draw(digest: Digest) -> Figure:
    """Return one panel for each attack result."""
    panels: list[Panel] = []
    records: list[Record] = []
    for label, result in digest.results.attacks.items():
        panels.append(_panel(digest, label, result))
        records += robustness_table(label, result).records
    absent = (
        ""
        if panels
        else f"No model was attacked in this study; add attacks to it and run `{STUDY}`, or attack one run with "
        "`python -m resnet_spiking.attack RUN`."
    )
    return Figure("robustness", "Robustness curves", CAPTION, panels, records, absent)


def _panel(digest: Digest, label: str, result: dict[str, Any]) -> Panel:
    variants: dict[str, list[dict[str, Any]]] = {}
    for model in result["models"]:
        variants.setdefault(model["variant"], []).append(model)
    budgets = sorted(set(result["eps"]))
    labels = dict(zip(result["eps"], result["eps_labels"], strict=True))
    # Budgets double from one to the next: equal steps show them better than a linear axis.
    place = {0.0: 0.0, **{eps: float(index) for index, eps in enumerate((e for e in budgets if e > 0), 1)}}
    title = f"{label}: {result['dataset']}, {result['norm']}, {result['samples']:,} images"
    texts = {place[eps]: "clean" if eps == 0 else labels.get(eps, f"{eps:g}") for eps in place}
    words = "; ".join(
        f"{model['name']}: clean {100 * model['clean']['accuracy']:.1f} %, "
        + ", ".join(f"{labels.get(p['eps'], p['eps'])} {100 * p['accuracy']:.1f} %" for p in model["robust"])
        + (f", unreliable by {', '.join(model['unreliable'])}" if model["unreliable"] else "")
        for model in result["models"]
    )
    chart = Chart(
        title, words, Axis("ε", -0.15, max(1.0, *place.values()) + 0.25, lambda value: texts[value], at=list(texts)),
        Axis("accuracy [%]", 0, 100), height=280,
    )  # fmt: skip
    for variant, models in variants.items():
        points = [_points(model) for model in models]
        shared = [eps for eps in place if all(eps in p for p in points)]
        bounds = [_bounds([p[eps] for p in points]) for eps in shared]
        failed = any(model["unreliable"] for model in models)
        name = name_of(variant) + (f" ({len(models)} models)" if len(models) > 1 else "") + (" ✗" if failed else "")
        chart.line(
            Series(
                name, [place[eps] for eps in shared], [100 * mean for mean, _, _ in bounds], digest.style(variant),
                [100 * low for _, low, _ in bounds], [100 * high for _, _, high in bounds],
                [f"{name}, {texts[place[e]]}: {100 * b[0]:.1f} %" for e, b in zip(shared, bounds, strict=True)],
            )
        )  # fmt: skip
    return Panel(label, chart.svg(), f"{title} {' '.join(variants)}")


def _points(model: dict[str, Any]) -> dict[float, tuple[float, float, float]]:
    clean = {0.0: (model["clean"]["accuracy"], *model["clean"]["interval"])}
    return clean | {point["eps"]: (point["accuracy"], *point["interval"]) for point in model["robust"]}


def _bounds(points: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    if len(points) == 1:
        return points[0]
    values = [value for value, _, _ in points]
    half = float(stats.t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    mean = float(np.mean(values))
    return mean, mean - half, mean + half
