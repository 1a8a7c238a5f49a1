from __future__ import annotations

import pytest

from resnet_spiking.config import RunConfig
from resnet_spiking.data.names import usual_inputs
from resnet_spiking.studies.grid import expand
from resnet_spiking.studies.study_file import parse_study


@pytest.mark.parametrize(
    ("dataset", "backbone", "weights", "size"),
    [
        ("digits", "resnet18", "bundled", 64),
        ("digits", "resnet34", "imagenet", 64),
        ("cifar10", "resnet18", "imagenet", 224),
    ],
)
def test_a_study_takes_what_the_command_takes(dataset: str, backbone: str, weights: str, size: int) -> None:
    assert usual_inputs(dataset, backbone) == (weights, size)
    study = parse_study({"name": "s", "grid": [{"dataset": dataset, "backbone": backbone}]}, "s")
    assert {(run.config.weights, run.config.image_size) for run in expand(study)} == {(weights, size)}


def test_a_configuration_alone_is_that_of_the_command_without_options() -> None:
    config = RunConfig()
    assert usual_inputs(config.dataset, config.backbone) == (config.weights, config.image_size)
