"""The Default network that every spiking branch of a configuration starts from, found or trained."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_spiking.config import RunConfig, content_key
from resnet_spiking.network.build import build_default
from resnet_spiking.network.classifier import Decoder
from resnet_spiking.training.checkpoint import load_model, save_model
from resnet_spiking.training.environment import Environment
from resnet_spiking.training.files import write_json
from resnet_spiking.training.frozen import Frozen, backbone_identity, basis_of, hashes_of, shared_key
from resnet_spiking.training.phase import evaluating, train_phase
from resnet_spiking.training.provenance import provenance
from resnet_spiking.training.run_folder import FORMAT, read_json, write_config


@dataclass(frozen=True)
class Default:
    """A trained Default: its folder, what ``result.json`` holds, the network."""

    folder: Path
    result: dict[str, Any]
    network: Decoder


def remember_default(config: RunConfig, parent: Path, frozen: Frozen, env: Environment) -> Default:
    """Return the Default, from the environment's memory where a run of this process left it."""
    key = ("default", parent, *shared_key(config, frozen.data, env))
    default: Default = env.remember(key, lambda: find_or_train_default(config, parent, frozen, env))
    return default


def find_or_train_default(config: RunConfig, parent: Path, frozen: Frozen, env: Environment) -> Default:
    """Find the Default run in ``parent``, or train it there under a name made of everything it depends on."""
    folder = parent / f"default-{_default_key(config, frozen)}"
    stages, classes = copy.deepcopy(frozen.trunk.stages), len(frozen.data.classes)
    network = build_default(config, stages, stages.out_channels, classes).to(env.device)
    if (folder / "result.json").exists():
        load_model(folder / "model.safetensors", network)
        env.report(f"Default {folder.name} is trained already: reusing it")
        return Default(folder, read_json(folder / "result.json", "run"), network)
    folder.mkdir(parents=True, exist_ok=True)
    alone = config.default_alone()
    write_config(folder, alone, env)
    figures = train_phase(
        network,
        evaluating(network),
        config.default_part(),
        basis_of(frozen),
        alone,
        folder,
        "default",
        config.default_epochs,
        frozen.train,
        frozen.test,
        frozen.test,
        env,
    )
    save_model(folder / "model.safetensors", network, backbone_identity(config, frozen.trunk))
    result = {
        "format": FORMAT,
        "variant": "default",
        "num_classes": classes,
        "epochs": f"<{config.default_epochs}>",
        "config": alone.as_dict(),
        **figures,
        "warnings": [],
        "hashes": hashes_of(frozen, folder / "model.safetensors"),
        "provenance": provenance(env.device),
    }
    write_json(folder / "result.json", result)
    (folder / "last.ckpt").unlink(missing_ok=True)
    return Default(folder, result, network)


def _default_key(config: RunConfig, frozen: Frozen) -> str:
    settings = {name: value for name, value in config.default_part().items() if name not in ("weights", "flip")}
    trunk, data = frozen.trunk, frozen.data
    return content_key(settings, trunk.identity.sha256, trunk.stages_sha256, data.sha256, data.flip)
