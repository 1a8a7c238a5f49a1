"""One step of one block of columns, forward and backward: small functions of simple loops, which numba compiles into
its callers in `neurons.kernels.numba_cpu`.

What a block keeps from step to step lies in one array `s`, a row of `BLOCK` columns per quantity at a fixed place: the
compiler vectorises a loop only where few checks at run time show that its arrays do not overlap, and rows at fixed
places in one array need none. Products and sums are not contracted or reordered: spikes are those of
`neurons.kernels.plain`, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np

from neurons.kernels.codes import ATAN, FAST_SIGMOID, RECTANGLE, SIGMOID, SUBTRACT, TRIANGLE, ZERO

BLOCK = 1024
"""Columns per block: 4 KiB of float32 a row, few of which every step touches, so that they stay in fast cache."""

MEMBRANE, BETA, THRESHOLD, GRAD_V, TO_BETA, TO_THRESHOLD, TO_ALPHA, THROUGH = range(0, 8 * BLOCK, BLOCK)
SYNAPSE, ALPHA, GRAD_I, GRAD_U, INTO_SPIKE = range(8 * BLOCK, 13 * BLOCK, BLOCK)
ALL = 13 * BLOCK
"""The second five come as arguments of their own as well; no function touches rows on both sides of such an argument,
where the check that compares the ends of what it touches would find that the two overlap."""

compiled = numba.njit(nogil=True, error_model="numpy")


def _stepping(spikes: bool) -> Callable[..., None]:
    @compiled
    def step(now: np.ndarray, s: np.ndarray, out: np.ndarray, reset: int, width: int) -> None:
        zero, one = s.dtype.type(0), s.dtype.type(1)
        if reset == ZERO:
            for j in range(width):
                u = s[BETA + j] * s[MEMBRANE + j] + now[j]
                fired = u > s[THRESHOLD + j]
                out[j] = (one if fired else zero) if spikes else u
                s[MEMBRANE + j] = zero if fired else u
        elif reset == SUBTRACT:
            for j in range(width):
                u = s[BETA + j] * s[MEMBRANE + j] + now[j]
                fired = u > s[THRESHOLD + j]
                out[j] = (one if fired else zero) if spikes else u
                s[MEMBRANE + j] = u - s[THRESHOLD + j] if fired else u
        else:
            for j in range(width):
                u = s[BETA + j] * s[MEMBRANE + j] + now[j]
                out[j] = (one if u > s[THRESHOLD + j] else zero) if spikes else u
                s[MEMBRANE + j] = u

    return step


# MEMBRANE = what the reset leaves of u = beta MEMBRANE + now; out = the spikes, or u.
step_to_spikes, step_to_membrane = _stepping(True), _stepping(False)


@compiled
def add_to_synapse(now: np.ndarray, s: np.ndarray, width: int) -> None:
    """I = alpha SYNAPSE + now."""
    for j in range(width):
        s[SYNAPSE + j] = s[ALPHA + j] * s[SYNAPSE + j] + now[j]


@compiled
def less_what_resets(incoming: np.ndarray, u: np.ndarray, s: np.ndarray, reset: int, width: int) -> None:
    """INTO_SPIKE = incoming, less what reaches the spike through its reset."""
    if reset == ZERO:
        for j in range(width):
            s[INTO_SPIKE + j] = incoming[j] - u[j] * s[GRAD_V + j]
    else:
        for j in range(width):
            s[INTO_SPIKE + j] = incoming[j] - s[THRESHOLD + j] * s[GRAD_V + j]


@compiled
def through_spike(incoming: np.ndarray, u: np.ndarray, s: np.ndarray, surrogate: int, slope: float, width: int) -> None:
    """THROUGH = incoming g(u - threshold), with g from the table in `neurons.surrogate`."""
    kind = s.dtype.type  # a literal would be float64
    zero, one, k, half_k, pi_k = kind(0), kind(1), slope, kind(slope / 2), kind(np.pi / 2 * slope)
    if surrogate == ATAN:
        for j in range(width):
            y = pi_k * (u[j] - s[THRESHOLD + j])
            s[THROUGH + j] = incoming[j] * (half_k / (one + y * y))
    elif surrogate == FAST_SIGMOID:
        for j in range(width):
            y = one + k * abs(u[j] - s[THRESHOLD + j])
            s[THROUGH + j] = incoming[j] / (y * y)
    elif surrogate == SIGMOID:
        for j in range(width):
            y = one / (one + np.exp(-k * (u[j] - s[THRESHOLD + j])))
            s[THROUGH + j] = incoming[j] * (k * y * (one - y))
    elif surrogate == TRIANGLE:
        for j in range(width):
            y = one - k * abs(u[j] - s[THRESHOLD + j])
            s[THROUGH + j] = incoming[j] * (k * y if y > zero else zero)
    elif surrogate == RECTANGLE:
        for j in range(width):
            s[THROUGH + j] = incoming[j] * (half_k if abs(u[j] - s[THRESHOLD + j]) < one / k else zero)
    else:
        for j in range(width):
            s[THROUGH + j] = incoming[j]


@compiled
def into_membrane(incoming: np.ndarray, u: np.ndarray, s: np.ndarray, out: np.ndarray, reset: int, width: int) -> None:
    """out = the gradient of u: incoming, and GRAD_V unless u went to zero. GRAD_V = beta out, for the step before."""
    zero = s.dtype.type(0)
    if reset == ZERO:
        for j in range(width):
            later = s[GRAD_V + j]
            gu = incoming[j] + (zero if u[j] > s[THRESHOLD + j] else later)
            s[GRAD_V + j] = s[BETA + j] * gu
            out[j] = gu
    else:
        for j in range(width):
            gu = incoming[j] + s[GRAD_V + j]
            s[GRAD_V + j] = s[BETA + j] * gu
            out[j] = gu


@compiled
def through_atan_into_membrane(
    incoming: np.ndarray, u: np.ndarray, s: np.ndarray, out: np.ndarray, reset: int, slope: float, width: int
) -> None:
    """`through_spike` and `into_membrane` in one pass, for the surrogate that is used unless another is asked for."""
    kind = s.dtype.type
    zero, one, half_k, pi_k = kind(0), kind(1), kind(slope / 2), kind(np.pi / 2 * slope)
    if reset == ZERO:
        for j in range(width):
            later = s[GRAD_V + j]
            y = pi_k * (u[j] - s[THRESHOLD + j])
            gu = incoming[j] * (half_k / (one + y * y)) + (zero if u[j] > s[THRESHOLD + j] else later)
            s[GRAD_V + j] = s[BETA + j] * gu
            out[j] = gu
    else:
        for j in range(width):
            y = pi_k * (u[j] - s[THRESHOLD + j])
            gu = incoming[j] * (half_k / (one + y * y)) + s[GRAD_V + j]
            s[GRAD_V + j] = s[BETA + j] * gu
            out[j] = gu


@compiled
def into_synapse(s: np.ndarray, out: np.ndarray, width: int) -> None:
    """out = GRAD_I = the gradient of i: GRAD_U, and GRAD_I of the step after."""
    for j in range(width):
        gi = s[GRAD_I + j] + s[GRAD_U + j]
        s[GRAD_I + j] = gi
        out[j] = gi


@compiled
def decay_synapse_gradient(s: np.ndarray, width: int) -> None:
    """GRAD_I = alpha GRAD_I, for the step before."""
    for j in range(width):
        s[GRAD_I + j] *= s[ALPHA + j]


@compiled
def into_beta(grad_u: np.ndarray, before: np.ndarray, s: np.ndarray, reset: int, width: int) -> None:
    """TO_BETA += grad_u v[t-1], where v[t-1] is what the reset left of the membrane `before`."""
    zero = s.dtype.type(0)
    if reset == ZERO:
        for j in range(width):
            s[TO_BETA + j] += grad_u[j] * (zero if before[j] > s[THRESHOLD + j] else before[j])
    elif reset == SUBTRACT:
        for j in range(width):
            v = before[j] - s[THRESHOLD + j] if before[j] > s[THRESHOLD + j] else before[j]
            s[TO_BETA + j] += grad_u[j] * v
    else:
        for j in range(width):
            s[TO_BETA + j] += grad_u[j] * before[j]


@compiled
def into_alpha(before: np.ndarray, s: np.ndarray, width: int) -> None:
    """TO_ALPHA += GRAD_I i[t-1]."""
    for j in range(width):
        s[TO_ALPHA + j] += s[GRAD_I + j] * before[j]


@compiled
def into_threshold(u: np.ndarray, s: np.ndarray, reset: int, width: int) -> None:
    """TO_THRESHOLD -= THROUGH, as `through_spike` left it, and GRAD_V of those that had the threshold subtracted."""
    zero = s.dtype.type(0)
    for j in range(width):
        s[TO_THRESHOLD + j] -= s[THROUGH + j]
    if reset == SUBTRACT:
        for j in range(width):
            s[TO_THRESHOLD + j] -= s[GRAD_V + j] if u[j] > s[THRESHOLD + j] else zero
