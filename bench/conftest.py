"""Ratios and accuracies below pytest-benchmark's own table, from the same run."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("attacks", "what bench/test_attacks.py attacks")
    group.addoption("--run", type=Path, action="append", default=[], help="A trained run; give it again for another.")
    group.addoption("--data-dir", type=Path, help="Where the data is, when it has moved since training.")
    group.addoption("--weights", help="The backbone's weights, when they have moved since training.")
    group.addoption("--images", type=int, default=64, help="How many test images are attacked.")
    group.addoption("--threads", type=int, default=2, help="How many threads torch uses.")
    group = parser.getgroup("training", "what bench/test_training.py trains on")
    group.addoption("--train-images", type=int, default=1437, help="How many of the 1,437 training digits.")


@pytest.fixture
def asked_threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let torch use as many threads as ``--threads`` says."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.config.getoption("--threads"))
    yield
    torch.set_num_threads(before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print each benchmark's median time as a multiple of its group's quickest, with what it recorded."""
    session = getattr(config, "_benchmarksession", None)
    found = [bench for bench in session.benchmarks if bench.stats.data] if session else []
    found.sort(key=lambda bench: (bench.group or "", bench.stats.median))
    for group, members in groupby(found, key=lambda bench: bench.group):
        rows = list(members)
        terminalreporter.write_sep("-", str(group))
        for bench in rows:
            noted = ", ".join(f"{name} {value:.4g}" for name, value in bench.extra_info.items())
            ratio = bench.stats.median / rows[0].stats.median
            terminalreporter.write_line(f"{bench.name:<50} {bench.stats.median * 1e3:12.2f} ms {ratio:8.2f}x  {noted}")
