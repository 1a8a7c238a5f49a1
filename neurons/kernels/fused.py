"""One autograd node for all T steps, around a compiled kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from neurons.kernels.codes import NONE, RESET_CODES, STE, SURROGATE_CODES
from neurons.surrogate import Surrogate
from neurons.unroll import State


class _Fused(torch.autograd.Function):
    """Inputs current [T, B, *features], v0 and i0 [B, *features] (i0 None without a synapse), beta, alpha, threshold.

    Outputs: spikes (or with `fires` False the membrane) [T, B, *features], v and i after the last step.
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
        fires: bool,
        reset: int,
        detach: bool,
        surrogate: int,
        slope: float,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        from neurons.kernels import numba_cpu
        from neurons.kernels.columns import over_columns

        steps, columns = current.shape[0], current[0].numel()
        x, row = _rows(current)
        v0, i0 = v0.contiguous(), None if i0 is None else i0.contiguous()
        wanted = any(ctx.needs_input_grad)
        # dL/dbeta reads the membrane, dL/dalpha the synapse; the rest of backward needs the membrane only to fire.
        keep_membrane = not fires or wanted
        keep_currents = ctx.needs_input_grad[4]
        membrane = current.new_empty((steps if keep_membrane else 0, *current.shape[1:]))
        currents = current.new_empty((steps if keep_currents else 0, *current.shape[1:]))
        spikes = current.new_empty(current.shape if fires else (0, *current.shape[1:]))
        v_last, i_last = torch.empty_like(v0), None if i0 is None else torch.empty_like(i0)
        inputs = (
            x.numpy(),
            row,
            _flat(v0),
            _flat(v0 if i0 is None else i0),
            _per_neuron(beta, current),
            _per_neuron(beta if alpha is None else alpha, current),
            _per_neuron(threshold, current),
            i0 is not None,
            fires,
            reset,
            spikes.view(spikes.shape[0], columns).numpy(),
            membrane.view(membrane.shape[0], columns).numpy(),
            currents.view(currents.shape[0], columns).numpy(),
            _flat(v_last),
            _flat(v_last if i_last is None else i_last),
            steps,
        )
        over_columns(lambda start, stop: numba_cpu.forward(*inputs, start, stop), steps, columns, numba_cpu.BLOCK)
        if wanted:
            ctx.save_for_backward(membrane, currents, v0, i0, beta, alpha, threshold)
            ctx.constants = (fires, reset, detach, surrogate, slope)
        ctx.set_materialize_grads(False)
        return spikes if fires else membrane, v_last, i_last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        from neurons.kernels import numba_cpu
        from neurons.kernels.columns import over_columns

        membrane, currents, v0, i0, beta, alpha, threshold = ctx.saved_tensors
        fires, reset, detach, surrogate, slope = ctx.constants
        steps, columns = membrane.shape[0], v0.numel()
        grad = membrane.new_zeros(()).expand(membrane.shape) if grads[0] is None else grads[0]
        incoming, row = _rows(grad)
        grad_v = torch.zeros_like(v0) if grads[1] is None else grads[1].contiguous()
        grad_i = torch.zeros_like(v0) if grads[2] is None else grads[2].contiguous()
        grad_x = torch.empty_like(membrane)
        grad_v0, grad_i0 = torch.empty_like(v0), torch.empty_like(v0)
        per_column = {
            position: v0.new_empty(v0.shape if ctx.needs_input_grad[position] else 0) for position in (3, 4, 5)
        }
        inputs = (
            incoming.numpy(),
            row,
            _flat(grad_v),
            _flat(grad_i),
            membrane.view(steps, columns).numpy(),
            currents.view(currents.shape[0], columns).numpy(),
            _flat(v0),
            _flat(v0 if i0 is None else i0),
            _per_neuron(beta, v0[None]),
            _per_neuron(beta if alpha is None else alpha, v0[None]),
            _per_neuron(threshold, v0[None]),
            i0 is not None,
            fires,
            reset,
            detach,
            surrogate,
            slope,
            grad_x.view(steps, columns).numpy(),
            _flat(grad_v0),
            _flat(grad_i0),
            *(_flat(array) for array in per_column.values()),
            steps,
        )
        over_columns(lambda start, stop: numba_cpu.backward(*inputs, start, stop), steps, columns, numba_cpu.BLOCK)
        learned = [
            per_column[position].sum_to_size(value.shape) if ctx.needs_input_grad[position] else None
            for position, value in ((3, beta), (4, alpha), (5, threshold))
        ]
        return grad_x, grad_v0, None if i0 is None else grad_i0, *learned, None, None, None, None, None


def lif(
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
    """`neurons.kernels.plain.lif` in one autograd node; same arguments, same spikes."""
    i0 = None if alpha is None else state[1]
    spikes, v, i = _Fused.apply(
        current,
        state[0],
        i0,
        beta,
        alpha,
        threshold,
        True,
        RESET_CODES[reset],
        detach_reset,
        SURROGATE_CODES[surrogate.name],
        surrogate.slope,
    )
    return spikes, (v,) if i is None else (v, i)


def integrate(current: Tensor, state: State, *, beta: Tensor, alpha: Tensor | None) -> tuple[Tensor, State]:
    """`neurons.kernels.plain.integrate` in one autograd node; same arguments, same membrane."""
    i0 = None if alpha is None else state[1]
    membrane, v, i = _Fused.apply(
        current, state[0], i0, beta, alpha, beta.detach(), False, NONE, True, STE, 1.0
    )  # there is no threshold: beta takes its place in the kernel's arguments, unread
    return membrane, (v,) if i is None else (v, i)


def _rows(sequence: Tensor) -> tuple[Tensor, int]:
    """The sequence [T, ...] flat, and the elements from one step to the next: 0 when all steps are one in memory."""
    if sequence.stride(0) == 0 or sequence.shape[0] == 1:
        return sequence.detach()[0].reshape(-1), 0
    return sequence.detach().reshape(-1), sequence[0].numel()


def _flat(tensor: Tensor) -> Any:
    return tensor.detach().view(-1).numpy()


def _per_neuron(value: Tensor, sequence: Tensor) -> Any:
    """`value` with one entry, or with one per neuron of the sequence [T, B, *features]."""
    value = value.detach()
    return (value.reshape(1) if value.numel() == 1 else value.expand(sequence.shape[2:]).reshape(-1)).numpy()
