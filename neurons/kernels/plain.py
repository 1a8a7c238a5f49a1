"""The shared equation in plain torch, step by step: works on every device, and is what the other backends match."""

from __future__ import annotations

from torch import Tensor

from neurons.kernels.torch_steps import after_reset
from neurons.surrogate import Surrogate, spike
from neurons.unroll import State, unroll


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
    """The LIF of `neurons.parameters.NeuronParameters`, with a synapse when `alpha` is given.

    Args:
        current: [T, B, *features].
        state: (membrane after the reset,) or (membrane, synapse), each [B, *features].
        beta, alpha, threshold: tensors that broadcast to [B, *features].

    Returns:
        spikes [T, B, *features] and the state after the last step.
    """

    def step(now: Tensor, state: State) -> tuple[Tensor, State]:
        if alpha is not None:
            now = alpha * state[1] + now
        u = beta * state[0] + now
        s = spike(u - threshold, surrogate)
        if detach_reset:
            v = after_reset(u, s.detach().bool(), threshold, reset)
        elif reset == "zero":
            v = u * (1 - s)
        elif reset == "subtract":
            v = u - threshold * s
        else:
            v = u
        return s, ((v,) if alpha is None else (v, now))

    return unroll(step, current, state)


def integrate(current: Tensor, state: State, *, beta: Tensor, alpha: Tensor | None) -> tuple[Tensor, State]:
    """The membrane without threshold and reset: v[t] = beta v[t-1] + i[t], i[t] = alpha i[t-1] + x[t].

    Args:
        current: [T, B, *features].
        state: (membrane,) or (membrane, synapse), each [B, *features].

    Returns:
        membrane [T, B, *features] and the state after the last step.
    """

    def step(now: Tensor, state: State) -> tuple[Tensor, State]:
        if alpha is not None:
            now = alpha * state[1] + now
        v = beta * state[0] + now
        return v, ((v,) if alpha is None else (v, now))

    return unroll(step, current, state)
