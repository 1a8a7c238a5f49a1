"""What libgomp says it has read, when torch loads it in a command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_spiking.thread_wait import SETTINGS


@pytest.mark.skipif(sys.platform != "linux", reason="torch brings GNU's libgomp on Linux alone")
@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "77"}, "77"), ({"OMP_WAIT_POLICY": "passive"}, "0")],
)
def test_waiting_threads_soon_sleep_unless_the_user_wants_otherwise(
    tmp_path: Path, given: dict[str, str], expected: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS} | given
    command = [sys.executable, "-m", "resnet_spiking.train", "--device", "cuda:99"]  # torch is needed to refuse it
    done = subprocess.run(
        command, cwd=tmp_path, env=environment | {"OMP_DISPLAY_ENV": "verbose"}, capture_output=True, text=True
    )
    assert done.returncode == 2
    told = [line.split("=")[1].strip(" '") for line in done.stderr.splitlines() if "GOMP_SPINCOUNT" in line]
    assert told
    assert set(told) == {expected}
