from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

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


def test_only_what_spikes_has_its_spikes_drawn(pictures: Path) -> None:
    tasks = plan_study(make_study(pictures, neuron=["lif", "relu", "paralif-t"], seed=[0, 1]))
    traced = [task.run.config.neuron for task in tasks if task.run and task.payload.get("traces")]
    assert sorted(traced) == ["lif", "paralif-t"]


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


@pytest.mark.parametrize(
    ("block", "missed"),
    [
        ({"datasets": ["digits"], "seeds": [1]}, "seeds 1"),
        ({"neurons": ["lif"], "seeds": [1]}, "neurons 'lif'"),
        ({"datasets": "digits", "train": "decoder"}, "train 'decoder'"),
        ({"datasets": ["digits", "fashion-mnist"], "seeds": [0, 3]}, "seeds 3"),
        ({"datasets": ["digits", "cifar10"], "seeds": [3]}, "datasets 'digits'"),
    ],
)
def test_an_attack_that_misses_what_it_names_is_refused(block: dict[str, object], missed: str) -> None:
    grids = [
        {"dataset": "digits", "neuron": "lif", "train": "head", "seed": 0},
        {"dataset": "fashion-mnist", "neuron": "relu", "train": "decoder", "seed": 1},
        {"dataset": "cifar10", "neuron": "relu", "train": "head", "seed": 3},
    ]
    with pytest.raises(UserError, match=rf"a: \[\[attack\]\] 1: no network with {missed} is attacked; .*\(it asks for"):
        plan_study(parse_study({"name": "a", "grid": grids, "attack": [block]}, "a"))


def test_an_attack_may_name_what_meets_in_a_part_of_its_networks() -> None:
    grids = [{"neuron": "lif", "seed": [0, 1]}, {"dataset": "fashion-mnist", "neuron": ["none", "relu"], "seed": 0}]
    block = {"datasets": ["digits", "fashion-mnist"], "neurons": ["none", "lif"], "seeds": [0, 1]}
    tasks = plan_study(parse_study({"name": "a", "grid": grids, "attack": [block]}, "a"))
    attacked = [[run.split("-resnet18-")[0] for run in task.payload["runs"]] for task in tasks if task.kind == "attack"]
    assert sorted(attacked) == [["digits"] * 2, ["digits"] * 2, ["fashion-mnist"]]


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


@pytest.mark.parametrize(
    "axes",
    [{"default_seed": 0, "seed": [0, 1, 2]}, {"num_steps": [2, 4]}, {"epochs": ["1,2"]}, {"head_lr": 0.1}],
    ids=lambda axes: "-".join(axes),
)
def test_a_default_that_a_grid_names_beside_its_branches_is_trained_once(axes: dict[str, object]) -> None:
    grid = {"neuron": ["none", "relu"], **axes}
    named, unnamed = (
        expand(parse_study({"name": "x", "grid": [values]}, "x")) for values in (grid, {**grid, "neuron": "relu"})
    )
    assert named == unnamed
    assert sum(run.is_default for run in named) == 1


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


def two_datasets(**entries: dict[str, object]) -> list[Task]:
    grid = {"dataset": list(entries), "weights": "none", "neuron": "lif"}
    return plan_study(parse_study({"name": "two", "datasets": entries, "grid": [grid]}, "two"))


def test_two_names_of_what_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    for name, level in (("clean", 0), ("noisy", 255)):
        for file in ("train/a/1.bmp", "train/b/1.bmp", "test/a/1.bmp", "test/b/1.bmp"):
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (level, level, level)).save(path)
    clean, noisy = ({"kind": "folder", "data_dir": str(tmp_path / name)} for name in ("clean", "noisy"))
    with pytest.raises(UserError, match=r"two: datasets 'clean' and 'noisy' .* names and sizes.* leave one out"):
        two_datasets(clean=clean, noisy=noisy)
    first, second = ({"kind": "fashion-mnist", "data_dir": str(tmp_path / name)} for name in ("clean", "noisy"))
    with pytest.raises(UserError, match=r"'first' and 'second' .* the name 'fashion-mnist'"):
        two_datasets(first=first, second=second)
    with pytest.raises(UserError, match="'digits' and 'mine'"):
        two_datasets(digits={}, mine={"kind": "digits"})
    labels = [task.label for task in two_datasets(clean={**clean, "image_size": 32}, noisy=noisy) if task.run]
    assert {label.split("-")[0] for label in labels} >= {"clean", "noisy"}


@pytest.mark.parametrize(("kind", "default"), [("digits", False), ("fashion-mnist", True)])
def test_a_flip_that_is_the_datasets_own_is_no_other_run(kind: str, default: bool) -> None:
    def keys(**axes: object) -> list[str]:
        grid = {"dataset": kind, "weights": "none", "neuron": "lif", **axes}
        return [task.key for task in plan_study(parse_study({"name": "x", "grid": [grid]}, "x"))]

    unset = keys()
    assert keys(flip=default) == unset == keys(flip=["none", default])
    assert not set(keys(flip=not default)) & set(unset)


def test_links_that_lead_nowhere_or_in_circles_are_no_part_of_a_folder(tmp_path: Path, pictures: Path) -> None:
    def key(folder: Path) -> str:
        return Identities().data(Run("shapes", RunConfig(dataset="folder"), folder))

    copy = tmp_path / "copy"
    shutil.copytree(pictures, copy)
    for name, target in {
        "latest": "absent",
        "self": "self",
        "train/absent.png": "absent.png",
        "train/horizontal/up": "..",
        "test/out": str(tmp_path),
    }.items():
        (copy / name).symlink_to(target)
    assert key(copy) == key(pictures)
    # A link to another folder is read, and so is what no loader knows: finished runs were found by both.
    (copy / "more").symlink_to(pictures / "test")
    linked = key(copy)
    assert linked != key(pictures)
    (copy / "notes.txt").write_text("by hand")
    assert key(copy) != linked


def test_a_folder_that_cannot_be_read_is_said_in_one_line(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("resnet_spiking.studies.identity.os.scandir", refused)
    with pytest.raises(UserError, match=r"'shapes': .* cannot be read \(Permission denied\).*--data-dir shapes=FOLDER"):
        plan_study(make_study(pictures))


def test_the_keys_of_published_runs_stay(tmp_path: Path) -> None:
    """Finished runs are found by these: what changes them trains everything again."""
    study = {"name": "x", "grid": [{"weights": "none", "neuron": ["lif"], "train": "head", "seed": 1}]}
    assert [(task.kind, task.key) for task in plan_study(parse_study(study, "x"))] == [
        ("features", "729e2fb7cf40aee0"),
        ("run", "c78f9a30965f9813"),
        ("features", "201999a416d5c38b"),
        ("run", "6015955870a564c2"),
    ]
    for size, name in enumerate(("notes.txt", "train/a/1.png", "train/b/1.JPG", "test/a/deep/1.png", "test/.hidden")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"." * size)
    assert Identities().data(Run("x", RunConfig(dataset="folder"), tmp_path)) == "0979746eb2b9eefe"


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


@settings(max_examples=50)
@given(st.lists(st.floats(0.1, 9), min_size=1, max_size=12), st.integers(1, 4))
def test_makespan_lies_between_the_bounds_of_list_scheduling(seconds: list[float], workers: int) -> None:
    tasks = [task(str(number)) for number in range(len(seconds))]
    found = makespan(tasks, {str(number): value for number, value in enumerate(seconds)}, workers)
    best = max(max(seconds), sum(seconds) / workers)
    # Graham, 1969: list scheduling is at most 2 - 1/m times the optimum.
    assert best - 1e-9 <= found <= best * (2 - 1 / workers) + 1e-9
