"""What is evaluated: a model with what its files say about it, and the images that all models share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neurons.base import Neuron
from resnet_spiking.attacks.gradients.neurons import has_spikes
from resnet_spiking.config import RunConfig
from resnet_spiking.data.images import ImageSet
from resnet_spiking.errors import UserError
from resnet_spiking.network.build import state_sha256
from resnet_spiking.network.classifier import Classifier
from resnet_spiking.storage.run_folder import read_json, stored_data_dir
from resnet_spiking.storage.whereabouts import beside
from resnet_spiking.training.configured_data import load_data
from resnet_spiking.training.verify import load_network

SAMPLES = 1000


@dataclass(frozen=True)
class Subject:
    """A model on pixels in [0, 1] under a name; ``details`` is what a result records of it (JSON-ready)."""

    name: str
    model: nn.Module
    variant: str = "model"
    run: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def spiking(self) -> bool:
        """Whether some layer fires: only then do gradient modes differ."""
        return has_spikes(self.model)

    @property
    def sha256(self) -> str:
        """Hash of all parameters and buffers."""
        return state_sha256(self.model)


@dataclass(frozen=True)
class Sample:
    """The images that every model is attacked on, and where in the test split they stand."""

    images: ImageSet
    indices: Tensor
    dataset: str
    data_sha256: str

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def labels(self) -> Tensor:
        """The labels ``[N]``."""
        return self.images.labels[self.indices]

    def pixels(self, rows: Tensor | None = None) -> Tensor:
        """Return all images, or those at ``rows`` of the sample, ``float32 [B, C, H, W]`` in [0, 1]."""
        return self.images.pixels(self.indices if rows is None else self.indices[rows])


def load_subjects(runs: list[Path], *, weights: str | None = None) -> tuple[list[Subject], list[str]]:
    """Return the runs as subjects, Default first, and notes for the reader.

    When no run is Default, the one that the first spiking run was branched from is added if its
    folder is still beside it: the others are paired with it.

    Raises ``UserError`` for a run that is missing, unfinished or damaged, and for runs on different data.
    """
    notes: list[str] = []
    results = {run: read_json(run / "result.json", "run") for run in _distinct(runs)}
    if all(result["variant"] != "default" for result in results.values()):
        first, result = next(iter(results.items()))
        default = beside(first) / result["default"]["run"]
        if (default / "result.json").exists():
            results = {default: read_json(default / "result.json", "run"), **results}
            notes.append(f"added {default}, the Default that {first} was branched from, to pair with")
        else:
            notes.append(f"no Default among the runs, and {default} is gone: nothing to pair with, no McNemar test")
    first_default = next((result for result in results.values() if result["variant"] == "default"), None)
    for run, result in results.items():
        own = result.get("default")
        if first_default and own and own.get("loss") not in (None, first_default["test"]["loss"]):
            notes.append(f"{run} was branched from {own['run']}, another Default than the one it is paired with")
    hashes = {run: result["hashes"]["data"] for run, result in results.items()}
    if len(set(hashes.values())) > 1:
        raise UserError(
            "these runs were trained on different data and cannot share images: "
            + ", ".join(f"{run} ({sha256[:12]}…)" for run, sha256 in hashes.items())
        )
    ordered = sorted(results, key=lambda run: results[run]["variant"] != "default")
    names = _names([(run, results[run]["variant"]) for run in ordered])
    return [_subject(run, name, results[run], weights) for run, name in zip(ordered, names, strict=True)], notes


def load_sample(run: Path, samples: int | None, data_dir: Path | None = None) -> Sample:
    """Return the first ``samples`` test images of a class-balanced interleaving: the same for every run on this data.

    None stands for ``SAMPLES``, or all where there are fewer.

    Raises ``UserError`` when the data is missing, is not what the run was trained on, or holds fewer images.
    """
    result = read_json(run / "result.json", "run")
    data = load_data(RunConfig.from_dict(result["config"]), data_dir or stored_data_dir(run))
    if data.sha256 != result["hashes"]["data"]:
        raise UserError(
            f"this data (sha256 {data.sha256[:12]}…) is not what {run} was trained on "
            f"({result['hashes']['data'][:12]}…); name the right folder with --data-dir"
        )
    if samples is None:
        samples = min(SAMPLES, len(data.test))
    if samples < 1:
        raise UserError(f"--samples must be at least 1, not {samples}")
    if samples > len(data.test):
        raise UserError(f"--samples {samples} is more than the {len(data.test)} test images of {run}; ask for fewer")
    return Sample(data.test, data.test.balanced(samples), data.name, data.sha256)


def _distinct(runs: list[Path]) -> list[Path]:
    if not runs:
        raise UserError("name at least one run folder")
    if len({run.resolve() for run in runs}) < len(runs):
        raise UserError("a run is named twice; name each once")
    return runs


def _names(runs: list[tuple[Path, str]]) -> list[str]:
    """Name runs by variant; the folder's name too for those after the first of a variant.

    So a run that joins an evaluation leaves the names of those in it, and with these what was found for them, as
    they were. Of several Defaults none is the one that everything is paired with: all carry their folder's name.
    """
    variants = [variant for _, variant in runs]
    seen: list[str] = []
    for run, variant in runs:
        alone = variants.count(variant) == 1
        name = variant if alone or (variant != "default" and variant not in seen) else f"{variant}-{run.resolve().name}"
        seen.append(name if name not in seen else f"{name}-{len(seen)}")
    return seen


def _subject(run: Path, name: str, result: dict[str, Any], weights: str | None) -> Subject:
    backbone, decoder, _ = load_network(run, weights=weights)
    model = Classifier(backbone, decoder).eval()
    details = {
        "config": result["config"],
        "hashes": result["hashes"],
        "recorded_accuracy": result["test"]["accuracy"],
        "neurons": [
            {**module.describe(), "surrogate": measured_surrogate(module)}
            for module in model.modules()
            if isinstance(module, Neuron)
        ],
    }
    return Subject(name, model, result["variant"], str(run), details)


def measured_surrogate(neuron: Neuron) -> dict[str, float] | None:
    """Return the derivative that the first step's spike really has at membrane minus threshold of 0, ±0.1, ±0.5, ±1.

    Measured by autograd through the neuron, not read from its configuration: one step from rest under the
    current ``threshold + u``, times the neuron's input gain. None for a stochastic neuron.
    """
    if neuron.stochastic or not neuron.spiking:
        return None
    offsets = torch.tensor([-1.0, -0.5, -0.1, 0.0, 0.1, 0.5, 1.0])
    threshold = torch.as_tensor(neuron.config.threshold, dtype=torch.float32)
    shape = (1, len(offsets), 1) if neuron.features is None else (1, len(offsets), *neuron.features)
    current = (threshold + offsets).view(1, -1, *([1] * (len(shape) - 2))).expand(shape).clone().requires_grad_()
    with torch.enable_grad():
        spikes, _ = neuron(current)
        (slope,) = torch.autograd.grad(spikes.sum(), current)
    values = slope.flatten(2)[0, :, 0].tolist()
    return {f"{offset:+.1f}": value for offset, value in zip(offsets.tolist(), values, strict=True)}
