"""Which algorithm a convolution takes, and that none changes a network."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from resnet_spiking.network import quick_convolution
from resnet_spiking.network.quick_convolution import LEAST_CHANNELS, LEAST_TILES, QuickConv2d, quicken
from resnet_spiking.network.small_map import LARGEST_MAP


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the algorithms that ran, in order; what they return is their own."""
    names: list[str] = []

    def watched(name: str) -> None:
        algorithm = getattr(quick_convolution, name)

        def run(*arguments: object) -> Tensor:
            names.append(name)
            result: Tensor = algorithm(*arguments)
            return result

        monkeypatch.setattr(quick_convolution, name, run)

    watched("minimal_filtering")
    watched("taps_product")
    watched("patch_product")
    return names


@pytest.fixture(params=[True, False], ids=["matrix units", "none"])
def matrix_units(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the code takes the processor for one with matrix units; the products themselves run on any."""
    present: bool = request.param
    monkeypatch.setattr(quick_convolution, "has_matrix_units", lambda: present)
    return present


def layer(channels: int = LEAST_CHANNELS, *, bias: bool = True, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    ordinary = nn.Sequential(nn.Conv2d(channels, channels, 3, stride, 1, bias=bias))
    quick = copy.deepcopy(ordinary)
    quicken(quick)
    return quick, ordinary


@pytest.mark.parametrize("side", [32, 64, 96, 128])
def test_a_resnet_keeps_names_and_output(side: int) -> None:
    torch.manual_seed(0)
    plain = models.resnet18(weights=None).eval()
    quick = copy.deepcopy(plain)
    quicken(quick)
    assert list(quick.state_dict()) == list(plain.state_dict())
    assert any(isinstance(module, QuickConv2d) for module in quick.modules())
    images = torch.rand(2, 3, side, side)
    torch.testing.assert_close(quick(images), plain(images), rtol=1e-4, atol=1e-5)


def test_a_training_stage_has_the_gradients_of_ordinary_convolutions(taken: list[str]) -> None:
    torch.manual_seed(0)
    plain = models.resnet18(weights=None).layer4.double().train()
    quick = copy.deepcopy(plain)
    quicken(quick)
    images = torch.randn(LEAST_TILES, 256, 8, 8, dtype=torch.float64)
    for stage in (plain, quick):
        stage(images).square().sum().backward()
    assert taken == ["minimal_filtering"] * 3
    for (name, expected), (_, found) in zip(plain.named_parameters(), quick.named_parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, msg=name)


@pytest.mark.parametrize("bias", [False, True])
def test_minimal_filtering_adds_the_bias(bias: bool, taken: list[str]) -> None:
    quick, ordinary = layer(bias=bias)
    images = torch.randn(LEAST_TILES, LEAST_CHANNELS, 4, 4)
    torch.testing.assert_close(quick(images), ordinary(images), rtol=1e-4, atol=1e-4)
    assert taken == ["minimal_filtering"]


def test_scores_are_those_of_the_ordinary_convolution(taken: list[str]) -> None:
    quick, ordinary = layer()
    images = torch.randn(LEAST_TILES, LEAST_CHANNELS, 4, 4)
    with torch.no_grad():
        assert torch.equal(quick(images), ordinary(images))
    quick.requires_grad_(False)
    ordinary.requires_grad_(False)
    assert torch.equal(quick(images.requires_grad_()), ordinary(images))
    assert not taken


@pytest.mark.parametrize(
    ("shape", "stride"),
    [
        ((LEAST_TILES - 1, LEAST_CHANNELS, 4, 4), 1),
        ((LEAST_TILES, LEAST_CHANNELS - 1, 4, 4), 1),
        ((LEAST_TILES, LEAST_CHANNELS, 5, 5), 1),
        ((LEAST_TILES, LEAST_CHANNELS, 8, 8), 2),
    ],
    ids=["few tiles", "few channels", "tiles mostly empty", "stride"],
)
def test_what_does_not_gain_takes_the_ordinary_convolution(
    shape: tuple[int, ...], stride: int, taken: list[str]
) -> None:
    quick, ordinary = layer(shape[1], stride=stride)
    images = torch.randn(shape)
    assert torch.equal(quick(images), ordinary(images))
    assert not taken


def test_large_maps_and_autocast_take_the_ordinary_convolution(taken: list[str]) -> None:
    quick, ordinary = layer(3)
    side = LARGEST_MAP + 1
    images = torch.randn(2, 3, side, side)
    assert torch.equal(quick(images), ordinary(images))
    small = images[..., :2, :2]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quick(small), ordinary(small))
    assert not taken
    quick(small)
    assert taken == ["taps_product"]


def test_one_pixel_kernels_on_small_maps_take_the_ordinary_convolution(taken: list[str]) -> None:
    ordinary = nn.Sequential(nn.Conv2d(4, 5, 1))
    quick = copy.deepcopy(ordinary)
    quicken(quick)
    images = torch.randn(3, 4, 2, 2)
    assert torch.equal(quick(images), ordinary(images))
    assert not taken


@pytest.mark.parametrize("block", [models.resnet.BasicBlock, models.resnet.Bottleneck])
def test_a_block_trains_in_bf16_as_ordinary_convolutions_do(
    block: type[models.resnet.BasicBlock | models.resnet.Bottleneck],
    taken: list[str],
    matrix_units: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rounding of bf16 differs, its size does not: neither is farther from fp64 than the other by a tenth."""
    monkeypatch.setattr(quick_convolution, "LEAST_WEIGHTS", 2000)
    torch.manual_seed(0)
    shrinking = nn.Sequential(nn.Conv2d(16, 64, 1, 2, bias=False), nn.BatchNorm2d(64))
    plain = block(16, 64 // block.expansion, 2, shrinking).train()
    quick, exact = copy.deepcopy(plain), copy.deepcopy(plain).double()
    quicken(quick)
    images = torch.randn(16, 16, 8, 8).bfloat16()
    for stage in (plain, quick, exact):
        with torch.autocast("cpu", torch.bfloat16, enabled=stage is not exact):
            output = stage(images.double() if stage is exact else images)
        output.double().square().mean().backward()
    sizes = [module.weight.numel() for module in plain.modules() if isinstance(module, nn.Conv2d)]
    large = sum(size >= 2000 for size in sizes)
    assert taken == ["patch_product"] * (large if matrix_units else 0)
    assert 0 < large < len(sizes)

    def apart(stage: nn.Module) -> float:
        wanted = torch.cat([parameter.grad.flatten() for parameter in exact.parameters()])
        found = torch.cat([parameter.grad.flatten() for parameter in stage.parameters()])
        return float((found.double() - wanted).norm() / wanted.norm())

    assert apart(quick) < 1.1 * apart(plain) < 0.2


def test_scores_in_bf16_are_those_of_the_ordinary_convolution(taken: list[str], matrix_units: bool) -> None:
    quick, ordinary = layer(512)
    images = torch.randn(4, 512, 4, 4)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quick(images), ordinary(images))
    assert not taken


def test_bf16_adds_the_bias(taken: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick_convolution, "has_matrix_units", lambda: True)
    quick, ordinary = layer(512)
    images = torch.randn(4, 512, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(quick(images), ordinary(images), rtol=2**-7, atol=2**-7)
    assert taken == ["patch_product"]


@pytest.mark.parametrize(
    "options",
    [
        {"dilation": 2, "stride": 2},
        {"padding_mode": "reflect", "padding": 1},
        {"padding": "same"},
        {"groups": 2, "padding": 1},
    ],
    ids=str,
)
def test_what_the_algorithms_do_not_know_takes_the_ordinary_convolution(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    ordinary = nn.Sequential(nn.Conv2d(4, 6, 3, **options))
    quick = copy.deepcopy(ordinary)
    quicken(quick)
    assert isinstance(quick[0], QuickConv2d)
    images = torch.randn(3, 4, *((5, 5) if "dilation" in options else (2, 2)))
    assert torch.equal(quick(images), ordinary(images))


def test_one_image_without_a_batch_takes_the_ordinary_convolution() -> None:
    ordinary = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1))
    quick = copy.deepcopy(ordinary)
    quicken(quick)
    image = torch.randn(4, 2, 2)
    assert torch.equal(quick(image), ordinary(image))


def test_quickened_modules_stay_in_their_mode() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)).eval()
    network[1].train()
    quicken(network)
    assert [module.training for module in network] == [False, True]
