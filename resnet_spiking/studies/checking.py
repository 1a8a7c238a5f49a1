"""What only torch can tell of a study before it starts: whether every head can be built and every attack exists."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from resnet_spiking.config import content_key
from resnet_spiking.errors import UserError
from resnet_spiking.network.build import check_head
from resnet_spiking.studies.grid import expand
from resnet_spiking.studies.study_file import parse_study


def check_study(values: dict[str, Any]) -> None:
    """Raise ``UserError`` for the first head or attack of a resolved study that is impossible."""
    study = parse_study(values, values["name"])
    seen: set[tuple[str, frozenset[str]]] = set()
    for number, grid in enumerate(study.grids, 1):
        for run in expand(replace(study, grids=(grid,))):
            config = {**run.config.as_dict(), "seed": 0, "head_seed": None, "dataset": "", "weights": ""}
            shape = content_key(config), frozenset(grid)
            if shape in seen:
                continue
            seen.add(shape)
            try:
                check_head(run.config, grid)
            except UserError as error:
                raise UserError(f"[[grid]] {number}: {error}") from None
    if study.attacks:
        from resnet_spiking.studies.attacking import attack_settings

        for number, block in enumerate(study.as_dict()["attack"], 1):
            try:
                attack_settings(block)
            except UserError as error:
                raise UserError(f"[[attack]] {number}: {error}") from None
