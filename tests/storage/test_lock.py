from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from resnet_spiking.errors import UserError
from resnet_spiking.storage.lock import LOCK, exclusive, exclusive_soon, is_held


def test_who_looks_for_a_moment_does_not_keep_a_study_out(tmp_path: Path) -> None:
    held, taken = threading.Event(), threading.Event()

    def look() -> None:
        with exclusive(tmp_path, busy="busy"):
            held.set()
            time.sleep(0.2)

    thread = threading.Thread(target=look)
    thread.start()
    held.wait()
    with pytest.raises(UserError, match="busy"), exclusive(tmp_path, busy="busy"):
        pass
    with exclusive_soon(tmp_path, busy="busy"):
        taken.set()
    thread.join()
    assert taken.is_set()


def test_a_folder_that_stays_held_is_refused(tmp_path: Path) -> None:
    with (
        exclusive(tmp_path, busy="busy"),
        pytest.raises(UserError, match="busy"),
        exclusive_soon(tmp_path, busy="busy"),
    ):
        pass


def test_who_only_reads_sees_whether_it_is_held(tmp_path: Path) -> None:
    assert not is_held(tmp_path)
    with exclusive(tmp_path, busy="busy"):
        assert is_held(tmp_path)
    before = (tmp_path / LOCK).stat()
    assert not is_held(tmp_path)
    assert (tmp_path / LOCK).stat() == before or (tmp_path / LOCK).stat().st_mtime_ns == before.st_mtime_ns
    (tmp_path / LOCK).write_bytes(b"no database" * 200)
    with pytest.raises(UserError, match=f"cannot read .*{LOCK}"):
        is_held(tmp_path)


def test_a_lock_that_something_else_lies_in_the_place_of_is_named(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_bytes(b"no database" * 200)
    with pytest.raises(UserError, match=f"its {LOCK}.*remove that file"), exclusive(tmp_path, busy="busy"):
        pass
    (tmp_path / LOCK).unlink()
    with exclusive(tmp_path, busy="busy"):
        pass
