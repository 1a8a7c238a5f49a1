"""A results folder made of invented figures: test data, consistent in itself, and nothing that anyone measured."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from resnet_spiking.config import RunConfig

CLASSES = ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
EPS = {"0.5/255": 0.5 / 255, "1/255": 1 / 255, "2/255": 2 / 255, "4/255": 4 / 255}


@dataclass
class Invented:
    """Results in the making; ``write`` leaves a folder with a true manifest."""

    name: str = "invented"
    images: int = 200
    rows: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    curves: list[dict[str, Any]] = field(default_factory=list)
    traces: dict[str, NDArray[Any]] = field(default_factory=dict)
    attacks: dict[str, dict[str, Any]] = field(default_factory=dict)
    scaling: list[dict[str, Any]] = field(default_factory=list)

    def labels(self, dataset: str) -> NDArray[np.uint8]:
        data = hashlib.sha256(dataset.encode()).hexdigest()[:16]
        if f"labels-{data}" not in self.arrays:
            self.arrays[f"labels-{data}"] = (np.arange(self.images) % 10).astype(np.uint8)
            self.arrays[f"classes-{data}"] = np.array(json.dumps(CLASSES))
        return self.arrays[f"labels-{data}"]

    def run(self, variant: str, seed: int, wrong: Iterable[int], dataset: str = "cifar10", **config: Any) -> str:
        """Add a run that gets exactly the images ``wrong`` wrong; return its key. Default runs come first."""
        labels = self.labels(dataset)
        predicted = labels.copy()
        for index in wrong:
            predicted[index] = (labels[index] + 1 + index % 3) % 10
        accuracy = float((predicted == labels).mean())
        base = {"dataset": dataset if dataset != "pictures" else "folder", "train": "head", "weights": "imagenet"}
        settings = RunConfig(neuron="none" if variant == "default" else variant, seed=seed, **{**base, **config})
        spiking = variant not in ("default", "relu")
        key = hashlib.sha256(f"{len(self.rows)} {settings}".encode()).hexdigest()[:16]
        row: dict[str, Any] = {
            "key": key,
            "run": f"{dataset}-{variant}-s{seed}-{key[:8]}",
            "variant": variant,
            "dataset": dataset,
            **{name: getattr(settings, name) for name in
               ("mode", "backbone", "weights", "freeze_depth", "image_size", "train", "seed", "num_steps", "encoding")},
            "epochs": f"<{settings.default_epochs}>" if variant == "default" else settings.epochs_label,
            "spiking": "head",
            "config": settings.as_dict(),
            "test": {"accuracy": accuracy, "loss": 1 - accuracy,
                     "spike_rates": [0.1 + 0.03 * (len(variant) % 9)] * spiking,
                     "images": self.images, "precision": "fp32"},
            "seconds": {"training": 10.0 + seed},
            "hashes": {"data": hashlib.sha256(dataset.encode()).hexdigest(), "model": key, "backbone": {"random": []}},
            "warnings": [],
            "provenance": {"device": "cpu", "git": "none", "command": "python -m resnet_spiking.train"},
        }  # fmt: skip
        if variant != "default":
            default = next(
                r
                for r in self.rows
                if r["variant"] == "default"
                and r["dataset"] == dataset
                and all(r["config"][n] == getattr(settings, n) for n in ("seed", "freeze_depth", "weights"))
            )
            row["default"] = {"run": f"default-{default['key']}", **default["test"]}
            row["operations"] = {"Effective_ACs": 51200.0, "Effective_MACs": 131072.0, "energy_nJ": 649.0}
            row["evidence"] = {"spikes": True} if spiking else {"spikes": False, "reason": "a control"}
        self.rows.append(row)
        self.arrays[key] = predicted
        epochs = settings.default_epochs if variant == "default" else settings.spiking_epochs
        for epoch in range(epochs):
            reached = accuracy * (1 - 0.4 * 0.4**epoch)
            self.curves.append(
                {
                    "key": key,
                    "phase": "default" if variant == "default" else "spiking",
                    "epoch": epoch,
                    "train_loss": 1.0,
                    "train_accuracy": reached,
                    "test_accuracy": reached,
                    "seconds": 1.0,
                }
            )
        return key

    def trace(self, key: str, steps: int = 20) -> None:
        chance = np.random.default_rng(5)
        membrane = np.cumsum(chance.random((steps, 8)) * 0.3, axis=0) % 1.2
        self.traces[f"{key}/spikes"] = (chance.random((steps, 32)) < 0.2).astype(np.uint8)
        self.traces[f"{key}/membrane"] = membrane.astype(np.float16)
        self.traces[f"{key}/image"] = chance.integers(0, 256, (3, 16, 16), dtype=np.uint8)

    def attack(self, label: str, variants: Iterable[str], unreliable: str = "") -> None:
        models = []
        for strength, variant in enumerate(variants):
            clean = 0.9
            robust = [
                {"eps": eps, "accuracy": (a := clean * 0.5 ** ((i + 1) / (1 + 0.15 * strength))),
                 "interval": [a - 0.03, a + 0.03], "attacks": {"apgd-ce": {"accuracy": a, "tried": 200}}}
                for i, eps in enumerate(EPS.values())
            ]  # fmt: skip
            checks = [
                {"name": name, "title": title, "value": 0.1, "threshold": "<= 1 pt",
                 "passed": None if name == "T16" else not (name == "T09" and variant == unreliable),
                 **({"reason": "deterministic"} if name == "T16" else {})}
                for name, title in (("T01", "clean replay"), ("T09", "zero gradient"), ("T16", "randomness"))
            ]  # fmt: skip
            models.append({"name": variant, "run": f"runs/{variant}", "variant": variant, "model_sha256": "0" * 64,
                           "stochastic": False, "spiking": variant not in ("default", "relu"), "rule": "single",
                           "draws": 1, "votes": 1, "stages": ["conv1"], "skipped": {}, "others": [],
                           "trap": [{"eps": entry["eps"], "bundle": entry["accuracy"], "overstated": 0.0}
                                    for entry in robust],
                           "adversarial": {"file": f"{variant}.npz", "sha256": "0" * 64},
                           "clean": {"accuracy": clean, "interval": [0.86, 0.93]}, "robust": robust,
                           "minimum_norm": {"attack": "fmn", "median": 0.004, "found": 200},
                           "mcnemar": [] if variant == "default" else
                           [{"eps": eps, "better": 9, "worse": 2, "p": 0.0654} for eps in EPS.values()],
                           "checks": checks, "unreliable": ["T09"] if variant == unreliable else []})  # fmt: skip
        self.attacks[label] = {"format": 1, "norm": "linf", "eps": list(EPS.values()), "eps_labels": list(EPS),
                               "bundle": "standard", "indicative": False, "settings": {},
                               "samples": 200, "indices": list(range(200)), "labels": [],
                               "dataset": "cifar10", "data_sha256": "0" * 64, "seed": 0, "models": models,
                               "provenance": {}, "seconds": 1.0,
                               "command": "python -m resnet_spiking.attack runs/default runs/lif"}  # fmt: skip

    def measure(self, contenders: Iterable[str]) -> None:
        for number, name in enumerate(contenders):
            for axis, values in (("T", (4, 20, 100, 1000)), ("N", (64, 1024, 16384))):
                for value in values:
                    self.scaling.append({"axis": axis, "value": value, "contender": name,
                                         "milliseconds": value * 0.1 * (number + 1), "mebibytes": 1.0})  # fmt: skip

    def write(self, folder: Path) -> Path:
        """Write the results folder and return it."""
        folder.mkdir(parents=True, exist_ok=True)
        lines = sorted(self.rows, key=lambda row: row["key"])
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
        np.savez_compressed(folder / "predictions.npz", **self.arrays)  # type: ignore[arg-type]
        if self.curves:
            (folder / "curves.jsonl").write_text("".join(json.dumps(record) + "\n" for record in self.curves))
        if self.traces:
            np.savez_compressed(folder / "traces.npz", **self.traces)  # type: ignore[arg-type]
        for label, result in self.attacks.items():
            place = folder / "attacks" / label
            place.mkdir(parents=True, exist_ok=True)
            (place / "result.json").write_text(json.dumps(result))
            panel = io.BytesIO()
            Image.fromarray(np.random.default_rng(1).integers(0, 256, (60, 200, 3), dtype=np.uint8)).save(panel, "PNG")
            (place / "panel.png").write_bytes(panel.getvalue())
        if self.scaling:
            with (folder / "scaling.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, list(self.scaling[0]))
                writer.writeheader()
                writer.writerows(self.scaling)
        seal(folder, self.name)
        return folder


def seal(folder: Path, name: str = "invented", **changes: Any) -> None:
    """Write the manifest of what the folder holds."""
    files = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }
    manifest = {"format": 1, "study": name, "command": "python -m resnet_spiking.study --preset quick", "files": files,
                "written": {"versions": {"resnet_spiking": "0.1.0"}}, **changes}  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def invented() -> Invented:
    return Invented()


@pytest.fixture
def whole(invented: Invented) -> Invented:
    """Something of everything: two datasets, three seeds, a sweep, scratch, traces, attacks, run times."""
    return everything(invented)


def everything(made: Invented) -> Invented:
    chance = np.random.default_rng(0)

    def wrong(share: float) -> list[int]:
        return chance.choice(made.images, round(made.images * share), replace=False).tolist()

    for dataset, share in (("cifar10", 0.12), ("fashion-mnist", 0.06)):
        for seed in range(3):
            made.run("default", seed, wrong(share + 0.01 * seed), dataset)
        for number, variant in enumerate(("snntorch-lif", "norse-lifbox", "lif", "paralif-sb", "relu")):
            for seed in range(3):
                key = made.run(variant, seed, wrong(share + 0.01 * (number % 3) + 0.005 * seed), dataset)
                if seed == 0 and variant != "relu":
                    made.trace(key)
    for steps in (2, 4, 8, 50):
        made.run("lif", 0, wrong(0.3 / steps + 0.1), num_steps=steps)
    made.run("lif", 0, wrong(0.11), encoding="rate")
    made.run("default", 0, wrong(0.4), weights="none", freeze_depth=0)
    made.attack("linf", ("default", "snntorch-lif", "paralif-sb"), unreliable="paralif-sb")
    made.measure(("lif", "snntorch-lif", "norse-lifbox"))
    return made


@pytest.fixture
def published(whole: Invented, tmp_path: Path) -> Path:
    """The results folder of ``whole``."""
    return whole.write(tmp_path / "study" / "results")


@pytest.fixture
def reseal() -> Callable[..., None]:
    """``seal``, for tests that change a file and mean it."""
    return seal
