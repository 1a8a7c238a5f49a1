"""Every implementation against the oracle over random parameters, lengths, shapes and kinds of input."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from neuron_cases import LIFS, MAY_HAVE_A_SYNAPSE, PARALIFS, STOCHASTIC, assert_same_gradient, oracle, run

from neurons import SURROGATES, NeuronParameters
from neurons.spike_functions import uniform_steps

ROUNDS_DIFFERENTLY = ("norse-lifbox", "norse-lif")  # v + k (x - v) is beta v + x up to rounding: no exact ties

shapes = st.tuples(st.integers(1, 200), st.integers(1, 3)).flatmap(
    lambda start: st.lists(st.integers(1, 5), max_size=2).map(lambda rest: (*start, *rest))
)
decays = st.one_of(st.floats(0, 0.99), st.sampled_from([0.0, 0.5, 0.99]))


def _current(kind: str, shape: tuple[int, ...], threshold: float, seed: int) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    if kind == "random":
        return torch.randn(shape, dtype=torch.float64, generator=source)
    if kind == "constant":
        return torch.rand(shape[1:], dtype=torch.float64, generator=source).expand(shape).clone()
    if kind == "silent":
        return torch.zeros(shape, dtype=torch.float64)
    if kind == "saturating":
        return torch.full(shape, 100.0, dtype=torch.float64)
    # "ties": sums that meet the threshold.
    return torch.randint(-4, 5, shape, generator=source).double() * (threshold / 4)


@settings(max_examples=300)
@given(
    name=st.sampled_from([*LIFS, *PARALIFS]),
    shape=shapes,
    kind=st.sampled_from(["random", "constant", "silent", "saturating", "ties"]),
    beta=decays,
    alpha=st.one_of(st.none(), decays),
    threshold=st.sampled_from([0.125, 0.5, 1.0, 1.7]),
    reset=st.sampled_from(["zero", "subtract", "none"]),
    detach=st.booleans(),
    surrogate=st.sampled_from(SURROGATES),
    seed=st.integers(0, 1000),
)
def test_spikes_and_gradients(
    name: str,
    shape: tuple[int, ...],
    kind: str,
    beta: float,
    alpha: float | None,
    threshold: float,
    reset: str,
    detach: bool,
    surrogate: str,
    seed: int,
) -> None:
    if name in ROUNDS_DIFFERENTLY and kind in ("ties", "constant"):
        kind = "random"
    if name in PARALIFS or name == "norse-lif":
        reset = "zero"
    if name not in MAY_HAVE_A_SYNAPSE and name not in PARALIFS:
        alpha = None
    read: dict[str, Any] = {"surrogate": surrogate, "slope": 1.5, "threshold": threshold}
    if name in STOCHASTIC:
        read = {}
    elif name in PARALIFS and name.endswith("d"):
        read["delta_threshold"] = read.pop("threshold")
    config = NeuronParameters(beta=beta, alpha=alpha, reset=reset, detach_reset=detach, **read)
    current = _current(kind, shape, threshold, seed).requires_grad_()
    drawn = {}
    if name in STOCHASTIC:
        drawn["uniform"] = uniform_steps(current, torch.Generator().manual_seed(seed))[0]
    expected = oracle(name, config, current, **drawn).spikes
    spikes = run(name, config, current, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(spikes, expected)
    (wanted,) = torch.autograd.grad(expected.sum(), current)
    (gradient,) = torch.autograd.grad(spikes.sum(), current)
    if not wanted.isfinite().all():  # a straight-through derivative can outgrow float64 over many steps
        assert not gradient.isfinite().all()
    elif wanted.abs().max() > 1e-200:
        assert_same_gradient(gradient, wanted)
    else:  # far from every threshold some surrogates are zero
        assert gradient.abs().max() <= 1e-200
