"""A whole network: frozen backbone, trainable stages, pooling, head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from resnet_spiking.errors import check_known


class Decoder(nn.Module):
    """The trainable part: remaining stages, global average pooling, head.

    Maps backbone features ``[B, C, h, w]`` to logits ``[B, classes]``. The stages may run in
    bf16 (``precision="bf16"``); pooled features and everything after them are fp32.

    A head on maps (``head.on_maps``: a ``SpikingStage``, whose first part is stage 4 itself) takes the maps
    that leave the stages before it, and pools by itself; its convolutions may run in bf16 too. ``pool``
    is in either case the part that is deterministic and has no time, ``head`` the rest.

    Raises ``UserError`` for another precision.
    """

    def __init__(self, stages: nn.Module, head: nn.Module, precision: str = "fp32") -> None:
        super().__init__()
        check_known("precision", precision, ("bf16", "fp32"))
        self.stages = stages
        self.head = head
        self.precision = precision

    @property
    def on_maps(self) -> bool:
        """Whether the head takes maps ``[B, C, h, w]`` instead of pooled features."""
        return bool(getattr(self.head, "on_maps", False))

    def pool(self, features: Tensor) -> Tensor:
        """Return pooled features, fp32 ``[B, F]``, or the maps ``[B, C, h, w]`` that a head on maps takes."""
        with self._convolving(features):
            maps = self.stages(features if self.precision == "bf16" else features.float())
        return maps.float() if self.on_maps else maps.float().mean((2, 3))

    def forward(self, features: Tensor, generator: torch.Generator | None = None) -> Tensor:
        pooled = self.pool(features)
        with self._convolving(features, self.on_maps):
            return self.head(pooled, generator)

    def trace(self, features: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, list[Tensor]]:
        """Return the logits and the spikes of each neuron layer, ``[T, B, N]`` or ``[T, B, C, h, w]``."""
        pooled = self.pool(features)
        with self._convolving(features, self.on_maps):
            return self.head.trace(pooled, generator)  # type: ignore[operator]

    def _convolving(self, features: Tensor, convolutions: bool = True) -> torch.autocast:
        enabled = convolutions and self.precision == "bf16"
        return torch.autocast(features.device.type, torch.bfloat16, enabled=enabled)


class Classifier(nn.Module):
    """Pixels ``[B, C, H, W]`` in [0, 1] to logits ``[B, classes]``, in fp32."""

    def __init__(self, backbone: nn.Module, decoder: Decoder) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder

    def forward(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.decoder(self.backbone(pixels), generator)
