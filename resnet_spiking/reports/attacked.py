"""Attack results put together: models that differ in nothing but the seed, under one threat, on the same images."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from resnet_spiking.reports.digest import Digest, name_of
from resnet_spiking.reports.groups import Group
from resnet_spiking.reports.statistics import Spread, spread

Model = dict[str, Any]


@dataclass(frozen=True)
class Series:
    """Attacked models of one setting, one a seed. ``failed``: trust checks that any of them failed."""

    name: str
    variant: str
    models: list[Model]

    @property
    def failed(self) -> list[str]:
        return sorted({check for model in self.models for check in model["unreliable"]})

    def at(self, eps: float) -> tuple[Spread, Model | None] | None:
        """Return the accuracy at a budget (0: clean), and the paired test against Default where there is one model.

        One model has the Wilson interval that its result carries. None when a model was not
        attacked at this budget.
        """
        points = [_point(model, eps) for model in self.models]
        found = [point for point in points if point is not None]
        if len(found) < len(points):
            return None
        if len(found) > 1:
            return spread([float(point["accuracy"]) for point in found], 1), None
        low, high = found[0]["interval"]
        tests = [test for test in self.models[0].get("mcnemar") or [] if test["eps"] == eps]
        return Spread(1, float(found[0]["accuracy"]), None, low, high), tests[0] if tests else None


@dataclass(frozen=True)
class Attacked:
    """One comparison: the same data, frozen network, norm, bundle and budgets. ``labels``: of the results in it."""

    title: str
    dataset: str
    norm: str
    bundle: str
    samples: int
    budgets: dict[float, str]
    labels: list[str] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    @property
    def threat(self) -> str:
        return f"{self.norm}, bundle {self.bundle}, {self.samples:,} test images"


def attacked(digest: Digest, results: tuple[str, ...] = (), datasets: tuple[str, ...] = ()) -> list[Attacked]:
    """Put the attack results of a study together.

    Args:
        results: patterns of labels to take; all if empty.
        datasets: names of datasets to take; all if empty.
    """
    found: dict[tuple[object, ...], Attacked] = {}
    members: dict[tuple[object, ...], dict[str, tuple[Group | None, list[Model]]]] = {}
    for label, result in digest.results.attacks.items():
        groups = _groups(digest, result)
        known = next((group for group in groups if group is not None), None)
        dataset = _dataset(groups, result)
        if (results and not any(fnmatchcase(label, pattern) for pattern in results)) or (
            datasets and not any(fnmatchcase(dataset, pattern) for pattern in datasets)
        ):
            continue
        title = digest.network_title(known) if known else label
        bundle = result["bundle"] + (" (indicative)" if result.get("indicative") else "")
        place: tuple[object, ...] = (title, result["norm"], bundle, tuple(result["eps"]), result["samples"])
        budgets = dict(zip(result["eps"], result["eps_labels"], strict=True))
        entry = found.setdefault(place, Attacked(title, dataset, result["norm"], bundle, result["samples"], budgets))
        entry.labels.append(label)
        entry.commands.append(result["command"])
        for model, group in zip(result["models"], groups, strict=True):
            # Seeds of one setting belong together; a model that no row describes stands for itself.
            identity = model["name"] if group is None else f"group {digest.groups.index(group)}"
            members.setdefault(place, {}).setdefault(identity, (group, []))[1].append(model)
    for place, entry in found.items():
        variants = [models[0]["variant"] for _, models in members[place].values()]
        for _, models in members[place].values():
            variant = models[0]["variant"]
            name = name_of(variant if variants.count(variant) == 1 else models[0]["name"])
            entry.series.append(Series(name, variant, models))
    return list(found.values())


def dataset_of(digest: Digest, result: dict[str, Any]) -> str:
    """Return what the rows of the attacked models call their data; the kind of dataset where there are none."""
    return _dataset(_groups(digest, result), result)


def _dataset(groups: list[Group | None], result: dict[str, Any]) -> str:
    return next((str(group["dataset"]) for group in groups if group is not None), result["dataset"])


def _groups(digest: Digest, result: dict[str, Any]) -> list[Group | None]:
    """Return for each attacked model the group that its row is in."""
    return [digest.by_run.get(Path(model.get("run") or "").name) for model in result["models"]]


def _point(model: Model, eps: float) -> Model | None:
    if eps == 0:
        clean: Model = model["clean"]
        return clean
    return next((point for point in model["robust"] if point["eps"] == eps), None)
