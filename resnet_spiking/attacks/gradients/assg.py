"""Adaptive-sharpness surrogate gradients (ASSG)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from neurons import Neuron
from neurons.replay import Replay
from resnet_spiking.attacks.gradients.names import with_value
from resnet_spiking.attacks.gradients.rule_mode import RuleMode

DECAY = 0.9
DECAY_OF_DRAWS = 0.99


class Moments(NamedTuple):
    """Running mean of ``|u|`` and running mean of ``||u| - mean|``, both ``[T, B, N]``."""

    mean: Tensor
    deviation: Tensor


class AdaptiveSharpness(RuleMode):
    """The arctangent surrogate, as sharp at each neuron, time step and image as its potentials allow.

    With ``u = V - V_th`` (for ParaLIF what its step is taken of) at attack step k:

        M_k = b M_(k-1) + (1 - b) |u_k|                 M_0 = 1
        D_k = b D_(k-1) + (1 - b) | |u_k| - M_k |       D_0 = 0
        alpha_k = omega / (M_k + gamma D_k + 1e-4),     omega = (2/pi) tan(pi a)
        ds/du = (alpha_k/2) / (1 + (pi alpha_k u / 2)^2)

    and backpropagation through time. A surrogate of sharpness alpha keeps the fraction ``(2/pi) atan(pi alpha x / 2)``
    of its area within ``|u| <= x``: this is ``2 a`` at x = M + gamma D, so that few potentials lie where the gradient
    has vanished.

    State: M and D per neuron over the steps of one attack. ``start`` forgets them, ``select`` keeps images. Within
    one ``applied`` block a neuron's first run updates them; later ones are further draws of the same step and find them
    frozen.

    Args (keyword names as in the paper): ``a`` in (0, 0.5); ``gamma >= 0``; ``decay`` b in [0, 1], None for 0.9, or
    0.99 for a model that draws spikes.

    Source: Wang et al., arXiv 2512.22522, and its published code.

    Raises ``ValueError`` for arguments out of range; when the batch changed without ``start`` or ``select``.
    """

    def __init__(self, a: float = 0.425, gamma: float = 1.5, decay: float | None = None) -> None:
        if not 0 < a < 0.5:
            raise ValueError(f"a must lie in (0, 0.5), not {a:g}")
        if not gamma >= 0:
            raise ValueError(f"gamma must not be negative, not {gamma:g}")
        if decay is not None and not 0 <= decay <= 1:
            raise ValueError(f"decay must lie in [0, 1], not {decay:g}")
        self.omega = 2 * math.tan(math.pi * a) / math.pi
        self.gamma, self.decay = gamma, decay
        self.name = "assg" if a == 0.425 else with_value("assg", a)
        self.moments: dict[Neuron, Moments] = {}
        self._b = DECAY
        self._seen: set[Neuron] = set()

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        drawn = any(bool(getattr(module, "stochastic", False)) for module in model.modules())
        self._b = self.decay if self.decay is not None else DECAY_OF_DRAWS if drawn else DECAY
        self._seen.clear()
        with super().applied(model):
            yield

    def start(self) -> None:
        self.moments.clear()

    def select(self, kept: Tensor) -> None:
        self.moments = {neuron: Moments(*(part[:, kept] for part in both)) for neuron, both in self.moments.items()}

    def rule(self, neuron: Neuron, replay: Replay) -> Tensor:
        u = replay.argument.detach()
        if neuron not in self._seen:
            self._seen.add(neuron)
            self._update(neuron, u)
        alpha = self.sharpness(self.moments[neuron])
        return replay.through_time((alpha / 2) / (1 + (math.pi / 2 * alpha * u) ** 2))

    def sharpness(self, moments: Moments) -> Tensor:
        """Return ``alpha [T, B, N]``."""
        return self.omega / (moments.mean + self.gamma * moments.deviation + 1e-4)

    def _update(self, neuron: Neuron, u: Tensor) -> None:
        before = self.moments.get(neuron) or Moments(torch.ones_like(u), torch.zeros_like(u))
        if before.mean.shape != u.shape:
            raise ValueError(
                f"{neuron.name} saw {tuple(before.mean.shape)} at the last step and {tuple(u.shape)} now: call start() "
                "when an attack begins and select() when it drops images"
            )
        size = u.abs()
        mean = self._b * before.mean + (1 - self._b) * size
        deviation = self._b * before.deviation + (1 - self._b) * (size - mean).abs()
        self.moments[neuron] = Moments(mean, deviation)
