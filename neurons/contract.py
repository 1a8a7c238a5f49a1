"""What a LIF must do to stand beside the others: `check_adapter("name")`, the test that every adapter here passes."""

from __future__ import annotations

import copy
import itertools

import torch
from torch import Tensor

from neurons import reference
from neurons.base import Neuron
from neurons.parameters import RESETS, NeuronParameters
from neurons.registry import make_neuron

GRADIENT_TOLERANCE = 1e-6
"""Gradients count as equal up to this share of the largest entry."""

_TERMS = {
    f"reset={reset}, detach_reset={detach}, alpha={alpha}": (reset, detach, alpha)
    for reset, detach, alpha in itertools.product(RESETS, (True, False), (None, 0.7))
}


def check_adapter(name: str) -> dict[str, str]:
    """Hold a LIF against the oracle of `neurons.reference`, and against the interface of `neurons.Neuron`.

    For every reset and `detach_reset`, with and without a synapse: float64 spikes of a random current equal element for
    element, gradients equal to `GRADIENT_TOLERANCE`; else a `ValueError` when the neuron is made. Then, in both modes:
    shapes and dtypes, chunks against the whole, a second call against the first, a copy, an empty batch, bad input.
    What `learn_beta`, `learn_alpha`, `learn_threshold` and `recurrent` ask for is learned, or refused.

    Args:
        name: of a registered LIF that makes no draws; of ParaLIF only paralif-t is one, while it does not reset.

    Returns:
        What the neuron refuses, as {"reset=..., detach_reset=..., alpha=...": the reason}.

    Raises:
        AssertionError: the first thing that is not as it must be.
        TypeError, ValueError, ImportError: as `make_neuron`.
    """
    make_neuron(name)
    refused = {}
    for terms, (reset, detach, alpha) in _TERMS.items():
        config = NeuronParameters(
            beta=0.85, alpha=alpha, threshold=0.8, reset=reset, detach_reset=detach, surrogate="fast_sigmoid", slope=3.0
        )
        try:
            neuron = make_neuron(name, config)
        except ValueError as reason:
            refused[terms] = str(reason)
            continue
        _check_equation(neuron, f"{name}, {terms}")
    _require(len(refused) < len(_TERMS), f"{name} refuses every reset: {refused}")
    _check_interface(make_neuron(name), f"{name}, shared")
    _check_interface(make_neuron(name, mode="native"), f"{name}, native")
    for wish in ("learn_beta", "learn_alpha", "learn_threshold", "recurrent"):
        _check_learning(name, wish)
    return refused


def _require(holds: bool, otherwise: str) -> None:
    """As `assert`, which `python -O` leaves out."""
    if not holds:
        raise AssertionError(otherwise)


def _current(*shape: int, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.rand(shape, dtype=torch.float64, generator=source) * 1.2


def _check_equation(neuron: Neuron, terms: str) -> None:
    config = neuron.config
    values = neuron.effective_parameters()
    current = _current(40, 3, 7).requires_grad_()
    weights = torch.randn(current.shape, dtype=current.dtype, generator=torch.Generator().manual_seed(1))
    expected = reference.lif(
        current,
        beta=config.beta,
        alpha=values.get("alpha", config.alpha),
        threshold=config.threshold,
        reset=config.reset,
        detach_reset=config.detach_reset,
        surrogate=config.surrogate,
        slope=config.slope,
    ).spikes
    spikes, _ = neuron(current)
    differing = int((spikes != expected).sum())
    _require(differing == 0, f"{terms}: {differing} of {spikes.numel()} spikes differ from the reference")
    (wanted,) = torch.autograd.grad((expected * weights).sum(), current)
    _require(spikes.requires_grad, f"{terms}: the spikes have no gradient")
    (gradient,) = torch.autograd.grad((spikes * weights).sum(), current)
    off = float((gradient - wanted).abs().max() / wanted.abs().max())
    _require(off <= GRADIENT_TOLERANCE, f"{terms}: the gradient is off by {off:.1e} of its largest entry")


def _check_learning(name: str, wish: str) -> None:
    config = NeuronParameters.from_dict({"alpha": 0.7 if wish == "learn_alpha" else None, wish: True})
    try:
        neuron = make_neuron(name, config, features=7)
    except ValueError:
        return
    spikes, _ = neuron(_current(40, 3, 7))
    parameters = list(neuron.parameters())
    gradients = torch.autograd.grad(spikes.sum(), parameters, allow_unused=True) if spikes.requires_grad else []
    learned = any(gradient is not None and bool(gradient.any()) for gradient in gradients)
    _require(learned, f"{name}: {wish}=True is neither refused nor gives a parameter with a gradient")


def _check_interface(neuron: Neuron, terms: str) -> None:
    # From below every library's rest to above its threshold: native gains differ by more than ten.
    current = _current(12, 3, 4) * torch.tensor([0.3, 1.0, 4.0, 12.0], dtype=torch.float64)
    whole, end = neuron(current)
    _require(whole.shape == current.shape, f"{terms}: spikes of shape {tuple(whole.shape)} for {tuple(current.shape)}")
    _require(len(end) == len(neuron.state_names), f"{terms}: {len(end)} tensors of state for {neuron.state_names}")
    _require(torch.equal(neuron(current)[0], whole), f"{terms}: a second call differs, so something was kept")
    _require(torch.equal(copy.deepcopy(neuron)(current)[0], whole), f"{terms}: a deep copy computes something else")
    state, parts = None, []
    for chunk in current.split([1, 7, 4]):
        spikes, state = neuron(chunk, state)
        parts.append(spikes)
    _require(torch.equal(torch.cat(parts), whole), f"{terms}: chunks differ from the whole")
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        spikes, state = neuron(current.to(dtype))
        _require(spikes.dtype == dtype, f"{terms}: {spikes.dtype} spikes for a {dtype} current")
        _require(
            all(part.dtype == torch.float32 for part in state), f"{terms}: state of a {dtype} current not in float32"
        )
    _require(neuron(current[:, :0])[0].shape == (12, 0, 4), f"{terms}: an empty batch changes shape")
    for bad, error in ((current[0, 0], ValueError), (current[:0], ValueError), (current.long(), TypeError)):
        try:
            neuron(bad)
        except error:
            continue
        raise AssertionError(
            f"{terms}: a current of shape {tuple(bad.shape)} and {bad.dtype} raises no {error.__name__}"
        )
