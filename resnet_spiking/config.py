"""Everything that decides a run's result, in one immutable record."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace

from neurons.names import CONTROL, list_neurons
from neurons.parameters import MODES, RESETS
from resnet_spiking import schema
from resnet_spiking.data.names import DATASETS
from resnet_spiking.errors import UserError, check_known
from resnet_spiking.network.names import BACKBONES

LARGEST_BATCH = 65536
"""Images or draws at once: what no memory holds more of."""

CHOICES = {
    "mode": MODES,
    "reset": RESETS,
    "encoding": ("direct", "rate"),
    "readout": ("mean", "sum", "last", "membrane"),
    "train": ("decoder", "head"),
    "spiking": ("head", "stage"),
    "optimizer": ("adamw", "sgd", "muon"),
    "schedule": ("cosine", "constant"),
    "precision": ("auto", "bf16", "fp32"),
}

# What the spiking branch alone decides. Everything else also shapes the Default run it starts from.
BRANCH_ONLY = (
    "neuron",
    "mode",
    "beta",
    "alpha",
    "threshold",
    "reset",
    "detach_reset",
    "surrogate",
    "slope",
    "learn_beta",
    "hidden",
    "num_steps",
    "encoding",
    "readout",
    "train",
    "head_lr",
    "branch_lr",
    "spiking_epochs",
    "spiking",
    "distill",
    "distill_temperature",
    "head_seed",
)

NAMED_WEIGHTS = ("imagenet", "bundled", "none")
"""What weights are called that are no file."""

NEUTRAL = (("layer_decay", 1.0),)


@dataclass(frozen=True)
class RunConfig:
    """One run <X,Y>: X epochs of Default, then Y epochs of the spiking branch.

    Data and weights are by default those of digits on ResNet-18; for others ``data.names.usual_inputs`` says what the
    commands take. ``neuron="none"`` is Default alone. ``flip`` None means: where the dataset allows it.
    ``shifts`` is how many randomly shifted copies of each image (and mirror image) training sees
    besides. ``train`` says what the Y epochs train: the stages and the head (``decoder``) or the head
    alone, on cached pooled features of the frozen Default (``head``). ``precision="auto"`` becomes what the
    device is quick at (``resolve_precision``) when the run starts, and that is what is recorded.
    ``spiking`` says where the neurons are: in the head, or in stage 4 too. ``distill`` is the share of the
    branch's loss that compares it with Default (see ``training.distillation``).
    ``layer_decay`` is the share of a stage's learning rate at which the stage below it learns.
    ``branch_lr`` is the stages' learning rate in the Y epochs of ``train="decoder"``; None means ``lr``, at which
    Default trained them.
    ``head_seed`` gives the spiking branch a seed of its own, so that several heads stand on one Default;
    None means ``seed``.
    """

    dataset: str = "digits"
    backbone: str = "resnet18"
    weights: str = "bundled"
    freeze_depth: int = 3
    image_size: int = 64
    neuron: str = "snntorch-lif"
    mode: str = "shared"
    beta: float = 0.9
    alpha: float | None = None
    threshold: float = 1.0
    reset: str = "zero"
    detach_reset: bool = True
    surrogate: str = "atan"
    slope: float = 2.0
    learn_beta: bool = False
    hidden: tuple[int, ...] = (256,)
    num_steps: int = 20
    encoding: str = "direct"
    readout: str = "mean"
    default_epochs: int = 5
    spiking_epochs: int = 5
    train: str = "decoder"
    optimizer: str = "adamw"
    lr: float = 1e-3
    head_lr: float = 1e-3
    layer_decay: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 0.05
    schedule: str = "cosine"
    label_smoothing: float = 0.1
    mixup: float = 0.0
    flip: bool | None = None
    shifts: int = 0
    batch_size: int = 128
    precision: str = "auto"
    seed: int = 0
    spiking: str = "head"
    distill: float = 0.0
    distill_temperature: float = 2.0
    head_seed: int | None = None
    branch_lr: float | None = None
    train_samples: int | None = None
    test_samples: int | None = None

    def __post_init__(self) -> None:
        for setting in fields(self):
            # Files of runs are read too, which anyone may have changed.
            _check_kind(setting.name, getattr(self, setting.name), str(setting.type))
        check_known("--neuron", self.neuron, [*list_neurons(), "none"])
        check_known("--dataset", self.dataset, DATASETS)
        check_known("--backbone", self.backbone, BACKBONES)
        for field, accepted in CHOICES.items():
            check_known("--" + field, getattr(self, field), accepted)
        _check_range("--freeze-depth", self.freeze_depth, 0, 4)
        _check_range("--batch-size", self.batch_size, 2, LARGEST_BATCH)
        _check_range("--shifts", self.shifts, 0, 1000)
        _check_range("--num-steps", self.num_steps, 1, 100_000)
        _check_range("--image-size", self.image_size, 32, 4096)
        _check_range("--seed", self.seed, 0, 2**63 - 1)
        _check_range("--head-seed" if self.head_seed is not None else "--seed", self.branch_seed, 0, 2**63 - 1)
        for name in ("default_epochs", "spiking_epochs"):
            _check_range("--epochs", getattr(self, name), 0, 100_000)
        for name in ("train_samples", "test_samples"):
            if getattr(self, name) is not None:
                _check_range("--" + name.replace("_", "-"), getattr(self, name), 2, 10**9)
        _check_range("--distill-temperature", self.distill_temperature, 1e-3, 1e3)
        for name in ("lr", "head_lr", "branch_lr", "slope"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise UserError(f"--{name.replace('_', '-')} must be a positive number, not {value}")
        for name in ("beta", "label_smoothing", "momentum", "distill"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"--{name.replace('_', '-')} must lie in [0, 1], not {getattr(self, name)}")
        if self.branch_lr is not None and self.train == "head":
            raise UserError(
                "--branch-lr cannot go with --train head: it is the stages' rate in the branch, and --train head "
                "freezes them; use --train decoder, or --head-lr for the head's rate"
            )
        if not 0 < self.layer_decay <= 1:
            raise UserError(f"--layer-decay must lie above 0 and not above 1, not {self.layer_decay}")
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            raise UserError(f"--alpha must lie in [0, 1], not {self.alpha}")
        for name in ("weight_decay", "mixup"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UserError(f"--{name.replace('_', '-')} must be 0 or a positive number, not {getattr(self, name)}")
        if not self.hidden:
            raise UserError("--hidden must be positive widths such as 256 or 512,256, not empty")
        for width in self.hidden:
            _check_range("--hidden", width, 1, 10**6)
        if self.spiking == "stage" and self.neuron != "none":
            self._check_stage()

    def _check_stage(self) -> None:
        if self.train == "head":
            raise UserError(
                "--spiking stage cannot go with --train head: the neurons of stage 4 are part of the decoder, which "
                "--train head freezes; use --train decoder"
            )
        if self.freeze_depth == 4:
            raise UserError("--spiking stage needs a stage 4 that is not frozen; lower --freeze-depth to 3 or less")

    @property
    def epochs_label(self) -> str:
        """The pair <X,Y>."""
        return f"<{self.default_epochs},{self.spiking_epochs}>"

    @property
    def branch_seed(self) -> int:
        """The seed of the spiking branch: ``head_seed`` where it is given, else ``seed``."""
        return self.seed if self.head_seed is None else self.head_seed

    @property
    def stages_lr(self) -> float:
        """The stages' learning rate in the spiking branch: ``branch_lr`` where it is given, else ``lr``."""
        return self.lr if self.branch_lr is None else self.branch_lr

    def default_part(self) -> dict[str, object]:
        """Return the settings that the Default run depends on, at their defaults those that nothing reads."""
        unread = self.unread()
        part = {
            name: getattr(RunConfig, name) if name in unread else value
            for name, value in self.as_dict().items()
            if name not in BRANCH_ONLY
        }
        # A Default from before a setting was there is the one that its neutral value gives: its name stays.
        return {name: value for name, value in part.items() if (name, value) not in NEUTRAL}

    def unread(self) -> dict[str, str]:
        """Return the settings that nothing reads, each with the option that makes it so."""
        found: dict[str, str] = {}
        if self.optimizer != "sgd":
            found["momentum"] = f"--optimizer {self.optimizer}"
        if self.freeze_depth >= 3:  # no stage below stage 4 learns
            found["layer_decay"] = f"--freeze-depth {self.freeze_depth}"
        if self.neuron == "none":
            found |= {name: "--neuron none" for name in BRANCH_ONLY if name not in ("neuron", "spiking_epochs")}
        elif self.neuron == CONTROL:
            unread = ("beta", "threshold", "reset", "detach_reset", "surrogate", "slope")
            found |= dict.fromkeys(unread, f"--neuron {CONTROL}")
        elif self.surrogate == "ste":
            found["slope"] = "--surrogate ste"
        if not self.distill:
            found.setdefault("distill_temperature", "--distill 0")
        return found

    def default_alone(self) -> RunConfig:
        """Return the Default run that this one starts from; what the branch alone decides is at its default there."""
        neutral = {field.name: field.default for field in fields(RunConfig) if field.name in BRANCH_ONLY}
        return replace(self, **{**neutral, "neuron": "none", "head_lr": self.lr})  # type: ignore[arg-type]

    def as_dict(self) -> dict[str, object]:
        """Return a JSON-ready dictionary; ``RunConfig.from_dict`` reads it back."""
        return {**asdict(self), "hidden": list(self.hidden)}

    @staticmethod
    def from_dict(values: dict[str, object]) -> RunConfig:
        """Rebuild a configuration; a setting that an older version did not have yet gets its default.

        Raises ``UserError`` for unknown settings.
        """
        unknown = sorted(set(values) - {field.name for field in fields(RunConfig)})
        if unknown:
            raise UserError(
                f"this run was written by another version (settings unknown here: {', '.join(unknown)}); train it again"
            )
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return RunConfig(**given)  # type: ignore[arg-type]


def content_key(*parts: object) -> str:
    """Return a short hash that changes when any part does (parts must be JSON-ready)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def integers(option: str, text: str, count: int | None = None) -> tuple[int, ...]:
    """Read comma-separated integers. Raises ``UserError`` naming the option."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or (count is not None and len(numbers) != count):
        example = "5,5 (X epochs of Default, then Y of the spiking branch)" if count == 2 else "256 or 512,256"
        raise UserError(f"{option} {text!r} is malformed; give whole numbers such as {example}")
    return numbers


def _wholes(value: object) -> str | None:
    whole = isinstance(value, tuple) and not any(map(schema.whole, value))
    return None if whole else "must be whole numbers, in Python a tuple such as (256,)"


_KINDS: dict[str, schema.Check] = {
    "str": schema.text,
    "bool": schema.flag,
    "int": schema.whole,
    "float": schema.number,
    "tuple[int, ...]": _wholes,
}


def _check_kind(name: str, value: object, annotation: str) -> None:
    kind, _, nothing = annotation.partition(" | ")
    problem = None if nothing and value is None else _KINDS[kind](value)
    if problem:
        raise UserError(f"--{name.replace('_', '-')} {problem}, not {str(value)[:40]!r}")


def _check_range(option: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UserError(f"{option} must lie between {low} and {high}, not {value}")
