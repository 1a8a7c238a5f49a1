"""The study files in results/ against the rows beside them, and the list of commands in docs/results.md."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resnet_spiking.config import RunConfig
from resnet_spiking.studies.grid import expand
from resnet_spiking.studies.study_file import read_study

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "results").glob("*/*.toml"))


def settings(dataset: str, config: RunConfig) -> str:
    values = config.as_dict()
    return json.dumps({**values, "weights": Path(str(values["weights"])).name, "dataset": dataset}, sort_keys=True)


def test_every_published_study_has_its_file() -> None:
    folders = {path.parent for path in (ROOT / "results").glob("*/rows.jsonl")}
    assert folders == {path.parent for path in FILES}
    assert all(path.stem == path.parent.name == read_study(path).name for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_study_file_plans_the_published_runs_and_no_others(path: Path) -> None:
    rows = [json.loads(line) for line in (path.parent / "rows.jsonl").read_text().splitlines()]
    made = {settings(row["dataset"], RunConfig.from_dict(row["config"])) for row in rows}
    assert len(made) == len(rows)
    # A precision left to the machine would be another one elsewhere.
    assert {settings(run.dataset, run.config) for run in expand(read_study(path))} == made


def test_the_commands_that_made_the_results_name_every_study() -> None:
    text = (ROOT / "docs" / "results.md").read_text()
    commands = text.split("\n## ")[0]
    assert [path.stem for path in FILES if path.stem not in commands] == []
