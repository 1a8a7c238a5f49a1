"""What the records of a results folder must look like: declared here, checked when they are read."""

from __future__ import annotations

from functools import partial

from resnet_spiking import schema
from resnet_spiking.schema import Shape, count, number, share

__all__ = ["ATTACK", "CURVE", "ROW", "SCALING", "Shape", "check"]

ROW: dict[str, Shape] = {
    "key": str,
    "run": str,
    "variant": str,
    "mode": str,
    "dataset": str,
    "backbone": str,
    "weights": str,
    "freeze_depth": count,
    "image_size": count,
    "epochs": str,
    "train": str,
    "spiking": str,
    "seed": count,
    "num_steps": count,
    "encoding": str,
    "config": dict,
    "test": {"accuracy": share, "loss": number, "spike_rates": [number], "images": count, "precision": str},
    "default?": {"run": str, "accuracy": share},
    "operations?": dict,
    "seconds": dict,
    "devices?": [str],
    "hashes": {"data": str},
    "evidence?": dict,
    "warnings": [str],
    "provenance": dict,
}

CURVE: dict[str, Shape] = {
    "key": str,
    "phase": str,
    "epoch": count,
    "train_loss": number,
    "train_accuracy": share,
    "test_accuracy?": share,
}

ATTACK: dict[str, Shape] = {
    "format": count,
    "norm": str,
    "eps": [number],
    "eps_labels": [str],
    "bundle": str,
    "samples": count,
    "dataset": str,
    "models": [
        {
            "name": str,
            "variant": str,
            "clean": {"accuracy": share, "interval": [share]},
            "robust": [{"eps": number, "accuracy": share, "interval": [share], "attacks": dict}],
            "minimum_norm?": dict,
            "mcnemar?": [{"eps": number, "better": count, "worse": count, "p": share}],
            "checks": [{"name": str, "title": str, "threshold": str}],
            "unreliable": [str],
            "devices?": [str],
        }
    ],
    "command": str,
}

SCALING = ("axis", "value", "contender", "milliseconds", "mebibytes")

check = partial(schema.check, advice="publish the results again")
