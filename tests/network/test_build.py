from __future__ import annotations

import pytest
import torch

from resnet_spiking.config import RunConfig
from resnet_spiking.network.backbone import split_resnet
from resnet_spiking.network.build import build_default, build_spiking


def test_networks_are_built_without_a_look_at_any_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full or broken one would end a run on the CPU."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda *_: pytest.fail("looked at a GPU"))
    before = torch.get_rng_state()
    _, stages = split_resnet("resnet18", 3, side=32)
    first, second = (build_default(RunConfig(neuron="none", precision="fp32"), stages, 512, 10) for _ in range(2))
    assert torch.equal(first.head.output.weight, second.head.output.weight)
    build_spiking(RunConfig(neuron="lif", precision="fp32"), stages, 512, 10)
    assert torch.equal(torch.get_rng_state(), before)
