"""Time and memory of one forward and backward against T and N, as CSV and log-log plots.

    python bench/neurons_scaling.py --output DIRECTORY

Memory needs Linux. T runs from 4 to 1000 at N = 256, N from 64
to 16384 at T = 20. Time is the median of the repeats, memory the largest resident size during one pass above that
before it: what a process must have beside the current.
"""

from __future__ import annotations

import csv
import ctypes
import gc
import statistics
import time
from pathlib import Path

import click
import torch
from neurons_contenders import Contender, contenders, five_copies, settle_allocator

STEPS, WIDTHS = (4, 20, 100, 1000), (64, 256, 1024, 4096, 16384)
MEBIBYTE = 2**20
# Colours of Okabe and Ito, "Color Universal Design", 2008: told apart by colour-blind readers. Markers say it again.
LOOKS = list(
    zip(
        ("#000000", "#D55E00", "#E69F00", "#0072B2", "#56B4E9", "#009E73", "#009E73", "#CC79A7", "#F0E442", "#999999",
         "#555555"),
        "xosDd^v<>Ph",
        strict=True,
    )
)  # fmt: skip


def seconds(run: Contender, current: torch.Tensor, weights: torch.Tensor, budget: float) -> float:
    """Median time of a pass; as many passes as fit into `budget` seconds, three at least, after one to warm up."""
    found: list[float] = []
    _pass(run, current, weights)
    while len(found) < 3 or (sum(found) < budget and len(found) < 100):
        started = time.perf_counter()
        _pass(run, current, weights)
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def mebibytes(run: Contender, current: torch.Tensor, weights: torch.Tensor) -> float:
    """Peak of the resident memory during one pass, above what there was before it."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to the present size
    before = _status("VmRSS")
    _pass(run, current, weights)
    return (_status("VmHWM") - before) / MEBIBYTE


def _pass(run: Contender, current: torch.Tensor, weights: torch.Tensor) -> None:
    current.grad = None
    spikes = run(current)
    if spikes.requires_grad:
        spikes.backward(weights)
    current.grad = None


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


@click.command()
@click.option("--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="For CSV and PNG.")
@click.option("--threads", default=2, show_default=True, type=click.IntRange(min=1), help="Of torch and our kernels.")
@click.option("--budget", default=0.5, show_default=True, type=float, help="Seconds per point.")
@click.option("--batch", default=16, show_default=True, type=click.IntRange(min=1), help="B.")
def main(output: Path, threads: int, budget: float, batch: int) -> None:
    """Measure every contender and draw neurons-time.png and neurons-memory.png."""
    from matplotlib.figure import Figure

    output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(threads)
    settle_allocator()
    points = [("T", steps, (steps, batch, 256)) for steps in STEPS]
    points += [("N", width, (20, batch, width)) for width in WIDTHS]
    rows: list[dict[str, object]] = []
    for axis, value, shape in points:
        current, weights = torch.rand(shape).requires_grad_(), torch.rand(shape)
        for name, run in {"five copies": five_copies, **contenders("cpu")}.items():
            row = {"axis": axis, "value": value, "contender": name}
            row["milliseconds"] = 1000 * seconds(run, current, weights, budget)
            row["mebibytes"] = mebibytes(run, current, weights)
            rows.append(row)
            click.echo(f"{axis}={value:<6} {name:<26} {row['milliseconds']:10.3f} ms {row['mebibytes']:9.2f} MiB")
    with (output / "neurons-scaling.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for quantity, label, file_name in (
        ("milliseconds", "forward + backward [ms]", "neurons-time.png"),
        ("mebibytes", "peak memory of a pass [MiB]", "neurons-memory.png"),
    ):
        figure = Figure(figsize=(11, 4.5), layout="constrained")
        for position, (axis, title) in enumerate((("T", f"B={batch}, N=256"), ("N", f"T=20, B={batch}")), start=1):
            axes = figure.add_subplot(1, 2, position)
            names = dict.fromkeys(row["contender"] for row in rows)
            for name, (colour, marker) in zip(names, LOOKS, strict=False):  # without the extra [peers] two are missing
                own = [row for row in rows if row["axis"] == axis and row["contender"] == name]
                dashed = "--" if name == "five copies" else "-"
                values = [row["value"] for row in own], [row[quantity] for row in own]
                axes.plot(*values, dashed, color=colour, marker=marker, label=name)
            axes.set(xscale="log", yscale="log", xlabel=axis, ylabel=label, title=title)
            axes.grid(alpha=0.3, which="both")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=8)
        figure.savefig(output / file_name, dpi=110)


if __name__ == "__main__":
    main()
