"""The backends for other devices against plain torch: Triton's kernels (in its interpreter without a GPU), and torch
in one autograd node."""

from __future__ import annotations

import importlib.util
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from neuron_cases import assert_same_gradient
from torch import Tensor

import neurons
from neurons import SURROGATES, NeuronParameters, make_neuron
from neurons.kernels import dispatch, plain
from neurons.kernels.dispatch import Backend
from neurons.kernels.node import OneNode
from neurons.surrogate import Surrogate

CUDA = torch.cuda.is_available()
NAMES = ["torch", *(["triton"] if importlib.util.find_spec("triton") else [])]  # Triton is not for every platform


@pytest.fixture(params=NAMES)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> OneNode:
    if request.param == "torch":
        from neurons.kernels import torch_steps

        return OneNode(torch_steps)
    if not CUDA:
        monkeypatch.setenv("TRITON_INTERPRET", "1")  # read when the module below is first imported
    from neurons.kernels import triton_steps

    return OneNode(triton_steps)


def _device(backend: OneNode) -> str:
    return "cuda" if CUDA and "triton" in backend._backend.__name__ else "cpu"


def _leaves(shape: tuple[int, ...], device: str, *, per_neuron: bool, synapse: bool) -> dict[str, Tensor]:
    size = shape[2:] if per_neuron else ()
    numbers = {
        "current": torch.rand(shape, dtype=torch.float64) * 1.5,
        "membrane": torch.randn(shape[1:], dtype=torch.float64) * 0.3,
        "beta": 0.6 + 0.3 * torch.rand(size, dtype=torch.float64),
        "threshold": 0.6 + 0.5 * torch.rand(size, dtype=torch.float64),
    }
    if synapse:
        numbers["synapse"] = torch.randn(shape[1:], dtype=torch.float64) * 0.1
        numbers["alpha"] = 0.3 + 0.3 * torch.rand(size, dtype=torch.float64)
    return {name: value.to(device).requires_grad_() for name, value in numbers.items()}


def _state(leaves: dict[str, Tensor]) -> tuple[Tensor, ...]:
    return tuple(leaves[part] for part in ("membrane", "synapse") if part in leaves)


def _compare(run: Callable[[Any], tuple[Tensor, tuple[Tensor, ...]]], ours: Backend, leaves: dict[str, Tensor]) -> None:
    results = [(out, *state) for out, state in (run(ours), run(plain))]
    weights = [torch.randn_like(part) for part in results[0]]
    gradients = [
        torch.autograd.grad(
            torch.stack([(part * weight).sum() for part, weight in zip(parts, weights, strict=True)]).sum(),
            list(leaves.values()),
        )
        for parts in results
    ]
    for mine, theirs in zip(*results, strict=True):
        assert torch.equal(mine, theirs)
    for mine, theirs in zip(*gradients, strict=True):
        assert_same_gradient(mine, theirs)


@pytest.mark.parametrize(
    ("reset", "detach", "synapse"), itertools.product(("zero", "subtract", "none"), (True, False), (True, False))
)
def test_lif(backend: OneNode, reset: str, detach: bool, synapse: bool) -> None:
    """All inputs, all outputs, the final state included; 4 * 41 columns fill no whole number of blocks."""
    leaves = _leaves((6, 4, 41), _device(backend), per_neuron=synapse, synapse=synapse)

    def run(implementation: Any) -> Any:
        return implementation.lif(
            leaves["current"],
            _state(leaves),
            beta=leaves["beta"],
            alpha=leaves.get("alpha"),
            threshold=leaves["threshold"],
            reset=reset,
            detach_reset=detach,
            surrogate=Surrogate("atan", 2.0),
        )

    _compare(run, backend, leaves)


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_surrogates(backend: OneNode, surrogate: str) -> None:
    leaves = _leaves((4, 2, 5), _device(backend), per_neuron=False, synapse=False)

    def run(implementation: Any) -> Any:
        return implementation.lif(
            leaves["current"],
            _state(leaves),
            beta=leaves["beta"],
            alpha=None,
            threshold=leaves["threshold"],
            reset="subtract",
            detach_reset=False,
            surrogate=Surrogate(surrogate, 1.3),
        )

    _compare(run, backend, leaves)


@pytest.mark.parametrize("synapse", [True, False])
def test_membrane_alone(backend: OneNode, synapse: bool) -> None:
    leaves = _leaves((5, 2, 7), _device(backend), per_neuron=True, synapse=synapse)
    del leaves["threshold"]
    _compare(
        lambda implementation: implementation.integrate(
            leaves["current"], _state(leaves), beta=leaves["beta"], alpha=leaves.get("alpha")
        ),
        backend,
        leaves,
    )


@pytest.mark.parametrize("synapse", [True, False])
def test_one_zero_seen_at_every_place_is_a_state_of_zeros(backend: OneNode, synapse: bool) -> None:
    """What `forward` hands over on CUDA where no state is given."""
    leaves = _leaves((5, 3, 7), _device(backend), per_neuron=False, synapse=synapse)
    rest = torch.zeros((), dtype=torch.float64, device=_device(backend)).expand(3, 7)
    learned = {name: leaves[name] for name in leaves if name not in ("membrane", "synapse")}
    terms: dict[str, Any] = {"reset": "subtract", "detach_reset": False, "surrogate": Surrogate("atan", 2.0)}
    values = {"alpha": leaves.get("alpha"), "beta": leaves["beta"], "threshold": leaves["threshold"]}

    def run(implementation: Any) -> Any:
        state = (rest,) * (1 + synapse)
        if implementation is plain:
            state = tuple(part.clone() for part in state)
        return implementation.lif(leaves["current"], state, **values, **terms)

    _compare(run, backend, learned)


def test_whole_neurons(backend: OneNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `forward` hands over: a constant current, one step, an empty batch, one column, float32."""
    device = _device(backend)
    for name, current in itertools.product(
        ("lif", "paralif-t", "paralif-tt"),
        (torch.rand(1, 3, 4).expand(6, 3, 4), torch.rand(1, 3, 4), torch.rand(4, 0, 4), torch.rand(5, 1, 1)),
    ):
        neuron = make_neuron(name, NeuronParameters(alpha=0.5, learn_beta=True)).to(device)
        found = []
        for chosen in (backend, plain):
            monkeypatch.setattr(dispatch, "_backend", lambda _, chosen=chosen: chosen)
            leaf = (current * 2).to(device).requires_grad_()
            spikes, state = neuron(leaf)
            found.append((spikes, *state, *torch.autograd.grad(spikes.sum() + state[0].sum(), [leaf, neuron.beta])))
        for mine, theirs in zip(*found, strict=True):
            torch.testing.assert_close(mine, theirs)


def test_one_node_in_the_graph(backend: OneNode) -> None:
    current = torch.rand(30, 2, 3, device=_device(backend), requires_grad=True)
    membrane, _ = backend.integrate(
        current, (torch.zeros_like(current[0]),), beta=torch.tensor(0.9, device=current.device), alpha=None
    )
    assert membrane.grad_fn is not None
    assert type(membrane.grad_fn).__name__ == "_NodeBackward"
    assert type(membrane.grad_fn.next_functions[0][0]).__name__ == "AccumulateGrad"


@pytest.mark.parametrize(
    ("device", "missing", "name"),
    [
        ("cpu", None, "numba"),
        ("cpu", "numba", "torch"),
        ("cuda", None, "triton"),
        ("cuda", "triton", "torch"),
        ("mps", None, "torch"),
    ],
)
def test_backend_by_device(device: str, missing: str | None, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_has", lambda module: module != missing)
    assert dispatch.backend_of(torch.device(device)) == name
    assert make_neuron("lif").describe(device)["backend"] == name


@pytest.mark.skipif(not CUDA, reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["lif", "paralif-t"])
def test_cuda_gives_the_spikes_of_the_cpu(name: str) -> None:
    neuron, current = make_neuron(name, NeuronParameters(alpha=0.6)), torch.rand(50, 7, 33, dtype=torch.float64)
    assert torch.equal(neuron(current)[0], neuron(current.cuda())[0].cpu())


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.parametrize("name", ["lif", "paralif-t"])
def test_the_kernels_run_where_the_current_is(name: str) -> None:
    neuron, values = make_neuron(name, NeuronParameters(alpha=0.6)), torch.rand(50, 7, 33, dtype=torch.float64)
    found = []
    for device in ("cpu", "cuda:1"):
        current = values.to(device).requires_grad_()
        spikes, _ = neuron(current)
        found.append([spikes.cpu(), torch.autograd.grad(spikes.cumsum(0).sum(), current)[0].cpu()])
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])


COMPILES = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from neurons.kernels import triton_steps
common = {"SYNAPSE": True, "FIRES": True, "RESET": 1, "BLOCK": 128}
learned = {"GRAD_V": True, "GRAD_I": True, "LEARN_BETA": True, "LEARN_ALPHA": True, "LEARN_THRESHOLD": True}
for kernel, fixed in (
    (triton_steps._forward, {"KEEP_MEMBRANE": True, "KEEP_CURRENTS": True}),
    (triton_steps._backward, {"DETACH": False, "SURROGATE": 0, "SLOPE": 1.3, **learned}),
):
    fixed |= common
    for dtype in ("fp32", "fp64"):
        integers = {name for name in kernel.arg_names if name.endswith(("_row", "_step", "_count", "columns", "steps"))}
        kinds = {name: "i32" if name in integers else f"*{dtype}" for name in kernel.arg_names}
        kinds |= dict.fromkeys(fixed, "constexpr")
        source = ASTSource(kernel, kinds, constexprs={(kernel.arg_names.index(n),): v for n, v in fixed.items()})
        compiled = triton.compile(source, target=GPUTarget("cuda", 80, 32), options={"enable_fp_fusion": False})
        assert "fma.rn" not in compiled.asm["ptx"], "a product and a sum were fused"
        print("compiled")
"""


@pytest.mark.skipif("triton" not in NAMES, reason="Triton is not for this platform")
def test_triton_kernels_compile_for_a_gpu_without_fused_sums() -> None:
    """No device needed: down to PTX for compute capability 8.0. The interpreter alone would let a type error pass."""
    root = str(Path(neurons.__file__).parents[1])
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILES],
        capture_output=True,
        text=True,
        check=False,
        env={**environment, "PYTHONPATH": root},
    )
    assert done.stdout.split() == ["compiled"] * 4, done.stderr
