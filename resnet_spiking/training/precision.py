"""What convolutions compute in during training."""

from __future__ import annotations

import torch

from resnet_spiking.errors import UserError

CHOICES = ("auto", "bf16", "fp32")


def resolve_precision(name: str, device: torch.device) -> str:
    """Return ``bf16`` or ``fp32`` for ``auto``: bf16 where the device has matrix units for it, else fp32.

    A CPU without AMX emulates bf16 products at a fraction of the speed of fp32 ones.

    Raises ``UserError`` for an unknown name.
    """
    if name not in CHOICES:
        raise UserError(f"--precision {name!r} is unknown; choose from: {', '.join(CHOICES)}")
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if _has_amx() else "fp32"


def _has_amx() -> bool:
    # torch has no public question for this before torch.cpu.get_capabilities (2.13).
    ask = getattr(torch.cpu, "get_capabilities", None)
    return bool(ask().get("amx_bf16", False)) if ask else bool(torch.cpu._is_amx_tile_supported())
