"""What ParaLIF does with its membrane: squashing and drawing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from neurons.surrogate import Surrogate, given_spikes, spike


def squash(V: Tensor, kind: str) -> Tensor:
    """n(V), elementwise: "" identity, "s" sigmoid, "t" tanh, "tr" relu(tanh)."""
    if kind == "s":
        return torch.sigmoid(V)
    if kind == "t":
        return torch.tanh(V)
    if kind == "tr":
        return torch.relu(torch.tanh(V))
    if kind:
        raise ValueError(f"no squashing {kind!r}")
    return V


def uniform_steps(like: Tensor, generator: torch.Generator | None, passes: int = 1) -> tuple[Tensor, ...]:
    """For each pass, uniforms on [0, 1) of the shape, dtype and device of `like` [T, ...], drawn step after step.

    Step by step, because the draws of one large call are not those of two smaller ones, and a sequence fed in
    chunks has to see what the whole sequence sees.
    """
    uniform = torch.empty((like.shape[0], passes, *like.shape[1:]), dtype=like.dtype, device=like.device)
    for step in uniform.unbind(0):
        step.uniform_(generator=generator)
    return uniform.unbind(1)


class _Bernoulli(torch.autograd.Function):
    @staticmethod
    def forward(probability: Tensor, uniform: Tensor, equation_18: bool) -> Tensor:
        return (probability > uniform).to(probability.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        probability, _, equation_18 = inputs
        ctx.save_for_backward(probability if equation_18 else None)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (probability,) = ctx.saved_tensors
        return (grads[0] if probability is None else grads[0] * probability), None, None


def bernoulli(V: Tensor, squashing: str, uniform: Tensor, override: Surrogate | None, *, equation_18: bool) -> Tensor:
    """1 with the probability p = n(V): s = [p > uniform].

    Backward: straight through the draw, ds/dp = 1, so that ds/dV = n'(V), which is sigmoid'(V) in mode sb.
    With `equation_18` ds/dp = p instead, so that ds/dV = p n'(V): ParaLIF paper, equation 18, and its reference
    implementation. With an override ds/dV = g(V), the override's derivative in the place of n'(V).
    """
    probability = squash(V, squashing)
    if override is not None:
        drawn = (probability > uniform).to(V.dtype)
        return given_spikes(V, drawn, override)
    return _Bernoulli.apply(probability, uniform, equation_18)


def gumbel(V: Tensor, uniform: Tensor, override: Surrogate | None) -> Tensor:
    """The hard Gumbel-softmax of the two logits (V, -V) at temperature 1, first component.

    The difference of two Gumbel draws is one logistic draw L = log(U / (1 - U)), so that the soft sample is
    sigmoid(2 V + L) and the hard one [2 V + L > 0]. Backward: the derivative of the soft sample, which is the
    "sigmoid" surrogate of slope 1 at 2 V + L, or that of an override.
    """
    return spike(2 * V + torch.logit(uniform), override or Surrogate("sigmoid", 1.0))
