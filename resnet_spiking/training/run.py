"""One run <X,Y>: find or train Default, branch, train the spiking head, leave verifiable files."""

from __future__ import annotations

import copy
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resnet_spiking.config import RunConfig, content_key
from resnet_spiking.data.datasets import load_dataset
from resnet_spiking.data.feature_cache import FeatureSource, features_of, keep_features
from resnet_spiking.data.images import Dataset
from resnet_spiking.data.views import PLAIN, Views
from resnet_spiking.errors import UserError
from resnet_spiking.network.build import Trunk, build_default, build_spiking, build_trunk, check_head, state_sha256
from resnet_spiking.network.calibration import calibrate
from resnet_spiking.network.classifier import Decoder
from resnet_spiking.network.evidence import gather_evidence, is_spiking, rate_warnings
from resnet_spiking.network.operations import counting
from resnet_spiking.network.spiking_stage import SpikingStage
from resnet_spiking.network.weights import check_bundled_target
from resnet_spiking.training.checkpoint import load_model, load_state, save_model, save_state
from resnet_spiking.training.files import file_sha256, write_atomically, write_json
from resnet_spiking.training.loop import Hooks, Interrupted, Progress, fit, make_optimizer
from resnet_spiking.training.precision import resolve_precision
from resnet_spiking.training.provenance import provenance
from resnet_spiking.training.randomness import generator_for
from resnet_spiking.training.scoring import score

FORMAT = 1
CALIBRATION_IMAGES = 64


@dataclass(frozen=True)
class Environment:
    """Where a run happens and whom it tells. Nothing here changes a result, ``device`` aside.

    ``report(line)`` takes messages, ``progress(label, done, total)`` long work, ``on_epoch(figures)``
    each finished epoch, ``should_stop()`` asks whether to save and stop. ``remember(key, make)``
    returns what ``make()`` returns; one that keeps it lets the next run of the same process
    have the data, the frozen network and the Default without reading them again.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    data_dir: Path | None = None
    cache_dir: Path | None = None
    report: Callable[[str], None] = lambda line: None
    progress: Callable[[str, int, int], None] = lambda label, done, total: None
    on_epoch: Callable[[dict[str, Any]], None] = lambda figures: None
    should_stop: Callable[[], bool] = lambda: False
    remember: Callable[[tuple[object, ...], Callable[[], Any]], Any] = lambda key, make: make()


@dataclass(frozen=True)
class Frozen:
    """What all runs on one frozen trunk share: the data, the trunk, the features of both splits."""

    data: Dataset
    trunk: Trunk
    train: FeatureSource
    test: FeatureSource


@dataclass(frozen=True)
class Default:
    """A trained Default: its folder, what ``result.json`` holds, the network."""

    folder: Path
    result: dict[str, Any]
    network: Decoder


def data_key(config: RunConfig, data_dir: Path | None) -> tuple[object, ...]:
    """Return what ``load_data`` depends on, for ``Environment.remember``."""
    # Only image folders are brought to the configured size when they are read.
    side = config.image_size if config.dataset == "folder" else None
    return ("data", config.dataset, data_dir, side, config.train_samples, config.test_samples, config.flip)


def _shared_key(config: RunConfig, data: Dataset, env: Environment) -> tuple[object, ...]:
    return (content_key(config.default_part()), data.sha256, env.device)


def load_data(config: RunConfig, data_dir: Path | None) -> Dataset:
    """Load the configured dataset, cut to the configured number of samples."""
    data = load_dataset(config.dataset, data_dir, side=config.image_size)
    train = data.train.subset(config.train_samples) if config.train_samples else data.train
    test = data.test.subset(config.test_samples) if config.test_samples else data.test
    flip = data.flip if config.flip is None else config.flip
    return Dataset(data.name, train, test, flip)


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
    is found there by every later run. ``data`` replaces the configured dataset.

    Raises ``UserError`` for anything the user can put right, ``Interrupted`` after saving when
    asked to stop.
    """
    env = environment or Environment()
    config = replace(config, precision=resolve_precision(config.precision, env.device))
    check_head(config)
    finished = _prepare(config, output, env, resume=resume, overwrite=overwrite)
    if finished is not None:
        return finished
    began = time.perf_counter()
    images = data or env.remember(data_key(config, env.data_dir), lambda: load_data(config, env.data_dir))
    shared = _shared_key(config, images, env)
    frozen = env.remember(("frozen", *shared), lambda: _frozen(config, images, env))
    features_seconds = time.perf_counter() - began
    default = env.remember(("default", output.parent, *shared), lambda: _default(config, output.parent, frozen, env))
    if config.neuron == "none":
        # The Default run is content-addressed and shared; the named run is its own copy.
        for name in ("model.safetensors", "metrics.jsonl"):
            write_atomically(output / name, partial(shutil.copyfile, default.folder / name))
        result = {**default.result, "provenance": provenance(env.device)}
        write_json(output / "result.json", result)
        return result

    network, figures = _branch(config, output, frozen, default, env)
    result = {
        "format": FORMAT,
        "variant": config.neuron,
        "num_classes": len(images.classes),
        "epochs": config.epochs_label,
        "config": config.as_dict(),
        "default": {
            "run": default.folder.name,
            **default.result["test"],
            **{name: default.result[name] for name in ("operations",) if name in default.result},
        },
        **figures,
        "warnings": rate_warnings(figures["test"]["spike_rates"], network.head.layer_names)  # type: ignore[arg-type]
        if is_spiking(network.head)  # type: ignore[arg-type]
        else [],
        "seconds": {
            "features": features_seconds,
            "default": default.result["seconds"]["training"],
            **figures["seconds"],
        },
        "hashes": _hashes(frozen, output / "model.safetensors"),
        "provenance": provenance(env.device),
    }
    write_json(output / "result.json", result)
    (output / "last.ckpt").unlink(missing_ok=True)
    return result


def prepare_features(config: RunConfig, parent: Path, environment: Environment, *, pooled: bool) -> None:
    """Fill the feature cache: the frozen features that a Default trains on, or the ``pooled`` ones of its decoder.

    ``parent`` is the folder of the runs, where the Default is found, or trained when ``pooled`` needs it.
    """
    env = environment
    config = replace(config, precision=resolve_precision(config.precision, env.device))
    data = env.remember(data_key(config, env.data_dir), lambda: load_data(config, env.data_dir))
    shared = _shared_key(config, data, env)
    frozen = env.remember(("frozen", *shared), lambda: _frozen(config, data, env))
    if pooled:
        default = env.remember(("default", parent, *shared), lambda: _default(config, parent, frozen, env))
        _remember_pooled(config, frozen, default, env)


def _prepare(
    config: RunConfig, output: Path, env: Environment, *, resume: bool, overwrite: bool
) -> dict[str, Any] | None:
    """Claim the run folder; return its result when resuming a finished run."""
    if resume and overwrite:
        raise UserError("--resume continues a run and --overwrite deletes it: give one of them")
    path = output / "config.json"
    if output.exists() and not output.is_dir():
        raise UserError(f"--output-dir {output} is a file; name a folder")
    if path.exists() and not (resume or overwrite):
        raise UserError(f"{output} holds a run already; add --resume to continue it, or --overwrite to replace it")
    if resume:
        if not path.exists():
            raise UserError(f"{output} holds no run to resume; leave --resume out to start one")
        stored = RunConfig.from_dict(read_json(path)["config"]).as_dict()
        different = [name for name, value in config.as_dict().items() if stored[name] != value]
        if different:
            raise UserError(
                f"{output} was started with another configuration ({', '.join(different)}); use the same options"
            )
        if (output / "result.json").exists():
            return read_json(output / "result.json")
    try:
        output.mkdir(parents=True, exist_ok=True)
        if overwrite:
            for name in ("result.json", "last.ckpt", "metrics.jsonl", "model.safetensors"):
                (output / name).unlink(missing_ok=True)
        inputs = {"data_dir": str(env.data_dir) if env.data_dir else None}
        write_json(path, {"format": FORMAT, "config": config.as_dict(), "inputs": inputs})
    except OSError as error:
        raise UserError(f"cannot write to {output} ({error.strerror}); choose another --output-dir") from None
    return None


def read_json(path: Path) -> dict[str, Any]:
    """Read one of a run's JSON files. Raises ``UserError`` when it is missing, damaged or of another format."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        raise UserError(f"{path} is missing or damaged; train the run again with --overwrite") from None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise UserError(f"{path} has another format than this version's ({FORMAT}); train the run again")
    return value


def _frozen(config: RunConfig, data: Dataset, env: Environment) -> Frozen:
    if config.weights == "bundled":
        check_bundled_target(data.name, data.classes)
    trunk = build_trunk(config, config.weights)
    for part in (trunk.backbone, trunk.stages):
        part.to(env.device).to(memory_format=torch.channels_last)
    if trunk.identity.random:
        env.report(f"starting from random weights: {', '.join(trunk.identity.random)}")

    def opened(split: str, views: Views, precision: str) -> FeatureSource:
        images = data.train if split == "train" else data.test
        live = features_of(trunk.backbone, images, views=views, precision=precision, device=env.device)
        if config.freeze_depth == 0:
            # Nothing is frozen but the resizing: its output is larger than the images and cheap to redo.
            return live
        identity = [trunk.identity.sha256, config.backbone, config.freeze_depth, config.image_size, precision]
        return _keep(live, identity, split, env)

    # Reported accuracy is fp32 from pixels to logits, whatever training computes in.
    train = opened("train", Views(data.flip, config.shifts), config.precision)
    return Frozen(data, trunk, train, opened("test", PLAIN, "fp32"))


def _keep(live: FeatureSource, identity: object, label: str, env: Environment) -> FeatureSource:
    def progress(of: str, done: int, total: int) -> None:
        env.progress(of, done, total)
        if env.should_stop():
            # The cache is written whole or not at all; resuming computes it again.
            raise Interrupted

    return keep_features(
        live, identity=identity, cache_dir=env.cache_dir, report=env.report, progress=progress, label=label
    )


def _default_key(config: RunConfig, frozen: Frozen) -> str:
    settings = {name: value for name, value in config.default_part().items() if name not in ("weights", "flip")}
    trunk, data = frozen.trunk, frozen.data
    return content_key(settings, trunk.identity.sha256, trunk.stages_sha256, data.sha256, data.flip)


def _default(config: RunConfig, parent: Path, frozen: Frozen, env: Environment) -> Default:
    """Find the Default run in ``parent``, or train it there under a name made of everything it depends on."""
    folder = parent / f"default-{_default_key(config, frozen)}"
    stages, classes = copy.deepcopy(frozen.trunk.stages), len(frozen.data.classes)
    network = build_default(config, stages, stages.out_channels, classes).to(env.device)
    if (folder / "result.json").exists():
        load_model(folder / "model.safetensors", network)
        env.report(f"Default {folder.name} is trained already: reusing it")
        return Default(folder, read_json(folder / "result.json"), network)
    folder.mkdir(parents=True, exist_ok=True)
    # head_lr is the spiking head's: one Default serves every value of it.
    alone = replace(config, neuron="none", head_lr=config.lr)
    write_json(
        folder / "config.json",
        {
            "format": FORMAT,
            "config": alone.as_dict(),
            "inputs": {"data_dir": str(env.data_dir) if env.data_dir else None},
        },
    )
    figures = _train(
        network,
        _evaluating(network),
        config.default_part(),
        alone,
        folder,
        "default",
        config.default_epochs,
        frozen.train,
        frozen.test,
        frozen.test,
        env,
    )
    save_model(folder / "model.safetensors", network, _identity(config, frozen.trunk))
    result = {
        "format": FORMAT,
        "variant": "default",
        "num_classes": classes,
        "epochs": f"<{config.default_epochs}>",
        "config": alone.as_dict(),
        **figures,
        "warnings": [],
        "hashes": _hashes(frozen, folder / "model.safetensors"),
        "provenance": provenance(env.device),
    }
    write_json(folder / "result.json", result)
    (folder / "last.ckpt").unlink(missing_ok=True)
    return Default(folder, result, network)


def _branch(
    config: RunConfig, output: Path, frozen: Frozen, default: Default, env: Environment
) -> tuple[Decoder, dict[str, Any]]:
    stages = copy.deepcopy(default.network.stages)
    classes = len(frozen.data.classes)
    branch = replace(config, seed=config.branch_seed, head_seed=None)
    network = build_spiking(branch, stages, frozen.trunk.stages.out_channels, classes).to(env.device)
    below = default.network if config.train == "decoder" else default.network.head
    teacher = below.eval() if config.distill > 0 else None
    if isinstance(network.head, SpikingStage):
        _calibrate(network.head, branch, default.network, frozen.train)
    trainee: nn.Module = network
    train, test, final_test = frozen.train, frozen.test, frozen.test
    scored: nn.Module = _evaluating(network)
    if config.train == "head":
        trainee = network.head
        stages.requires_grad_(False).eval()
        # The pooled test features are fp32 in blocks of scoring's size: the head alone scores bit for bit the same.
        train, test = _remember_pooled(config, frozen, default, env)
        final_test, scored = test, network.head
    figures = _train(
        trainee,
        scored,
        branch.as_dict(),
        branch,
        output,
        "spiking",
        config.spiking_epochs,
        train,
        test,
        final_test,
        env,
        teacher,
    )
    below_head = default.result.get("operations", {}).get("stages")
    if config.train == "head" and below_head:
        # Scored from pooled features: the stages below are Default's, and ran when it was scored.
        figures["operations"]["stages"] = below_head
    # T maps of every layer and their graph are held at once: fewer images where stage 4 spikes too.
    sample = torch.arange(min(32 if network.on_maps else 256, len(frozen.data.test)))
    if is_spiking(network.head):  # type: ignore[arg-type]
        features = final_test.batch(sample)
        evidence = gather_evidence(
            network.head.eval(),  # type: ignore[arg-type]
            features if config.train == "head" else _evaluating(network).pool(features).detach(),
            frozen.data.test.labels[sample].to(env.device),
            generator_for(branch.seed, "evidence", device=env.device),
        ).as_dict()
    else:
        evidence = {"spikes": False, "reason": "a control without spikes"}
    save_model(output / "model.safetensors", network, _identity(config, frozen.trunk))
    neurons = [neuron.describe(env.device) for neuron in network.head.neurons]  # type: ignore[union-attr]
    return network, {**figures, "evidence": evidence, "neurons": neurons}


def _calibrate(stage: SpikingStage, config: RunConfig, default: Decoder, train: FeatureSource) -> None:
    """Start the spiking stage from Default's, on the first training images."""
    parts = dict(default.stages.named_children())
    reference = parts.pop("layer4").eval()
    maps = train.batch(torch.arange(min(CALIBRATION_IMAGES, len(train)))).float()
    with torch.no_grad():
        for part in parts.values():
            maps = part.eval()(maps)
    generator = generator_for(config.seed, "calibration", device=train.device)
    calibrate(stage, reference, maps, generator)  # type: ignore[arg-type]


def _remember_pooled(
    config: RunConfig, frozen: Frozen, default: Default, env: Environment
) -> tuple[FeatureSource, FeatureSource]:
    key = ("pooled", default.folder, default.result["hashes"]["model"], env.device)
    found: tuple[FeatureSource, FeatureSource] = env.remember(key, lambda: _pooled(config, frozen, default, env))
    return found


def _pooled(
    config: RunConfig, frozen: Frozen, default: Default, env: Environment
) -> tuple[FeatureSource, FeatureSource]:
    """Return the pooled features of the frozen Default decoder: what every head is trained on."""
    stages = copy.deepcopy(default.network.stages).requires_grad_(False)
    stages_sha256 = state_sha256(stages)

    def opened(source: FeatureSource, label: str, precision: str) -> FeatureSource:
        decoder = Decoder(stages, nn.Identity(), precision).eval()

        def compute(indices: Tensor, chosen: Tensor) -> Tensor:
            with torch.no_grad():
                return decoder.pool(source.batch(indices, chosen))

        live = FeatureSource(source.images, source.views, source.device, compute)
        identity = ["pooled", frozen.trunk.identity.sha256, stages_sha256, config.image_size, precision]
        return _keep(live, identity, f"pooled {label}", env)

    return opened(frozen.train, "train", config.precision), opened(frozen.test, "test", "fp32")


def _evaluating(network: Decoder) -> Decoder:
    """Return the decoder in eval mode and fp32: what reported figures are measured on."""
    return Decoder(network.stages, network.head, "fp32").eval()


def _train(
    trainee: nn.Module,
    scored: nn.Module,
    settings: dict[str, object],
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
    """Train ``trainee`` on ``train`` and score it after each epoch; at last score ``scored`` on ``final_test``."""
    optimizer = make_optimizer(trainee, config)
    start = Progress()
    if (folder / "last.ckpt").exists():
        start = load_state(folder / "last.ckpt", settings, trainee, optimizer)
        env.report(f"resuming {phase} at epoch {start.epoch + 1}, step {start.step + 1}")

    def write_metrics(history: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(entry) + "\n" for entry in history)
        write_atomically(folder / "metrics.jsonl", lambda temporary: temporary.write_text(lines))

    def save(optimiser: torch.optim.Optimizer, progress: Progress) -> None:
        save_state(folder / "last.ckpt", config, phase, trainee, optimiser, progress)
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
    }


def _identity(config: RunConfig, trunk: Trunk) -> dict[str, str]:
    return {"backbone": config.backbone, "weights": trunk.identity.name, "backbone_sha256": trunk.identity.sha256}


def _hashes(frozen: Frozen, model: Path) -> dict[str, Any]:
    identity = frozen.trunk.identity
    return {
        "backbone": {
            "weights": identity.name,
            "sha256": identity.sha256,
            "random": list(identity.random),
        },
        "data": frozen.data.sha256,
        "model": file_sha256(model),
    }
