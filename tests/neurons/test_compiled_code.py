"""The code that numba keeps on disk, when two processes compile at the same time in a new installation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# Both processes find an index without entries, both enter theirs, and the first to enter is the last to write its code.
AT_THE_SAME_TIME = """
import torch
from numba.core import caching
from neurons.kernels import numba_cpu

written = []
caching.IndexDataCacheFile._load_index = lambda self: {}
save = caching.IndexDataCacheFile._save_data
caching.IndexDataCacheFile._save_data = lambda self, name, data: written.append((self, name, data))
for dtype in (torch.float32, torch.float64):
    numba_cpu.forward_at(dtype), numba_cpu.backward_at(dtype)
for entry in reversed(written):
    save(*entry)
assert len(written) == 4
"""

AFTERWARDS = """
import torch
from numba.core import caching
from neurons import make_neuron, step_by_step

loaded = []
load = caching.IndexDataCacheFile._load_data
caching.IndexDataCacheFile._load_data = lambda self, name: loaded.append(name) or load(self, name)
for dtype in (torch.float32, torch.float64):
    current = torch.rand(9, 4, 5, dtype=dtype, generator=torch.Generator().manual_seed(0)).requires_grad_()
    neuron = make_neuron("lif").to(dtype)
    spikes, _ = neuron(current)
    (gradient,) = torch.autograd.grad(spikes.square().sum(), current)
    with step_by_step():
        expected, _ = neuron(current)
        (slopes,) = torch.autograd.grad(expected.square().sum(), current)
    assert expected.sum() > 0
    assert torch.equal(spikes, expected), dtype
    torch.testing.assert_close(gradient, slopes)
assert len(loaded) == 4, loaded
"""


def test_two_processes_that_compile_at_the_same_time_keep_their_own_code(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    for script in (AT_THE_SAME_TIME, AFTERWARDS):
        ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
