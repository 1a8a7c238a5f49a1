"""Native mode against the libraries called directly, values and gradients."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from neurons import NEURONS, NeuronParameters, make_neuron, native_parameters

Call = Callable[[Tensor], tuple[Tensor, list[Tensor]]]


def _leaky(current: Tensor, **options: object) -> tuple[Tensor, list[Tensor]]:
    from snntorch import Leaky

    cell, spikes = Leaky(beta=0.9, **options), []
    membrane = cell.reset_mem()
    for x in current:
        s, membrane = cell(x, membrane)
        spikes.append(s)
    return torch.stack(spikes), [membrane]


def _synaptic(current: Tensor) -> tuple[Tensor, list[Tensor]]:
    from snntorch import Synaptic

    cell, spikes = Synaptic(alpha=0.8, beta=0.9), []
    synapse, membrane = cell.reset_mem()
    for x in current:
        s, synapse, membrane = cell(x, synapse, membrane)
        spikes.append(s)
    return torch.stack(spikes), [membrane, synapse]


def _lif_box(current: Tensor) -> tuple[Tensor, list[Tensor]]:
    from norse.torch import LIFBoxCell

    cell, spikes, state = LIFBoxCell(), [], None
    for x in current:
        s, state = cell(x, state)
        spikes.append(s)
    assert state is not None
    return torch.stack(spikes), [state.v]


def _lif_cell(current: Tensor) -> tuple[Tensor, list[Tensor]]:
    from norse.torch import LIFCell

    cell, spikes, state = LIFCell(), [], None
    for x in current:
        s, state = cell(x, state)
        spikes.append(s)
    assert state is not None
    return torch.stack(spikes), [state.v, state.i]


CALLS: dict[str, Call] = {
    "snntorch-lif": _leaky,
    "snntorch-synaptic": _synaptic,
    "norse-lifbox": _lif_box,
    "norse-lif": _lif_cell,
}


@pytest.fixture(autouse=True)
def _snntorch_keeps_nothing_of_ours() -> object:
    """The direct calls below fill snnTorch's list; put it back as it was."""
    from snntorch import SpikingNeuron

    before = list(SpikingNeuron.instances)
    yield
    SpikingNeuron.instances[:] = before


def _assert_equal(name: str, config: NeuronParameters, call: Call) -> None:
    current = (torch.randn(25, 3, 6) * (6 if name == "norse-lifbox" else 1)).requires_grad_()
    weights = torch.randn(25, 3, 6)
    expected, states = call(current)
    assert 0.02 < expected.mean() < 0.98
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), current)
    spikes, state = make_neuron(name, config, mode="native")(current)
    (gradient,) = torch.autograd.grad((spikes * weights).sum(), current)
    assert torch.equal(spikes, expected)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-5 * float(expected_gradient.abs().max()))
    for mine, theirs in zip(state, states, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CALLS)
def test_native_is_the_library_called_directly(name: str) -> None:
    _assert_equal(name, NeuronParameters(), CALLS[name])


def test_what_is_asked_for_reaches_the_library() -> None:
    _assert_equal("snntorch-lif", NeuronParameters(threshold=0.7), lambda x: _leaky(x, threshold=0.7))


@pytest.mark.parametrize("name", CALLS)
def test_native_differs_from_shared(name: str) -> None:
    """Without this, a mode that is ignored would pass for a mode that agrees."""
    current = torch.randn(25, 3, 6) * 2
    native, shared = (make_neuron(name, mode=mode)(current)[0] for mode in ("native", "shared"))
    assert not torch.equal(native, shared)


@pytest.mark.parametrize("mode", ["shared", "native"])
@pytest.mark.parametrize("name", NEURONS)
def test_describe_is_json(name: str, mode: str) -> None:
    described = make_neuron(name, mode=mode).describe()  # type: ignore[arg-type]
    assert json.loads(json.dumps(described)) == described
    assert (described["name"], described["mode"]) == (name, mode)
    assert described["equation"]
    assert described["library"]
    assert described["version"]


def test_native_parameters_are_the_librarys() -> None:
    assert native_parameters("snntorch-lif")["reset"] == "subtract"
    norse = native_parameters("norse-lif")
    assert norse["detach_reset"] is False  # its feed-forward reset carries a gradient
    assert (norse["beta"], norse["alpha"], norse["surrogate"], norse["slope"]) == (0.9, 0.8, "fast_sigmoid", 1.0)


IMPORTS = """
import sys
def loaded():
    return [name for name in ("torch", "snntorch", "norse", "torchvision") if name in sys.modules]
import neurons.names
assert neurons.NEURONS == neurons.names.NEURONS and not loaded(), loaded()
for name in ("lif", "paralif-sb", "relu"):
    neurons.make_neuron(name)
assert loaded() == ["torch"], loaded()
neurons.make_neuron("norse-lif")
assert "norse" in loaded() and "snntorch" not in loaded(), loaded()
"""


def test_imports_only_what_is_used() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", IMPORTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "nearest"), [("snntorch_lif", "snntorch-lif"), ("LIF", "lif"), ("norselif", "norse-lif")]
)
def test_unknown_name_lists_all_and_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"Did you mean '{nearest}'") as error:
        make_neuron(name)
    assert all(known in str(error.value) for known in NEURONS)


@pytest.mark.parametrize(
    ("field", "value"),
    [("beta", 1.5), ("beta", float("nan")), ("alpha", -0.1), ("threshold", 0.0), ("slope", 0.0), ("reset", "hard")],
)
def test_parameters_out_of_range_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field) as error:
        NeuronParameters(**{field: value})  # type: ignore[arg-type]
    assert str(value) in str(error.value)


@pytest.mark.parametrize(
    ("name", "family", "slope"), [("paralif-t", "fast_sigmoid", 100.0), ("paralif-d", "fast_sigmoid", 100.0)]
)
def test_what_is_given_of_a_surrogate_leaves_the_rest_the_librarys(name: str, family: str, slope: float) -> None:
    for given, expected in [
        ({}, (family, slope)),
        ({"slope": 25.0}, (family, 25.0)),
        ({"surrogate": family}, (family, slope)),
        ({"surrogate": "triangle"}, ("triangle", 2.0)),
        ({"surrogate": "triangle", "slope": 25.0}, ("triangle", 25.0)),
    ]:
        neuron = make_neuron(name, NeuronParameters(**given), mode="native")  # type: ignore[arg-type]
        assert tuple(neuron.surrogate()) == expected
        assert (neuron.effective_parameters()["surrogate"], neuron.effective_parameters()["slope"]) == expected


@pytest.mark.parametrize("name", ["norse-lif", "norse-lifbox"])
def test_norse_has_no_slope_to_give(name: str) -> None:
    with pytest.raises(ValueError, match=r"slope=25\.0 cannot be expressed .* no such slope"):
        make_neuron(name, NeuronParameters(slope=25.0), mode="native")
    named = make_neuron(name, NeuronParameters(surrogate="fast_sigmoid"), mode="native")
    assert tuple(named.surrogate()) == tuple(make_neuron(name, mode="native").surrogate()) == ("fast_sigmoid", 1.0)


def test_a_decay_that_float32_takes_for_one_still_divides() -> None:
    current = torch.rand(5, 2, 3)
    spikes, state = make_neuron("norse-lifbox", NeuronParameters(beta=1 - 1e-9, reset="none"))(current)
    assert state[0].isfinite().all()
    torch.testing.assert_close(state[0], current.sum(0), rtol=1e-5, atol=1e-5)
    assert spikes.any()


@pytest.mark.parametrize("name", ["snntorch-lif", "snntorch-synaptic"])
def test_a_gradient_through_the_delayed_reset_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="always detached"):
        make_neuron(name, NeuronParameters(detach_reset=False), mode="native")
