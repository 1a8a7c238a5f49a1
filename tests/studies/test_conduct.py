from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resnet_spiking.errors import UserError
from resnet_spiking.studies.conduct import Tally, conduct
from resnet_spiking.studies.folder import needing_room
from resnet_spiking.studies.ledger import Ledger
from resnet_spiking.studies.perform import perform
from resnet_spiking.studies.plan import Task
from resnet_spiking.studies.work import Outcome, Resources, Work

from .conftest import Inline, Silent

# Default, two heads that need it, an attack on all; and one run beside them.
TASKS = [
    Task("default", "run", "default", {}),
    Task("a", "run", "a", {}, ("default",)),
    Task("b", "run", "b", {}, ("default",)),
    Task("attack", "attack", "attack", {}, ("default", "a", "b")),
    Task("alone", "run", "alone", {}),
]


def run(
    folder: Path, do: Callable[[Work], Outcome], retries: int = 2, tasks: Sequence[Task] = TASKS
) -> tuple[Tally, Silent, list[str], dict[str, str]]:
    engine, watch = Inline(do), Silent()
    with closing(Ledger(folder)) as ledger:
        ledger.plan(tasks)
        tally = conduct(tasks, folder, ledger, engine, Resources(), workers=1, retries=retries, watch=watch)
        return tally, watch, engine.log, {entry.key: entry.state for entry in ledger.entries()}


def test_a_failing_run_stops_only_what_needs_it(tmp_path: Path) -> None:
    def do(work: Work) -> Outcome:
        if work.key == "a":
            return Outcome(work.key, "failed", error="the loss is no longer finite")
        return Outcome(work.key, "done")

    tally, watch, log, states = run(tmp_path, do)
    assert log == ["default", "a", "b", "alone"]
    assert states == {"default": "done", "a": "failed", "b": "done", "attack": "failed", "alone": "done"}
    assert (tally.done, tally.failed, tally.waiting) == (3, 2, 0)
    assert ("attack", "needs a, which failed") in [found[:2] for found in tally.errors]
    assert any("a FAILED: the loss" in line and str(tmp_path / "logs" / "a.log") in line for line in watch.lines)


PARTED = [
    *TASKS[:3],
    *(Task(f"part {name}", "part", f"part {name}", {}, ("default", "a", "b")) for name in ("a", "b")),
    Task("attack", "attack", "attack", {}, ("default", "a", "b", "part a", "part b")),
]


def test_an_attack_waits_for_its_parts_and_does_without_one_that_fails(tmp_path: Path) -> None:
    def do(work: Work) -> Outcome:
        return Outcome(work.key, "failed" if work.key == "part a" else "done", error="out of memory")

    tally, _, log, states = run(tmp_path, do, tasks=PARTED)
    assert log == ["default", "a", "b", "part a", "part b", "attack"]
    assert (states["part a"], states["attack"]) == ("failed", "done")
    assert (tally.done, tally.failed) == (4, 0)
    # What is done is not prepared again.
    assert run(tmp_path, do, tasks=PARTED)[2] == []


def test_the_parts_of_an_attack_that_cannot_be_are_left_alone(tmp_path: Path) -> None:
    tally, watch, log, _ = run(
        tmp_path, lambda work: Outcome(work.key, "failed" if work.key == "a" else "done"), tasks=PARTED
    )
    assert log == ["default", "a", "b"]
    assert [found[0] for found in tally.errors] == ["a", "attack"]
    assert sum("FAILED" in line for line in watch.lines) == 2


@pytest.mark.parametrize(("losses", "state"), [(2, "done"), (3, "failed")])
def test_a_lost_task_is_tried_as_often_as_was_said(tmp_path: Path, losses: int, state: str) -> None:
    tries: Counter[str] = Counter()

    def do(work: Work) -> Outcome:
        tries[work.key] += 1
        if work.key == "b" and tries["b"] <= losses:
            return Outcome(work.key, "lost", error="its worker was ended by SIGKILL", again=True)
        return Outcome(work.key, "done")

    _, watch, _, states = run(tmp_path, do, retries=2)
    assert states["b"] == state
    assert tries["b"] == 3
    assert sum("attempt" in line for line in watch.lines) == 2


def test_a_full_disk_stops_the_study_and_loses_nothing(tmp_path: Path) -> None:
    def do(work: Work) -> Outcome:
        if work.key == "a":
            return Outcome(work.key, "full", error="No space left on device")
        return Outcome(work.key, "done")

    with pytest.raises(UserError, match=r"No space left.*same command again"):
        run(tmp_path, do)
    with closing(Ledger(tmp_path, read_only=True)) as ledger:
        assert {entry.key: entry.state for entry in ledger.entries()}["default"] == "done"
    _, _, log, states = run(tmp_path, lambda work: Outcome(work.key, "done"))
    assert set(states.values()) == {"done"}
    assert "default" not in log


def test_only_a_full_disk_asks_for_room(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^x/y: No space left on device; make room in .*same command again"):
        with needing_room(tmp_path):
            raise OSError(errno.ENOSPC, "No space left on device", "x/y")
    with pytest.raises(FileNotFoundError), needing_room(tmp_path):
        (tmp_path / "absent").read_text()


def test_a_ledger_that_cannot_be_written_asks_for_room(tmp_path: Path) -> None:
    Ledger(tmp_path).close()
    with (
        closing(Ledger(tmp_path, read_only=True)) as ledger,
        pytest.raises(UserError, match=r"^the ledger cannot be written .*same command again"),
        needing_room(tmp_path),
    ):
        ledger.note("owner", 1)


def test_errors_of_the_disk_are_told_from_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from resnet_spiking.studies import perform as module

    def raising(error: Exception) -> Outcome:
        def do(*_: object) -> None:
            raise error

        monkeypatch.setitem(module._KINDS, "run", do)
        return perform(Work(tmp_path, "k", "run", "label", {}, Resources()))

    assert raising(OSError(errno.ENOSPC, "No space left on device")).state == "full"
    wrapped = UserError("cannot write")
    wrapped.__context__ = OSError(errno.EDQUOT, "Disk quota exceeded")
    assert raising(wrapped).state == "full"
    bad = raising(UserError("lower --lr"))
    assert (bad.state, bad.again, bad.error) == ("failed", False, "lower --lr")
    crash = raising(ZeroDivisionError("by zero"))
    assert (crash.state, crash.again) == ("failed", True)
    assert "Traceback" in (tmp_path / "logs" / "label.log").read_text()


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["done", "lost", "failed", "crash"]), min_size=40, max_size=40), st.integers(0, 2))
def test_whatever_happens_each_task_ends_once(
    tmp_path_factory: pytest.TempPathFactory, script: list[str], retries: int
) -> None:
    fates = iter(script)
    done: Counter[str] = Counter()

    def do(work: Work) -> Outcome:
        fate = next(fates)
        done[work.key] += fate == "done"
        state = "failed" if fate == "crash" else fate
        return Outcome(work.key, state, error=None if fate == "done" else fate, again=fate in ("lost", "crash"))

    folder = tmp_path_factory.mktemp("study")
    tally, _, _, states = run(folder, do, retries)
    assert set(states.values()) <= {"done", "failed"}
    assert {key for key, state in states.items() if state == "done"} == set(done.elements())
    assert max(done.values(), default=0) <= 1
    assert tally.done + tally.failed == len(TASKS)
    # What failed is done after a restart, what was done is not done again.
    _, _, log, states = run(folder, lambda work: Outcome(work.key, "done"))
    assert set(states.values()) == {"done"}
    assert not set(log) & set(done.elements())
