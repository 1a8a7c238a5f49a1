"""Recompute a run's figures from its files and say whether they match."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from resnet_spiking.config import RunConfig
from resnet_spiking.data.feature_cache import features_of
from resnet_spiking.data.images import Dataset
from resnet_spiking.errors import UserError
from resnet_spiking.network.arithmetic import plain_arithmetic
from resnet_spiking.network.build import build_default, build_spiking, build_trunk
from resnet_spiking.network.classifier import Decoder
from resnet_spiking.network.evidence import head_warnings
from resnet_spiking.network.operations import counting
from resnet_spiking.storage.comparison import Comparison, exact, same
from resnet_spiking.storage.files import file_sha256
from resnet_spiking.storage.run_folder import read_json, stored_data_dir, stored_weights
from resnet_spiking.storage.whereabouts import beside
from resnet_spiking.training.checkpoint import load_model
from resnet_spiking.training.configured_data import fitted, load_data
from resnet_spiking.training.default import default_block
from resnet_spiking.training.proof import prove
from resnet_spiking.training.scoring import score

# Another processor or batch kernel may round a borderline logit the other way; more than that is a difference.
# Evidence is of few images: on another device a stochastic head's draws move its rates by more than those of a test.
TOLERANCE = {
    "accuracy": 5e-4,
    "loss": 1e-3,
    "spike rate": 1e-3,
    "operations": 1e-3,
    "evidence": 1e-5,
    "rate in evidence": 5e-3,
}


def load_network(
    run: Path, *, weights: str | None = None, recorded_only: bool = True
) -> tuple[torch.nn.Module, Decoder, RunConfig]:
    """Rebuild a finished run's backbone and decoder (in eval mode, fp32, channels last) from its files.

    Raises ``UserError`` when a file is missing or damaged, the backbone's weights are not the ones that the run was
    trained on, or, ``recorded_only``, the decoder's are not the ones that its result names.
    """
    result = read_json(run / "result.json", "run")
    config = RunConfig.from_dict(result["config"])
    trunk = build_trunk(config, weights or stored_weights(run, config))
    recorded = result["hashes"]["backbone"]["sha256"]
    if trunk.identity.sha256 != recorded:
        raise UserError(
            f"these backbone weights (sha256 {trunk.identity.sha256[:12]}…) are not the ones that {run} was trained on "
            f"({recorded[:12]}…); name the right ones with --weights"
        )
    build = build_default if result["variant"] == "default" else build_spiking
    decoder = build(config, trunk.stages, trunk.stages.out_channels, result["num_classes"])
    sha256 = result["hashes"]["model"] if recorded_only else None
    load_model(run / "model.safetensors", decoder, sha256=sha256)
    parts = trunk.backbone.eval(), Decoder(decoder.stages, decoder.head, "fp32").eval()
    for part in parts:
        part.to(memory_format=torch.channels_last)
    return *parts, config


@plain_arithmetic()
def verify_run(
    run: Path,
    *,
    data: Dataset | None = None,
    data_dir: Path | None = None,
    weights: str | None = None,
    device: torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Comparison]:
    """Score a run's network again, from pixels to logits in fp32, and compare what is recorded of it.

    Compared are accuracy, loss, predictions, spike rates with what they warn of, operations, the proof that it spikes,
    the variant, the hashes of model and data, the settings in ``config.json``, and what is recorded of Default with
    Default's own result. ``data`` is what a run was given that was trained on images held in memory.
    """
    result = read_json(run / "result.json", "run")
    backbone, decoder, config = load_network(run, weights=weights, recorded_only=False)
    device = device or torch.device("cpu")
    data = load_data(config, data_dir or stored_data_dir(run)) if data is None else fitted(data, config)
    if len(data.classes) != result["num_classes"]:
        raise UserError(f"{run} was trained on {result['num_classes']} classes, this data has {len(data.classes)}")
    for part in (backbone, decoder):
        part.to(device)
    source = features_of(backbone, data.test, precision="fp32", device=device)
    with counting(decoder) as counter:
        found = score(decoder, source, config.branch_seed, progress)
    recorded = result["test"]
    stored = result["predictions"]
    differing = sum(a != b for a, b in zip(found.predictions, stored, strict=False))
    differing += abs(len(found.predictions) - len(stored))
    return [
        exact("data sha256", result["hashes"]["data"], data.sha256),
        exact("model sha256", result["hashes"]["model"], file_sha256(run / "model.safetensors")),
        same("config.json", result["config"], read_json(run / "config.json", "run")["config"]),
        exact("variant", result["variant"], "default" if config.neuron == "none" else config.neuron),
        *([same("classes", result["classes"], list(data.classes))] if "classes" in result else []),
        same("test images", recorded["images"], len(data.test)),
        _close("accuracy", recorded["accuracy"], found.accuracy),
        _close("loss", recorded["loss"], found.loss),
        Comparison("predictions that differ", 0, differing, differing <= TOLERANCE["accuracy"] * len(data.test)),
        *_rates(result, found.rates, decoder),
        *_operations(result, counter.figures(len(data.test))),
        *_evidence(result, None if config.neuron == "none" else prove(decoder, source, config.branch_seed)),
        *_default(result, run),
    ]


def _close(figure: str, recorded: float, recomputed: float, of: str = "") -> Comparison:
    return Comparison(figure + of, recorded, recomputed, abs(recorded - recomputed) <= TOLERANCE[figure])


def _rates(result: dict[str, Any], found: tuple[float, ...], decoder: Decoder) -> list[Comparison]:
    recorded = result["test"]["spike_rates"]
    if len(recorded) != len(found):
        return [same("spike rates", len(recorded), len(found))]
    pairs = enumerate(zip(recorded, found, strict=True), 1)
    # A warning holds the digits of a recorded rate.
    warnings = same("warnings", result["warnings"], head_warnings(decoder.head, recorded))  # type: ignore[arg-type]
    return [*(_close("spike rate", a, b, f" of layer {index}") for index, (a, b) in pairs), warnings]


def _default(result: dict[str, Any], run: Path) -> list[Comparison]:
    """Compare what a branch's result says of Default with what the run of Default beside it says, if it is there."""
    if "default" not in result:
        return []
    recorded = result["default"]
    folder = beside(run) / recorded["run"]
    if not (folder / "result.json").exists():
        return [Comparison("default", recorded["accuracy"], "absent", True)]
    stated = default_block(folder, read_json(folder / "result.json", "run"))
    return [same("default", recorded, {name: stated.get(name) for name in recorded})]


def _operations(result: dict[str, Any], found: dict[str, Any]) -> list[Comparison]:
    # The first results did not have them.
    if "operations" not in result:
        return []
    tolerance = TOLERANCE["operations"]
    close = partial(math.isclose, rel_tol=tolerance, abs_tol=tolerance)
    return [same("operations", result["operations"], found, close)]


def _evidence(result: dict[str, Any], found: dict[str, Any] | None) -> list[Comparison]:
    if found is None and "evidence" not in result:
        return []
    recorded, recomputed = (dict(evidence or {}) for evidence in (result.get("evidence"), found))
    rates, measured = (evidence.pop("rates", {}) for evidence in (recorded, recomputed))
    rate, logit = (partial(math.isclose, rel_tol=0, abs_tol=TOLERANCE[of]) for of in ("rate in evidence", "evidence"))
    return [same("evidence", recorded, recomputed, logit), same("evidence.rates", rates, measured, rate)]
