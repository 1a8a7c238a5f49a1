"""Runs that differ in nothing but the seed, and what they have in common with the runs beside them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from neurons.names import list_neurons
from resnet_spiking.config import BRANCH_ONLY
from resnet_spiking.data.names import MIRRORED
from resnet_spiking.errors import UserError
from resnet_spiking.reports.results import Results, Row
from resnet_spiking.reports.statistics import Paired, Spread, paired, spread

DEFAULT = "default"
SEEDS = ("seed", "head_seed")
"""What tells the runs of a group apart; ``head_seed``, where given, is the seed of the spiking branch alone."""
SHOWN = (
    "dataset", "backbone", "image_size", "weights", "freeze_depth", "variant", "mode", "epochs", "train", "spiking",
    "num_steps", "encoding",
)  # fmt: skip
"""Settings with a column of their own; all others appear as ``name=value`` where they vary."""

_COVERED = {*SHOWN, *SEEDS, "neuron", "default_epochs", "spiking_epochs"}


def setting(row: Row, name: str) -> Any:
    """Return one setting of a row: a field of the row, or of its config; None where Default has no such thing."""
    if row["variant"] == DEFAULT and (name in BRANCH_ONLY or name in ("mode", "spiking")):
        return None
    value = row[name] if name in row and name != "default" else row["config"].get(name)
    if name == "flip" and value == (row["config"]["dataset"] in MIRRORED):
        return None  # what its being unset means
    return Path(value).name if name == "weights" else value


def devices_of(row: Row) -> list[str]:
    """Return the devices that a run trained on; of before all were recorded, the one that it ended on."""
    return row.get("devices") or [str(row["provenance"].get("device", "unknown"))]


def weights_of(row: Row) -> str:
    """Return what the weights are, wherever their file lies: its name with the hash of what was loaded from it.

    Random values have the hash of their seed, and where nothing is frozen the hash is of nothing: these are named as
    they were asked for, and so are weights from before hashes were recorded.
    """
    given, loaded = row["config"]["weights"], row["hashes"].get("backbone") or {}
    if given == "none" or not row["config"]["freeze_depth"] or not loaded.get("sha256"):
        return str(given)
    # Of stages that the file did not have, the hash says nothing.
    return "-".join([f"{Path(given).name}@{loaded['sha256']}", *loaded.get("random", ())])


def _identity(row: Row) -> dict[str, Any]:
    """Return the configuration without seeds, with one value for what makes one network."""
    config = {name: value for name, value in row["config"].items() if name not in SEEDS}
    return {**config, "flip": setting(row, "flip"), "weights": weights_of(row)}


def cell_of(row: Row) -> str:
    """Return, as text, everything but the seed that decides the Default network of a row."""
    shared = {name: value for name, value in _identity(row).items() if name not in BRANCH_ONLY}
    return json.dumps({**shared, "dataset": row["dataset"], "data": row["hashes"]["data"]}, sort_keys=True)


@dataclass(frozen=True)
class Group:
    """Finished runs that differ in nothing but the seed, by seed, and the Default runs they are paired with.

    ``weights`` and ``dataset``: their names, with the hash where other weights or images have that name. ``twins``: key
    of a run that is left out, as its network is that of another of the rows → key of that one.
    """

    results: Results
    rows: tuple[Row, ...]
    defaults: tuple[Row | None, ...]
    weights: str
    dataset: str
    twins: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        if name in ("weights", "dataset"):
            return self.weights if name == "weights" else self.dataset
        return setting(self.rows[0], name)

    @property
    def keys(self) -> list[str]:
        """The keys of the rows and of their twins."""
        return [*(row["key"] for row in self.rows), *self.twins]

    @property
    def variant(self) -> str:
        return str(self.rows[0]["variant"])

    @property
    def is_default(self) -> bool:
        return self.variant == DEFAULT

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting but the seeds."""
        return {name: self[name] for name in dict.fromkeys((*SHOWN, *self.rows[0]["config"])) if name not in SEEDS}

    @cached_property
    def cell(self) -> str:
        """What decides the Default network under this group: groups of one cell are compared with each other."""
        return cell_of(self.rows[0])

    @cached_property
    def default_seeds(self) -> frozenset[int]:
        """The seeds of the Default networks under this group: means over other ones are not compared."""
        return frozenset(row["config"]["seed"] for row in self.rows)

    @cached_property
    def accuracy(self) -> Spread:
        return spread([row["test"]["accuracy"] for row in self.rows], self.rows[0]["test"]["images"])

    @cached_property
    def train_accuracy(self) -> float | None:
        """Accuracy on the training images, as they were augmented, in the last epoch, averaged over seeds."""
        phase = "default" if self.is_default else "spiking"
        keys = {row["key"] for row in self.rows}
        curves = [record for record in self.results.curves if record["key"] in keys and record["phase"] == phase]
        last = {record["key"]: record for record in sorted(curves, key=lambda record: record["epoch"])}
        return (
            float(np.mean([record["train_accuracy"] for record in last.values()])) if len(last) == len(keys) else None
        )

    @cached_property
    def networks(self) -> int:
        """How many different Default networks the seeds stand on."""
        return len({row["run"] if self.is_default else (row.get("default") or {}).get("run") for row in self.rows})

    @cached_property
    def difference(self) -> float | None:
        """Mean over seeds of accuracy minus Default's; None for Default."""
        if self.is_default or any(not row.get("default") for row in self.rows):
            return None
        return float(np.mean([row["test"]["accuracy"] - row["default"]["accuracy"] for row in self.rows]))

    @cached_property
    def versus_default(self) -> Paired | None:
        """The paired test against Default; None for Default, and without both sides' predictions."""
        if self.is_default:
            return None
        pairs = [
            (self.results.correct(row), self.results.correct(default) if default else None)
            for row, default in zip(self.rows, self.defaults, strict=True)
        ]
        if any(first is None or second is None for first, second in pairs):
            return None
        return paired([first for first, _ in pairs if first is not None], [s for _, s in pairs if s is not None])

    @cached_property
    def spike_rate(self) -> float | None:
        """Spikes per neuron and step, averaged over layers and seeds; None without spiking layers.

        Of a control without spikes, rows have the mean of its outputs there, which are no spikes.
        """
        if self.control:
            return None
        rates = [float(np.mean(row["test"]["spike_rates"])) for row in self.rows if row["test"]["spike_rates"]]
        return float(np.mean(rates)) if rates else None

    def operations(self, name: str, part: str = "head") -> float | None:
        """Return a cost per image under NeuroBench's name, averaged over seeds; None where it was not measured.

        ``part``: of the ``head``, or of the ``stages`` below it.
        """
        measured = [row.get("operations") or {} for row in self.rows]
        found = [of.get(name) for of in (measured if part == "head" else [of.get("stages") or {} for of in measured])]
        return float(np.mean([v for v in found if v is not None])) if None not in found else None

    @cached_property
    def seconds(self) -> float | None:
        """Seconds of training, averaged over seeds."""
        found = [row["seconds"]["training"] for row in self.rows if "training" in row["seconds"]]
        return float(np.mean(found)) if found else None

    @cached_property
    def control(self) -> bool:
        """Whether this is a head without spikes, such as relu."""
        return any("reason" in (row.get("evidence") or {}) for row in self.rows)

    @cached_property
    def evidence(self) -> bool | None:
        """Whether every run proved that it spikes; None where there is nothing to spike."""
        found = [row["evidence"] for row in self.rows if row.get("evidence")]
        if not found or any("reason" in evidence for evidence in found):
            return None
        return all(bool(evidence.get("spikes")) for evidence in found)


def group_rows(results: Results) -> list[Group]:
    """Group the rows; order by dataset, backbone, cell, then Default first and neurons as ``list_neurons`` has them."""
    # A run names its Default by the folder it was trained in, which is not the one it is published under.
    by_cell: dict[tuple[str, int], Row] = {}
    for row in results.rows:
        if row["variant"] == DEFAULT:
            _refuse_two(by_cell.setdefault((cell_of(row), row["config"]["seed"]), row), row)
    found: dict[str, list[Row]] = {}
    for row in results.rows:
        config = _identity(row)
        if row["variant"] == DEFAULT:
            config = {name: value for name, value in config.items() if name not in BRANCH_ONLY}
        identity = [row["dataset"], row["hashes"]["data"], row["variant"], row["spiking"], config]
        found.setdefault(json.dumps(identity, sort_keys=True), []).append(row)
    alike: dict[tuple[Any, ...], set[str]] = {}
    for row in results.rows:
        alike.setdefault(_named(row), set()).add(weights_of(row))
        alike.setdefault(_images(row), set()).add(row["hashes"]["data"])
    groups = []
    for rows in found.values():
        rows.sort(key=lambda row: (row["seed"], row["config"].get("head_seed") or 0, row["key"]))
        once, twins = _counted_once(rows)
        defaults = [by_cell.get((cell_of(row), row["config"]["seed"])) for row in once]
        for row, default in zip(once, defaults, strict=True):
            _refuse_other_default(row, default)
        weights = _short(weights_of(rows[0])) if len(alike[_named(rows[0])]) > 1 else setting(rows[0], "weights")
        dataset = rows[0]["dataset"]
        if len(alike[_images(rows[0])]) > 1:
            dataset += f"@{rows[0]['hashes']['data'][:8]}"
        groups.append(Group(results, tuple(once), tuple(defaults), weights, dataset, twins))
    order = {name: index for index, name in enumerate((DEFAULT, *list_neurons()))}

    def place(group: Group) -> tuple[Any, ...]:
        rest = json.dumps(group.rows[0]["config"], sort_keys=True)
        return (
            group["dataset"], group["backbone"], group["image_size"], group.cell, not group.is_default,
            str(group["train"]), str(group["spiking"]), order.get(group.variant, len(order)), group.variant,
            group["num_steps"] or 0, rest,
        )  # fmt: skip

    return sorted(groups, key=place)


def _counted_once(rows: list[Row]) -> tuple[list[Row], dict[str, str]]:
    """Return one row for each network, and key → key of that row for the others.

    Runs whose settings are written in two ways can be one network, which a study trains once.
    """
    kept: dict[tuple[Any, ...], Row] = {}
    first: dict[tuple[Any, ...], Row] = {}
    twins: dict[str, str] = {}
    for row in rows:
        # A Default has no branch whose seed could differ; that of a branch is its own or Default's.
        seeds = (row["config"]["seed"], None if row["variant"] == DEFAULT else row["seed"])
        _refuse_two(first.setdefault(seeds, row), row)
        same = kept.setdefault((*seeds, row["hashes"].get("model") or row["key"]), row)
        if same is not row:
            twins[row["key"]] = same["key"]
    return list(kept.values()), twins


def _refuse_two(first: Row, second: Row) -> None:
    """Two trainings of one setting and one seed are no two seeds, and which one counts is not for a report to say."""
    hashes = {row["hashes"].get("model") or "" for row in (first, second)}
    if len(hashes) == 2 and all(hashes):
        raise UserError(
            f"{first['run']} (key {first['key']}) and {second['run']} (key {second['key']}) have the same settings and "
            "seeds and are different networks; report on the results without one of them"
        )


def _refuse_other_default(row: Row, default: Row | None) -> None:
    said = (row.get("default") or {}).get("accuracy")
    if default is not None and said is not None and abs(said - default["test"]["accuracy"]) > 1e-9:
        raise UserError(
            f"{row['run']} says that its Default has accuracy {said:.6f}, and {default['run']} has "
            f"{default['test']['accuracy']:.6f}; publish the results of one training of that Default"
        )


def _named(row: Row) -> tuple[Any, ...]:
    """Return where weights of one name should be the same: the hash is of the frozen stages."""
    return setting(row, "weights"), row["config"]["backbone"], row["config"]["freeze_depth"]


def _images(row: Row) -> tuple[Any, ...]:
    """Return where images of one name should be the same."""
    return row["dataset"], setting(row, "train_samples"), setting(row, "test_samples")


def _short(weights: str) -> str:
    """Write what ``weights_of`` returns with a hash that people can compare."""
    return re.sub(r"@([0-9a-f]{8})[0-9a-f]+", r"@\1", weights)


def uneven(groups: Iterable[Group]) -> bool:
    """Say whether some of the groups stand on other seeds of Default than others."""
    return len({group.default_seeds for group in groups}) > 1


def varying(groups: list[Group]) -> list[str]:
    """Return the settings without a column of their own that take more than one value; absent is no value."""
    values: dict[str, set[str]] = {}
    for group in groups:
        for name, value in group.settings.items():
            if name not in _COVERED and not (group.is_default and name in BRANCH_ONLY):
                values.setdefault(name, set()).add(json.dumps(value))
    return [name for name, found in values.items() if len(found) > 1]


def usual(groups: list[Group], names: list[str]) -> dict[str, str]:
    """Return, for each setting, the value that most runs have, as text."""
    runs = {name: Counter[str]() for name in names}
    for group in groups:
        for name in names:
            if not (group.is_default and name in BRANCH_ONLY):
                runs[name][plain(group[name])] += len(group.rows)
    return {name: counts.most_common(1)[0][0] for name, counts in runs.items()}


def differing(group: Group, names: list[str]) -> str:
    """Return the group's values of ``names`` as ``name=value``, comma-separated."""
    shown = [name for name in names if not (group.is_default and name in BRANCH_ONLY)]
    return ", ".join(f"{name}={plain(group[name])}" for name in shown)


def plain(value: Any) -> str:
    """Write a setting the way a command line takes it."""
    if isinstance(value, list):
        return ",".join(map(plain, value))
    if isinstance(value, float):
        return f"{value:g}"
    return "–" if value is None else str(value)
