"""What all modes have in common, for every neuron."""

from __future__ import annotations

import pytest
import torch
from mode_cases import DRAWN, SPIKING, currents, make_head, spikes_and_gradient

from neurons import NeuronParameters, make_neuron
from resnet_spiking.attacks.gradients.names import list_modes, make_mode
from resnet_spiking.errors import UserError

# spikingjelly needs Python 3.11; sinabs pins nir <= 1.0.4 and the export needs >= 1.0.6: no one environment holds both.
NO_PEER = "not installed: pip install 'resnet_spiking[peers]'"
REPLACING = [name for name in list_modes() if name != "own"]


@pytest.mark.parametrize("mode", REPLACING)
@pytest.mark.parametrize("name", SPIKING)
def test_spikes_stay_and_the_gradient_changes(name: str, mode: str) -> None:
    # Those that draw their spikes are trained without a surrogate.
    trained = NeuronParameters() if name in DRAWN else NeuronParameters(surrogate="sigmoid", slope=3.0)
    neuron = make_neuron(name, trained)
    current = currents()
    spikes, own = spikes_and_gradient(neuron, current)
    applied = make_mode(mode)
    under, gradient = spikes_and_gradient(neuron, current, applied)
    if applied.exact_forward or not neuron.stochastic:
        assert torch.equal(under, spikes)
    else:
        assert 0 < float(under.min())  # means, not spikes
        assert float(under.max()) < 1
    if mode == "expected" and name in ("paralif-sb", "paralif-trb"):
        assert torch.equal(gradient, own)  # straight through the draw is n'(V) as well; later layers tell them apart
    else:
        assert (gradient - own).norm() > 0.01 * own.norm()
    after, restored = spikes_and_gradient(neuron, current)
    assert torch.equal(after, spikes)
    assert torch.equal(restored, own)


@pytest.mark.parametrize("name", ["spikingjelly-lif", "sinabs-lif"])
@pytest.mark.parametrize("mode", ["atan:4", "assg", "bptr", "rga", "hart", "relu"])
def test_peers(name: str, mode: str) -> None:
    pytest.importorskip(name.removesuffix("-lif"), reason=NO_PEER)
    neuron, current = make_neuron(name), currents()
    spikes, own = spikes_and_gradient(neuron, current)
    under, gradient = spikes_and_gradient(neuron, current, make_mode(mode))
    assert torch.equal(under, spikes)
    assert (gradient - own).norm() > 0.01 * own.norm()


@pytest.mark.parametrize("mode", list_modes())
def test_the_control_without_spikes_is_left_alone(mode: str) -> None:
    relu, current = make_neuron("relu"), currents() - 0.5
    expected = spikes_and_gradient(relu, current)
    actual = spikes_and_gradient(relu, current, make_mode(mode))
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


@pytest.mark.parametrize("mode", [name for name in list_modes() if name != "expected"])
@pytest.mark.parametrize("neuron", ["norse-lif", "paralif-trb"])
@pytest.mark.parametrize("encoding", ["direct", "rate"])
def test_logits_of_a_head_are_bit_identical(neuron: str, encoding: str, mode: str) -> None:
    head = make_head(neuron, encoding)
    pooled = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    expected = head(pooled, torch.Generator().manual_seed(2))
    applied = make_mode(mode)
    with applied.applied(head):
        logits = head(pooled, torch.Generator().manual_seed(2))
    assert torch.equal(logits, expected)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), pooled)
    assert gradient.isfinite().all()
    assert gradient.any()


@pytest.mark.parametrize("mode", REPLACING)
def test_everything_is_restored_after_an_exception(mode: str) -> None:
    head = make_head("paralif-sb", "rate")
    before = [(neuron.override, neuron.rule) for neuron in head.neurons]
    encode = head.rate_encode
    with make_mode(mode).applied(head):
        assert [(neuron.override, neuron.rule) for neuron in head.neurons] != before
    with pytest.raises(RuntimeError, match="stop"), make_mode(mode).applied(head):
        raise RuntimeError("stop")
    assert [(neuron.override, neuron.rule) for neuron in head.neurons] == before
    assert head.rate_encode is encode


def test_modes_nest() -> None:
    neuron, current = make_neuron("lif"), currents()
    _, outer = spikes_and_gradient(neuron, current, make_mode("bptr"))
    with make_mode("bptr").applied(neuron):
        _, inner = spikes_and_gradient(neuron, current, make_mode("rga"))
        assert torch.equal(spikes_and_gradient(neuron, current)[1], outer)
    assert torch.equal(inner, spikes_and_gradient(neuron, current, make_mode("rga"))[1])


@pytest.mark.parametrize("mode", ["assg", "bptr", "rga", "hart", "relu"])
def test_a_neuron_without_a_known_equation_is_refused(mode: str) -> None:
    pytest.importorskip("sinabs", reason=NO_PEER)
    head = torch.nn.Sequential(make_neuron("lif"), make_neuron("sinabs-lif", mode="native"))
    with pytest.raises(UserError, match=r"sinabs-lif.*MultiSpike.*atan:2"), make_mode(mode).applied(head):
        pass
    assert [neuron.rule for neuron in head] == [None, None]
    with make_mode("atan:4").applied(head):  # the surrogate of the same neuron can be replaced
        pass


def test_a_library_layer_that_no_mode_reaches_is_refused() -> None:
    import snntorch
    from norse.torch import LIFBoxCell

    for layer in (snntorch.Leaky(beta=0.9), LIFBoxCell()):
        model = torch.nn.Sequential(layer)
        with pytest.raises(UserError, match=r"make_neuron.*own"), make_mode("atan:2").applied(model):
            pass
        with make_mode("own").applied(model):
            pass
    snntorch.SpikingNeuron.instances.clear()
