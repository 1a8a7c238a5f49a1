"""One process at a time in a folder: an SQLite lock, which the system takes back however the process ends."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from resnet_spiking.errors import UserError

LOCK = "lock.sqlite"


@contextmanager
def exclusive(folder: Path, *, busy: str) -> Iterator[None]:
    """Hold ``folder`` until the block ends or the process dies.

    The lock is an open exclusive transaction on an empty database of its own, so that a ledger
    beside it stays readable. Raises ``UserError(busy)`` when another process holds it.
    """
    with _held(folder) as held:
        if not held:
            raise UserError(busy)
        yield


@contextmanager
def in_turn(folder: Path, wait: Callable[[], None]) -> Iterator[None]:
    """As ``exclusive``, but call ``wait()`` and try again for as long as another process holds it."""
    while True:
        with _held(folder) as held:
            if held:
                yield
                return
        wait()


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    connection = sqlite3.connect(folder / LOCK, isolation_level=None, timeout=0)
    try:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise UserError(f"cannot lock {folder} ({error})") from None
            yield False
        else:
            yield True
    finally:
        connection.close()
