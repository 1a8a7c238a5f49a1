"""What an engine hands to a worker, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Resources:
    """What one task gets: threads (and CPUs to request), GPUs to request, device, feature cache.

    ``command`` is the study's command line, which every result records.
    """

    threads: int = 1
    gpus: float = 0
    device: str = "cpu"
    cache_dir: Path | None = None
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class Work:
    """One attempt at a task in a study folder that worker and study both see."""

    folder: Path
    key: str
    kind: str
    label: str
    payload: dict[str, Any]
    resources: Resources
    affinity: str = ""

    @property
    def log(self) -> str:
        """The log's path below the study folder."""
        return f"logs/{self.label}.log"


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    ``state``: ``done``, ``stopped`` (asked to, and saved), ``failed``, ``lost`` (its worker died) or
    ``full`` (no room on the disk). ``again`` says whether another attempt may help.
    """

    key: str
    state: str
    result: str | None = None
    sha256: str | None = None
    seconds: float = 0.0
    error: str | None = None
    again: bool = False
