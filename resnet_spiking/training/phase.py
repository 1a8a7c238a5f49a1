"""One phase of a run, Default's X epochs or the branch's Y: resumable, with its metrics on disk and a final score."""

from __future__ import annotations

import json
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


def train_phase(
    trainee: nn.Module,
    scored: nn.Module,
    settings: dict[str, object],
    basis: dict[str, str],
    config: RunConfig,
    folder: Path,
    phase: str,
    epochs: int,
    train: FeatureSource,
    epoch_test: FeatureSource,
    final_test: FeatureSource,
    env: Environment,
    teacher: nn.Module | None = None,
) -> dict[str, Any]:
    """Train ``trainee`` on ``train`` and score it after each epoch; at last score ``scored`` on ``final_test``.

    A state in ``folder`` is continued from where ``settings`` and ``basis``, the hashes of what the phase stands on,
    agree with it.
    """
    optimizer = make_optimizer(trainee, config)
    start = Progress()
    if (folder / "last.ckpt").exists():
        start = load_state(folder / "last.ckpt", settings, basis, trainee, optimizer)
        env.report(f"resuming {phase} at epoch {start.epoch + 1}, step {start.step + 1}")
    start.devices = sorted({*start.devices, device_name(train.device)})
    if len(start.devices) > 1:
        env.report(f"this {phase} phase has run on {' and '.join(start.devices)}: not the bits of one device alone")

    if train.device.type == "cpu":
        start.threads = sorted({*start.threads, torch.get_num_threads()})
    if len(start.threads) > 1:
        numbers = " and ".join(map(str, start.threads))
        env.report(f"this {phase} phase has run on {numbers} threads: not the bits of one number alone")

    def write_metrics(history: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(entry) + "\n" for entry in history)
        write_atomically(folder / "metrics.jsonl", lambda temporary: temporary.write_text(lines))

    def save(optimiser: torch.optim.Optimizer, progress: Progress) -> None:
        save_state(folder / "last.ckpt", config, basis, phase, trainee, optimiser, progress)
        write_metrics(progress.history)
        if progress.history and not progress.step:
            env.on_epoch(progress.history[-1])

    def test(module: nn.Module) -> dict[str, Any]:
        return {f"test_{name}": value for name, value in score(module, epoch_test, config.seed).figures().items()}

    hooks = Hooks(
        on_step=lambda epoch, step, steps: env.progress(phase, epoch * steps + step + 1, epochs * steps),
        save=save,
        should_stop=env.should_stop,
        test=test,
    )
    history = fit(
        trainee, train, config, phase=phase, epochs=epochs, optimizer=optimizer, start=start, hooks=hooks,
        teacher=teacher,
    )  # fmt: skip
    # A kill between the last state and its metrics would leave them a line short.
    write_metrics(history)
    with counting(scored) as counter:
        final = score(
            scored, final_test, config.seed, lambda done, total: env.progress(f"testing {phase}", done, total)
        )
    return {
        "test": {**final.figures(), "precision": "fp32", "images": len(final_test)},
        "operations": counter.figures(len(final_test)),
        "predictions": list(final.predictions),
        "seconds": {"training": sum(entry["seconds"] for entry in history)},
        "devices": start.devices,
        "threads": start.threads,
    }
