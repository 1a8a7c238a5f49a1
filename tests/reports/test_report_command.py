from __future__ import annotations

import csv
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from resnet_spiking.report import main


def run(*arguments: str | Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return int(stopped.value.code or 0), out, err


def test_a_report_beside_the_results(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(published.parent, capsys=capsys)
    assert code == 0
    report = published.parent / "report"
    assert str(report / "report.html") in out
    assert f"python -m resnet_spiking.report {published.parent}" in (report / "report.html").read_text()
    assert (report / "tables" / "accuracy.csv").exists()
    assert (report / "figures" / "robustness.svg").exists()


def test_only_a_part(published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, _ = run(published, "--only", "dataset=fashion-mnist", "--output-dir", tmp_path / "part", capsys=capsys)
    assert code == 0
    assert "cifar10" not in (tmp_path / "part" / "tables" / "accuracy.csv").read_text()


def test_only_a_part_of_runs_and_attacks(whole: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label, dataset in (("on-cifar", "cifar10"), ("on-fashion", "fashion-mnist")):
        whole.attack(label, ("default", "lif", "relu"))
        for model in whole.attacks[label]["models"]:
            wanted = (model["variant"], 0, dataset)
            row = next(row for row in whole.rows if (row["variant"], row["seed"], row["dataset"]) == wanted)
            model["run"] = f"runs/{row['run']}"
    whole.rows[0]["warnings"] = ["a warning of a run on cifar10"]
    results = whole.write(tmp_path / "results")
    only = "dataset=fashion-mnist variant=default,lif"
    code, _, _ = run(results, "--only", only, "--output-dir", tmp_path / "part", capsys=capsys)
    assert code == 0

    def table(name: str) -> list[dict[str, str]]:
        return list(csv.DictReader((tmp_path / "part" / "tables" / f"{name}.csv").read_text().splitlines()))

    assert sorted((row["dataset"], row["variant"], row["seed"]) for row in table("runs")) == [
        ("fashion-mnist", variant, seed) for variant in ("default", "lif") for seed in "012"
    ]
    for name in ("robustness", "trust"):
        rows = table(name)
        assert {row["result"] for row in rows} == {"on-fashion"}
        assert {row["model"] for row in rows} == {"default", "lif"}
    page = (tmp_path / "part" / "report.html").read_text()
    assert "6 finished runs in 2 settings: 1 neuron beside Default" in page
    assert "on resnet18 and fashion-mnist, 3 seeds, 1 attack result." in page
    for other in ("on-cifar", "relu", "a warning of a run on cifar10"):
        assert other not in page


def test_accuracies_that_no_prediction_confirms_are_named(
    whole: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = whole.write(tmp_path / "whole")
    assert run(results, "--table", "accuracy", capsys=capsys)[2] == ""
    bare = whole.rows[0]
    del whole.arrays[bare["key"]]
    results = whole.write(tmp_path / "bare")
    code, _, err = run(results, "--table", "accuracy", capsys=capsys)
    assert code == 0
    assert err == (
        f"{results}: not checked, as predictions.npz lacks their predictions or labels: the accuracies of "
        f"{bare['run']}\n"
    )


def test_one_table_on_standard_output(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(published, "--table", "accuracy dataset=fashion-mnist columns=variant,n", capsys=capsys)
    assert code == 0
    assert "| Default | 3 |" in out


def test_update_then_check_then_a_changed_digit(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = published.parent / "README.md"
    readme.write_text("<!-- report: accuracy dataset=fashion-mnist columns=variant,n -->\n<!-- /report -->\n")
    assert run("--update", readme, capsys=capsys)[0] == 0
    code, out, _ = run("--check", readme, published, capsys=capsys)
    assert (code, "1 blocks agree" in out) == (0, True)
    readme.write_text(readme.read_text().replace("| Default | 3 |", "| Default | 4 |"))
    code, out, err = run("--check", readme, capsys=capsys)
    assert code == 1
    assert f"{readme}:6: " in out
    assert "row Default, n: written 4, the results give 3" in out
    assert "--update" in err


def test_several_files_are_checked_and_written_in_one_go(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "README.md", tmp_path / "docs" / "results.md"]
    files[1].parent.mkdir()
    for file in files:
        file.write_text("<!-- report: accuracy dataset=fashion-mnist columns=variant,n -->\n<!-- /report -->\n")
    named = [part for file in files for part in ("--check", file)]
    code, _, err = run(*named, published, capsys=capsys)
    assert (code, f"--update {files[0]} --update {files[1]}" in err) == (1, True)
    assert run("--update", files[1], published, capsys=capsys)[0] == 0
    code, out, err = run(*named, published, capsys=capsys)
    assert code == 1
    assert f"{files[1]}: 1 blocks agree" in out
    assert f"--update {files[0]}" in err
    assert str(files[1]) not in err
    assert run("--update", files[0], "--update", files[1], published, capsys=capsys)[0] == 0
    assert run(*named, published, capsys=capsys)[0] == 0


def test_commands_to_type_name_files_with_spaces(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "READ ME's.md"
    file.write_text("<!-- report: accuracy dataset=fashion-mnist columns=variant,n -->\n<!-- /report -->\n")
    code, _, err = run("--check", file, published, capsys=capsys)
    assert code == 1
    assert shlex.split(err.partition("write with ")[2]) == ["--update", str(file)]


BAD = {
    "nothing": ([], "name a study folder"),
    "absent": (["absent"], "absent is not a folder"),
    "empty": (["."], "manifest.json is missing"),
    "both": (["RESULTS", "--table", "accuracy", "--check", "README.md"], "give one of them"),
    "part": (["RESULTS", "--table", "accuracy", "--parquet"], "belong to a whole report"),
    "request": (["RESULTS", "--table", "acuracy"], "did you mean 'accuracy'"),
    "setting": (["RESULTS", "--only", "datset=x"], "did you mean 'dataset'"),
    "part that is none": (["RESULTS", "--only", "variant=nonexistent"], "'report variant=nonexistent' matches no row"),
    "readme": (["RESULTS", "--check", "absent.md"], "absent.md cannot be read"),
    "output": (["RESULTS", "--output-dir", "/proc/forbidden"], "cannot write"),
    "option": (["RESULTS", "--parket"], "--parquet"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(
    published: Path, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, expected = BAD[case]
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    code, _, err = run(*(str(published) if a == "RESULTS" else a for a in arguments), capsys=capsys)
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("error: ")
    assert expected in err
    assert not list(empty.iterdir())


def test_parquet_without_pyarrow_says_what_to_install(
    published: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, err = run(published, "--parquet", capsys=capsys)
    assert (code, "resnet_spiking[parquet]" in err) == (2, True)


def test_neither_help_nor_report_imports_torch(published: Path) -> None:
    cases: list[tuple[list[str], set[str]]] = [
        (["--help"], {"torch", "numpy", "scipy", "PIL"}),
        ([str(published)], {"torch"}),
    ]
    for arguments, heavy in cases:
        script = (
            "import runpy, sys\n"
            f"sys.argv = ['x', *{arguments!r}]\n"
            "try:\n"
            "    runpy.run_module('resnet_spiking.report', run_name='__main__')\n"
            "except SystemExit as done:\n"
            "    assert not done.code, done.code\n"
            f"heavy = {heavy} & set(sys.modules)\n"
            "assert not heavy, heavy\n"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_a_file_is_checked_from_anywhere(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command beneath a table names the results as they are seen from the folder that holds both."""
    readme = published.parent / "docs" / "R.md"
    readme.parent.mkdir()
    readme.write_text("<!-- report: accuracy dataset=fashion-mnist columns=variant,n -->\n<!-- /report -->\n")
    monkeypatch.chdir(published.parent)
    assert run("--update", "docs/R.md", "results", capsys=capsys)[0] == 0
    assert "python -m resnet_spiking.report results --table" in readme.read_text()
    monkeypatch.chdir(tmp_path)
    assert run("--check", readme, published, capsys=capsys)[0] == 0
