"""The shared equation for all T steps as two compiled loops, forward and backward, on the CPU.

Both walk through time for a block of columns (a column is one neuron of one sample) whose state fits the first-level
cache, so that each [T, B*N] tensor goes through memory once: forward reads x and writes s and u, backward reads the
gradient and u and writes the gradient of x. Branches stand outside the innermost loops, which the compiler vectorises.
Products and sums are not contracted or reordered: spikes are those of `neurons.kernels.plain`, bit for bit.

The kernels release the interpreter lock and are called from threads over ranges of columns. numba's own parallel loops
are not used: its portable threading layer aborts the process when two Python threads enter it at once.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np

from neurons.kernels.codes import ATAN, FAST_SIGMOID, RECTANGLE, SIGMOID, SUBTRACT, TRIANGLE, ZERO

BLOCK = 512
"""Columns per block: ten float64 rows of it take 40 KiB."""


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """`numba.njit`, with the compiled code kept on disk where numba finds a writable place."""
    compiled: Callable[..., None]
    try:
        compiled = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # numba: "cannot cache function": neither the package nor the user has a writable folder
        compiled = numba.njit(nogil=True, error_model="numpy")(function)
    return compiled


@_compiled
def _spread(values: np.ndarray, low: int, width: int, out: np.ndarray) -> None:
    """out[j] = the entry of column low + j."""
    if values.shape[0] == 1:
        out[:width] = values[0]
        return
    entry = low % values.shape[0]  # one division a block: one a column would take longer than the rest of a step
    for j in range(width):
        out[j] = values[entry]
        entry += 1
        if entry == values.shape[0]:
            entry = 0


@_compiled
def forward(
    x: np.ndarray,
    row: int,
    v0: np.ndarray,
    i0: np.ndarray,
    beta: np.ndarray,
    alpha: np.ndarray,
    threshold: np.ndarray,
    synapse: bool,
    fires: bool,
    reset: int,
    spikes: np.ndarray,
    membrane: np.ndarray,
    currents: np.ndarray,
    v_last: np.ndarray,
    i_last: np.ndarray,
    steps: int,
    start: int,
    stop: int,
) -> None:
    """Columns [start, stop) of M, all steps.

    Args:
        x: [T * M] flat, or [M] with row = 0 for a current that is the same at every step.
        row: elements from one step of x to the next, M or 0.
        v0, i0: [M] state before the first step (i0 unread without a synapse).
        beta, alpha, threshold: [P] with P = 1 or the number of neurons; column m has entry m % P.
        fires: False for the membrane alone: no spikes are written, nothing resets.
        spikes: [T, M], written if `fires`. membrane: [T, M] before the reset, written if it has T rows.
        currents: [T, M] the synapse, written if it has T rows. v_last, i_last: [M], written.
    """
    kind = v0.dtype.type
    v = np.empty(BLOCK, v0.dtype)
    i = np.empty(BLOCK, v0.dtype)
    u = np.empty(BLOCK, v0.dtype)
    b = np.empty(BLOCK, v0.dtype)
    a = np.empty(BLOCK, v0.dtype)
    th = np.empty(BLOCK, v0.dtype)
    keep_membrane = membrane.shape[0] == steps
    keep_currents = currents.shape[0] == steps
    zero, one = kind(0), kind(1)
    for low in range(start, stop, BLOCK):
        width = min(BLOCK, stop - low)
        _spread(beta, low, width, b)
        _spread(threshold, low, width, th)
        for j in range(width):
            v[j] = v0[low + j]
        if synapse:
            _spread(alpha, low, width, a)
            for j in range(width):
                i[j] = i0[low + j]
        for t in range(steps):
            now = x[t * row + low : t * row + low + width]
            if synapse:
                for j in range(width):
                    i[j] = a[j] * i[j] + now[j]
                if keep_currents:
                    kept_i = currents[t, low : low + width]
                    for j in range(width):
                        kept_i[j] = i[j]
                for j in range(width):
                    u[j] = b[j] * v[j] + i[j]
            else:
                for j in range(width):
                    u[j] = b[j] * v[j] + now[j]
            if keep_membrane:
                kept_u = membrane[t, low : low + width]
                for j in range(width):
                    kept_u[j] = u[j]
            if fires:
                s = spikes[t, low : low + width]
                for j in range(width):
                    s[j] = one if u[j] > th[j] else zero
            if fires and reset == ZERO:
                for j in range(width):
                    v[j] = zero if u[j] > th[j] else u[j]
            elif fires and reset == SUBTRACT:
                for j in range(width):
                    v[j] = u[j] - th[j] if u[j] > th[j] else u[j]
            else:
                for j in range(width):
                    v[j] = u[j]
        for j in range(width):
            v_last[low + j] = v[j]
        if synapse:
            for j in range(width):
                i_last[low + j] = i[j]


@_compiled
def backward(
    grad: np.ndarray,
    row: int,
    grad_v: np.ndarray,
    grad_i: np.ndarray,
    membrane: np.ndarray,
    currents: np.ndarray,
    v0: np.ndarray,
    i0: np.ndarray,
    beta: np.ndarray,
    alpha: np.ndarray,
    threshold: np.ndarray,
    synapse: bool,
    fires: bool,
    reset: int,
    detach: bool,
    surrogate: int,
    slope: float,
    grad_x: np.ndarray,
    grad_v0: np.ndarray,
    grad_i0: np.ndarray,
    grad_beta: np.ndarray,
    grad_alpha: np.ndarray,
    grad_threshold: np.ndarray,
    steps: int,
    start: int,
    stop: int,
) -> None:
    """Columns [start, stop), from the last step to the first. S is the gradient of s[t], V of v[t], g the surrogate:

        S' = S               (detach, or no reset)   S - u V  (zero)        S - threshold V  (subtract)
        U  = S' g(u - threshold) + V (1 - s)  (zero)   |   + V  (subtract, none)
        I  = U + alpha I[t+1];  dL/dx[t] = I;  V[t-1] = beta U
        beta gets U v[t-1], alpha gets I i[t-1], threshold gets -S' g, and -s V with "subtract"

    Args:
        grad: dL/ds, or dL/du without `fires`; flat, with `row` elements from step to step (0: the same at every step).
        grad_v, grad_i: [M] gradient of the state after the last step.
        membrane, currents: as `forward` kept them; `currents` has T rows exactly if the gradient of alpha is wanted.
        grad_beta, grad_alpha, grad_threshold: [M] each, one entry per column, written if not empty.
        The other arguments are those of `forward`.
    """
    kind = v0.dtype.type
    gv = np.empty(BLOCK, v0.dtype)
    gi = np.empty(BLOCK, v0.dtype)
    gs = np.empty(BLOCK, v0.dtype)
    g = np.empty(BLOCK, v0.dtype)
    b = np.empty(BLOCK, v0.dtype)
    a = np.empty(BLOCK, v0.dtype)
    th = np.empty(BLOCK, v0.dtype)
    to_beta = np.empty(BLOCK, v0.dtype)
    to_alpha = np.empty(BLOCK, v0.dtype)
    to_threshold = np.empty(BLOCK, v0.dtype)
    learn_beta, learn_threshold = grad_beta.shape[0] > 0, grad_threshold.shape[0] > 0
    learn_alpha = grad_alpha.shape[0] > 0
    zero, one, k = kind(0), kind(1), kind(slope)
    half_k, pi_k = kind(slope / 2), kind(np.pi / 2 * slope)
    for low in range(start, stop, BLOCK):
        width = min(BLOCK, stop - low)
        _spread(beta, low, width, b)
        _spread(threshold, low, width, th)
        for j in range(width):
            gv[j] = grad_v[low + j]
            to_beta[j] = zero
            to_alpha[j] = zero
            to_threshold[j] = zero
        if synapse:
            _spread(alpha, low, width, a)
            for j in range(width):
                gi[j] = grad_i[low + j]
        for back in range(steps):
            t = steps - 1 - back
            incoming = grad[t * row + low : t * row + low + width]
            out = grad_x[t, low : low + width]
            if fires:
                u = membrane[t, low : low + width]
                if surrogate == ATAN:
                    for j in range(width):
                        y = pi_k * (u[j] - th[j])
                        g[j] = half_k / (one + y * y)
                elif surrogate == FAST_SIGMOID:
                    for j in range(width):
                        y = one + k * abs(u[j] - th[j])
                        g[j] = one / (y * y)
                elif surrogate == SIGMOID:
                    for j in range(width):
                        y = one / (one + np.exp(-k * (u[j] - th[j])))
                        g[j] = k * y * (one - y)
                elif surrogate == TRIANGLE:
                    for j in range(width):
                        y = one - k * abs(u[j] - th[j])
                        g[j] = k * y if y > zero else zero
                elif surrogate == RECTANGLE:
                    for j in range(width):
                        g[j] = half_k if abs(u[j] - th[j]) < one / k else zero
                else:
                    for j in range(width):
                        g[j] = one
                if detach or (reset != ZERO and reset != SUBTRACT):
                    for j in range(width):
                        gs[j] = incoming[j] * g[j]
                elif reset == ZERO:
                    for j in range(width):
                        gs[j] = (incoming[j] - u[j] * gv[j]) * g[j]
                else:
                    for j in range(width):
                        gs[j] = (incoming[j] - th[j] * gv[j]) * g[j]
                if learn_threshold:
                    for j in range(width):
                        to_threshold[j] -= gs[j]
                    if reset == SUBTRACT:
                        for j in range(width):
                            to_threshold[j] -= gv[j] if u[j] > th[j] else zero
                if reset == ZERO:
                    for j in range(width):
                        gs[j] += zero if u[j] > th[j] else gv[j]
                else:
                    for j in range(width):
                        gs[j] += gv[j]
            else:
                for j in range(width):
                    gs[j] = incoming[j] + gv[j]
            if learn_beta:  # gs is the gradient of u[t] now
                if t == 0:
                    for j in range(width):
                        to_beta[j] += gs[j] * v0[low + j]
                else:
                    before = membrane[t - 1, low : low + width]
                    for j in range(width):
                        v = before[j]
                        if fires and v > th[j]:
                            if reset == ZERO:
                                v = zero
                            elif reset == SUBTRACT:
                                v -= th[j]
                        to_beta[j] += gs[j] * v
            for j in range(width):
                gv[j] = b[j] * gs[j]
            if synapse:
                for j in range(width):
                    gi[j] += gs[j]
                    out[j] = gi[j]
                if learn_alpha:
                    if t == 0:
                        for j in range(width):
                            to_alpha[j] += gi[j] * i0[low + j]
                    else:
                        kept = currents[t - 1, low : low + width]
                        for j in range(width):
                            to_alpha[j] += gi[j] * kept[j]
                for j in range(width):
                    gi[j] *= a[j]
            else:
                for j in range(width):
                    out[j] = gs[j]
        for j in range(width):
            grad_v0[low + j] = gv[j]
        if synapse:
            for j in range(width):
                grad_i0[low + j] = gi[j]
        if learn_beta:
            for j in range(width):
                grad_beta[low + j] = to_beta[j]
        if learn_alpha:
            for j in range(width):
                grad_alpha[low + j] = to_alpha[j]
        if learn_threshold:
            for j in range(width):
                grad_threshold[low + j] = to_threshold[j]
