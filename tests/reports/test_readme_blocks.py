from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resnet_spiking.errors import UserError
from resnet_spiking.reports.digest import Digest
from resnet_spiking.reports.readme import check_readme, update_readmes
from resnet_spiking.reports.results import load_results

VALID = "<!-- report: accuracy -->\n<!-- /report -->"
TEXT = """# Study

<!-- report: accuracy dataset=cifar10 weights=imagenet num_steps=20 encoding=direct columns=variant,n,accuracy,p -->
<!-- /report -->

The best of three reach <!-- report: value column=accuracy variant=lif dataset=fashion-mnist --><!-- /report --> there.

<!-- report: robustness -->
old
<!-- /report -->

<!-- report: figure name=robustness file=docs/robustness.svg -->
<!-- /report -->

Write `<!-- report: accuracy -->` to begin one:

```markdown
<!-- report: nothing -->
```

| a table | of something else |
|---|---:|
| parity | 0.345 |
"""


@pytest.fixture
def digest(whole: Any, tmp_path: Path) -> Digest:
    return Digest.of(load_results(whole.write(tmp_path / "results")), Path("results"))


@pytest.fixture
def readme(tmp_path: Path, digest: Digest) -> Path:
    path = tmp_path / "README.md"
    path.write_text(TEXT)
    assert update_readmes([path], digest) == {path: 4}
    return path


def test_what_update_writes_check_accepts(readme: Path, digest: Digest) -> None:
    found = check_readme(readme, digest)
    assert (found.blocks, found.differences) == (4, [])
    text = readme.read_text()
    lif = next(g for g in digest.groups if g.variant == "lif" and g["dataset"] == "fashion-mnist")
    assert lif.accuracy.std is not None
    figure = f"{100 * lif.accuracy.mean:.2f} ± {100 * lif.accuracy.std:.2f} %"
    assert (
        f"reach <!-- report: value column=accuracy variant=lif dataset=fashion-mnist -->{figure}<!-- /report -->"
        in text
    )
    assert "old" not in text
    assert '<sub>`python -m resnet_spiking.report results --table "robustness"`</sub>' in text
    assert "![Robustness curves: linf linf, bundle standard, 200 test images](docs/robustness.svg)" in text
    assert (readme.parent / "docs" / "robustness.svg").read_text().startswith("<svg")
    before = readme.read_bytes()
    update_readmes([readme], digest)
    assert readme.read_bytes() == before


def test_tables_without_a_mark_are_listed(readme: Path, digest: Digest) -> None:
    lines = readme.read_text().splitlines()
    assert [lines[number - 1] for number in check_readme(readme, digest).unmarked] == ["|---|---:|"]


def test_every_changed_digit_is_found_with_its_row_and_column(readme: Path, digest: Digest) -> None:
    text = readme.read_text()
    changed = 0
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("| lif"):
            continue
        for place, letter in enumerate(line):
            if not letter.isdigit():
                continue
            lines = text.splitlines()
            lines[number - 1] = line[:place] + str((int(letter) + 1) % 10) + line[place + 1 :]
            readme.write_text("\n".join(lines) + "\n")
            (difference,) = check_readme(readme, digest).differences
            assert difference.line == number
            assert difference.what.startswith("row lif, ")
            changed += 1
    assert changed > 8


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("**", "", "the results give **"),
        ("<sub>`", "<sub>`x", "the results give '<sub>"),
        ("| Default | 3 |", "| Default | 30 |", "row Default, n: written 30, the results give 3"),
        ("| relu |", "| lif |\n| relu |", "not in the results: '| lif |'"),
        ("| relu | 3 |", "relu 3 |", "written 'relu 3"),
        ("[86.0, 93.0]", "[86.0, 94.0]", "clean"),
    ],
)
def test_any_other_change_is_found(readme: Path, digest: Digest, old: str, new: str, expected: str) -> None:
    text = readme.read_text()
    assert old in text
    readme.write_text(text.replace(old, new, 1))
    differences = check_readme(readme, digest).differences
    assert any(expected in difference.what for difference in differences), differences


def test_a_changed_value_in_a_sentence_is_found(readme: Path, digest: Digest) -> None:
    text = readme.read_text()
    start = text.index("dataset=fashion-mnist -->") + len("dataset=fashion-mnist -->")
    readme.write_text(text[:start] + "99" + text[start + 2 :])
    (difference,) = check_readme(readme, digest).differences
    assert "written '99." in difference.what


def test_a_changed_or_missing_drawing_is_found(readme: Path, digest: Digest) -> None:
    drawing = readme.parent / "docs" / "robustness.svg"
    drawing.write_text(drawing.read_text().replace("90", "91"))
    assert [d.what for d in check_readme(readme, digest).differences] == [
        "docs/robustness.svg differs from what the results give"
    ]
    drawing.unlink()
    assert [d.what for d in check_readme(readme, digest).differences] == ["docs/robustness.svg is missing"]


def test_a_drawing_of_one_of_several_attack_results(whole: Any, tmp_path: Path) -> None:
    whole.attack("other", ("default", "relu"))
    digest = Digest.of(load_results(whole.write(tmp_path / "results")), Path("results"))
    path = tmp_path / "README.md"
    path.write_text("<!-- report: figure name=robustness file=one.svg result=oth* -->\n<!-- /report -->\n")
    update_readmes([path], digest)
    drawing = (tmp_path / "one.svg").read_text()
    assert "relu" in drawing
    assert "snntorch-lif" not in drawing


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no block at all", "no block to check"),
        ("\n<!-- report: accuracy -->\nno end", "line 2: the block 'accuracy' has no end"),
        (
            "<!-- report: accuracy -->\n<!-- report: trust --><!-- /report -->",
            "line 1: the block 'accuracy' has no end",
        ),
        ("\n\n<!-- report: acuracy -->\n<!-- /report -->", "line 3: .*did you mean 'accuracy'"),
        ("<!-- report: accuracy dataset=mnist --><!-- /report -->", "matches no row"),
        ("<!-- report: figure name=accuracy --><!-- /report -->", "file=PATH.svg"),
        ("<!-- report: figure name=acuracy file=a.svg --><!-- /report -->", "names: accuracy"),
        ("<!-- report: figure name=robustness file=a.svg result=linff --><!-- /report -->", "did you mean 'linf'"),
        ("<!-- report: figure name=robustness file=../a.svg --><!-- /report -->", "below the README"),
        ("<!-- report: figure name=robustness file=/a.svg --><!-- /report -->", "below the README"),
        (
            f"{VALID} then <!-- report:value column=accuracy -->99 %<!-- /report -->",
            "line 2: .*begins or ends no",
        ),
        (f"{VALID} then <!-- Report: accuracy -->99 %", "line 2: .*begins or ends no"),
        (f"{VALID} then <!-- report: accuracy\ncolumns=n -->99 %", "line 2: .*begins or ends no"),
        (f"{VALID} then <!-- /report -->", "line 2: .*begins or ends no"),
    ],
)
def test_bad_marks_are_refused_and_nothing_is_written(tmp_path: Path, digest: Digest, text: str, expected: str) -> None:
    path = tmp_path / "README.md"
    path.write_text(text)
    for function in (check_readme, lambda path, digest: update_readmes([path], digest)):
        with pytest.raises(UserError, match=expected):
            function(path, digest)
    assert path.read_text() == text


def test_one_file_that_cannot_be_derived_leaves_the_others_as_they_are(tmp_path: Path, digest: Digest) -> None:
    good, bad = tmp_path / "good.md", tmp_path / "bad.md"
    good.write_text("<!-- report: accuracy -->\n<!-- /report -->\n")
    bad.write_text("nothing marked")
    with pytest.raises(UserError, match="has no block"):
        update_readmes([good, bad], digest)
    assert good.read_text() == "<!-- report: accuracy -->\n<!-- /report -->\n"


def test_two_blocks_do_not_draw_into_one_file(tmp_path: Path, digest: Digest) -> None:
    path = tmp_path / "README.md"
    panels = ("fashion-mnist", "none")
    text = "".join(
        f"<!-- report: figure name=accuracy panel={panel} file=a.svg -->\n<!-- /report -->\n" for panel in panels
    )
    path.write_text(text)
    with pytest.raises(UserError, match=r"line 3: a\.svg is another block's file too"):
        update_readmes([path], digest)
    assert not (tmp_path / "a.svg").exists()


def test_a_link_stays_a_link_and_the_mode_stays(tmp_path: Path, digest: Digest) -> None:
    (tmp_path / "elsewhere").mkdir()
    path, target = tmp_path / "README.md", tmp_path / "elsewhere" / "R.md"
    target.write_text("<!-- report: accuracy -->\n<!-- /report -->\n")
    target.chmod(0o640)
    path.symlink_to(target)
    update_readmes([path], digest)
    assert path.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert check_readme(target, digest).differences == []


def test_other_comments_are_nobodys_business(tmp_path: Path, digest: Digest) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"<!-- report bugs at example.org -->\n<!-- Report template v2 -->\n{VALID}\n")
    assert update_readmes([path], digest) == {path: 1}


def test_code_hides_its_marks_and_no_others(tmp_path: Path, digest: Digest) -> None:
    path = tmp_path / "README.md"
    example = "<!-- report: accuracy -->\n<!-- /report -->"
    fenced = "- in a list\n\n  ```\n  " + example.replace("\n", "\n  ") + "\n  ```\n"
    path.write_text(f"{fenced}\n```code``` begins no fence\n\n{example}\n")
    assert update_readmes([path], digest) == {path: 1}
    assert path.read_text().startswith(fenced)


@pytest.mark.parametrize("file", ["R.md/x.svg", "folder.svg"])
def test_a_drawing_that_cannot_be_written_is_named(tmp_path: Path, digest: Digest, file: str) -> None:
    path = tmp_path / "R.md"
    path.write_text(f"<!-- report: figure name=robustness file={file} -->\n<!-- /report -->\n")
    (tmp_path / "folder.svg").mkdir()
    before = path.read_bytes()
    with pytest.raises(UserError, match=f"{file} cannot be written .*; name a file in a folder") as stopped:
        update_readmes([path], digest)
    assert "\n" not in str(stopped.value)
    assert path.read_bytes() == before
    assert [difference.what for difference in check_readme(path, digest).differences][-1] == f"{file} is missing"


def test_line_ends_stay_as_they_are(tmp_path: Path, digest: Digest) -> None:
    path = tmp_path / "README.md"
    path.write_bytes(TEXT.replace("\n", "\r\n").encode() + b"one line of another kind\n")
    update_readmes([path], digest)
    written = path.read_bytes()
    assert written.replace(b"\r\n", b"").count(b"\n") == 1
    assert written.endswith(b"| parity | 0.345 |\r\none line of another kind\n")
    assert check_readme(path, digest).differences == []
    update_readmes([path], digest)
    assert path.read_bytes() == written


def test_a_missing_readme_is_named(tmp_path: Path, digest: Digest) -> None:
    with pytest.raises(UserError, match=r"absent\.md cannot be read"):
        check_readme(tmp_path / "absent.md", digest)
