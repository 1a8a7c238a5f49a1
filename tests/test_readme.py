from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"resnet_spiking\.train (.*)", README + (ROOT / "docs" / "results.md").read_text())
OPTIONS = sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", " ".join(COMMANDS))))
LINKS = [
    (page, link)
    for page in (ROOT / "README.md", ROOT / "docs" / "results.md")
    for link in re.findall(r"\]\(((?!https?:)[^)\s]*)\)", page.read_text())
]


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


@pytest.mark.parametrize(("page", "link"), LINKS, ids=[link for _, link in LINKS])
def test_each_link_within_the_repository_leads_somewhere(page: Path, link: str) -> None:
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    assert target.exists()
    if anchor:
        text = target.read_text()
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert anchor in anchors | set(re.findall(r'<a id="([^"]*)"', text))


def test_the_study_that_fills_the_empty_cells_meets_their_table() -> None:
    from resnet_spiking.studies.grid import expand
    from resnet_spiking.studies.study_file import read_study

    (table,) = re.findall(r"<!-- report: matrix (.*fill='.*study (\S+\.toml)') -->", README)
    asked = {key: value.split(",") for key, value in re.findall(r"(\w+)=([\w.,-]+)", table[0].partition("fill=")[0])}
    runs = expand(read_study(ROOT / table[1]))
    assert {(run.dataset, run.config.backbone) for run in runs} == {
        (dataset, backbone) for dataset in asked["dataset"] if "cifar100" in dataset for backbone in asked["backbone"]
    }
    assert {run.config.neuron for run in runs} == {"none", "lif", "paralif-t"}
    for run in runs:
        for key in ("optimizer", "freeze_depth", "default_epochs", *(() if run.is_default else ("train", "mode"))):
            assert str(getattr(run.config, key)) in asked[key]
