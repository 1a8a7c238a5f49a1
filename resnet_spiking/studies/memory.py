"""What a worker keeps between tasks: the latest data, frozen trunks and Defaults."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any


class Memory:
    """Remembers what was made for a key, the latest ``limit`` of each kind; a key's first item is its kind."""

    def __init__(self, limit: int = 2) -> None:
        self.limit = limit
        self._kept: dict[object, OrderedDict[tuple[object, ...], Any]] = {}

    def __call__(self, key: tuple[object, ...], make: Callable[[], Any]) -> Any:
        """Return what ``make()`` gave for ``key``, from memory where it is still there."""
        kept = self._kept.setdefault(key[0], OrderedDict())
        if key not in kept:
            while len(kept) >= self.limit:
                kept.popitem(last=False)
            kept[key] = make()
        kept.move_to_end(key)
        return kept[key]
