from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_spiking.config import RunConfig
from resnet_spiking.errors import UserError
from resnet_spiking.studies.attacking import attack_settings
from resnet_spiking.studies.forecast import makespan
from resnet_spiking.studies.grid import Run, expand
from resnet_spiking.studies.identity import Identities
from resnet_spiking.studies.plan import Task, plan_study
from resnet_spiking.studies.presets import load_preset
from resnet_spiking.studies.study_file import parse_study

from .conftest import make_study


def test_the_seed_table_is_the_original_table() -> None:
    tasks = plan_study(load_preset("seed-table"))
    runs = [task.run for task in tasks if task.run and task.kind == "run"]
    # 3 datasets x 2 backbones x 3 seeds, each Default, LIF, ParaLIF; frozen features once per dataset and backbone.
    cells = Counter((run.dataset, run.config.backbone, run.config.neuron, run.config.seed) for run in runs)
    assert len(runs) == len(cells) == 3 * 2 * 3 * 3
    assert sum(task.kind == "features" for task in tasks) == 3 * 2
    epochs = {
        (run.dataset, run.config.backbone, run.config.neuron): run.config.epochs_label
        for run in runs
        if not run.is_default
    }
    assert epochs["cifar10", "resnet18", "paralif-gs"] == "<5,20>"
    assert epochs["cifar10", "resnet50", "paralif-gs"] == epochs["cifar10", "resnet18", "snntorch-lif"] == "<5,5>"
    assert {epochs["cifar100", name, "snntorch-lif"].split(",")[0] for name in ("resnet18", "resnet50")} == {
        "<25",
        "<70",
    }


def test_every_task_comes_after_what_it_needs_and_heads_wait_for_pooled_features() -> None:
    tasks = plan_study(load_preset("quick"))
    seen: set[str] = set()
    for task in tasks:
        assert set(task.needs) <= seen
        seen.add(task.key)
    kinds = {task.key: (task.kind, task.payload.get("pooled")) for task in tasks}
    heads = [task for task in tasks if task.run and task.kind == "run" and not task.run.is_default]
    assert {kinds[need] for task in heads for need in task.needs} == {("features", True)}
    (attack,) = [task for task in tasks if task.kind == "attack"]
    parts = [task for task in tasks if task.kind == "part"]
    networks = attack.needs[:2]
    assert attack.needs[2:] == tuple(part.key for part in parts)
    # Each network is attacked by itself; it needs the others too, which transfers come from.
    assert [part.needs for part in parts] == [networks] * 2
    assert [part.payload["network"] for part in parts] == attack.payload["runs"]
    assert len({part.label for part in parts} | {attack.label}) == 3
    assert attack.payload["runs"][0].startswith("digits-resnet18-default-3-s0")


def test_an_attack_can_leave_out_what_else_was_trained_of_a_neuron() -> None:
    study = {"grid": [{"neuron": "lif", "train": ["head", "decoder"]}, {"neuron": "relu", "train": "decoder"}]}

    def attacked(**block: object) -> list[str]:
        tasks = plan_study(parse_study({"name": "a", **study, "attack": [block]}, "a"))
        labels = {task.key: task.label for task in tasks}
        (attack,) = [task for task in tasks if task.kind == "attack"]
        assert [labels[key] for key in attack.needs[: len(attack.needs) // 2]] == attack.payload["runs"]
        return [label.split("-s0-")[0] for label in attack.payload["runs"]]

    default, head = "digits-resnet18-default-5", "digits-resnet18-lif-5-5-head"
    decoders = ["digits-resnet18-lif-5-5-decoder", "digits-resnet18-relu-5-5-decoder"]
    assert attacked() == [default, head, *decoders]
    assert attacked(train="head") == [default, head]
    assert attacked(train=["decoder"]) == [default, *decoders]
    with pytest.raises(
        UserError, match=r"train 'heads' is in no grid \(did you mean 'head'\?\); there is decoder, head"
    ):
        attacked(train="heads")


def test_the_order_of_the_radii_is_another_evaluation_and_reaches_the_attack() -> None:
    def planned(**block: object) -> Task:
        tasks = plan_study(parse_study({"name": "a", "grid": [{"neuron": "lif"}], "attack": [block]}, "a"))
        return next(task for task in tasks if task.kind == "attack")

    down = planned(order="descending")
    assert down.key != planned().key == planned(order="ascending").key
    assert attack_settings(down.payload).order == "descending"
    assert attack_settings(planned().payload).order == "ascending"


def test_heads_of_several_seeds_stand_on_one_default(pictures: Path) -> None:
    runs = expand(make_study(pictures, seed=[0, 1, 2], default_seed=1, neuron="lif"))
    assert [(run.is_default, run.config.seed, run.config.branch_seed) for run in runs] == [
        (True, 1, 1),
        (False, 1, 0),
        (False, 1, 1),
        (False, 1, 2),
    ]
    # The head with Default's own seed is the run that names no other.
    assert runs[2] in expand(make_study(pictures, seed=1, neuron="lif"))


def test_grids_that_overlap_give_each_run_once() -> None:
    grid = {"neuron": "lif", "seed": [0, 1]}
    sweep = {"neuron": "lif", "seed": [0, 1], "num_steps": [20, 50]}
    runs = expand(parse_study({"name": "x", "grid": [grid, sweep]}, "x"))
    assert len(runs) == len(set(runs)) == 2 + 2 * 2


def test_values_that_do_not_fit_together_name_their_grid() -> None:
    with pytest.raises(UserError, match=r"x: \[\[grid\]\] 2: --beta must lie in"):
        expand(parse_study({"name": "x", "grid": [{}, {"beta": [0.5, 2.0]}]}, "x"))


def test_a_run_keeps_its_key_when_its_files_move_and_changes_it_when_they_change(
    tmp_path: Path, pictures: Path
) -> None:
    def key(folder: Path, weights: Path) -> str:
        config = RunConfig(dataset="folder", weights=str(weights))
        return Identities().run_key(Run("shapes", config, folder))

    weights, moved = tmp_path / "a.pth", tmp_path / "b.pth"
    weights.write_bytes(b"1")
    moved.write_bytes(b"1")
    shutil.copytree(pictures, tmp_path / "copy")
    before = key(pictures, weights)
    assert key(tmp_path / "copy", moved) == before
    moved.write_bytes(b"2")
    assert key(pictures, moved) != before
    next((tmp_path / "copy" / "test").glob("*/*")).unlink()
    assert key(tmp_path / "copy", weights) != before


def test_missing_data_and_weights_are_said_before_any_work(tmp_path: Path, pictures: Path) -> None:
    with pytest.raises(UserError, match=r"--data-dir shapes=FOLDER"):
        plan_study(make_study(tmp_path / "absent"))
    with pytest.raises(UserError, match="--weights BACKBONE=FILE"):
        plan_study(make_study(pictures, weights="absent.pth"))


def task(key: str, *needs: str) -> Task:
    return Task(key, "run", key, {}, needs)


def test_makespan_by_hand() -> None:
    tasks = [task("a"), task("b", "a"), task("c", "a"), task("d", "b", "c")]
    seconds = {"a": 2.0, "b": 3.0, "c": 5.0, "d": 1.0}
    assert makespan(tasks, seconds, 1) == 11
    assert makespan(tasks, seconds, 2) == 2 + 5 + 1
    assert makespan(tasks, seconds, 2, done={"a", "c"}) == 3 + 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.1, 9), min_size=1, max_size=12), st.integers(1, 4))
def test_makespan_lies_between_the_bounds_of_list_scheduling(seconds: list[float], workers: int) -> None:
    tasks = [task(str(number)) for number in range(len(seconds))]
    found = makespan(tasks, {str(number): value for number, value in enumerate(seconds)}, workers)
    best = max(max(seconds), sum(seconds) / workers)
    # Graham, 1969: list scheduling is at most 2 - 1/m times the optimum.
    assert best - 1e-9 <= found <= best * (2 - 1 / workers) + 1e-9
