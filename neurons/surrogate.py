"""Surrogate derivatives of the step, in closed form, and the way to replace them in a finished model.

A spike is s = 1[x > 0] with x = u - threshold; its derivative is zero almost everywhere, so the backward pass uses
g(x) instead (Neftci, Mostafa, Zenke, IEEE Signal Processing Magazine 36(6), 2019). With slope k:

    atan          g = (k/2) / (1 + (pi k x / 2)^2)      Fang et al., ICCV 2021; snntorch.surrogate.atan(k)
    fast_sigmoid  g = 1 / (1 + k |x|)^2                 Zenke and Ganguli, Neural Computation 30(6), 2018;
                                                        snntorch.surrogate.fast_sigmoid(k), norse's "super"
    sigmoid       g = k y (1 - y), y = 1/(1 + exp(-k x))  spikingjelly's Sigmoid(k)
    triangle      g = k max(0, 1 - k |x|)               Esser et al., PNAS 113(41), 2016, scaled to area 1
    rectangle     g = k/2 where |x| < 1/k, else 0       Wu et al., Frontiers in Neuroscience 12, 2018, area 1
    ste           g = 1                                 straight-through; the slope has no effect
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from neurons.parameters import SURROGATES, NeuronParameters, check_word


class Surrogate(NamedTuple):
    """A surrogate derivative: its family and its slope."""

    name: str
    slope: float


def make_surrogate(name: str, slope: float) -> Surrogate:
    """A checked `Surrogate`.

    Raises:
        TypeError, ValueError: unknown family, or a slope that is not a positive number.
    """
    checked = NeuronParameters(surrogate=check_word("surrogate", name, SURROGATES), slope=slope)
    return Surrogate(checked.surrogate, checked.slope)


def derivative(surrogate: Surrogate, x: Tensor) -> Tensor:
    """g(x) of the module's table, elementwise; same shape and dtype as `x`."""
    name, k = surrogate
    if name == "atan":
        return (k / 2) / (1 + (math.pi / 2 * k * x) ** 2)
    if name == "fast_sigmoid":
        return 1 / (1 + k * x.abs()) ** 2
    if name == "sigmoid":
        y = torch.sigmoid(k * x)
        return k * y * (1 - y)
    if name == "triangle":
        return k * (1 - k * x.abs()).clamp(min=0)
    if name == "rectangle":
        return (k / 2) * (x.abs() < 1 / k).to(x.dtype)
    check_word("surrogate", name, SURROGATES)
    return torch.ones_like(x)


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, name: str, slope: float) -> Tensor:
        return (x > 0).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, name, slope = inputs
        ctx.save_for_backward(x)
        ctx.surrogate = Surrogate(name, slope)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return grads[0] * derivative(ctx.surrogate, x), None, None


def spike(x: Tensor, surrogate: Surrogate) -> Tensor:
    """1 where x > 0 (strictly), else 0, in the dtype of `x`; backward multiplies by `derivative(surrogate, x)`."""
    return _Step.apply(x, surrogate.name, surrogate.slope)


class _Given(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, spikes: Tensor, name: str, slope: float) -> Tensor:
        return spikes.clone()  # an input given back would be a view, which nobody may change in place

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, name, slope = inputs
        ctx.save_for_backward(x)
        ctx.surrogate = Surrogate(name, slope)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        return grads[0] * derivative(ctx.surrogate, x), None, None, None


def given_spikes(x: Tensor, spikes: Tensor, surrogate: Surrogate) -> Tensor:
    """`spikes`, found elsewhere, with the derivative with respect to `x` that `spike(x, surrogate)` has."""
    return _Given.apply(x, spikes, surrogate.name, surrogate.slope)


@contextmanager
def surrogate_override(model: nn.Module, surrogate: str, slope: float = 2.0) -> Iterator[int]:
    """Give every spiking neuron inside `model` another surrogate for the graphs that are built in the block.

    The forward pass is untouched: spikes are the same bit for bit. What counts is when the forward runs, not when
    `backward` is called. Blocks may be nested; at the end, also after an exception, each neuron has its own
    surrogate again. What `torch.utils.checkpoint` computes again it must compute in such a block as well: call
    `backward` in it. Works in both modes and for stochastic neurons: a Bernoulli
    neuron's derivative of the probability, sigmoid'(V) for ParaLIF-SB, becomes g(V).

    Args:
        model: a neuron, or any module that holds neurons at any depth.
        surrogate: one of `neurons.SURROGATES`.
        slope: its slope.

    Yields:
        How many neurons were changed; 0 when the model has none (`relu` has no step to replace).

    Raises:
        TypeError: `model` is not a module.
        ValueError: unknown surrogate or a slope that is not positive.
    """
    from neurons.base import Neuron

    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got {type(model).__name__}")
    replacement = make_surrogate(surrogate, slope)
    found = [module for module in model.modules() if isinstance(module, Neuron) and module.spiking]
    before = [neuron.override for neuron in found]
    try:
        for neuron in found:
            neuron.override = replacement
        yield len(found)
    finally:
        for neuron, saved in zip(found, before, strict=True):
            neuron.override = saved
