"""The shared equation for all T steps as two compiled loops, forward and backward, on the CPU.

Both walk through time for a block of columns (a column is one neuron of one sample) whose state fits the first-level
cache, so that each [T, B*N] tensor goes through memory once: forward reads x and writes s; backward reads x and the
gradient and writes the gradient of x. It computes the membrane of its block again, in cache, which takes less time
than writing it in forward and reading it back, and needs no memory in between.
Branches stand outside the innermost loops, which the compiler vectorises. Products and sums are not contracted or
reordered: spikes are those of `neurons.kernels.plain`, bit for bit.

The kernels release the interpreter lock and are called from threads over ranges of columns. numba's own parallel loops
are not used: its portable threading layer aborts the process when two Python threads enter it at once.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np

from neurons.kernels.codes import ATAN, FAST_SIGMOID, RECTANGLE, SIGMOID, SUBTRACT, TRIANGLE, ZERO

BLOCK = 1024
"""Columns per block: the four float32 rows that every step touches take 16 KiB."""

RECOMPUTED = 1 << 17
"""Elements of membrane that backward keeps at a time: 512 KiB of float32, within a second-level cache."""


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
    as_spikes: bool,
    out: np.ndarray,
    currents: np.ndarray,
    v_last: np.ndarray,
    i_last: np.ndarray,
    steps: int,
    start: int,
    stop: int,
    origin: int,
) -> None:
    """Columns [start, stop) of M, all steps. What is written has column m at place m - origin.

    Args:
        x: [T * M] flat, or [M] with row = 0 for a current that is the same at every step.
        row: elements from one step of x to the next, M or 0.
        v0, i0: [M] state before the first step (i0 unread without a synapse).
        beta, alpha, threshold: [P] with P = 1 or the number of neurons; column m has entry m % P.
        fires: False for the membrane alone: nothing resets.
        out: [T, M], written: the spikes if `as_spikes`, else the membrane before the reset.
        currents: [T, M] the synapse, written if it has T rows. v_last, i_last: [M], written unless empty.
    """
    # One array for all rows of scratch: the compiler needs no check at run time that they do not overlap, and
    # vectorises only loops with few such checks.
    scratch = np.empty((5, BLOCK), v0.dtype)
    v, i, b, a, th = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4]
    keep_currents = currents.shape[0] == steps
    zero, one = v0.dtype.type(0), v0.dtype.type(1)
    for low in range(start, stop, BLOCK):
        width = min(BLOCK, stop - low)
        place = low - origin
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
            u = out[t, place : place + width]
            if synapse:
                for j in range(width):
                    i[j] = a[j] * i[j] + now[j]
                now = i[:width]
                if keep_currents:
                    kept = currents[t, place : place + width]
                    for j in range(width):
                        kept[j] = i[j]
            if not fires:
                for j in range(width):
                    v[j] = b[j] * v[j] + now[j]
                    u[j] = v[j]
                continue
            if reset == ZERO:
                for j in range(width):
                    after = b[j] * v[j] + now[j]
                    u[j] = after
                    v[j] = zero if after > th[j] else after
            elif reset == SUBTRACT:
                for j in range(width):
                    after = b[j] * v[j] + now[j]
                    u[j] = after
                    v[j] = after - th[j] if after > th[j] else after
            else:
                for j in range(width):
                    v[j] = b[j] * v[j] + now[j]
                    u[j] = v[j]
            if as_spikes:  # while the row is in the first-level cache
                for j in range(width):
                    u[j] = one if u[j] > th[j] else zero
        if v_last.shape[0] > 0:
            for j in range(width):
                v_last[place + j] = v[j]
        if i_last.shape[0] > 0:
            for j in range(width):
                i_last[place + j] = i[j]


@_compiled
def backward(
    grad: np.ndarray,
    row: int,
    grad_v: np.ndarray,
    grad_i: np.ndarray,
    x: np.ndarray,
    x_row: int,
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
        x, x_row: forward's x and row.
        grad_v0, grad_i0, grad_beta, grad_alpha, grad_threshold: [M] each, one entry per column, written if not empty
            (grad_i0 along with grad_v0).
        The other arguments are those of `forward`.
    """
    kind = v0.dtype.type
    scratch = np.empty((9, BLOCK), v0.dtype)  # one array, for the reason that `forward` gives
    gv, gi, gu, b, a, th = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4], scratch[5]
    to_beta, to_alpha, to_threshold = scratch[6], scratch[7], scratch[8]
    learn_beta, learn_threshold = grad_beta.shape[0] > 0, grad_threshold.shape[0] > 0
    learn_alpha, learn_state = grad_alpha.shape[0] > 0, grad_v0.shape[0] > 0
    zero, one, k = kind(0), kind(1), kind(slope)
    half_k, pi_k = kind(slope / 2), kind(np.pi / 2 * slope)
    block = min(BLOCK, max(64, RECOMPUTED // steps))
    again = fires or learn_beta or learn_alpha
    membrane = np.empty((steps if again else 0, block), v0.dtype)
    currents = np.empty((steps if learn_alpha else 0, block), v0.dtype)
    none = np.empty(0, v0.dtype)
    for low in range(start, stop, block):
        width = min(block, stop - low)
        if again:
            forward(
                x, x_row, v0, i0, beta, alpha, threshold, synapse, fires, reset,
                False, membrane, currents, none, none, steps, low, low + width, low,
            )  # fmt: skip
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
                u = membrane[t, :width]
                if surrogate == ATAN:
                    for j in range(width):
                        y = pi_k * (u[j] - th[j])
                        gu[j] = half_k / (one + y * y)
                elif surrogate == FAST_SIGMOID:
                    for j in range(width):
                        y = one + k * abs(u[j] - th[j])
                        gu[j] = one / (y * y)
                elif surrogate == SIGMOID:
                    for j in range(width):
                        y = one / (one + np.exp(-k * (u[j] - th[j])))
                        gu[j] = k * y * (one - y)
                elif surrogate == TRIANGLE:
                    for j in range(width):
                        y = one - k * abs(u[j] - th[j])
                        gu[j] = k * y if y > zero else zero
                elif surrogate == RECTANGLE:
                    for j in range(width):
                        gu[j] = half_k if abs(u[j] - th[j]) < one / k else zero
                else:
                    for j in range(width):
                        gu[j] = one
                if learn_threshold:
                    for j in range(width):
                        within = zero
                        if not detach and reset == ZERO:
                            within = u[j] * gv[j]
                        elif not detach and reset == SUBTRACT:
                            within = th[j] * gv[j]
                        to_threshold[j] -= (incoming[j] - within) * gu[j]
                    if reset == SUBTRACT:
                        for j in range(width):
                            to_threshold[j] -= gv[j] if u[j] > th[j] else zero
                if reset == ZERO and detach:
                    for j in range(width):
                        gu[j] = incoming[j] * gu[j] + (zero if u[j] > th[j] else gv[j])
                elif reset == ZERO:
                    for j in range(width):
                        gu[j] = (incoming[j] - u[j] * gv[j]) * gu[j] + (zero if u[j] > th[j] else gv[j])
                elif reset == SUBTRACT and not detach:
                    for j in range(width):
                        gu[j] = (incoming[j] - th[j] * gv[j]) * gu[j] + gv[j]
                else:
                    for j in range(width):
                        gu[j] = incoming[j] * gu[j] + gv[j]
            else:
                for j in range(width):
                    gu[j] = incoming[j] + gv[j]
            if learn_beta:
                if t == 0:
                    for j in range(width):
                        to_beta[j] += gu[j] * v0[low + j]
                else:
                    before = membrane[t - 1, :width]
                    for j in range(width):
                        v = before[j]
                        if fires and v > th[j]:
                            if reset == ZERO:
                                v = zero
                            elif reset == SUBTRACT:
                                v -= th[j]
                        to_beta[j] += gu[j] * v
            if not synapse:
                for j in range(width):
                    gv[j] = b[j] * gu[j]
                    out[j] = gu[j]
                continue
            for j in range(width):
                gv[j] = b[j] * gu[j]
                gi[j] += gu[j]
                out[j] = gi[j]
            if learn_alpha:
                if t == 0:
                    for j in range(width):
                        to_alpha[j] += gi[j] * i0[low + j]
                else:
                    kept = currents[t - 1, :width]
                    for j in range(width):
                        to_alpha[j] += gi[j] * kept[j]
            for j in range(width):
                gi[j] *= a[j]
        if learn_state:
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
