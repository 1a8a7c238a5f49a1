"""`neurons.parity`: the pairs that must be equal are, those that must not are not, and the command says so."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from neurons import list_neurons
from neurons.parity import CONDITIONS, Comparison, compare, main, table

EQUAL = {
    "zero": ["lif", "snntorch-lif", "norse-lifbox"],
    "zero-attached": ["lif", "snntorch-lif", "norse-lifbox"],
    "subtract": ["lif", "snntorch-lif", "norse-lifbox"],
    "none": ["lif", "snntorch-lif", "norse-lifbox", "paralif-t"],
    "synapse": ["lif", "snntorch-synaptic", "norse-lif"],
    "synapse-none": ["lif", "snntorch-synaptic", "paralif-t"],
    "native": [],
}


def test_every_condition_is_listed() -> None:
    assert EQUAL.keys() == CONDITIONS.keys()


@pytest.mark.parametrize("condition", EQUAL)
def test_equal_pairs_are_exactly_these(condition: str) -> None:
    """ParaLIF's modes st, tt and trt spike where t does, with another gradient; the rest differs in spikes."""
    names = [name for name in list_neurons() if name not in ("spikingjelly-lif", "sinabs-lif")]
    report = compare(names, [condition], steps=60, width=16)
    found = {frozenset((row.first, row.second)) for row in report.comparisons if row.equal}
    assert found == {frozenset(pair) for pair in itertools.combinations(EQUAL[condition], 2)}
    assert all(0 <= row.spike_mismatch <= 1 for row in report.comparisons)


def test_why_a_neuron_takes_no_part() -> None:
    left_out = compare(["relu", "norse-lif", "lif"], ["subtract"]).left_out["subtract"]
    assert set(left_out) == {"relu", "norse-lif"}
    assert "does not spike" in left_out["relu"]
    assert "resets to a value" in left_out["norse-lif"]


def test_equal_needs_spikes_and_gradient() -> None:
    assert Comparison("zero", "a", "b", 0.0, 1.0, 1e-9).equal
    assert not Comparison("zero", "a", "b", 0.01, 1.0, 0.0).equal
    assert not Comparison("zero", "a", "b", 0.0, 0.9, 0.1).equal
    silent = Comparison("zero", "a", "b", 0.0, float("nan"), float("nan"))
    assert not silent.equal
    assert silent.to_dict()["gradient_cosine"] is None


def test_command_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--neuron", "lif", "--neuron", "snntorch-lif", "--condition", "zero", "--steps", "20"]
    assert main([*arguments, "--json", str(tmp_path / "parity.json")]) == 0
    assert "lif | snntorch-lif  yes" in capsys.readouterr().out
    written = json.loads((tmp_path / "parity.json").read_text())
    assert [row["equal"] for row in written["comparisons"]] == [True]
    assert written["versions"]["snntorch"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--neuron", "lift"],
        ["--condition", "zer"],
        ["--steps", "0"],
        ["--width", "few"],
        ["--width", "5000001"],
        ["--seed", "-1"],
        ["--seed", str(2**63)],
        ["--json", "absent/p.json"],
        ["--figure", "absent/p.png"],
        ["--figure", "parity.bmpz"],
    ],
)
def test_bad_input_ends_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    fast = ["--neuron", "lif", "--neuron", "paralif-t", "--condition", "none", "--steps", "2"]
    with pytest.raises(SystemExit) as ended:
        main([*fast, *arguments])
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert arguments[1].removeprefix("parity.") in err


def test_table_has_a_row_a_pair() -> None:
    report = compare(["lif", "snntorch-lif", "norse-lifbox"], ["zero"], steps=10)
    assert sum(" | " in line for line in table(report).splitlines()) == 3
    assert "left out" not in table(report)


def test_table_tells_who_took_no_part(capsys: pytest.CaptureFixture[str]) -> None:
    """By name in a table of all, with the reason where the neurons were named."""
    report = compare(["lif", "relu", "norse-lif"], ["subtract"], steps=10)
    assert "  left out: relu, norse-lif\n" in table(report)
    assert main(["--neuron", "lif", "--neuron", "relu", "--condition", "zero", "--steps", "5"]) == 0
    assert "left out: relu does not spike" in capsys.readouterr().out


def test_a_file_that_cannot_be_written_whole_is_left_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "parity.json"
    target.write_text("before")
    (tmp_path / "parity.json.part").mkdir()
    with pytest.raises(SystemExit) as ended:
        main(["--neuron", "lif", "--condition", "zero", "--steps", "5", "--json", str(target)])
    assert ended.value.code == 2
    assert target.read_text() == "before"


def test_a_figure_without_extension_keeps_its_name(tmp_path: Path) -> None:
    arguments = ["--neuron", "lif", "--neuron", "paralif-t", "--condition", "none", "--steps", "5"]
    assert main([*arguments, "--figure", str(tmp_path / "parity")]) == 0
    assert (tmp_path / "parity").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["parity"]


def test_heat_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An image where matplotlib is, the command that installs it where it is not."""
    import sys

    arguments = ["--neuron", "lif", "--neuron", "snntorch-lif", "--condition", "zero", "--steps", "5"]
    target = tmp_path / "parity.png"
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main([*arguments, "--figure", str(target)]) == 1
    assert "pip install matplotlib" in capsys.readouterr().err
    assert not target.exists()
