"""`python -m neurons`: what each neuron computes on this installation."""

from __future__ import annotations

import json
import textwrap
from typing import Any

from neurons.arguments import OneLineParser, run
from neurons.names import check_name, entries, list_neurons

WIDTH = 100


def main(arguments: list[str] | None = None) -> int:
    """Describe the neurons that are named, or all: as text, as JSON lines, or by name and summary alone.

    Returns:
        0; 1 when the library of a neuron that was named is missing. An unknown name ends in one line and status 2.
    """
    parser = OneLineParser(
        prog="python -m neurons",
        description="What each neuron computes here: equation, library and version, backend, parameters and defaults.",
        epilog="Parameters are per time step; neurons.NeuronParameters explains them, python -m neurons.parity "
        "compares neurons.",
    )
    parser.add_argument("name", nargs="*", help="these neurons only")
    parser.add_argument(
        "--mode",
        choices=("shared", "native"),
        default="shared",
        help="the one equation of all, or the library's own (default: %(default)s)",
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="a JSON line per neuron")
    shape.add_argument("--names", action="store_true", help="names and one line about each; no library is imported")
    given = parser.parse_args(arguments)
    try:
        chosen = [check_name(name) for name in given.name or list_neurons()]
    except ValueError as error:
        parser.error(str(error))
    if given.names:
        width = max(map(len, chosen))
        for name in chosen:
            print(f"{name:<{width}}  {entries()[name].summary}")
        return 0
    missing = False
    for name in chosen:
        try:
            described = _described(name, given.mode)
        except ImportError as error:
            missing = missing or bool(given.name)
            print(json.dumps({"name": name, "missing": str(error)}) if given.json else f"{error}\n")
            continue
        print(json.dumps(described, ensure_ascii=False) if given.json else _text(described))
    return int(missing)


def _described(name: str, mode: str) -> dict[str, Any]:
    from neurons.registry import make_neuron  # imports torch: not for a list of names

    return {**make_neuron(name, mode=mode).describe(), "summary": entries()[name].summary}  # type: ignore[arg-type]


def _text(described: dict[str, Any]) -> str:
    where = f"{described['library']} {described['version']}"
    if described["backend"] != described["library"]:
        where += f", backend {described['backend']}"
    if described["threads"]:
        where += f" on {described['threads']} threads"
    parameters = ", ".join(f"{name}={value}" for name, value in described["parameters"].items())
    rows = {
        "computes": described["equation"],
        "by": where + (", stochastic" if described["stochastic"] else ""),
        "parameters": parameters,
    }
    lines = [f"{described['name']}  {described['summary']} ({described['mode']})"]
    for label, value in rows.items():
        lines += textwrap.wrap(
            value, WIDTH, initial_indent=f"    {label:<11} ", subsequent_indent=" " * 16, break_long_words=False
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run(main)
