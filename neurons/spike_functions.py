"""What ParaLIF does with its membrane: squashing and drawing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from neurons.surrogate import Surrogate, spike


def squash(V: Tensor, kind: str) -> Tensor:
    """n(V), elementwise: "" identity, "s" sigmoid, "t" tanh, "tr" relu(tanh)."""
    if kind == "s":
        return torch.sigmoid(V)
    if kind == "t":
        return torch.tanh(V)
    if kind == "tr":
        return torch.relu(torch.tanh(V))
    return V


def uniform_steps(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniforms on [0, 1) of the shape, dtype and device of `like` [T, ...], drawn one step after the other.

    Step by step, because the draws of one large call are not those of two smaller ones, and a sequence fed in
    chunks has to see what the whole sequence sees.
    """
    uniform = torch.empty_like(like, memory_format=torch.contiguous_format, requires_grad=False)
    for step in uniform.unbind(0):
        step.uniform_(generator=generator)
    return uniform


class _Bernoulli(torch.autograd.Function):
    @staticmethod
    def forward(probability: Tensor, uniform: Tensor) -> Tensor:
        return (probability > uniform).to(probability.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (probability,) = ctx.saved_tensors
        return grads[0] * probability, None


def bernoulli(probability: Tensor, uniform: Tensor, override: Surrogate | None) -> Tensor:
    """1 with the given probability: s = [probability > uniform].

    Backward: ds/dprobability = probability (ParaLIF paper, equation 18), or with an override its derivative at
    probability - uniform.
    """
    if override is not None:
        return spike(probability - uniform, override)
    return _Bernoulli.apply(probability, uniform)


def gumbel(V: Tensor, uniform: Tensor, override: Surrogate | None) -> Tensor:
    """The hard Gumbel-softmax of the two logits (V, -V) at temperature 1, first component.

    The difference of two Gumbel draws is one logistic draw L = log(U / (1 - U)), so that the soft sample is
    sigmoid(2 V + L) and the hard one [2 V + L > 0]. Backward: the derivative of the soft sample, which is the
    "sigmoid" surrogate of slope 1 at 2 V + L, or that of an override.
    """
    return spike(2 * V + torch.logit(uniform), override or Surrogate("sigmoid", 1.0))
