"""Writing a run's files so that a kill at any moment leaves the old state or the new one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

LEAST_ROOM = 1 << 16
"""Bytes: a file that could not be written, and cannot be given as many more, has met the end of a disk or a limit."""


TEMPORARY = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.tmp")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file, flush it to disk and rename it to ``path``.

    Raises ``OSError`` naming ``path`` when it cannot be written, also where ``write`` has another word for a full disk.
    """
    temporary = temporary_beside(path)
    try:
        write(temporary)
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename not in (None, str(temporary), temporary):
            raise  # of another file, such as the one to be copied
        raise OSError(error.errno, error.strerror, str(path)) from None
    except Exception as error:
        # Writers in C++ and Rust say of a full disk, or of a limit, what they were doing: "unexpected pos 10688".
        if reason := _refusal(temporary):
            raise OSError(reason.errno, reason.strerror, str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _refusal(file: Path) -> OSError | None:
    """Return what the system says to ``LEAST_ROOM`` more bytes at the end of ``file``; None where it takes them."""
    try:
        with file.open("ab") as handle:
            handle.write(bytes(LEAST_ROOM))
            handle.flush()
            os.fsync(handle.fileno())
    except OSError as error:
        return error
    return None


def remove_temporaries(folder: Path) -> None:
    """Delete what processes that were killed left half-written in ``folder``; call it where no other one writes."""
    for left in folder.glob(".*.tmp"):
        with suppress(OSError):
            if TEMPORARY.fullmatch(left.name) and left.is_file():
                left.unlink()


def temporary_beside(path: Path) -> Path:
    """Return a name beside ``path`` that no other process takes, on another machine that shares the folder either."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(json.dumps(value, indent=1) + "\n"))


def file_sha256(path: Path) -> str:
    """Return the file's sha256 in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
