from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from run_cases import StopAfter
from safetensors.torch import load_file

from neurons import Neuron, register, unregister
from resnet_spiking.config import RunConfig
from resnet_spiking.data.feature_cache import FeatureSource
from resnet_spiking.data.images import Dataset, ImageSet
from resnet_spiking.environment import Environment
from resnet_spiking.errors import Interrupted, UserError
from resnet_spiking.network.spiking_stage import SpikingStage
from resnet_spiking.training import branch
from resnet_spiking.training.optimizer import make_optimizer
from resnet_spiking.training.run import train_run
from resnet_spiking.training.verify import load_network, verify_run

CONFIG = RunConfig(
    dataset="folder",
    weights="none",
    image_size=32,
    neuron="lif",
    spiking="stage",
    hidden=(24,),
    num_steps=3,
    default_epochs=2,
    spiking_epochs=1,
    batch_size=24,
    lr=2e-3,
    head_lr=5e-3,
    precision="fp32",
)


def figures(result: dict[str, Any]) -> dict[str, Any]:
    names = ("test", "predictions", "hashes", "config", "evidence", "default", "operations")
    return {name: result[name] for name in names}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, fixed_shapes: Dataset) -> tuple[Path, dict[str, Any]]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("stage")
    return folder / "run", train_run(CONFIG, folder / "run", data=fixed_shapes)


def test_a_run_spikes_in_stage_4_and_verifies(whole: tuple[Path, dict[str, Any]], shapes: Dataset) -> None:
    run, result = whole
    assert result["evidence"]["spikes"], result["evidence"]
    assert list(result["evidence"]["rates"]) == [
        "layer4.0.spike1", "layer4.0.spike2", "layer4.1.spike1", "layer4.1.spike2", "head layer 1",
    ]  # fmt: skip
    assert len(result["test"]["spike_rates"]) == len(result["neurons"]) == 5
    rows = verify_run(run, data=shapes)
    assert [row.figure for row in rows if not row.agrees] == []
    assert "spike rate of layer 5" in [row.figure for row in rows]


def test_an_interrupted_run_resumes_to_the_same_bytes(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path, shapes: Dataset
) -> None:
    with pytest.raises(Interrupted):
        train_run(CONFIG, tmp_path / "run", Environment(should_stop=StopAfter(10)), data=shapes)
    assert (tmp_path / "run" / "last.ckpt").exists()
    resumed = train_run(CONFIG, tmp_path / "run", data=shapes, resume=True)
    assert figures(resumed) == figures(whole[1])


def test_the_branch_starts_from_default_and_trains_its_convolutions(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path, shapes: Dataset
) -> None:
    default = load_file(whole[0].parent / whole[1]["default"]["run"] / "model.safetensors")
    trained = load_file(whole[0] / "model.safetensors")
    untouched = train_run(replace(CONFIG, spiking_epochs=0), tmp_path / "run", data=shapes)
    started = load_file(tmp_path / "run" / "model.safetensors")
    for name in ("0.conv1", "0.conv2", "0.downsample.0", "1.conv1", "1.conv2", "0.bn1"):
        original = default[f"stages.layer4.{name}.weight"]
        assert torch.equal(started[f"head.blocks.{name}.weight"], original)
        assert not torch.equal(trained[f"head.blocks.{name}.weight"], original)
    assert all(0.01 < rate < 0.9 for rate in untouched["test"]["spike_rates"][:4])


def test_calibration_sees_every_class_of_a_sorted_folder(
    tmp_path: Path, shapes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = shapes.train.labels.argsort(stable=True)
    train = ImageSet(shapes.train.images[order], shapes.train.labels[order], shapes.classes)
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(branch, "CALIBRATION_IMAGES", 12)
    monkeypatch.setattr(FeatureSource, "batch", _recording(seen))
    train_run(replace(CONFIG, default_epochs=0, spiking_epochs=0), tmp_path / "run", data=replace(shapes, train=train))
    counts = [train.labels[chosen].bincount().tolist() for chosen in seen if len(chosen) == 12]
    assert counts == [[4, 4, 4]]


def _recording(seen: list[torch.Tensor]) -> Any:
    batch = FeatureSource.batch

    def recorded(self: FeatureSource, chosen: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append(chosen)
        return batch(self, chosen, *rest)

    return recorded


def test_operations_are_recorded_for_default_and_branch(whole: tuple[Path, dict[str, Any]]) -> None:
    result = whole[1]
    default, branch = result["default"]["operations"], result["operations"]
    assert default["Dense"] == 512 * 3
    assert default["Effective_ACs"] == default["stages"]["Effective_ACs"] == 0
    # 2x2 maps of 256 channels enter, 1x1 maps of 512 leave: the 3x3 kernels see 4, 1, 1 and 1 pixels.
    once, each_step = 512 * 256 * (4 + 1), 512 * 512 * 3
    assert default["stages"]["Dense"] == once + each_step
    assert branch["stages"]["Dense"] == once + CONFIG.num_steps * each_step
    assert 0 < branch["stages"]["Effective_ACs"] < CONFIG.num_steps * each_step
    assert 0 < branch["stages"]["Effective_MACs"] <= once
    assert branch["stages"]["MembraneUpdates"] == CONFIG.num_steps * 4 * 512
    assert branch["MembraneUpdates"] == CONFIG.num_steps * 24
    energy = 0.9e-3 * branch["Effective_ACs"] + 4.6e-3 * branch["Effective_MACs"]
    assert branch["energy_nJ"] == pytest.approx(energy)


def test_stage_head_and_distillation_share_one_default(tmp_path: Path, shapes: Dataset) -> None:
    lines: list[str] = []
    environment = Environment(report=lines.append)
    config = replace(CONFIG, default_epochs=1, num_steps=2)
    plain = train_run(replace(config, spiking="head", train="head"), tmp_path / "head", environment, data=shapes)
    distilled = train_run(
        replace(config, spiking="head", train="head", distill=0.9), tmp_path / "distilled", environment, data=shapes
    )
    deep = train_run(replace(config, distill=0.5), tmp_path / "stage", environment, data=shapes)
    assert len(list(tmp_path.glob("default-*"))) == 1
    assert sum("reusing" in line for line in lines) == 2
    assert plain["hashes"]["model"] != distilled["hashes"]["model"]
    assert deep["evidence"]["spikes"]


def test_stages_before_the_fourth_stay_without_time(tmp_path: Path, shapes: Dataset) -> None:
    config = replace(CONFIG, freeze_depth=2, default_epochs=0, spiking_epochs=0, num_steps=2)
    train_run(config, tmp_path / "run", data=shapes)
    _, decoder, _ = load_network(tmp_path / "run")
    assert isinstance(decoder.head, SpikingStage)
    assert [name for name, _ in decoder.stages.named_children()] == ["layer3"]
    maps = decoder.pool(torch.rand(3, 128, 4, 4))
    assert maps.shape == (3, 256, 2, 2)
    rates = {
        name: group["peak"]
        for group in make_optimizer(decoder, replace(config, lr=1.0, head_lr=2.0)).param_groups
        for name, parameter in decoder.named_parameters()
        if any(parameter is member for member in group["params"])
    }
    assert rates["stages.layer3.0.conv1.weight"] == rates["head.blocks.0.conv1.weight"] == 1.0
    assert rates["head.head.output.weight"] == 2.0


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"train": "head"}, "--train decoder"), ({"freeze_depth": 4}, "--freeze-depth"), ({"spiking": "stag"}, "stage")],
)
def test_contradictions_are_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        replace(CONFIG, **settings)
    assert replace(CONFIG, neuron="none", train="head", freeze_depth=4).neuron == "none"


def test_a_neuron_that_does_not_take_maps_is_refused_before_anything_is_written(
    tmp_path: Path, shapes: Dataset
) -> None:
    class Flat(Neuron):
        def equation(self) -> str:
            return "s[t] = [x[t] > 1]"

        def _simulate(self, current: Any, state: Any, generator: Any) -> Any:
            if current.ndim != 3:
                raise ValueError("current must be [T, B, N]")
            return (current > 1).to(current.dtype), (current[-1],)

    register("flat", Flat)
    try:
        with pytest.raises(UserError, match=r"feature maps \[T, B, C, h, w\]; flat: current must be \[T, B, N\]"):
            train_run(replace(CONFIG, neuron="flat"), tmp_path / "run", data=shapes)
    finally:
        unregister("flat")
    assert not list(tmp_path.iterdir())


def test_a_configuration_of_before_these_options_is_still_read() -> None:
    new = {"spiking", "distill", "distill_temperature"}
    stored = {name: value for name, value in RunConfig().as_dict().items() if name not in new}
    assert RunConfig.from_dict(json.loads(json.dumps(stored))) == RunConfig()
    assert not new & set(RunConfig().default_part())
    with pytest.raises(UserError, match=r"another version.*colour"):
        RunConfig.from_dict({**stored, "colour": "red"})


def test_a_run_of_before_these_options_resumes(tmp_path: Path, shapes: Dataset) -> None:
    config = replace(CONFIG, spiking="head", default_epochs=1, num_steps=2)
    with pytest.raises(Interrupted):
        train_run(config, tmp_path / "run", Environment(should_stop=StopAfter(6)), data=shapes)
    described = json.loads((tmp_path / "run" / "config.json").read_text())
    state = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    for stored in (described["config"], state["config"]):
        for name in ("spiking", "distill", "distill_temperature"):
            del stored[name]
    (tmp_path / "run" / "config.json").write_text(json.dumps(described))
    torch.save(state, tmp_path / "run" / "last.ckpt")
    assert train_run(config, tmp_path / "run", data=shapes, resume=True)["variant"] == "lif"
