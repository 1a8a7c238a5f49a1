"""A whole network: frozen backbone, trainable stages, pooling, head."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Decoder(nn.Module):
    """The trainable part: remaining stages, global average pooling, head.

    Maps backbone features ``[B, C, h, w]`` to logits ``[B, classes]``. The stages may run in
    bf16 (``precision="bf16"``); pooled features and everything after them are fp32.
    """

    def __init__(self, stages: nn.Module, head: nn.Module, precision: str = "fp32") -> None:
        super().__init__()
        self.stages = stages
        self.head = head
        self.precision = precision

    def pool(self, features: Tensor) -> Tensor:
        """Return pooled features, fp32 ``[B, F]``."""
        with torch.autocast(features.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            maps = self.stages(features if self.precision == "bf16" else features.float())
        return maps.float().mean((2, 3))

    def forward(self, features: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.head(self.pool(features), generator)

    def trace(self, features: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, list[Tensor]]:
        """Return the logits and the spikes of each head layer ``[T, B, N]``."""
        return self.head.trace(self.pool(features), generator)  # type: ignore[operator]


class Classifier(nn.Module):
    """Pixels ``[B, C, H, W]`` in [0, 1] to logits ``[B, classes]``, in fp32."""

    def __init__(self, backbone: nn.Module, decoder: Decoder) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder

    def forward(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.decoder(self.backbone(pixels), generator)
