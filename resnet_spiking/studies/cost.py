"""What a study will cost on this machine, from a few timed steps of each of its networks on random images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from resnet_spiking.config import RunConfig
from resnet_spiking.data.feature_cache import FeatureSource, features_of
from resnet_spiking.data.folder import list_images
from resnet_spiking.data.images import ImageSet
from resnet_spiking.data.names import MIRRORED
from resnet_spiking.data.views import PLAIN, Views
from resnet_spiking.network.build import build_default, build_spiking, build_trunk
from resnet_spiking.studies.plan import Task
from resnet_spiking.training.loop import train_step
from resnet_spiking.training.optimizer import make_optimizer
from resnet_spiking.training.precision import resolve_precision

SAMPLE = 16  # images of a step that is timed first
QUICK = 0.5  # seconds of that step below which a step of the run's own batch is timed too
SIZES = {
    "digits": (1437, 360),
    "cifar10": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
    "fashion-mnist": (60_000, 10_000),
}
CLASSES = 10


@dataclass(frozen=True)
class Cost:
    """Seconds of a task, and the bytes that it leaves."""

    seconds: float
    size: int


@dataclass(frozen=True)
class _Measured:
    """Seconds per image and bytes per image of a network's parts."""

    train_features: float
    test_features: float
    train_bytes: int
    test_bytes: int
    default_step: float
    default_test: float
    pooled: int
    model_bytes: int


def estimate(tasks: Iterable[Task], *, threads: int, device: torch.device, cached: bool = True) -> dict[str, Cost]:
    """Return the expected cost of each feature task and run by key; attacks are not estimated.

    Each distinct trunk, Default and head is timed once, on random images with random weights: a step of the run's
    batch, or of fewer images where these take long (on small maps an image of a large batch costs a third of one of a
    small batch). Sizes of image folders are counted. Unless ``cached``, every epoch computes what is frozen. Takes
    seconds, some more for large networks.
    """
    costs, threads_before = {}, torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for task in tasks:
            if task.run:
                train, test = _images(task)
                costs[task.key] = _cost(task, task.run.config, train, test, device, cached)
    finally:
        torch.set_num_threads(threads_before)
    return costs


def _cost(task: Task, config: RunConfig, train: int, test: int, device: torch.device, cached: bool) -> Cost:
    # Weights and seed do not change what a step costs.
    precision = resolve_precision(config.precision, device)
    alike = replace(
        config, weights="none", seed=0, head_seed=None, train_samples=None, test_samples=None, precision=precision
    )
    network = _measure(_trunk_only(alike), device)
    views = Views(config.dataset in MIRRORED if config.flip is None else config.flip, config.shifts).count
    if task.kind == "features" and task.payload["pooled"]:
        size = network.pooled * 4 * (train * views + test)
        return Cost(network.default_test * (train * views + test), size)
    if task.kind == "features":
        seconds = network.train_features * train * views + network.test_features * test
        return Cost(seconds, network.train_bytes * train * views + network.test_bytes * test)
    live = not cached or not config.freeze_depth
    below, below_test = (network.train_features, network.test_features) if live else (0.0, 0.0)
    if task.run and task.run.is_default:
        step, scored = below + network.default_step, below_test + network.default_test
        # Default lies in its own folder and, copied, in the run's.
        return Cost(config.default_epochs * (step * train + scored * test), 2 * network.model_bytes)
    if config.spiking == "stage":
        step, scored = _measure_stage(_with_stage(alike), device)
        return Cost(
            config.spiking_epochs * ((below + step) * train + (below_test + scored) * test), network.model_bytes
        )
    step, scored = _measure_head(_head_only(alike), network.pooled, device)
    if config.train == "decoder":
        step, scored = below + network.default_step + step, below_test + network.default_test + scored
    elif not cached:
        step, scored = below + network.default_test + step, below_test + network.default_test + scored
    return Cost(config.spiking_epochs * (step * train + scored * test), network.model_bytes)


def _images(task: Task) -> tuple[int, int]:
    assert task.run
    config = task.run.config
    if config.dataset == "folder":
        assert task.run.data_dir
        train, test = (_count(task.run.data_dir / split) for split in ("train", "test"))
    else:
        train, test = SIZES[config.dataset]
    return min(train, config.train_samples or train), min(test, config.test_samples or test)


@lru_cache
def _count(folder: Path) -> int:
    return sum(map(len, list_images(folder).values()))


def _trunk_only(config: RunConfig) -> RunConfig:
    names = ("backbone", "freeze_depth", "image_size", "precision", "weights", "batch_size", "optimizer")
    return RunConfig(neuron="none", **{name: getattr(config, name) for name in names})


def _head_only(config: RunConfig) -> RunConfig:
    kept = (
        "neuron", "mode", "hidden", "num_steps", "encoding", "readout", "beta", "alpha", "reset", "learn_beta",
        "batch_size",
    )  # fmt: skip
    return RunConfig(precision="fp32", **{name: getattr(config, name) for name in kept})


@lru_cache
def _measure(config: RunConfig, device: torch.device) -> _Measured:
    trunk = build_trunk(config, "none")
    for part in (trunk.backbone, trunk.stages):
        part.to(device).to(memory_format=torch.channels_last)
    images = _random_images()
    seconds, samples = [], []
    for precision in (config.precision, "fp32"):
        live = features_of(trunk.backbone, images, precision=precision, device=device)
        samples.append(live.batch(torch.arange(SAMPLE)))
        seconds.append(_time(live.batch, torch.arange(SAMPLE), SAMPLE))
    decoder = build_default(config, trunk.stages, trunk.stages.out_channels, CLASSES).to(device)
    step = _train_seconds(decoder, samples[0], config)
    tested = replace(config, precision="fp32")
    plain = build_default(tested, trunk.stages, trunk.stages.out_channels, CLASSES).to(device).eval()
    with torch.no_grad():
        scored = _time(plain, samples[1], config.batch_size)
    size = sum(value.numel() * value.element_size() for value in decoder.state_dict().values())
    sizes = [sample[0].numel() * sample.element_size() for sample in samples]
    return _Measured(seconds[0], seconds[1], sizes[0], sizes[1], step, scored, trunk.stages.out_channels, size)


@lru_cache
def _measure_head(config: RunConfig, features: int, device: torch.device) -> tuple[float, float]:
    pooled = torch.rand(SAMPLE, features, device=device)
    head = build_spiking(config, _AsIs(), features, CLASSES).to(device).head
    step = _train_seconds(head, pooled, config)
    with torch.no_grad():
        return step, _time(head, pooled, config.batch_size)


def _with_stage(config: RunConfig) -> RunConfig:
    kept = ("backbone", "freeze_depth", "image_size", "precision", "weights", "spiking", "train", "optimizer")
    return replace(_head_only(config), **{name: getattr(config, name) for name in kept})


@lru_cache
def _measure_stage(config: RunConfig, device: torch.device) -> tuple[float, float]:
    trunk = build_trunk(config, "none")
    trunk.backbone.to(device).to(memory_format=torch.channels_last)
    images = _random_images()
    maps = features_of(trunk.backbone, images, precision="fp32", device=device).batch(torch.arange(SAMPLE))
    decoder = build_spiking(config, trunk.stages, trunk.stages.out_channels, CLASSES).to(device)
    step = _train_seconds(decoder, maps, config)
    decoder.eval()
    with torch.no_grad():
        return step, _time(decoder, maps, config.batch_size)


class _AsIs(nn.Module):
    """In place of the stages of a decoder whose head alone is timed."""

    def forward(self, features: Tensor) -> Tensor:
        return features


def _train_seconds(network: nn.Module, sample: Tensor, config: RunConfig) -> float:
    """Return seconds per image of a training step on features like ``sample``."""
    optimizer = make_optimizer(network, config)
    network.train()

    def step(features: Tensor) -> None:
        source = FeatureSource(_random_images(), PLAIN, features.device, lambda indices, chosen: features)
        indices = torch.arange(len(features))
        labels = indices.to(features.device) % CLASSES
        train_step(network, source, labels, indices, config, ("calibration", 0, 0), optimizer)

    return _time(step, sample, config.batch_size)


def _time(step: Callable[[Tensor], object], sample: Tensor, batch: int) -> float:
    """Return seconds per image of ``step`` on ``batch`` images like ``sample``, after a warm-up.

    Where it is not quick, two smaller steps say what it costs: a part for the step (Muon's orthogonalisation, say), and
    a part for each image.
    """
    step(sample)
    few, seconds = len(sample), _seconds(step, sample)
    if batch == few:
        return seconds / few
    count = batch if seconds <= QUICK else min(2 * few, batch)
    more = sample.repeat(-(-count // few), *[1] * (sample.ndim - 1))[:count]
    # The layout decides which convolution runs; repeating may not keep it.
    more = more.contiguous(memory_format=torch.channels_last) if sample.ndim == 4 else more
    step(more)
    longer = _seconds(step, more)
    each = max(longer - seconds, 0.0) / (count - few)
    return (longer + each * (batch - count)) / batch


def _seconds(step: Callable[[Tensor], object], given: Tensor) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    began = time.perf_counter()
    step(given)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


@lru_cache
def _random_images() -> ImageSet:
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (SAMPLE, 3, 32, 32), generator=draw, dtype=torch.uint8)
    return ImageSet(images, torch.arange(SAMPLE) % CLASSES, tuple(map(str, range(CLASSES))))
