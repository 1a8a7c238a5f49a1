"""The compiled kernels against plain torch: spikes bit for bit, every gradient, every memory layout."""

from __future__ import annotations

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
from neurons.kernels import columns, fused, plain
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
        loss = sum((part * weight).sum() for part, weight in zip(outputs, weights, strict=True))
        gradients.append(torch.autograd.grad(loss, wanted))  # type: ignore[arg-type]
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


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "SMALLEST_SHARE", 1)
    current = torch.rand(5, 3, 1111, requires_grad=True)
    neuron = make_neuron("lif", NeuronParameters(learn_beta=True))
    gradients = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        spikes, _ = neuron(current)
        gradients.append((spikes, *torch.autograd.grad(spikes.sum(), [current, *neuron.parameters()])))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_every_column_is_covered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "SMALLEST_SHARE", 1)
    for threads, count in itertools.product((1, 2, 3, 5), (1, 7, 512, 513, 5000)):
        torch.set_num_threads(threads)
        seen = torch.zeros(count)

        def visit(start: int, stop: int, seen: Tensor = seen) -> None:
            seen[start:stop] += 1

        columns.over_columns(visit, 10, count, 512)
        assert torch.all(seen == 1)


def test_two_threads_at_once() -> None:
    """numba's portable threading layer would abort the process here."""
    from concurrent.futures import ThreadPoolExecutor

    neuron = make_neuron("lif")
    currents = [torch.rand(20, 64, 256) for _ in range(4)]
    alone = [neuron(current)[0] for current in currents]
    torch.set_num_threads(2)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda current: neuron(current)[0], currents))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


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
