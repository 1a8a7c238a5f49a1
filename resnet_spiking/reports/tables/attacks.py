"""The table of robust accuracies: one row for each attacked setting, one column for each budget."""

from __future__ import annotations

from typing import Any

from resnet_spiking.reports.attacked import Attacked, Series
from resnet_spiking.reports.robustness import attacked_on
from resnet_spiking.reports.statistics import SPREAD
from resnet_spiking.reports.table import ABSENT, Cell, Column, Record, Table, p_value, percent, plus_minus

NOTE = (
    "Robust accuracy: share of all images that are classified correctly, and stay so under every attack of the bundle."
)
ONE = "In brackets: Wilson's 95 % interval over the images. p: exact McNemar test against Default on the same images."
MEDIAN = (
    "Median norm: of the smallest changes that the bundle's minimum norm attack found by itself, among the images that "
    "are classified correctly; an upper bound, which a model that misleads that attack makes larger."
)
UNRELIABLE = "A model whose trust checks fail is marked with them: its figure is an upper bound, not a robustness."


def robustness_table(attacked: Attacked) -> Table:
    """Return clean and robust accuracies; the best that passed every trust check in bold."""
    budgets = [eps for eps in sorted(attacked.budgets) if eps > 0]
    several = any(len(series.models) > 1 for series in attacked.series)
    medians = any(_medians(series) for series in attacked.series)
    # What failed a trust check is an upper bound: it cannot be the best.
    trusted = [series for series in attacked.series if not series.failed]
    best = {eps: max((_mean(series, eps) for series in trusted), default=0.0) for eps in budgets}
    rows: list[list[Cell]] = []
    for series in attacked.series:
        row = [Cell(series.name)]
        row += [Cell(str(len(series.models)), len(series.models))] if several else []
        row += [_cell(series, 0.0, False)]
        row += [
            _cell(series, eps, series in trusted and len(trusted) > 1 and 0 < best[eps] == _mean(series, eps))
            for eps in budgets
        ]
        norms = _medians(series)
        row += [Cell(_norms(norms, attacked.norm), min(norms, default=None))] if medians else []
        failed = ", ".join(series.failed)
        row.append(
            Cell(f"✗ UNRELIABLE: {failed}", failed, state="bad")
            if failed
            else Cell("✓ all passed", "all passed", state="good")
        )
        rows.append(row)
    columns = [
        Column("model", "model"),
        *([Column("n", "n", True)] if several else []),
        Column("clean", "clean", True),
        *(Column(f"eps {eps:g}", f"ε = {attacked.budgets[eps]}", True) for eps in budgets),
        *([Column("minimum_norm", "median norm", True)] if medians else []),
        Column("trust", "trust checks"),
    ]
    notes = [NOTE, *([SPREAD] if several else []), *([ONE] if any(len(s.models) == 1 for s in attacked.series) else [])]
    notes += [MEDIAN] if medians else []
    notes += [UNRELIABLE] if len(trusted) < len(attacked.series) else []
    notes += _places(attacked)
    records = [_record(attacked, s, m, eps) for s in attacked.series for m in s.models for eps in (0.0, *budgets)]
    return Table(
        "robustness", f"Robustness: {attacked.title}", columns, rows, records, common=f"{attacked.threat}.", notes=notes
    )


def _places(attacked: Attacked) -> list[str]:
    """Return the note that says where models were attacked: none when a result is from before that was recorded."""
    if not all(model.get("devices") for series in attacked.series for model in series.models):
        return []
    places = [
        (series.name, sorted({device for model in series.models for device in model["devices"]}))
        for series in attacked.series
    ]
    return [f"Models were {attacked_on(places)}."]


def _mean(series: Series, eps: float) -> float:
    found = series.at(eps)
    return found[0].mean if found else 0.0


def _medians(series: Series) -> list[float]:
    found = [(model.get("minimum_norm") or {}).get("median") for model in series.models]
    return [norm for norm in found if norm is not None]


def _norms(norms: list[float], norm: str) -> str:
    """Write Linf distances as people write radii, in 255ths of the pixel range."""
    written = [f"{255 * each:.3g}/255" if norm == "linf" else f"{each:.3g}" for each in norms]
    return ", ".join(written) or ABSENT


def _cell(series: Series, eps: float, bold: bool) -> Cell:
    found = series.at(eps)
    if found is None:
        return Cell(ABSENT)
    accuracy, test = found
    if accuracy.std is not None:
        return Cell(plus_minus(accuracy.mean, accuracy.std), accuracy.mean, bold)
    text = f"{percent(accuracy.mean, 1)} [{100 * accuracy.low:.1f}, {100 * accuracy.high:.1f}]"
    return Cell(f"{text}\np {_equals(test['p'])}" if test else text, accuracy.mean, bold)


def _equals(p: float) -> str:
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"


def _record(attacked: Attacked, series: Series, model: dict[str, Any], eps: float) -> Record:
    point = next((point for point in model["robust"] if point["eps"] == eps), model["clean"] if eps == 0 else None)
    test: dict[str, Any] = next((test for test in model.get("mcnemar") or [] if test["eps"] == eps), {})
    attacks = (point or {}).get("attacks") or {}
    return {
        "comparison": attacked.title,
        "dataset": attacked.dataset,
        "norm": attacked.norm,
        "bundle": attacked.bundle,
        "samples": attacked.samples,
        "result": model["result"],
        "model": model["name"],
        "run": model.get("run"),
        "variant": series.variant,
        "eps": eps,
        "eps_label": attacked.budgets.get(eps, "clean"),
        "accuracy": point["accuracy"] if point else None,
        "low": point["interval"][0] if point else None,
        "high": point["interval"][1] if point else None,
        "better": test.get("better"),
        "worse": test.get("worse"),
        "p": test.get("p"),
        "strongest": min(attacks, key=lambda name: float(attacks[name]["accuracy"])) if attacks else None,
        "unreliable": list(model["unreliable"]),
    }
