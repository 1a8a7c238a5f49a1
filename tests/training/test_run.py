from __future__ import annotations

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from resnet_spiking.attacks.subjects import load_subjects
from resnet_spiking.config import RunConfig
from resnet_spiking.data.images import Dataset, ImageSet
from resnet_spiking.environment import Environment
from resnet_spiking.errors import Interrupted, UserError
from resnet_spiking.evaluate import main as evaluate
from resnet_spiking.network.backbone import build_resnet
from resnet_spiking.storage.lock import exclusive
from resnet_spiking.training import verify
from resnet_spiking.training.configured_data import fitted
from resnet_spiking.training.run import train_run
from resnet_spiking.training.verify import load_network, verify_run

CONFIG = RunConfig(
    dataset="folder",
    weights="none",
    image_size=32,
    hidden=(24,),
    num_steps=5,
    default_epochs=2,
    spiking_epochs=2,
    batch_size=24,
    lr=2e-3,
    head_lr=5e-3,
    precision="fp32",
)


def stored(data: Dataset) -> Dataset:
    """Images that come from files, as a run remembers them."""
    train, test = (replace(split, source="pictures") for split in (data.train, data.test))
    return replace(data, train=train, test=test)


class StopAfter:
    """Asks to stop at the given call, once."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self) -> bool:
        self.left -= 1
        return self.left == 0


def metrics(run: Path) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in entries]


def figures(result: dict[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in ("test", "predictions", "hashes", "config", "evidence", "default")}


def test_a_run_that_goes_on_elsewhere_names_both_devices(
    tmp_path: Path, shapes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_on(device: str, *, calls: int = 0, resume: bool = False) -> tuple[dict[str, Any], list[str]]:
        monkeypatch.setattr("resnet_spiking.training.phase.device_name", lambda _: device)
        lines: list[str] = []
        environment = Environment(report=lines.append, should_stop=StopAfter(calls))
        return train_run(CONFIG, tmp_path / "run", environment, data=shapes, resume=resume), lines

    with pytest.raises(Interrupted):
        train_on("one GPU", calls=3)
    result, lines = train_on("cpu", resume=True)
    assert result["default"]["devices"] == ["cpu", "one GPU"]
    assert result["devices"] == ["cpu"]
    (folder,) = tmp_path.glob("default-*")
    assert json.loads((folder / "result.json").read_text())["devices"] == ["cpu", "one GPU"]
    assert [line.partition(":")[0] for line in lines if "has run on" in line] == [
        "this default phase has run on cpu and one GPU"
    ]


def test_a_run_that_goes_on_with_more_threads_says_so(tmp_path: Path, shapes: Dataset) -> None:
    """Sums in another order have other last bits."""
    lines: list[str] = []
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with pytest.raises(Interrupted):
            train_run(CONFIG, tmp_path / "run", Environment(should_stop=StopAfter(10)), data=shapes)
        torch.set_num_threads(2)
        result = train_run(CONFIG, tmp_path / "run", Environment(report=lines.append), data=shapes, resume=True)
    finally:
        torch.set_num_threads(before)
    assert "this spiking phase has run on 1 and 2 threads: not the bits of one alone" in lines
    assert result["threads"] == [1, 2]
    (folder,) = tmp_path.glob("default-*")
    assert json.loads((folder / "result.json").read_text())["threads"] == [1]


def test_a_default_goes_on_for_who_names_the_same_thing_otherwise(tmp_path: Path, shapes: Dataset) -> None:
    whole = train_run(CONFIG, tmp_path / "whole" / "run", data=shapes)
    with pytest.raises(Interrupted):
        train_run(CONFIG, tmp_path / "a", Environment(should_stop=StopAfter(3)), data=shapes)
    (folder,) = tmp_path.glob("default-*")
    assert (folder / "last.ckpt").exists()
    found = train_run(replace(CONFIG, flip=shapes.flip), tmp_path / "b", data=shapes)
    assert found["hashes"] == whole["hashes"]
    assert not (folder / "last.ckpt").exists()
    stored = (json.loads((folder / name).read_text())["config"] for name in ("config.json", "result.json"))
    assert next(stored) == next(stored)


def test_the_folder_of_a_shared_default_is_no_output(tmp_path: Path, shapes: Dataset) -> None:
    train_run(CONFIG, tmp_path / "run", data=shapes)
    (folder,) = tmp_path.glob("default-*")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (tmp_path / "link").symlink_to(folder)
    for output, options in ((folder, {"resume": True}), (folder, {"overwrite": True}), (tmp_path / "link", {})):
        with pytest.raises(UserError, match="a Default that runs beside it share"):
            train_run(CONFIG, output, data=shapes, **options)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("train", ["decoder", "head"])
@pytest.mark.parametrize("neuron", ["snntorch-lif", "paralif-sb"])
def test_an_interrupted_run_resumes_to_the_same_bytes(tmp_path: Path, shapes: Dataset, neuron: str, train: str) -> None:
    config = replace(CONFIG, neuron=neuron, train=train)
    whole = train_run(config, tmp_path / "a" / "run", data=shapes)
    for stop in (3, 8, 2):
        with pytest.raises(Interrupted):
            train_run(
                config, tmp_path / "b" / "run", Environment(should_stop=StopAfter(stop)), data=shapes,
                resume=(tmp_path / "b" / "run").exists(),
            )  # fmt: skip
    resumed = train_run(config, tmp_path / "b" / "run", data=shapes, resume=True)
    assert figures(resumed) == figures(whole)
    assert metrics(tmp_path / "b" / "run") == metrics(tmp_path / "a" / "run")


def test_bf16_training_is_deterministic_and_learns(tmp_path: Path, shapes: Dataset) -> None:
    config = replace(CONFIG, precision="bf16", default_epochs=4, spiking_epochs=1)
    first, second = (train_run(config, tmp_path / name / "run", data=shapes) for name in "ab")
    assert figures(first) == figures(second)
    assert first["default"]["accuracy"] > 0.6


def test_default_is_trained_once_and_shared(tmp_path: Path, shapes: Dataset) -> None:
    lines: list[str] = []
    environment = Environment(report=lines.append)
    train_run(CONFIG, tmp_path / "a", environment, data=shapes)
    result = train_run(replace(CONFIG, neuron="paralif-t"), tmp_path / "b", environment, data=shapes)
    assert any("reusing" in line for line in lines)
    assert len(list(tmp_path.glob("default-*"))) == 1
    assert (tmp_path / result["default"]["run"] / "result.json").exists()
    train_run(replace(CONFIG, seed=1), tmp_path / "c", environment, data=shapes)
    assert len(list(tmp_path.glob("default-*"))) == 2


def test_default_lies_beside_a_run_in_the_current_folder(
    tmp_path: Path, shapes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    train_run(replace(CONFIG, default_epochs=0, spiking_epochs=0), Path(), data=shapes)
    (default,) = tmp_path.glob("default-*")
    subjects, _ = load_subjects([Path()])
    assert [Path(subject.run).resolve() for subject in subjects] == [default, tmp_path / "here"]


def test_who_comes_second_waits_for_the_default_that_another_process_trains(
    tmp_path: Path, shapes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that trained it at once wrote one folder, each over the other's network."""
    monkeypatch.setattr("resnet_spiking.training.default.PAUSE", 0.01)
    config = replace(CONFIG, default_epochs=1, spiking_epochs=0)
    train_run(config, tmp_path / "elsewhere" / "run", data=shapes)
    (trained,) = (tmp_path / "elsewhere").glob("default-*")
    assert {path.name for path in trained.iterdir()} == {
        "config.json", "metrics.jsonl", "model.safetensors", "result.json"
    }  # fmt: skip
    folder, lines = tmp_path / trained.name, []
    folder.mkdir()
    with ExitStack() as elsewhere, ThreadPoolExecutor(1) as pool:
        elsewhere.enter_context(exclusive(folder, busy="nobody else is here"))
        with pytest.raises(Interrupted):
            train_run(config, tmp_path / "run", Environment(should_stop=lambda: True), data=shapes)
        assert not [path.name for path in folder.iterdir() if not path.name.startswith("lock.sqlite")]
        second = pool.submit(
            train_run, config, tmp_path / "run", Environment(report=lines.append), data=shapes, resume=True
        )
        while not lines:
            time.sleep(0.01)
        for path in trained.iterdir():
            shutil.copy(path, folder)
        time.sleep(0.1)
        assert not second.done()
        elsewhere.close()
        result = second.result(timeout=60)
    assert [line.partition(":")[0] for line in lines if "Default" in line] == [
        f"another process trains Default {folder.name}",
        f"Default {folder.name} is trained already",
    ]
    assert result["default"]["accuracy"] == json.loads((trained / "result.json").read_text())["test"]["accuracy"]


def test_the_branch_starts_from_default_and_head_training_leaves_its_stages(tmp_path: Path, shapes: Dataset) -> None:
    head = train_run(replace(CONFIG, train="head"), tmp_path / "head", data=shapes)
    train_run(CONFIG, tmp_path / "decoder", data=shapes)
    default, kept, trained = (
        load_file(tmp_path / name / "model.safetensors") for name in (head["default"]["run"], "head", "decoder")
    )
    stages = [name for name in default if name.startswith("stages.") and default[name].is_floating_point()]
    assert stages
    assert all(torch.equal(default[name], kept[name]) for name in stages)
    assert not all(torch.equal(default[name], trained[name]) for name in stages)


def test_the_frozen_backbone_is_unchanged_by_training(tmp_path: Path, shapes: Dataset) -> None:
    result = train_run(CONFIG, tmp_path / "run", data=shapes)
    backbone, _, _ = load_network(tmp_path / "run")
    from resnet_spiking.network.weights import frozen_sha256

    assert frozen_sha256(backbone) == result["hashes"]["backbone"]["sha256"]  # type: ignore[arg-type]


def test_a_cache_changes_nothing_but_time(tmp_path: Path, shapes: Dataset) -> None:
    live = train_run(CONFIG, tmp_path / "a" / "run", data=shapes)
    cached = train_run(CONFIG, tmp_path / "b" / "run", Environment(cache_dir=tmp_path / "cache"), data=shapes)
    assert cached["test"]["accuracy"] == pytest.approx(live["test"]["accuracy"], abs=0.05)
    assert list((tmp_path / "cache").glob("*.npy"))


def test_a_run_stopped_while_features_are_computed_resumes(tmp_path: Path, shapes: Dataset) -> None:
    stopped = Environment(cache_dir=tmp_path / "cache", should_stop=StopAfter(1))
    with pytest.raises(Interrupted):
        train_run(CONFIG, tmp_path / "run", stopped, data=shapes)
    assert not list((tmp_path / "cache").iterdir())
    train_run(CONFIG, tmp_path / "run", Environment(cache_dir=tmp_path / "cache"), data=shapes, resume=True)
    assert (tmp_path / "run" / "result.json").exists()


def test_neuron_none_is_default_alone(tmp_path: Path, shapes: Dataset) -> None:
    result = train_run(replace(CONFIG, neuron="none"), tmp_path / "run", data=shapes)
    assert result["variant"] == "default"
    assert result["test"]["spike_rates"] == []


def test_the_relu_control_claims_no_spikes(tmp_path: Path, shapes: Dataset) -> None:
    result = train_run(replace(CONFIG, neuron="relu"), tmp_path / "run", data=shapes)
    assert result["evidence"]["spikes"] is False


def test_nothing_frozen_trains_from_scratch(tmp_path: Path, shapes: Dataset) -> None:
    config = replace(CONFIG, freeze_depth=0, default_epochs=1, spiking_epochs=1)
    result = train_run(config, tmp_path / "run", data=shapes)
    assert result["hashes"]["backbone"]["random"] == ["stem", "layer1", "layer2", "layer3", "layer4"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, fixed_shapes: Dataset) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("trained")
    train_run(CONFIG, folder / "run", data=stored(fixed_shapes))
    return folder


@pytest.fixture
def finished(trained: Path, tmp_path: Path, shapes: Dataset, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a finished run that a test may spoil."""
    shutil.copytree(trained, tmp_path / "copy")
    monkeypatch.setattr(verify, "load_data", lambda config, data_dir: shapes)
    return tmp_path / "copy" / "run"


def test_a_finished_run_verifies(finished: Path) -> None:
    rows = verify_run(finished)
    assert {row.figure for row in rows} >= {"accuracy", "loss", "spike rate of layer 1", "model sha256", "data sha256"}
    assert all(row.agrees for row in rows)


def spoil(path: Path, field: str, value: object) -> None:
    """Write ``value`` into ``field`` of a JSON file, such as ``test.accuracy``; take it out for ``...``."""
    content = json.loads(path.read_text())
    *parents, last = field.split(".")
    place = content
    for parent in parents:
        place = place[parent]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    path.write_text(json.dumps(content))


DOCTORED = (
    {
        "test.accuracy": (0.0123, "accuracy"),
        "test.loss": (9.0, "loss"),
        "test.spike_rates": ([0.9], "spike rate of layer 1"),
        "test.images": (10_000, "test images"),
        "operations.stages.energy_nJ": (1.0, "operations.stages.energy_nJ"),
        "evidence.logits_when_cut": (0.1, "evidence.logits_when_cut"),
        "evidence.rates.layer 1": (0.99, "evidence.rates.layer 1"),
    },
    {
        "test.spike_rates": ([], "spike rates"),
        "operations.stages": (..., "operations"),
        "evidence.untrained": (["features"], "evidence.untrained"),
    },
    {
        "operations.Effective_ACs": (0.5, "operations.Effective_ACs"),
        "evidence": ({"spikes": False, "reason": "a control without spikes"}, "evidence"),
        "evidence.rates": ({"layer 2": 0.1}, "evidence.rates"),
    },
    {"evidence": (..., "evidence"), "warnings": (["layer 1 is silent"], "warnings")},
    {"default.accuracy": (0.0123, "default.accuracy")},
    {"config.head_lr": (0.5, "config.json.head_lr")},
    {"default.operations.energy_nJ": (0.0, "default.operations.energy_nJ")},
)


@pytest.mark.parametrize("changes", DOCTORED)
def test_doctored_figures_are_named(finished: Path, changes: dict[str, tuple[object, str]]) -> None:
    for field, (wrong, _) in changes.items():
        spoil(finished / "result.json", field, wrong)
    differing = {row.figure for row in verify_run(finished) if not row.agrees}
    assert {figure for _, figure in changes.values()} <= differing
    assert differing - {"evidence.rates"} <= {figure for _, figure in changes.values()}


@pytest.mark.parametrize(
    ("name", "field", "wrong", "said"),
    [
        ("result", "hashes", [], "the field 'hashes' must be an object, not '[]'"),
        ("result", "hashes.backbone.sha256", ..., "the field 'hashes.backbone.sha256' is missing"),
        ("result", "test", ..., "the field 'test' is missing"),
        ("result", "test.loss", "low", "the field 'test.loss' must be a number, not 'low'"),
        ("result", "test.loss", 10**400, "the field 'test.loss' must be a number"),
        ("result", "predictions", "0123", "the field 'predictions' must be a list, not '0123'"),
        ("result", "num_classes", 2.5, "the field 'num_classes' must be a whole number, 1 or more"),
        ("result", "evidence", None, "the field 'evidence' must be an object"),
        ("result", "evidence.rates", ..., "the field 'evidence.rates' is missing"),
        ("result", "operations.Dense", True, "the field 'operations.Dense' must be a number"),
        (
            "result",
            "config.hidden",
            "wide",
            "--hidden must be whole numbers, in Python a tuple such as (256,), not 'wide'",
        ),
        ("result", "config.num_steps", None, "--num-steps must be a whole number, not 'None'"),
        ("result", "config.lr", -1, "--lr must be a positive number"),
        ("config", "inputs", ..., "the field 'inputs' is missing"),
        ("config", "inputs.data_dir", 3, "the field 'inputs.data_dir' must be a text, not '3'"),
        ("config", "config.seed", True, "--seed must be a whole number, not 'True'"),
    ],
)
def test_a_file_that_was_changed_by_hand_is_one_line(
    finished: Path, name: str, field: str, wrong: object, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = finished / f"{name}.json"
    spoil(path, field, wrong)
    with pytest.raises(SystemExit) as stopped:
        evaluate([str(finished)])
    (line,) = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2
    assert line.startswith(f"error: {path}: {said}")


def test_a_default_that_is_gone_is_told_and_not_compared(finished: Path) -> None:
    default = json.loads((finished / "result.json").read_text())["default"]
    shutil.rmtree(finished.parent / default["run"])
    (row,) = (row for row in verify_run(finished) if row.figure == "default")
    assert (row.recorded, row.recomputed, row.agrees) == (default["accuracy"], "absent", True)


def test_missing_predictions_and_another_variant_are_noticed(finished: Path) -> None:
    result = json.loads((finished / "result.json").read_text())
    doctored = {**result, "predictions": result["predictions"][:-5], "variant": "paralif-t"}
    (finished / "result.json").write_text(json.dumps(doctored))
    differing = {row.figure: row.recomputed for row in verify_run(finished) if not row.agrees}
    assert differing == {"predictions that differ": 5, "variant": CONFIG.neuron}


def test_who_may_read_a_result_may_read_its_model(finished: Path) -> None:
    assert (finished / "model.safetensors").stat().st_mode == (finished / "result.json").stat().st_mode


def test_other_data_and_other_weights_are_noticed(
    finished: Path, shapes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = shapes.test.images.clone()
    images[0] = 255 - images[0]
    other = Dataset("folder", shapes.train, ImageSet(images, shapes.test.labels, shapes.classes), True)
    monkeypatch.setattr(verify, "load_data", lambda config, data_dir: other)
    assert "data sha256" in [row.figure for row in verify_run(finished) if not row.agrees]
    with pytest.raises(UserError, match="are not the ones"):
        verify_run(finished, weights="bundled")


def test_a_default_whose_weights_were_replaced_is_not_branched_from(finished: Path, shapes: Dataset) -> None:
    (default,) = finished.parent.glob("default-*")
    other = load_file(default / "model.safetensors")
    with safe_open(default / "model.safetensors", "pt") as handle:
        header = handle.metadata()
    save_file({name: 2 * tensor for name, tensor in other.items()}, default / "model.safetensors", metadata=header)
    with pytest.raises(UserError, match=r"is not the file that the result beside it names .* or delete .*default-"):
        train_run(replace(CONFIG, num_steps=2), finished.parent / "other", data=shapes)
    with pytest.raises(UserError, match="is not the file"):
        load_network(default)
    assert "model sha256" in [row.figure for row in verify_run(default) if not row.agrees]
    # What stands in the way of Default does not cost the finished run that was to be replaced.
    before = (finished / "result.json").read_bytes()
    with pytest.raises(UserError, match="is not the file"):
        train_run(CONFIG, finished, data=shapes, overwrite=True)
    assert (finished / "result.json").read_bytes() == before
    assert (finished / "model.safetensors").exists()
    shutil.rmtree(default)
    train_run(replace(CONFIG, num_steps=2), finished.parent / "other", data=shapes, overwrite=True)


def test_a_model_that_no_run_wrote_is_refused(finished: Path) -> None:
    path = finished / "model.safetensors"
    # Copies: what is loaded lies in the file, which is cut short.
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="damaged"):
        verify_run(finished)
    save_file(tensors, path, metadata={"identity": "3"})
    with pytest.raises(UserError, match="damaged"):
        verify_run(finished)
    name = "head.output.weight"
    save_file({**tensors, name: tensors[name] / 0}, path, metadata={"identity": "{}"})
    with pytest.raises(UserError, match=rf"damaged \({name} holds values that are not finite\)"):
        verify_run(finished)


def test_an_existing_run_is_kept_unless_told_otherwise(finished: Path, shapes: Dataset) -> None:
    before = (finished / "result.json").read_bytes()
    with pytest.raises(UserError, match="--resume to continue it, or --overwrite"):
        train_run(CONFIG, finished, data=shapes)
    with pytest.raises(UserError, match=r"another configuration \(beta\)"):
        train_run(replace(CONFIG, beta=0.5), finished, data=shapes, resume=True)
    assert (finished / "result.json").read_bytes() == before
    assert train_run(CONFIG, finished, data=shapes, resume=True) == json.loads(before)
    train_run(replace(CONFIG, beta=0.5), finished, data=shapes, overwrite=True)
    assert json.loads((finished / "result.json").read_text())["config"]["beta"] == 0.5


def test_two_commands_on_one_folder_do_not_write_over_each_other(tmp_path: Path, shapes: Dataset) -> None:
    """The second comes while the first one trains."""
    refused: list[str] = []

    def another(*_: object) -> None:
        if not refused:
            refused.append("")
            for option in ({}, {"resume": True}, {"overwrite": True}):
                config = replace(CONFIG, seed=0 if "resume" in option else 5)
                with pytest.raises(UserError) as stopped:
                    train_run(config, tmp_path / "run", data=shapes, **option)
                refused.append(str(stopped.value))

    result = train_run(CONFIG, tmp_path / "run", Environment(progress=another), data=shapes)
    assert "holds a run already" in refused[1]
    assert [f"another command writes to {tmp_path / 'run'}; wait for it" in line for line in refused[2:]] == [True] * 2
    stored = json.loads((tmp_path / "run" / "result.json").read_text())
    assert stored["hashes"] == result["hashes"]
    assert stored["config"] == json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert not list(tmp_path.rglob("lock.sqlite"))


def test_images_in_memory_are_cut_as_configured_and_wanted_again(tmp_path: Path, fixed_shapes: Dataset) -> None:
    config = replace(CONFIG, train_samples=48, test_samples=12, flip=False)
    result = train_run(config, tmp_path / "run", data=fixed_shapes)
    assert result["test"]["images"] == 12
    assert result["hashes"]["data"] == fitted(fixed_shapes, config).sha256 != fixed_shapes.sha256
    with pytest.raises(UserError, match=r"images held in memory \(Dataset 'folder'\).*verify_run\(.*, data=…\)"):
        verify_run(tmp_path / "run")
    assert all(row.agrees for row in verify_run(tmp_path / "run", data=fixed_shapes))


def test_what_is_refused_for_its_data_or_weights_leaves_nothing_and_loses_nothing(
    tmp_path: Path, finished: Path, shapes: Dataset
) -> None:
    """A second try, with the mistake put right, needs no option."""
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    absent = Environment(data_dir=tmp_path / "absent")
    with pytest.raises(UserError, match="is not a folder"):
        train_run(CONFIG, finished, absent, overwrite=True)
    with pytest.raises(UserError, match="a file that exists"):
        train_run(replace(CONFIG, weights="absent.pth"), finished, data=shapes, overwrite=True)
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before
    with pytest.raises(UserError, match="is not a folder"):
        train_run(CONFIG, tmp_path / "new", absent)
    with pytest.raises(UserError, match="a file that exists"):
        train_run(replace(CONFIG, weights="absent.pth"), tmp_path / "new", data=shapes)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("calls", [2, 12])
def test_a_run_does_not_go_on_with_other_data_or_weights(tmp_path: Path, shapes: Dataset, calls: int) -> None:
    """Neither in Default's epochs nor in the branch's."""
    with pytest.raises(Interrupted):
        train_run(CONFIG, tmp_path / "run", Environment(should_stop=StopAfter(calls)), data=shapes)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    more = ImageSet(shapes.train.images[:-3], shapes.train.labels[:-3], shapes.classes)
    other = Dataset("folder", more, shapes.test, True)
    if calls == 2:
        # Default has a name made of its data: another one is begun, and nothing of the first is taken.
        result = train_run(CONFIG, tmp_path / "run", data=other, resume=True)
        assert figures(result) == figures(train_run(CONFIG, tmp_path / "fresh" / "run", data=other))
        return
    with pytest.raises(UserError, match=r"last\.ckpt was begun on other data, Default than there is now"):
        train_run(CONFIG, tmp_path / "run", data=other, resume=True)
    assert all(path.read_bytes() == content for path, content in before.items())
    train_run(CONFIG, tmp_path / "run", data=shapes, resume=True)


def test_pooled_features_of_one_architecture_are_not_those_of_another(tmp_path: Path, shapes: Dataset) -> None:
    """ResNet-50 and its version of 2015 have the same tensors; stages frozen to the last are in neither's training."""
    torch.manual_seed(0)
    torch.save(build_resnet("resnet50").state_dict(), tmp_path / "weights.pth")
    config = replace(
        CONFIG, weights=str(tmp_path / "weights.pth"), freeze_depth=4, train="head", default_epochs=0, spiking_epochs=1
    )
    cached = Environment(cache_dir=tmp_path / "cache")
    lines: list[str] = []
    train_run(replace(config, backbone="resnet50"), tmp_path / "a" / "run", cached, data=shapes)
    other = replace(config, backbone="resnet50-v1")
    train_run(other, tmp_path / "b" / "run", replace(cached, report=lines.append), data=shapes)
    assert len([line for line in lines if "caching pooled" in line]) == 2


def test_a_copy_of_default_is_its_own_runs(tmp_path: Path, shapes: Dataset) -> None:
    """Not of the run that happened to train it, under other settings of a branch and another name of the weights."""
    torch.manual_seed(0)
    state = build_resnet("resnet18").state_dict()
    for name in ("old.pth", "new.pth"):
        torch.save(state, tmp_path / name)
    config = replace(CONFIG, weights=str(tmp_path / "old.pth"), num_steps=4, default_epochs=1, spiking_epochs=0)
    train_run(config, tmp_path / "branch", data=shapes)
    (tmp_path / "old.pth").unlink()
    alone = replace(CONFIG, weights=str(tmp_path / "new.pth"), default_epochs=1, neuron="none")
    result = train_run(alone, tmp_path / "alone", data=shapes)
    assert RunConfig.from_dict(result["config"]) == alone
    load_network(tmp_path / "alone")
    (folder,) = tmp_path.glob("default-*")
    stored = json.loads((folder / "result.json").read_text())["config"]
    assert stored["num_steps"] == RunConfig().num_steps


def test_a_checkpoint_that_no_run_wrote_is_refused(tmp_path: Path, shapes: Dataset) -> None:
    with pytest.raises(Interrupted):
        train_run(CONFIG, tmp_path / "run", Environment(should_stop=StopAfter(10)), data=shapes)
    path = tmp_path / "run" / "last.ckpt"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 0x40
    for damaged in (whole[:3000], flipped):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"last\.ckpt is damaged or no checkpoint"):
            train_run(CONFIG, tmp_path / "run", data=shapes, resume=True)
    path.write_bytes(whole)
    state = torch.load(path, weights_only=True)
    progress = state["progress"]
    newer = {**state["config"], "neuron": "newer"}
    for change in ({"optimizer": 3}, {"progress": {**progress, "epoch": 99}}, {"config": newer}):
        torch.save({**state, **change}, path)
        with pytest.raises(UserError, match=r"last\.ckpt is damaged or no checkpoint; delete it to start this phase"):
            train_run(CONFIG, tmp_path / "run", data=shapes, resume=True)


def test_divergence_in_the_last_step_leaves_no_result(tmp_path: Path, shapes: Dataset) -> None:
    """The loss of the step before it is still finite."""
    config = replace(CONFIG, neuron="none", optimizer="sgd", lr=1e38, head_lr=1e38, default_epochs=1, batch_size=96)
    with pytest.raises(UserError, match=r"no longer finite.*lower --lr"):
        train_run(config, tmp_path / "run", data=shapes)
    assert not list(tmp_path.rglob("result.json"))


def test_divergence_is_one_line(tmp_path: Path, shapes: Dataset) -> None:
    with pytest.raises(UserError, match=r"no longer finite.*lower --lr"):
        train_run(replace(CONFIG, optimizer="sgd", lr=1e30, head_lr=1e30), tmp_path / "run", data=shapes)


@pytest.mark.parametrize("neuron", ["lif", "snntorch-lif", "paralif-t"])
@pytest.mark.parametrize("head_lr", [1e12, 1e30])
def test_divergence_of_a_head_is_one_line(tmp_path: Path, shapes: Dataset, neuron: str, head_lr: float) -> None:
    config = replace(CONFIG, neuron=neuron, train="head", optimizer="sgd", head_lr=head_lr, spiking_epochs=3)
    with pytest.raises(UserError, match=r"no longer finite.*lower --lr"):
        train_run(config, tmp_path / "run", data=shapes)


def test_head_seeds_differ_on_one_default_and_verify(tmp_path: Path, shapes: Dataset) -> None:
    short = replace(CONFIG, default_epochs=1, spiking_epochs=1, train="head", neuron="paralif-gs")
    results = [
        train_run(replace(short, head_seed=seed), tmp_path / str(seed), data=shapes) for seed in (None, 0, 1)
    ]  # fmt: skip
    assert len(list(tmp_path.glob("default-*"))) == 1
    assert results[0]["hashes"]["model"] == results[1]["hashes"]["model"] != results[2]["hashes"]["model"]
    # From pixels through the whole network, where training scored the head on pooled features.
    assert all(row.agrees for row in verify_run(tmp_path / "1", data=shapes))


def test_a_memory_changes_nothing_but_time(tmp_path: Path, shapes: Dataset) -> None:
    kept: dict[tuple[object, ...], Any] = {}
    made: list[tuple[object, ...]] = []

    def remember(key: tuple[object, ...], make: Any) -> Any:
        if key not in kept:
            made.append(key)
            kept[key] = make()
        return kept[key]

    short = replace(CONFIG, default_epochs=1, spiking_epochs=1)
    configs = [replace(short, train="head"), short, replace(short, train="head", neuron="relu")]
    for number, config in enumerate(configs):
        alone = train_run(config, tmp_path / "alone" / str(number), data=shapes)
        shared = train_run(config, tmp_path / "shared" / str(number), Environment(remember=remember), data=shapes)
        assert figures(alone) == figures(shared)
    assert [key[0] for key in made] == ["trunk", "frozen", "default", "pooled"]


def test_a_configuration_of_an_older_version_gets_the_defaults_of_newer_settings() -> None:
    stored = replace(CONFIG, beta=0.7).as_dict()
    del stored["head_seed"]
    assert RunConfig.from_dict(stored) == replace(CONFIG, beta=0.7)
    with pytest.raises(UserError, match="unknown here: hue"):
        RunConfig.from_dict({**stored, "hue": 1})
