"""`python -m neurons`: the names, or with names what each of them computes here."""

from __future__ import annotations

import argparse
import json

from neurons.names import entries


def main(arguments: list[str] | None = None) -> int:
    """List the neurons, or describe those that are named, as JSON lines.

    Returns:
        0; 1 when a neuron's library is missing. An unknown name ends in argparse's message and status 2.
    """
    parser = argparse.ArgumentParser(prog="python -m neurons", description="List neurons, or describe some of them.")
    parser.add_argument("name", nargs="*", help="describe this neuron: equation, library and version, parameters")
    parser.add_argument("--mode", choices=("shared", "native"), default="shared", help="default: %(default)s")
    given = parser.parse_args(arguments)
    if not given.name:
        width = max(map(len, entries()))
        for name, entry in entries().items():
            print(f"{name:<{width}}  {entry.summary}")
        return 0
    from neurons.registry import make_neuron  # imports torch: not for a list of names

    for name in given.name:
        try:
            described = make_neuron(name, mode=given.mode).describe()
        except ValueError as error:
            parser.error(str(error))
        except ImportError as error:
            print(f"{name}: {error}")
            return 1
        print(json.dumps(described, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
