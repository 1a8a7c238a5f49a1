from __future__ import annotations

from dataclasses import replace

import pytest

from resnet_spiking.config import RunConfig
from resnet_spiking.errors import UserError


def test_a_configuration_of_an_older_version_gets_the_defaults_of_newer_settings() -> None:
    stored = replace(RunConfig(), beta=0.7).as_dict()
    del stored["head_seed"]
    assert RunConfig.from_dict(stored) == replace(RunConfig(), beta=0.7)
    with pytest.raises(UserError, match="unknown here: hue"):
        RunConfig.from_dict({**stored, "hue": 1})
