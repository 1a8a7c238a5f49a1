from __future__ import annotations

from pathlib import Path
from typing import Any

from resnet_spiking.reports.digest import Digest
from resnet_spiking.reports.results import load_results


def titles(made: Any, folder: Path) -> set[str]:
    digest = Digest.of(load_results(made.write(folder)), folder)
    return {digest.network_title(group) for group in digest.groups}


def test_variants_are_compared_at_one_setting_that_the_panel_names(invented: Any, tmp_path: Path) -> None:
    """As in a study that ended before its last runs: each neuron has most seeds at another T."""
    for seed in range(3):
        invented.run("default", seed, range(20))
    for variant, seeds in (("lif", {4: 3, 2: 2}), ("snntorch-lif", {4: 2, 2: 3}), ("norse-lif", {4: 1})):
        for steps, count in seeds.items():
            for seed in range(count):
                invented.run(variant, seed, range(20 + steps), num_steps=steps)
    digest = Digest.of(load_results(invented.write(tmp_path / "results")), tmp_path)
    ((title, groups),) = digest.panels.items()
    assert title == "cifar10 · resnet18 · 64 px · head trained · num steps 4"
    assert [(group.variant, group["num_steps"]) for group in groups[1:]] == [
        ("lif", 4), ("snntorch-lif", 4), ("norse-lif", 4)
    ]  # fmt: skip
    assert digest.left_out.startswith("2 groups at other settings")


def test_a_title_names_what_differs_on_the_same_data_alone(invented: Any, tmp_path: Path) -> None:
    invented.run("default", 0, range(5))
    invented.run("default", 0, range(6), "fashion-mnist", optimizer="muon")
    assert titles(invented, tmp_path / "one") == {"cifar10 · resnet18 · 64 px", "fashion-mnist · resnet18 · 64 px"}
    invented.run("default", 0, range(7), optimizer="sgd")
    assert "cifar10 · resnet18 · 64 px · optimizer sgd" in titles(invented, tmp_path / "two")
    assert "fashion-mnist · resnet18 · 64 px" in titles(invented, tmp_path / "again")


def test_weights_are_named_only_where_a_backbone_has_several(invented: Any, tmp_path: Path) -> None:
    invented.run("default", 0, range(5), weights="eighteen.safetensors")
    invented.run("default", 0, range(6), weights="fifty.safetensors", backbone="resnet50")
    assert titles(invented, tmp_path / "two") == {"cifar10 · resnet18 · 64 px", "cifar10 · resnet50 · 64 px"}
    invented.run("default", 0, range(7), weights="other.safetensors")
    assert "cifar10 · resnet18 · 64 px · weights other.safetensors" in titles(invented, tmp_path / "three")
