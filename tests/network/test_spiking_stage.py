from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from neurons import NEURONS, NeuronParameters, make_neuron
from resnet_spiking.attacks.gradients.names import list_modes, make_mode
from resnet_spiking.attacks.losses import margin
from resnet_spiking.attacks.target import attackable, make_target
from resnet_spiking.network.backbone import Backbone
from resnet_spiking.network.calibration import calibrate, correlation, preactivations, slope
from resnet_spiking.network.classifier import Classifier, Decoder
from resnet_spiking.network.evidence import gather_evidence
from resnet_spiking.network.head import HeadConfig, SpikingHead
from resnet_spiking.network.spiking_stage import SpikingStage

STEPS = 6
SPIKING = [name for name in NEURONS if name != "relu"]


def make_stage(bottleneck: bool = False) -> nn.Sequential:
    """A small residual stage as torchvision builds it, with BatchNorm statistics of its own inputs."""
    torch.manual_seed(0)
    width = 4 if bottleneck else 12
    block: type[BasicBlock] | type[Bottleneck] = Bottleneck if bottleneck else BasicBlock
    out = width * block.expansion
    down = nn.Sequential(nn.Conv2d(8, out, 1, stride=2, bias=False), nn.BatchNorm2d(out))
    stage = nn.Sequential(block(8, width, 2, down), block(out, width))
    for module in stage.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            module.momentum = 0.5
    for _ in range(8):
        stage(maps(32))
    return stage.eval()


def maps(batch: int = 16) -> Tensor:
    return torch.rand(batch, 8, 6, 6, generator=torch.Generator().manual_seed(1)) * 2


def labels(batch: int = 16) -> Tensor:
    return torch.arange(batch) % 3


def draw() -> torch.Generator:
    return torch.Generator().manual_seed(2)


def make(neuron: str = "lif", stage: nn.Sequential | None = None, **settings: Any) -> SpikingStage:
    stage = make_stage() if stage is None else copy.deepcopy(stage)
    torch.manual_seed(3)
    config = HeadConfig(**{"neuron": neuron, "hidden": (16,), "num_steps": STEPS, **settings})
    width = next(m.num_features for m in reversed(list(stage.modules())) if isinstance(m, nn.BatchNorm2d))
    head = SpikingHead(width, 3, config)
    return SpikingStage(stage, head, lambda: make_neuron(neuron, config.parameters, mode=config.mode)).eval()


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("neuron", SPIKING)
def test_every_neuron_spikes_in_every_layer_and_every_parameter_learns(neuron: str, bottleneck: bool) -> None:
    reference = make_stage(bottleneck)
    stage = make(neuron, reference)
    calibrate(stage, reference, maps(), draw())
    evidence = gather_evidence(stage, maps(), labels(), draw())
    assert evidence.spikes, evidence
    layers = 6 if bottleneck else 4
    assert list(evidence.rates) == list(stage.layer_names)
    assert len(stage.neurons) == len(stage.layer_names) == layers + 1
    assert all(0.01 < rate < 0.95 for name, rate in evidence.rates.items() if name.startswith("layer4")), evidence.rates


@pytest.mark.parametrize("mode", ["shared", "native"])
@pytest.mark.parametrize("neuron", ["snntorch-lif", "norse-lifbox", "paralif-t"])
@pytest.mark.parametrize("scale", [0.02, 50.0])
def test_calibration_finds_rates_whatever_the_scale_of_the_stage(neuron: str, mode: str, scale: float) -> None:
    reference = make_stage()
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm2d):
            with torch.no_grad():
                module.weight *= scale
                module.bias *= scale
    stage = make(neuron, reference, mode=mode)
    with torch.no_grad():
        activation = preactivations(reference[0], maps())[0].relu()
        before = stage.trace(maps(), draw())[1][0].mean()
    assert before < 0.02 or before > 0.35
    calibrate(stage, reference, maps(), draw())
    with torch.no_grad():
        rates = stage.trace(maps(), draw())[1][0].mean(0)
    assert 0.02 < rates.mean() < 0.9
    assert correlation(rates, activation) > 0.6


@pytest.mark.parametrize("neuron", ["paralif-sb", "paralif-gs"])
def test_a_neuron_without_threshold_finds_one_in_the_shift(neuron: str) -> None:
    reference = make_stage()
    stage = make(neuron, reference)
    with torch.no_grad():
        activation = preactivations(reference[0], maps())[0].relu()
        before = stage.trace(maps(), draw())[1][0].mean(0)
        calibrate(stage, reference, maps(), draw())
        after = stage.trace(maps(), draw())[1][0].mean(0)
    assert correlation(after, activation) > correlation(before, activation) + 0.05
    silent, active = after[activation == 0].mean(), after[activation > 0].mean()
    assert silent < 0.5 * active
    assert silent < 0.5 * before[activation == 0].mean()


def test_spikes_equal_a_simulation_step_by_step() -> None:
    """Convolutions one step at a time, BatchNorm and LIF by their equations, in float64."""
    reference = make_stage()
    stage = make("lif", reference, parameters=NeuronParameters(beta=0.8)).double()
    calibrate(stage, reference.double(), maps().double(), draw())
    x = maps(5).double()
    with torch.no_grad():
        logits, layers = stage.trace(x)
    parameters = dict(stage.state_dict())

    def convolved(name: str, norm: str, signal: Tensor, stride: int, padding: int) -> Tensor:
        z = nn.functional.conv2d(signal, parameters[f"{name}.weight"], stride=stride, padding=padding)
        mean, var, weight, bias = (
            parameters[f"{norm}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (z - mean) / (var + 1e-5).sqrt() * weight + bias

    def fire(name: str, z: Tensor, membrane: dict[str, Tensor]) -> Tensor:
        x = parameters[f"{name}.gain"] * (z + parameters[f"{name}.shift"])
        u = 0.8 * membrane.get(name, torch.zeros_like(x)) + x
        spikes = (u > 1).to(z.dtype)
        membrane[name] = u * (1 - spikes)
        return spikes

    membrane: dict[str, Tensor] = {}
    outputs = []
    for step in range(STEPS):
        signal, found = x, []
        for block in (0, 1):
            at, stride = f"blocks.{block}", 2 if block == 0 else 1
            if block == 0:
                shortcut = convolved(f"{at}.downsample.0", f"{at}.downsample.1", signal, 2, 0)
            else:
                shortcut = parameters[f"{at}.shortcut"] * signal
            first = fire(f"{at}.spike1", convolved(f"{at}.conv1", f"{at}.bn1", signal, stride, 1), membrane)
            signal = fire(f"{at}.spike2", convolved(f"{at}.conv2", f"{at}.bn2", first, 1, 1) + shortcut, membrane)
            found += [first, signal]
        pooled = parameters["scale"] * signal.mean((2, 3))
        current = pooled @ parameters["head.linears.0.weight"].T + parameters["head.linears.0.bias"]
        u = 0.8 * membrane.get("head", torch.zeros_like(current)) + current
        spikes = (u > 1).double()
        membrane["head"] = u * (1 - spikes)
        outputs.append(spikes @ parameters["head.output.weight"].T + parameters["head.output.bias"])
        for ours, theirs in zip(layers, [*found, spikes], strict=True):
            assert torch.equal(ours[step].double(), theirs)
    assert 0.02 < layers[3].mean() < 0.9
    assert torch.allclose(logits, torch.stack(outputs).mean(0))


def test_the_control_without_spikes_is_the_original_stage() -> None:
    reference = make_stage()
    stage = make("relu", reference)
    with torch.no_grad():
        _, layers = stage.trace(maps())
        expected = reference(maps())
    assert not stage.spiking
    assert all(torch.allclose(step, expected, atol=1e-5) for step in layers[3])


def test_a_constant_input_is_convolved_once_and_time_is_folded_into_the_batch() -> None:
    stage = make()
    seen: dict[str, int] = {}
    for name, module in stage.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(lambda m, given, name=name: seen.__setitem__(name, len(given[0])))
    stage.trace(maps(5))
    assert seen == {
        "blocks.0.conv1": 5,
        "blocks.0.downsample.0": 5,
        "blocks.0.conv2": 5 * STEPS,
        "blocks.1.conv1": 5 * STEPS,
        "blocks.1.conv2": 5 * STEPS,
    }


def test_batchnorm_sees_time_batch_and_positions_together() -> None:
    stage = make()
    norm = stage.get_submodule("blocks.0.bn2")
    assert isinstance(norm, nn.BatchNorm2d)
    norm.momentum = 1.0
    seen: list[Tensor] = []
    norm.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    stage.train().trace(maps())
    values = seen[0].unflatten(0, (STEPS, 16)).transpose(0, 2).flatten(1)  # a row per channel
    assert torch.allclose(norm.running_mean, values.mean(1), atol=1e-5)
    assert torch.allclose(norm.running_var, values.var(1), atol=1e-5)


def test_rate_encoding_draws_its_input_and_follows_the_generator() -> None:
    reference = make_stage()
    stage = make(stage=reference, encoding="rate")
    calibrate(stage, reference, maps(), draw())
    encoded = stage.encode(maps(), draw())
    assert encoded.shape == (STEPS, 16, 8, 6, 6)
    assert set(encoded.unique().tolist()) == {0.0, 1.0}
    flat = maps().flatten(1)
    probability = (flat - flat.amin(1, keepdim=True)) / (flat.amax(1) - flat.amin(1))[:, None]
    many = torch.stack([stage.encode(maps(), torch.Generator().manual_seed(seed)) for seed in range(100)])
    assert torch.allclose(many.mean((0, 1)).flatten(1), probability, atol=0.12)
    assert stage.stochastic
    assert torch.equal(stage(maps(), draw()), stage(maps(), draw()))
    assert not torch.equal(stage(maps(), draw()), stage(maps(), torch.Generator().manual_seed(7)))
    assert gather_evidence(stage, maps(), labels(), draw()).spikes


def test_a_stage_that_passes_its_maps_on_is_caught() -> None:
    stage = make()

    class Leak(nn.Module):
        spiking, stochastic = True, False

        def forward(self, current: Tensor, state: None = None, *, generator: object = None) -> tuple[Tensor, None]:
            return current.relu(), None

    stage.get_submodule("blocks.1.spike2").neuron = Leak()
    evidence = gather_evidence(stage, maps(), labels())
    assert not evidence.binary
    assert not evidence.spikes


def test_a_silent_layer_leaves_parameters_untrained() -> None:
    stage = make()
    with torch.no_grad():
        stage.scale.zero_()
    untrained = gather_evidence(stage, maps(), labels()).untrained
    assert {"blocks.1.spike2.gain", "features"} <= set(untrained)


def test_statistics_of_the_calibration_equal_numpys() -> None:
    generator = np.random.default_rng(0)
    rates, noise = generator.random((2, 50))
    activation = 3 * rates + noise
    pair = torch.tensor(rates), torch.tensor(activation)
    assert correlation(*pair) == pytest.approx(np.corrcoef(rates, activation)[0, 1])
    assert slope(*pair) == pytest.approx(np.polyfit(rates, activation, 1)[0])
    assert correlation(torch.zeros(50), pair[1]) == -1
    assert slope(torch.ones(50), pair[1]) == 1


def test_calibration_takes_over_what_the_reference_has_learnt() -> None:
    reference = make_stage()
    stage = make(stage=reference)
    kept = copy.deepcopy(stage.state_dict())
    calibrate(stage, reference, maps(), draw())
    changed = {name for name, value in stage.state_dict().items() if not torch.equal(value, kept[name])}
    estimated = {
        f"blocks.{norm}.{name}"
        for norm in ("0.bn2", "1.bn1", "1.bn2")
        for name in ("running_mean", "running_var", "num_batches_tracked")
    }
    scalars = {name for name in kept if name.endswith((".gain", ".shift", ".shortcut"))} | {"scale"}
    assert estimated <= changed <= estimated | scalars


def test_an_attack_runs_the_deterministic_part_once_and_draws_the_rest() -> None:
    reference = make_stage()
    stage = make("paralif-sb", reference)
    calibrate(stage, reference, maps(), draw())
    before = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
    backbone = Backbone.wrap(nn.Conv2d(3, 8, 3, stride=2, padding=1), side=12)
    decoder = Decoder(before, stage)
    rows = {"before": 0, "stage": 0}
    before.register_forward_hook(lambda _, given, __: rows.__setitem__("before", rows["before"] + len(given[0])))
    stage.register_forward_hook(lambda _, given, __: rows.__setitem__("stage", rows["stage"] + len(given[0])))
    images = torch.rand(4, 3, 12, 12, generator=draw())
    assert decoder.pool(backbone(images)).shape == (4, 8, 6, 6)
    with attackable(Classifier(backbone, decoder)) as model:
        target = make_target(model, images, draws=3)
        rows.update(before=0, stage=0)
        logits = target.logits(images, draw())
        assert rows == {"before": 4, "stage": 3 * 4}
        assert logits.shape == (3, 4, 3)
        assert not torch.equal(logits[0], logits[1])
        step = target.step(images, labels(4), margin, draw())
    assert (step.gradient.flatten(1).abs().amax(1) > 0).all()


@pytest.mark.parametrize("encoding", ["direct", "rate"])
@pytest.mark.parametrize("mode", list_modes())
def test_every_gradient_mode_reaches_the_pixels(mode: str, encoding: str) -> None:
    reference = make_stage()
    trained = NeuronParameters(surrogate="sigmoid", slope=3.0)
    stage = make("snntorch-lif", reference, encoding=encoding, parameters=trained)
    calibrate(stage, reference, maps(), draw())
    backbone = Backbone.wrap(nn.Conv2d(3, 8, 3, stride=2, padding=1), side=12)
    images = torch.rand(4, 3, 12, 12, generator=draw())
    with attackable(Classifier(backbone, Decoder(nn.Identity(), stage))) as model:
        target = make_target(model, images, draws=2)
        own = target.step(images, labels(4), margin, draw())
        step = target.using(make_mode(mode)).step(images, labels(4), margin, draw())
    assert step.gradient.isfinite().all()
    assert (step.gradient.flatten(1).abs().amax(1) > 0).all()
    assert (mode == "own") == torch.equal(step.gradient, own.gradient)


def test_bf16_convolutions_leave_neurons_in_fp32() -> None:
    reference = make_stage()
    stage = make(stage=reference)
    calibrate(stage, reference, maps(), draw())
    _, layers = Decoder(nn.Identity(), stage, "bf16").trace(maps())
    fp32 = Decoder(nn.Identity(), stage, "fp32").trace(maps())[1]
    assert {layer.dtype for layer in layers} == {torch.float32}
    differing = float(torch.cat([(a != b).flatten() for a, b in zip(layers, fp32, strict=True)]).float().mean())
    assert 0 < differing < 0.05


@pytest.mark.parametrize("training", [True, False])
def test_calibration_leaves_the_mode_and_the_momenta(training: bool) -> None:
    reference = make_stage()
    stage = make(stage=reference).train(training)
    before = [module.momentum for module in stage.modules() if isinstance(module, nn.BatchNorm2d)]
    calibrate(stage, reference, maps(), draw())
    assert [module.momentum for module in stage.modules() if isinstance(module, nn.BatchNorm2d)] == before
    assert stage.training is training


def test_spikes_that_are_read_as_values_are_weighed_by_the_line_through_them() -> None:
    """Against numpy's line through (rate, activation): the identity shortcut of block 1, the pooling after it."""
    reference = make_stage()
    stage = make(stage=reference)
    calibrate(stage, reference, maps(), draw())
    with torch.no_grad():
        _, layers = stage.trace(maps())
        activations = [reference[0](maps()), reference(maps())]
    for weight, spikes, activation in zip(
        (stage.blocks[1].shortcut, stage.scale), (layers[1], layers[3]), activations, strict=True
    ):
        line = np.polyfit(spikes.mean(0).double().flatten().numpy(), activation.double().flatten().numpy(), 1)
        assert weight.item() == pytest.approx(line[0], rel=0.01)


def test_a_shortcut_that_sees_spikes_takes_its_statistics_from_them() -> None:
    reference = make_stage()
    stage = make(stage=reference, encoding="rate")
    calibrate(stage, reference, maps(), draw())
    convolve, norm = stage.blocks[0].downsample
    with torch.no_grad():
        z = convolve(stage.encode(maps(), draw()).flatten(0, 1))
    torch.testing.assert_close(norm.running_mean, z.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, z.var((0, 2, 3)), rtol=1e-3, atol=1e-5)


def test_a_usable_rate_goes_before_a_better_correlation() -> None:
    """A gain under which the layer is all but silent, if perfectly in proportion, is not taken."""
    from resnet_spiking.network.calibration import choose

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain, self.shift = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(()))

        def forward(self, z: Tensor, steps: int, generator: torch.Generator | None = None) -> Tensor:
            exact = z.relu() / z.max()
            rough = (0.2 + 0.3 * (exact > 0.3)).expand_as(z)
            return (rough if 0.9 < self.gain < 1.1 else 0.01 * exact)[None]

    z = torch.randn(8, 3, 4, 4, generator=draw())
    z = z / z.square().mean().sqrt()
    layer = Layer()
    choose(layer, z, z, 1, draw())
    assert layer.gain.item() == pytest.approx(1, rel=1e-5)
