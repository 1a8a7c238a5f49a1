"""From a checked study to its runs: the union of the grids' products, Default first, each run once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from resnet_spiking.config import BRANCH_ONLY, RunConfig
from resnet_spiking.data.names import MIRRORED, usual_inputs
from resnet_spiking.errors import UserError
from resnet_spiking.studies.study_file import DatasetEntry, Grid, Study, Value


@dataclass(frozen=True)
class Run:
    """One run of a study: its configuration, the study's name for its dataset, and where that lies."""

    dataset: str
    config: RunConfig
    data_dir: Path | None = None

    @property
    def is_default(self) -> bool:
        return self.config.neuron == "none"


def expand(study: Study) -> list[Run]:
    """Return every run of the study, a Default before the runs that start from it, none twice.

    Raises ``UserError`` naming the grid whose values do not fit together.
    """
    found: dict[Run, None] = {}
    for number, grid in enumerate(study.grids, 1):
        for values in _products(grid):
            try:
                run = _run(study, values)
            except UserError as error:
                raise UserError(f"{study.name}: [[grid]] {number}: {error}") from None
            found[default_of(run)] = None
            found[run] = None
    families: dict[Run, list[Run]] = {}
    for run in found:
        families.setdefault(default_of(run), []).append(run)
    return [run for family in families.values() for run in sorted(family, key=lambda run: not run.is_default)]


def default_of(run: Run) -> Run:
    """Return the Default run that ``run`` starts from; what the branch alone decides is at its default there."""
    return replace(run, config=run.config.default_alone())


def _products(grid: Grid) -> Iterator[dict[str, Value]]:
    """Yield the product of a grid's axes; runs on one Default follow each other, seeds vary fastest."""
    branch = set(BRANCH_ONLY) | ({"seed"} if "default_seed" in grid else set())
    first = ("dataset", "backbone")
    axes = sorted(grid, key=lambda axis: (axis not in first, axis in branch, axis == "seed"))
    for values in product(*(grid[axis] for axis in axes)):
        yield dict(zip(axes, values, strict=True))


def _run(study: Study, values: dict[str, Value]) -> Run:
    given: dict[str, Any] = dict(values)
    name = given.pop("dataset")
    entry = study.datasets.get(name) or DatasetEntry(name)
    backbone = given.get("backbone", RunConfig().backbone)
    settings: dict[str, Any] = {"dataset": entry.kind, **usual_inputs(entry.kind, backbone)._asdict()}
    if backbone in study.weights:
        settings["weights"] = study.weights[backbone]
    if entry.image_size is not None:
        settings["image_size"] = entry.image_size
    if "epochs" in given:
        settings["default_epochs"], settings["spiking_epochs"] = given.pop("epochs")
    if "default_seed" in given:
        head, given["seed"] = given.get("seed", RunConfig().seed), given.pop("default_seed")
        # A head with Default's own seed is the same run as one that names no seed of its own.
        settings["head_seed"] = head if head != given["seed"] else None
    if given.get("flip") == (entry.kind in MIRRORED):
        # What the dataset does by itself is the same run as one that says nothing.
        given["flip"] = None
    run = Run(name, RunConfig(**{**settings, **given}), entry.data_dir)
    # Settings that only a branch reads make no other Default.
    return default_of(run) if run.is_default else run
