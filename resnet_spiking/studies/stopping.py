"""The request to save and stop, as a file that every worker of a study sees, wherever it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

NAME = "stop"
INTERVAL = 0.5  # seconds between two looks


def ask_to_stop(folder: Path) -> None:
    (folder / NAME).touch()


def withdraw(folder: Path) -> None:
    (folder / NAME).unlink(missing_ok=True)


def stop_asked(folder: Path) -> Callable[[], bool]:
    """Return a function that says whether this study was asked to stop; it looks twice a second at most."""
    latest = [time.monotonic() - INTERVAL, 0.0]

    def asked() -> bool:
        if not latest[1] and time.monotonic() - latest[0] >= INTERVAL:
            latest[:] = [time.monotonic(), float((folder / NAME).exists())]
        return bool(latest[1])

    return asked
