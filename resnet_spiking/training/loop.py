"""The loop over epochs: surrogate-gradient BPTT for spiking heads, ordinary training for Default."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from neurons import NaNError
from resnet_spiking.config import RunConfig
from resnet_spiking.data.feature_cache import FeatureSource
from resnet_spiking.data.transfer import sent
from resnet_spiking.errors import Interrupted, UserError
from resnet_spiking.network.arithmetic import plain_arithmetic
from resnet_spiking.randomness import generator_for
from resnet_spiking.training.allocator import keep_freed_memory
from resnet_spiking.training.distillation import distillation_loss
from resnet_spiking.training.optimizer import make_optimizer
from resnet_spiking.training.schedule import rate_at
from resnet_spiking.training.tally import Tally

READ = 16  # steps between two looks at the loss


@dataclass
class Progress:
    """Where training stands: epoch and step to do next, sums of the running epoch, finished epochs; the ``devices`` it
    runs and has run on and, on a CPU, the numbers of ``threads``, which the loop hands on."""

    epoch: int = 0
    step: int = 0
    sums: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Hooks:
    """What the loop calls: ``on_step(epoch, step, steps)``, ``save(optimiser, progress)``, ``should_stop()``,
    and ``test(network)`` for the figures that close an epoch. By default nothing happens."""

    on_step: Callable[[int, int, int], None] = lambda epoch, step, steps: None
    save: Callable[[torch.optim.Optimizer, Progress], None] = lambda optimiser, progress: None
    should_stop: Callable[[], bool] = lambda: False
    test: Callable[[nn.Module], dict[str, Any]] = lambda network: {}


QUIET = Hooks()


@plain_arithmetic()
def fit(
    network: nn.Module,
    source: FeatureSource,
    config: RunConfig,
    *,
    phase: str,
    epochs: int,
    optimizer: torch.optim.Optimizer | None = None,
    start: Progress | None = None,
    hooks: Hooks = QUIET,
    teacher: nn.Module | None = None,
) -> list[dict[str, Any]]:
    """Train ``network`` on ``source`` from ``start`` and return a dictionary of figures per epoch.

    Every random draw depends on (seed, phase, epoch, step) alone, so continuing from saved state
    gives the result of an uninterrupted run. ``teacher`` maps the same features to the logits that
    ``config.distill`` compares with. On a CPU the process keeps the memory that tensors free from here on
    (``keep_freed_memory``).

    Raises ``Interrupted`` after saving when ``hooks.should_stop()``; ``UserError`` when the loss
    is no longer finite, which is looked at every ``READ`` steps and before anything is saved.
    """
    optimizer = optimizer or make_optimizer(network, config)
    start = start or Progress()
    if source.device.type == "cpu":
        keep_freed_memory()
    labels = source.images.labels.to(source.device)
    batch_size = min(config.batch_size, len(source))
    steps = len(source) // batch_size
    network.train()
    for epoch in range(start.epoch, epochs):
        order = torch.randperm(len(source), generator=generator_for(config.seed, phase, "order", epoch))
        first = start.step if epoch == start.epoch else 0
        tally = Tally(source.device, start.sums if first else {})
        for step in range(first, steps):
            began = time.perf_counter()
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate_at(epoch * steps + step, epochs * steps, config.schedule)
            chosen = order[step * batch_size : (step + 1) * batch_size]
            place = (phase, epoch, step)
            with _finite(epoch, step):
                tally.add(*train_step(network, source, labels, chosen, config, place, optimizer, teacher))
            stopping = hooks.should_stop()
            if stopping or (step + 1) % READ == 0 or step + 1 == steps:
                if not math.isfinite(tally.read()["loss"]):
                    raise _divergence(epoch, step)
            tally.seconds += time.perf_counter() - began
            hooks.on_step(epoch, step, steps)
            if stopping:
                hooks.save(optimizer, replace(start, epoch=epoch, step=step + 1, sums=tally.read()))
                raise Interrupted
        sums = tally.read()
        with _finite(epoch, steps - 1):
            tested = hooks.test(network)
        if not math.isfinite(tested.get("test_loss", 0.0)):
            raise _divergence(epoch, steps - 1)
        start.history.append(
            {
                "phase": phase,
                "epoch": epoch + 1,
                "train_loss": sums["loss"] / steps,
                "train_accuracy": sums["correct"] / (steps * batch_size),
                "train_spike_rates": [rate / steps for rate in sums["rates"]],
                "seconds": sums["seconds"],
                **tested,
            }
        )
        hooks.save(optimizer, replace(start, epoch=epoch + 1, step=0, sums={}))
    return start.history


def train_step(
    network: nn.Module,
    source: FeatureSource,
    labels: Tensor,
    chosen: Tensor,
    config: RunConfig,
    place: tuple[str, int, int],
    optimizer: torch.optim.Optimizer,
    teacher: nn.Module | None = None,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Do one optimiser step on the images ``chosen [B]``; return the loss, the hits and the spike rates, as scalars.

    ``place`` is (phase, epoch, step): with the seed it fixes every random draw. With a teacher the loss is
    ``(1 - distill) CE + distill KL`` (see ``distillation_loss``).
    """
    draw = generator_for(config.seed, *place, "augment")
    views = source.views.draw(len(chosen), draw)
    features, targets = source.batch(chosen, views), labels[sent(chosen, labels.device)]
    other, share = targets, 1.0
    if config.mixup > 0:
        # torch's Beta distribution cannot draw from a generator of its own; numpy's can.
        share = float(np.random.default_rng(draw.initial_seed()).beta(config.mixup, config.mixup))
        partner = sent(torch.randperm(len(chosen), generator=draw), features.device)
        features, other = features * share + features[partner] * (1 - share), targets[partner]
    spikes_draw = generator_for(config.seed, *place, "spikes", device=source.device)
    logits, layers = network.trace(features, spikes_draw)  # type: ignore[operator]
    loss = share * functional.cross_entropy(logits, targets, label_smoothing=config.label_smoothing)
    if share < 1:
        loss = loss + (1 - share) * functional.cross_entropy(logits, other, label_smoothing=config.label_smoothing)
    if teacher is not None:
        with torch.no_grad():
            taught = teacher(features)
        apart = distillation_loss(logits, taught, config.distill_temperature)
        loss = (1 - config.distill) * loss + config.distill * apart
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    # Of two mixed images the one with the larger share is what the network should see.
    correct = (logits.argmax(1) == (targets if share >= 0.5 else other)).sum()
    return loss.detach(), correct, [spikes.detach().float().mean() for spikes in layers]


@contextmanager
def _finite(epoch: int, step: int) -> Iterator[None]:
    """Report a neuron's NaN: weights are no longer finite, or a membrane overflowed, before the loss says so."""
    try:
        yield
    except NaNError:
        raise _divergence(epoch, step) from None


def _divergence(epoch: int, step: int) -> UserError:
    return UserError(
        f"the loss is no longer finite in epoch {epoch + 1}, by step {step + 1}; lower --lr or --head-lr (or "
        "--weight-decay), and begin again with --overwrite"
    )
