"""Ratios and accuracies below pytest-benchmark's own table, from the same run."""

from __future__ import annotations

from itertools import groupby

import pytest


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
