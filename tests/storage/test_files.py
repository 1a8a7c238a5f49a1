from __future__ import annotations

import errno
import os
import resource
import shutil
from functools import partial
from pathlib import Path

import click
import pytest
import torch

from resnet_spiking.storage import files
from resnet_spiking.storage.files import remove_temporaries, temporary_beside, write_atomically
from resnet_spiking.terminal import OneLineCommand


@pytest.fixture
def old(tmp_path: Path) -> Path:
    (tmp_path / "state").write_text("old")
    return tmp_path / "state"


def refusal(path: Path, write: object) -> OSError:
    with pytest.raises(OSError, match="No space left on device") as refused:
        write_atomically(path, write)  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]
    return refused.value


def test_a_full_disk_leaves_what_was_there(old: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")

    def write(temporary: Path) -> None:
        temporary.write_text("half of the")
        Path("/dev/full").write_text("rest")

    assert refusal(old, write).filename == str(old)


def test_a_full_disk_is_called_one_whatever_the_writer_says(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 10688 vs 10582")

    with pytest.raises(RuntimeError, match="unexpected pos"):
        write_atomically(old, write)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: (_ for _ in ()).throw(full))
    found = refusal(old, write)
    assert (found.errno, found.filename) == (errno.ENOSPC, str(old))
    assert isinstance(found.__cause__, RuntimeError)


def test_a_limit_on_the_size_of_files_is_called_one(old: Path) -> None:
    """torch's writer says "unexpected pos 14717888 vs 14717784" of it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)) as refused:
            write_atomically(old, lambda temporary: torch.save(torch.zeros(1 << 20), temporary))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert refused.value.filename == str(old)
    assert old.read_text() == "old"


def test_what_a_kill_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    others = [".d.tmp", ".mine.tmp", "notes.tmp", "result.json"]
    (tmp_path / others[0]).mkdir()
    for name in (temporary_beside(tmp_path / "last.ckpt").name, *others[1:]):
        (tmp_path / name).write_text(name)
    remove_temporaries(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == others


def test_no_two_processes_write_to_one_temporary_file(tmp_path: Path) -> None:
    """Two containers that share the folder may give their processes the same number."""
    assert len({temporary_beside(tmp_path / "x") for _ in range(100)}) == 100


def test_a_command_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reason = os.strerror(errno.ENOSPC)

    @click.command(cls=OneLineCommand)
    def full() -> None:
        raise OSError(errno.ENOSPC, reason, "runs/a/last.ckpt")

    with pytest.raises(SystemExit) as ended:
        full.main([])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: cannot write runs/a/last.ckpt ({reason}); make room there")

    @click.command(cls=OneLineCommand)
    def misplaced() -> None:
        tmp_path.write_text("")

    with pytest.raises(SystemExit) as ended:
        misplaced.main([])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: cannot use {tmp_path} ({os.strerror(errno.EISDIR)})")

    @click.command(cls=OneLineCommand)
    def broken() -> None:
        raise OSError(errno.EIO, "a fault of ours, or of the hardware", "x")

    with pytest.raises(OSError, match="a fault of ours"):
        broken.main([])


def test_a_source_that_is_missing_is_named_and_not_the_copy(old: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as refused:
        write_atomically(old, partial(shutil.copyfile, tmp_path / "absent"))
    assert str(refused.value.filename) == str(tmp_path / "absent")
    assert old.read_text() == "old"


def test_what_is_written_replaces_what_was(old: Path) -> None:
    write_atomically(old, lambda temporary: torch.save({"a": 1}, temporary))
    assert torch.load(old, weights_only=True) == {"a": 1}
    assert list(old.parent.iterdir()) == [old]
