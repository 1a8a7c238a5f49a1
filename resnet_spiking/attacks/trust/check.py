"""The verdict of one check."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """``passed`` is None where the check does not apply, for ``reason``; ``value`` is what was measured."""

    name: str
    title: str
    value: float | str
    threshold: str
    passed: bool | None
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary, ``reason`` only where there is one."""
        return {key: value for key, value in asdict(self).items() if key != "reason" or value}

    @staticmethod
    def not_applicable(name: str, title: str, threshold: str, reason: str) -> Check:
        return Check(name, title, "not applicable", threshold, None, reason)


def points(share: float) -> str:
    """Return a share of 1 in percentage points, for a check's value."""
    return f"{100 * share:.1f}"
