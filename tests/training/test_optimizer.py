from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from resnet_spiking.config import RunConfig
from resnet_spiking.errors import UserError
from resnet_spiking.network.backbone import split_resnet
from resnet_spiking.network.build import build_default, build_spiking
from resnet_spiking.training.optimizer import make_optimizer

CONFIG = RunConfig(neuron="lif", weights="none", freeze_depth=0, image_size=32, lr=0.01, head_lr=0.5, precision="fp32")


def peaks(config: RunConfig) -> dict[str, float]:
    _, stages = split_resnet("resnet18", config.freeze_depth, side=32)
    build = build_default if config.neuron == "none" else build_spiking
    network = build(config, stages, stages.out_channels, 10)
    names = {parameter: name for name, parameter in network.named_parameters()}
    found = {
        names[parameter]: group["lr"]
        for group in make_optimizer(network, config).param_groups
        for parameter in group["params"]
    }
    assert found.keys() == set(names.values())
    return found


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_each_stage_learns_at_a_share_of_the_rate_of_the_one_above(optimizer: str) -> None:
    of = peaks(replace(CONFIG, layer_decay=0.5, optimizer=optimizer))
    wanted = {"conv1.": 0.000625, "bn1.": 0.000625, "layer1.": 0.00125, "layer2.": 0.0025, "layer3.": 0.005}
    for name, lr in of.items():
        part = next((share for prefix, share in wanted.items() if name.startswith("stages." + prefix)), None)
        assert lr == pytest.approx(part or (0.01 if name.startswith("stages.layer4.") else 0.5)), name
    assert {f"{name}0.conv1.weight" for name in ("stages.layer1.", "stages.layer3.", "stages.layer4.")} <= of.keys()


def test_a_spiking_stage_learns_as_the_fourth_that_it_is() -> None:
    of = peaks(replace(CONFIG, layer_decay=0.1, spiking="stage", freeze_depth=2))
    assert {lr for name, lr in of.items() if name.startswith("head.blocks.")} == {0.01}
    assert {lr for name, lr in of.items() if name.startswith("stages.layer3.")} == {0.01 * 0.1}


def test_without_decay_all_stages_learn_alike() -> None:
    of = peaks(CONFIG)
    assert {lr for name, lr in of.items() if name.startswith("stages.")} == {0.01}


@pytest.mark.parametrize("decay", [0.0, -0.1, 1.5, float("nan")])
def test_a_decay_that_is_no_share_is_refused(decay: float) -> None:
    with pytest.raises(UserError, match=r"--layer-decay must lie above 0 and not above 1"):
        RunConfig(layer_decay=decay)


def test_the_name_of_a_default_from_before_the_setting_stays() -> None:
    assert "layer_decay" not in RunConfig().default_part()
    assert RunConfig(layer_decay=0.1, freeze_depth=2).default_part()["layer_decay"] == 0.1


def test_a_step_moves_the_lower_stage_less() -> None:
    config = replace(CONFIG, neuron="none", freeze_depth=2, layer_decay=0.1, weight_decay=0.0, momentum=0.0,
                     optimizer="sgd")  # fmt: skip
    _, stages = split_resnet("resnet18", 2, side=32)
    network = build_default(config, stages, stages.out_channels, 10)
    for parameter in network.parameters():
        parameter.data.zero_()
        parameter.grad = torch.ones_like(parameter)
    make_optimizer(network, config).step()
    for name, parameter in network.named_parameters():
        lr = 0.001 if "layer3" in name else 0.01 if "layer4" in name else 0.5
        torch.testing.assert_close(parameter, torch.full_like(parameter, -lr))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_matrices_decay_and_biases_norms_and_learned_decays_do_not(optimizer: str) -> None:
    config = replace(CONFIG, optimizer=optimizer, weight_decay=0.125)
    _, stages = split_resnet("resnet18", 3, side=32)
    made = make_optimizer(build_default(config, stages, 512, 10), config)
    for group in made.param_groups:
        assert {group["weight_decay"]} == {0.125 if p.ndim > 1 else 0.0 for p in group["params"]}


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_sgd_is_torchs_with_nesterovs_momentum(momentum: float) -> None:
    config = replace(CONFIG, optimizer="sgd", momentum=momentum, lr=0.1, head_lr=0.1, weight_decay=0.0)
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    mine = make_optimizer(ours, config)
    peer = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=momentum, nesterov=momentum > 0)
    for step in range(3):
        for module, optimizer in ((ours, mine), (theirs, peer)):
            optimizer.zero_grad()
            (module(torch.arange(3.0)).sum() * (step + 1)).backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
