"""One autograd node for all T steps, around a compiled kernel."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from neurons.kernels.codes import NONE, RESET_CODES, STE, SURROGATE_CODES
from neurons.surrogate import Surrogate
from neurons.unroll import State

Array = npt.NDArray[Any]


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

        steps, columns = current.shape[0], v0.numel()
        x, row = _rows(current)
        v0, i0 = v0.contiguous(), None if i0 is None else i0.contiguous()
        output = torch.empty_like(current, memory_format=torch.contiguous_format)
        v_last, i_last = torch.empty_like(v0), None if i0 is None else torch.empty_like(i0)
        nothing = _nothing(current.dtype)
        inputs = (
            x,
            row,
            _flat(v0),
            nothing if i0 is None else _flat(i0),
            _per_neuron(beta, current),
            nothing if alpha is None else _per_neuron(alpha, current),
            _per_neuron(threshold, current),
            i0 is not None,
            fires,
            reset,
            fires,
            np.reshape(output.numpy(), (steps, columns)),
            _no_rows(current.dtype),
            _flat(v_last),
            nothing if i_last is None else _flat(i_last),
            steps,
        )
        over_columns(lambda start, stop: numba_cpu.forward(*inputs, start, stop, 0), steps, columns, numba_cpu.BLOCK)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(current, v0, i0, beta, alpha, threshold)
            ctx.constants = (fires, reset, detach, surrogate, slope)
        ctx.set_materialize_grads(False)
        return output, v_last, i_last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        from neurons.kernels import numba_cpu
        from neurons.kernels.columns import over_columns

        current, v0, i0, beta, alpha, threshold = ctx.saved_tensors
        fires, reset, detach, surrogate, slope = ctx.constants
        steps, columns = current.shape[0], v0.numel()
        nothing = _nothing(v0.dtype)
        incoming, row = _rows(current.new_zeros(()).expand(current.shape) if grads[0] is None else grads[0])
        grad_x = torch.empty_like(current, memory_format=torch.contiguous_format)
        grad_v0 = grad_i0 = None
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            grad_v0, grad_i0 = torch.empty_like(v0), None if i0 is None else torch.empty_like(v0)
        per_column = [torch.empty_like(v0) if ctx.needs_input_grad[position] else None for position in (3, 4, 5)]
        inputs = (
            incoming,
            row,
            *(np.zeros(columns, nothing.dtype) if grad is None else _flat(grad.contiguous()) for grad in grads[1:]),
            *_rows(current),
            _flat(v0),
            nothing if i0 is None else _flat(i0),
            _per_neuron(beta, current),
            nothing if alpha is None else _per_neuron(alpha, current),
            _per_neuron(threshold, current),
            i0 is not None,
            fires,
            reset,
            detach,
            surrogate,
            slope,
            np.reshape(grad_x.numpy(), (steps, columns)),
            *(nothing if array is None else _flat(array) for array in (grad_v0, grad_i0, *per_column)),
            steps,
        )
        over_columns(lambda start, stop: numba_cpu.backward(*inputs, start, stop), steps, columns, numba_cpu.BLOCK)
        learned = [
            None if array is None else array.sum_to_size(value.shape)
            for array, value in zip(per_column, (beta, alpha, threshold), strict=True)
        ]
        return grad_x, grad_v0, grad_i0, *learned, None, None, None, None, None


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


def _rows(sequence: Tensor) -> tuple[Array, int]:
    """The sequence [T, ...] flat, and the elements from one step to the next: 0 when all steps are one in memory."""
    if sequence.stride(0) == 0 or sequence.shape[0] == 1:
        return _flat(sequence[0].contiguous()), 0
    return _flat(sequence.contiguous()), sequence[0].numel()


def _flat(tensor: Tensor) -> Array:
    """A contiguous tensor's memory in one dimension."""
    return np.reshape(tensor.detach().numpy(), -1)


@functools.cache
def _nothing(dtype: torch.dtype) -> Array:
    return torch.empty(0, dtype=dtype).numpy()


@functools.cache
def _no_rows(dtype: torch.dtype) -> Array:
    return torch.empty(0, 0, dtype=dtype).numpy()


def _per_neuron(value: Tensor, sequence: Tensor) -> Array:
    """`value` with one entry, or with one per neuron of the sequence [T, B, *features]."""
    if value.numel() == 1:
        return _flat(value)
    return _flat(value.expand(sequence.shape[2:]).contiguous())
