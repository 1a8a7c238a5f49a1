from __future__ import annotations

import torch
from torch import Tensor, nn

from resnet_spiking.network.evidence import gather_evidence
from resnet_spiking.network.head import HeadConfig, SpikingHead


def test_a_parameter_whose_gradient_is_no_number_is_untrained() -> None:
    class Rooted(SpikingHead):
        """The root has an infinite slope at 0, and 0 times that is NaN; the logits are as they were."""

        def trace(self, pooled: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, list[Tensor]]:
            logits, layers = super().trace(pooled, generator)
            return logits + 0 * self.extra.sqrt(), layers

    torch.manual_seed(0)
    head = Rooted(12, 4, HeadConfig(hidden=(16,), num_steps=6))
    head.extra = nn.Parameter(torch.zeros(()))
    evidence = gather_evidence(head, torch.rand(32, 12) * 2, torch.arange(32) % 4)
    assert evidence.untrained == ("extra",)
    assert not evidence.spikes
