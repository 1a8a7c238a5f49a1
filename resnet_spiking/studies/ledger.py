"""The ledger of a study: one SQLite row a task, written by the study's process alone, readable by all."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from resnet_spiking.errors import UserError
from resnet_spiking.studies.plan import Task

VERSION = 1
NAME = "ledger.sqlite"

_TABLES = """
CREATE TABLE IF NOT EXISTS tasks (
    key TEXT PRIMARY KEY,
    position INTEGER,          -- in the present study file; NULL for tasks that it no longer names
    kind TEXT NOT NULL,        -- features, run, part, attack
    label TEXT NOT NULL,
    payload TEXT NOT NULL,     -- JSON
    state TEXT NOT NULL,       -- waiting, running, done, failed
    attempts INTEGER NOT NULL DEFAULT 0,
    worker TEXT,
    started REAL,              -- seconds since the epoch
    finished REAL,
    seconds REAL,
    result TEXT,               -- path below the study folder
    sha256 TEXT,               -- of that file
    log TEXT,
    error TEXT
);
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Entry:
    """One row of the ledger."""

    key: str
    kind: str
    label: str
    payload: dict[str, Any]
    state: str
    attempts: int
    worker: str | None
    started: float | None
    seconds: float | None
    result: str | None
    sha256: str | None
    log: str | None
    error: str | None


class Ledger:
    """The tasks of a study folder and what became of them; every method that writes is one transaction.

    Raises ``UserError`` for a damaged ledger, one of another version or one that another program keeps locked;
    ``OSError`` when the disk is full.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        path = folder / NAME
        if read_only and not path.is_file():
            raise UserError(f"{folder} is no study folder (it has no {NAME}); name the --output-dir of a study")
        mode = "ro" if read_only else "rwc"
        # Autocommit: each statement is a transaction, unless one is begun.
        self._database = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=10
        )
        try:
            (found,) = self._database.execute("PRAGMA user_version").fetchone()
            if found not in (0, VERSION) or (read_only and not found):
                self._database.close()
                raise UserError(f"{path} has version {found}, this program reads version {VERSION}; use another folder")
            if not read_only:
                self._database.executescript(f"PRAGMA user_version = {VERSION};{_TABLES}")
        except sqlite3.DatabaseError as error:
            self._database.close()
            if not os.access(path, os.R_OK if read_only else os.W_OK):
                raise UserError(f"cannot use {path} (Permission denied); name another folder") from None
            raise UserError(
                f"{path} is damaged or no ledger ({error}); move it away: finished runs beside it are found again"
            ) from None

    def close(self) -> None:
        self._database.close()

    def plan(self, tasks: Iterable[Task]) -> None:
        """Make ``tasks`` the present plan: new ones wait, failed and interrupted ones wait again, done ones stay."""
        rows = [
            (task.key, position, task.kind, task.label, json.dumps(task.payload))
            for position, task in enumerate(tasks)
        ]  # fmt: skip
        with self._writing() as database:
            database.execute("UPDATE tasks SET position = NULL")
            database.executemany(
                "INSERT INTO tasks (key, position, kind, label, payload, state) VALUES (?, ?, ?, ?, ?, 'waiting') "
                "ON CONFLICT (key) DO UPDATE SET position = excluded.position, label = excluded.label, "
                "payload = excluded.payload",
                rows,
            )
            database.execute(
                "UPDATE tasks SET state = 'waiting', attempts = 0, worker = NULL, error = NULL WHERE state <> 'done'"
            )

    def start(self, key: str, worker: str, log: str) -> None:
        """Record an attempt at a task."""
        self._update(
            key,
            "state = 'running', attempts = attempts + 1, worker = ?, started = ?, log = ?",
            worker,
            time.time(),
            log,
        )

    def finish(self, key: str, result: str | None, sha256: str | None, seconds: float) -> None:
        """Record that a task is done, with the file that holds its result."""
        values = (time.time(), seconds, result, sha256)
        self._update(key, "state = 'done', finished = ?, seconds = ?, result = ?, sha256 = ?, error = NULL", *values)

    def fail(self, key: str, error: str) -> None:
        """Record that a task failed for good."""
        self._update(key, "state = 'failed', finished = ?, error = ?", time.time(), error)

    def wait_again(self, key: str, error: str | None = None) -> None:
        """Put a task back: it was stopped, or will be tried again, or its result is gone."""
        self._update(key, "state = 'waiting', worker = NULL, error = ?", error)

    def entries(self) -> list[Entry]:
        """Return the rows of the present plan, in its order."""
        return self._entries("position IS NOT NULL ORDER BY position")

    def done(self) -> list[Entry]:
        """Return the rows of every finished task, also of those that the present plan does not name."""
        return self._entries("state = 'done'")

    def _entries(self, which: str) -> list[Entry]:
        query = f"SELECT {', '.join(_COLUMNS)} FROM tasks WHERE {which}"
        try:
            rows = self._database.execute(query).fetchall()
        except sqlite3.DatabaseError as error:
            raise UserError(f"the ledger cannot be read ({error})") from None
        named = (dict(zip(_COLUMNS, row, strict=True)) for row in rows)
        return [Entry(**{**row, "payload": json.loads(row["payload"])}) for row in named]

    def left_out(self) -> int:
        """Return how many finished runs of this folder the present study file no longer names."""
        query = "SELECT count(*) FROM tasks WHERE position IS NULL AND state = 'done' AND kind = 'run'"
        return int(self._database.execute(query).fetchone()[0])

    def note(self, name: str, value: object) -> None:
        """Keep a JSON-ready value under a name."""
        with self._writing() as database:
            database.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, json.dumps(value)))

    def noted(self, name: str) -> Any:
        """Return what ``note`` kept, or None."""
        row = self._database.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else None

    def _update(self, key: str, assignments: str, *values: object) -> None:
        with self._writing() as database:
            database.execute(f"UPDATE tasks SET {assignments} WHERE key = ?", (*values, key))

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of the block's statements, or none."""
        try:
            self._database.execute("BEGIN IMMEDIATE")
            yield self._database
            self._database.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise UserError("the ledger is held by another program; end that, the same command continues") from None
            # In SQLite's words: the disk is full, read-only, or gone.
            raise OSError(errno.ENOSPC, f"the ledger cannot be written ({error})") from None
        finally:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")


_COLUMNS = tuple(field.name for field in fields(Entry))
