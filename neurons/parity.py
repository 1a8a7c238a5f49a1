"""Which neurons compute the same, proved on this installation: `python -m neurons.parity`.

Under each condition every pair of neurons gets the same float64 current; what is reported is the share of spikes that
differ, and how the gradients of one random weighting of the spikes with respect to that current compare.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import math
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from neurons.arguments import OneLineParser, count, run, seed
from neurons.names import list_neurons
from neurons.parameters import Mode, NeuronParameters, unknown

if TYPE_CHECKING:
    from torch import Tensor

EQUAL_GRADIENT = 1e-6
"""Gradients count as equal up to this share of the largest entry."""

MOST_VALUES = 10**7
"""Of T × width: spikes and gradient of a neuron take 16 bytes a value, and those of all neurons are held at once."""


class Condition(NamedTuple):
    """Terms under which neurons are compared; `synapse` None admits neurons with and without one."""

    mode: Mode
    parameters: NeuronParameters
    synapse: bool | None
    summary: str


CONDITIONS: dict[str, Condition] = {
    "zero": Condition("shared", NeuronParameters(reset="zero"), False, "reset to zero, no synapse"),
    "zero-attached": Condition(
        "shared", NeuronParameters(reset="zero", detach_reset=False), False, "the same with the reset in the gradient"
    ),
    "subtract": Condition("shared", NeuronParameters(reset="subtract"), False, "reset by subtraction, no synapse"),
    "none": Condition("shared", NeuronParameters(reset="none"), False, "no reset, no synapse"),
    "synapse": Condition("shared", NeuronParameters(alpha=0.8), True, "reset to zero, synapse"),
    "synapse-none": Condition("shared", NeuronParameters(alpha=0.8, reset="none"), True, "no reset, synapse"),
    "native": Condition("native", NeuronParameters(), None, "each library at its own defaults"),
}


@dataclass(frozen=True)
class Comparison:
    """Two neurons under one condition. `gradient_difference` is relative to the first's largest entry.

    A neuron that never spikes or has no gradient here makes the cosine NaN, and the pair not equal.
    """

    condition: str
    first: str
    second: str
    spike_mismatch: float
    gradient_cosine: float
    gradient_difference: float

    @property
    def equal(self) -> bool:
        """No spike differs and no gradient by more than `EQUAL_GRADIENT`."""
        return self.spike_mismatch == 0 and self.gradient_difference <= EQUAL_GRADIENT

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes None."""
        values = dataclasses.asdict(self) | {"equal": self.equal}
        return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in values.items()}


@dataclass(frozen=True)
class Report:
    """All comparisons, and by condition and name why a neuron took no part."""

    comparisons: list[Comparison]
    left_out: dict[str, dict[str, str]]
    versions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "versions": self.versions,
            "conditions": {name: condition.summary for name, condition in CONDITIONS.items()},
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "left_out": self.left_out,
        }


def compare(
    neurons: list[str], conditions: list[str] | None = None, *, steps: int = 100, width: int = 64, seed: int = 0
) -> Report:
    """Compare every pair of `neurons` under every condition.

    Args:
        neurons: names from `list_neurons()`; `relu` and neurons whose library is missing are left out, with the reason.
        conditions: keys of `CONDITIONS`; None for all.
        steps: T. width: neurons per step, in one sample. seed: of the current, the weights and the draws.

    Raises:
        ValueError: an unknown condition or neuron; T or width below 1, or T × width above `MOST_VALUES`.
    """
    import torch

    for condition in conditions or []:
        if condition not in CONDITIONS:
            raise ValueError(unknown("condition", condition, list(CONDITIONS)))
    if steps < 1 or width < 1:
        raise ValueError(f"steps and width must be positive, got steps={steps}, width={width}")
    if steps * width > MOST_VALUES:
        raise ValueError(f"steps times width must be at most {MOST_VALUES:,}, got steps={steps}, width={width}")
    source = torch.Generator().manual_seed(seed)
    # Both signs, so that what treats negative membranes differently differs; mostly up, so that all of them spike.
    current = 0.6 + 2 * torch.randn(steps, 1, width, dtype=torch.float64, generator=source)
    weights = torch.randn(current.shape, dtype=torch.float64, generator=source)
    comparisons: list[Comparison] = []
    left_out: dict[str, dict[str, str]] = {}
    versions: dict[str, str] = {}
    for condition in conditions or list(CONDITIONS):
        traces: dict[str, tuple[Tensor, Tensor]] = {}
        left_out[condition] = {}
        for name in neurons:
            try:
                traces[name] = _trace(name, CONDITIONS[condition], current, weights, seed, versions)
            except (_NotComparable, ImportError) as reason:
                left_out[condition][name] = str(reason)
        for first, second in itertools.combinations(traces, 2):
            comparisons.append(_compared(condition, first, second, traces[first], traces[second]))
    return Report(comparisons, left_out, versions)


class _NotComparable(ValueError):
    """The neuron has no place under the condition; the message says why."""


def _trace(
    name: str, condition: Condition, current: Tensor, weights: Tensor, seed: int, versions: dict[str, str]
) -> tuple[Tensor, Tensor]:
    """Spikes and the gradient of their weighted sum."""
    import torch

    from neurons.names import check_name
    from neurons.registry import make_neuron

    check_name(name)
    try:
        neuron = make_neuron(name, condition.parameters, mode=condition.mode)
    except ValueError as refusal:
        raise _NotComparable(str(refusal)) from refusal
    described = neuron.describe()
    versions[described["library"]] = described["version"]
    if not neuron.spiking:
        raise _NotComparable(f"{name} does not spike")
    has_synapse = described["parameters"].get("alpha") is not None
    if condition.synapse is not None and has_synapse != condition.synapse:
        raise _NotComparable(f"{name} {'has' if has_synapse else 'has not'} a synapse")
    leaf = current.clone().requires_grad_()
    spikes, _ = neuron(leaf, generator=torch.Generator().manual_seed(seed))
    (gradient,) = torch.autograd.grad((spikes * weights).sum(), leaf)
    return spikes.detach(), gradient


def _compared(
    condition: str, first: str, second: str, one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]
) -> Comparison:
    (spikes, gradient), (other_spikes, other_gradient) = one, other
    norms = float(gradient.norm() * other_gradient.norm())
    largest = float(gradient.abs().max())
    return Comparison(
        condition,
        first,
        second,
        float((spikes != other_spikes).double().mean()),
        float((gradient * other_gradient).sum()) / norms if norms else math.nan,
        float((gradient - other_gradient).abs().max()) / largest if largest else math.nan,
    )


def table(report: Report, *, reasons: bool = False) -> str:
    """The report for a terminal: the pairs that are equal, the others with by how much, and who took no part.

    Args:
        report: what to show. reasons: say of each neuron why it took no part, instead of naming them.
    """
    lines = ["  ".join(f"{library} {version}" for library, version in sorted(report.versions.items()))]
    for name in report.left_out:
        lines.append(f"\n{name}: {CONDITIONS[name].summary}")
        rows = [pair for pair in report.comparisons if pair.condition == name]
        if rows:
            lines += _rows(rows)
        else:
            lines.append("  nothing to compare")
        left_out = report.left_out[name]
        if reasons:
            lines += [f"  left out: {reason}" for reason in left_out.values()]
        elif left_out:
            lines += textwrap.wrap(
                f"left out: {', '.join(left_out)}", 100, initial_indent="  ", subsequent_indent=" " * 4
            )
    if not reasons and any(report.left_out.values()):
        lines.append("\n--json FILE and --neuron NAME say why a neuron is left out")
    return "\n".join(lines)


def _rows(rows: list[Comparison]) -> list[str]:
    width = max(len(row.first) + len(row.second) for row in rows) + 3
    return [
        f"  {'pair':<{width}}  equal  spikes differ  gradient cosine  largest difference",
        *(
            f"  {row.first + ' | ' + row.second:<{width}}  {'yes' if row.equal else 'no':<5}"
            f"  {row.spike_mismatch:>12.2%}  {row.gradient_cosine:>15.6f}  {row.gradient_difference:>18.1e}"
            for row in sorted(rows, key=lambda row: not row.equal)
        ),
    ]


def draw(report: Report, path: Path) -> None:
    """A heat map of the differing spikes per condition, as an image file: PNG, or what the name's extension says.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: matplotlib does not write this kind of file.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("a heat map needs matplotlib: pip install matplotlib", name="matplotlib") from error
    shown = [name for name in report.left_out if any(row.condition == name for row in report.comparisons)]
    figure = Figure(figsize=(6 * max(1, len(shown)), 6), layout="constrained")
    for position, condition in enumerate(shown, start=1):
        rows = [row for row in report.comparisons if row.condition == condition]
        names = list(dict.fromkeys(name for row in rows for name in (row.first, row.second)))
        share = [[0.0] * len(names) for _ in names]
        for row in rows:
            a, b = names.index(row.first), names.index(row.second)
            share[a][b] = share[b][a] = row.spike_mismatch
        axes = figure.add_subplot(1, len(shown), position)
        image = axes.imshow(share, vmin=0, vmax=1, cmap="viridis")
        axes.set_title(f"{condition}: {CONDITIONS[condition].summary}")
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
        if position == len(shown):
            figure.colorbar(image, ax=axes, label="share of spikes that differ")
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=120, format=path.suffix[1:] or "png")
    _write(path, drawn.getvalue())


def _write(path: Path, content: bytes) -> None:
    """Write a whole file or leave what was there."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def main(arguments: list[str] | None = None) -> int:
    """Compare neurons, write what is asked for, print the table.

    Returns:
        0; 1 when matplotlib is missing. An unknown name, a number out of its range or a file that cannot be written
        ends in one line and status 2.
    """
    parser = OneLineParser(
        prog="python -m neurons.parity",
        description="Which neurons give equal spikes and gradients on this installation, and by how much the others "
        "differ.",
    )
    parser.add_argument(
        "--neuron", action="append", metavar="NAME", help="compare these (repeat it; default: all that are installed)"
    )
    parser.add_argument(
        "--condition", action="append", metavar="NAME", help=f"of {', '.join(CONDITIONS)} (repeat it; default: all)"
    )
    parser.add_argument("--steps", type=count, default=100, help="time steps (default: %(default)s)")
    parser.add_argument("--width", type=count, default=64, help="neurons (default: %(default)s)")
    parser.add_argument("--seed", type=seed, default=0, help="of the current (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report here")
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="draw heat maps here (needs matplotlib)")
    given = parser.parse_args(arguments)
    names = list(dict.fromkeys(given.neuron or list_neurons()))
    try:
        report = compare(names, given.condition, steps=given.steps, width=given.width, seed=given.seed)
        if given.figure is not None:
            draw(report, given.figure)
        if given.json is not None:
            _write(given.json, (json.dumps(report.to_dict(), indent=1) + "\n").encode())
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"cannot write {error.filename} ({error.strerror}); name a file in a folder that can be written")
    except ImportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(report, reasons=given.neuron is not None))
    return 0


if __name__ == "__main__":
    run(main)
