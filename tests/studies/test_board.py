"""How much time a study has left, by hand."""

from __future__ import annotations

from typing import Any

from resnet_spiking.config import RunConfig
from resnet_spiking.studies.board import Board, TimeLeft
from resnet_spiking.studies.plan import Task
from resnet_spiking.studies.view import summary


def head(key: str, needs: tuple[str, ...] = ("default",), **config: Any) -> Task:
    settings = RunConfig(train="head", **config).as_dict()
    return Task(key, "run", key, {"dataset": "digits", "config": settings}, needs)


def board(tasks: list[Task], taken: dict[str, float], workers: int = 1) -> Board:
    states = {task.key: "done" if task.key in taken else "waiting" for task in tasks}
    return Board({task.key: task for task in tasks}, workers, states, dict(taken))


DEFAULT = head("default", (), neuron="none")
ATTACK = Task("attack", "attack", "attack", {"bundle": "standard"}, ("a",))


def part(key: str) -> Task:
    return Task(key, "part", key, {"bundle": "standard", "attack": "attack"}, ("default", "a"))


def test_nothing_is_known_before_a_first_run() -> None:
    found = board([DEFAULT, head("a", neuron="lif")], {})
    assert found.time_left() is None
    assert "time left not known yet" in summary(found)


def test_a_head_is_judged_by_its_neuron_and_steps_then_by_any() -> None:
    tasks = [
        DEFAULT,
        head("a", neuron="lif"),
        head("b", neuron="snntorch-lif"),
        head("c", neuron="lif", seed=1),  # as a: 10 s
        head("d", neuron="snntorch-lif", seed=1),  # as b: 40 s
        head("e", neuron="relu"),  # as any head: 25 s
        head("f", neuron="lif", num_steps=50),  # as any head: 25 s
    ]
    found = board(tasks, {"default": 100, "a": 10, "b": 40})
    assert found.time_left() == TimeLeft(100, whole=True)
    assert "about 1 min 40 s to go" in summary(found)
    # Two workers take c (10 s) and d (40 s), then e (to 35 s) and f (to 60 s).
    assert board(tasks, {"default": 100, "a": 10, "b": 40}, workers=2).time_left() == TimeLeft(60, whole=True)


def test_what_nothing_resembles_is_left_out_and_said() -> None:
    tasks = [DEFAULT, head("a", neuron="lif"), head("b", neuron="lif", seed=1), ATTACK]
    found = board(tasks, {"default": 100, "a": 10})
    assert found.time_left() == TimeLeft(10, whole=False)
    assert "more than 10 s to go" in summary(found)


def test_a_run_that_takes_longer_than_those_like_it_is_left_out_too() -> None:
    """Attacks that took over finished models in seconds say nothing of one that has run for an hour."""
    tasks = [part("p"), part("q"), part("r"), ATTACK]
    found = board(tasks, {"p": 5})
    found.begin("q", "worker")
    found.started["q"] -= 3600
    assert found.time_left() == TimeLeft(5, whole=False)
    found.begin("r", "worker")
    found.started["r"] -= 3600
    assert found.time_left() is None
    assert "time left not known yet" in summary(found)


def test_an_attack_is_judged_by_its_parts() -> None:
    tasks = [DEFAULT, head("a", neuron="lif"), part("p"), part("q"), part("r"), ATTACK]
    assert board(tasks, {"default": 100, "a": 10}).time_left() is None
    assert board(tasks, {"default": 100, "a": 10, "p": 50}).time_left() == TimeLeft(100, whole=True)
    assert board(tasks, {"default": 100, "a": 10, "p": 50}, workers=2).time_left() == TimeLeft(50, whole=True)


def test_parts_of_an_attack_that_has_ended_are_not_to_come() -> None:
    tasks = [DEFAULT, head("a", neuron="lif"), head("b", neuron="lif", seed=1), part("p"), part("q"), ATTACK]
    assert board(tasks, {"default": 100, "a": 10, "p": 50, "attack": 1}).time_left() == TimeLeft(10, whole=True)
