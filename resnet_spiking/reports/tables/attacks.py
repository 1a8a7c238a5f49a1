"""The table of robust accuracies: one row for each attacked model, one column for each budget."""

from __future__ import annotations

from typing import Any

from resnet_spiking.reports.table import ABSENT, Cell, Column, Record, Table, p_value, percent

NOTE = (
    "Robust accuracy: share of all images that are classified correctly and stay so under every attack of the bundle; "
    "Wilson's 95 % interval in brackets. p: exact McNemar test against Default on the same images."
)
UNRELIABLE = "A model whose trust checks fail is marked with them: its figure is an upper bound, not a robustness."


def robustness_table(label: str, result: dict[str, Any]) -> Table:
    """Return clean and robust accuracies of one attack result (``attacks/<label>/result.json``)."""
    labels = dict(zip(result["eps"], result["eps_labels"], strict=True))
    budgets = sorted({point["eps"] for model in result["models"] for point in model["robust"]})
    # What failed a trust check is an upper bound: it cannot be the best.
    trusted = [model for model in result["models"] if not model["unreliable"]]
    best = {
        eps: max((p["accuracy"] for model in trusted for p in model["robust"] if p["eps"] == eps), default=0.0)
        for eps in budgets
    }
    rows: list[list[Cell]] = []
    records: list[Record] = []
    for model in result["models"]:
        points = {point["eps"]: point for point in model["robust"]}
        tests = {test["eps"]: test for test in model.get("mcnemar") or []}
        row = [Cell(_name(model["name"])), _share(model["clean"])]
        records.append(_record(label, result, model, 0.0, "clean", model["clean"], {}))
        for eps in budgets:
            if eps not in points:
                row.append(Cell(ABSENT))
                continue
            point, test = points[eps], tests.get(eps, {})
            cell = _share(point)
            suffix = f"\np {_equals(test['p'])}" if test else ""
            bold = len(trusted) > 1 and model in trusted and 0 < best[eps] == point["accuracy"]
            row.append(Cell(cell.text + suffix, cell.value, bold))
            records.append(_record(label, result, model, eps, labels.get(eps, f"{eps:g}"), point, test))
        minimum = model.get("minimum_norm") or {}
        median = minimum.get("median")
        row.append(Cell(ABSENT) if median is None else Cell(f"{median:.3g}", median))
        failed = ", ".join(model["unreliable"])
        row.append(Cell(f"✗ UNRELIABLE: {failed}", failed, state="bad") if failed else
                   Cell("✓ all passed", "", state="good"))  # fmt: skip
        rows.append(row)
    columns = [
        Column("model", "model"),
        Column("clean", "clean", True),
        *(Column(f"eps {eps:g}", f"ε = {labels.get(eps, f'{eps:g}')}", True) for eps in budgets),
        Column("minimum_norm", "median norm", True),
        Column("trust", "trust checks"),
    ]
    if all(row[-2].text == ABSENT for row in rows):
        del columns[-2]
        for row in rows:
            del row[-2]
    common = f"{result['dataset']}, {result['samples']:,} test images, {result['norm']}, bundle {result['bundle']}."
    notes = [NOTE, *([UNRELIABLE] if any(model["unreliable"] for model in result["models"]) else [])]
    return Table("robustness", f"Robustness: {label}", columns, rows, records, common=common, notes=notes)


def _name(name: str) -> str:
    return "Default" if name == "default" else name


def _share(point: dict[str, Any]) -> Cell:
    low, high = point["interval"]
    return Cell(f"{percent(point['accuracy'], 1)} [{100 * low:.1f}, {100 * high:.1f}]", point["accuracy"])


def _equals(p: float) -> str:
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"


def _record(
    label: str, result: dict[str, Any], model: dict[str, Any], eps: float, eps_label: str, point: dict[str, Any],
    test: dict[str, Any],
) -> Record:  # fmt: skip
    low, high = point["interval"]
    attacks = point.get("attacks") or {}
    return {
        "result": label,
        "dataset": result["dataset"],
        "norm": result["norm"],
        "bundle": result["bundle"],
        "samples": result["samples"],
        "model": model["name"],
        "variant": model["variant"],
        "eps": eps,
        "eps_label": eps_label,
        "accuracy": point["accuracy"],
        "low": low,
        "high": high,
        "p": test.get("p"),
        "strongest": min(attacks, key=lambda name: float(attacks[name]["accuracy"])) if attacks else None,
        "unreliable": list(model["unreliable"]),
    }
