"""The compiled kernels against plain torch: spikes bit for bit, every gradient, every memory layout."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from neuron_cases import assert_same_gradient
from torch import Tensor

import neurons
from neurons import SURROGATES, NeuronParameters, make_neuron
from neurons.kernels import fused, plain, threads
from neurons.surrogate import Surrogate


def _leaves(shape: tuple[int, ...], dtype: torch.dtype, per_neuron: bool, synapse: bool) -> dict[str, Any]:
    size = shape[2:] if per_neuron else ()
    leaves = {
        "current": (torch.rand(shape, dtype=dtype) * 1.5).requires_grad_(),
        "membrane": (torch.randn(shape[1:], dtype=dtype) * 0.3).requires_grad_(),
        "beta": (0.6 + 0.3 * torch.rand(size, dtype=dtype)).requires_grad_(),
        "threshold": (0.6 + 0.5 * torch.rand(size, dtype=dtype)).requires_grad_(),
    }
    if synapse:
        leaves["synapse"] = (torch.randn(shape[1:], dtype=dtype) * 0.1).requires_grad_()
        leaves["alpha"] = (0.3 + 0.3 * torch.rand(size, dtype=dtype)).requires_grad_()
    return leaves


def _call(lif: Callable[..., Any], leaves: dict[str, Tensor], **options: Any) -> tuple[Tensor, ...]:
    state = tuple(leaves[part] for part in ("membrane", "synapse") if part in leaves)
    spikes, state = lif(
        leaves["current"],
        state,
        beta=leaves["beta"],
        alpha=leaves.get("alpha"),
        threshold=leaves["threshold"],
        **options,
    )
    return spikes, *state


def _compare(first: tuple[Tensor, ...], second: tuple[Tensor, ...], leaves: dict[str, Tensor]) -> None:
    weights = [torch.randn_like(part) for part in first]
    wanted = [leaf for leaf in leaves.values() if leaf.requires_grad]
    gradients = []
    for outputs in (first, second):
        losses = [(part * weight).sum() for part, weight in zip(outputs, weights, strict=True)]
        gradients.append(torch.autograd.grad(losses, wanted))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
    for ours, plain_one in zip(*gradients, strict=True):
        assert_same_gradient(ours, plain_one)


@pytest.mark.parametrize(
    ("reset", "detach", "synapse"), itertools.product(("zero", "subtract", "none"), (True, False), (True, False))
)
@pytest.mark.parametrize("per_neuron", [True, False])
def test_lif(reset: str, detach: bool, synapse: bool, per_neuron: bool) -> None:
    """All inputs and all three outputs, the final state included."""
    leaves = _leaves((9, 3, 700), torch.float64, per_neuron, synapse)  # 700 is no multiple of a block
    options = {"reset": reset, "detach_reset": detach, "surrogate": Surrogate("atan", 2.0)}
    _compare(_call(fused.lif, leaves, **options), _call(plain.lif, leaves, **options), leaves)


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_surrogates(surrogate: str) -> None:
    leaves = _leaves((6, 2, 5), torch.float64, True, False)
    options = {"reset": "subtract", "detach_reset": False, "surrogate": Surrogate(surrogate, 1.3)}
    _compare(_call(fused.lif, leaves, **options), _call(plain.lif, leaves, **options), leaves)


@pytest.mark.parametrize("synapse", [True, False])
def test_membrane_alone(synapse: bool) -> None:
    leaves = _leaves((7, 2, 5), torch.float64, True, synapse)
    del leaves["threshold"]
    state = tuple(leaves[part] for part in ("membrane", "synapse") if part in leaves)
    results = []
    for module in (fused, plain):
        membrane, after = module.integrate(leaves["current"], state, beta=leaves["beta"], alpha=leaves.get("alpha"))
        results.append((membrane, *after))
    _compare(results[0], results[1], leaves)


@pytest.mark.parametrize("synapse", [True, False])
def test_membrane_alone_gradcheck(synapse: bool) -> None:
    """The smooth path, against finite differences."""
    leaves = _leaves((5, 2, 3), torch.float64, True, synapse)

    def membrane(current: Tensor, v: Tensor, beta: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        state, alpha = ((v, rest[0]), rest[1]) if rest else ((v,), None)
        out, after = fused.integrate(current, state, beta=beta, alpha=alpha)
        return out, *after

    names = ("current", "membrane", "beta", "synapse", "alpha")[: 5 if synapse else 3]
    assert torch.autograd.gradcheck(membrane, [leaves[name] for name in names])


def test_float32_spikes_are_plain_torchs() -> None:
    leaves = _leaves((50, 4, 33), torch.float32, False, True)
    options = {"reset": "zero", "detach_reset": True, "surrogate": Surrogate("atan", 2.0)}
    first, second = _call(fused.lif, leaves, **options), _call(plain.lif, leaves, **options)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_layouts() -> None:
    """The same numbers as an expanded constant, a transposed view, and a slice give what a plain copy gives."""
    neuron = make_neuron("lif")
    base = torch.rand(6, 3, 4)
    wide = torch.rand(6, 3, 8)
    wide[..., ::2] = base
    constant = base[:1].expand(6, 3, 4)
    for view in (constant, base.transpose(0, 1).contiguous().transpose(0, 1), wide[..., ::2]):
        assert not view.is_contiguous()
        assert torch.equal(neuron(view)[0], neuron(view.contiguous())[0])


def test_constant_current_gradient() -> None:
    """A current expanded over T gets the sum over T, as autograd would have it."""
    neuron = make_neuron("lif")
    one = torch.rand(1, 3, 4, requires_grad=True)
    spread = one.detach().repeat(6, 1, 1).requires_grad_()
    neuron(one.expand(6, 3, 4))[0].sum().backward()
    neuron(spread)[0].sum().backward()
    assert one.grad is not None
    assert spread.grad is not None
    torch.testing.assert_close(one.grad[0], spread.grad.sum(0))


@pytest.fixture(params=["openmp", "python"])
def scheduler(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to get threads, for work of any size."""
    monkeypatch.setattr(fused, "SMALLEST_SHARE", 1)
    if request.param == "python":
        monkeypatch.setattr(threads, "_openmp", lambda: None)
    elif threads.scheduler() != "openmp":
        pytest.skip("torch's OpenMP cannot be called here")
    assert threads.scheduler() == request.param
    return str(request.param)


def test_threads_change_nothing(scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    current = torch.rand(5, 3, 5555, requires_grad=True)
    neuron = make_neuron("lif", NeuronParameters(learn_beta=True))
    counts, run = [], threads.run
    monkeypatch.setattr(threads, "run", lambda kernel, at, count: (counts.append(count), run(kernel, at, count)))
    gradients = []
    for number in (1, 3):
        torch.set_num_threads(number)
        spikes, _ = neuron(current)
        gradients.append((spikes, *torch.autograd.grad(spikes.sum(), [current, *neuron.parameters()])))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert counts == [1, 1, 3, 3]


def test_every_column_is_computed_once(scheduler: str) -> None:
    """Whatever the numbers of threads, columns and shares: the membrane of one step from nothing is the current."""
    for number, columns in itertools.product((1, 2, 3, 5), (1, 7, 512, 513, 1024, 5000, 30000)):
        torch.set_num_threads(number)
        current = torch.rand(1, columns)
        membrane, _ = fused.integrate(current, (torch.zeros(columns),), beta=torch.tensor(0.9), alpha=None)
        assert torch.equal(membrane, current)


def test_an_interrupted_kernel_is_left_by_every_thread_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it writes to would be freed under the others."""
    caller, ended = threading.get_ident(), []

    def kernel(arguments: int) -> None:
        if threading.get_ident() == caller:
            raise KeyboardInterrupt
        time.sleep(0.2)
        ended.append(arguments)

    monkeypatch.setattr(threads, "_openmp", lambda: None)
    monkeypatch.setattr(threads, "_function", lambda address: kernel)
    with pytest.raises(KeyboardInterrupt):
        threads.run(0, 7, 3)
    assert ended == [7, 7]


def test_two_threads_at_once(scheduler: str) -> None:
    """numba's portable threading layer would abort the process here."""
    from concurrent.futures import ThreadPoolExecutor

    neuron = make_neuron("lif")
    currents = [torch.rand(20, 64, 256) for _ in range(4)]
    alone = [neuron(current)[0] for current in currents]

    def two_threads(current: Tensor) -> Tensor:
        torch.set_num_threads(2)  # OpenMP keeps this number per thread
        return neuron(current)[0]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(two_threads, currents * 5))
    assert all(torch.equal(a, b) for a, b in zip(alone * 5, together, strict=True))


FORKS = """
import multiprocessing, sys, torch
from neurons import make_neuron
from neurons.kernels import threads

neuron, current = make_neuron("lif"), torch.rand(20, 64, 256)

class Spikes(torch.utils.data.Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, index):
        return neuron(current)[0].sum()

def child(queue):
    torch.set_num_threads(2)
    spikes, _ = neuron(current)
    torch.set_num_threads(1)  # torch's own sum would wait for ever
    queue.put((threads.scheduler(), float(spikes.sum())))

if __name__ == "__main__":
    torch.set_num_threads(2)
    expected = float(neuron(current)[0].sum())
    forking = multiprocessing.get_context("fork")
    queue = forking.Queue()
    process = forking.Process(target=child, args=(queue,))
    process.start()
    try:
        scheduler, found = queue.get(timeout=60)
    finally:
        process.kill()
        process.join()
    assert (scheduler, found) == ("python", expected)
    loader = torch.utils.data.DataLoader(Spikes(), num_workers=2, multiprocessing_context="fork")
    assert [float(spikes) for spikes in loader] == [expected] * 4
    print("same", threads.scheduler())
"""


LATE = """
import multiprocessing, torch
from neurons import make_neuron

neuron, current = make_neuron("lif"), torch.rand(20, 64, 256)

def child(queue):
    from neurons.kernels import threads
    torch.set_num_threads(2)
    spikes, _ = neuron(current)
    torch.set_num_threads(1)
    queue.put((threads.scheduler(), float(spikes.sum())))

if __name__ == "__main__":
    torch.set_num_threads(2)
    torch.rand(1000, 1000) @ torch.rand(1000, 1000)
    torch.rand(4_000_000).exp()
    forking = multiprocessing.get_context("fork")
    queue = forking.Queue()
    process = forking.Process(target=child, args=(queue,))
    process.start()
    try:
        found = queue.get(timeout=120)
    finally:
        process.kill()
        process.join()
    assert found == ("python", float(neuron(current)[0].sum())), found
    from neurons.kernels import threads
    print("same", threads.scheduler())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are not forked")
@pytest.mark.parametrize("kernels", ["loaded before", "loaded after"])
def test_forked_processes(tmp_path: Path, kernels: str) -> None:
    """A child of a process that used OpenMP has none of its threads, and would wait for them for ever."""
    script = tmp_path / "forks.py"
    if kernels == "loaded before":
        script.write_text(FORKS)
    else:
        script.write_text(LATE)
    root = str(Path(neurons.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
        check=False,
        timeout=240,
    )
    assert done.stdout.split() == ["same", threads.scheduler()], done.stderr


def test_one_node_in_the_graph() -> None:
    spikes, _ = make_neuron("lif")(torch.rand(30, 2, 3, requires_grad=True))
    assert type(spikes.grad_fn).__name__ == "_FusedBackward"
    (leaf, _), *rest = spikes.grad_fn.next_functions  # type: ignore[union-attr]
    assert type(leaf).__name__ == "AccumulateGrad"
    assert all(node is None for node, _ in rest)


def test_a_folder_that_nothing_can_be_written_to(tmp_path: Path) -> None:
    """Without any place for compiled code it is compiled again, not an error."""
    code = (
        "import numba.core.caching as c\n"
        "c.CacheImpl._locator_classes = []\n"
        "import torch, neurons\n"
        "print(int(neurons.make_neuron('lif')(2 * torch.ones(3, 1, 1))[0].sum()))"
    )
    root = str(Path(neurons.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip() == "3", done.stderr


STARVED = """
import resource, torch
from neurons import make_neuron

neuron = make_neuron("lif")
for steps in (5, 1_500_000):
    current = torch.rand(steps, 64, 1, requires_grad=True)
    spikes, _ = neuron(current)
    if steps > 5:
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        # Room for the gradient of the current, not for the membrane as well.
        limit = used + int(1.5 * current.numel() * current.element_size())
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        spikes.sum().backward()
        print("gradient")
    except MemoryError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by what Linux has for it")
def test_no_memory_for_the_backward_pass_is_an_error() -> None:
    """numba prints an exception of a C callback and goes on: what the gradient then holds is whatever was there."""
    environment = {**os.environ, "PYTHONPATH": str(Path(neurons.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", STARVED], capture_output=True, text=True, env=environment, check=False)
    first, second = done.stdout.splitlines()
    assert first == "gradient", done.stderr
    assert second.startswith("no memory is left for the rows that a thread works in"), done.stderr


def test_a_full_disk_costs_the_kept_code_alone(tmp_path: Path) -> None:
    script = (
        "import resource, torch; from neurons import make_neuron; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); "
        "print(int(make_neuron('lif')(torch.ones(3, 2, 2) * 2)[0].sum()))"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(neurons.__file__).parents[1]),
        "NUMBA_CACHE_DIR": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "12\n", done.stderr


@pytest.mark.parametrize("reset", ["zero", "subtract", "none"])
def test_an_infinite_current_does_the_same_everywhere(reset: str) -> None:
    current = torch.tensor([0.5, float("inf"), 2.0, 0.2]).reshape(4, 1, 1)
    neuron = make_neuron("lif", NeuronParameters(reset=reset))
    spikes, _ = neuron(current)
    assert spikes.flatten().tolist() == ([0, 1, 1, 0] if reset == "zero" else [0, 1, 1, 1])
    with neurons.step_by_step():
        assert torch.equal(neuron(current)[0], spikes)


@pytest.mark.parametrize("wanted", ["current", "membrane", "synapse", "beta", "alpha", "threshold"])
@pytest.mark.parametrize("fires", [True, False])
def test_a_gradient_to_one_input_alone(wanted: str, fires: bool) -> None:
    if wanted == "threshold" and not fires:
        return
    torch.manual_seed(0)
    values: dict[str, Any] = {
        "current": torch.rand(9, 3, 700, dtype=torch.float64) * 1.5,
        "membrane": torch.randn(3, 700, dtype=torch.float64) * 0.3,
        "synapse": torch.randn(3, 700, dtype=torch.float64) * 0.1,
        "beta": torch.tensor(0.8, dtype=torch.float64),
        "alpha": torch.tensor(0.5, dtype=torch.float64),
        "threshold": torch.tensor(0.9, dtype=torch.float64),
    }
    leaf, found = values[wanted].requires_grad_(), []
    for module in (fused, plain):
        state, decays = (values["membrane"], values["synapse"]), {"beta": values["beta"], "alpha": values["alpha"]}
        if fires:
            from neurons.surrogate import Surrogate

            terms: dict[str, Any] = {"threshold": values["threshold"], "reset": "subtract", "detach_reset": False}
            out, _ = module.lif(values["current"], state, **decays, **terms, surrogate=Surrogate("atan", 2.0))
        else:
            out, _ = module.integrate(values["current"], state, **decays)
        found.append(torch.autograd.grad((out * torch.linspace(-1, 2, out.numel()).view_as(out)).sum(), leaf)[0])
    torch.testing.assert_close(*found)
