"""Second derivatives: those of the first ones, which are smooth as long as no spike comes or goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neurons import NeuronParameters, make_neuron, step_by_step
from neurons.kernels import plain, torch_steps
from neurons.kernels.node import OneNode
from neurons.surrogate import Surrogate

LEARNED = NeuronParameters(alpha=0.6, learn_beta=True, learn_alpha=True, learn_threshold=True)
CASES = {
    "lif": NeuronParameters(),
    "lif, subtract": NeuronParameters(reset="subtract", surrogate="sigmoid"),
    "lif, learned": LEARNED,
    "snntorch-lif": NeuronParameters(),
    "norse-lifbox": NeuronParameters(),
    "norse-lif": NeuronParameters(),
    "paralif-t": NeuronParameters(learn_beta=True),
    "paralif-t, synapse": NeuronParameters(alpha=0.4, learn_alpha=True),
    "paralif-sb": NeuronParameters(),
    "paralif-gs": NeuronParameters(),
    "paralif-td": NeuronParameters(),
}


class Gradient:
    """The gradient of a loss that is linear in the spikes, with respect to what a neuron takes and learns."""

    def __init__(self, case: str) -> None:
        draw = torch.Generator().manual_seed(5)
        # Drawn as they come, so that every one of them is a float64 tensor of its own.
        self.current = torch.randn(7, 3, 4, generator=draw, dtype=torch.float64) + 0.4
        self.weights = torch.randn(7, 3, 4, generator=draw, dtype=torch.float64)
        self.neuron = make_neuron(case.partition(",")[0], CASES[case], features=4).double()
        self.start = tuple(torch.rand(3, 4, generator=draw, dtype=torch.float64) * 0.2 for _ in self.neuron.state_names)

    @property
    def values(self) -> list[Tensor]:
        return [self.current, *self.start, *(parameter.detach() for parameter in self.neuron.parameters())]

    def spikes(self, values: list[Tensor]) -> Tensor:
        names = [name for name, _ in self.neuron.named_parameters()]
        count = 1 + len(self.start)
        parameters = dict(zip(names, values[count:], strict=True))
        arguments = (values[0], tuple(values[1:count]))
        generator = torch.Generator().manual_seed(9)
        spikes, _ = torch.func.functional_call(self.neuron, parameters, arguments, {"generator": generator})
        return spikes

    def __call__(self, values: list[Tensor], **options: Any) -> list[Tensor]:
        loss = (self.spikes(values) * self.weights).sum()
        found = torch.autograd.grad(loss, values, allow_unused=True, **options)
        return [torch.zeros_like(x) if g is None else g for x, g in zip(values, found, strict=True)]


@pytest.mark.parametrize("case", CASES)
def test_second_derivatives_are_those_of_the_gradient(case: str) -> None:
    """Along a direction, against central differences of the gradient.

    Only of resets that are constants to the gradient: elsewhere the spikes in it count as constants here, and as steps
    with the surrogate's derivative in a graph.
    """
    gradient = Gradient(case)
    draw = torch.Generator().manual_seed(6)
    into, along = ([torch.randn(x.shape, generator=draw, dtype=x.dtype) for x in gradient.values] for _ in range(2))
    values = [value.clone().requires_grad_() for value in gradient.values]
    inner = [(g * v).sum() for g, v in zip(gradient(values, create_graph=True), into, strict=True)]
    second = torch.autograd.grad([part for part in inner if part.requires_grad], values, allow_unused=True)
    found = sum(float((s * d).sum()) for s, d in zip(second, along, strict=True) if s is not None)

    step, sides = 1e-6, []
    for sign in (1, -1):
        moved = [(x + sign * step * d).requires_grad_() for x, d in zip(gradient.values, along, strict=True)]
        assert torch.equal(gradient.spikes(moved), gradient.spikes(gradient.values))
        sides.append(sum(float((g * v).sum()) for g, v in zip(gradient(moved), into, strict=True)))
    expected = (sides[0] - sides[1]) / (2 * step)
    assert abs(expected) > 1e-2
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("reset", ["zero", "subtract", "none"])
def test_a_penalty_on_a_gradient_trains_the_layer_before(reset: str, detach: bool) -> None:
    """The same as with snnTorch's neuron, whose steps torch differentiates by itself."""
    torch.manual_seed(0)
    layer = nn.Linear(6, 5).double()
    images = torch.randn(8, 4, 6, dtype=torch.float64, requires_grad=True)
    config, found = NeuronParameters(reset=reset, detach_reset=detach), []
    for name in ("lif", "snntorch-lif"):
        spikes, _ = make_neuron(name, config)(layer(images) + 0.5)
        (gradient,) = torch.autograd.grad(spikes.sum(), images, create_graph=True)
        found.append(torch.autograd.grad(gradient.square().sum(), list(layer.parameters())))
    for ours, theirs in zip(*found, strict=True):
        assert theirs.abs().max() > 1e-3
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("case", CASES)
def test_a_first_gradient_with_a_graph_is_the_one_without(case: str) -> None:
    gradient = Gradient(case)
    values = [value.clone().requires_grad_() for value in gradient.values]
    for one, other in zip(gradient(values), gradient(values, create_graph=True), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def _both_ways(spikes: Callable[[], Tensor], sources: Sequence[Tensor]) -> None:
    found = [torch.autograd.grad(spikes().square().cumsum(0).sum(), sources, create_graph=graph) for graph in (0, 1)]
    assert all(gradient.abs().max() > 1e-3 for gradient in found[0])
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["paralif-sb", "paralif-t", "paralif-d", "lif"])
def test_also_where_the_neuron_scales_its_current_by_what_it_learns(name: str) -> None:
    draw = torch.Generator().manual_seed(5)
    current = torch.rand(12, 3, 5, generator=draw, dtype=torch.float64).mul_(4).requires_grad_()
    neuron = make_neuron(name, NeuronParameters(learn_beta=True), mode="native").double()
    _both_ways(lambda: neuron(current, generator=torch.Generator().manual_seed(9))[0], [neuron.beta, current])


@pytest.mark.parametrize("name", ["lif", "paralif-t"])
def test_also_where_the_current_comes_from_the_state(name: str) -> None:
    draw = torch.Generator().manual_seed(5)
    current, start = (torch.rand(*shape, generator=draw, dtype=torch.float64) for shape in ((12, 3, 5), (3, 5)))
    start.requires_grad_()
    neuron = make_neuron(name).double()
    _both_ways(lambda: neuron(current - 0.5 * start, (start,))[0], [start])


def test_other_kernels_refuse_them_instead_of_leaving_them_out() -> None:
    current = torch.randn(5, 2, 3, requires_grad=True)
    spikes, _ = OneNode(torch_steps).lif(
        current,
        (torch.zeros(2, 3),),
        beta=torch.tensor(0.9),
        alpha=None,
        threshold=torch.tensor(1.0),
        reset="zero",
        detach_reset=True,
        surrogate=Surrogate("atan", 2.0),
    )
    with pytest.raises(RuntimeError, match=r"no second derivatives .*`with neurons\.step_by_step\(\):`"):
        torch.autograd.grad(spikes.sum(), current, create_graph=True)


def test_step_by_step_is_plain_torch_and_the_same_spikes(monkeypatch: pytest.MonkeyPatch) -> None:
    neuron, current = make_neuron("lif"), torch.randn(20, 4, 6) + 0.3
    outside, _ = neuron(current)
    calls = []
    monkeypatch.setattr(plain, "unroll", lambda *given, original=plain.unroll: calls.append(1) or original(*given))
    with step_by_step():
        assert neuron.backend() == "torch"
        inside, _ = neuron(current)
    assert calls == [1]
    assert torch.equal(inside, outside)
    assert neuron.backend() == make_neuron("lif").backend() != "torch"
    neuron(current)
    assert calls == [1]
