from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # for neuron_cases: a package here would be called neurons as well


@pytest.fixture(autouse=True)
def _seeded_single_thread() -> Iterator[None]:
    """Every test draws the same numbers, and none takes the cores of whatever else runs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
