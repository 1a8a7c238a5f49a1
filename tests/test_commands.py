from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

SMALL = ["--epochs", "1,1", "--train-samples", "64", "--test-samples", "40", "--image-size", "32", "-T", "4"]


def run(*arguments: str | Path, cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(cwd / "cache"), "COLUMNS": "160"}
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout)


def test_train_then_evaluate_in_another_process(tmp_path: Path) -> None:
    trained = run("resnet_spiking.train", "--neuron", "snntorch-lif", *SMALL, "--output-dir", "runs/one", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "Default" in trained.stdout
    assert "spikes: yes" in trained.stdout
    result = json.loads((tmp_path / "runs" / "one" / "result.json").read_text())
    assert f"{result['test']['accuracy']:.2%}" in trained.stdout
    assert result["provenance"]["versions"]["torch"]
    verified = run("resnet_spiking.evaluate", "runs/one", cwd=tmp_path)
    assert (verified.returncode, verified.stdout.splitlines()[-1]) == (0, "verified")
    result["test"]["accuracy"] += 0.01
    (tmp_path / "runs" / "one" / "result.json").write_text(json.dumps(result))
    doctored = run("resnet_spiking.evaluate", "runs/one", cwd=tmp_path)
    assert (doctored.returncode, doctored.stdout.splitlines()[-1]) == (1, "NOT verified: accuracy")


@pytest.mark.parametrize(
    ("option", "epochs", "folder", "said"),
    [
        ([], "4000,1", "default-*", "the same command and --resume --output-dir runs/one"),
        (["--overwrite"], "4000,1", "default-*", "runs/one is as it was, and the same command continues"),
        (
            ["--overwrite"],
            "1,4000",
            "one",
            "the same command, --resume in place of --overwrite, and --output-dir runs/one",
        ),
    ],
)
def test_ctrl_c_saves_and_says_how_to_resume(
    tmp_path: Path, option: list[str], epochs: str, folder: str, said: str
) -> None:
    run = [*SMALL, "--epochs", epochs, "--output-dir", "runs/one", *option]
    command = [sys.executable, "-m", "resnet_spiking.train", *run]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 100
        while not list(tmp_path.glob(f"runs/{folder}/last.ckpt")) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        errors = process.stderr.read()
    assert process.returncode == 130
    assert said in errors
    assert "Traceback" not in errors


BAD = {
    "neuron": (["--neuron", "snntorch-lip"], "did you mean 'snntorch-lif'"),
    "dataset": (["--dataset", "cifar-10"], "did you mean 'cifar10'"),
    "backbone": (["--backbone", "resnet81"], "did you mean 'resnet18'"),
    "encoding": (["--encoding", "latency"], "choose from: direct, rate"),
    "surrogate": (["--surrogate", "attan"], "atan"),
    "epochs": (["--epochs", "5"], "X epochs of Default"),
    "hidden": (["--hidden", "wide"], "256 or 512,256"),
    "steps": (["-T", "0"], "--num-steps"),
    "batch": (["-b", "0"], "--batch-size"),
    "depth": (["--freeze-depth", "5"], "between 0 and 4"),
    "number": (["--lr", "fast"], "not a valid float"),
    "option": (["--neurn", "x"], "--neuron"),
    "folder": (["--dataset", "folder", "--weights", "bundled"], "needs --data-dir"),
    "weights": (["--weights", "absent.pth"], "--weights bundled"),
    "device": (["--device", "tpu"], "give cpu, cuda"),
    "output": (["--output-dir", "/proc/forbidden/run"], "cannot write"),
    "reset": (["--neuron", "lif", "--reset", "halve"], "choose from: zero, subtract, none"),
    "slope": (["--neuron", "norse-lif", "--alpha", "0.5", "--slope", "nan"], "--slope"),
    "equation": (["--neuron", "norse-lif", "--beta", "1"], "snntorch-lif and lif can do it"),
    "places": (["--data-dir", "PICTURES"], "leave --data-dir out"),
    "side": (["--image-size", "0"], "--image-size must lie between"),
    "mixing": (["--mixup", "nan"], "--mixup must be 0 or a positive number"),
    "decay": (["--weight-decay", "inf"], "--weight-decay must be 0 or a positive number"),
    "cache": (["--cache-dir", "here", "--no-cache"], "contradict each other"),
    "long name": (["--output-dir", "x" * 300], "File name too long"),
    "threshold": (["--neuron", "lif", "--threshold", "1e39"], "threshold must be a number in (0, 3.4"),
    "width": (["--hidden", "99999999999999"], "--hidden must lie between 1 and 1000000"),
    "temperature": (["--distill", "1", "--distill-temperature", "1e-40"], "must lie between 0.001 and 1000"),
    "numbered cpu": (["--device", "cpu:3"], "give cpu, cuda or cuda:N"),
    "empty output": (["--output-dir", ""], "Invalid value for '--output-dir': it is empty"),
    "empty data": (["--data-dir="], "'--data-dir': it is empty"),
    "empty cache": (["--cache-dir", ""], "'--cache-dir': it is empty"),
    "empty weights": (["--weights", ""], "'--weights': it is empty"),
    "native": (["--mode", "native", "--reset", "zero"], "does not reach snntorch-lif in native mode"),
    "target": (["--dataset", "folder", "--data-dir", "cifar", "--weights", "bundled"], "own labels"),
}


def test_a_link_that_leads_to_itself_and_a_home_behind_an_equals_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from resnet_spiking.train import main

    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SystemExit) as stopped:
        main(["--output-dir", str(tmp_path / "loop" / "run")])
    (line,) = capsys.readouterr().err.splitlines()
    assert (stopped.value.code, line.startswith("error: cannot use ")) == (2, True)
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        main(["--output-dir=~/file"])
    assert capsys.readouterr().err == f"error: --output-dir {tmp_path / 'file'} is a file; name a folder\n"


def test_options_without_effect_and_weights_are_told_before_pictures_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from resnet_spiking.train import main

    monkeypatch.chdir(tmp_path)
    arguments = ["--dataset", "folder", "--data-dir", "absent", "--weights", "typo.pth", "--neuron", "none"]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--beta", "0.5", "--momentum", "0.5", "--epochs", "1,1"])
    assert stopped.value.code == 2
    *notes, error = capsys.readouterr().err.splitlines()
    assert notes == ["--momentum has no effect with --optimizer adamw", "--beta has no effect with --neuron none"]
    assert error.startswith("error: --weights 'typo.pth' is neither")


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    from resnet_spiking.network.weights import CIFAR10_CLASSES
    from resnet_spiking.train import main

    arguments, expected = BAD[case]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if case == "target":
        for split in ("train", "test"):
            for name in CIFAR10_CLASSES:
                (tmp_path / "cifar" / split / name).mkdir(parents=True)
                Image.new("RGB", (8, 8)).save(tmp_path / "cifar" / split / name / "0.png")
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    lines = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code == 2
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert expected in lines[0]
    assert not list(tmp_path.glob("runs/*/result.json"))


@pytest.mark.parametrize("module", ["resnet_spiking.__main__", "resnet_spiking.study"])
def test_a_group_alone_shows_its_help(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(module).main([])
    shown = capsys.readouterr()
    assert not stopped.value.code
    assert shown.out.startswith("Usage: ")
    assert "Commands:" in shown.out
    assert not shown.err


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("resnet_spiking.evaluate", ["absent"]),
        ("resnet_spiking.__main__", ["evaluate", "absent"]),
        ("resnet_spiking.encoder", ["--data-dir", "absent", "--output", "absent/e.safetensors"]),
        ("resnet_spiking.encoder", ["--data-dir", "absent", "--output", "e.safetensors"]),
    ],
)
def test_what_is_absent_is_named_in_one_line(
    tmp_path: Path,
    module: str,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(module).main(arguments)
    errors = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code == 2
    assert len(errors) == 1, errors
    assert "absent" in errors[0]


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--output", "e.safetensors", "PICTURES has 2 training images, fewer than a batch of 128; give more"),
        ("--output", "/proc/e.safetensors", "--output /proc/e.safetensors: cannot write there"),
        ("--seed", str(2**64), "is not in the range"),
    ],
)
def test_the_encoder_refuses_at_once_what_it_would_fail_at_in_the_end(
    tmp_path: Path,
    option: str,
    value: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from PIL import Image

    from resnet_spiking.encoder import main

    monkeypatch.chdir(tmp_path)
    for place in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / "PICTURES" / place).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "PICTURES" / place / "0.png")
    with pytest.raises(SystemExit) as stopped:
        main(["--data-dir", "PICTURES", "--output", "e.safetensors", option, value])
    (line,) = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2
    assert said in line
    assert [path.name for path in tmp_path.iterdir()] == ["PICTURES"]


@pytest.mark.parametrize(
    "module",
    ["resnet_spiking", *(f"resnet_spiking.{name}" for name in ("encoder", "train", "evaluate", "attack"))],
)
def test_help_imports_nothing_heavy(tmp_path: Path, module: str) -> None:
    script = (
        "import runpy, sys\n"
        f"sys.argv = ['x', '--help']\n"
        "try:\n"
        f"    runpy.run_module({module!r}, run_name='__main__')\n"
        "except SystemExit as done:\n"
        "    assert not done.code, done.code\n"
        "heavy = {'torch', 'numpy', 'torchvision', 'snntorch', 'norse', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


def test_the_encoder_refuses_images_that_it_could_not_shift(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from resnet_spiking.data import folder
    from resnet_spiking.data.images import Dataset, ImageSet
    from resnet_spiking.encoder import main

    split = ImageSet(torch.zeros(128, 3, 4, 5, dtype=torch.uint8), torch.arange(128) % 2, ("a", "b"), "x")
    monkeypatch.setattr(folder, "load_folder", lambda *_, **__: Dataset("folder", split, split, flip=True))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["--data-dir", ".", "--output", "e.safetensors"])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: . has images of 4 pixels, and training shifts them by up to 4; give larger ones"


def test_a_letter_that_the_terminal_lacks_is_no_failure(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "OMP_NUM_THREADS": "1"}
    shown = subprocess.run(
        [sys.executable, "-m", "resnet_spiking.train", "--help"], cwd=tmp_path, env=environment, capture_output=True
    )
    assert shown.returncode == 0
    assert b"train/<class>/?, test/<class>/?" in shown.stdout
