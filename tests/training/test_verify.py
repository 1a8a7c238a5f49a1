from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from run_cases import CONFIG, StopAfter
from safetensors.torch import load_file, save_file

from resnet_spiking.data.images import Dataset, ImageSet
from resnet_spiking.environment import Environment
from resnet_spiking.errors import Interrupted, UserError
from resnet_spiking.evaluate import main as evaluate
from resnet_spiking.network.backbone import build_resnet
from resnet_spiking.training import verify
from resnet_spiking.training.configured_data import fitted
from resnet_spiking.training.run import train_run
from resnet_spiking.training.verify import load_network, verify_run


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


def test_weights_of_a_relative_path_are_found_from_elsewhere(
    tmp_path: Path, shapes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by who goes on, and names the same file otherwise."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(build_resnet("resnet18").state_dict(), tmp_path / "weights.pth")
    config = replace(CONFIG, weights="weights.pth")
    with pytest.raises(Interrupted):
        train_run(config, Path("run"), Environment(should_stop=StopAfter(12)), data=shapes)
    assert Path("run", "last.ckpt").exists()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UserError, match=r"another configuration \(weights\)"):
        train_run(replace(config, weights="none"), Path("..", "run"), data=shapes, resume=True)
    train_run(replace(config, weights="../weights.pth"), Path("..", "run"), data=shapes, resume=True)
    monkeypatch.chdir("/")
    assert all(row.agrees for row in verify_run(tmp_path / "run", data=shapes))
    (tmp_path / "weights.pth").unlink()
    with pytest.raises(UserError, match="nor a file that exists"):
        load_network(tmp_path / "run")


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


def test_images_in_memory_are_cut_as_configured_and_wanted_again(tmp_path: Path, fixed_shapes: Dataset) -> None:
    config = replace(CONFIG, train_samples=48, test_samples=12, flip=False)
    result = train_run(config, tmp_path / "run", data=fixed_shapes)
    assert result["test"]["images"] == 12
    assert result["hashes"]["data"] == fitted(fixed_shapes, config).sha256 != fixed_shapes.sha256
    with pytest.raises(UserError, match=r"images held in memory \(Dataset 'folder'\).*verify_run\(.*, data=…\)"):
        verify_run(tmp_path / "run")
    assert all(row.agrees for row in verify_run(tmp_path / "run", data=fixed_shapes))
