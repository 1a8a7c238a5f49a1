"""The tasks of a study and what each waits for, so that nothing is done twice."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from neurons.names import CONTROL
from resnet_spiking.config import content_key
from resnet_spiking.errors import UserError
from resnet_spiking.studies.grid import Run, default_of, expand
from resnet_spiking.studies.identity import Identities
from resnet_spiking.studies.study_file import FILTERS, AttackBlock, Study

# What frozen features depend on, besides weights and data.
FEATURE_SETTINGS = (
    "backbone",
    "freeze_depth",
    "image_size",
    "flip",
    "shifts",
    "precision",
    "train_samples",
    "test_samples",
)


# What only makes another task quicker, which does without it where it fails.
PREPARING = ("features", "part")


@dataclass(frozen=True)
class Task:
    """One piece of work. ``kind``: ``features`` (fill the cache), ``run``, ``part`` (attack one network) or ``attack``.

    ``payload`` is JSON-ready and is all that a worker needs; ``needs`` are keys of tasks that come
    first; tasks of one ``affinity`` share what a worker keeps in memory.
    """

    key: str
    kind: str
    label: str
    payload: dict[str, Any]
    needs: tuple[str, ...] = ()
    affinity: str = ""
    run: Run | None = field(default=None, compare=False)


def plan_study(study: Study, *, cached: bool = True) -> list[Task]:
    """Return the study's tasks, each after what it needs.

    Frozen features come before the Default runs on them, a Default before its branches, its pooled
    features before the heads that train on them, every attacked network before its attack, to which each network's
    part comes first, so that workers share it. Without a feature cache (``cached=False``) there are no feature tasks.

    Raises ``UserError`` for what cannot be run: missing data or weights, two datasets whose runs have the same keys,
    an attack that meets none of the networks it names.
    """
    return _Planning(study, cached).tasks()


def network_name(run: Run) -> str:
    """Return what tables call the network of a run: ``default`` or its neuron."""
    return "default" if run.is_default else run.config.neuron


class _Planning:
    """A plan in the making: the tasks so far, by key."""

    def __init__(self, study: Study, cached: bool) -> None:
        self.study = study
        self.cached = cached
        self.identities = Identities()
        self.planned: dict[str, Task] = {}

    def tasks(self) -> list[Task]:
        runs = expand(self.study)
        traced = _first_of_each(runs)
        families: dict[Run, list[Task]] = {}
        for run in runs:
            task = self._add(self._run(run, traces=run in traced))
            if task.run and task.run.dataset != run.dataset:
                raise UserError(
                    f"{self.study.name}: datasets {task.run.dataset!r} and {run.dataset!r} would be taken for one: "
                    f"runs are found again by their settings and {_known_by(run)}, and both have the same; "
                    "leave one out, or give each a study of its own"
                )
            families.setdefault(default_of(run), []).append(task)
        for number, block in enumerate(self.study.attacks, 1):
            self._attack(block, families, f"{self.study.name}: [[attack]] {number}")
        # An attack takes longer than a run: it starts as soon as its networks are there.
        place = {key: float(position) for position, key in enumerate(self.planned)}
        for key, task in self.planned.items():
            if task.kind in ("part", "attack"):
                place[key] = max(map(place.__getitem__, task.needs)) + 0.25
        return sorted(self.planned.values(), key=lambda task: place[task.key])

    def _run(self, run: Run, *, traces: bool) -> Task:
        default = default_of(run)
        default_key = self.identities.run_key(default)
        needs: tuple[str, ...] = ()
        if self.cached and run.is_default and run.config.freeze_depth:
            needs = (self._add(self._features(default)).key,)
        elif not run.is_default:
            pooled = self.cached and run.config.train == "head"
            needs = (self._add(self._pooled(default)).key if pooled else default_key,)
        payload = {**_payload(run), "traces": traces}
        return Task(self.identities.run_key(run), "run", self._label(run), payload, needs, default_key, run)

    def _features(self, default: Run) -> Task:
        config = default.config
        # Random weights are drawn from the run's seed: then every seed has features of its own.
        drawn = config.seed if config.weights == "none" else None
        settings = [getattr(config, name) for name in FEATURE_SETTINGS]
        weights = self.identities.weights(config.weights)
        key = content_key("features", settings, drawn, weights, self.identities.data(default))
        label = f"features-{default.dataset}-{config.backbone}-{config.image_size}-{key[:8]}"
        return Task(key, "features", label, {**_payload(default), "pooled": False}, (), key, default)

    def _pooled(self, default: Run) -> Task:
        default_key = self.identities.run_key(default)
        label = f"pooled-{self._label(default)}"
        payload = {**_payload(default), "pooled": True}
        return Task(
            content_key("pooled", default_key), "features", label, payload, (default_key,), default_key, default
        )

    def _attack(self, block: AttackBlock, families: dict[Run, list[Task]], where: str) -> None:
        """Add the tasks for each Default that is attacked, with the networks that stand on it, of one seed.

        Raises ``UserError`` when nothing is attacked of a value that the block names.
        """
        met: dict[str, set[object]] = {key: set() for key in FILTERS}
        settings = {"bundle": block.bundle, "norm": block.norm, "eps": list(block.eps), "samples": block.samples}
        if block.order != "ascending":  # as a key of its own: without it, finished evaluations keep theirs
            settings["order"] = block.order
        first: dict[Run, tuple[Run, int]] = {}
        for default, members in families.items():
            if (block.datasets and default.dataset not in block.datasets) or (
                block.backbones and default.config.backbone not in block.backbones
            ):
                continue
            heads = [(task.run, task) for task in members[1:] if task.run]
            heads = [
                (run, task)
                for run, task in heads
                if (not block.neurons or run.config.neuron in block.neurons)
                and (not block.train or run.config.train in block.train)
            ]
            anywhere = replace(default, config=replace(default.config, seed=0))
            for seed in dict.fromkeys([run.config.branch_seed for run, _ in heads] or [default.config.seed]):
                if block.seeds and seed not in block.seeds:
                    continue
                if not block.seeds and first.setdefault(anywhere, (default, seed)) != (default, seed):
                    continue
                networks = [members[0], *(task for run, task in heads if run.config.branch_seed == seed)]
                self._attack_together(settings, seed, default, networks)
                branches = [run.config for run, _ in heads if run.config.branch_seed == seed]
                met["seeds"].add(seed)
                met["datasets"].add(default.dataset)
                met["backbones"].add(default.config.backbone)
                met["neurons"] |= {default.config.neuron, *(config.neuron for config in branches)}
                # Default is attacked whichever branches are chosen: it says nothing about them.
                met["train"] |= {config.train for config in branches}
        _check_met(block, met, where)

    def _attack_together(self, settings: dict[str, Any], seed: int, default: Run, networks: list[Task]) -> None:
        keys = tuple(task.key for task in networks)
        key = content_key("attack", settings, keys)
        payload = {
            **settings,
            "seed": seed,
            "data_dir": str(default.data_dir) if default.data_dir else None,
            "runs": [task.label for task in networks],
        }
        backbone = default.config.backbone
        label = f"{default.dataset}-{backbone}-{settings['bundle']}-{settings['norm']}-s{seed}-{key[:8]}"
        affinity = f"attack {default.dataset} {backbone}"
        parts = []
        for network in networks:
            assert network.run
            part = {**payload, "attack": label, "network": network.label}
            name = f"{label}-{network_name(network.run)}-{network.key[:8]}"
            parts.append(self._add(Task(content_key("part", key, network.key), "part", name, part, keys, affinity)).key)
        self._add(Task(key, "attack", label, payload, (*keys, *parts), affinity))

    def _label(self, run: Run) -> str:
        """Return the run's folder name: what a reader looks for, then the first digits of its key."""
        config = run.config
        parts = [run.dataset, config.backbone, network_name(run)]
        parts.append(
            str(config.default_epochs) if run.is_default else f"{config.default_epochs}-{config.spiking_epochs}"
        )
        parts += [] if run.is_default else [config.train]
        parts += ["stage"] if config.spiking == "stage" and not run.is_default else []
        seed = f"s{config.seed}" if config.head_seed is None else f"s{config.seed}h{config.head_seed}"
        return "-".join([*parts, seed, self.identities.run_key(run)[:8]])

    def _add(self, task: Task) -> Task:
        return self.planned.setdefault(task.key, task)


def _check_met(block: AttackBlock, met: dict[str, set[object]], where: str) -> None:
    chosen = {key: list(values) for key in FILTERS if (values := getattr(block, key))}
    for key, values in chosen.items():
        for value in values:
            if value not in met[key]:
                asked = ", ".join(f"{name} = {listed}" for name, listed in chosen.items())
                raise UserError(
                    f"{where}: no network with {key} {value!r} is attacked; name values that meet in a grid (it asks "
                    f"for {asked}), or leave one of them out"
                )


def _known_by(run: Run) -> str:
    return "its folder's file names and sizes" if run.config.dataset == "folder" else f"the name {run.config.dataset!r}"


def _payload(run: Run) -> dict[str, Any]:
    return {
        "dataset": run.dataset,
        "config": run.config.as_dict(),
        "data_dir": str(run.data_dir) if run.data_dir else None,
    }


def _first_of_each(runs: list[Run]) -> set[Run]:
    """Return the first run of each spiking network in the study: the one whose spikes are drawn."""
    first: dict[tuple[str, str], Run] = {}
    for run in runs:
        if not run.is_default and run.config.neuron != CONTROL:
            same = content_key({**run.config.as_dict(), "seed": 0, "head_seed": None})
            first.setdefault((run.dataset, same), run)
    return set(first.values())
