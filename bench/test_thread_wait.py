"""A training of the command line alone and beside a program that keeps one core busy: waiting threads that soon sleep
(what the commands choose) against libgomp's own choice.

pytest bench/test_thread_wait.py      # 4 minutes on two cores, nothing else running
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from resnet_spiking.thread_wait import SETTINGS

WAITS = {"commands": {}, "libgomp": {"GOMP_SPINCOUNT": "300000"}}
"""300,000 is what ``OMP_DISPLAY_ENV=verbose`` shows where nothing is set."""


@contextmanager
def busy_core() -> Iterator[None]:
    core = min(os.sched_getaffinity(0))
    spin = subprocess.Popen([sys.executable, "-c", f"import os\nos.sched_setaffinity(0, {{{core}}})\nwhile True: pass"])
    try:
        yield
    finally:
        spin.kill()
        spin.wait()


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("beside", ["nothing", "a busy core"])
def test_training(benchmark: BenchmarkFixture, tmp_path: Path, beside: str, wait: str) -> None:
    benchmark.group = f"training <5,5> beside {beside}"
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    environment |= {**WAITS[wait], "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "resnet_spiking.train", "--epochs", "5,5", "--output-dir", tmp_path / "run"]
    with busy_core() if beside != "nothing" else nullcontext():
        benchmark.pedantic(
            subprocess.run, (command,), {"env": environment, "check": True, "capture_output": True}, rounds=1
        )
