"""Tables of a robustness evaluation on the terminal."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from resnet_spiking.attacks.wording import level, stamps


def print_robustness(result: dict[str, Any], folder: Path) -> None:
    """Print accuracies, comparison with Default, each attack's own figures, the trap and every check."""
    console = Console(markup=False)
    console.print(_worst_case(result))
    for table in (_pairing(result), _trap(result)):
        if table.row_count:
            console.print(table)
    for entry in result["models"]:
        console.print(_attacks(entry, result["eps_labels"]))
        for stage, reason in entry["skipped"].items():
            console.print(f"{entry['name']}: {stage} did not run ({reason})", highlight=False, soft_wrap=True)
    for entry in result["models"]:
        console.print(_checks(entry))
    console.print(attacked_on([(entry["name"], entry["devices"]) for entry in result["models"]]), highlight=False)
    for line in stamps(result):
        console.print(line, style="bold red", highlight=False, soft_wrap=True)
    if result["indicative"]:
        console.print("indicative, not a robustness claim: use --bundle standard or thorough", highlight=False)
    console.print(
        f"files: {folder} (result.json, table.csv, curves.png, panel.png, adversarial-*.npz)",
        highlight=False,
        soft_wrap=True,
    )
    verify = f"python -m resnet_spiking.attack --verify {shlex.quote(str(folder))}"
    console.print(f"verify: {verify}", highlight=False, soft_wrap=True)


def attacked_on(models: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Say on which devices models ``(name, devices)`` were attacked, and which on which where they differ."""
    found: dict[str, list[str]] = {}
    for name, devices in models:
        found.setdefault(" and ".join(devices), []).append(name)
    if len(found) == 1:
        return f"attacked on {next(iter(found))}"
    return "attacked on " + "; ".join(f"{devices} ({', '.join(names)})" for devices, names in found.items())


def _worst_case(result: dict[str, Any]) -> Table:
    title = (
        f"robust accuracy, worst case of bundle {result['bundle']}{' (indicative)' if result['indicative'] else ''}: "
        f"{result['dataset']}, {result['samples']} images, {result['norm']}, 95 % intervals"
    )
    if result["settings"].get("order") == "descending":
        title += "; an image that stands at one eps is taken to stand at every smaller one"
    table = Table("model", "clean", *result["eps_labels"], "median norm", title=title)
    for entry in result["models"]:
        cells = [_percent(entry["clean"]), *(_percent(row) for row in entry["robust"])]
        name = entry["name"] + (f" ({entry['rule']})" if entry["stochastic"] else "")
        table.add_row(name, *cells, _norm(entry, result["norm"]))
    return table


def _norm(entry: dict[str, Any], norm: str) -> str:
    found = entry.get("minimum_norm")
    if found is None:
        return "–"
    return "not found" if found["median"] is None else level(norm)(found["median"])


def _pairing(result: dict[str, Any]) -> Table:
    title = "paired with Default: images that only this model, only Default still classifies; exact McNemar p"
    table = Table("model", *result["eps_labels"], title=title)
    for entry in result["models"]:
        if "mcnemar" in entry:
            table.add_row(
                entry["name"], *(f"{row['better']} : {row['worse']}, p = {row['p']:.2g}" for row in entry["mcnemar"])
            )
    return table


def _trap(result: dict[str, Any]) -> Table:
    """Return, for spiking models, what the attacks of the literature alone would have reported."""
    title = "the trap: FGSM and PGD-10 with the training surrogate → worst case of the bundle (overstated by, points)"
    table = Table("model", *result["eps_labels"], title=title)
    for entry in result["models"]:
        if entry["spiking"] and entry["trap"]:
            table.add_row(entry["name"], *(_overstated(row) for row in entry["trap"]))
    return table


def _overstated(row: dict[str, Any]) -> str:
    attacks = [f"{value:.1%}" for key, value in row.items() if key not in ("eps", "bundle", "overstated")]
    return f"{', '.join(attacks)} → {row['bundle']:.1%} ({100 * row['overstated']:+.1f})"


def _attacks(entry: dict[str, Any], labels: list[str]) -> Table:
    table = Table("attack", *labels, title=f"{entry['name']}: each attack alone, of the images it tried")
    stages = list(dict.fromkeys(stage for row in entry["robust"] for stage in row["attacks"]))
    for stage in stages:
        owns = [row["attacks"].get(stage) for row in entry["robust"]]
        table.add_row(stage, *(f"{own['accuracy']:.1%} of {own['tried']}" if own else "–" for own in owns))
    return table


def _checks(entry: dict[str, Any]) -> Table:
    table = Table("check", "question", "measured", "passes when", "", title=f"{entry['name']}: can it be believed?")
    verdicts = {True: "✓", False: "FAILED", None: "–"}
    for check in entry["checks"]:
        value = check.get("reason") or check["value"]
        shown = value if isinstance(value, str) else f"{value:g}"
        table.add_row(check["name"], check["title"], shown, check["threshold"], verdicts[check["passed"]])
    return table


def _percent(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    return f"{row['accuracy']:.1%} [{100 * low:.1f}, {100 * high:.1f}]"
