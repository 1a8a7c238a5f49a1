from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from resnet_spiking.errors import UserError
from resnet_spiking.storage.lock import exclusive
from resnet_spiking.studies.ledger import Ledger
from resnet_spiking.studies.plan import Task


def tasks(*keys: str) -> list[Task]:
    return [Task(key, "run", f"label-{key}", {"n": key}) for key in keys]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(tmp_path)) as opened:
        yield opened


def test_what_is_recorded_is_read_back_in_order(tmp_path: Path, ledger: Ledger) -> None:
    ledger.plan(tasks("b", "a"))
    ledger.start("a", "worker 1", "logs/a.log")
    ledger.finish("a", "runs/a/result.json", "00ff", 1.5)
    ledger.start("b", "worker 2", "logs/b.log")
    with closing(Ledger(tmp_path, read_only=True)) as reader:
        first, second = reader.entries()
        with pytest.raises(OSError, match="readonly"):
            reader.fail("a", "no")
    assert (first.key, first.state, first.worker, first.payload) == ("b", "running", "worker 2", {"n": "b"})
    assert (second.state, second.result, second.sha256, second.seconds) == ("done", "runs/a/result.json", "00ff", 1.5)


def test_a_new_plan_keeps_what_is_done_and_repeats_what_is_not(ledger: Ledger) -> None:
    ledger.plan(tasks("a", "b", "c"))
    ledger.finish("a", None, None, 1)
    ledger.fail("b", "broken")
    ledger.start("c", "killed", "log")
    ledger.plan(tasks("c", "b", "d"))
    assert [(entry.key, entry.state) for entry in ledger.entries()] == [(key, "waiting") for key in "cbd"]
    assert ledger.left_out() == 1
    ledger.plan(tasks("a"))
    assert [entry.state for entry in ledger.entries()] == ["done"]


def test_a_transaction_that_fails_leaves_the_plan_as_it_was(ledger: Ledger) -> None:
    ledger.plan(tasks("a"))
    with pytest.raises(TypeError):
        ledger.plan([*tasks("b"), Task("c", "run", "c", {"not JSON": object()})])
    assert [entry.key for entry in ledger.entries()] == ["a"]


def test_other_versions_and_damage_are_one_line(tmp_path: Path) -> None:
    Ledger(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(UserError, match="has version 99"):
        Ledger(tmp_path)
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database, not at all" * 100)
    with pytest.raises(UserError, match="damaged or no ledger"):
        Ledger(tmp_path)
    with pytest.raises(UserError, match="no study folder"):
        Ledger(tmp_path / "elsewhere", read_only=True)


HOLD = """
import sys, time
from pathlib import Path
from resnet_spiking.storage.lock import exclusive
with exclusive(Path(sys.argv[1]), busy="busy"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_held_by_one_process_and_freed_by_its_death(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="busy"), exclusive(tmp_path, busy="busy"):
            pass
        holder.kill()
        holder.wait()
        with exclusive(tmp_path, busy="busy"):
            pass


def test_another_program_that_holds_the_ledger_is_no_full_disk(tmp_path: Path, ledger: Ledger) -> None:
    ledger.plan(tasks("a"))
    ledger._database.execute("PRAGMA busy_timeout = 0")
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UserError, match="held by another program"):
            ledger.start("a", "worker 1", "log")
        other.execute("ROLLBACK")
    ledger.start("a", "worker 1", "log")


def test_a_write_that_raises_something_else_leaves_the_next_one_free(ledger: Ledger) -> None:
    ledger.plan(tasks("a"))
    with pytest.raises(TypeError):
        ledger.note("x", object())
    with suppress(ZeroDivisionError), ledger._writing() as database:
        database.execute("UPDATE tasks SET state = 'done'")
        _ = 1 / 0
    assert [entry.state for entry in ledger.entries()] == ["waiting"]
    ledger.note("x", 1)
    assert ledger.noted("x") == 1


def test_a_plan_gives_what_failed_all_its_attempts_again_and_forgets_its_error(tmp_path: Path) -> None:
    tasks = [Task(key, "run", key, {}) for key in "ab"]
    with closing(Ledger(tmp_path)) as ledger:
        ledger.plan(tasks)
        for key in "ab":
            ledger.start(key, "worker", "log")
            ledger.wait_again(key, "lost")
        ledger.finish("a", None, None, 1.0)
        ledger.plan(tasks)
        first, second = ledger.entries()
    assert (first.state, first.error) == ("done", None)
    assert (second.state, second.attempts, second.error) == ("waiting", 0, None)


def test_only_runs_that_a_study_no_longer_names_are_left_out(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path)) as ledger:
        ledger.plan([Task("f", "features", "f", {}), Task("r", "run", "r", {})])
        for key in "fr":
            ledger.finish(key, None, None, 1.0)
        ledger.plan([])
        assert ledger.left_out() == 1
