"""Worker processes on this machine, each kept alive for many tasks."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import final

from resnet_spiking.studies.engines import Engine
from resnet_spiking.studies.perform import perform
from resnet_spiking.studies.work import Outcome, Work


@dataclass
class _Worker:
    place: int
    name: str
    process: BaseProcess
    connection: Connection
    work: Work | None = None
    affinity: str = ""


@final
class LocalEngine(Engine):
    """Up to ``workers`` spawned processes; with several CUDA devices they take turns (worker n on device n modulo).

    A worker is started when there is work for it and prefers tasks like its last, whose data and
    networks it still holds. One that dies is replaced, its task's outcome is ``lost``. Workers die with
    the study's process, however that ends.
    """

    def __init__(self, workers: int, *, cuda_devices: int = 0) -> None:
        self.limit = workers
        self.cuda_devices = cuda_devices
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._started = 0

    def room(self) -> int:
        return self.limit - sum(worker.work is not None for worker in self._workers)

    def place(self, ready: Sequence[Work]) -> tuple[Work, str] | None:
        if not ready or not self.room():
            return None
        idle = [worker for worker in self._workers if worker.work is None]
        for worker in idle:
            for work in ready:
                if work.affinity == worker.affinity:
                    return self._give(worker, work)
        # Starting a process costs seconds: an idle one that has other data in memory is quicker.
        return self._give(idle[0] if idle else self._start(ready[0]), ready[0])

    def wait(self, seconds: float) -> list[Outcome]:
        busy = [worker for worker in self._workers if worker.work]
        # A worker that dies closes its end, which makes its connection readable too.
        readable = set(wait([worker.connection for worker in busy], seconds)) if busy else set()
        return [self._collect(worker) for worker in busy if worker.connection in readable]

    def close(self) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.connection.close()
        self._workers.clear()

    def _start(self, work: Work) -> _Worker:
        ours, theirs = self._context.Pipe()
        name = f"worker {self._started + 1}"
        process = self._context.Process(target=_serve, args=(theirs, work.resources.threads), name=name, daemon=True)
        process.start()
        theirs.close()
        taken = {other.place for other in self._workers}
        worker = _Worker(next(place for place in count() if place not in taken), name, process, ours)
        self._started += 1
        self._workers.append(worker)
        return worker

    def _give(self, worker: _Worker, work: Work) -> tuple[Work, str]:
        worker.work, worker.affinity = work, work.affinity
        sent = work
        if work.resources.device == "cuda" and self.cuda_devices > 1:
            device = f"cuda:{worker.place % self.cuda_devices}"
            sent = replace(work, resources=replace(work.resources, device=device))
        # Where it died while idle, wait() finds its connection closed and calls the task lost.
        with suppress(OSError):
            worker.connection.send(sent)
        return work, f"{worker.name} (pid {worker.process.pid})"

    def _collect(self, worker: _Worker) -> Outcome:
        assert worker.work
        work, worker.work = worker.work, None
        try:
            outcome: Outcome = worker.connection.recv()
            return outcome
        except (EOFError, OSError):
            worker.process.join()
            self._workers.remove(worker)
            worker.connection.close()
            return Outcome(work.key, "lost", error=_ended(worker.process.exitcode), again=True)


def _ended(code: int | None) -> str:
    if code is not None and code < 0:
        return f"its worker was ended by {signal.Signals(-code).name}"
    return f"its worker ended with exit code {code}"


def _serve(connection: Connection, threads: int) -> None:
    """Do what comes through ``connection`` until it closes; end at once when the study's process does."""
    # Ctrl-C in a terminal reaches every process; the study passes the request on itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[variable] = str(threads)
    parent = multiprocessing.parent_process()
    assert parent

    def die_with_it() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=die_with_it, daemon=True).start()
    while True:
        try:
            work = connection.recv()
        except EOFError:
            return
        connection.send(perform(work))
