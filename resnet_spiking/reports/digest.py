"""Results made ready to show: grouped, named, with one style a variant in every figure."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from resnet_spiking.config import BRANCH_ONLY, RunConfig
from resnet_spiking.errors import UserError
from resnet_spiking.reports.drawing.palette import INK, Style, style
from resnet_spiking.reports.groups import DEFAULT, Group, group_rows, plain, varying
from resnet_spiking.reports.request import Request, choose, choose_labels
from resnet_spiking.reports.results import Results, Row


@dataclass(frozen=True)
class Digest:
    """``groups`` in the order that tables have. ``command`` is what a reader types to get the report again."""

    results: Results
    groups: list[Group]
    command: str

    @classmethod
    def of(cls, results: Results, shown_as: Path) -> Digest:
        return cls(results, group_rows(results), f"python -m resnet_spiking.report {shlex.quote(str(shown_as))}")

    def only(self, request: Request, options: frozenset[str] = frozenset()) -> Digest:
        """Return the part whose groups have the settings, and whose attack results the labels, ``request`` names.

        Where it names settings, runs and attacked models without a group that has them are left out, and attack
        results of which no model stays.

        Raises:
            UserError: a setting, a label or a combination of settings that nothing has.
        """
        groups, results = choose(self.groups, request, options), self.results
        if "result" in options:
            chosen = choose_labels(list(results.attacks), request)
            results = replace(results, attacks={label: results.attacks[label] for label in chosen})
        if request.values.keys() - options:
            if not groups:
                raise UserError(f"the request {request.text!r} matches no row of {results.folder}")
            results = _narrowed(results, {key for group in groups for key in group.keys})
        return Digest(results, groups, self.command)

    @cached_property
    def by_key(self) -> dict[str, Group]:
        """Key of a run → the group that its row is in."""
        return {key: group for group in self.groups for key in group.keys}

    @cached_property
    def principal(self) -> list[Group]:
        """One group for each variant and way of training, all at one setting of the branch.

        The setting is that of most variants, else of most seeds, else the one nearest to the defaults. Figures that
        compare variants show these; sweeps show the others.
        """
        places: dict[tuple[object, ...], dict[str, list[Group]]] = {}
        for group in self.groups:
            place = (group.cell, group.is_default, group["train"], group["spiking"], group["mode"])
            places.setdefault(place, {}).setdefault(_branch(group), []).append(group)
        return [group for settings in places.values() for group in max(settings.values(), key=_rank)]

    @property
    def left_out(self) -> str:
        """What a figure of the principal groups says of the others; empty where there are none."""
        others = len(self.groups) - len(self.principal)
        return f"{others} groups at other settings are in the table of accuracies." if others else ""

    @cached_property
    def panels(self) -> dict[str, list[Group]]:
        """Title → principal groups that are compared in one panel, the Default of their cell first."""
        shown: dict[str, list[Group]] = {}
        defaults = {group.cell: group for group in self.principal if group.is_default}
        spiking = [group for group in self.principal if not group.is_default]
        lonely = [group for cell, group in defaults.items() if cell not in {other.cell for other in spiking}]
        for group in [*spiking, *lonely]:
            title = self.title(group)
            if title not in shown:
                shown[title] = [defaults[group.cell]] if group.cell in defaults else []
            if group not in shown[title]:
                shown[title].append(group)
        return shown

    def title(self, group: Group) -> str:
        """Name what a group shares with those it is compared with: dataset, backbone, pixels, what is trained."""
        parts = []
        if group["train"]:
            parts.append(f"{group['train']} trained")
        if group["spiking"] not in (None, "head"):
            parts.append(f"spiking {group['spiking']}")
        if group["mode"] == "native":
            parts.append("native")
        if group["train"]:
            usual = RunConfig().as_dict()
            unusual = [name for name in COMPARED if group[name] != usual[name]]
            parts += [f"{name.replace('_', ' ')} {plain(group[name])}" for name in unusual if name in self._varied]
        return " · ".join([self.network_title(group), *parts])

    def network_title(self, group: Group) -> str:
        """Name the data and the frozen network that a group stands on."""
        parts = [str(group["dataset"]), str(group["backbone"]), f"{group['image_size']} px"]
        return " · ".join(
            [*parts, *(f"{name.replace('_', ' ')} {plain(group[name])}" for name in self._cell_names(group))]
        )

    @cached_property
    def _varied(self) -> set[str]:
        """Settings of the branch that differ between groups."""
        branches = [group for group in self.groups if not group.is_default]
        return {name for name in COMPARED if len({plain(group[name]) for group in branches}) > 1}

    @cached_property
    def _defaults(self) -> list[Group]:
        return [group for group in self.groups if group.is_default]

    def _cell_names(self, shown: Group) -> list[str]:
        """Settings, beyond these three, in which Default networks of the same data, backbone and pixels differ."""
        same = ("dataset", "backbone", "image_size")
        defaults = [group for group in self._defaults if all(group[name] == shown[name] for name in same)]
        extra = [name for name in ("freeze_depth", "epochs") if len({plain(group[name]) for group in defaults}) > 1]
        if len({plain(group["weights"]) for group in defaults}) > 1:
            extra.insert(0, "weights")
        return [*extra, *varying(defaults)]

    @cached_property
    def curves_by_key(self) -> dict[str, list[Row]]:
        """Key of a row → its records of ``curves.jsonl``."""
        found: dict[str, list[Row]] = {}
        for record in self.results.curves:
            found.setdefault(record["key"], []).append(record)
        return found

    def style(self, variant: str) -> Style:
        """Return the variant's colour, mark and dash: the same in every figure."""
        return INK if variant == DEFAULT else style(self._order.index(variant) if variant in self._order else 0)

    @cached_property
    def _order(self) -> list[str]:
        attacked = [model["variant"] for result in self.results.attacks.values() for model in result["models"]]
        return [
            name for name in dict.fromkeys([*(group.variant for group in self.groups), *attacked]) if name != DEFAULT
        ]


def _narrowed(results: Results, keys: set[str]) -> Results:
    """Return the results of the runs with these keys."""
    attacks = {
        label: {**result, "models": [model for model in result["models"] if model["key"] in keys]}
        for label, result in results.attacks.items()
    }
    return replace(
        results,
        rows=[row for row in results.rows if row["key"] in keys],
        attacks={label: result for label, result in attacks.items() if result["models"]},
    )


COMPARED = tuple(name for name in BRANCH_ONLY if name not in ("neuron", "mode", "train", "spiking", "head_seed"))
"""Settings of the branch that variants must share to be compared."""


def _branch(group: Group) -> str:
    return json.dumps([group[name] for name in COMPARED])


def _rank(groups: list[Group]) -> tuple[int, int, int]:
    usual = RunConfig().as_dict()
    same = sum(value == usual.get(name) for name, value in groups[0].rows[0]["config"].items())
    return len(groups), sum(group.accuracy.n for group in groups), same


def name_of(variant: str) -> str:
    """Return the variant's name as people read it."""
    return "Default" if variant == DEFAULT else variant
