"""Where a study stands: each task's state, and what that says about the time left."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from resnet_spiking.studies.forecast import makespan
from resnet_spiking.studies.ledger import Entry
from resnet_spiking.studies.plan import PREPARING, Task


@dataclass
class Board:
    """The tasks of a study with what became of them so far."""

    tasks: dict[str, Task]
    workers: int
    states: dict[str, str]
    seconds: dict[str, float] = field(default_factory=dict)
    started: dict[str, float] = field(default_factory=dict)
    worker: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def of(tasks: Iterable[Task], entries: Iterable[Entry], workers: int) -> Board:
        """Return the board of a plan as the ledger has it."""
        board = Board({task.key: task for task in tasks}, workers, {})
        for entry in entries:
            board.states[entry.key] = entry.state
            if entry.seconds is not None:
                board.seconds[entry.key] = entry.seconds
            if entry.state == "running":
                board.started[entry.key] = entry.started or time.time()
                board.worker[entry.key] = entry.worker or "?"
            if entry.error:
                board.errors[entry.key] = entry.error
        return board

    def count(self, state: str) -> int:
        """Return how many runs and attacks are in ``state``; other tasks are steps on the way to them."""
        return sum(self.states[key] == state for key, task in self.tasks.items() if task.kind not in PREPARING)

    @property
    def total(self) -> int:
        return sum(task.kind not in PREPARING for task in self.tasks.values())

    def begin(self, key: str, worker: str) -> None:
        self.states[key], self.worker[key], self.started[key] = "running", worker, time.time()

    def end(self, key: str, state: str, seconds: float | None = None, *, error: str | None = None) -> None:
        self.states[key] = state
        if seconds is not None:
            self.seconds[key] = seconds
        if error:
            self.errors[key] = error

    def running(self) -> list[Task]:
        return [task for key, task in self.tasks.items() if self.states[key] == "running"]

    def time_left(self) -> TimeLeft | None:
        """Return the time left, judged by finished tasks that resemble those to come; None before there is any.

        A head is judged by finished heads of its neuron and T, else by those of any neuron on such a Default; an attack
        is the sum of its parts. Runs and attacks that nothing finished resembles, or that run longer than what did,
        are not in the sum, which then is not ``whole``.
        """
        known: dict[object, list[float]] = defaultdict(list)
        for key, taken in self.seconds.items():
            if key in self.tasks and self.states[key] == "done":
                for sort in _sorts(self.tasks[key]):
                    known[sort].append(taken)
        typical = {sort: sum(values) / len(values) for sort, values in known.items()}
        done = [key for key, state in self.states.items() if state in ("done", "failed")]
        # An attack of before there were parts, or one that cannot be, leaves them waiting: they are not to come.
        ended = {self.tasks[key].label for key in done if key in self.tasks and self.tasks[key].kind == "attack"}
        expected: dict[str, float] = {}
        parted = any(task.kind == "part" for task in self.tasks.values())
        silent = {"features", "attack"} if parted else {"features"}
        known_runs = unknown = 0
        for key, task in self.tasks.items():
            if self.states[key] in ("waiting", "running") and task.payload.get("attack") not in ended:
                alike = next((sort for sort in _sorts(task) if sort in typical), None)
                spent = time.time() - self.started[key] if self.states[key] == "running" else 0.0
                left = typical[alike] - spent if alike else 0.0
                judged = alike is not None and left >= 0
                if task.kind not in silent:
                    known_runs, unknown = known_runs + judged, unknown + (not judged)
                expected[key] = max(left, 0.0)
        if unknown and not known_runs:
            return None
        seconds = makespan(list(self.tasks.values()), expected, self.workers, done=set(done))
        return TimeLeft(seconds, whole=not unknown)


@dataclass(frozen=True)
class TimeLeft:
    """``seconds`` until the tasks end whose time is known; ``whole`` when that is all of them."""

    seconds: float
    whole: bool


def _sorts(task: Task) -> list[tuple[Any, ...]]:
    """Return what makes two tasks take about as long, the nearest resemblance first."""
    config = task.payload.get("config")
    if task.kind == "attack" or config is None:
        return [(task.kind, task.payload.get("bundle"))]
    names = ("dataset", "backbone", "image_size", "freeze_depth", "shifts", "default_epochs")
    sort = (task.kind, task.payload.get("pooled"), task.payload["dataset"], *(config[name] for name in names))
    if config["neuron"] == "none":
        return [(*sort, True)]
    branch = (*sort, config["train"], config["spiking"], config["spiking_epochs"])
    return [(*branch, config["neuron"], config["num_steps"]), branch]
