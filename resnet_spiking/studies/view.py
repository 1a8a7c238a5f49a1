"""The view of a study: one live table on a terminal, plain lines elsewhere; the same table for ``study status``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from resnet_spiking.studies.board import Board
from resnet_spiking.studies.conduct import Watch
from resnet_spiking.studies.pulse import Pulse, read_pulse

REFRESH = 0.5  # seconds between two drawings
HEARTBEAT = 60.0  # seconds between two plain lines while nothing ends


@contextmanager
def watching(folder: Path) -> Iterator[Watch]:
    """Yield what tells the user: a live view when stderr is a terminal, else plain lines."""
    console = Console(stderr=True, markup=False)
    if not console.is_terminal:
        yield _Lines(folder, lambda line: console.print(line, highlight=False, soft_wrap=True))
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield _LiveView(folder, live)


def draw(board: Board, folder: Path) -> RenderableType:
    """Return the view: a bar of all runs, and a row for each running task."""
    ended = board.count("done") + board.count("failed")
    head = Table.grid(padding=(0, 1))
    head.add_row(ProgressBar(total=max(1, board.total), completed=ended, width=30), Text(summary(board)))
    rows = Table("worker", "task", "doing", "epoch", "accuracy", "time", expand=False)
    for task in board.running():
        pulse = read_pulse(folder, task.label)
        spent = readable(time.time() - board.started[task.key])
        if pulse is None:
            rows.add_row(board.worker[task.key], task.label, "starting", "", "", spent)
            continue
        epoch = f"{pulse.epoch}/{pulse.epochs}" if pulse.epochs else ""
        accuracy = "" if pulse.accuracy is None else f"{pulse.accuracy:.1%}"
        rows.add_row(board.worker[task.key], task.label, _phase(pulse), epoch, accuracy, spent)
    return Group(head, rows) if board.running() else head


def _phase(pulse: Pulse) -> str:
    return pulse.phase + (f" {pulse.done / pulse.total:.0%}" if pulse.total else "")


def summary(board: Board) -> str:
    """Return where a study stands, in one line."""
    done, failed = board.count("done"), board.count("failed")
    parts = [f"{done}/{board.total} done", f"{len(board.running())} running", f"{board.total - done - failed} left"]
    parts += [f"{failed} failed"] if failed else []
    left = board.time_left()
    if board.total > done + failed:
        if left is None:
            parts.append("time left not known yet")
        else:
            parts.append(f"{'about' if left.whole else 'more than'} {readable(left.seconds)} to go")
    return ", ".join(parts)


def readable(seconds: float) -> str:
    """Return a duration as people say it: ``12 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class _LiveView:
    def __init__(self, folder: Path, live: Live) -> None:
        self.folder = folder
        self.live = live
        self.drawn = 0.0

    def line(self, text: str) -> None:
        self.live.console.print(text, highlight=False, soft_wrap=True)

    def show(self, board: Board) -> None:
        if time.monotonic() - self.drawn >= REFRESH:
            self.drawn = time.monotonic()
            self.live.update(draw(board, self.folder), refresh=True)


class _Lines:
    def __init__(self, folder: Path, write: Callable[[str], None]) -> None:
        self.folder = folder
        self.write = write
        self.told = 0.0

    def line(self, text: str) -> None:
        self.write(text)
        self.told = time.monotonic()

    def show(self, board: Board) -> None:
        if not self.told:
            self.line(summary(board))
        elif time.monotonic() - self.told >= HEARTBEAT:
            doing = [f"{task.label}: {self._doing(task.label)}" for task in board.running()]
            self.line("; ".join([summary(board), *doing]))

    def _doing(self, label: str) -> str:
        pulse = read_pulse(self.folder, label)
        if pulse is None:
            return "starting"
        accuracy = "" if pulse.accuracy is None else f", {pulse.accuracy:.1%}"
        epoch = f" epoch {pulse.epoch}/{pulse.epochs}" if pulse.epochs else ""
        return f"{_phase(pulse)}{epoch}{accuracy}"
