from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from resnet_spiking.errors import UserError
from resnet_spiking.reports.digest import Digest
from resnet_spiking.reports.readme import KINDS, render
from resnet_spiking.reports.request import choose, parse_request
from resnet_spiking.reports.results import load_results


def digest_of(made: Any, folder: Path, shown_as: Path = Path("results")) -> Digest:
    return Digest.of(load_results(made.write(folder)), shown_as)


def chosen(digest: Digest, settings: str) -> list[tuple[str, str]]:
    request = parse_request(f"accuracy {settings}", KINDS)
    return [(group.variant, group["epochs"]) for group in choose(digest.groups, request, frozenset())]


def test_a_list_is_asked_for_as_tables_print_it(invented: Any, tmp_path: Path) -> None:
    invented.run("default", 0, range(20))
    for hidden, wrong in (((512, 256), 10), ((256,), 30), ((512,), 40), ((512, 256, 128), 50)):
        invented.run("lif", 0, range(wrong), hidden=hidden)
    digest = digest_of(invented, tmp_path / "results")

    def value(hidden: str) -> str:
        return render(parse_request(f"value column=accuracy variant=lif hidden={hidden}", KINDS), digest)

    printed = ("512,256", "95.00 %"), ("256", "85.00 %"), ("512", "80.00 %"), ("512,256,128", "75.00 %")
    for hidden, accuracy in printed:
        assert value(hidden) == accuracy
        table = render(parse_request(f"accuracy variant=lif hidden={hidden} columns=accuracy", KINDS), digest)
        assert re.findall(r"[0-9.]+ %", table) == [accuracy]
    assert value("512,25?") == "95.00 %"
    # No row has this list: either of its values.
    with pytest.raises(UserError, match="matches 2 rows"):
        value("256,512")


def test_epochs_decide_about_default_too(invented: Any, tmp_path: Path) -> None:
    for number in (5, 10, 15):
        invented.run("default", 0, range(number), default_epochs=number)
    for number, then in ((5, 5), (15, 10)):
        invented.run("lif", 0, range(30), default_epochs=number, spiking_epochs=then)
        invented.rows[-1]["default"]["accuracy"] = 1 - number / 200
    digest = digest_of(invented, tmp_path / "results")
    assert chosen(digest, "epochs=<5>") == [("default", "<5>")]
    assert chosen(digest, "epochs=<5,5>") == [("default", "<5>"), ("lif", "<5,5>")]
    assert chosen(digest, "epochs=<15,*>") == [("default", "<15>"), ("lif", "<15,10>")]
    assert chosen(digest, "epochs=<1?,10> variant=default") == [("default", "<10>"), ("default", "<15>")]
    assert len(chosen(digest, "epochs=*")) == 5
    for wrong in ("<99>", "<1>", "<1,5>", "5"):
        assert chosen(digest, f"epochs={wrong}") == []
        with pytest.raises(UserError, match="matches no row"):
            render(parse_request(f"accuracy variant=default epochs={wrong}", KINDS), digest)


def test_default_must_have_what_shapes_default(invented: Any, tmp_path: Path) -> None:
    """``flip`` and the number of training images are its own, also where they are not set."""
    invented.run("default", 0, range(20))
    invented.run("lif", 0, range(20))
    digest = digest_of(invented, tmp_path / "results")
    assert [name for name, _ in chosen(digest, "train=head num_steps=20 hidden=256")] == ["default", "lif"]
    assert [name for name, _ in chosen(digest, "flip=none train_samples=none")] == ["default", "lif"]
    assert chosen(digest, "flip=False") == chosen(digest, "train_samples=100") == []


def test_run_times_against_several_axes(whole: Any, tmp_path: Path) -> None:
    digest = digest_of(whole, tmp_path / "results")
    both = render(parse_request("scaling axis=T,N", KINDS), digest)
    assert "| neuron | T = 4 |" in both
    assert "| neuron | N = 64 |" in both
    with pytest.raises(UserError, match=r"no scaling\.csv with the axis 'M'"):
        render(parse_request("scaling axis=T,M", KINDS), digest)


@pytest.mark.parametrize(
    "text",
    [
        "accuracy dataset=cifar10",
        "accuracy 'variant=lif'",
        "accuracy variant='l?f' dataset=\"cif*\"",
        "accuracy dataset=cif*,$HOME",
        "accuracy dataset=cif*,`pwd`",
        "accuracy dataset=cif*,a\\\\",
    ],
)
def test_the_printed_command_is_what_a_shell_reads(invented: Any, tmp_path: Path, text: str) -> None:
    invented.run("default", 0, range(20))
    invented.run("lif", 0, range(20))
    digest = digest_of(invented, tmp_path / "results", Path("my studies/it's $HOME"))
    printed = render(parse_request(text, KINDS), digest)
    command = printed[printed.index("<sub>`python -m ") + 16 : printed.rindex("`</sub>")]
    said = subprocess.run(["sh", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == ["resnet_spiking.report", "my studies/it's $HOME", "--table", text]
