from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from neurobench.metrics.workload import ActivationSparsity, SynapticOperations
from neurobench.models import TorchModel
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from neurons import make_neuron
from resnet_spiking.network.classifier import Decoder
from resnet_spiking.network.head import HeadConfig, LinearHead, SpikingHead
from resnet_spiking.network.operations import counting, operations_of
from resnet_spiking.network.spiking_stage import SpikingStage

STEPS, BATCH = 4, 8


def features() -> Tensor:
    return torch.randn(BATCH, 6, 5, 5, generator=torch.Generator().manual_seed(1)).relu()


def make_stage() -> nn.Sequential:
    torch.manual_seed(0)
    down = nn.Sequential(nn.Conv2d(6, 8, 1, stride=2, bias=False), nn.BatchNorm2d(8))
    return nn.Sequential(BasicBlock(6, 8, 2, down), BasicBlock(8, 8)).eval()


def make_decoder(variant: str, **options: Any) -> Decoder:
    """A decoder whose layers are all called as modules, so that another package can watch them."""
    config = HeadConfig(**{"neuron": "lif", "hidden": (10,), "num_steps": STEPS, "readout": "membrane", **options})
    stage = make_stage()
    if variant == "default":
        return Decoder(stage, LinearHead(8, 3)).eval()
    head = SpikingHead(8, 3, config)
    nn.init.uniform_(head.linears[0].bias, 0.0, 0.6)  # so that it spikes
    if variant == "head":
        return Decoder(stage, head).eval()
    spiking = SpikingStage(stage, head, lambda: make_neuron("lif"))
    for name, parameter in spiking.named_parameters():
        if name.endswith("gain"):
            nn.init.constant_(parameter, 2.0)
    return Decoder(nn.Identity(), spiking).eval()


def count(decoder: Decoder) -> dict[str, Any]:
    with torch.no_grad(), counting(decoder) as counter:
        for part in features().split(3):
            decoder.trace(part)
    return counter.figures(BATCH)


def test_a_small_case_counted_by_hand() -> None:
    head = SpikingHead(3, 2, HeadConfig("lif", hidden=(2,), num_steps=3))
    with torch.no_grad():
        head.linears[0].weight.copy_(torch.tensor([[2.0, 0.0, 1.0], [0.0, 0.0, 1.0]]))
        head.linears[0].bias.zero_()
        head.output.weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    decoder = Decoder(nn.Identity(), head)
    # Pooled features (1, 1, 0.5): currents 2.5 and 0.5; the first neuron spikes at each of 3 steps, the second one's
    # membrane goes 0.5, 0.95, 1.355 and spikes at the last.
    with counting(decoder) as counter:
        decoder(torch.tensor([1.0, 1.0, 0.5])[None, :, None, None])
    figures = counter.figures(1)
    assert figures == {
        "Effective_ACs": 3 * 2 + 1 * 1,  # each spike of the first neuron has two weights, the second's has one
        "Effective_MACs": 1 + 0 + 2,  # nonzero weights of the three features, once and not three times
        "Dense": 6 + 3 * 4,
        "ActivationSparsity": pytest.approx(2 / 6),
        "MembraneUpdates": 6,
        "ParameterCount": 6 + 2 + 4 + 2,
        "energy_nJ": pytest.approx((7 * 0.9 + 3 * 4.6) / 1000),
    }


def test_convolutions_counted_by_hand() -> None:
    layer = nn.Conv2d(1, 2, 3, padding=1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    image = torch.zeros(1, 1, 3, 3)
    image[0, 0, 0, 0] = image[0, 0, 1, 1] = 1  # the corner reaches 4 outputs, the middle one all 9
    assert operations_of(layer, image) == (2 * (4 + 9), 2 * (4 * 4 + 4 * 6 + 9), True)
    assert operations_of(layer, image * 0.5) == (26, 98, False)


@settings(max_examples=25)
@given(
    groups=st.sampled_from([1, 2]), stride=st.integers(1, 2), padding=st.integers(0, 2), kernel=st.integers(1, 3),
    dilation=st.integers(1, 2), share=st.floats(0, 1), seed=st.integers(0, 99),
)  # fmt: skip
def test_convolutions_equal_a_count_of_nonzero_products(
    groups: int, stride: int, padding: int, kernel: int, dilation: int, share: float, seed: int
) -> None:
    """Every product of the unfolded convolution, one by one."""
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Conv2d(4, 6, kernel, stride, padding, dilation, groups)
    inputs = (torch.rand(3, 4, 6, 6, generator=generator) < share).float()
    with torch.no_grad():
        layer.weight.mul_(torch.rand(layer.weight.shape, generator=generator) < 0.7)
    unfolded = nn.functional.unfold(inputs, kernel, dilation, padding, stride).unflatten(1, (groups, -1))
    products = torch.einsum(
        "bgkp,gok->bgop", unfolded, (layer.weight != 0).float().flatten(1).unflatten(0, (groups, -1))
    )
    inside = nn.functional.unfold(torch.ones_like(inputs), kernel, dilation, padding, stride)
    assert operations_of(layer, inputs) == (
        round(float(products.sum())),
        round(float(inside.sum())) * 6 // groups,
        True,
    )


@pytest.mark.parametrize("variant", ["default", "head", "stage"])
def test_figures_equal_neurobench(variant: str) -> None:
    decoder = make_decoder(variant)
    ours = count(decoder)
    parts = [ours, ours["stages"]]
    model = TorchModel(decoder)
    model.register_hooks()
    metric, sparsity = SynapticOperations(), ActivationSparsity()
    with torch.no_grad():
        for part in features().split(3):
            predictions = model(part)
            theirs = metric(model, predictions, (part, None))
            model.reset_hooks()
        if variant != "stage":
            model(features())
            assert ours["stages"]["ActivationSparsity"] == pytest.approx(sparsity(model, None, None))
    model.cleanup_hooks()
    for name in ("Effective_ACs", "Effective_MACs", "Dense"):
        assert sum(part[name] for part in parts) == pytest.approx(theirs[name]), name
    assert (theirs["Effective_ACs"] > 0) == (variant != "default")
    assert sum(part["ParameterCount"] for part in parts) == sum(p.numel() for p in decoder.parameters())


def test_every_readout_costs_the_same_as_event_driven() -> None:
    figures = [count(make_decoder("head", readout=readout)) for readout in ("mean", "sum", "last", "membrane")]
    assert all(other == figures[0] for other in figures[1:])


def test_rate_encoded_input_is_accumulated_not_multiplied() -> None:
    direct, rate = (count(make_decoder("head", encoding=encoding)) for encoding in ("direct", "rate"))
    assert direct["Effective_MACs"] > 0
    assert rate["Effective_MACs"] == 0
    assert rate["Dense"] == STEPS * (8 * 10 + 10 * 3)


def test_the_control_without_spikes_multiplies() -> None:
    figures = count(make_decoder("head", neuron="relu"))
    assert figures["Effective_ACs"] == 0
    assert figures["MembraneUpdates"] == 0


def test_counting_leaves_no_hooks_behind() -> None:
    decoder = make_decoder("stage")
    before = copy.deepcopy([len(m._forward_hooks) + len(m._forward_pre_hooks) for m in decoder.modules()])
    count(decoder)
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in decoder.modules()] == before
