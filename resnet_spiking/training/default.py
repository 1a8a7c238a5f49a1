"""The Default network that every spiking branch of a configuration starts from, found or trained."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_spiking.config import RunConfig, content_key
from resnet_spiking.environment import Environment
from resnet_spiking.errors import Interrupted
from resnet_spiking.network.build import build_default
from resnet_spiking.network.classifier import Decoder
from resnet_spiking.storage.files import remove_temporaries, write_json
from resnet_spiking.storage.lock import LOCK, in_turn
from resnet_spiking.storage.provenance import provenance
from resnet_spiking.storage.run_folder import FORMAT, read_json, write_config
from resnet_spiking.training.checkpoint import load_model, save_model
from resnet_spiking.training.frozen import Frozen, backbone_identity, basis_of, hashes_of, shared_key
from resnet_spiking.training.phase import Phase, evaluating, train_phase

PAUSE = 1.0
"""Seconds between two looks at whether another process has finished."""


@dataclass(frozen=True)
class Default:
    """A trained Default: its folder, what ``result.json`` holds, the network."""

    folder: Path
    result: dict[str, Any]
    network: Decoder


def default_block(folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Return what a branch's result says of the Default in ``folder``, whose own result is ``result``."""
    # The first results had neither operations nor devices.
    later = {name: result[name] for name in ("operations", "devices") if name in result}
    return {"run": folder.name, **result["test"], **later}


def remember_default(config: RunConfig, parent: Path, frozen: Frozen, env: Environment) -> Default:
    """Return the Default, from the environment's memory where a run of this process left it."""
    key = ("default", parent, *shared_key(config, frozen.data, env))
    default: Default = env.remember(key, lambda: find_or_train_default(config, parent, frozen, env))
    return default


def find_or_train_default(config: RunConfig, parent: Path, frozen: Frozen, env: Environment) -> Default:
    """Find the Default run in ``parent``, or train it there under a name made of everything it depends on.

    A process that finds another one training it waits for that one. Raises ``Interrupted`` when asked to stop.
    """
    folder = parent / f"default-{_default_key(config, frozen)}"
    if not (folder / "result.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        with in_turn(folder, _waiting(folder, env)):
            if not (folder / "result.json").exists():
                return _train_default(config, folder, frozen, env)
    network = _new_network(config, frozen, env)
    result = read_json(folder / "result.json", "run")
    load_model(folder / "model.safetensors", network, sha256=result["hashes"]["model"])
    env.report(f"Default {folder.name} is trained already: reusing it")
    return Default(folder, result, network)


def _new_network(config: RunConfig, frozen: Frozen, env: Environment) -> Decoder:
    stages = copy.deepcopy(frozen.trunk.stages)
    return build_default(config, stages, stages.out_channels, len(frozen.data.classes)).to(env.device)


def _waiting(folder: Path, env: Environment) -> Callable[[], None]:
    """Return what to do while another process trains the Default: say so once, look whether to stop, sleep."""
    said: list[str] = []

    def wait() -> None:
        if not said:
            said.append(f"another process trains Default {folder.name}: waiting for it")
            env.report(said[0])
        if env.should_stop():
            raise Interrupted
        time.sleep(PAUSE)

    return wait


def _train_default(config: RunConfig, folder: Path, frozen: Frozen, env: Environment) -> Default:
    network = _new_network(config, frozen, env)
    alone = config.default_alone()
    remove_temporaries(folder)
    if not (folder / "config.json").exists():
        write_config(folder, alone, frozen.data, env)
    phase = Phase(
        "default", config.default_epochs, network, evaluating(network), frozen.train, frozen.test, frozen.test
    )
    figures = train_phase(phase, alone, folder, env, settings=_deciding(config), basis=basis_of(frozen))
    save_model(folder / "model.safetensors", network, backbone_identity(config, frozen.trunk))
    result = {
        "format": FORMAT,
        "variant": "default",
        "num_classes": len(frozen.data.classes),
        "classes": list(frozen.data.classes),
        "epochs": f"<{config.default_epochs}>",
        "config": alone.as_dict(),
        **figures,
        "warnings": [],
        "hashes": hashes_of(frozen, folder / "model.safetensors"),
        "provenance": provenance(env.device),
    }
    # Who began it may have named the same weights otherwise.
    write_config(folder, alone, frozen.data, env)
    write_json(folder / "result.json", result)
    (folder / "last.ckpt").unlink(missing_ok=True)
    # Who still waits for it, or comes with it in hand, looks for the result first.
    (folder / LOCK).unlink(missing_ok=True)
    return Default(folder, result, network)


def _deciding(config: RunConfig) -> dict[str, object]:
    """Return the settings that decide a Default by themselves; of the others the hashes and views do."""
    return {name: value for name, value in config.default_part().items() if name not in ("weights", "flip")}


def _default_key(config: RunConfig, frozen: Frozen) -> str:
    settings = _deciding(config)
    trunk, data = frozen.trunk, frozen.data
    return content_key(settings, trunk.identity.sha256, trunk.stages_sha256, data.sha256, data.flip)
