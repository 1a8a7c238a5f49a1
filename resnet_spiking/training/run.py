"""One run <X,Y>: find or train Default, branch, train the spiking head, leave verifiable files."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from resnet_spiking.config import NAMED_WEIGHTS, RunConfig
from resnet_spiking.data.images import Dataset
from resnet_spiking.environment import Environment
from resnet_spiking.errors import Interrupted
from resnet_spiking.network.arithmetic import plain_arithmetic
from resnet_spiking.network.build import Trunk, check_head
from resnet_spiking.network.evidence import head_warnings
from resnet_spiking.storage.files import write_atomically, write_json
from resnet_spiking.storage.provenance import provenance
from resnet_spiking.storage.run_folder import FORMAT, claim_folder, finished_run, held_folder
from resnet_spiking.storage.whereabouts import beside
from resnet_spiking.training.branch import train_branch
from resnet_spiking.training.configured_data import fitted, remember_data
from resnet_spiking.training.default import default_block, remember_default
from resnet_spiking.training.frozen import check_weights, hashes_of, remember_frozen, remember_trunk
from resnet_spiking.training.pooled import remember_pooled
from resnet_spiking.training.precision import resolve_precision


@plain_arithmetic()
def train_run(
    config: RunConfig,
    output: Path,
    environment: Environment | None = None,
    *,
    data: Dataset | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train <X,Y> as ``config`` says and return what ``output/result.json`` then holds.

    The Default run is kept beside ``output`` under a name made of everything it depends on, and
    is found there by every later run. ``data`` replaces the configured dataset; as the run's files do not hold it,
    ``verify_run`` wants it again.

    Raises ``UserError`` for anything the user can put right, ``Interrupted`` after saving when
    asked to stop.
    """
    env = environment or Environment()
    config = replace(config, precision=resolve_precision(config.precision, env.device))
    check_head(config)
    finished = finished_run(config, output, resume=resume, overwrite=overwrite)
    if finished is not None:
        return finished
    began = time.perf_counter()
    if data is None and config.dataset == "folder" and config.weights not in NAMED_WEIGHTS:
        # A file that does not fit is told before pictures are read, which can take minutes.
        check_weights(config, env)
    images = remember_data(config, env) if data is None else fitted(data, config)
    trunk = remember_trunk(config, images, env)
    with held_folder(output):
        # Another command may have come first.
        finished = finished_run(config, output, resume=resume, overwrite=overwrite)
        if finished is not None:
            return finished
        return _train(config, output, images, trunk, env, began, overwrite)


def _train(
    config: RunConfig, output: Path, images: Dataset, trunk: Trunk, env: Environment, began: float, overwrite: bool
) -> dict[str, Any]:
    if not overwrite:
        claim_folder(config, output, images, env, overwrite=False)
    try:
        frozen = remember_frozen(config, images, trunk, env)
        features_seconds = time.perf_counter() - began
        default = remember_default(config, beside(output), frozen, env)
    except Interrupted as stopped:
        stopped.begun = not overwrite
        raise
    if overwrite:
        # Only now: what stands in the way of Default must not cost the run that is there.
        claim_folder(config, output, images, env, overwrite=True)
    if config.neuron == "none":
        # The Default run is content-addressed and shared; the named run is its own copy.
        for name in ("model.safetensors", "metrics.jsonl"):
            write_atomically(output / name, partial(shutil.copyfile, default.folder / name))
        result = {**default.result, "config": config.as_dict(), "provenance": provenance(env.device)}
        write_json(output / "result.json", result)
        return result

    network, figures = train_branch(config, output, frozen, default, env)
    result = {
        "format": FORMAT,
        "variant": config.neuron,
        "num_classes": len(images.classes),
        "classes": list(images.classes),
        "epochs": config.epochs_label,
        "config": config.as_dict(),
        "default": default_block(default.folder, default.result),
        **figures,
        "warnings": head_warnings(network.head, figures["test"]["spike_rates"]),  # type: ignore[arg-type]
        "seconds": {
            "features": features_seconds,
            "default": default.result["seconds"]["training"],
            **figures["seconds"],
        },
        "hashes": hashes_of(frozen, output / "model.safetensors"),
        "provenance": provenance(env.device),
    }
    write_json(output / "result.json", result)
    (output / "last.ckpt").unlink(missing_ok=True)
    return result


@plain_arithmetic()
def prepare_features(config: RunConfig, parent: Path, environment: Environment, *, pooled: bool) -> None:
    """Fill the feature cache: the frozen features that a Default trains on, or the ``pooled`` ones of its decoder.

    ``parent`` is the folder of the runs, where the Default is found, or trained when ``pooled`` needs it.
    """
    env = environment
    config = replace(config, precision=resolve_precision(config.precision, env.device))
    data = remember_data(config, env)
    frozen = remember_frozen(config, data, remember_trunk(config, data, env), env)
    if pooled:
        remember_pooled(config, frozen, remember_default(config, parent, frozen, env), env)
