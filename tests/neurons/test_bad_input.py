"""Bad input ends in the right exception, which names the argument, the value and what is accepted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from neurons import NEURONS, NaNError, NeuronParameters, make_neuron, register

SPIKING = [name for name in NEURONS if name != "relu"]


@pytest.mark.parametrize("name", NEURONS)
@pytest.mark.parametrize("dtype", [torch.complex64, torch.bool, torch.int32, torch.uint8])
def test_dtypes_without_a_membrane(name: str, dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=rf"current must be float32, float64, bfloat16 or float16, got {dtype}"):
        make_neuron(name)(torch.ones(3, 2, 4).to(dtype))


@pytest.mark.parametrize("name", NEURONS)
@pytest.mark.parametrize("where", [0, 2])
def test_nan_in_the_current(name: str, where: int) -> None:
    """Also at the first step, from where it must not be lost in a reset."""
    current = torch.rand(3, 2, 4)
    current[where, 1, 2] = float("nan")
    assert issubclass(NaNError, ValueError)
    with pytest.raises(NaNError, match=r"current .*must not hold NaN"):
        make_neuron(name)(current)


@pytest.mark.parametrize("reset", ["zero", "subtract", "none"])
def test_nan_survives_every_reset(reset: str) -> None:
    current = torch.full((5, 1, 2), 3.0)
    current[0, 0, 0] = float("nan")
    for name in ("lif", "snntorch-lif", "norse-lifbox"):
        with pytest.raises(ValueError, match="NaN"):
            make_neuron(name, NeuronParameters(beta=0.0 if name == "lif" else 0.5, reset=reset))(current)


@pytest.mark.parametrize("name", SPIKING)
def test_nan_in_the_state(name: str) -> None:
    neuron = make_neuron(name)
    _, state = neuron(torch.rand(3, 2, 4))
    for place, part in enumerate(state):
        spoilt = (*state[:place], torch.full_like(part, float("nan")), *state[place + 1 :])
        with pytest.raises(ValueError, match=r"^state must not hold NaN, got NaN"):
            neuron(torch.rand(3, 2, 4), spoilt)
    with pytest.raises(TypeError, match="got a tuple that holds NoneType"):
        neuron(torch.rand(3, 2, 4), (None, *state[1:]))


@pytest.mark.parametrize(
    ("values", "error", "says"),
    [
        ({"beta": -0.01}, ValueError, r"beta must be a number in \[0, 1\], got -0\.01"),
        ({"beta": 1.01}, ValueError, r"beta must be a number in \[0, 1\], got 1\.01"),
        ({"beta": "0.9"}, TypeError, r"beta must be a number in \[0, 1\], got '0\.9'"),
        ({"beta": True}, TypeError, "beta must be a number"),
        ({"alpha": 2}, ValueError, r"alpha must be a number in \[0, 1\], got 2"),
        ({"threshold": -1}, ValueError, r"threshold must be a number in \(0, 3\.40282e\+38\), got -1"),
        ({"threshold": 1e39}, ValueError, r"threshold must be a number in \(0, 3\.40282e\+38\), got 1e\+39"),
        ({"delta_threshold": 0}, ValueError, "delta_threshold must be"),
        ({"threshold": 10**400}, ValueError, "threshold must be a number in"),
        ({"slope": float("inf")}, ValueError, "slope must be"),
        ({"slope": 3e38}, ValueError, r"slope must be a number in \(0, 1e\+38\), got 3e\+38"),
        ({"surrogate": "fast_sigmod"}, ValueError, r"unknown surrogate 'fast_sigmod'\. Did you mean 'fast_sigmoid'"),
        ({"surrogate": 3}, TypeError, "surrogate must be one of atan, .*got 3"),
        ({"reset": "substract"}, ValueError, "Did you mean 'subtract'"),
        ({"detach_reset": 1}, TypeError, "detach_reset must be True or False, got 1"),
        ({"learn_beta": "yes"}, TypeError, "learn_beta must be True or False, got 'yes'"),
    ],
    ids=str,
)
def test_parameters(values: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        NeuronParameters(**values)


def test_unknown_field_of_a_stored_configuration() -> None:
    with pytest.raises(ValueError, match=r"unknown parameter 'betta'\. Did you mean 'beta'"):
        NeuronParameters.from_dict({"betta": 0.9})


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"name": 3}, TypeError, "name must be a str, got int"),
        ({"name": "snntorch"}, ValueError, "unknown neuron 'snntorch'. Did you mean 'snntorch-"),
        ({"name": "lif", "parameters": {"beta": 0.9}}, TypeError, "parameters must be NeuronParameters, got dict"),
        ({"name": "lif", "mode": "nativ"}, ValueError, "unknown mode 'nativ'. Did you mean 'native'"),
        ({"name": "lif", "features": 0}, ValueError, "features must be positive, got 0"),
        ({"name": "lif", "features": 2.5}, TypeError, r"features must be None, .* got 2\.5"),
        ({"name": "lif", "features": ()}, TypeError, r"features must be None, .* got \(\)"),
    ],
    ids=str,
)
def test_make_neuron(arguments: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make_neuron(**arguments)


@pytest.mark.parametrize("name", NEURONS)
def test_features_of_another_shape(name: str) -> None:
    with pytest.raises(ValueError, match=r"with features \(5,\), got shape \(3, 2, 4\)"):
        make_neuron(name, features=5)(torch.rand(3, 2, 4))


@pytest.mark.parametrize("name", NEURONS)
def test_generator(name: str) -> None:
    with pytest.raises(TypeError, match=r"generator must be None or a torch\.Generator, got int"):
        make_neuron(name)(torch.rand(3, 2, 4), generator=7)  # type: ignore[arg-type]


def test_factory() -> None:
    with pytest.raises(TypeError, match="factory must be callable, got str"):
        register("mine", "module:Class")  # type: ignore[arg-type]


def test_nothing_is_computed_before_the_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but NaN: that is read off the final membrane, since looking through [T, B, N] costs as much as the neuron."""
    neuron = make_neuron("lif")
    monkeypatch.setattr(neuron, "_simulate", lambda *_: pytest.fail("worked before it looked"))
    good = torch.rand(3, 2, 4)
    for current, state in [
        (good[0, 0], None),
        (good[:0], None),
        (good.long(), None),
        (good, (torch.zeros(4, 2),)),
        (good, (torch.zeros(2, 4, dtype=torch.float64),)),
        (good, ()),
    ]:
        with pytest.raises((TypeError, ValueError)):
            neuron(current, state)


@pytest.mark.parametrize("name", ["lif", "snntorch-lif", "paralif-t", "paralif-st", "norse-lifbox"])
def test_nan_in_a_learned_threshold(name: str) -> None:
    """No comparison with it holds, so that it would pass for a silent layer."""
    neuron = make_neuron(name, NeuronParameters(learn_threshold=True))
    with torch.no_grad():
        neuron.threshold.fill_(float("nan"))
    with pytest.raises(NaNError, match=f"learned value of {name} must not hold NaN"):
        neuron(torch.rand(3, 2, 4))


def test_an_infinite_current_is_not_called_nan() -> None:
    current = torch.rand(3, 2, 4)
    current[1, 0, 0] = float("inf")
    with pytest.raises(NaNError, match="so large that they gave NaN"):
        make_neuron("snntorch-lif")(current)


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("paralif-d", {"threshold": 5.0}, "delta_threshold"),
        ("paralif-trd", {"threshold": 0.5}, "delta_threshold"),
        ("paralif-sb", {"surrogate": "triangle"}, "spikes are drawn"),
        ("paralif-trb", {"slope": 9.0}, "spikes are drawn"),
        ("paralif-gs", {"threshold": 2.0}, "spikes are drawn"),
    ],
)
@pytest.mark.parametrize("mode", ["shared", "native"])
def test_what_a_paralif_mode_does_not_use_is_refused(name: str, values: dict[str, Any], says: str, mode: Any) -> None:
    (field,) = values
    with pytest.raises(ValueError, match=rf"{field}=.* cannot be expressed by {name} in {mode} mode: .*{says}"):
        make_neuron(name, NeuronParameters(**values), mode=mode)
    assert field not in make_neuron(name, mode=mode).effective_parameters()


@pytest.mark.parametrize("name", ["lif", "snntorch-lif", "paralif-t"])
def test_a_learned_value_on_another_device(name: str) -> None:
    neuron = make_neuron(name, NeuronParameters(learn_beta=True)).to("meta")
    with pytest.raises(ValueError, match=f"current is on cpu and beta of {name} on meta; move one to the other"):
        neuron(torch.rand(3, 2, 4))


@pytest.mark.parametrize(("name", "field"), [("lif", "threshold"), ("paralif-d", "delta_threshold")])
def test_a_learned_threshold_below_what_it_is_kept_at(name: str, field: str) -> None:
    with pytest.raises(ValueError, match="a learned one is kept at 1e-06 or above"):
        make_neuron(name, NeuronParameters(learn_threshold=True, **{field: 1e-8}))


@pytest.mark.parametrize(
    "wish", [{"alpha": 0.5}, {"learn_threshold": True}, {"learn_alpha": True}, {"recurrent": True}]
)
def test_the_control_refuses_what_it_has_not(wish: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no decay, no synapse"):
        make_neuron("relu", NeuronParameters(**wish), features=3)


def test_numbers_of_numpy_are_numbers() -> None:
    assert NeuronParameters(beta=np.float32(0.5), slope=np.int64(3)) == NeuronParameters(beta=0.5, slope=3.0)
    assert make_neuron("lif", features=np.int64(5)).features == make_neuron("lif", features=[5]).features == (5,)


def test_the_steepest_surrogate_has_no_nan_at_the_threshold() -> None:
    current = torch.ones(1, 1, 1, requires_grad=True)
    make_neuron("lif", NeuronParameters(beta=0.0, slope=9.9e37))(current)[0].sum().backward()
    assert current.grad is not None
    assert current.grad.isfinite().all()
