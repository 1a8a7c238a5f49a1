from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neurons import NeuronParameters
from resnet_spiking.network.evidence import gather_evidence, rate_warnings
from resnet_spiking.network.head import HeadConfig, LinearHead, SpikingHead

SPIKING = ("snntorch-lif", "snntorch-synaptic", "norse-lifbox", "norse-lif", "lif", "paralif-t", "paralif-sb")


def make(neuron: str = "snntorch-lif", **settings: Any) -> SpikingHead:
    torch.manual_seed(0)
    return SpikingHead(12, 4, HeadConfig(**{"neuron": neuron, "hidden": (16,), "num_steps": 6, **settings}))


def inputs(batch: int = 32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, 12, generator=generator) * 2, torch.randint(0, 4, (batch,), generator=generator)


def draw() -> torch.Generator:
    return torch.Generator().manual_seed(2)


@pytest.mark.parametrize("mode", ["shared", "native"])
@pytest.mark.parametrize("neuron", SPIKING)
def test_every_neuron_spikes_and_every_parameter_learns(neuron: str, mode: str) -> None:
    pooled, labels = inputs()
    if mode == "native":
        pooled = pooled * 10  # norse weighs its input by 1 - beta: without this its layer would be silent
    evidence = gather_evidence(make(neuron, mode=mode), pooled, labels, draw())
    assert evidence.spikes, evidence


@pytest.mark.parametrize("readout", ["mean", "sum", "last", "membrane"])
@pytest.mark.parametrize("encoding", ["direct", "rate"])
def test_logits_are_a_function_of_the_spikes_alone(encoding: str, readout: str) -> None:
    head = make(encoding=encoding, readout=readout)
    pooled, labels = inputs()
    assert gather_evidence(head, pooled, labels, draw()).logits_when_cut == 0
    with torch.no_grad():
        logits, (spikes,) = head.trace(pooled, draw())
        weights, bias = head.output.weight, head.output.bias
        outputs = torch.stack([step @ weights.T + bias for step in spikes])
        potential, integrated = torch.zeros_like(outputs[0]), torch.zeros_like(outputs[0])
        for output in outputs:
            potential = 0.9 * potential + 0.1 * output
            integrated += potential / len(outputs)
    expected = {"mean": outputs.mean(0), "sum": outputs.sum(0), "last": outputs[-1], "membrane": integrated}[readout]
    assert torch.allclose(logits, expected, atol=1e-5)


def test_evidence_asks_trainable_parameters_for_a_gradient_only() -> None:
    head, (pooled, labels) = make(), inputs()
    head.neurons[0].register_parameter("level", nn.Parameter(torch.ones(()), requires_grad=False))
    head.linears[0].requires_grad_(False)
    assert gather_evidence(head, pooled, labels, draw()).spikes


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"readout": "median"}, "readout must be mean"), ({"readout": "membrane", "beta": 1.0}, "takes nothing in")],
)
def test_a_readout_that_gives_nothing_is_refused(settings: dict[str, Any], says: str) -> None:
    beta = settings.pop("beta", 0.9)
    with pytest.raises(ValueError, match=says):
        make(parameters=NeuronParameters(beta=beta), **settings)


def test_a_head_that_returns_its_features_is_caught() -> None:
    """The published LIF decoder's fault: spikes are computed, features are returned."""

    class Cheat(SpikingHead):
        def trace(self, pooled: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, list[Tensor]]:
            _, layers = super().trace(pooled, generator)
            return self.output(torch.relu(self.linears[0](pooled))), layers

    torch.manual_seed(0)
    cheat = Cheat(12, 4, HeadConfig(hidden=(16,), num_steps=6))
    assert not gather_evidence(cheat, *inputs()).spikes


def test_graded_spikes_are_caught() -> None:
    head = make()

    class Graded(nn.Module):
        spiking, stochastic = True, False

        def forward(self, current: Tensor, state: None = None, *, generator: object = None) -> tuple[Tensor, None]:
            return current.relu(), None

    head.neurons[0] = Graded()
    evidence = gather_evidence(head, *inputs())
    assert not evidence.binary
    assert not evidence.spikes


def test_a_parameter_without_gradient_is_named() -> None:
    head = make()
    with torch.no_grad():
        head.output.weight.zero_()
    assert "linears.0.weight" in gather_evidence(head, *inputs()).untrained


def test_direct_encoding_equals_repeating_the_input() -> None:
    head = make()
    pooled, _ = inputs(5)
    current = head.linears[0](pooled.repeat(6, 1, 1))
    assert torch.equal(head.trace(pooled)[1][0], head.neurons[0](current)[0])


def test_stochastic_heads_say_so_and_follow_their_generator() -> None:
    pooled, _ = inputs()
    for head in (make("paralif-sb"), make(encoding="rate")):
        assert head.stochastic
        assert torch.equal(head(pooled, draw()), head(pooled, draw()))
        assert not torch.equal(head(pooled, draw()), head(pooled, torch.Generator().manual_seed(3)))
    assert not make().stochastic
    assert not make("relu").spiking
    assert not LinearHead(3, 2).spiking


def test_several_layers_and_learnable_decays() -> None:
    torch.manual_seed(0)
    parameters = NeuronParameters(learn_beta=True)
    head = SpikingHead(12, 4, HeadConfig(hidden=(16, 8), num_steps=6, parameters=parameters))
    logits, layers = head.trace(inputs()[0])
    assert [layer.shape for layer in layers] == [(6, 32, 16), (6, 32, 8)]
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_silent_and_saturated_layers_are_warned_about() -> None:
    names = make(hidden=(3, 3, 3)).layer_names
    assert rate_warnings([0.3, 0.001, 0.95], names) == []
    silent, saturated = rate_warnings([0.0005, 0.2, 0.96], names)
    assert "layer 1" in silent
    assert "silent" in silent
    assert "layer 3" in saturated
    assert "saturated" in saturated


@pytest.mark.parametrize("settings", [{"encoding": "latency"}, {"num_steps": 0}, {"hidden": ()}])
def test_impossible_heads_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        SpikingHead(4, 2, HeadConfig(**settings))


@pytest.mark.parametrize("hidden", [(0,), (16, 0), (-1,)])
def test_layers_without_neurons_are_refused(hidden: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="hidden"):
        SpikingHead(4, 2, HeadConfig(hidden=hidden))
