"""How radii and failed checks are worded wherever a result is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def level(norm: str) -> Callable[[float], str]:
    """Return how a radius is printed: Linf in 1/255, L2 as a length of [0, 1] pixels."""
    return (lambda eps: f"{eps * 255:.3g}/255") if norm == "linf" else (lambda eps: f"{eps:.3g}")


def stamps(result: dict[str, Any]) -> list[str]:
    """Return a line ``<model>: UNRELIABLE: <checks>`` for each model with a failed check."""
    return [
        f"{entry['name']}: UNRELIABLE: {', '.join(entry['unreliable'])}"
        for entry in result["models"]
        if entry["unreliable"]
    ]
