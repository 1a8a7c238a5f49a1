"""The small table at the end of a run, and of its verification."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from resnet_spiking.storage.comparison import Comparison

SHOWN = 20
"""Characters of a value in the table of a verification: names fit, a hash's beginning tells it from another."""


def print_summary(result: dict[str, Any], run: Path) -> None:
    """Print test accuracies, spike rates, energy estimates, evidence, seconds and where the files are."""
    console = Console(markup=False)
    config, seconds = result["config"], result["seconds"]
    test = result["test"]
    title = f"{config['dataset']}, {config['backbone']}, {test['images']} test images, {test['precision']}"
    # Of the part that differs: the head, or stage 4 as well.
    parts = ("head", "stages") if config.get("spiking") == "stage" else ("head",)
    energy = f"energy per image ({' + '.join(parts)})"
    table = Table("variant", "epochs", "test accuracy", "spike rate per layer", energy, "training", title=title)
    default = result.get("default", {**result["test"], "operations": result.get("operations")})
    default_seconds = seconds.get("default", seconds["training"])
    table.add_row(
        "Default", f"<{config['default_epochs']}>", f"{default['accuracy']:.2%}", "–",
        _energy(default.get("operations"), parts), f"{default_seconds:.1f} s",
    )  # fmt: skip
    if result["variant"] != "default":
        # What a control without spikes has there is the mean of its outputs.
        spiking = "reason" not in result.get("evidence", {})
        rates = ", ".join(f"{rate:.1%}" for rate in result["test"]["spike_rates"] if spiking) or "–"
        name = f"{result['variant']} ({config['mode']})"
        table.add_row(
            name, result["epochs"], f"{result['test']['accuracy']:.2%}", rates,
            _energy(result.get("operations"), parts), f"{seconds['training']:.1f} s",
        )  # fmt: skip
    console.print(table)
    if "evidence" in result:
        console.print(_evidence_line(result["evidence"]), highlight=False)
    for warning in result["warnings"]:
        console.print(f"warning: {warning}", style="yellow", highlight=False)
    console.print(
        f"files: {run} (result.json, model.safetensors, metrics.jsonl, config.json)", highlight=False, soft_wrap=True
    )
    console.print(f"verify: python -m resnet_spiking.evaluate {shlex.quote(str(run))}", highlight=False, soft_wrap=True)


def _energy(operations: dict[str, Any] | None, parts: tuple[str, ...]) -> str:
    """Return the estimates of ``parts`` in nJ or µJ; a dash where a result of an older version has none."""
    if operations is None:
        return "–"
    found = [operations if part == "head" else operations.get("stages", {}) for part in parts]
    values = [figures["energy_nJ"] for figures in found if figures]
    return " + ".join(f"{value / 1000:.3g} µJ" if value >= 1000 else f"{value:.3g} nJ" for value in values)


def _evidence_line(evidence: dict[str, Any]) -> str:
    if "reason" in evidence:
        return f"spikes: no ({evidence['reason']})"
    untrained = ", ".join(evidence["untrained"]) or "none"
    return (
        f"spikes: {'yes' if evidence['spikes'] else 'NO'} — values 0/1: {evidence['binary']}; logits differ by "
        f"{evidence['logits_from_spikes']:.1e} from those of the spikes alone; between inputs by "
        f"{evidence['logits_when_cut']:.1e} with the spikes cut; parameters without gradient: {untrained}"
    )


def print_comparison(rows: list[Comparison], run: Path) -> None:
    """Print each figure as recorded and as recomputed, then ``verified`` or what differs."""
    console = Console(markup=False)
    table = Table("figure", "recorded", "recomputed", "", title=str(run))
    for row in rows:
        table.add_row(
            row.figure, *(_short(value) for value in (row.recorded, row.recomputed)), "✓" if row.agrees else "differs"
        )
    console.print(table)
    different = [row.figure for row in rows if not row.agrees]
    console.print(f"NOT verified: {', '.join(different)}" if different else "verified", highlight=False)


def _short(value: float | str) -> str:
    if isinstance(value, str):
        return value if len(value) <= SHOWN else value[:SHOWN] + "…"
    return f"{value:.6g}"
