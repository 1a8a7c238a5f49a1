from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
OPTIONS = sorted(
    set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", " ".join(re.findall(r"resnet_spiking\.train (.*)", README))))
)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_each_example_runs_as_printed(tmp_path: Path, number: int) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", EXAMPLES[number]], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "verified: False" not in done.stdout


def test_options_of_printed_commands_exist() -> None:
    from resnet_spiking.train import main

    known = {name for parameter in main.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert OPTIONS
    assert set(OPTIONS) <= known
