from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resnet_spiking
from resnet_spiking.data.datasets import default_dir
from resnet_spiking.errors import UserError
from resnet_spiking.storage.provenance import command_line
from resnet_spiking.storage.whereabouts import named, places
from resnet_spiking.terminal import cache_root

PACKAGE = Path(resnet_spiking.__file__).parent


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([str(PACKAGE / "train.py"), "--neuron", "lif"], "python -m resnet_spiking.train --neuron lif"),
        ([str(PACKAGE / "__main__.py"), "train"], "python -m resnet_spiking train"),
        (["mine.py", "--data", "My Pictures"], "python mine.py --data 'My Pictures'"),
        ([""], "python"),
        (
            [str(PACKAGE / "train.py"), "--data-dir", "{home}/My data"],
            "python -m resnet_spiking.train --data-dir ~/'My data'",
        ),
        (["a.py", "--data-dir={home}/data", "--x=1"], "python a.py --data-dir ~/data --x=1"),
        (["a.py", "{home}er/data", "{home}"], "python a.py {home}er/data {home}"),
    ],
)
def test_a_command_names_the_module_and_not_where_home_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    filled = [word.replace("{home}", str(tmp_path)) for word in arguments]
    assert command_line(filled) == expected.replace("{home}", str(tmp_path))


def test_a_user_without_a_home_folder_has_results_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert command_line(["mine.py", "--data=/x y"]) == "python mine.py '--data=/x y'"
    assert named(tmp_path) == str(tmp_path)
    assert places(tmp_path, None, "~/data") == [Path("~/data")]
    for where in (cache_root, default_dir):
        with pytest.raises(UserError, match=r"no home folder .* set XDG_CACHE_HOME"):
            where()


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=8), max_size=4), st.booleans()
)
def test_a_shell_reads_back_the_words(words: list[str], at_home: bool) -> None:
    """A shell expands ``~`` and removes quotes: what is left is what the process was given."""
    words = [f"{Path.home()}/{word}" for word in words] if at_home else words
    line = command_line(["mine.py", *words]).removeprefix("python mine.py")
    show = "import sys; sys.stdout.buffer.write(b'\\0'.join(word.encode() for word in sys.argv[1:]))"
    shown = subprocess.run(["sh", "-c", f'"$0" -c "$1" {line}', sys.executable, show], capture_output=True, check=True)
    assert shown.stdout.decode().split("\0") == (words or [""])
