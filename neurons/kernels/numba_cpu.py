"""The shared equation for all T steps as two compiled loops, forward and backward, on the CPU.

Both walk through time for a block of columns (a column is one neuron of one sample) whose state fits the first-level
cache, so that each [T, B*N] tensor goes through memory once: forward reads x and writes s; backward reads x and the
gradient and writes the gradient of x. It computes the membrane of its block again, in cache, which takes less time
than writing it in forward and reading it back, and needs no memory in between.

Arguments lie in memory as `arguments_of(dtype)` lays them out, and whoever is called with the same ones shares the
columns with the others, see `neurons.kernels.threads`.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from llvmlite.binding import get_host_cpu_features, get_host_cpu_name

from neurons import parameters
from neurons.kernels import addresses, codes
from neurons.kernels import numba_rows as rows
from neurons.kernels.addresses import array_at, take
from neurons.kernels.codes import ATAN, NONE
from neurons.kernels.numba_rows import (
    ALL,
    ALPHA,
    BETA,
    BLOCK,
    GRAD_I,
    GRAD_U,
    GRAD_V,
    INTO_SPIKE,
    MEMBRANE,
    SYNAPSE,
    THRESHOLD,
    THROUGH,
    TO_ALPHA,
    TO_BETA,
    TO_THRESHOLD,
)

RECOMPUTED = 1 << 17
"""Elements of membrane that backward keeps at a time: 512 KiB of float32, within a second-level cache."""

_FIELDS = (
    "next_share",  # counted up by `take`, hence the first
    *("share", "columns", "steps", "synapse", "fires", "reset", "detach", "surrogate"),
    *("x", "x_row", "v0", "i0", "beta", "beta_count", "alpha", "alpha_count", "threshold", "threshold_count"),
    *("out", "v_last", "i_last"),
    *("grad", "grad_row", "grad_v", "grad_i"),
    *("grad_v0", "grad_i0", "grad_beta", "grad_alpha", "grad_threshold"),
)


@functools.cache
def arguments_of(dtype: torch.dtype) -> type[ctypes.Structure]:
    """The arguments of both kernels for tensors of float32 or float64. Tensors are addresses, 0 for one that is absent.

    share: columns that a thread takes at a time.
    synapse, fires, detach: 0 or 1; fires 0 is for the membrane alone. reset, surrogate: as in `neurons.kernels.codes`.
    x, x_row: the current [T * M], x_row elements from one step to the next; 0 if all steps are the one [M].
    v0, i0, v_last, i_last, and in backward grad_v, grad_i: [M], the state before and after all steps, and its gradient.
    beta, alpha, threshold: as many as the counts say, 1 or the number of neurons; column m has entry m % count.
    out: [T * M], forward: the spikes, or the membrane if nothing fires; backward: the gradient of x.
    grad, grad_row: backward: the gradient of forward's out, laid out like x.
    grad_v0, grad_i0, grad_beta, grad_alpha, grad_threshold: backward: [M], one entry per column, written if present
        (grad_i0 along with grad_v0).
    slope: of the surrogate.
    """
    number = ctypes.c_double if dtype == torch.float64 else ctypes.c_float
    fields = [*((name, ctypes.c_int64) for name in _FIELDS), ("slope", number)]
    return type(f"Arguments_{dtype}".replace(".", "_"), (ctypes.Structure,), {"_fields_": fields})


@rows.compiled
def _copy(values: np.ndarray, start: int, out: np.ndarray, place: int, width: int) -> None:
    for j in range(width):
        out[place + j] = values[start + j]


@rows.compiled
def _spread(values: np.ndarray, low: int, s: np.ndarray, place: int, width: int) -> None:
    """s[place + j] = the entry of column low + j."""
    count = values.shape[0]
    if count == 1:
        value = values[0]
        for j in range(width):
            s[place + j] = value
        return
    entry = low % count  # one division a block: one a column would take longer than the rest of a step
    for j in range(width):
        s[place + j] = values[entry]
        entry += 1
        if entry == count:
            entry = 0


@rows.compiled
def _fill(s: np.ndarray, place: int, values: np.ndarray, low: int, width: int) -> None:
    """A row of `s` from the columns that start at `low`; zeros if there are none."""
    if values.shape[0] > 0:
        _copy(values, low, s, place, width)
    else:
        for j in range(width):
            s[place + j] = s.dtype.type(0)


@rows.compiled
def _set_state(a: Any, s: np.ndarray, low: int, width: int) -> None:
    """State, decays and threshold of the columns from `low` on."""
    like = a.slope
    _fill(s, MEMBRANE, array_at(a.v0, a.columns, like), low, width)
    _spread(array_at(a.beta, a.beta_count, like), low, s, BETA, width)
    _spread(array_at(a.threshold, a.threshold_count, like), low, s, THRESHOLD, width)
    if a.synapse:
        _fill(s, SYNAPSE, array_at(a.i0, a.columns, like), low, width)
        _spread(array_at(a.alpha, a.alpha_count, like), low, s, ALPHA, width)


@rows.compiled
def _steps(
    x: np.ndarray,
    x_row: int,
    low: int,
    width: int,
    steps: int,
    s: np.ndarray,
    synapse: bool,
    reset: int,
    spikes: bool,
    out: np.ndarray,
    out_row: int,
    out_low: int,
    currents: np.ndarray,
) -> None:
    """Columns from `low` on, all steps, from the state in `s` to the last one.

    `out` gets the spikes, or without `spikes` the membrane before the reset, `currents` the synapse unless it is empty.
    In both the first of these columns has place `out_low`, and `out_row` elements lie between steps.
    """
    for t in range(steps):
        now = x[t * x_row + low : t * x_row + low + width]
        written = t * out_row + out_low
        row = out[written : written + width]
        if synapse:
            rows.add_to_synapse(now, s, width)
            now = s[SYNAPSE : SYNAPSE + width]
            if currents.shape[0] > 0:
                _copy(s, SYNAPSE, currents, written, width)
        if spikes:
            rows.step_to_spikes(now, s, row, reset, width)
        else:
            rows.step_to_membrane(now, s, row, reset, width)


@rows.compiled
def _forward(pointer: Any) -> None:
    """s[t] or V[t] and the last state, see `neurons.parameters.NeuronParameters`."""
    a = numba.carray(pointer, 1)[0]
    columns, like = a.columns, a.slope
    x = array_at(a.x, a.steps * columns if a.x_row > 0 else columns, like)
    out, nothing = array_at(a.out, a.steps * columns, like), array_at(a.out, 0, like)
    s = np.empty(ALL, x.dtype)
    block = BLOCK // 2  # reading x and writing out alone, two shorter rows are faster than a longer one
    while True:
        start = take(pointer) * a.share
        if start >= columns:
            break
        stop = min(start + a.share, columns)
        for low in range(start, stop, block):
            width = min(block, stop - low)
            _set_state(a, s, low, width)
            _steps(
                x, a.x_row, low, width, a.steps, s, a.synapse != 0, a.reset, a.fires != 0, out, columns, low, nothing
            )
            _copy(s, MEMBRANE, array_at(a.v_last, columns, like), low, width)
            if a.synapse:
                _copy(s, SYNAPSE, array_at(a.i_last, columns, like), low, width)


@rows.compiled
def _backward(pointer: Any) -> None:
    """From the last step to the first. S is the gradient of s[t], V of v[t], g the surrogate:

    S' = S               (detach, or no reset)   S - u V  (zero)        S - threshold V  (subtract)
    U  = S' g(u - threshold) + V (1 - s)  (zero)   |   + V  (subtract, none)
    I  = U + alpha I[t+1];  dL/dx[t] = I;  V[t-1] = beta U
    beta gets U v[t-1], alpha gets I i[t-1], threshold gets -S' g, and -s V with "subtract"
    """
    a = numba.carray(pointer, 1)[0]
    columns, steps, like, reset = a.columns, a.steps, a.slope, a.reset
    synapse, fires = a.synapse != 0, a.fires != 0
    resets_in_gradient = a.detach == 0 and reset != NONE
    learn_beta, learn_alpha, learn_threshold = a.grad_beta != 0, a.grad_alpha != 0, a.grad_threshold != 0
    in_one_pass = a.surrogate == ATAN and not learn_threshold
    x = array_at(a.x, steps * columns if a.x_row > 0 else columns, like)
    grad = array_at(a.grad, steps * columns if a.grad_row > 0 else columns, like)
    out = array_at(a.out, steps * columns, like)
    v0, i0 = array_at(a.v0, columns, like), array_at(a.i0, columns, like)
    block = min(BLOCK, columns, max(64, RECOMPUTED // steps))
    again = fires or learn_beta or learn_alpha
    membrane = np.empty(steps * block if again else 0, x.dtype)
    currents = np.empty(steps * block if learn_alpha else 0, x.dtype)
    s = np.empty(ALL, x.dtype)
    while True:
        start = take(pointer) * a.share
        if start >= columns:
            break
        stop = min(start + a.share, columns)
        for low in range(start, stop, block):
            width = min(block, stop - low)
            _set_state(a, s, low, width)
            if again:
                _steps(x, a.x_row, low, width, steps, s, synapse, reset, False, membrane, block, 0, currents)
            _fill(s, GRAD_V, array_at(a.grad_v, columns if a.grad_v != 0 else 0, like), low, width)
            _fill(s, GRAD_I, array_at(a.grad_i, columns if a.grad_i != 0 else 0, like), low, width)
            if learn_beta or learn_alpha or learn_threshold:
                for place in range(TO_BETA, THROUGH):
                    s[place] = like * 0
            for back in range(steps):
                t = steps - 1 - back
                incoming = grad[t * a.grad_row + low : t * a.grad_row + low + width]
                row = out[t * columns + low : t * columns + low + width]
                grad_u = s[GRAD_U : GRAD_U + width] if synapse else row
                u = membrane[t * block : t * block + width] if again else incoming
                if resets_in_gradient:
                    rows.less_what_resets(incoming, u, s, reset, width)
                    incoming = s[INTO_SPIKE : INTO_SPIKE + width]
                if fires and in_one_pass:
                    rows.through_atan_into_membrane(incoming, u, s, grad_u, reset, like, width)
                else:
                    if fires:
                        rows.through_spike(incoming, u, s, a.surrogate, like, width)
                        incoming = s[THROUGH : THROUGH + width]
                        if learn_threshold:
                            rows.into_threshold(u, s, reset, width)
                    rows.into_membrane(incoming, u, s, grad_u, reset, width)
                if learn_beta and t == 0:
                    rows.into_beta(grad_u, v0[low : low + width], s, NONE, width)
                elif learn_beta:
                    rows.into_beta(grad_u, membrane[(t - 1) * block : (t - 1) * block + width], s, reset, width)
                if synapse:
                    rows.into_synapse(s, row, width)
                    if learn_alpha:
                        before = (
                            i0[low : low + width] if t == 0 else currents[(t - 1) * block : (t - 1) * block + width]
                        )
                        rows.into_alpha(before, s, width)
                    rows.decay_synapse_gradient(s, width)
            if a.grad_v0 != 0:
                _copy(s, GRAD_V, array_at(a.grad_v0, columns, like), low, width)
                if synapse:
                    _copy(s, GRAD_I, array_at(a.grad_i0, columns, like), low, width)
            if learn_beta:
                _copy(s, TO_BETA, array_at(a.grad_beta, columns, like), low, width)
            if learn_alpha:
                _copy(s, TO_ALPHA, array_at(a.grad_alpha, columns, like), low, width)
            if learn_threshold:
                _copy(s, TO_THRESHOLD, array_at(a.grad_threshold, columns, like), low, width)


@functools.cache
def forward_at(dtype: torch.dtype) -> int:
    """The address of the compiled forward for tensors of `dtype`."""

    def entry(sources: str) -> Callable[[Any], None]:
        def forward(pointer: Any) -> None:
            len(sources)
            _forward(pointer)

        return forward

    return _address(entry, dtype)


@functools.cache
def backward_at(dtype: torch.dtype) -> int:
    """The address of the compiled backward for tensors of `dtype`."""

    def entry(sources: str) -> Callable[[Any], None]:
        def backward(pointer: Any) -> None:
            len(sources)
            _backward(pointer)

        return backward

    return _address(entry, dtype)


_loaded: list[Any] = []
"""Holds compiled code where its address says it is."""


def _address(entry: Callable[[str], Callable[[Any], None]], dtype: torch.dtype) -> int:
    """Compiled, and kept on disk where numba finds a writable place.

    numba knows kept code by this file and by what the function closes over, which is the text of everything that was
    compiled into it: with another version of any of these it compiles again. It keeps all code of one name in one
    index, and two processes that enter their code at the same time may give it the same place: one would then run the
    other's. So whatever leads to other code, dtype and processor included, has a name of its own.
    """
    texts = [Path(str(module.__file__)).read_bytes() for module in (parameters, codes, addresses, rows)]
    processor = f"{numba.__version__} {get_host_cpu_name()} {get_host_cpu_features().flatten()}"
    sources = hashlib.sha256(b"".join([*texts, processor.encode()])).hexdigest()
    function = entry(sources)
    function.__qualname__ = f"{function.__name__}-{str(dtype).removeprefix('torch.')}-{sources[:16]}"
    signature = numba.void(numba.types.CPointer(numba.from_dtype(np.dtype(arguments_of(dtype)))))
    try:
        compiled = numba.cfunc(signature, cache=True)(function)
    except (RuntimeError, OSError):
        # numba: "cannot cache function": neither the package nor the user has a writable folder, or its disk is full.
        compiled = numba.cfunc(signature)(function)
    _loaded.append(compiled)
    assert compiled.address is not None
    return int(compiled.address)
