from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from resnet_spiking.config import RunConfig
from resnet_spiking.data.feature_cache import features_of
from resnet_spiking.data.images import Dataset, ImageSet
from resnet_spiking.environment import Environment
from resnet_spiking.network.backbone import build_resnet
from resnet_spiking.network.build import build_default
from resnet_spiking.training.default import Default, _default_key
from resnet_spiking.training.frozen import Frozen, open_frozen, remember_frozen, remember_trunk
from resnet_spiking.training.pooled import remember_pooled

CONFIG = RunConfig(dataset="folder", weights="none", neuron="none", image_size=32, precision="fp32", default_epochs=0)


@pytest.mark.parametrize("others", [{"image_size": 34}, {"backbone": "resnet50-v1"}])
def test_kept_features_are_those_of_the_size_and_the_architecture(
    tmp_path: Path, shapes: Dataset, others: dict[str, Any]
) -> None:
    """Features of 33 and 34 pixels have one shape; ResNet-50 and its version of 2015 have one set of tensors."""
    env, chosen = Environment(cache_dir=tmp_path), torch.arange(4)
    first = replace(CONFIG, freeze_depth=2, image_size=33, backbone="resnet50")
    for config in (first, replace(first, **others)):
        trunk = remember_trunk(config, shapes, env)
        live = features_of(trunk.backbone, shapes.train).batch(chosen)
        torch.testing.assert_close(open_frozen(config, shapes, trunk, env).train.batch(chosen), live)


def test_what_a_process_remembers_is_of_the_data_that_it_was_made_of(shapes: Dataset) -> None:
    """Two image folders have one configuration."""
    kept: dict[tuple[object, ...], Any] = {}

    def remember(key: tuple[object, ...], make: Any) -> Any:
        return kept[key] if key in kept else kept.setdefault(key, make())

    env = Environment(remember=remember)
    other = ImageSet(255 - shapes.train.images, shapes.train.labels, shapes.classes)
    for data in (shapes, Dataset("folder", other, shapes.test, True)):
        trunk = remember_trunk(CONFIG, data, env)
        found = remember_frozen(CONFIG, data, trunk, env)
        assert found.train.images is data.train


def _frozen(
    tmp_path: Path, shapes: Dataset, state: dict[str, Tensor], env: Environment, **settings: Any
) -> tuple[RunConfig, Frozen]:
    torch.save(state, tmp_path / "w.pth")
    config = replace(CONFIG, weights=str(tmp_path / "w.pth"), **settings)
    return config, open_frozen(config, shapes, remember_trunk(config, shapes, env), env)


def test_another_fourth_stage_is_another_default(tmp_path: Path, shapes: Dataset) -> None:
    torch.manual_seed(0)
    state = build_resnet("resnet18").state_dict()
    names = []
    for scale in (1, 2):
        state["layer4.0.conv1.weight"] = scale * state["layer4.0.conv1.weight"]
        names.append(_default_key(*_frozen(tmp_path, shapes, state, Environment())))
    assert names[0] != names[1]


@pytest.mark.parametrize("change", ["stages", "precision"])
def test_pooled_features_are_those_of_the_stages_and_of_the_precision(
    tmp_path: Path, shapes: Dataset, change: str
) -> None:
    env, chosen, state = (
        Environment(cache_dir=tmp_path / "cache"),
        torch.arange(4),
        build_resnet("resnet18").state_dict(),
    )
    for turn in (0, 1):
        if change == "stages" and turn:
            state["layer4.0.conv1.weight"] = 2 * state["layer4.0.conv1.weight"]
        precision = "bf16" if change == "precision" and turn else "fp32"
        config, frozen = _frozen(tmp_path, shapes, state, env, precision=precision)
        network = build_default(config, frozen.trunk.stages, 512, 3)
        default = Default(tmp_path / str(turn), {"hashes": {"model": str(turn)}}, network)
        kept = remember_pooled(config, frozen, default, env)[0].batch(chosen)
        with torch.no_grad():
            live = network.eval().pool(frozen.train.batch(chosen))
        torch.testing.assert_close(kept, live, rtol=1e-4, atol=1e-5)
