from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from resnet_spiking.errors import UserError
from resnet_spiking.network.backbone import Backbone, build_resnet, split_resnet
from resnet_spiking.network.preprocess import Preprocess


def bytes_of(module: nn.Module) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in module.state_dict().values()]


@pytest.mark.parametrize("depth", [0, 1, 2, 3, 4])
def test_both_halves_compose_to_the_whole_resnet(depth: int) -> None:
    torch.manual_seed(3)
    whole = models.resnet18(weights=None).eval()
    backbone, stages = split_resnet("resnet18", depth, side=32)
    for name, tensor in {**backbone.extractor.state_dict(), **stages.state_dict()}.items():
        tensor.copy_(whole.state_dict()[name])
    pixels = torch.rand(2, 3, 32, 32)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    whole.fc = nn.Identity()
    expected = whole((pixels - mean[:, None, None]) / std[:, None, None])
    maps = stages.eval()(backbone(pixels))
    assert torch.allclose(maps.mean((2, 3)), expected, atol=1e-5)
    assert maps.shape[1] == stages.out_channels == 512


@pytest.mark.parametrize("depth", [1, 3, 4])
def test_frozen_means_frozen(depth: int) -> None:
    backbone, stages = split_resnet("resnet18", depth, side=32)
    before = bytes_of(backbone)
    backbone.train()
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    features = backbone(torch.rand(4, 3, 32, 32))
    assert features.grad_fn is None
    if depth < 4:
        parameters = list(stages.parameters())
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        stages.train()(features).square().mean().backward()
        assert all(parameter.grad is not None for parameter in parameters)
        optimizer.step()
    assert bytes_of(backbone) == before


def test_attacked_pixels_get_a_gradient_and_frozen_parameters_none() -> None:
    backbone, _ = split_resnet("resnet18", 2, side=32)
    pixels = torch.rand(2, 3, 32, 32, requires_grad=True)
    backbone(pixels).square().mean().backward()
    assert pixels.grad is not None
    assert pixels.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_depth_zero_freezes_nothing() -> None:
    backbone, stages = split_resnet("resnet18", 0, side=32)
    assert list(backbone.parameters()) == []
    assert "conv1.weight" in stages.state_dict()


def test_weights_depend_on_the_seed_alone_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, second, other = (split_resnet("resnet18", 3, side=32, seed=seed)[1] for seed in (7, 7, 8))
    assert torch.equal(torch.get_rng_state(), state)
    assert bytes_of(first) == bytes_of(second)
    assert bytes_of(first) != bytes_of(other)


def test_v1_strides_on_the_first_convolution_of_a_bottleneck() -> None:
    resnet = build_resnet("resnet50-v1")
    block = resnet.layer3[0]
    assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))
    block = build_resnet("resnet50").layer3[0]
    assert (block.conv1.stride, block.conv2.stride) == ((1, 1), (2, 2))


@pytest.mark.parametrize(("name", "channels"), [("resnet34", 512), ("resnet50", 2048), ("resnet50-v1", 2048)])
def test_channels_of_other_resnets(name: str, channels: int) -> None:
    backbone, stages = split_resnet(name, 3, side=32)
    assert stages.out_channels == channels
    assert stages.eval()(backbone(torch.rand(1, 3, 32, 32))).shape[1] == channels


def test_any_module_can_be_the_backbone() -> None:
    class Halve(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(0.5))

        def forward(self, images: Tensor) -> Tensor:
            return images * self.scale

    backbone = Backbone.wrap(Halve(), side=8, normalise=False)
    pixels = torch.rand(2, 3, 8, 8)
    assert torch.equal(backbone(pixels), pixels / 2)
    assert not backbone.extractor.get_parameter("scale").requires_grad


def test_preprocess_repeats_grey_resizes_and_normalises() -> None:
    pixels = torch.rand(2, 1, 8, 8)
    found = Preprocess(16)(pixels)
    resized = functional.interpolate(pixels, size=(16, 16), mode="bilinear", antialias=True)[:, 0]
    assert torch.allclose(found[:, 2], (resized - 0.406) / 0.225, atol=1e-6)
    assert torch.allclose(found[:, 0], (resized - 0.485) / 0.229, atol=1e-6)


def test_bad_names_and_depths_are_refused() -> None:
    with pytest.raises(UserError, match="did you mean 'resnet18'"):
        split_resnet("resnet19", 3, side=32)
    with pytest.raises(UserError, match="between 0 and 4"):
        split_resnet("resnet18", 5, side=32)


def test_where_gradients_are_off_none_is_prepared() -> None:
    backbone, _ = split_resnet("resnet18", 1, side=32)
    with torch.no_grad():
        assert backbone(torch.rand(1, 3, 32, 32, requires_grad=True)).grad_fn is None
