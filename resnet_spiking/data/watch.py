"""Whom reading tells how far it is, often enough for a person and no more."""

from __future__ import annotations

import time
from collections.abc import Callable

Watch = Callable[[str, int, int], None]
"""Takes what is read, how many are done, and of how many; it ends the reading by what it raises."""

INTERVAL = 0.1
"""Seconds between two calls."""


def silent(label: str, done: int, total: int) -> None:
    """Tell nobody."""


def seldom(watch: Watch) -> Watch:
    """Return ``watch``, called every ``INTERVAL`` seconds at most: never of what takes less, else at its end too."""
    last = time.monotonic()
    labels: set[str] = set()

    def told(label: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= INTERVAL or (done == total and label in labels):
            labels.add(label)
            watch(label, done, total)
            last = time.monotonic()

    return told
