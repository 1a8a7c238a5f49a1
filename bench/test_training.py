"""Whole training <5,5> against the plain recipe, and the trainable stage's step against its convolutions.

The plain recipe is what one writes first: fp32, no cache, a full forward through the frozen part
of whole batches in every epoch, torch's convolutions, the decoder trained in both phases. It runs the
same code with ``cache_dir=None``, ``precision="fp32"``, undivided batches and ``nn.Conv2d``, so the ratio
is what the cache, head-only training, parts that fit into a CPU's caches, quick convolutions and, where the
device is quick at it, bf16 (``precision="auto"``) bring.

pytest bench/test_training.py -k "whole and 128"                      # 8 minutes on two cores
pytest bench/test_training.py -k "whole and 224" --train-images 720   # 11; with fewer images, fixed costs weigh more
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from resnet_spiking.config import RunConfig
from resnet_spiking.data import feature_cache
from resnet_spiking.data.digits import load_digits
from resnet_spiking.data.feature_cache import FeatureSource
from resnet_spiking.data.images import Dataset
from resnet_spiking.data.views import PLAIN
from resnet_spiking.environment import Environment
from resnet_spiking.network import backbone
from resnet_spiking.network.backbone import split_resnet
from resnet_spiking.network.build import build_default
from resnet_spiking.training.loop import train_step
from resnet_spiking.training.optimizer import make_optimizer
from resnet_spiking.training.run import train_run

RECIPES = {"plain": ("decoder", "fp32"), "decoder": ("decoder", "auto"), "head": ("head", "auto")}
CONFIG = RunConfig(image_size=128, default_epochs=5, spiking_epochs=5)


@pytest.fixture(scope="module")
def digits(request: pytest.FixtureRequest) -> Dataset:
    data, count = load_digits(), request.config.getoption("--train-images")
    share = count / len(data.train)
    return Dataset(data.name, data.train.subset(count), data.test.subset(round(share * len(data.test))), flip=False)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("side", [128, 224])
def test_whole_training(
    benchmark: BenchmarkFixture,
    monkeypatch: pytest.MonkeyPatch,
    digits: Dataset,
    tmp_path: Path,
    side: int,
    recipe: str,
) -> None:
    benchmark.group = f"whole <5,5> at {side} px, {len(digits.train)} training images"
    train, precision = RECIPES[recipe]
    if recipe == "plain":
        monkeypatch.setattr(feature_cache, "CPU_PART", CONFIG.batch_size)
        monkeypatch.setattr(backbone, "quicken", lambda network: None)
    config = replace(CONFIG, image_size=side, train=train, precision=precision)
    environment = Environment(cache_dir=None if recipe == "plain" else tmp_path / "cache")
    result = benchmark.pedantic(
        train_run, (config, tmp_path / "run", environment), {"data": digits}, rounds=1, iterations=1
    )
    benchmark.extra_info |= {
        "Default": result["default"]["accuracy"],
        config.neuron: result["test"]["accuracy"],
    }


def stage_at_128_px(precision: str) -> tuple[nn.Module, Tensor, RunConfig]:
    config = replace(CONFIG, precision=precision)
    _, stages = split_resnet("resnet18", 3, side=128)
    decoder = build_default(config, stages.to(memory_format=torch.channels_last), stages.out_channels, 10)
    features = torch.randn(128, 256, 8, 8).to(memory_format=torch.channels_last).bfloat16()
    return decoder.train(), features, config


@pytest.mark.parametrize("part", ["convolutions", "step", "step with muon"])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_trainable_stage(benchmark: BenchmarkFixture, digits: Dataset, precision: str, part: str) -> None:
    benchmark.group = f"ResNet-18 stage 4 at 128 px, batch 128, {precision}"
    decoder, features, config = stage_at_128_px(precision)
    if part == "convolutions":
        benchmark.pedantic(convolutions_alone(decoder, features, precision), rounds=5, warmup_rounds=1)
        return
    source = FeatureSource(digits.train, PLAIN, torch.device("cpu"), lambda indices, chosen: features)
    optimizer = make_optimizer(decoder, replace(config, optimizer="muon" if part == "step with muon" else "adamw"))
    benchmark.pedantic(
        train_step,
        (decoder, source, digits.train.labels, torch.arange(128), config, ("bench", 0, 0), optimizer),
        rounds=5,
        warmup_rounds=1,
    )


def convolutions_alone(decoder: nn.Module, features: Tensor, precision: str) -> object:
    """Return a function that runs every convolution forward and backward on its own input."""
    inputs: dict[nn.Conv2d, Tensor] = {}
    convolutions = [module for module in decoder.modules() if isinstance(module, nn.Conv2d)]
    handles = [
        module.register_forward_hook(lambda module, given, _: inputs.__setitem__(module, given[0].detach()))
        for module in convolutions
    ]
    decoder(features)
    for handle in handles:
        handle.remove()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    # The backbone is frozen: the first block's convolutions need no gradient to their input.
    first = {inputs[convolutions[0]].data_ptr()}
    work = []
    for module in convolutions:
        given = inputs[module].to(dtype)
        outer = inputs[module].data_ptr() not in first
        weight = module.weight.detach().to(dtype).requires_grad_()
        output = nn.functional.conv2d(given, weight, None, module.stride, module.padding)
        work.append((given.requires_grad_(outer), weight, module.stride, module.padding, torch.ones_like(output)))

    def run() -> None:
        for given, weight, stride, padding, gradient in work:
            output = nn.functional.conv2d(given, weight, None, stride, padding)
            torch.autograd.grad(output, [weight, given] if given.requires_grad else [weight], gradient)

    return run
