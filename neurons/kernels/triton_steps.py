# mypy: allow-untyped-defs
"""The steps forward and backward as two Triton kernels: a thread per column walks through time with its state in
registers, so that each [T, B*N] tensor goes through memory once. What it reads is asked for four steps ahead: a step
takes far less time than memory takes to answer.

Multiplications and additions are not fused, so that spikes are those of the other backends. With TRITON_INTERPRET=1
the kernels run on the CPU, which is how they are tested where there is no GPU.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from neurons.kernels import codes
from neurons.kernels.layout import in_rows
from neurons.kernels.node import Terms, Wanted

BLOCK = 128
_ZERO, _SUBTRACT = tl.constexpr(codes.ZERO), tl.constexpr(codes.SUBTRACT)
_ATAN, _FAST_SIGMOID = tl.constexpr(codes.ATAN), tl.constexpr(codes.FAST_SIGMOID)
_SIGMOID, _TRIANGLE = tl.constexpr(codes.SIGMOID), tl.constexpr(codes.TRIANGLE)
_RECTANGLE, _HALF_PI = tl.constexpr(codes.RECTANGLE), tl.constexpr(1.5707963267948966)


@triton.jit
def _forward(
    x, x_row, v0, i0, beta, alpha, threshold, out, membrane, currents, v_last, i_last, columns, steps,
    v0_step, i0_step, beta_count, alpha_count, threshold_count,
    SYNAPSE: tl.constexpr, FIRES: tl.constexpr, RESET: tl.constexpr,
    KEEP_MEMBRANE: tl.constexpr, KEEP_CURRENTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = m < columns
    b = tl.load(beta + m % beta_count, inside)
    th = tl.load(threshold + m % threshold_count, inside)
    v = tl.load(v0 + m * v0_step, inside)
    if SYNAPSE:
        a = tl.load(alpha + m % alpha_count, inside)
        i = tl.load(i0 + m * i0_step, inside)
    at = m
    ahead = x + m
    now0 = tl.load(ahead, inside)
    ahead += x_row
    now1 = tl.load(ahead, inside & (steps > 1))
    ahead += x_row
    now2 = tl.load(ahead, inside & (steps > 2))
    ahead += x_row
    now3 = tl.load(ahead, inside & (steps > 3))
    for t in range(steps):
        now = now0
        now0, now1, now2 = now1, now2, now3
        ahead += x_row
        now3 = tl.load(ahead, inside & (t + 4 < steps))
        if SYNAPSE:
            i = a * i + now
            now = i
            if KEEP_CURRENTS:
                tl.store(currents + at, i, inside)
        u = b * v + now
        v = u
        if FIRES:
            fired = u > th
            tl.store(out + at, fired.to(u.dtype), inside)
            if KEEP_MEMBRANE:
                tl.store(membrane + at, u, inside)
            if RESET == _ZERO:
                v = tl.where(fired, 0.0, u).to(u.dtype)
            elif RESET == _SUBTRACT:
                v = tl.where(fired, u - th, u)
        else:
            tl.store(out + at, u, inside)
        at += columns
    tl.store(v_last + m, v, inside)
    if SYNAPSE:
        tl.store(i_last + m, i, inside)


@triton.jit
def _backward(
    grad, grad_row, grad_v, grad_i, membrane, currents, v0, i0, beta, alpha, threshold,
    grad_x, grad_v0, grad_i0, grad_beta, grad_alpha, grad_threshold, columns, steps,
    v0_step, i0_step, beta_count, alpha_count, threshold_count,
    SYNAPSE: tl.constexpr, FIRES: tl.constexpr, RESET: tl.constexpr, DETACH: tl.constexpr,
    GRAD_V: tl.constexpr, GRAD_I: tl.constexpr, SURROGATE: tl.constexpr, SLOPE: tl.constexpr,
    LEARN_BETA: tl.constexpr, LEARN_ALPHA: tl.constexpr, LEARN_THRESHOLD: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = m < columns
    b = tl.load(beta + m % beta_count, inside)
    th = tl.load(threshold + m % threshold_count, inside)
    gv = tl.full((BLOCK,), 0, b.dtype)
    if GRAD_V:
        gv = tl.load(grad_v + m, inside)
    k = tl.full((BLOCK,), SLOPE, gv.dtype)
    to_beta, to_alpha, to_threshold = gv * 0, gv * 0, gv * 0
    gi = gv * 0
    if SYNAPSE:
        a = tl.load(alpha + m % alpha_count, inside)
        if GRAD_I:
            gi = tl.load(grad_i + m, inside)
    latest = tl.full((), 0, tl.int64) + steps - 1
    at = m + latest * columns
    ahead = grad + m + latest * grad_row
    gu0 = tl.load(ahead, inside)
    ahead -= grad_row
    gu1 = tl.load(ahead, inside & (steps > 1))
    ahead -= grad_row
    gu2 = tl.load(ahead, inside & (steps > 2))
    ahead -= grad_row
    gu3 = tl.load(ahead, inside & (steps > 3))
    u0, u1, u2, u3 = gv, gv, gv, gv
    if FIRES or LEARN_BETA:
        u_ahead = membrane + at
        u0 = tl.load(u_ahead, inside)
        u_ahead -= columns
        u1 = tl.load(u_ahead, inside & (steps > 1))
        u_ahead -= columns
        u2 = tl.load(u_ahead, inside & (steps > 2))
        u_ahead -= columns
        u3 = tl.load(u_ahead, inside & (steps > 3))
    for back in range(steps):
        more = inside & (back + 4 < steps)
        gu, u = gu0, u0
        gu0, gu1, gu2 = gu1, gu2, gu3
        ahead -= grad_row
        gu3 = tl.load(ahead, more)
        if FIRES or LEARN_BETA:
            u0, u1, u2 = u1, u2, u3
            u_ahead -= columns
            u3 = tl.load(u_ahead, more)
        if FIRES:
            fired = u > th
            y = u - th
            if SURROGATE == _ATAN:
                y = _HALF_PI * k * y
                g = (k / 2) / (1 + y * y)
            elif SURROGATE == _FAST_SIGMOID:
                y = 1 + k * tl.abs(y)
                g = 1 / (y * y)
            elif SURROGATE == _SIGMOID:
                y = 1 / (1 + tl.exp(-k * y))
                g = k * y * (1 - y)
            elif SURROGATE == _TRIANGLE:
                g = k * tl.maximum(1 - k * tl.abs(y), 0.0)
            elif SURROGATE == _RECTANGLE:
                g = tl.where(tl.abs(y) < 1 / k, k / 2, 0.0)
            else:
                g = y * 0 + 1
            if not DETACH:
                if RESET == _ZERO:
                    gu = gu - u * gv
                elif RESET == _SUBTRACT:
                    gu = gu - th * gv
            gu = (gu * g).to(gv.dtype)
            if LEARN_THRESHOLD:
                to_threshold -= gu
                if RESET == _SUBTRACT:
                    to_threshold -= tl.where(fired, gv, 0.0).to(gv.dtype)
            if RESET == _ZERO:
                gu += tl.where(fired, 0.0, gv).to(gv.dtype)
            else:
                gu += gv
        else:
            gu += gv
        first = back == steps - 1
        if LEARN_BETA:
            before = u0
            if FIRES:
                fired_before = before > th
                if RESET == _ZERO:
                    before = tl.where(fired_before, 0.0, before).to(gv.dtype)
                elif RESET == _SUBTRACT:
                    before = tl.where(fired_before, before - th, before)
            before = tl.where(first, tl.load(v0 + m * v0_step, inside), before)
            to_beta += gu * before
        gv = b * gu
        if SYNAPSE:
            gi += gu
            tl.store(grad_x + at, gi, inside)
            if LEARN_ALPHA:
                held = tl.load(currents + at - columns, inside & (back < steps - 1), other=0.0)
                to_alpha += gi * tl.where(first, tl.load(i0 + m * i0_step, inside), held)
            gi = a * gi
        else:
            tl.store(grad_x + at, gu, inside)
        at -= columns
    tl.store(grad_v0 + m, gv, inside)
    if SYNAPSE:
        tl.store(grad_i0 + m, gi, inside)
    if LEARN_BETA:
        tl.store(grad_beta + m, to_beta, inside)
    if LEARN_ALPHA:
        tl.store(grad_alpha + m, to_alpha, inside)
    if LEARN_THRESHOLD:
        tl.store(grad_threshold + m, to_threshold, inside)


def forward(
    current: Tensor,
    v0: Tensor,
    i0: Tensor | None,
    beta: Tensor,
    alpha: Tensor | None,
    threshold: Tensor,
    terms: Terms,
    *,
    keep_membrane: bool,
    keep_currents: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor, Tensor | None]:
    """As `neurons.kernels.torch_steps.forward`."""
    (v0, v0_step), (i0, i0_step) = _columns(v0), _columns(i0)
    out = torch.empty_like(current, memory_format=torch.contiguous_format)
    membrane = torch.empty_like(out) if keep_membrane and terms.fires else None
    currents = torch.empty_like(out) if keep_currents else None
    v = torch.empty_like(v0, memory_format=torch.contiguous_format)
    i = None if i0 is None else torch.empty_like(v)
    columns = v0.numel()
    if columns == 0:
        return out, membrane, currents, v, i
    x, row = in_rows(current)
    b, a, th = (_per_neuron(value, current) for value in (beta, beta if alpha is None else alpha, threshold))
    with torch.cuda.device_of(x):  # Triton launches on the current device
        _forward[(triton.cdiv(columns, BLOCK),)](
            x, row, v0, v0 if i0 is None else i0, b, a, th, out, out if membrane is None else membrane,
            out if currents is None else currents, v, v if i is None else i, columns, current.shape[0],
            v0_step, i0_step, b.numel(), a.numel(), th.numel(),
            SYNAPSE=i0 is not None, FIRES=terms.fires, RESET=codes.RESET_CODES[terms.reset],
            KEEP_MEMBRANE=membrane is not None, KEEP_CURRENTS=currents is not None,
            BLOCK=BLOCK, enable_fp_fusion=False,
        )  # fmt: skip
    return out, membrane, currents, v, i


def backward(
    grad: Tensor,
    grad_v: Tensor | None,
    grad_i: Tensor | None,
    membrane: Tensor,
    currents: Tensor | None,
    v0: Tensor,
    i0: Tensor | None,
    beta: Tensor,
    alpha: Tensor | None,
    threshold: Tensor,
    terms: Terms,
    wanted: Wanted,
) -> tuple[Tensor | None, ...]:
    """As `neurons.kernels.torch_steps.backward`."""
    (v0, v0_step), (i0, i0_step) = _columns(v0), _columns(i0)
    grad_x = torch.empty_like(membrane)
    grad_v0 = torch.empty_like(v0, memory_format=torch.contiguous_format)
    grad_i0 = torch.empty_like(grad_v0)
    per_column = [torch.zeros_like(grad_v0) if want else None for want in wanted]
    columns = v0.numel()
    if columns == 0:
        return grad_x, grad_v0, grad_i0, *per_column
    incoming, row = in_rows(grad)
    b, a, th = (_per_neuron(value, membrane) for value in (beta, beta if alpha is None else alpha, threshold))
    places: list[Any] = [grad_v0 if column is None else column for column in per_column]
    with torch.cuda.device_of(incoming):
        _backward[(triton.cdiv(columns, BLOCK),)](
            incoming, row, v0 if grad_v is None else grad_v.contiguous(), v0 if grad_i is None else grad_i.contiguous(),
            membrane,
            membrane if currents is None else currents, v0, v0 if i0 is None else i0, b, a, th,
            grad_x, grad_v0, grad_i0, *places, columns, membrane.shape[0],
            v0_step, i0_step, b.numel(), a.numel(), th.numel(),
            SYNAPSE=i0 is not None, FIRES=terms.fires, RESET=codes.RESET_CODES[terms.reset], DETACH=terms.detach,
            GRAD_V=grad_v is not None, GRAD_I=grad_i is not None,
            SURROGATE=codes.SURROGATE_CODES[terms.surrogate.name], SLOPE=terms.surrogate.slope,
            LEARN_BETA=wanted.beta, LEARN_ALPHA=wanted.alpha, LEARN_THRESHOLD=wanted.threshold,
            BLOCK=BLOCK, enable_fp_fusion=False,
        )  # fmt: skip
    return grad_x, grad_v0, grad_i0, *per_column


def _columns(state: Tensor | None) -> tuple[Any, int]:
    """The state in memory, and the elements from one column to the next: 0 when all columns are one."""
    if state is None or not any(state.stride()):
        return state, 0
    return state.contiguous(), 1


def _per_neuron(value: Tensor, sequence: Tensor) -> Tensor:
    """`value` with one entry, or with one per neuron of the sequence [T, B, *features]."""
    return value.contiguous() if value.numel() == 1 else value.expand(sequence.shape[2:]).contiguous()
