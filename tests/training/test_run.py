from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from run_cases import CONFIG, figures
from safetensors.torch import load_file

from resnet_spiking.data.images import Dataset
from resnet_spiking.environment import Environment
from resnet_spiking.errors import UserError
from resnet_spiking.network.backbone import build_resnet
from resnet_spiking.training.run import train_run
from resnet_spiking.training.verify import load_network, verify_run


def test_bf16_training_is_deterministic_and_learns(tmp_path: Path, shapes: Dataset) -> None:
    config = replace(CONFIG, precision="bf16", default_epochs=4, spiking_epochs=1)
    first, second = (train_run(config, tmp_path / name / "run", data=shapes) for name in "ab")
    assert figures(first) == figures(second)
    assert first["default"]["accuracy"] > 0.6


def test_the_branch_starts_from_default_and_head_training_leaves_its_stages(tmp_path: Path, shapes: Dataset) -> None:
    head = train_run(replace(CONFIG, train="head"), tmp_path / "head", data=shapes)
    train_run(CONFIG, tmp_path / "decoder", data=shapes)
    default, kept, trained = (
        load_file(tmp_path / name / "model.safetensors") for name in (head["default"]["run"], "head", "decoder")
    )
    stages = [name for name in default if name.startswith("stages.") and default[name].is_floating_point()]
    assert stages
    assert all(torch.equal(default[name], kept[name]) for name in stages)
    assert not all(torch.equal(default[name], trained[name]) for name in stages)


def test_the_frozen_backbone_is_unchanged_by_training(tmp_path: Path, shapes: Dataset) -> None:
    result = train_run(CONFIG, tmp_path / "run", data=shapes)
    backbone, _, _ = load_network(tmp_path / "run")
    from resnet_spiking.network.weights import frozen_sha256

    assert frozen_sha256(backbone) == result["hashes"]["backbone"]["sha256"]  # type: ignore[arg-type]


def test_a_cache_changes_nothing_but_time(tmp_path: Path, shapes: Dataset) -> None:
    live = train_run(CONFIG, tmp_path / "a" / "run", data=shapes)
    cached = train_run(CONFIG, tmp_path / "b" / "run", Environment(cache_dir=tmp_path / "cache"), data=shapes)
    assert cached["test"]["accuracy"] == pytest.approx(live["test"]["accuracy"], abs=0.05)
    assert list((tmp_path / "cache").glob("*.npy"))


def test_neuron_none_is_default_alone(tmp_path: Path, shapes: Dataset) -> None:
    result = train_run(replace(CONFIG, neuron="none"), tmp_path / "run", data=shapes)
    assert result["variant"] == "default"
    assert result["test"]["spike_rates"] == []


def test_the_relu_control_claims_no_spikes(tmp_path: Path, shapes: Dataset) -> None:
    result = train_run(replace(CONFIG, neuron="relu"), tmp_path / "run", data=shapes)
    assert result["evidence"]["spikes"] is False


def test_nothing_frozen_trains_from_scratch(tmp_path: Path, shapes: Dataset) -> None:
    config = replace(CONFIG, freeze_depth=0, default_epochs=1, spiking_epochs=1)
    result = train_run(config, tmp_path / "run", data=shapes)
    assert result["hashes"]["backbone"]["random"] == ["stem", "layer1", "layer2", "layer3", "layer4"]


def test_who_may_read_a_result_may_read_its_model(finished: Path) -> None:
    assert (finished / "model.safetensors").stat().st_mode == (finished / "result.json").stat().st_mode


def test_an_existing_run_is_kept_unless_told_otherwise(finished: Path, shapes: Dataset) -> None:
    before = (finished / "result.json").read_bytes()
    with pytest.raises(UserError, match="--resume to continue it, or --overwrite"):
        train_run(CONFIG, finished, data=shapes)
    with pytest.raises(UserError, match=r"another configuration \(beta\)"):
        train_run(replace(CONFIG, beta=0.5), finished, data=shapes, resume=True)
    assert (finished / "result.json").read_bytes() == before
    assert train_run(CONFIG, finished, data=shapes, resume=True) == json.loads(before)
    train_run(replace(CONFIG, beta=0.5), finished, data=shapes, overwrite=True)
    assert json.loads((finished / "result.json").read_text())["config"]["beta"] == 0.5


def test_two_commands_on_one_folder_do_not_write_over_each_other(tmp_path: Path, shapes: Dataset) -> None:
    """The second comes while the first one trains."""
    refused: list[str] = []

    def another(*_: object) -> None:
        if not refused:
            refused.append("")
            for option in ({}, {"resume": True}, {"overwrite": True}):
                config = replace(CONFIG, seed=0 if "resume" in option else 5)
                with pytest.raises(UserError) as stopped:
                    train_run(config, tmp_path / "run", data=shapes, **option)
                refused.append(str(stopped.value))

    result = train_run(CONFIG, tmp_path / "run", Environment(progress=another), data=shapes)
    assert "holds a run already" in refused[1]
    assert [f"another command writes to {tmp_path / 'run'}; wait for it" in line for line in refused[2:]] == [True] * 2
    stored = json.loads((tmp_path / "run" / "result.json").read_text())
    assert stored["hashes"] == result["hashes"]
    assert stored["config"] == json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert not list(tmp_path.rglob("lock.sqlite"))


def test_what_is_refused_for_its_data_or_weights_leaves_nothing_and_loses_nothing(
    tmp_path: Path, finished: Path, shapes: Dataset
) -> None:
    """A second try, with the mistake put right, needs no option."""
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    absent = Environment(data_dir=tmp_path / "absent")
    with pytest.raises(UserError, match="is not a folder"):
        train_run(CONFIG, finished, absent, overwrite=True)
    with pytest.raises(UserError, match="a file that exists"):
        train_run(replace(CONFIG, weights="absent.pth"), finished, data=shapes, overwrite=True)
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before
    with pytest.raises(UserError, match="is not a folder"):
        train_run(CONFIG, tmp_path / "new", absent)
    with pytest.raises(UserError, match="a file that exists"):
        train_run(replace(CONFIG, weights="absent.pth"), tmp_path / "new", data=shapes)
    assert not (tmp_path / "new").exists()


def test_pooled_features_of_one_architecture_are_not_those_of_another(tmp_path: Path, shapes: Dataset) -> None:
    """ResNet-50 and its version of 2015 have the same tensors; stages frozen to the last are in neither's training."""
    torch.manual_seed(0)
    torch.save(build_resnet("resnet50").state_dict(), tmp_path / "weights.pth")
    config = replace(
        CONFIG,
        weights=str(tmp_path / "weights.pth"),
        freeze_depth=4,
        train="head",
        default_epochs=0,
        spiking_epochs=1,
    )
    cached = Environment(cache_dir=tmp_path / "cache")
    lines: list[str] = []
    train_run(replace(config, backbone="resnet50"), tmp_path / "a" / "run", cached, data=shapes)
    other = replace(config, backbone="resnet50-v1")
    train_run(other, tmp_path / "b" / "run", replace(cached, report=lines.append), data=shapes)
    assert len([line for line in lines if "caching pooled" in line]) == 2


def test_divergence_in_the_last_step_leaves_no_result(tmp_path: Path, shapes: Dataset) -> None:
    """The loss of the step before it is still finite."""
    config = replace(CONFIG, neuron="none", optimizer="sgd", lr=1e38, head_lr=1e38, default_epochs=1, batch_size=96)
    with pytest.raises(UserError, match=r"no longer finite.*lower --lr"):
        train_run(config, tmp_path / "run", data=shapes)
    assert not list(tmp_path.rglob("result.json"))


def test_divergence_is_one_line(tmp_path: Path, shapes: Dataset) -> None:
    with pytest.raises(UserError, match=r"no longer finite.*lower --lr"):
        train_run(replace(CONFIG, optimizer="sgd", lr=1e30, head_lr=1e30), tmp_path / "run", data=shapes)


@pytest.mark.parametrize("neuron", ["lif", "snntorch-lif", "paralif-t"])
@pytest.mark.parametrize("head_lr", [1e12, 1e30])
def test_divergence_of_a_head_is_one_line(tmp_path: Path, shapes: Dataset, neuron: str, head_lr: float) -> None:
    config = replace(CONFIG, neuron=neuron, train="head", optimizer="sgd", head_lr=head_lr, spiking_epochs=3)
    with pytest.raises(UserError, match=r"no longer finite.*lower --lr"):
        train_run(config, tmp_path / "run", data=shapes)


def test_head_seeds_differ_on_one_default_and_verify(tmp_path: Path, shapes: Dataset) -> None:
    short = replace(CONFIG, default_epochs=1, spiking_epochs=1, train="head", neuron="paralif-gs")
    results = [
        train_run(replace(short, head_seed=seed), tmp_path / str(seed), data=shapes) for seed in (None, 0, 1)
    ]  # fmt: skip
    assert len(list(tmp_path.glob("default-*"))) == 1
    assert results[0]["hashes"]["model"] == results[1]["hashes"]["model"] != results[2]["hashes"]["model"]
    # From pixels through the whole network, where training scored the head on pooled features.
    assert all(row.agrees for row in verify_run(tmp_path / "1", data=shapes))


def test_a_memory_changes_nothing_but_time(tmp_path: Path, shapes: Dataset) -> None:
    kept: dict[tuple[object, ...], Any] = {}
    made: list[tuple[object, ...]] = []

    def remember(key: tuple[object, ...], make: Any) -> Any:
        if key not in kept:
            made.append(key)
            kept[key] = make()
        return kept[key]

    short = replace(CONFIG, default_epochs=1, spiking_epochs=1)
    configs = [replace(short, train="head"), short, replace(short, train="head", neuron="relu")]
    for number, config in enumerate(configs):
        alone = train_run(config, tmp_path / "alone" / str(number), data=shapes)
        shared = train_run(config, tmp_path / "shared" / str(number), Environment(remember=remember), data=shapes)
        assert figures(alone) == figures(shared)
    assert [key[0] for key in made] == ["trunk", "frozen", "default", "pooled"]
