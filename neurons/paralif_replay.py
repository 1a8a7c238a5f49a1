"""ParaLIF's run once more with its spikes given."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from neurons.kernels.dispatch import backend_for
from neurons.replay import Replay, attach
from neurons.spike_functions import squash


class ParaLIFTerms(NamedTuple):
    """How ParaLIF spikes: by what is compared, with which squashing n.

    `level`: n(threshold) or the rise per step; not read where spikes are drawn. `before`: n(V[-1]) of delta modes.
    `uniform`: the draws of "gumbel".
    """

    compares: Literal["level", "rise", "bernoulli", "gumbel"]
    squashing: str
    level: Tensor
    before: Tensor | None
    uniform: Tensor | None


class ParaLIFReplay(Replay):
    """A run without recurrence: drive and spikes [T, B, *features], membrane before it [B, *features].

    The argument is n(V) - n(threshold), n(V[t]) - n(V[t-1]) - delta_threshold, for "gumbel" 2 V + log(U/(1 - U)) and
    for "bernoulli" V, so that a slope takes the place of n'(V) as with `surrogate_override`.
    """

    def __init__(
        self, drive: Tensor, spikes: Tensor, membrane: Tensor, beta: Tensor, threshold: Tensor, terms: ParaLIFTerms
    ) -> None:
        self.drive, self.spikes, self.beta, self.threshold = drive, spikes, beta, threshold
        self._before, self._terms = membrane, terms
        with torch.no_grad():
            V = self._membrane()
            earlier = self._earlier(squash(V, terms.squashing))
        self.argument = self._argument(attach(V, drive), earlier)

    def through_time(self, slopes: Tensor) -> Tensor:
        V = self._membrane()
        return self.attach(slopes * self._argument(V, self._earlier(squash(V, self._terms.squashing))))

    def probability(self) -> Tensor | None:
        """n(V) for Bernoulli spikes; sigmoid(2 V) for the Gumbel-softmax, whose noise is logistic."""
        if self._terms.compares == "bernoulli":
            return squash(self._membrane(), self._terms.squashing)
        return torch.sigmoid(2 * self._membrane()) if self._terms.compares == "gumbel" else None

    def _membrane(self) -> Tensor:
        return backend_for(self.drive).integrate(self.drive, (self._before,), beta=self.beta, alpha=None)[0]

    def _earlier(self, n: Tensor) -> Tensor | None:
        """n(V[t-1]) where a rise is compared."""
        return None if self._terms.before is None else torch.cat([self._terms.before.unsqueeze(0), n[:-1]])

    def _argument(self, V: Tensor, earlier: Tensor | None) -> Tensor:
        if self._terms.compares == "bernoulli":
            return V
        if self._terms.uniform is not None:
            return 2 * V + torch.logit(self._terms.uniform)
        n = squash(V, self._terms.squashing)
        return (n if earlier is None else n - earlier) - self._terms.level
