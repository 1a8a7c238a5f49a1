"""Attack results put together: models that differ in nothing but the seed, under one threat, on the same images."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from resnet_spiking.reports.digest import Digest, name_of
from resnet_spiking.reports.groups import Group
from resnet_spiking.reports.request import fits
from resnet_spiking.reports.statistics import Spread, spread

Model = dict[str, Any]


@dataclass(frozen=True)
class Series:
    """Attacked models of one setting, each another network. ``failed``: trust checks that any of them failed."""

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


def attacked(digest: Digest, labels: Collection[str] | None = None, datasets: tuple[str, ...] = ()) -> list[Attacked]:
    """Put the attack results of a study together.

    Args:
        labels: of the results to take; all if left out.
        datasets: names of datasets to take, or patterns of them; all if empty.
    """
    found: dict[tuple[object, ...], Attacked] = {}
    members: dict[tuple[object, ...], dict[str, list[Model]]] = {}
    for label, result in digest.results.attacks.items():
        groups = _groups(digest, result)
        known = next((group for group in groups if group is not None), None)
        dataset = _dataset(groups, result)
        if (labels is not None and label not in labels) or (
            datasets and not any(fits(dataset, pattern) for pattern in datasets)
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
            identity = _network(model, None) if group is None else f"group {digest.groups.index(group)}"
            evaluated = {**model, "result": label, "network": _network(model, group)}
            members.setdefault(place, {}).setdefault(identity, []).append(evaluated)
    for place, entry in found.items():
        entry.series.extend(_named([models for same in members[place].values() for models in _once(same)]))
    return list(found.values())


def _network(model: Model, group: Group | None) -> str:
    """Return what tells the network of a model from others: its run, or that of which it is a twin."""
    if group is None:
        return f"{model['name']} {model.get('run')} {model.get('model_sha256')}"
    key: str = model["key"]
    return group.twins.get(key, key)


def _once(models: list[Model]) -> list[list[Model]]:
    """Return the models of each series: one of every network.

    Attacks share networks, such as the Default under heads of several seeds. What was attacked twice with the same
    outcome counts once; where outcomes differ neither is the other's seed, and each evaluation stands for itself.
    """
    distinct: list[Model] = []
    for model in models:
        if not any(_outcome(model) == _outcome(other) for other in distinct):
            distinct.append(model)
    networks = {model["network"] for model in distinct}
    return [distinct] if len(networks) == len(distinct) else [[model] for model in distinct]


def _outcome(model: Model) -> tuple[object, ...]:
    """Return of which network, and what, tables say of a model."""
    return (
        model["network"],
        model["clean"]["accuracy"],
        [(point["eps"], point["accuracy"]) for point in model["robust"]],
        (model.get("minimum_norm") or {}).get("median"),
        model.get("mcnemar") or [],
        model["unreliable"],
    )


def _named(several: list[list[Model]]) -> list[Series]:
    """Name each series by its variant or its models' name, and by the attack results where others have that name."""
    variants = [models[0]["variant"] for models in several]
    names = [
        name_of(variant if variants.count(variant) == 1 else models[0]["name"])
        for variant, models in zip(variants, several, strict=True)
    ]
    return [
        Series(
            name if names.count(name) == 1 else f"{name} ({', '.join(dict.fromkeys(m['result'] for m in models))})",
            variant,
            models,
        )
        for name, variant, models in zip(names, variants, several, strict=True)
    ]


def dataset_of(digest: Digest, result: dict[str, Any]) -> str:
    """Return what the rows of the attacked models call their data; the kind of dataset where there are none."""
    return _dataset(_groups(digest, result), result)


def _dataset(groups: list[Group | None], result: dict[str, Any]) -> str:
    return next((str(group["dataset"]) for group in groups if group is not None), result["dataset"])


def _groups(digest: Digest, result: dict[str, Any]) -> list[Group | None]:
    """Return for each attacked model the group that its row is in."""
    return [digest.by_key.get(model["key"]) for model in result["models"]]


def _point(model: Model, eps: float) -> Model | None:
    if eps == 0:
        clean: Model = model["clean"]
        return clean
    return next((point for point in model["robust"] if point["eps"] == eps), None)
