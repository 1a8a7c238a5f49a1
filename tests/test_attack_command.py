from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from resnet_spiking.attack import main
from resnet_spiking.attacks import bundles
from resnet_spiking.attacks.bundles import Bundle, Checking, Stage
from resnet_spiking.config import RunConfig
from resnet_spiking.storage.files import write_json
from resnet_spiking.storage.run_folder import FORMAT
from resnet_spiking.training.run import train_run

CHECKING = Checking(images=3, survivors=2, steps=3, long_steps=6, restarts=2, probes=4)
SECONDS = Bundle(
    "quick",
    "seconds",
    stages=(
        Stage("fgsm", everything=True),
        Stage("apgd-ce", "atan:2", {"steps": 3}),
        Stage("transfer", source="default", options={"steps": 2}),
    ),
    minimum_norm=Stage("fmn", "atan:2", {"steps": 4}),
    indicative=True,
    checking=CHECKING,
)
FEW = ["--samples", "6", "--eps", "8/255,64/255", "--draws", "3", "--votes", "3"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a spiking run and its Default, trained for a moment on digits."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("trained")
    config = RunConfig(
        neuron="lif", image_size=32, num_steps=3, hidden=(16,), default_epochs=2, spiking_epochs=2, precision="fp32",
        train_samples=160, test_samples=20, batch_size=32, train="head",
    )  # fmt: skip
    train_run(config, folder / "runs" / "lif")
    return folder


@pytest.fixture
def at(trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The working folder: relative run names are what a result records."""
    shutil.copytree(trained / "runs", tmp_path / "runs")
    (tmp_path / "evaluation").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(bundles.BUNDLES, "quick", SECONDS)
    monkeypatch.setattr(bundles, "_QUICK", SECONDS)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    return int(stopped.value.code or 0)


def test_a_radius_of_zero_alone_leaves_the_clean_accuracy(at: Path) -> None:
    """No step is taken, so there is no gradient for the checks to look at."""
    assert call("runs/lif", "--attack", "fgsm", "--samples", "4", "--eps", "0", "--output-dir", "zero") == 0
    for model in json.loads((at / "zero" / "result.json").read_text())["models"]:
        assert [entry["accuracy"] for entry in model["robust"]] == [model["clean"]["accuracy"]]
    assert call("--verify", "zero") == 0


def test_attack_then_verify(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("runs/lif", *FEW, "--output-dir", "a") == 0
    shown = capsys.readouterr()
    assert "the Default that runs/lif was branched from" in shown.err
    result = json.loads((at / "a" / "result.json").read_text())
    assert [entry["name"] for entry in result["models"]] == ["default", "lif"]
    lif = result["models"][1]
    assert f"{lif['clean']['accuracy']:.1%}" in shown.out
    assert f"p = {lif['mcnemar'][0]['p']:.2g}" in shown.out
    assert f"{lif['robust'][0]['attacks']['fgsm']['overall']:.1%} → {lif['robust'][0]['accuracy']:.1%}" in shown.out
    assert all(f"T{number:02d}" in shown.out for number in range(1, 25))
    assert "indicative, not a robustness claim" in shown.out
    assert lif["details"]["neurons"][0]["name"] == "lif"
    measured = lif["details"]["neurons"][0]["surrogate"]
    assert measured["+0.0"] == pytest.approx(1.0)  # atan of slope 2 has derivative 1 at the threshold
    assert measured["+0.5"] == measured["-0.5"] == pytest.approx(1 / (1 + (3.14159265 * 0.5) ** 2), rel=1e-4)
    rows = list(csv.DictReader((at / "a" / "table.csv").read_text().splitlines()))
    worst = [row for row in rows if (row["model"], row["attack"]) == ("lif", "worst case")]
    assert [float(row["accuracy"]) for row in worst] == [row["accuracy"] for row in lif["robust"]]
    assert all((at / "a" / name).read_bytes()[:4] == b"\x89PNG" for name in ("curves.png", "panel.png"))

    assert call("--verify", "a") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "verified"
    # From another folder, all moved together, and as it was recorded before: by the name alone that was typed.
    (at / "elsewhere").mkdir()
    for name in ("runs", "a"):
        shutil.move(at / name, at / "elsewhere" / name)
    assert str(at) not in (at / "elsewhere" / "a" / "result.json").read_text()
    assert call("--verify", "elsewhere/a") == 0
    for name in ("runs", "a"):
        shutil.move(at / "elsewhere" / name, at / name)
    for model in result["models"]:
        del model["way"]
    (at / "a" / "result.json").write_text(json.dumps(result))
    assert call("--verify", "a") == 0
    capsys.readouterr()
    result["models"][1]["robust"][0]["accuracy"] += 0.125
    (at / "a" / "result.json").write_text(json.dumps(result))
    assert call("--verify", "a") == 1
    assert "NOT verified: " in capsys.readouterr().out
    shutil.rmtree(at / "runs" / "lif")
    assert call("--verify", "a") == 2
    assert (
        capsys.readouterr().err.splitlines()[-1]
        == "error: a is of lif, whose run is not in runs/lif; put it back there"
    )


def test_a_single_attack_and_a_missing_default(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (at / "runs").glob("default-*"):
        shutil.rmtree(folder)
    assert call("runs/lif", "--attack", "pgd", "--gradient", "triangle:1", *FEW, "--output-dir", "b") == 0
    shown = capsys.readouterr()
    assert "is gone: nothing to pair with" in shown.err
    result = json.loads((at / "b" / "result.json").read_text())
    assert set(result["models"][0]["robust"][0]["attacks"]) == {"pgd+triangle:1"}
    assert "mcnemar" not in result["models"][0]


BAD = {
    "no run": ([], "name at least one run"),
    "absent run": (["runs/absent"], "runs/absent holds no run or evaluation (result.json is missing)"),
    "bundle": (["runs/lif", "--bundle", "standart"], "did you mean 'standard'"),
    "attack": (["runs/lif", "--attack", "apgdce"], "did you mean 'apgd-ce'"),
    "both": (["runs/lif", "--attack", "pgd", "--bundle", "quick"], "exclude each other"),
    "gradient": (["runs/lif", "--attack", "pgd", "--gradient", "attan:2"], "atan"),
    "gradient that takes no value": (["runs/lif", "--attack", "pgd", "--gradient", "bptr:2"], "takes no value"),
    "attack of another norm": (["runs/lif", "--attack", "ddn"], "not defined for linf"),
    "gradient alone": (["runs/lif", "--gradient", "atan:2"], "goes with --attack"),
    "negative eps": (["runs/lif", "--eps", "-1/255"], "eps must be 0 or a positive number"),
    "large eps": (["runs/lif", "--eps", "8"], "eps must lie in [0, 1]"),
    "malformed eps": (["runs/lif", "--eps", "8/255,/2"], "malformed"),
    "norm": (["runs/lif", "--norm", "l0"], "choose from: linf, l2"),
    "rule": (["runs/lif", "--rule", "most"], "choose from: majority, expected"),
    "samples": (["runs/lif", "--samples", "21"], "more than the 20 test images"),
    "no samples": (["runs/lif", "--samples", "0"], "--samples must be at least 1"),
    "batch": (["runs/lif", "-b", "0"], "--batch-size"),
    "draws": (["runs/lif", "--draws", "100000000000000000000"], "--draws must lie between 1 and 65536"),
    "slope": (["runs/lif", "--attack", "pgd", "--gradient", "atan:1e300"], "must be a number in (0, 1e+38)"),
    "wide eps": (["runs/lif", "--norm", "l2", "--eps", "1e300"], "eps must lie in [0, 1e+06] in L2"),
    "device": (["runs/lif", "--device", "tpu"], "give cpu, cuda"),
    "twice": (["runs/lif", "runs/lif"], "named twice"),
    "weights": (["runs/lif", "--weights", "absent.pth"], "absent.pth"),
    "evaluation": (["evaluation"], "evaluation holds an evaluation by attack, not a run of train"),
    "verify a run": (["--verify", "runs/lif"], "runs/lif holds a run of train, not an evaluation by attack"),
    "output of a run": (["runs/lif", "--overwrite", "--output-dir", "runs/lif"], "runs/lif holds a config.json that"),
    "verify nothing": (["--verify", "absent"], "absent holds no run or evaluation (result.json is missing)"),
    "verify and run": (["runs/lif", "--verify", "a"], "no runs"),
    "resume nothing": (["runs/lif", "--resume", "--output-dir", "absent"], "no evaluation to resume"),
    "output": (["runs/lif", "--output-dir", "/proc/forbidden/a"], "cannot write"),
    "data of digits": (["runs/lif", "--data-dir", "PICTURES"], "leave --data-dir out"),
    "empty run": (["runs/lif", ""], "'RUN [RUN…]': it is empty; give a value, or leave it out"),
    "empty reuse": (["runs/lif", "--reuse", ""], "'--reuse': it is empty"),
    "only": (["runs/lif", "--only", "lift"], "no model is called lift; there is default, lif"),
}


def test_all_test_images_are_attacked_where_there_are_no_thousand(at: Path) -> None:
    assert call("runs/lif", "--attack", "fgsm", "--eps", "8/255", "--output-dir", "c") == 0
    assert json.loads((at / "c" / "result.json").read_text())["samples"] == 20


def test_a_second_run_of_a_variant_joins_without_attacking_the_first_again(
    at: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = RunConfig.from_dict(json.loads((at / "runs" / "lif" / "result.json").read_text())["config"])
    train_run(replace(again, head_seed=1), at / "runs" / "lif-b")
    assert call("runs/lif", *FEW, "--attack", "fgsm", "--output-dir", "e") == 0
    alone = json.loads((at / "e" / "result.json").read_text())["models"]
    capsys.readouterr()
    assert call("runs/lif", "runs/lif-b", *FEW, "--attack", "fgsm", "--output-dir", "e", "--resume") == 0
    assert "lif: finished before, not attacked again" in capsys.readouterr().err
    both = json.loads((at / "e" / "result.json").read_text())["models"]
    assert [model["name"] for model in both] == ["default", "lif", "lif-lif-b"]
    assert [model["adversarial"]["sha256"] for model in both[:2]] == [m["adversarial"]["sha256"] for m in alone]


def test_names_with_brackets_and_spaces_are_printed_as_they_are(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets are markup to the library that prints, and a shell takes a name with a space for two."""
    shutil.copytree(at / "runs" / "lif", at / "runs" / "[old] lif")
    names = ["runs/lif", "runs/[old] lif"]
    assert call(*names, "--attack", "fgsm", "--eps", "8/255", "--samples", "4", "--output-dir", "to [all]") == 0
    shown = capsys.readouterr()
    assert "lif-[old] lif" in shown.out
    assert shown.out.splitlines()[-1] == "verify: python -m resnet_spiking.attack --verify 'to [all]'"


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(at: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    arguments, expected = BAD[case]
    write_json(at / "evaluation" / "result.json", {"format": FORMAT, "models": []})
    few = [] if {"--samples", "--verify"} & set(arguments) else ["--samples", "4"]
    assert call(*arguments, *few) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("added ")]
    assert len(errors) == 1, errors
    assert errors[0].startswith("error: ")
    assert expected in errors[0]
    assert not (at / "attacks").exists()


def test_runs_on_other_data_cannot_share_images(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(at / "runs" / "lif", at / "runs" / "other")
    result = json.loads((at / "runs" / "other" / "result.json").read_text())
    result["hashes"]["data"] = "0" * 64
    (at / "runs" / "other" / "result.json").write_text(json.dumps(result))
    assert call("runs/lif", "runs/other", "--samples", "4") == 2
    assert "different data" in capsys.readouterr().err
