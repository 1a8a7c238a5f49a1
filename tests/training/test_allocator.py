"""Freed memory stays with the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from resnet_spiking.training import allocator

PROGRAM = """
import resource, torch
from resnet_spiking.training.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(40):
        torch.ones(9 * 2 ** 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

ordinary = faults()
told = keep_freed_memory()
print(told, ordinary, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told")
def test_large_blocks_are_not_taken_from_the_kernel_again_and_again() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    told, ordinary, kept = done.stdout.split()
    assert told == "True"
    assert int(kept) < int(ordinary) / 2  # the heap settles within some blocks


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert allocator.keep_freed_memory() is False
