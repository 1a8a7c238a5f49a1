"""What a running task is doing now: a small file that the worker renews and every view reads."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

FOLDER = "now"
SHORTEST = 0.5  # seconds between two writes


@dataclass(frozen=True)
class Pulse:
    """``done`` of ``total`` steps of ``phase``; the running ``epoch`` of ``epochs``; the latest test ``accuracy``."""

    phase: str = "starting"
    done: int = 0
    total: int = 0
    epoch: int = 0
    epochs: int = 0
    accuracy: float | None = None
    updated: float = 0.0


class Beat:
    """Writes a task's pulse below a study folder, at most twice a second; ``end`` removes it."""

    def __init__(self, folder: Path, label: str) -> None:
        self.path = folder / FOLDER / f"{label}.json"
        self.path.parent.mkdir(exist_ok=True)
        self.pulse = Pulse()
        self.epochs: dict[str, int] = {}
        self._write()

    def progress(self, phase: str, done: int, total: int) -> None:
        epochs = self.epochs.get(phase, 0)
        epoch = min(epochs, (done - 1) * epochs // total + 1) if epochs and total else 0
        if phase != self.pulse.phase:
            self.pulse = replace(self.pulse, accuracy=None)
        self.pulse = replace(self.pulse, phase=phase, done=done, total=total, epoch=epoch, epochs=epochs)
        if time.time() - self.pulse.updated >= SHORTEST:
            self._write()

    def on_epoch(self, figures: dict[str, Any]) -> None:
        self.pulse = replace(self.pulse, accuracy=figures.get("test_accuracy"))
        self._write()

    def end(self) -> None:
        self.path.unlink(missing_ok=True)

    def _write(self) -> None:
        self.pulse = replace(self.pulse, updated=time.time())
        # Renamed so that a reader never sees half of it; not flushed, as nothing depends on it.
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(self.pulse)))
        temporary.replace(self.path)


def read_pulse(folder: Path, label: str) -> Pulse | None:
    """Return the task's latest pulse, or None when it has none."""
    try:
        return Pulse(**json.loads((folder / FOLDER / f"{label}.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
