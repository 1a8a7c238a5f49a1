"""One study at a time in a folder: an SQLite lock, which the system takes back however the process ends."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resnet_spiking.errors import UserError


@contextmanager
def exclusive(folder: Path, *, busy: str) -> Iterator[None]:
    """Hold ``folder`` until the block ends or the process dies.

    The lock is an open exclusive transaction on an empty database of its own, so that the ledger
    beside it stays readable. Raises ``UserError(busy)`` when another process holds it.
    """
    connection = sqlite3.connect(folder / "lock.sqlite", isolation_level=None, timeout=0)
    try:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise UserError(busy if "locked" in str(error) else f"cannot lock {folder} ({error})") from None
        yield
    finally:
        connection.close()
