"""What convolutions compute in during training."""

from __future__ import annotations

import torch

from resnet_spiking.config import CHOICES
from resnet_spiking.errors import check_known
from resnet_spiking.network.matrix_units import has_matrix_units


def resolve_precision(name: str, device: torch.device) -> str:
    """Return ``bf16`` or ``fp32`` for ``auto``: bf16 where the device has matrix units for it, else fp32.

    Raises ``UserError`` for an unknown name.
    """
    check_known("--precision", name, CHOICES["precision"])
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if has_matrix_units() else "fp32"
