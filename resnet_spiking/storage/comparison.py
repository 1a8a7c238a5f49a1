"""A figure as recorded and as recomputed, and whether the two agree."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any


@dataclass(frozen=True)
class Comparison:
    """One figure as recorded and as recomputed."""

    figure: str
    recorded: float | str
    recomputed: float | str
    agrees: bool


_EQUAL = partial(math.isclose, rel_tol=1e-9, abs_tol=1e-12)


def exact(figure: str, recorded: str, recomputed: str) -> Comparison:
    """Compare what must be the same to the letter."""
    return Comparison(figure, recorded, recomputed, recorded == recomputed)


def same(figure: str, recorded: Any, recomputed: Any, close: Callable[[float, float], bool] = _EQUAL) -> Comparison:
    """Compare JSON-ready values, fractions as ``close`` says; name the first part that differs."""
    if isinstance(recorded, dict) and isinstance(recomputed, dict) and set(recorded) == set(recomputed):
        parts = [same(f"{figure}.{key}", recorded[key], recomputed[key], close) for key in recomputed]
    elif isinstance(recorded, list) and isinstance(recomputed, list) and len(recorded) == len(recomputed):
        pairs = enumerate(zip(recorded, recomputed, strict=True))
        parts = [same(f"{figure}[{place}]", *pair, close) for place, pair in pairs]
    elif type(recorded) is type(recomputed) and type(recorded) in (int, float):
        counted = isinstance(recorded, int)
        agrees = recorded == recomputed if counted else close(recorded, recomputed)
        return Comparison(figure, recorded, recomputed, agrees)
    else:
        return exact(figure, json.dumps(recorded), json.dumps(recomputed))
    return next((part for part in parts if not part.agrees), Comparison(figure, "as reported", "as reported", True))
