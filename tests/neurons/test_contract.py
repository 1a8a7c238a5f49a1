"""`neurons.contract`: every LIF passes it, and what is wrong in a neuron is found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from neurons import Neuron, NeuronParameters, make_neuron, register, unregister
from neurons.contract import check_adapter
from neurons.names import PEERS
from neurons.unroll import State

REFUSES = {
    "lif": [],
    "snntorch-lif": ["alpha=0.7"],
    "snntorch-synaptic": [],
    "norse-lifbox": ["alpha=0.7"],
    "norse-lif": ["reset=subtract", "reset=none"],
    "spikingjelly-lif": ["alpha=0.7", "reset=none"],
    "sinabs-lif": ["reset=zero, detach_reset=False"],
}


@pytest.mark.parametrize("name", REFUSES)
def test_adapters(name: str) -> None:
    """What is refused is exactly what the library cannot express; anything else equals the oracle."""
    if name in PEERS:
        pytest.importorskip(name.removesuffix("-lif"), reason="not installed: pip install 'resnet_spiking[peers]'")
    refused = check_adapter(name)
    for terms in refused:
        assert any(part in terms for part in REFUSES[name]), terms
    for part in REFUSES[name]:
        assert any(part in terms for terms in refused), part


class _Written(Neuron):
    """A third party's LIF; what is wrong with it is in the name."""

    def equation(self) -> str:
        return "u[t] = beta*v[t-1] + x[t]; s[t] = [u[t] > threshold]; v[t] = u[t]*(1 - s[t])"

    def __init__(self, name: str, config: NeuronParameters, **options: Any) -> None:
        super().__init__(name, config, **options)
        if config.alpha is not None or config.reset != "zero":
            raise self._refuse("reset", config.reset, "an example")
        self._refuse_recurrent()
        if self.name != "wrong-learning":
            self._learn_configured()
        self.kept = 0.0

    def _simulate(self, current: Tensor, state: State, generator: torch.Generator | None) -> tuple[Tensor, State]:
        from neurons.surrogate import spike

        learns = self.name != "wrong-learning"
        beta = self._value("beta", self.config.beta, current, 0, 1) if learns else self.config.beta
        threshold = self.config.threshold
        if learns:
            threshold = self._value("threshold", threshold, current, 1e-6, float("inf"))
        (v,), spikes = state, []
        for x in current:
            u = beta * v + x + self.kept
            s = spike(u - threshold, self.surrogate())
            in_reset = s.detach() if self.config.detach_reset or self.name == "wrong-gradient" else s
            v = u * (1 - in_reset) if self.name != "wrong-spikes" else u - in_reset
            spikes.append(s)
        if self.name == "wrong-state":
            return torch.stack(spikes), (torch.zeros_like(v),)
        if self.name == "wrong-memory":
            self.kept = 0.3
        return torch.stack(spikes), (v,)


@pytest.fixture
def written(request: pytest.FixtureRequest) -> Iterator[str]:
    register(request.param, _Written)
    yield request.param
    unregister(request.param)


@pytest.mark.parametrize("written", ["right"], indirect=True)
def test_a_right_neuron_passes(written: str) -> None:
    assert all("reset" in reason for reason in check_adapter(written).values())


@pytest.mark.parametrize(
    ("written", "finding"),
    [
        ("wrong-spikes", "spikes differ"),
        ("wrong-gradient", "detach_reset=False.*gradient is off"),
        ("wrong-state", "chunks differ"),
        ("wrong-memory", "a second call differs|spikes differ"),
        ("wrong-learning", "learn_beta=True is neither refused nor gives a parameter with a gradient"),
    ],
    indirect=["written"],
)
def test_a_wrong_neuron_is_found(written: str, finding: str) -> None:
    with pytest.raises(AssertionError, match=finding):
        check_adapter(written)


@pytest.mark.parametrize("name", PEERS)
def test_missing_peer_is_named_with_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, name.removesuffix("-lif"), None)
    with pytest.raises(ImportError, match=r"pip install 'resnet_spiking\[peers\]'"):
        make_neuron(name)
