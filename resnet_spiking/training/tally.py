"""Sums over the steps of an epoch, kept where the network computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Tally:
    """Loss, hits and spike rates, summed over steps in float64.

    A step only queues its additions: reading figures at every step would make a GPU wait for Python and Python for
    the GPU, in turns. ``read`` waits.
    """

    def __init__(self, device: torch.device, sums: dict[str, Any]) -> None:
        """Go on from ``sums``, which an earlier ``read`` returned; an empty dictionary is the start of an epoch."""
        self.seconds: float = sums.get("seconds", 0.0)
        self._device = device
        self._sums = self._held([sums.get("loss", 0.0), sums.get("correct", 0)])
        self._rates = self._held(sums.get("rates", []))

    def add(self, loss: Tensor, correct: Tensor, rates: Sequence[Tensor]) -> None:
        """Add a step's mean loss, its number of hits and the mean spike rate of each layer, scalars all."""
        self._sums += torch.stack([loss.double(), correct.double()])
        if rates:
            layers = torch.stack([rate.double() for rate in rates])
            self._rates = self._rates + layers if len(self._rates) else layers

    def read(self) -> dict[str, Any]:
        """Return the sums as plain numbers: what a checkpoint holds."""
        loss, correct = self._sums.tolist()
        return {"loss": loss, "correct": int(correct), "rates": self._rates.tolist(), "seconds": self.seconds}

    def _held(self, values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=self._device)
