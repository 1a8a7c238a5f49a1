"""From values to pixels, and where the ticks go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] to [start, end] pixels, linearly or by the logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log10(v) for v in (self.low, self.high, value)) if self.log else \
            (self.low, self.high, value)  # fmt: skip
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return round values in [low, high] at steps of 1, 2 or 5 times a power of ten, about ``wanted`` of them."""
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return the powers of ten in [low, high], with 2 and 5 times them where there is less than two decades."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if high / low < 100 else (1,)
    found = [factor * 10.0**power for power in decades for factor in factors]
    return [value for value in found if low * 0.999 <= value <= high * 1.001]


def padded(values: Sequence[float], share: float = 0.06, floor: float | None = None, ceiling: float | None = None) \
        -> tuple[float, float]:  # fmt: skip
    """Return the range of finite values with a margin, within [floor, ceiling]; never empty."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    margin = (high - low) * share or abs(high) * share or 1.0
    low, high = low - margin, high + margin
    return (low if floor is None else max(low, floor)), (high if ceiling is None else min(high, ceiling))
