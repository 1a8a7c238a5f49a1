from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from resnet_spiking.config import RunConfig
from resnet_spiking.errors import UserError


def test_what_nothing_reads_makes_no_other_default() -> None:
    usual = RunConfig()
    assert replace(usual, momentum=0.1, layer_decay=0.5, beta=0.2).default_part() == usual.default_part()
    read = replace(usual, optimizer="sgd", freeze_depth=2)
    for change in ({"momentum": 0.1}, {"layer_decay": 0.5}):
        assert replace(read, **change).default_part() != read.default_part()


@pytest.mark.parametrize(
    ("settings", "unread"),
    [
        ({"neuron": "lif", "distill": 0.5, "optimizer": "sgd", "freeze_depth": 2}, set()),
        ({"neuron": "lif", "surrogate": "ste"}, {"slope", "momentum", "layer_decay", "distill_temperature"}),
        (
            {"neuron": "relu", "distill": 0.5, "optimizer": "sgd", "freeze_depth": 1},
            {"beta", "threshold", "reset", "detach_reset", "surrogate", "slope"},
        ),
    ],
)
def test_settings_that_nothing_reads_are_named(settings: dict[str, Any], unread: set[str]) -> None:
    assert set(RunConfig(**settings).unread()) == unread
    assert {"beta", "hidden", "mode", "train"} <= set(RunConfig(neuron="none").unread())


def test_a_configuration_of_an_older_version_gets_the_defaults_of_newer_settings() -> None:
    stored = replace(RunConfig(), beta=0.7).as_dict()
    del stored["head_seed"]
    assert RunConfig.from_dict(stored) == replace(RunConfig(), beta=0.7)
    with pytest.raises(UserError, match="unknown here: hue"):
        RunConfig.from_dict({**stored, "hue": 1})
