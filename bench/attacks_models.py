"""The networks that the benches attack: given runs, or some trained on the spot on the digits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from resnet_spiking.config import RunConfig
from resnet_spiking.network.classifier import Classifier
from resnet_spiking.network.head import LinearHead
from resnet_spiking.storage.run_folder import read_json
from resnet_spiking.training.configured_data import load_data
from resnet_spiking.training.run import train_run
from resnet_spiking.training.verify import load_network

# What is trained when no run is given: a deterministic head and one that draws its spikes.
STAND_INS = {"snntorch-lif": False, "paralif-sb": True}


@dataclass(frozen=True)
class Victim:
    """A trained model with test images that it classifies, ``[N, C, H, W]`` in [0, 1]."""

    name: str
    model: nn.Module
    images: Tensor
    labels: Tensor


def find_victim(
    runs: list[Path], *, stochastic: bool, count: int, data_dir: Path | None, weights: str | None, scratch: Path
) -> Victim:
    """Return the first of ``runs`` with a head that is stochastic, or not; without any, train one on the digits."""
    if not runs:
        runs = [_stand_in(next(name for name, draws in STAND_INS.items() if draws == stochastic), scratch)]
    for run in runs:
        model, config = _load(run, weights)
        if model.decoder.head.stochastic == stochastic:
            return _with_images(run, model, config, count, data_dir)
    kind = "stochastic" if stochastic else "deterministic"
    raise LookupError(f"no run among {', '.join(map(str, runs))} has a {kind} head; name one more with --run")


def find_control(runs: list[Path], *, count: int, data_dir: Path | None, weights: str | None, scratch: Path) -> Victim:
    """Return the first of ``runs`` that is a Default, smooth almost everywhere; without any, train one."""
    if not runs:
        runs = [_stand_in("none", scratch)]
    for run in runs:
        model, config = _load(run, weights)
        if isinstance(model.decoder.head, LinearHead):
            return _with_images(run, model, config, count, data_dir)
    raise LookupError(f"no run among {', '.join(map(str, runs))} is a Default; name one more with --run")


def _stand_in(neuron: str, scratch: Path) -> Path:
    train_run(RunConfig(neuron=neuron, train="head", default_epochs=3, spiking_epochs=3), scratch / neuron)
    return scratch / neuron


def _load(run: Path, weights: str | None) -> tuple[Classifier, RunConfig]:
    backbone, decoder, config = load_network(run, weights=weights)
    return Classifier(backbone, decoder).eval(), config


def _with_images(run: Path, model: nn.Module, config: RunConfig, count: int, data_dir: Path | None) -> Victim:
    inputs = read_json(run / "config.json", "run")["inputs"]
    data = load_data(config, data_dir or (Path(inputs["data_dir"]) if inputs["data_dir"] else None))
    test = data.test.subset(count)
    return Victim(run.name, model, test.pixels(torch.arange(len(test))), test.labels)
