"""The oracle: every equation once more, step by step in float64, as plainly as it can be written.

Nothing here shares code with the neurons. Gradients come from a different construction as well: a spike is
step(x) + (G(x) - G(x).detach()) with G the antiderivative of the surrogate, so that its value is the step's and its
derivative is G' = g. The implementations are tested against these functions, values and gradients.

Shapes: current [T, B, *features], everything else [B, *features] or a scalar; float64 throughout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def antiderivative(name: str, k: float, x: Tensor) -> Tensor:
    """G with G' = g, the surrogate derivative `name` of slope `k` (up to a constant), at x of any shape.

    atan: arctan(pi k x / 2) / pi; fast_sigmoid: x / (1 + k |x|); sigmoid: 1 / (1 + exp(-k x)); triangle: k (y - k y |y|
    / 2) and rectangle: k y / 2, both with y = x cut to [-1/k, 1/k]; ste: x. Raises `ValueError` for another name.
    """
    if name == "atan":
        return torch.atan(math.pi / 2 * k * x) / math.pi
    if name == "fast_sigmoid":
        return x / (1 + k * x.abs())
    if name == "sigmoid":
        return torch.sigmoid(k * x)
    if name == "triangle":
        inside = x.clamp(-1 / k, 1 / k)
        return k * (inside - k * inside * inside.abs() / 2)
    if name == "rectangle":
        return k / 2 * x.clamp(-1 / k, 1 / k)
    if name == "ste":
        return x
    raise ValueError(f"no antiderivative for surrogate {name!r}")


def fire(x: Tensor, name: str, k: float) -> Tensor:
    """s = [x > 0] of any shape, with ds/dx = g(x) of the surrogate `name` of slope `k`.

    Raises `ValueError` for another name.
    """
    soft = antiderivative(name, k, x)
    return (x > 0).to(x.dtype) + (soft - soft.detach())


@dataclass
class Trace:
    """What a reference run leaves: spikes and membrane before the reset, both [T, B, *features]."""

    spikes: Tensor
    membrane: Tensor


def lif(
    current: Tensor,
    *,
    beta: Tensor | float,
    alpha: Tensor | float | None = None,
    threshold: Tensor | float = 1.0,
    reset: str = "zero",
    detach_reset: bool = True,
    surrogate: str = "atan",
    slope: float = 2.0,
) -> Trace:
    """LIF, with a synapse when `alpha` is given; starts at rest, v[-1] = i[-1] = 0. From current x [T, B, *features]:

        i[t] = alpha i[t-1] + x[t]  (without alpha: x[t]),  u[t] = beta v[t-1] + i[t],  s[t] = [u[t] > threshold]
        v[t] = u[t] (1 - s[t])  (zero),  u[t] - threshold s[t]  (subtract),  u[t]  (none)

    Returns s and the membrane u before the reset. With `detach_reset` the s in v[t] is a constant to gradients. Raises
    `ValueError` for an unknown reset or surrogate.
    """
    if reset not in ("zero", "subtract", "none"):
        raise ValueError(f"no reset {reset!r}")
    v = i = torch.zeros_like(current[0])
    spikes, membrane = [], []
    for x in current:
        i = x if alpha is None else alpha * i + x
        u = beta * v + i
        s = fire(u - threshold, surrogate, slope)
        in_reset = s.detach() if detach_reset else s
        if reset == "zero":
            v = u * (1 - in_reset)
        elif reset == "subtract":
            v = u - threshold * in_reset
        else:
            v = u
        spikes.append(s)
        membrane.append(u)
    return Trace(torch.stack(spikes), torch.stack(membrane))


def paralif(
    current: Tensor,
    mode: str,
    *,
    beta: Tensor | float,
    alpha: Tensor | float | None = None,
    gain: Tensor | float = 1.0,
    threshold: Tensor | float = 1.0,
    surrogate: str = "atan",
    slope: float = 2.0,
    uniform: Tensor | None = None,
    equation_18: bool = False,
) -> Trace:
    """ParaLIF without recurrence, starting at rest, V[-1] = i[-1] = 0. From current x [T, B, *features]:

        i[t] = alpha i[t-1] + x[t]  (without alpha: x[t]),  V[t] = beta V[t-1] + gain i[t]

    and with n = V, sigmoid(V), tanh(V) or relu(tanh(V)) for the modes that begin with nothing, s, t or tr,

        ...t:  s[t] = [n[t] > n(threshold)]           ...d:  s[t] = [n[t] - n[t-1] > threshold],  n[-1] = 0
        ...b:  s[t] = [n[t] > uniform[t]]             gs:    s[t] = [2 V[t] + logit(uniform[t]) > 0]

    Returns s and V. Raises `ValueError` for an unknown mode or surrogate.

    `threshold` is the rise per step in delta modes; `uniform` [T, B, *features] holds the draws of stochastic modes;
    `equation_18` weighs the gradient of Bernoulli spikes by their probability.
    """
    V = i = before = torch.zeros_like(current[0])
    height = torch.as_tensor(threshold, dtype=V.dtype)
    spikes, membrane = [], []
    for t, x in enumerate(current):
        i = x if alpha is None else alpha * i + x
        V = beta * V + gain * i
        if mode in ("sb", "sd", "st"):
            n, level = torch.sigmoid(V), torch.sigmoid(height)
        elif mode in ("td", "tt"):
            n, level = torch.tanh(V), torch.tanh(height)
        elif mode in ("trb", "trd", "trt"):
            n, level = torch.relu(torch.tanh(V)), torch.relu(torch.tanh(height))
        else:
            n, level = V, height
        if mode in ("t", "st", "tt", "trt"):
            s = fire(n - level, surrogate, slope)
        elif mode in ("d", "sd", "td", "trd"):
            s = fire(n - before - threshold, surrogate, slope)
            before = n
        elif mode in ("sb", "trb"):
            assert uniform is not None
            soft = n * n / 2 if equation_18 else n  # the derivative of the former is n
            s = (n > uniform[t]).to(n.dtype) + (soft - soft.detach())
        elif mode == "gs":
            assert uniform is not None
            noise = torch.log(uniform[t]) - torch.log1p(-uniform[t])
            soft = torch.sigmoid(2 * V + noise)  # exp(V) / (exp(V) + exp(-V - noise)) without overflow
            s = (soft > 0.5).to(V.dtype) + (soft - soft.detach())
        else:
            raise ValueError(f"no ParaLIF mode {mode!r}")
        spikes.append(s)
        membrane.append(V)
    return Trace(torch.stack(spikes), torch.stack(membrane))
