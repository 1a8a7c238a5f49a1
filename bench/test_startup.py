"""``--help`` against an interpreter that does nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pytest_benchmark.fixture import BenchmarkFixture


@pytest.mark.benchmark(group="start-up")
@pytest.mark.parametrize(
    "command", [("-c", "pass"), ("-m", "resnet_spiking.train", "--help"), ("-c", "import torch")], ids=" ".join
)
def test_startup(benchmark: BenchmarkFixture, command: tuple[str, ...]) -> None:
    benchmark.pedantic(
        subprocess.run,
        ([sys.executable, *command],),
        {"check": True, "capture_output": True},
        rounds=5,
        warmup_rounds=1,
    )
