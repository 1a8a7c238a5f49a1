"""The whole way on a CUDA device: neurons, training, verification, attacks. Skipped where there is none."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from neurons import PEERS, NeuronParameters, list_neurons, make_neuron
from resnet_spiking.attacks import attack
from resnet_spiking.config import RunConfig
from resnet_spiking.data.images import Dataset
from resnet_spiking.data.views import Views
from resnet_spiking.environment import Environment
from resnet_spiking.errors import Interrupted
from resnet_spiking.network.arithmetic import plain_arithmetic
from resnet_spiking.network.classifier import Classifier
from resnet_spiking.network.preprocess import Preprocess
from resnet_spiking.training.run import train_run
from resnet_spiking.training.verify import load_network, verify_run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

CONFIG = RunConfig(
    dataset="folder",
    weights="none",
    image_size=32,
    hidden=(24,),
    num_steps=5,
    default_epochs=2,
    spiking_epochs=2,
    batch_size=24,
    lr=2e-3,
    head_lr=5e-3,
)
GPU = torch.device("cuda")


def test_views_are_those_of_the_cpu() -> None:
    views, indices = Views(flip=True, shifts=3), torch.randperm(5000)[:64]
    pixels, chosen = torch.rand(64, 3, 32, 32), torch.arange(64) % 8
    ours = views.apply(pixels, indices, chosen)
    assert torch.equal(views.apply(pixels.cuda(), indices, chosen).cpu(), ours)


def _figures(result: dict[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in ("test", "predictions", "hashes", "config", "evidence", "default")}


@pytest.mark.parametrize("name", list_neurons())
def test_a_neuron_spikes_as_on_the_cpu(name: str) -> None:
    if name in PEERS:
        pytest.importorskip(name.removesuffix("-lif"), reason="a peer is an extra of its own")
    torch.manual_seed(0)
    neuron = make_neuron(name, NeuronParameters())
    current = (torch.rand(20, 3, 17, dtype=torch.float64) * 1.2 - 0.2).requires_grad_()
    moved = current.detach().cuda().requires_grad_()
    ours, theirs = copy.deepcopy(neuron)(current)[0], neuron.cuda()(moved)[0]
    assert theirs.device.type == "cuda"
    weights = torch.rand(ours.shape, dtype=torch.float64)
    (there,) = torch.autograd.grad((theirs * weights.cuda()).sum(), moved)
    assert there.isfinite().all()
    assert there.abs().max() > 0
    if neuron.stochastic:  # a GPU draws other numbers
        assert set(theirs.unique().tolist()) == {0.0, 1.0}
        return
    (here,) = torch.autograd.grad((ours * weights).sum(), current)
    assert torch.equal(ours, theirs.cpu())
    torch.testing.assert_close(there.cpu(), here, rtol=1e-6, atol=1e-9)


def test_what_is_kept_between_calls_serves_every_kind_of_call() -> None:
    neuron = make_neuron("lif", NeuronParameters(beta=0.8125)).cuda()  # a value of this test alone
    current = torch.rand(6, 2, 9, device=GPU)
    with torch.inference_mode():
        first = neuron(current)[0].clone()
    leaf = current.clone().requires_grad_()
    second, state = neuron(leaf)
    second.sum().backward()
    assert torch.equal(first, second)
    assert leaf.grad is not None
    third = neuron(current, state)[0]
    assert torch.equal(neuron(torch.cat([current, current]))[0][6:], third)
    assert torch.equal(neuron(current)[0], first), "a state of zeros was written to"


@pytest.mark.parametrize(("neuron", "train"), [("lif", "decoder"), ("paralif-sb", "head"), ("snntorch-lif", "head")])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_gives_the_same_bytes_twice_and_is_verified_on_both_devices(
    tmp_path: Path, shapes: Dataset, neuron: str, train: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resnet_spiking.training.verify.load_data", lambda *_: shapes)
    config = replace(CONFIG, neuron=neuron, train=train, precision=precision, optimizer="muon")
    environment = Environment(device=GPU, cache_dir=tmp_path / "cache")
    whole = train_run(config, tmp_path / "a" / "run", environment, data=shapes)
    calls = iter(range(10**6))
    stopping = replace(environment, should_stop=lambda: next(calls) == 14)
    with pytest.raises(Interrupted):
        train_run(config, tmp_path / "b" / "run", stopping, data=shapes)
    again = train_run(config, tmp_path / "b" / "run", environment, data=shapes, resume=True)
    assert _figures(whole) == _figures(again)
    assert whole["provenance"]["device"] == torch.cuda.get_device_name()
    for device in ("cuda", "cpu"):
        rows = verify_run(tmp_path / "a" / "run", device=torch.device(device))
        stochastic = whole["neurons"][0]["stochastic"]
        differing = [row for row in rows if not row.agrees]
        assert not differing or (device == "cpu" and stochastic), differing  # a CPU draws other numbers


@pytest.mark.parametrize("neuron", ["lif", "paralif-sb"])
def test_an_attack_gives_the_same_images_twice(tmp_path: Path, shapes: Dataset, neuron: str) -> None:
    train_run(replace(CONFIG, neuron=neuron), tmp_path / "run", Environment(device=GPU), data=shapes)
    backbone, decoder, _ = load_network(tmp_path / "run")
    model: nn.Module = Classifier(backbone, decoder).to(GPU).eval()
    images, labels = shapes.test.pixels(torch.arange(24)).cuda(), shapes.test.labels[:24].cuda()
    first, second = (attack(model, images, labels, "apgd-ce", eps="8/255", seed=0, steps=10) for _ in range(2))
    assert torch.equal(first, second)
    assert (first - images).abs().max() <= 8 / 255 + 1e-6
    assert not torch.equal(first, images)


def test_convolutions_in_fp32_are_fp32() -> None:
    layer = nn.Conv2d(256, 64, 3).cuda()
    images = torch.randn(4, 256, 16, 16, device=GPU)
    exact = copy.deepcopy(layer).double()(images.double())
    with plain_arithmetic():
        plain = float((layer(images) - exact).detach().abs().max())
    assert plain < 2e-5  # TF32 is wrong by some 1e-3


def test_a_resize_has_the_same_gradient_twice() -> None:
    images = torch.rand(8, 3, 32, 32, device=GPU, requires_grad=True)
    weights = torch.randn(8, 3, 224, 224, device=GPU)
    resize = Preprocess(224).cuda()
    first, second = (torch.autograd.grad((resize(images) * weights).sum(), images)[0] for _ in range(2))
    assert torch.equal(first, second)
