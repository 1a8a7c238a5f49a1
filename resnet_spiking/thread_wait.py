"""How long a thread that waits for the others of a parallel loop keeps its core."""

from __future__ import annotations

import os
import sys

SETTINGS = frozenset({"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"})
"""Environment variables by which a user says it."""
ROUNDS = "1000"
"""What libgomp itself takes where it knows of more threads than cores, some microseconds."""


def yield_busy_cores() -> None:
    """Have OpenMP's waiting threads soon sleep, for this process and those it starts; before torch is imported.

    GNU's libgomp, which torch brings on Linux, lets a thread wait for 300,000 rounds. Where another program wants the
    same core, those rounds use up the thread's share of it, and when its work arrives it is not running: each parallel
    loop then takes a time slice of the scheduler, and training tens of times as long. Numbers do not change. Whoever
    has set OMP_WAIT_POLICY or GOMP_SPINCOUNT keeps what they set; libgomp reads it once, so that nothing is done
    where torch is already there.

    Source: libgomp's manual, GOMP_SPINCOUNT (GCC 15).
    """
    if "torch" not in sys.modules and not SETTINGS & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = ROUNDS
