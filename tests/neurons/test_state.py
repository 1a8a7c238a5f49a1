"""Calls are independent of each other: chunks, interleaving, precision, and what is kept afterwards."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from neuron_cases import LIFS, STOCHASTIC, oracle

from neurons import NEURONS, NeuronParameters, list_neurons, make_neuron
from neurons.base import Neuron

SPIKING = [name for name in NEURONS if name != "relu"]


def _current(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(*shape, dtype=dtype) * 1.5


def _generator(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=20)
@given(
    name=st.sampled_from(LIFS),
    beta=st.floats(0, 0.99),
    threshold=st.floats(0.1, 2),
    steps=st.integers(1, 20),
    seed=st.integers(0, 1000),
)
def test_random_parameters_match_the_oracle(name: str, beta: float, threshold: float, steps: int, seed: int) -> None:
    config = NeuronParameters(beta=beta, threshold=threshold)
    current = torch.randn(steps, 2, 7, dtype=torch.float64, generator=_generator(seed))
    assert torch.equal(make_neuron(name, config)(current)[0], oracle(name, config, current).spikes)


@pytest.mark.parametrize("mode", ["shared", "native"])
@pytest.mark.parametrize("name", NEURONS)
def test_chunks_equal_the_whole(name: str, mode: str) -> None:
    neuron = make_neuron(name, NeuronParameters(), mode=mode)  # type: ignore[arg-type]
    current = torch.randn(13, 2, 5, dtype=torch.float64) * (6 if name == "norse-lifbox" and mode == "native" else 1)
    whole, end = neuron(current, generator=_generator())
    assert not neuron.spiking or 0 < whole.mean() < 1
    generator, state, parts = _generator(), None, []
    for chunk in current.split([1, 5, 3, 4]):
        spikes, state = neuron(chunk, state, generator=generator)
        parts.append(spikes)
    assert torch.equal(torch.cat(parts), whole)
    assert state is not None
    assert len(state) == len(end)
    for mine, theirs in zip(state, end, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("name", NEURONS)
def test_interleaved_models_do_not_see_each_other(name: str) -> None:
    first, second = make_neuron(name), make_neuron(name, NeuronParameters(beta=0.3))
    a, b = _current(8, 2, 4), _current(8, 2, 4)
    alone = [neuron(x, generator=_generator())[0] for neuron, x in ((first, a), (second, b))]
    assert not torch.equal(*alone)
    generators, states, parts = (_generator(), _generator()), [None, None], ([], [])  # type: ignore[var-annotated]
    for now in range(8):
        for which, (neuron, x) in enumerate(((first, a), (second, b))):
            spikes, states[which] = neuron(x[now : now + 1], states[which], generator=generators[which])
            parts[which].append(spikes)
    for which in (0, 1):
        assert torch.equal(torch.cat(parts[which]), alone[which])


@pytest.mark.parametrize("name", NEURONS)
def test_a_call_starts_at_rest_and_keeps_no_graph(name: str) -> None:
    neuron = make_neuron(name, NeuronParameters())
    current = _current(6, 3, 4).requires_grad_()
    before, first = neuron(current, generator=_generator())
    again, state = neuron(current, generator=_generator())
    assert torch.equal(before, again)
    assert neuron(_current(6, 2, 4))[0].shape == (6, 2, 4)  # another batch size is no surprise
    tracked = weakref.ref(current)
    del current, before, again, first, state
    gc.collect()
    assert tracked() is None


def test_snntorch_list_of_instances_does_not_grow() -> None:
    from snntorch import SpikingNeuron

    before = len(SpikingNeuron.instances)
    for name in ("snntorch-lif", "snntorch-synaptic"):
        for mode in ("shared", "native"):
            neuron = make_neuron(name, mode=mode)
            neuron(_current(3, 2, 4))
            copy.deepcopy(neuron)(_current(3, 2, 4))
    assert len(SpikingNeuron.instances) == before


@pytest.mark.parametrize("name", NEURONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_precision(name: str, dtype: torch.dtype) -> None:
    spikes, state = make_neuron(name)(_current(4, 2, 3, dtype=dtype))
    assert spikes.dtype == dtype
    assert all(part.dtype == (torch.float64 if dtype == torch.float64 else torch.float32) for part in state)


def test_no_precision_is_lost_in_the_membrane() -> None:
    """In bfloat16, 100 + 0.25 is 100: a membrane kept in it would never get to the threshold."""
    current = torch.full((400, 1, 1), 0.25, dtype=torch.bfloat16)
    for name in ("lif", "snntorch-lif"):
        spikes, _ = make_neuron(name, NeuronParameters(beta=1.0, threshold=99.9))(current)
        assert spikes.sum() == 1


@pytest.mark.parametrize("name", NEURONS)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda neuron: pickle.loads(pickle.dumps(neuron))])
def test_copies_compute_the_same(name: str, copied: object) -> None:
    neuron = make_neuron(name, NeuronParameters(learn_beta=name != "relu"))
    twin = copied(neuron)  # type: ignore[operator]
    assert isinstance(twin, Neuron)
    current = _current(9, 2, 4, dtype=torch.float32)
    expected = neuron(current, generator=_generator())[0]
    assert torch.equal(twin(current, generator=_generator())[0], expected)
    if name != "relu":
        with torch.no_grad():
            twin.get_parameter("beta").fill_(0.0)
        assert torch.equal(neuron(current, generator=_generator())[0], expected)
        assert not torch.equal(twin(current, generator=_generator())[0], expected)


@pytest.mark.parametrize("name", SPIKING)
def test_state_dict_holds_learned_values_and_refuses_another_neuron(name: str) -> None:
    config = NeuronParameters(learn_beta=True)
    source, target = make_neuron(name, config), make_neuron(name, config)
    with torch.no_grad():
        source.get_parameter("beta").fill_(0.25)
    target.load_state_dict(source.state_dict())
    assert target.get_parameter("beta").item() == 0.25
    other = make_neuron(name, NeuronParameters(learn_beta=True, beta=0.5))
    with pytest.raises(ValueError, match=r"beta: 0\.9 there, 0\.5 here"):
        other.load_state_dict(source.state_dict())
    assert other.get_parameter("beta").item() == 0.5
    average = {key: (value + value.float()) / 2 for key, value in source.state_dict().items()}
    target.load_state_dict(average)
    with pytest.raises(ValueError, match=rf"_extra_state of {name} is not the identity"):
        target.load_state_dict({key: value * 3 for key, value in average.items()})


@pytest.mark.parametrize("name", SPIKING)
@pytest.mark.parametrize(("outside", "edge"), [(-0.5, 0.0), (1.5, 1.0)])
def test_learned_beta_is_clamped(name: str, outside: float, edge: float) -> None:
    neuron = make_neuron(name, NeuronParameters(learn_beta=True))
    current = torch.randn(20, 4, 8, dtype=torch.float64)
    with torch.no_grad():
        neuron.get_parameter("beta").fill_(outside)
    beyond = neuron(current, generator=_generator())[0]
    with torch.no_grad():
        neuron.get_parameter("beta").fill_(edge)
    assert torch.equal(beyond, neuron(current, generator=_generator())[0])
    with torch.no_grad():
        neuron.get_parameter("beta").fill_(0.5)
    assert not torch.equal(beyond, neuron(current, generator=_generator())[0])


@pytest.mark.parametrize("name", STOCHASTIC)
def test_draws_come_from_the_generator(name: str) -> None:
    neuron = make_neuron(name)
    current = _current(10, 2, 8)
    assert neuron.stochastic
    same, other = neuron(current, generator=_generator(1))[0], neuron(current, generator=_generator(2))[0]
    assert torch.equal(same, neuron(current, generator=_generator(1))[0])
    assert not torch.equal(same, other)
    before = torch.get_rng_state()
    neuron(current, generator=_generator(1))
    assert torch.equal(before, torch.get_rng_state())


def test_bernoulli_rate_is_the_sigmoid_of_the_membrane() -> None:
    V = torch.tensor([-2.0, 0.0, 1.5], dtype=torch.float64)
    spikes, _ = make_neuron("paralif-sb")(V.expand(1, 20000, 3), generator=_generator())
    torch.testing.assert_close(spikes.mean((0, 1)), torch.sigmoid(V), atol=0.015, rtol=0)  # 4 standard deviations


def test_a_matrix_of_time_and_batch_is_enough() -> None:
    current = _current(7, 3)
    for name in NEURONS:
        flat = make_neuron(name)(current, generator=_generator())[0]
        assert torch.equal(flat, make_neuron(name)(current.unsqueeze(-1), generator=_generator())[0].squeeze(-1))


@pytest.mark.parametrize("name", NEURONS)
@pytest.mark.parametrize(
    ("current", "error", "says"),
    [
        ([1.0], TypeError, "Tensor"),
        (torch.zeros(5), ValueError, "shape"),
        (torch.zeros(0, 2, 3), ValueError, "T=0"),
        (torch.zeros(4, 2, 3, dtype=torch.int64), TypeError, "int64"),
    ],
    ids=["list", "rank 1", "no steps", "integers"],
)
def test_bad_current_is_refused(name: str, current: torch.Tensor, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make_neuron(name)(current)


@pytest.mark.parametrize("name", SPIKING)
def test_bad_state_is_refused(name: str) -> None:
    neuron = make_neuron(name)
    _, state = neuron(_current(3, 2, 4))
    with pytest.raises(ValueError, match=r"\(5, 4\)"):
        neuron(_current(3, 5, 4), state)
    with pytest.raises(TypeError, match="float64"):
        neuron(_current(3, 2, 4, dtype=torch.float32), state)
    with pytest.raises(ValueError, match="tuple of"):
        neuron(_current(3, 2, 4), state[:-1])
    with pytest.raises(TypeError, match="state must be"):
        neuron(_current(3, 2, 4), list(state))


def test_every_name_is_listed() -> None:
    assert {"lif", "snntorch-lif", "snntorch-synaptic", "norse-lifbox", "norse-lif"} < set(NEURONS)
    assert {"paralif-t", "paralif-sb", "relu"} < set(NEURONS)
    assert set(NEURONS) <= set(list_neurons())


@pytest.mark.parametrize("name", ["lif", "paralif-t", "norse-lifbox", "snntorch-lif"])
def test_a_lazily_negated_current_has_its_sign(name: str) -> None:
    """Kernels read memory; torch keeps the sign of the imaginary part of a conjugate beside it."""
    current = torch.complex(torch.rand(1, 1, 1), torch.full((1, 1, 1), -1.5)).conj().imag
    assert current.is_neg()
    neuron = make_neuron(name)
    spikes, state = neuron(current)
    wanted, end = neuron(current.clone())
    assert torch.equal(spikes, wanted)
    assert all(map(torch.equal, state, end))
    assert spikes.item() == 1
    negated = tuple(torch.complex(torch.zeros_like(part), -part).conj().imag for part in state)
    assert torch.equal(neuron(current.clone(), negated)[0], neuron(current.clone(), state)[0])
