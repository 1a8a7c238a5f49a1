"""One autograd node for all T steps, around a compiled kernel."""

from __future__ import annotations

import ctypes
from functools import partial
from typing import Any

import torch
from torch import Tensor

from neurons.kernels import numba_cpu, plain, threads
from neurons.kernels.codes import RESET_CODES, SURROGATE_CODES
from neurons.kernels.layout import in_rows
from neurons.second_order import gradients_with_graph, wanted
from neurons.surrogate import Surrogate
from neurons.unroll import State

SMALLEST_SHARE = 1 << 14
"""Elements of [T, M] per thread below which another thread costs more than it saves."""


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
        reset: str,
        detach: bool,
        surrogate: Surrogate,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        if any(ctx.needs_input_grad):
            # The inputs as they came: second derivatives go through their graphs.
            ctx.save_for_backward(current, v0, i0, beta, alpha, threshold)
            ctx.constants = (fires, reset, detach, surrogate)
        x, x_row = in_rows(current)
        v0, i0 = v0.contiguous(), None if i0 is None else i0.contiguous()
        b, th = _per_neuron(beta, current), _per_neuron(threshold, current)
        a = None if alpha is None else _per_neuron(alpha, current)
        output = torch.empty_like(current, memory_format=torch.contiguous_format)
        v_last, i_last = torch.empty_like(v0), None if i0 is None else torch.empty_like(i0)
        # The names above hold every tensor whose address goes into the arguments until the kernel is done with it.
        arguments = _arguments(x, x_row, current, v0, i0, b, a, th, output, fires, reset, detach, surrogate)
        arguments.v_last, arguments.i_last = _address(v_last), _address(i_last)
        _run(numba_cpu.forward_at(current.dtype), arguments)
        ctx.set_materialize_grads(False)
        return output, v_last, i_last

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        current, v0, i0, beta, alpha, threshold = ctx.saved_tensors
        needs = ctx.needs_input_grad
        if wanted():
            run = partial(_step_by_step, *ctx.constants)
            given = grads if i0 is not None else grads[:2]
            found = gradients_with_graph(run, ctx.saved_tensors, needs[: len(ctx.saved_tensors)], given)
            return *found, None, None, None, None
        v0, i0 = v0.contiguous(), None if i0 is None else i0.contiguous()
        x, x_row = in_rows(current)
        b, th = _per_neuron(beta, current), _per_neuron(threshold, current)
        a = None if alpha is None else _per_neuron(alpha, current)
        grad, grad_row = in_rows(current.new_zeros(()).expand(current.shape) if grads[0] is None else grads[0])
        grad_v, grad_i = (None if part is None else part.contiguous() for part in grads[1:])
        grad_x = torch.empty_like(current, memory_format=torch.contiguous_format)
        grad_v0 = grad_i0 = None
        if needs[1] or needs[2]:
            grad_v0, grad_i0 = torch.empty_like(v0), None if i0 is None else torch.empty_like(v0)
        per_column = [torch.empty_like(v0) if needs[position] else None for position in (3, 4, 5)]
        arguments = _arguments(x, x_row, current, v0, i0, b, a, th, grad_x, *ctx.constants)
        arguments.grad, arguments.grad_row = grad.data_ptr(), grad_row
        arguments.grad_v, arguments.grad_i = _address(grad_v), _address(grad_i)
        arguments.grad_v0, arguments.grad_i0 = _address(grad_v0), _address(grad_i0)
        arguments.grad_beta, arguments.grad_alpha, arguments.grad_threshold = map(_address, per_column)
        _run(numba_cpu.backward_at(current.dtype), arguments)
        learned = [
            None if column is None else column.sum_to_size(value.shape)
            for column, value in zip(per_column, (beta, alpha, threshold), strict=True)
        ]
        return grad_x, grad_v0, grad_i0, *learned, None, None, None, None


def _step_by_step(fires: bool, reset: str, detach: bool, surrogate: Surrogate, *inputs: Any) -> tuple[Tensor, ...]:
    """What the kernel computes, in operations that torch can differentiate again; `inputs` as for `_Fused`."""
    current, v0, i0, beta, alpha, threshold = inputs
    state: State = (v0,) if i0 is None else (v0, i0)
    if not fires:
        out, state = plain.integrate(current, state, beta=beta, alpha=alpha)
        return out, *state
    out, state = plain.lif(
        current,
        state,
        beta=beta,
        alpha=alpha,
        threshold=threshold,
        reset=reset,
        detach_reset=detach,
        surrogate=surrogate,
    )
    return out, *state


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
        reset,
        detach_reset,
        surrogate,
    )
    return spikes, (v,) if i is None else (v, i)


def integrate(current: Tensor, state: State, *, beta: Tensor, alpha: Tensor | None) -> tuple[Tensor, State]:
    """`neurons.kernels.plain.integrate` in one autograd node; same arguments, same membrane."""
    i0 = None if alpha is None else state[1]
    membrane, v, i = _Fused.apply(
        current, state[0], i0, beta, alpha, beta.detach(), False, "none", True, Surrogate("ste", 1.0)
    )  # there is no threshold: beta takes its place in the kernel's arguments, unread
    return membrane, (v,) if i is None else (v, i)


def _arguments(
    x: Tensor,
    x_row: int,
    current: Tensor,
    v0: Tensor,
    i0: Tensor | None,
    beta: Tensor,
    alpha: Tensor | None,
    threshold: Tensor,
    out: Tensor,
    fires: bool,
    reset: str,
    detach: bool,
    surrogate: Surrogate,
) -> ctypes.Structure:
    """What both kernels read, see `neurons.kernels.numba_cpu.arguments_of`; one share for one thread."""
    columns = v0.numel()
    return numba_cpu.arguments_of(current.dtype)(
        share=columns,
        columns=columns,
        steps=current.shape[0],
        synapse=i0 is not None,
        fires=fires,
        reset=RESET_CODES[reset],
        detach=detach,
        surrogate=SURROGATE_CODES[surrogate.name],
        slope=surrogate.slope,
        x=x.data_ptr(),
        x_row=x_row,
        v0=v0.data_ptr(),
        i0=_address(i0),
        beta=beta.data_ptr(),
        beta_count=beta.numel(),
        alpha=_address(alpha),
        alpha_count=0 if alpha is None else alpha.numel(),
        threshold=threshold.data_ptr(),
        threshold_count=threshold.numel(),
        out=out.data_ptr(),
    )


def _run(kernel: int, arguments: Any) -> None:
    """All columns, on as many threads as they are worth."""
    if arguments.columns == 0:
        return
    blocks = -(-arguments.columns // numba_cpu.BLOCK)
    count = threads.team(min(blocks, arguments.steps * arguments.columns // SMALLEST_SHARE))
    if count > 1:
        # Four shares a thread: one that is held up leaves its work to the others.
        arguments.share = -(-blocks // (4 * count)) * numba_cpu.BLOCK
    threads.run(kernel, ctypes.addressof(arguments), count)
    # A thread without memory for its rows takes no share; the exception of a C callback goes nowhere.
    if arguments.next_share * arguments.share < arguments.columns:
        raise MemoryError("no memory is left for the rows that a thread works in; use fewer steps, or a smaller batch")


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _per_neuron(value: Tensor, sequence: Tensor) -> Tensor:
    """`value` with one entry, or with one per neuron of the sequence [T, B, *features]."""
    if value.numel() == 1:
        return value
    return value.expand(sequence.shape[2:]).contiguous()
