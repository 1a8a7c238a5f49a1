"""`python -m neurons`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from neurons import NEURONS, make_neuron
from neurons.__main__ import main
from neurons.kernels.threads import scheduler
from neurons.names import entries


def test_lists_every_name_without_torch() -> None:
    code = "import sys; from neurons.__main__ import main; main(['--names']); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()][: len(NEURONS)] == list(NEURONS)


def test_without_names_all_are_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for name in NEURONS:
        described = make_neuron(name).describe()
        assert f"{name} {entries()[name].summary} (shared)" in text
        for shown in (described["equation"], f"{described['library']} {described['version']}"):
            assert shown in text
        assert all(f"{parameter}={value}" in text for parameter, value in described["parameters"].items())


def test_describes_named_neurons(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lif", "snntorch-lif", "--mode", "native", "--json"]) == 0
    ours, theirs = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (ours["name"], ours["library"]) == ("lif", "neurons")
    assert (ours["backend"], ours["threads"]) == ("numba", scheduler())
    assert theirs["threads"] is None
    assert (theirs["mode"], theirs["parameters"]["reset"]) == ("native", "subtract")


def test_unknown_name_ends_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["paralif-tb"])
    assert stopped.value.code == 2
    assert "Did you mean" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "library"), [("snntorch-lif", "snntorch"), ("norse-lif", "norse")])
def test_missing_library_is_named(
    name: str, library: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # what Python does to an import that must fail
    assert main([name]) == 1
    assert f"pip install {library}" in capsys.readouterr().out
    assert main([]) == 0  # in the whole list its absence is told, and is no fault
    listed = capsys.readouterr().out
    assert f"pip install {library}" in listed
    assert "lif  our multi-step LIF" in listed


def test_a_reader_that_leaves_early_ends_it_in_silence() -> None:
    arguments = [sys.executable, "-c", "from neurons.arguments import run; run(lambda: print('x' * 10**6))"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1
