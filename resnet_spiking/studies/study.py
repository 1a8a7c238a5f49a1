"""Run a study from beginning to end: plan, check, conduct, export."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from resnet_spiking.errors import UserError
from resnet_spiking.studies.board import Board
from resnet_spiking.studies.conduct import Tally, Watch, conduct, keep_intact
from resnet_spiking.studies.engines import ENGINES, Engine
from resnet_spiking.studies.export import changed_images, export_study
from resnet_spiking.studies.folder import claimed, needing_room, remember
from resnet_spiking.studies.places import absolute
from resnet_spiking.studies.plan import PREPARING, plan_study
from resnet_spiking.studies.study_file import Study
from resnet_spiking.studies.work import Outcome, Resources, Work


@dataclass(frozen=True)
class Execution:
    """How a study is run; nothing here changes a figure, threads and device aside (results name both)."""

    engine: str = "local"
    workers: int = 1
    address: str | None = None
    resources: Resources = field(default_factory=Resources)
    retries: int = 2


def run_study(
    study: Study,
    folder: Path,
    execution: Execution,
    watch: Watch | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Tally:
    """Run what ``study`` lacks in ``folder`` and export ``folder/results``; return how it went.

    Finished runs are found again, by key and file; the rest runs, failed ones again. Results are exported also when
    tasks failed or the study was stopped. Raises ``UserError`` for anything the user can put right.
    """
    watch = watch or _Silent()
    if execution.engine == "ray":
        study = absolute(study)
    tasks = plan_study(study, cached=execution.resources.cache_dir is not None)
    folder = folder.resolve()
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "started": time.time(), "workers": execution.workers}
    with needing_room(folder), claimed(folder, study, owner) as ledger:
        keep_intact(folder, ledger, watch, tasks)
        done = {entry.key for entry in ledger.done()}
        idle = all(task.key in done for task in tasks if task.kind not in PREPARING)
        engine = _Idle() if idle else start_engine(execution, folder)
        try:
            if not idle:
                _check(engine, study, folder, execution.resources)
            # Only now: a study that is refused must not take the place of the one in this folder.
            remember(folder, study)
            ledger.plan(tasks)
        except BaseException:
            engine.close()
            raise
        tally = conduct(
            tasks,
            folder,
            ledger,
            engine,
            execution.resources,
            workers=execution.workers,
            retries=execution.retries,
            watch=watch,
            should_stop=should_stop,
        )
        if left_out := ledger.left_out():
            watch.line(f"{left_out} finished runs in this folder are not in the study file: kept, but not exported")
        results = export_study(folder, ledger.entries())
        for line in changed_images(results):
            watch.line(line)
    return tally


def start_engine(execution: Execution, folder: Path) -> Engine:
    """Return the engine of an execution. Raises ``UserError`` when it is unknown or cannot start."""
    if execution.engine == "local":
        from resnet_spiking.studies.engines.local import LocalEngine

        devices = 0
        if execution.resources.device == "cuda":
            import torch

            devices = torch.cuda.device_count()
        return LocalEngine(execution.workers, cuda_devices=devices)
    if execution.engine == "ray":
        from resnet_spiking.studies.engines.ray_cluster import RayEngine

        return RayEngine(folder, execution.resources, address=execution.address)
    raise UserError(f"--engine {execution.engine!r} is unknown; choose from: {', '.join(ENGINES)}")


def _check(engine: Engine, study: Study, folder: Path, resources: Resources) -> None:
    """Let a worker check heads and attacks: it needs torch anyway, this process does not."""
    work = Work(folder, "check", "check", "check", {"study": study.as_dict()}, resources)
    engine.place([work])
    outcomes: list[Outcome] = []
    while not outcomes:
        outcomes = engine.wait(1)
    if outcomes[0].state != "done":
        raise UserError(f"{study.name}: {outcomes[0].error or outcomes[0].state}")


@final
class _Silent(Watch):
    """Tells nobody."""

    def line(self, text: str) -> None:
        pass

    def show(self, board: Board) -> None:
        pass


class _Idle(Engine):
    """The engine of a study in which nothing is left to do."""

    def room(self) -> int:
        return 0

    def place(self, ready: Sequence[Work]) -> None:
        return None

    def wait(self, seconds: float) -> list[Outcome]:
        return []

    def close(self) -> None:
        return None
