"""Writing a run's files so that a kill at any moment leaves the old state or the new one."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

LEAST_ROOM = 1 << 16
"""Bytes: a disk with less beside a file that could not be written is full."""


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
        # Writers in C++ and Rust say of a full disk what they were doing: "unexpected pos 10688 vs 10582".
        if shutil.disk_usage(path.parent).free < LEAST_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


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
