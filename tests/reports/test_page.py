from __future__ import annotations

import base64
import csv
import io
import itertools
import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from resnet_spiking.reports.digest import Digest
from resnet_spiking.reports.figures.catalogue import FIGURES
from resnet_spiking.reports.page import make_page
from resnet_spiking.reports.results import load_results
from resnet_spiking.reports.table import Table, to_json
from resnet_spiking.reports.tables.accuracy import accuracy_table
from resnet_spiking.reports.write import write_report

VOID = {"meta", "img", "br", "input", "link"}


class Page(HTMLParser):
    """Start tags in order with attributes and the path to them, headings, text; complains when tags do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str], tuple[str, ...]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice"
        self.tags.append((tag, {name: value or "" for name, value in attrs}, tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}, tuple(self.open)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((tuple(self.open), data))

    def all(self, name: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes, _ in self.tags if tag == name]


@pytest.fixture
def digest(published: Path) -> Digest:
    return Digest.of(load_results(published), published)


@pytest.fixture
def page(digest: Digest) -> Page:
    return Page(make_page(digest))


def test_nothing_is_fetched(digest: Digest, page: Page) -> None:
    addresses = [
        value
        for _, attributes, _ in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action", "poster", "srcset", "data", "formaction")
    ]
    assert addresses
    assert all(address.startswith(("#", "data:")) for address in addresses)
    code = "".join(text for path, text in page.texts if path[-1:] in (("style",), ("script",)))
    assert not re.search(r"url\(|@import|https?:|fetch\(|XMLHttpRequest|import\(", code)
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert "default-src 'none'" in policy


def test_every_picture_has_words(page: Page) -> None:
    pictures = page.all("svg")
    assert len(pictures) > 20
    assert all(svg["role"] == "img" and len(svg["aria-label"]) > 20 for svg in pictures)
    assert page.all("img")
    assert all(len(img["alt"]) > 20 for img in page.all("img"))


def test_headings_are_in_order_and_links_arrive(page: Page) -> None:
    levels = [int(tag[1]) for tag, _, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    names = [attributes["id"] for _, attributes, _ in page.tags if "id" in attributes]
    assert len(names) == len(set(names))
    targets = [a["href"][1:] for a in page.all("a") if a["href"].startswith("#")]
    assert {"accuracy-table", "robustness", "trust", "training", "about"} <= set(targets)
    assert set(targets) <= set(names)


def test_controls_and_tables_are_labelled(page: Page) -> None:
    for tag, attributes, path in page.tags:
        if tag in ("input", "select"):
            assert "label" in path
        if tag == "th":
            assert attributes["scope"] in ("row", "col")
        if tag == "html":
            assert attributes["lang"] == "en"
    assert page.all("table")
    assert len(page.all("caption")) == len(page.all("table"))


def downloads(page: Page) -> dict[str, str]:
    return {
        a["download"]: base64.b64decode(a["href"].partition("base64,")[2]).decode()
        for a in page.all("a")
        if "download" in a
    }


def test_the_data_in_the_page_are_the_rows(digest: Digest, page: Page) -> None:
    files = downloads(page)
    records = accuracy_table(digest.groups).records
    assert json.loads(files["accuracy-table.json"]) == records
    read = list(csv.DictReader(io.StringIO(files["accuracy-table.csv"])))
    assert [(row["variant"], float(row["accuracy_mean"])) for row in read] == [
        (group.variant, group.accuracy.mean) for group in digest.groups
    ]
    for name, draw in FIGURES.items():
        assert json.loads(files[f"{name}.json"]) == json.loads(to_json(draw(digest).records))


def test_the_table_shows_every_group_with_values_to_sort_by(digest: Digest, page: Page) -> None:
    body = [
        attributes
        for tag, attributes, path in page.tags
        if tag == "td" and attributes.get("data-label") == "test accuracy"
    ]
    assert [float(cell["data-value"]) for cell in body] == pytest.approx(
        [group.accuracy.mean for group in digest.groups]
    )


def test_each_section_names_its_commands(digest: Digest, page: Page) -> None:
    codes = {text for path, text in page.texts if path[-1:] == ("code",)}
    assert {digest.command, digest.results.command, digest.results.attacks["linf"]["command"]} <= codes


def test_footnotes_say_which_statistics(page: Page) -> None:
    text = " ".join(text for _, text in page.texts)
    for words in ("sample standard deviation", "Student's t", "Wilson's interval", "McNemar", "Not corrected"):
        assert words in text


def test_text_from_results_is_escaped(whole: Any, tmp_path: Path) -> None:
    whole.name = "<script>alert(1)</script>"
    name = next(name for name in whole.arrays if name.startswith("classes-"))
    whole.arrays[name] = json.dumps(["<b>", *"abcdefghi"]).encode()
    import numpy as np

    whole.arrays[name] = np.frombuffer(whole.arrays[name], np.uint8)
    whole.rows[0]["warnings"] = ["layer 1 <i>spikes</i>"]
    page = Page(make_page(Digest.of(load_results(whole.write(tmp_path / "results")), tmp_path)))
    assert not page.all("b")
    assert not page.all("i")
    assert len(page.all("script")) == 1
    assert any("layer 1 <i>spikes</i>" in text for _, text in page.texts)


def test_a_study_without_anything_finished_has_a_page(invented: Any, tmp_path: Path) -> None:
    digest = Digest.of(load_results(invented.write(tmp_path / "results")), tmp_path)
    page = Page(make_page(digest))
    assert any("No run has finished" in text for _, text in page.texts)
    write_report(digest, tmp_path / "report")


def test_the_report_is_the_same_bytes_again(digest: Digest, tmp_path: Path) -> None:
    first, second = (write_report(digest, tmp_path / name) for name in ("one", "two"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert {path.relative_to(tmp_path / "one").parts[0] for path in first} == {
        "report.html", "report.md", "tables", "figures"
    }  # fmt: skip


def test_a_report_makes_each_table_once(digest: Digest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    original = Table.__init__

    def counting(self: Table, name: str, title: str, *rest: Any, **named: Any) -> None:
        made.append(title)
        original(self, name, title, *rest, **named)

    monkeypatch.setattr(Table, "__init__", counting)
    write_report(digest, tmp_path / "report")
    # The records of the figure of robustness are those of a table as well.
    assert sorted(title for title in made if not title.startswith("Robustness")) == [
        "Accuracy", "Run time against N", "Run time against T", "Trust checks: linf"
    ]  # fmt: skip


def test_a_thousand_runs_take_less_than_twenty_seconds(invented: Any, tmp_path: Path) -> None:
    invented.images = 1000
    for seed in range(10):
        invented.run("default", seed, range(seed, 100))
    steps = 0
    while len(invented.rows) < 1000:
        steps += 1
        for variant in ("lif", "snntorch-lif", "paralif-sb"):
            for seed in range(10):
                invented.run(variant, seed, range(seed, 90 + steps), num_steps=steps)
    folder = invented.write(tmp_path / "results")
    began = time.perf_counter()
    digest = Digest.of(load_results(folder), folder)
    write_report(digest, tmp_path / "report")
    assert time.perf_counter() - began < 20
    assert len(digest.results.rows) >= 1000


def test_a_study_that_goes_on_says_so(invented: Any, reseal: Any, tmp_path: Path) -> None:
    invented.run("default", 0, range(9))
    folder = invented.write(tmp_path / "results")
    reseal(folder, unfinished={"attack": 1, "run": 2})
    page = make_page(Digest.of(load_results(folder), tmp_path))
    assert "The study is not finished: 2 runs and 1 attack to come, or failed." in page
    assert "No attack of this study has finished yet" in page
    assert "No model was attacked in this study" not in page
