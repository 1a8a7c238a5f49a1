"""The steps forward and backward in torch operations, for devices that have no kernel of ours."""

from __future__ import annotations

import torch
from torch import Tensor

from neurons.kernels.node import Terms, Wanted
from neurons.surrogate import derivative


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
    """All steps without a graph.

    Returns:
        Spikes (or the membrane) [T, B, *features]; the membrane before the reset if it is kept and not the first; the
        synapse if it is kept; v and i after the last step.
    """
    out = torch.empty_like(current, memory_format=torch.contiguous_format)
    membrane = torch.empty_like(out) if keep_membrane and terms.fires else None
    currents = torch.empty_like(out) if keep_currents else None
    v, i = v0.clone(), i0
    for t, now in enumerate(current):
        if alpha is not None:
            assert i is not None
            i = now = alpha * i + now
            if currents is not None:
                currents[t] = i
        u = beta * v + now
        if not terms.fires:
            out[t] = v = u
            continue
        fired = u > threshold
        out[t] = fired
        if membrane is not None:
            membrane[t] = u
        v = after_reset(u, fired, threshold, terms.reset)
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
    """The equations in `neurons.kernels.numba_cpu`; no `grad_v` or `grad_i` is one of zeros.

    Returns:
        Gradients of the current [T, B, *features], of v0 and i0, and per column [B, *features] those of beta, alpha and
        threshold, None where they are not wanted.
    """
    grad_x = torch.empty_like(membrane)
    grad_v, grad_i = (torch.zeros_like(v0) if found is None else found for found in (grad_v, grad_i))
    to_beta, to_alpha, to_threshold = (torch.zeros_like(v0) if want else None for want in wanted)
    for t in range(len(membrane) - 1, -1, -1):
        u = membrane[t]
        if terms.fires:
            fired = u > threshold
            into_spike = grad[t]
            if not terms.detach and terms.reset == "zero":
                into_spike = into_spike - u * grad_v
            elif not terms.detach and terms.reset == "subtract":
                into_spike = into_spike - threshold * grad_v
            through = into_spike * derivative(terms.surrogate, u - threshold)
            if to_threshold is not None:
                to_threshold -= through
                if terms.reset == "subtract":
                    to_threshold -= grad_v * fired
            grad_u = through + (grad_v.masked_fill(fired, 0) if terms.reset == "zero" else grad_v)
        else:
            grad_u = grad[t] + grad_v
        if to_beta is not None:
            before = v0
            if t > 0:
                before = membrane[t - 1]
                if terms.fires:
                    before = after_reset(before, before > threshold, threshold, terms.reset)
            to_beta += grad_u * before
        grad_v = beta * grad_u
        if alpha is None:
            grad_x[t] = grad_u
            continue
        grad_x[t] = grad_i = grad_i + grad_u
        if to_alpha is not None:
            assert currents is not None
            assert i0 is not None
            to_alpha += grad_i * (currents[t - 1] if t > 0 else i0)
        grad_i = alpha * grad_i
    return grad_x, grad_v, grad_i, to_beta, to_alpha, to_threshold


def after_reset(u: Tensor, fired: Tensor, threshold: Tensor, reset: str) -> Tensor:
    """The membrane after the reset of those that fired; an infinite one too, which times zero would be NaN."""
    if reset == "zero":
        return u.masked_fill(fired, 0)
    return torch.where(fired, u - threshold, u) if reset == "subtract" else u
