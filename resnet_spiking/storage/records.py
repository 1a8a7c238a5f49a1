"""What the JSON files of a run and of an evaluation must look like: whoever reads one finds its fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from resnet_spiking.config import RunConfig
from resnet_spiking.errors import UserError
from resnet_spiking.schema import Shape, check, count, flag, interval, nullable, number, positive, share, text

Kind = Literal["run", "evaluation"]

_ADVICE = "put back what {} wrote, or make it again with --overwrite"

_SCORE: dict[str, Shape] = {
    "accuracy": share,
    "loss": number,
    "spike_rates": [number],
    "precision": str,
    "images": positive,
}
_TALLY: dict[str, Shape] = {
    "Effective_ACs": number,
    "Effective_MACs": number,
    "Dense": number,
    "ActivationSparsity": number,
    "MembraneUpdates": number,
    "ParameterCount": number,
    "energy_nJ": number,
}
_OPERATIONS: dict[str, Shape] = {**_TALLY, "stages?": _TALLY}

# Operations came later than the first results; Default has no evidence, and no Default.
_RUN: dict[str, Shape] = {
    "variant": str,
    "num_classes": positive,
    "classes?": [str],
    "epochs": str,
    "config": dict,
    "test": _SCORE,
    "default?": {"run": str, "accuracy": share, "operations?": _OPERATIONS},
    "operations?": _OPERATIONS,
    "predictions": [count],
    "seconds": {"training": number, "default?": number},
    "evidence?": {"spikes": flag},
    "warnings": [str],
    "hashes": {"backbone": {"sha256": str}, "data": str, "model": str},
}
_CONTROL: dict[str, Shape] = {"reason": str}
_EVIDENCE: dict[str, Shape] = {
    "binary": flag,
    "logits_from_spikes": number,
    "logits_when_cut": number,
    "untrained": [str],
    "rates": {"*": number},
}


def _measured(value: object) -> str | None:
    return None if isinstance(value, str) else number(value)


_PROPORTION: dict[str, Shape] = {"accuracy": share, "interval": interval}
_OWN: dict[str, Shape] = {
    "accuracy": share,
    "tried": positive,
    "forwards?": number,
    "backwards?": number,
    "head_forwards?": number,
}

# Devices and each model's seconds came later than the first results.
EVALUATION: dict[str, Shape] = {
    "norm": str,
    "eps": [number],
    "eps_labels": [str],
    "bundle": str,
    "indicative": flag,
    "samples": positive,
    "indices": [number],
    "dataset": str,
    "data_sha256": str,
    "seed": count,
    "settings": {"order?": str},
    "models": [
        {
            "name": str,
            "run": str,
            "way?": str,
            "variant": str,
            "model_sha256": str,
            "stochastic": flag,
            "spiking": flag,
            "rule": str,
            "draws": positive,
            "votes": positive,
            "stages": [str],
            "clean": _PROPORTION,
            "robust": [{"eps": number, **_PROPORTION, "attacks": {"*": _OWN}}],
            "trap": [{"eps": number, "bundle": share, "overstated": number, "*": number}],
            "skipped": {"*": str},
            "minimum_norm?": {"median": nullable(number)},
            "mcnemar?": [{"eps": number, "better": count, "worse": count, "p": share}],
            "checks": [
                {
                    "name": str,
                    "title": str,
                    "threshold": str,
                    "value": _measured,
                    "passed": nullable(flag),
                    "reason?": str,
                }
            ],
            "unreliable": [str],
            "others": [str],
            "devices?": [str],
            "seconds?": number,
            "adversarial": {"file": str, "sha256": str},
        }
    ],
}
_WEIGHTS: dict[str, Shape] = {"weights?": str, "weights_way?": str}
_SHAPES: dict[tuple[Kind, str], dict[str, Shape]] = {
    ("run", "config.json"): {
        "config": dict,
        "inputs": {"data_dir": nullable(text), "way?": str, "memory?": str, **_WEIGHTS},
    },
    ("run", "result.json"): _RUN,
    ("evaluation", "config.json"): {"settings": dict, "models": {"*": str}},
    ("evaluation", "result.json"): EVALUATION,
}


def check_record(value: dict[str, Any], kind: Kind, path: Path) -> None:
    """Raise ``UserError`` naming the file and the first field that is not as a ``kind`` writes it."""
    advice = _ADVICE.format("train" if kind == "run" else "attack")
    check(value, _SHAPES[kind, path.name], str(path), advice=advice)
    if kind == "run":
        try:
            RunConfig.from_dict(value["config"])
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        if evidence := value.get("evidence"):
            shape = _CONTROL if "reason" in evidence else _EVIDENCE
            check(evidence, shape, str(path), advice=advice, field="evidence")
    for entry in value["models"] if kind == "evaluation" and path.name == "result.json" else ():
        for field in ("eps_labels", "eps"):
            if len(value[field]) != len(entry["robust"]):
                raise UserError(
                    f"{path}: the field {field!r} has {len(value[field])} radii, {entry['name']} was attacked at "
                    f"{len(entry['robust'])}; {advice}"
                )
