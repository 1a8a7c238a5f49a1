from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from resnet_spiking.network.backbone import split_resnet
from resnet_spiking.network.folding import folded


def _lived_in(network: nn.Module) -> nn.Module:
    """Every BatchNorm with statistics and weights of its own, in eval mode."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    return network.double().eval()


def _norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50-v1", "resnext50_32x4d"])
def test_a_folded_resnet_is_the_same_function_with_the_same_gradient(name: str) -> None:
    torch.manual_seed(0)
    backbone, stages = split_resnet(name, 3, side=32)
    network = nn.Sequential(_lived_in(backbone), _lived_in(stages)).eval()
    before = copy.deepcopy(network.state_dict())
    lean = folded(network)
    assert _norms(lean) == 0 < _norms(network)
    assert not any(parameter.requires_grad for parameter in lean.parameters())
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    weights = torch.randn_like(network(images))
    outputs = [each(images) for each in (network, lean)]
    gradients = [torch.autograd.grad((output * weights).sum(), images)[0] for output in outputs]
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*gradients)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


class PreActivation(nn.Module):
    """The names of a ResNet's block, the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 3, 3)
        self.bn1 = nn.BatchNorm2d(3)

    def forward(self, maps: Tensor) -> Tensor:
        return self.conv1(self.bn1(maps).relu())


def test_what_is_not_known_to_be_a_pair_stays_as_it_is() -> None:
    torch.manual_seed(0)
    network = _lived_in(
        nn.Sequential(OrderedDict(a=PreActivation(), b=nn.BatchNorm2d(3), c=nn.Conv2d(3, 4, 1), d=nn.ReLU()))
    )
    lean = folded(network)
    assert _norms(lean) == 2
    maps = torch.rand(2, 3, 5, 5, dtype=torch.float64)
    assert torch.equal(lean(maps), network(maps))


def test_a_norm_in_train_mode_stays() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    assert _norms(folded(network)) == 1
    assert _norms(folded(network.eval())) == 0


def test_a_module_that_stands_in_several_places_is_seen_in_each() -> None:
    torch.manual_seed(0)
    act, conv = nn.ReLU(), nn.Conv2d(3, 3, 3)
    network = _lived_in(
        nn.Sequential(
            nn.Conv2d(3, 3, 3), act, nn.BatchNorm2d(3), conv, act, nn.BatchNorm2d(3), conv, nn.BatchNorm2d(3), conv
        )
    )
    lean = folded(network)
    assert _norms(lean) == 2
    maps = torch.rand(2, 3, 12, 12, dtype=torch.float64)
    torch.testing.assert_close(lean(maps), network(maps))


class Standardised(nn.Conv2d):
    """A convolution by a weight that it does not hold, as in BiT's ResNets."""

    def forward(self, maps: Tensor) -> Tensor:
        weight = (self.weight - self.weight.mean()) / self.weight.std()
        return self._conv_forward(maps, weight, self.bias)


def _hooked(conv: nn.Conv2d) -> nn.Conv2d:
    conv.register_forward_hook(lambda module, inputs, output: output.relu())
    return conv


CONVOLUTIONS: dict[str, Callable[[], nn.Module]] = {
    "standardised": lambda: Standardised(3, 4, 3),
    "hook": lambda: _hooked(nn.Conv2d(3, 4, 3)),
    "weight_norm": lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)),
    "spectral_norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)),
    "spectral_norm as a hook": lambda: nn.utils.spectral_norm(nn.Conv2d(3, 4, 3)),
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_convolution_that_is_more_than_its_weight_stays(kind: str) -> None:
    torch.manual_seed(0)
    network = _lived_in(nn.Sequential(CONVOLUTIONS[kind](), nn.BatchNorm2d(4)))
    lean = folded(network)
    assert _norms(lean) == 1
    maps = torch.rand(2, 3, 5, 5, dtype=torch.float64)
    assert torch.equal(lean(maps), network(maps))


def test_a_norm_with_a_hook_stays() -> None:
    network = _lived_in(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
    network[1].register_forward_pre_hook(lambda module, inputs: (inputs[0].relu(),))
    maps = torch.rand(2, 3, 5, 5, dtype=torch.float64)
    assert torch.equal(folded(network)(maps), network(maps))


def test_a_norm_of_the_batch_alone_stays() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    images = torch.rand(5, 3, 4, 4)
    assert torch.equal(folded(network)(images), network(images))
