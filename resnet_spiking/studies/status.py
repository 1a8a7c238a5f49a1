"""Where a study stands, read from its folder by any process."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from resnet_spiking.storage.lock import is_held
from resnet_spiking.studies.board import Board
from resnet_spiking.studies.folder import read_stored_study
from resnet_spiking.studies.ledger import Entry, Ledger
from resnet_spiking.studies.plan import Task


def read_entries(folder: Path) -> list[Entry]:
    """Return the rows of a study's ledger. Raises ``UserError`` when the folder is no study's."""
    read_stored_study(folder)
    with closing(Ledger(folder, read_only=True)) as ledger:
        return ledger.entries()


def read_board(folder: Path) -> Board:
    """Return the board of a study that runs in another process, or has ended."""
    entries = read_entries(folder)
    if not is_running(folder):
        # Of a study that was killed, the ledger says that its tasks run.
        entries = [replace(entry, state="waiting") if entry.state == "running" else entry for entry in entries]
    with closing(Ledger(folder, read_only=True)) as ledger:
        owner = ledger.noted("owner") or {}
    tasks = [Task(entry.key, entry.kind, entry.label, entry.payload) for entry in entries]
    return Board.of(tasks, entries, owner.get("workers", 1))


def is_running(folder: Path) -> bool:
    """Say whether some process holds the study's folder."""
    return is_held(folder)
