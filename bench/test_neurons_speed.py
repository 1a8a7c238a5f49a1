"""Our LIF and ParaLIF against the libraries, an FFT and five copies of the current; ratios from one run.

pytest bench/test_neurons_speed.py             # all; -k T20 for one length, -k cuda for the GPU
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).parent))
from neurons_contenders import FIRES_LIKE, contenders, five_copies, settle_allocator

SHAPES = [(4, 128, 256), (20, 128, 256), (100, 128, 256), (1000, 16, 256)]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
CONTENDERS = {device: contenders(device) for device in DEVICES}
NAMES = [(name, device) for device in DEVICES for name in ("five copies", *CONTENDERS[device])]


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    settle_allocator()
    yield
    torch.set_num_threads(before)


def _finish(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _kernel_time(once: Callable[[], object], calls: int = 10) -> float:
    """Microseconds a call that the GPU works, without those in which it waits for Python."""
    for _ in range(3):
        once()
    with warnings.catch_warnings(), profile(activities=[ProfilerActivity.CUDA]) as found:
        warnings.simplefilter("ignore")
        for _ in range(calls):
            once()
    return sum(event.self_device_time_total for event in found.key_averages()) / calls


@pytest.mark.parametrize("phase", ["forward", "forward+backward"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"T{shape[0]}")
@pytest.mark.parametrize(("name", "device"), NAMES)
def test_neurons(benchmark: BenchmarkFixture, name: str, shape: tuple[int, ...], phase: str, device: str) -> None:
    torch.manual_seed(0)
    benchmark.group = f"{phase}, T={shape[0]}, B={shape[1]}, N={shape[2]}, {device}"
    benchmark.name = name
    current = (0.1 + 0.7 * torch.randn(shape, device=device)).requires_grad_(phase != "forward")
    weights = torch.rand(shape, device=device)
    run = five_copies if name == "five copies" else CONTENDERS[device][name]

    def once() -> torch.Tensor:
        current.grad = None
        if phase == "forward":
            with torch.no_grad():
                spikes = run(current)
        else:
            spikes = run(current)
            if spikes.requires_grad:
                spikes.backward(weights)
        _finish(device)
        return spikes.detach()

    if device == "cuda":
        benchmark.extra_info["on the GPU [us]"] = round(_kernel_time(once), 1)
    slow = name not in ("five copies", "lif", "lif, synapse", "paralif-t", "paralif-t, synapse")
    rounds = (10 if slow else 100) if shape[0] <= 100 else (3 if slow else 20)
    spikes = benchmark.pedantic(once, rounds=rounds, warmup_rounds=3)
    if name in FIRES_LIKE:
        # In float32 a potential may end on either side of the threshold; none of the contenders rounds alike.
        expected = CONTENDERS[device][FIRES_LIKE[name]](current.detach())
        assert (spikes != expected).float().mean() < 0.005
        assert 0.1 < expected.mean() < 0.9
    if phase != "forward" and name != "five copies":
        assert current.grad is not None
        assert current.grad.abs().sum() > 0
