from __future__ import annotations

from pathlib import Path
from typing import Any

from resnet_spiking.reports.digest import Digest
from resnet_spiking.reports.results import load_results


def titles(made: Any, folder: Path) -> set[str]:
    digest = Digest.of(load_results(made.write(folder)), folder)
    return {digest.network_title(group) for group in digest.groups}


def test_weights_are_named_only_where_a_backbone_has_several(invented: Any, tmp_path: Path) -> None:
    invented.run("default", 0, range(5), weights="eighteen.safetensors")
    invented.run("default", 0, range(6), weights="fifty.safetensors", backbone="resnet50")
    assert titles(invented, tmp_path / "two") == {"cifar10 · resnet18 · 64 px", "cifar10 · resnet50 · 64 px"}
    invented.run("default", 0, range(7), weights="other.safetensors")
    assert "cifar10 · resnet18 · 64 px · weights other.safetensors" in titles(invented, tmp_path / "three")
