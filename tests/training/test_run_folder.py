from __future__ import annotations

from pathlib import Path

import pytest

from resnet_spiking.errors import UserError
from resnet_spiking.training.files import write_json
from resnet_spiking.training.run_folder import FORMAT, read_json


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as refused:
        read_json(path)
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
