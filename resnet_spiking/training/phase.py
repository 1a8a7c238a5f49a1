"""One phase of a run, Default's X epochs or the branch's Y: resumable, with its metrics on disk and a final score."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from resnet_spiking.config import RunConfig
from resnet_spiking.data.feature_cache import FeatureSource
from resnet_spiking.environment import Environment
from resnet_spiking.network.classifier import Decoder
from resnet_spiking.network.operations import counting
from resnet_spiking.storage.files import write_atomically
from resnet_spiking.storage.provenance import device_name
from resnet_spiking.training.checkpoint import load_state, save_state
from resnet_spiking.training.loop import Hooks, Progress, fit
from resnet_spiking.training.optimizer import make_optimizer
from resnet_spiking.training.scoring import score


def evaluating(network: Decoder) -> Decoder:
    """Return the decoder in eval mode and fp32: what reported figures are measured on."""
    return Decoder(network.stages, network.head, "fp32").eval()


@dataclass(frozen=True)
class Phase:
    """``trainee`` is trained on ``train`` for ``epochs`` and scored on ``epoch_test`` after each; at last ``scored``,
    the same weights as figures are measured on them, is scored on ``final_test``. ``teacher``: for distillation."""

    name: str
    epochs: int
    trainee: nn.Module
    scored: nn.Module
    train: FeatureSource
    epoch_test: FeatureSource
    final_test: FeatureSource
    teacher: nn.Module | None = None


def train_phase(
    phase: Phase,
    config: RunConfig,
    folder: Path,
    env: Environment,
    *,
    settings: dict[str, object],
    basis: dict[str, str],
) -> dict[str, Any]:
    """Run a phase in ``folder`` and return its figures.

    A state in ``folder`` is continued from where ``settings`` and ``basis``, the hashes of what the phase stands on,
    agree with it. Raises ``UserError`` where they do not, and when the loss diverges; ``Interrupted`` when asked to
    stop.
    """
    optimizer = make_optimizer(phase.trainee, config)
    start = Progress()
    if (folder / "last.ckpt").exists():
        start = load_state(folder / "last.ckpt", settings, basis, phase.trainee, optimizer)
        env.report(f"resuming {phase.name} at epoch {start.epoch + 1}, step {start.step + 1}")
    _say_where(start, phase, env)

    def write_metrics(history: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(entry) + "\n" for entry in history)
        write_atomically(folder / "metrics.jsonl", lambda temporary: temporary.write_text(lines))

    def save(optimiser: torch.optim.Optimizer, progress: Progress) -> None:
        save_state(folder / "last.ckpt", config, basis, phase.name, phase.trainee, optimiser, progress)
        write_metrics(progress.history)
        if progress.history and not progress.step:
            env.on_epoch(progress.history[-1])

    def test(module: nn.Module) -> dict[str, Any]:
        return {f"test_{name}": value for name, value in score(module, phase.epoch_test, config.seed).figures().items()}

    hooks = Hooks(
        on_step=lambda epoch, step, steps: env.progress(phase.name, epoch * steps + step + 1, phase.epochs * steps),
        save=save,
        should_stop=env.should_stop,
        test=test,
    )
    history = fit(
        phase.trainee, phase.train, config, phase=phase.name, epochs=phase.epochs, optimizer=optimizer, start=start,
        hooks=hooks, teacher=phase.teacher,
    )  # fmt: skip
    # A kill between the last state and its metrics would leave them a line short.
    write_metrics(history)
    images = len(phase.final_test)
    with counting(phase.scored) as counter:
        final = score(
            phase.scored,
            phase.final_test,
            config.seed,
            lambda done, total: env.progress(f"testing {phase.name}", done, total),
        )
    return {
        "test": {**final.figures(), "precision": "fp32", "images": images},
        "operations": counter.figures(images),
        "predictions": list(final.predictions),
        "seconds": {"training": sum(entry["seconds"] for entry in history)},
        "devices": start.devices,
        "threads": start.threads,
    }


def _say_where(start: Progress, phase: Phase, env: Environment) -> None:
    """Add where this process computes to where the phase has run before, and say it where that is not the same."""
    device = phase.train.device
    start.devices = sorted({*start.devices, device_name(device)})
    if device.type == "cpu":
        start.threads = sorted({*start.threads, torch.get_num_threads()})
    for places, kind in ((start.devices, ""), (start.threads, " threads")):
        if len(places) > 1:
            names = " and ".join(map(str, places))
            env.report(f"this {phase.name} phase has run on {names}{kind}: not the bits of one alone")
