from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from resnet_spiking.config import RunConfig
from resnet_spiking.data.images import Dataset, ImageSet
from resnet_spiking.environment import Environment
from resnet_spiking.errors import UserError
from resnet_spiking.storage.files import write_json
from resnet_spiking.storage.records import Kind
from resnet_spiking.storage.run_folder import FORMAT, check_output, read_json, stored_data_dir, write_config


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as refused:
        read_json(path, "run")
    return str(refused.value)


def test_a_folder_without_a_run_is_not_called_damaged(tmp_path: Path) -> None:
    said = refusal(tmp_path / "absent" / "result.json")
    assert said.startswith(f"{tmp_path / 'absent'} holds no run or evaluation (result.json is missing); name a folder")
    (tmp_path / "file").write_text("")
    assert "holds no run" in refusal(tmp_path / "file" / "result.json")


def test_a_run_that_was_interrupted_is_to_be_continued(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"format": FORMAT})
    assert refusal(tmp_path / "result.json") == (
        f"{tmp_path} is not finished (result.json is missing); continue it with --resume"
    )


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_damaged_file_is_to_be_made_again(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(content)
    assert refusal(path) == f"{path} is damaged; make it again with --overwrite"


@pytest.mark.parametrize("value", [[], {"format": FORMAT + 1}, {}])
def test_another_format_is_named(tmp_path: Path, value: object) -> None:
    path = tmp_path / "result.json"
    write_json(path, value)  # type: ignore[arg-type]
    assert "another format" in refusal(path)


SPLIT = ImageSet(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1]), ("a", "b"), "pictures")
PICTURES = Dataset("folder", SPLIT, SPLIT, flip=True)


def test_data_is_found_again_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the name that was typed where the run moved alone, and by the way from the run where both moved."""
    for name in ("pictures", "runs/one", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    environment = Environment(data_dir=Path("pictures"))
    write_config(Path("runs/one"), RunConfig(dataset="folder"), PICTURES, environment)
    assert str(tmp_path) not in Path("runs/one/config.json").read_text()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = stored_data_dir(Path("../runs/one"))
    assert found is not None
    assert found.resolve() == tmp_path / "pictures"
    monkeypatch.chdir(tmp_path)
    shutil.move("runs/one", "one")
    assert stored_data_dir(Path("one")) == Path("pictures")
    (tmp_path / "pictures").rmdir()
    with pytest.raises(
        UserError, match=r"the data of one is not in one/\.\./\.\./pictures or pictures; name its folder"
    ):
        stored_data_dir(Path("one"))
    monkeypatch.setenv("HOME", str(tmp_path))
    write_config(Path("one"), RunConfig(dataset="folder"), PICTURES, Environment(data_dir=tmp_path / "elsewhere"))
    assert json.loads(Path("one/config.json").read_text())["inputs"]["data_dir"] == "~/elsewhere"
    assert stored_data_dir(Path("one")) is not None


RUN, EVALUATION = {"format": FORMAT, "config": {}}, {"format": FORMAT, "models": {}}


@pytest.mark.parametrize(
    ("kind", "stored", "said"),
    [
        ("run", EVALUATION, "holds an evaluation by attack, not a run of train; name the folder of one"),
        ("evaluation", RUN, "holds a run of train, not an evaluation by attack; name the folder of one"),
        ("run", {"format": FORMAT}, "holds something else, not a run of train"),
    ],
)
def test_a_folder_of_the_other_kind_is_told_from_one_of_this(
    tmp_path: Path, kind: Kind, stored: dict[str, Any], said: str
) -> None:
    path = tmp_path / "result.json"
    write_json(path, stored)
    with pytest.raises(UserError, match=said):
        read_json(path, kind)


@pytest.mark.parametrize(
    ("kind", "name"), [("run", "model.safetensors"), ("evaluation", "panel.png"), ("run", "config.json")]
)
def test_files_of_somebody_else_are_never_written_over(tmp_path: Path, kind: Kind, name: str) -> None:
    """Under the names that a run has, without the ``config.json`` that it writes first."""
    check_output(tmp_path / "absent", kind)
    check_output(tmp_path, kind)
    (tmp_path / name).write_text('{"mine": 1}')
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=f"holds a {name} that .* did not write; choose another --output-dir"):
        check_output(tmp_path, kind)
    write_json(tmp_path / "config.json", RUN if kind == "run" else EVALUATION)
    check_output(tmp_path, kind)
    other: Kind = "evaluation" if kind == "run" else "run"
    with pytest.raises(UserError, match=r"holds a config\.json that .* did not write"):
        check_output(tmp_path, other)
    (tmp_path / "config.json").write_text("{")  # of a crash: --overwrite makes it again
    check_output(tmp_path, kind)


def test_a_folder_whose_name_is_not_utf8_is_refused(tmp_path: Path) -> None:
    """A run would be trained there whose model no library reads."""
    with pytest.raises(UserError, match=r"--output-dir '.*/x\\udcff' is not UTF-8; name another folder"):
        check_output(tmp_path / "x\udcff", "run")
