"""Export to NIR, written to a file and read back by norse's and snnTorch's own importers: equal spikes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neurons import NEURONS, NeuronParameters, make_neuron

nir = pytest.importorskip("nir", minversion="1.0.6")
from neurons.nir import EXPRESSIBLE, STEP, to_nir  # noqa: E402 - after the extra is known to be there

CASES = [
    (name, alpha)
    for name in EXPRESSIBLE
    if name in NEURONS
    for alpha in ((None,) if name in ("snntorch-lif", "norse-lifbox") else (0.6,) if name != "lif" else (None, 0.6))
]


@pytest.fixture(autouse=True)
def _snntorch_keeps_nothing_of_ours() -> Iterator[None]:
    from snntorch import SpikingNeuron

    before = list(SpikingNeuron.instances)
    yield
    SpikingNeuron.instances[:] = before


def _layers(name: str, alpha: float | None, **parameters: Any) -> list[nn.Module]:
    config = NeuronParameters(beta=0.85, alpha=alpha, threshold=0.7, **parameters)
    return [nn.Linear(6, 9), make_neuron(name, config), nn.Linear(9, 3)]


def _spikes(layers: list[nn.Module], features: Tensor) -> Tensor:
    with torch.no_grad():
        spikes: Tensor = layers[1](layers[0](features))[0]
    return spikes


def _by_norse(graph: Any, features: Tensor) -> tuple[Tensor, Tensor]:
    """Step by step through norse's module: the spikes, and what comes out."""
    import norse.torch

    model = norse.torch.from_nir(graph, dt=STEP)
    seen: list[Tensor] = []
    for module in model.modules():
        if type(module).__name__ in ("LIFBoxCell", "CubaLIF"):
            if type(module).__name__ == "LIFBoxCell" and any(type(m).__name__ == "CubaLIF" for m in model.modules()):
                continue
            module.register_forward_hook(lambda module, inputs, output: seen.append(output[0]))
    state, outputs = None, []
    with torch.no_grad():
        for now in features:
            out, state = model(now, state)
            outputs.append(out)
    return torch.stack(seen), torch.stack(outputs)


def _by_snntorch(graph: Any, features: Tensor) -> tuple[Tensor, Tensor]:
    """The importer gives modules that keep their state themselves, from rest when they are new."""
    from snntorch import SpikingNeuron
    from snntorch.import_nir import import_from_nir

    model = import_from_nir(graph)
    seen: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, SpikingNeuron):
            module.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        outputs = [model(now)[0] for now in features]
    return torch.stack(seen), torch.stack(outputs)


@pytest.mark.parametrize("reader", [_by_norse, _by_snntorch])
@pytest.mark.parametrize(("name", "alpha"), CASES)
def test_read_back_with_equal_spikes(name: str, alpha: float | None, reader: Any, tmp_path: Path) -> None:
    layers = _layers(name, alpha)
    features = torch.rand(30, 4, 6) * 3
    expected = _spikes(layers, features)
    assert 0.05 < expected.mean() < 0.9
    nir.write(tmp_path / "head.nir", to_nir(layers))
    spikes, outputs = reader(nir.read(tmp_path / "head.nir"), features)
    assert torch.equal(spikes, expected)
    torch.testing.assert_close(outputs, layers[2](expected).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reader", [_by_norse, _by_snntorch])
@pytest.mark.parametrize("alpha", [None, 0.6])
def test_a_threshold_of_each_neuron_is_read_back(alpha: float | None, reader: Any) -> None:
    """snnTorch takes one for all of a layer."""
    layers = _layers("lif", alpha, learn_threshold=True)
    layers[1] = make_neuron("lif", NeuronParameters(alpha=alpha, learn_threshold=True), features=9)
    with torch.no_grad():
        layers[1].threshold.add_(torch.rand(9))
    features = torch.rand(20, 4, 6) * 3
    expected = _spikes(layers, features)
    assert 0.02 < expected.mean() < 0.9
    assert torch.equal(reader(to_nir(layers), features)[0], expected)


def test_learned_values_are_exported() -> None:
    layers = _layers("lif", 0.6, learn_beta=True, learn_alpha=True, learn_threshold=True)
    with torch.no_grad():
        layers[1].beta.fill_(0.5)
        layers[1].alpha.fill_(0.75)
        layers[1].threshold.fill_(2.0)
    node = next(node for node in to_nir(layers).nodes.values() if isinstance(node, nir.CubaLIF))
    assert node.tau_mem.tolist() == pytest.approx([STEP / 0.5] * 9)
    assert node.tau_syn.tolist() == pytest.approx([STEP / 0.25] * 9)
    assert node.v_threshold.tolist() == [2.0] * 9


@pytest.mark.parametrize(
    ("neuron", "reason"),
    [
        (lambda: make_neuron("paralif-t"), "resetting LIF"),
        (lambda: make_neuron("relu"), "resetting LIF"),
        (lambda: make_neuron("snntorch-lif", mode="native"), "only the shared equation"),
        (lambda: make_neuron("lif", NeuronParameters(reset="subtract")), "resets to a value"),
        (lambda: make_neuron("lif", NeuronParameters(beta=1.0)), "no time constant"),
        (lambda: make_neuron("lif", NeuronParameters(alpha=1.0)), "no time constant"),
    ],
)
def test_what_nir_cannot_express_is_refused(neuron: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        to_nir([nn.Linear(2, 3), neuron()])


def test_layers_that_make_no_graph() -> None:
    with pytest.raises(ValueError, match="at least one layer"):
        to_nir([])
    with pytest.raises(ValueError, match=r"after an nn\.Linear"):
        to_nir([make_neuron("lif")])
    with pytest.raises(TypeError, match="got Conv2d"):
        to_nir([nn.Conv2d(1, 1, 1)])
    with pytest.raises(ValueError, match=r"has the features \(4,\), not 3"):
        to_nir([nn.Linear(2, 3), make_neuron("lif", NeuronParameters(learn_beta=True), features=4)])
    broken = nn.Linear(2, 3)
    nn.init.constant_(broken.bias, float("nan"))
    with pytest.raises(ValueError, match="finite values"):
        to_nir([broken])


def test_bfloat16_weights_are_exported_in_float32() -> None:
    layer = nn.Linear(2, 3).bfloat16()
    node = next(node for node in to_nir([layer]).nodes.values() if isinstance(node, nir.Affine))
    assert torch.equal(torch.from_numpy(node.weight), layer.weight.detach().float())
