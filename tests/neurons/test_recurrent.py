"""ParaLIF's recurrent connection against its equations written out, and in chunks."""

from __future__ import annotations

import pytest
import torch

from neurons import NaNError, NeuronParameters, make_neuron
from neurons.names import PARALIF_MODES
from neurons.spike_functions import uniform_steps


@pytest.mark.parametrize("mode", ["shared", "native"])
@pytest.mark.parametrize("alpha", [None, 0.6])
def test_matches_the_equations(mode: str, alpha: float | None) -> None:
    """h[t] = [V[t-1] > threshold], V the filter of x; then V + filter(x + W h + bias) spikes (equations 22 to 24)."""
    neuron = make_neuron(
        "paralif-t",
        NeuronParameters(beta=0.7, alpha=alpha, threshold=0.6, recurrent=True),
        mode=mode,  # type: ignore[arg-type]
        features=4,
    ).double()
    weight, bias = neuron.get_parameter("feedback.weight"), neuron.get_parameter("feedback.bias")
    torch.nn.init.normal_(bias)
    current = torch.rand(15, 3, 4, dtype=torch.float64, requires_grad=True)
    values = neuron.effective_parameters()
    gain = 1 - values["beta"] if mode == "native" else 1.0
    decay = values["alpha"] or 0.0
    V = i = total = j = torch.zeros(3, 4, dtype=torch.float64)
    expected = []
    for x in current:
        h = (V > values["threshold"]).double()
        i = decay * i + x
        V = values["beta"] * V + gain * i
        j = decay * j + x + h @ weight.T + bias
        total = values["beta"] * total + gain * j
        expected.append((V + total > values["threshold"]).double())
    spikes, _ = neuron(current)
    assert 0.1 < spikes.mean() < 0.95
    assert torch.equal(spikes, torch.stack(expected))
    spikes.sum().backward()
    for leaf in (current, weight, bias):
        assert leaf.grad is not None
        assert leaf.grad.abs().sum() > 0


@pytest.mark.parametrize("spike_mode", PARALIF_MODES)
def test_chunks_equal_the_whole(spike_mode: str) -> None:
    neuron = make_neuron(f"paralif-{spike_mode}", NeuronParameters(alpha=0.5, recurrent=True), features=6).double()
    current = torch.randn(11, 2, 6, dtype=torch.float64)
    seed = torch.Generator().manual_seed(3)
    whole, last = neuron(current, generator=seed)
    seed.manual_seed(3)
    state, parts = None, []
    for chunk in current.split([1, 4, 6]):
        spikes, state = neuron(chunk, state, generator=seed)
        parts.append(spikes)
    assert torch.equal(torch.cat(parts), whole)
    assert state is not None
    for a, b in zip(state, last, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_precision(kind: torch.dtype) -> None:
    """Arithmetic in float32, or float64 for a float64 current, whatever the matrix is kept in and autocast asks for."""
    neuron = make_neuron("paralif-t", NeuronParameters(recurrent=True), features=6)
    current = torch.rand(12, 3, 6) * 1.5
    expected, _ = neuron(current)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(neuron(current)[0], expected)
    spikes, state = neuron(current.to(kind))
    assert spikes.dtype == kind
    assert {part.dtype for part in state} == {torch.float64 if kind == torch.float64 else torch.float32}
    assert neuron.bfloat16()(current)[0].dtype == torch.float32


def test_nan_in_the_matrix_and_in_the_hidden_state() -> None:
    neuron = make_neuron("paralif-t", NeuronParameters(recurrent=True), features=6)
    current = torch.rand(4, 3, 6)
    _, (own, hidden) = neuron(current)
    with pytest.raises(NaNError, match=r"state must not hold NaN"):
        neuron(current, (own, hidden.detach() * float("nan")))
    torch.nn.init.constant_(neuron.feedback.weight, float("nan"))
    with pytest.raises(NaNError, match="a learned value of paralif-t"):
        neuron(current)


def test_hidden_spikes_and_spikes_are_drawn_apart() -> None:
    """h[t] ~ Bernoulli(sigmoid(V[t-1])) and s[t] ~ Bernoulli(sigmoid(V + filter(x + W h))), of two sets of uniforms."""
    neuron = make_neuron("paralif-sb", NeuronParameters(beta=0.7, recurrent=True), features=4).double()
    weight, bias = neuron.get_parameter("feedback.weight"), neuron.get_parameter("feedback.bias")
    current = torch.randn(15, 3, 4, dtype=torch.float64)
    hidden, own = uniform_steps(current, torch.Generator().manual_seed(3), 2)
    V = total = torch.zeros(3, 4, dtype=torch.float64)
    expected = []
    for x, first, second in zip(current, hidden, own, strict=True):
        h = (torch.sigmoid(V) > first).double()
        V = 0.7 * V + x
        total = 0.7 * total + x + h @ weight.T + bias
        expected.append((torch.sigmoid(V + total) > second).double())
    assert torch.equal(neuron(current, generator=torch.Generator().manual_seed(3))[0], torch.stack(expected))
