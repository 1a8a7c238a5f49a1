"""One autograd node for all T steps, around a backend that keeps the membrane: `torch_steps` or `triton_steps`."""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neurons.second_order import refuse_if_wanted
from neurons.surrogate import Surrogate
from neurons.unroll import State


class Terms(NamedTuple):
    """What is computed: all that is not a tensor. `fires` False: the membrane alone, nothing spikes or resets."""

    fires: bool
    reset: str
    detach: bool
    surrogate: Surrogate


class Wanted(NamedTuple):
    """Which of the learnable values get a gradient."""

    beta: bool
    alpha: bool
    threshold: bool


class _Node(torch.autograd.Function):
    """Inputs current [T, B, *features], v0 and i0 [B, *features] (i0 None without a synapse), beta, alpha, threshold.

    Outputs: spikes (or the membrane) [T, B, *features], v and i after the last step.
    """

    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        v0: Tensor,
        i0: Tensor | None,
        beta: Tensor,
        alpha: Tensor | None,
        threshold: Tensor,
        terms: Terms,
        backend: ModuleType,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        needs = any(ctx.needs_input_grad)
        out, membrane, currents, v, i = backend.forward(
            current, v0, i0, beta, alpha, threshold, terms, keep_membrane=needs, keep_currents=ctx.needs_input_grad[4]
        )
        if needs:
            ctx.save_for_backward(out if membrane is None else membrane, currents, v0, i0, beta, alpha, threshold)
            ctx.terms, ctx.backend = terms, backend
        ctx.set_materialize_grads(False)
        return out, v, i

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        # The current is not kept for the backward pass, and with it the way on from there.
        refuse_if_wanted(
            "this kernel of lif and ParaLIF",
            "build the graph inside `with neurons.step_by_step():`, or take snntorch-lif or a norse neuron",
        )
        membrane, currents, v0, i0, beta, alpha, threshold = ctx.saved_tensors
        grad = membrane.new_zeros(()).expand(membrane.shape) if grads[0] is None else grads[0]
        wanted = Wanted(*ctx.needs_input_grad[3:6])
        grad_x, grad_v0, grad_i0, *per_column = ctx.backend.backward(
            grad, grads[1], grads[2], membrane, currents, v0, i0, beta, alpha, threshold, ctx.terms, wanted
        )
        learned = [
            None if column is None else column.sum_to_size(value.shape)
            for column, value in zip(per_column, (beta, alpha, threshold), strict=True)
        ]
        return grad_x, grad_v0, None if i0 is None else grad_i0, *learned, None, None


class OneNode:
    """`lif` and `integrate` of `neurons.kernels.plain` in one autograd node, computed by `backend`."""

    def __init__(self, backend: ModuleType) -> None:
        self._backend = backend

    def lif(
        self,
        current: Tensor,
        state: State,
        *,
        beta: Tensor,
        alpha: Tensor | None,
        threshold: Tensor,
        reset: str,
        detach_reset: bool,
        surrogate: Surrogate,
    ) -> tuple[Tensor, State]:
        """As `neurons.kernels.plain.lif`."""
        terms = Terms(True, reset, detach_reset, surrogate)
        return self._apply(current, state, beta, alpha, threshold, terms)

    def integrate(self, current: Tensor, state: State, *, beta: Tensor, alpha: Tensor | None) -> tuple[Tensor, State]:
        """As `neurons.kernels.plain.integrate`."""
        terms = Terms(False, "none", True, Surrogate("ste", 1.0))
        return self._apply(current, state, beta, alpha, beta.detach(), terms)

    def _apply(
        self, current: Tensor, state: State, beta: Tensor, alpha: Tensor | None, threshold: Tensor, terms: Terms
    ) -> tuple[Tensor, State]:
        i0 = None if alpha is None else state[1]
        out, v, i = _Node.apply(current, state[0], i0, beta, alpha, threshold, terms, self._backend)
        return out, (v,) if i is None else (v, i)
