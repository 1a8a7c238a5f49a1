"""The folder of a study: claim it, tidy what a kill left, remember the study in it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from resnet_spiking.errors import UserError
from resnet_spiking.storage.files import write_json
from resnet_spiking.storage.lock import exclusive_soon
from resnet_spiking.studies.ledger import NAME, Ledger
from resnet_spiking.studies.study_file import Study, parse_study
from resnet_spiking.terminal import UNWRITABLE

FORMAT = 1


@contextmanager
def claimed(folder: Path, study: Study, owner: dict[str, Any]) -> Iterator[Ledger]:
    """Make or reopen a study's folder and hold it: one study at a time.

    A new folder remembers ``study`` at once, so that others can watch it; one that has a study keeps that until
    ``remember``.

    Raises ``UserError`` when another study runs there, when the folder is something else, or cannot be written.
    """
    begun = holds_study(folder)
    try:
        for name in ("runs", "logs"):
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {folder} ({error.strerror}); choose another --output-dir") from None
    with exclusive_soon(folder, busy=_busy(folder)):
        _tidy(folder)
        if not begun:
            remember(folder, study)
        with closing(Ledger(folder)) as ledger:
            ledger.note("owner", owner)
            yield ledger


def holds_study(folder: Path) -> bool:
    """Say whether ``folder`` holds a study; if not, one may begin there.

    Raises ``UserError`` when the folder is something else.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output-dir {folder} is a file; name a folder")
    if (folder / "study.json").exists():
        return True
    # A ledger says that this was a study's folder, which lost its study.json.
    if folder.is_dir() and not (folder / NAME).exists() and {path.name for path in folder.iterdir()} - {"lock.sqlite"}:
        raise UserError(f"--output-dir {folder} holds files but no study; name a new folder, or a study's")
    return False


def remember(folder: Path, study: Study) -> None:
    """Make ``study`` the one that its folder remembers."""
    write_json(folder / "study.json", {"format": FORMAT, **study.as_dict()})


@contextmanager
def needing_room(folder: Path) -> Iterator[None]:
    """Turn an ``OSError`` of the block that means a full disk into a ``UserError`` that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        place = f"{error.filename}: " if error.filename else ""
        raise UserError(
            f"{place}{error.strerror}; make room in {folder} and give the same command again: nothing is lost"
        ) from None


def read_stored_study(folder: Path) -> Study:
    """Return the study that a folder remembers. Raises ``UserError`` when it has none, or of another format."""
    import json

    path = folder / "study.json"
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        raise UserError(
            f"{folder} is no study folder (study.json is missing or damaged); give the study file"
        ) from None
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise UserError(
            f"{path} has another format than this version's ({FORMAT}); start the study again from its file"
        )
    return parse_study(values, str(path))


def _busy(folder: Path) -> str:
    watch = f"python -m resnet_spiking.study status {shlex.quote(str(folder))}"
    return f"another study is running in {folder}; watch it with: {watch}"


def _tidy(folder: Path) -> None:
    """Remove temporary files of processes that were killed: with the folder held, nobody writes any."""
    for pattern in ("runs/*/.*.tmp", "labels/.*.tmp", "results/.*.tmp", "results/*/*/.*.tmp", "now/*"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
