"""What the records of a results folder must look like: declared here, checked when they are read."""

from __future__ import annotations

from functools import partial

from resnet_spiking import schema
from resnet_spiking.schema import Shape, count, flag, number, share
from resnet_spiking.storage.records import EVALUATION

__all__ = ["ATTACK", "CURVE", "MANIFEST", "ROW", "SCALING", "Shape", "check"]

MANIFEST: dict[str, Shape] = {
    "study": str,
    "command": str,
    "files": {"*": str},
    "written?": {"versions?": {"*": str}},
    "unfinished?": {"*": count},
}

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
    "operations?": {"stages?": {"*": number}, "*": number},
    "seconds": {"*": number},
    "devices?": [str],
    "hashes": {"data": str, "model?": str, "backbone?": {"sha256?": str, "random?": [str]}},
    "evidence?": {"spikes?": flag},
    "warnings": [str],
    "provenance": {"device?": str},
}

CURVE: dict[str, Shape] = {
    "key": str,
    "phase": str,
    "epoch": count,
    "train_loss": number,
    "train_accuracy": share,
    "test_accuracy?": share,
}

ATTACK: dict[str, Shape] = {"format": count, "command": str, **EVALUATION}

SCALING = ("axis", "value", "contender", "milliseconds", "mebibytes")

check = partial(schema.check, advice="publish the results again")
