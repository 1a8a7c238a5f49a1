"""A finished run once more with its spikes given, so that any backward pass can be attached to them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neurons.kernels.dispatch import backend_for
from neurons.second_order import refuse_if_wanted
from neurons.surrogate import Surrogate, given_spikes


class ReplayError(ValueError):
    """A run that its neuron's parameters do not explain, so that no rule can differentiate it."""


class Replay(ABC):
    """What a backward rule gets to see of a run; all tensors [T, B, *features] unless said otherwise.

    Gradients reach the current, and through it whatever came before; learned decays and thresholds are constants here.

    Attributes:
        spikes: what the neuron returned, without a graph.
        drive: what enters the membrane, d[t] in u[t] = beta*v[t-1] + d[t]: the current after synapse and gain, with its
            graph.
        argument: what the step is taken of, x in s = [x > 0] (u - threshold for a LIF). Its graph holds d[t] of the
            same step alone: everything from earlier steps is a constant.
        beta: the membrane's decay, a scalar or [*features].
        threshold: the membrane's, a scalar or [*features]; 1 where spikes are drawn or a rise is compared.
    """

    spikes: Tensor
    drive: Tensor
    argument: Tensor
    beta: Tensor
    threshold: Tensor

    @abstractmethod
    def through_time(self, slopes: Tensor) -> Tensor:
        """The spikes with ds[t]/dx[t] = `slopes` and everything else, from step to step, as the equation has it."""

    def probability(self) -> Tensor | None:
        """The mean of spikes that are drawn, with its exact derivative through time; None where nothing is drawn."""
        return None

    def attach(self, path: Tensor) -> Tensor:
        """The spikes, with the gradient of `path`, which may be broadcast."""
        return attach(self.spikes, path)


def attach(spikes: Tensor, path: Tensor) -> Tensor:
    """`spikes`, with the gradient that `path` has; `path` may be broadcast."""
    return given_spikes(path.expand_as(spikes), spikes, Surrogate("ste", 1.0))


def synaptic(current: Tensor, before: Tensor, alpha: Tensor) -> Tensor:
    """i[t] = alpha*i[t-1] + x[t] with i[-1] = `before` [B, *features]; differentiable."""
    return backend_for(current).integrate(current, (before,), beta=alpha, alpha=None)[0]


class LIFTerms(NamedTuple):
    """The equation of `NeuronParameters` from the drive on.

    `delayed`: the threshold is subtracted after the decay, u[t] = beta*u[t-1] - threshold*s[t-1] + d[t], and the state
    is u. `detach`: the spike in the reset is a constant to the gradient.
    """

    beta: Tensor
    threshold: Tensor
    reset: str
    detach: bool
    delayed: bool


class LIFReplay(Replay):
    """A LIF's run: drive [T, B, *features], its spikes, and the membrane before it [B, *features].

    Raises:
        ReplayError: the spikes are not those of this equation, which says that it is not the neuron's.
    """

    def __init__(self, drive: Tensor, spikes: Tensor, before: Tensor, terms: LIFTerms) -> None:
        self.drive, self.spikes, self._terms = drive, spikes, terms
        self.beta, self.threshold = terms.beta, terms.threshold
        with torch.no_grad():
            self._membrane = _membrane(drive, spikes, before, terms)
            x = self._membrane - terms.threshold
            _check(x, spikes)
        self.argument = attach(x, drive)

    def through_time(self, slopes: Tensor) -> Tensor:
        return _ThroughTime.apply(self.drive, self.spikes, slopes, self._sensitivity(slopes))

    def _sensitivity(self, slopes: Tensor) -> Tensor:
        """du[t+1]/du[t], the spike's part in the reset included when that has a gradient."""
        beta, threshold, reset, detach, _ = self._terms
        if reset == "zero":
            kept = beta * (1 - self.spikes)
            return kept if detach else kept - beta * self._membrane * slopes
        if reset == "subtract" and not detach:
            return beta - beta * threshold * slopes
        return beta.expand_as(self.spikes)


def _membrane(drive: Tensor, spikes: Tensor, before: Tensor, terms: LIFTerms) -> Tensor:
    """u [T, B, *features] before each reset."""
    carried = terms.beta * before
    if terms.delayed:
        carried = _carry(before, (before > terms.threshold).to(before.dtype), terms)
    membrane = torch.empty_like(spikes)
    for u, d, s in zip(membrane, drive, spikes, strict=True):
        torch.add(carried, d, out=u)
        carried = _carry(u, s, terms)
    return membrane


def _carry(u: Tensor, spikes: Tensor, terms: LIFTerms) -> Tensor:
    """What one step leaves to the next."""
    if terms.reset == "zero":
        return terms.beta * (u * (1 - spikes))
    if terms.reset == "none":
        return terms.beta * u
    if terms.delayed:
        return terms.beta * u - terms.threshold * spikes
    return terms.beta * (u - terms.threshold * spikes)


def _check(x: Tensor, spikes: Tensor) -> None:
    if not x.numel():
        return
    beyond_rounding = x.abs() > 1e-3 * x.abs().amax()
    if bool((((x > 0) != (spikes > 0)) & beyond_rounding).any()):
        raise ReplayError("its spikes are not those of the equation that its parameters tell")


class _ThroughTime(torch.autograd.Function):
    @staticmethod
    def forward(drive: Tensor, spikes: Tensor, slopes: Tensor, sensitivity: Tensor) -> Tensor:
        return spikes.clone()  # an input given back would be a view, which nobody may change in place

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, _, slopes, sensitivity = inputs
        ctx.save_for_backward(slopes, sensitivity)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        refuse_if_wanted("a rule that differentiates through time", "use surrogate_override in its place")
        slopes, sensitivity = ctx.saved_tensors
        to_drive = grads[0] * slopes  # by way of the spike of the same step
        for t in range(len(to_drive) - 2, -1, -1):
            to_drive[t].addcmul_(sensitivity[t], to_drive[t + 1])
        return to_drive, None, None, None
