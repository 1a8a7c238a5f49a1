"""The page in Chromium: ``python -m pytest -m browser``, after ``apt-get install chromium``."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_spiking.reports.digest import Digest
from resnet_spiking.reports.results import load_results
from resnet_spiking.reports.write import write_report

pytestmark = pytest.mark.browser

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--enable-logging=stderr",
)  # fmt: skip


def chromium(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    found = shutil.which("chromium")
    if found is None:
        pytest.fail("chromium is not installed: apt-get install chromium, or leave -m browser out")
    command = [found, *FLAGS, f"--user-data-dir={folder / 'profile'}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in done.stderr, done.stderr  # neither errors nor violations of the page's policy
    return done


class Rows(HTMLParser):
    """Rows of the accuracy table as the browser has them: shown or hidden, label to value."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[tuple[bool, dict[str, str]]] = []
        self.sorted: dict[str, str] = {}
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "table":
            self.inside = found.get("id") == "accuracies"
        if self.inside and tag == "th" and "data-column" in found:
            self.sorted[found["data-column"]] = found["aria-sort"]
        if self.inside and tag == "tr" and "data-words" in found:
            self.rows.append(("hidden" not in found, {}))
        if self.inside and "data-label" in found:
            self.rows[-1][1][found["data-label"]] = found.get("data-value", "")


@pytest.fixture
def report(published: Path) -> Path:
    write_report(Digest.of(load_results(published), published), published.parent / "report")
    return published.parent / "report" / "report.html"


def shown(tmp_path: Path, report: Path, state: str) -> tuple[Rows, str]:
    text = chromium(tmp_path, "--dump-dom", f"file://{report}{state}").stdout
    return Rows(text), re.findall(r'id="count"[^>]*>([^<]*)<', text)[0]


def test_rows_stand_as_in_the_study_until_asked_otherwise(tmp_path: Path, report: Path) -> None:
    for state in ("", "#robustness"):
        rows, count = shown(tmp_path, report, state)
        assert all(visible for visible, _ in rows.rows)
        assert count == f"{len(rows.rows)} of {len(rows.rows)} rows"
        assert set(rows.sorted.values()) == {"none"}


def test_an_address_sorts_and_filters(tmp_path: Path, report: Path) -> None:
    rows, count = shown(tmp_path, report, "#sort=accuracy&dir=desc&filter=fashion%20lif")
    kept = [values for visible, values in rows.rows if visible]
    assert {values["variant"] for values in kept} == {"lif", "snntorch-lif", "norse-lifbox", "paralif-sb"}
    assert {values["dataset"] for values in kept} == {"fashion-mnist"}
    accuracies = [float(values["test accuracy"]) for _, values in rows.rows]
    assert accuracies == sorted(accuracies, reverse=True)
    assert rows.sorted["accuracy"] == "descending"
    assert count == f"4 of {len(rows.rows)} rows"


def test_what_has_no_value_comes_last_whatever_the_direction(tmp_path: Path, report: Path) -> None:
    for direction in ("asc", "desc"):
        rows, _ = shown(tmp_path, report, f"#sort=p&dir={direction}")
        absent = [not values["p"] for _, values in rows.rows]
        assert absent == sorted(absent)
        assert any(absent)


def test_clicks_on_a_heading_sort_and_are_remembered_in_the_address(tmp_path: Path, report: Path) -> None:
    click = """<script>addEventListener("load", () => {
      const heading = document.querySelector('#accuracies [data-column="accuracy"] button');
      heading.click(); document.body.dataset.first = location.hash;
      heading.click(); document.body.dataset.second = location.hash;
    })</script></body>"""
    report.write_text(report.read_text().replace("</body>", click))
    text = chromium(tmp_path, "--dump-dom", f"file://{report}").stdout
    assert 'data-first="#sort=accuracy&amp;dir=desc"' in text
    assert 'data-second="#sort=accuracy"' in text


def test_nothing_is_wider_than_a_phone(tmp_path: Path, report: Path) -> None:
    frame = tmp_path / "phone.html"
    frame.write_text(
        f'<iframe src="file://{report}" width="390" height="2000" style="border:0"></iframe><script>'
        'const frame = document.querySelector("iframe");'
        "frame.onload = () => document.body.dataset.width = frame.contentDocument.documentElement.scrollWidth"
        "</script>"
    )
    text = chromium(tmp_path, "--allow-file-access-from-files", "--dump-dom", f"file://{frame}").stdout
    assert 'data-width="390"' in text


def test_light_dark_and_print(tmp_path: Path, report: Path) -> None:
    brightness = []
    for scheme in ("1", "0"):
        picture = tmp_path / f"{scheme}.png"
        chromium(tmp_path, f"--blink-settings=preferredColorScheme={scheme}", "--window-size=1280,1600",
                 f"--screenshot={picture}", f"file://{report}")  # fmt: skip
        brightness.append(float(np.asarray(Image.open(picture).convert("L")).mean()))
    assert brightness[0] > 220
    assert brightness[1] < 60
    chromium(tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={tmp_path / 'page.pdf'}", f"file://{report}")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
