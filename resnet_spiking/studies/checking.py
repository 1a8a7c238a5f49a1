"""What only torch can tell of a study before it starts: whether every head can be built and every attack exists."""

from __future__ import annotations

from typing import Any

from resnet_spiking.config import content_key
from resnet_spiking.errors import UserError
from resnet_spiking.network.build import check_head
from resnet_spiking.studies.grid import expand
from resnet_spiking.studies.study_file import parse_study


def check_study(values: dict[str, Any]) -> None:
    """Raise ``UserError`` for the first head or attack of a resolved study that is impossible."""
    study = parse_study(values, values["name"])
    seen: set[str] = set()
    for run in expand(study):
        shape = content_key({**run.config.as_dict(), "seed": 0, "head_seed": None, "dataset": "", "weights": ""})
        if shape not in seen:
            seen.add(shape)
            check_head(run.config)
    if study.attacks:
        from resnet_spiking.studies.attacking import attack_settings

        for number, block in enumerate(study.as_dict()["attack"], 1):
            try:
                attack_settings(block)
            except UserError as error:
                raise UserError(f"[[attack]] {number}: {error}") from None
