"""Conduct a study: start what is ready, record how it ended, try again what may succeed, survive the rest."""

from __future__ import annotations

import errno
import json
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from resnet_spiking.studies.board import Board
from resnet_spiking.studies.engines import Engine
from resnet_spiking.studies.folder import needing_room
from resnet_spiking.studies.intact import TRACES, flaw, is_spoiled, read_object, read_traces
from resnet_spiking.studies.labels import has_labels
from resnet_spiking.studies.ledger import Ledger
from resnet_spiking.studies.plan import PREPARING, Task
from resnet_spiking.studies.stopping import ask_to_stop, withdraw
from resnet_spiking.studies.work import Outcome, Resources, Work

TICK = 0.25  # seconds between two looks at the engine and at the request to stop


class Watch(Protocol):
    """Whom a study tells: single ``line``s, and after each event or tick the ``board``."""

    def line(self, text: str) -> None: ...

    def show(self, board: Board) -> None: ...


@dataclass(frozen=True)
class Tally:
    """How a study ended: runs and attacks by state, whether it was stopped, the labels of failed tasks with errors."""

    done: int
    failed: int
    waiting: int
    stopped: bool
    errors: tuple[tuple[str, str, str], ...]


def conduct(
    tasks: Sequence[Task],
    folder: Path,
    ledger: Ledger,
    engine: Engine,
    resources: Resources,
    *,
    workers: int,
    retries: int,
    watch: Watch,
    should_stop: Callable[[], bool] = lambda: False,
) -> Tally:
    """Run ``tasks`` to the end in ``folder``, each up to ``1 + retries`` times; return how that went.

    A task that fails for good does not stop the others, only those that need it. When asked to stop,
    running tasks save and go back to waiting, as they do when the process is killed.

    Raises ``UserError`` when the disk is full: everything finished is kept, and a restart continues.
    """
    withdraw(folder)
    board = Board.of(tasks, ledger.entries(), workers)
    conducting = _Conducting(board, folder, ledger, engine, resources, retries, watch)
    try:
        with needing_room(folder):
            return conducting.run(should_stop)
    finally:
        engine.close()
        withdraw(folder)


def keep_intact(folder: Path, ledger: Ledger, watch: Watch, tasks: Iterable[Task]) -> None:
    """Let every done one of ``tasks`` wait again whose files are missing, damaged or no longer what the ledger says.

    A run that lacks nothing but the traces of its spikes waits too, and so does one run of a dataset whose labels are
    missing: they are found finished, and write them.
    """
    planned = {task.key: task for task in tasks}
    unlabelled: set[str] = set()
    for entry in ledger.done():
        if entry.key not in planned or not entry.result:
            continue
        run = (folder / entry.result).parent
        if found := flaw(folder, entry):
            watch.line(f"{entry.label}: {found}, doing this {entry.kind} again")
            if entry.kind != "run" or not is_spoiled(run):
                # A changed result must not be taken for a finished one.
                (folder / entry.result).unlink(missing_ok=True)
            if entry.kind == "run" and not (run / "config.json").exists():
                # Beside no config.json they would count as somebody else's, which no run replaces.
                for name in ("model.safetensors", "metrics.jsonl", "last.ckpt"):
                    (run / name).unlink(missing_ok=True)
            ledger.wait_again(entry.key)
        elif entry.kind == "run":
            lost = []
            if planned[entry.key].payload.get("traces") and read_traces(run) is None:
                (run / TRACES).unlink(missing_ok=True)
                lost.append("the traces of its spikes")
            data = json.loads((folder / entry.result).read_text())["hashes"]["data"]
            if data not in unlabelled and not has_labels(folder, data):
                unlabelled.add(data)
                lost.append("the labels of its test images")
            if lost:
                watch.line(f"{entry.label}: {' and '.join(lost)} are missing or damaged, writing them again")
                ledger.wait_again(entry.key)
    for result in sorted((folder / "runs").glob("default-*/result.json")):
        if read_object(result) is None:
            watch.line(f"{result} is damaged: this Default is trained again where a run needs it")
            result.unlink()


class _Conducting:
    """A study in progress."""

    def __init__(
        self,
        board: Board,
        folder: Path,
        ledger: Ledger,
        engine: Engine,
        resources: Resources,
        retries: int,
        watch: Watch,
    ) -> None:
        self.board, self.folder, self.ledger, self.engine = board, folder, ledger, engine
        self.retries, self.watch = retries, watch
        self.tries: Counter[str] = Counter()
        self.full: str | None = None
        self.stopping = False
        self.missing = {
            key: {need for need in task.needs if board.states.get(need, "done") != "done"}
            for key, task in board.tasks.items()
        }
        self.followers: dict[str, list[str]] = {}
        for key, task in board.tasks.items():
            for need in task.needs:
                self.followers.setdefault(need, []).append(key)
        self.works = {
            key: Work(folder, key, task.kind, task.label, task.payload, resources, task.affinity)
            for key, task in board.tasks.items()
        }
        self.order = {key: position for position, key in enumerate(board.tasks)}
        self.ready: list[str] = []  # in plan order
        for key in board.tasks:
            self._offer(key)

    def run(self, should_stop: Callable[[], bool]) -> Tally:
        self.watch.show(self.board)
        while True:
            if should_stop() and not self.stopping:
                self.watch.line("stopping: running tasks save first (once more Ctrl-C ends them at once)")
                self._stop()
            while not self.stopping and self._start_one():
                pass
            running = any(state == "running" for state in self.board.states.values())
            if not running and (self.stopping or not self.ready):
                break
            for outcome in self.engine.wait(TICK):
                self._record(outcome)
            self.watch.show(self.board)
        if self.full:
            raise OSError(errno.ENOSPC, self.full)
        return self._tally()

    def _offer(self, key: str) -> None:
        """Take a task among the ready ones when all that it needs is there."""
        if self.board.states[key] != "waiting" or self.missing[key]:
            return
        # Preparing is only worth it for a task that is still to be done.
        followers = (self.board.states[follower] for follower in self.followers.get(key, ()))
        if self.board.tasks[key].kind not in PREPARING or "waiting" in followers:
            insort(self.ready, key, key=self.order.__getitem__)

    def _start_one(self) -> bool:
        if not self.ready or not self.engine.room():
            return False
        placed = self.engine.place([self.works[key] for key in self.ready])
        if placed is None:
            return False
        work, worker = placed
        self.ready.remove(work.key)
        self.tries[work.key] += 1
        self.ledger.start(work.key, worker, work.log)
        self.board.begin(work.key, worker)
        return True

    def _record(self, outcome: Outcome) -> None:
        task = self.board.tasks[outcome.key]
        if outcome.state == "done":
            self.ledger.finish(outcome.key, outcome.result, outcome.sha256, outcome.seconds)
            self.board.end(outcome.key, "done", outcome.seconds)
            if task.kind != "features":
                self.watch.line(self._progress(f"{task.label} ({outcome.seconds:.1f} s)"))
            self._release(outcome.key)
        elif outcome.state == "stopped" or (self.stopping and outcome.again):
            self._put_back(outcome.key, outcome.error)
        elif outcome.state == "full":
            self.full = outcome.error or "the disk is full"
            self._put_back(outcome.key, outcome.error)
            self._stop()
        elif outcome.again and self.tries[outcome.key] <= self.retries:
            self.watch.line(
                f"{task.label}: {outcome.error}; attempt {self.tries[outcome.key] + 1} of {1 + self.retries}"
            )
            self._put_back(outcome.key, outcome.error)
            self._offer(outcome.key)
        else:
            self._give_up(outcome.key, outcome.error or "failed")
            # A convenience: runs compute their features themselves, or say what is wrong with them.
            if task.kind in PREPARING:
                self._release(outcome.key)
            else:
                self._give_up_followers(outcome.key)

    def _release(self, key: str) -> None:
        for follower in self.followers.get(key, ()):
            self.missing[follower].discard(key)
            self._offer(follower)

    def _put_back(self, key: str, error: str | None) -> None:
        self.ledger.wait_again(key, error)
        self.board.end(key, "waiting")

    def _give_up(self, key: str, error: str) -> None:
        label = self.board.tasks[key].label
        self.ledger.fail(key, error)
        self.board.end(key, "failed", error=error)
        self.watch.line(self._progress(f"{label} FAILED: {error} (log: {self.folder / 'logs' / label}.log)"))

    def _give_up_followers(self, key: str) -> None:
        """Record as failed whatever cannot be done without a failed task."""
        for follower in self.followers.get(key, ()):
            # A part needs what its attack needs, which says so for all of them.
            if self.board.states[follower] == "waiting" and self.board.tasks[follower].kind != "part":
                self._give_up(follower, f"needs {self.board.tasks[key].label}, which failed")
                self._give_up_followers(follower)

    def _stop(self) -> None:
        self.stopping = True
        ask_to_stop(self.folder)

    def _progress(self, text: str) -> str:
        ended = self.board.count("done") + self.board.count("failed")
        return f"[{ended}/{self.board.total}] {text}"

    def _tally(self) -> Tally:
        errors = tuple(
            (task.label, self.board.errors.get(key, ""), str(self.folder / "logs" / f"{task.label}.log"))
            for key, task in self.board.tasks.items()
            if self.board.states[key] == "failed"
        )
        counts = [self.board.count(state) for state in ("done", "failed", "waiting")]
        return Tally(counts[0], counts[1], counts[2], self.stopping, errors)
