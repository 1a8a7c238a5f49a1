"""One process at a time in a folder: an SQLite lock, which the system takes back however the process ends."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from resnet_spiking.errors import UserError

LOCK = "lock.sqlite"
PATIENCE = 1.0


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
def exclusive_soon(folder: Path, *, busy: str) -> Iterator[None]:
    """As ``exclusive``, but try for a second: who asks whether it is held holds it for a moment."""
    last = time.monotonic() + PATIENCE

    def wait() -> None:
        if time.monotonic() > last:
            raise UserError(busy)
        time.sleep(PATIENCE / 50)

    with in_turn(folder, wait):
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


def is_held(folder: Path) -> bool:
    """Say whether a process holds ``folder``, for who may only read it too; nothing is written there."""
    path = folder / LOCK
    if not path.exists():
        return False
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=0)
    try:
        connection.execute("SELECT * FROM sqlite_master")
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):
            return True
        raise UserError(f"cannot read {path} ({error}); remove that file") from None
    finally:
        connection.close()
    return False


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    connection = sqlite3.connect(folder / LOCK, isolation_level=None, timeout=0)
    try:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.DatabaseError as error:
            if not os.access(folder, os.W_OK):
                raise UserError(f"cannot write to {folder} (Permission denied); choose another folder") from None
            if "locked" not in str(error):
                raise UserError(f"cannot lock {folder} with its {LOCK} ({error}); remove that file") from None
            yield False
        else:
            yield True
    finally:
        connection.close()
