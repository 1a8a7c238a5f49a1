from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "attacks"))

from test_examples import made_by_hand

from resnet_spiking.attacks.figures import figures_of
from resnet_spiking.attacks.long_table import csv_text
from resnet_spiking.attacks.pictures import COLOURS, MARKERS, curves, panel, save_curves
from resnet_spiking.attacks.wording import level, stamps


def result() -> dict[str, Any]:
    entries = [
        {
            "name": name, "variant": name, "unreliable": failed, "spiking": True, "stochastic": False, "rule": "single",
            **figures_of(made_by_hand()),
        }
        for name, failed in (("default", []), ("lif", ["T09", "T11"]))
    ]  # fmt: skip
    return {
        "norm": "linf", "eps": [0.01, 0.03], "eps_labels": ["2.55/255", "0.03"], "bundle": "tiny", "samples": 5,
        "dataset": "made", "classes": ["a", "b", "c"], "models": entries,
    }  # fmt: skip


def test_curves_show_clean_and_robust_accuracy_with_their_intervals() -> None:
    (axes,) = curves(result()).axes
    for place, line in enumerate(axes.lines):
        assert line.get_ydata() == pytest.approx([80, 60, 20])
        assert line.get_xdata() == pytest.approx([0, 2.55, 7.65])
        assert (line.get_color(), line.get_marker()) == (COLOURS[place], MARKERS[place])
    low, high = result()["models"][0]["robust"][1]["interval"]
    band = axes.collections[0].get_paths()[0].vertices
    assert 100 * low == pytest.approx(min(y for x, y in band if x == pytest.approx(7.65)))
    assert 100 * high == pytest.approx(max(y for x, y in band if x == pytest.approx(7.65)))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["default", "lif (UNRELIABLE)"]


def test_colours_differ_also_without_colour() -> None:
    def luminance(colour: str) -> float:
        red, green, blue = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    assert len(set(COLOURS)) == len(COLOURS) == len(set(MARKERS))
    assert len({round(luminance(colour), 3) for colour in COLOURS}) == len(COLOURS)


def test_the_panel_shows_the_hardest_images_and_their_amplified_change() -> None:
    table = made_by_hand()
    figure = panel(result(), {"default": table, "lif": table})
    shown = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert len(shown) == 2 * 2 * 3
    # Images 1 and 2 fell at the larger radius and come before image 0.
    assert np.allclose(shown[0], np.clip(table.adversarial[1], 0, 1).transpose(1, 2, 0))
    lower = [axes.images[0].get_array() for axes in figure.axes if axes.get_title().startswith("change")]
    assert np.allclose(lower[0], 1.0, atol=1e-4)  # all pixels moved up by the largest change
    assert float(lower[1].max()) == pytest.approx(1.0, abs=1e-4)
    assert float(np.median(np.asarray(lower[1]))) == pytest.approx(0.5, abs=1e-4)
    assert "lif: UNRELIABLE: T09, T11" in figure.get_suptitle()


def test_the_same_result_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save_curves(result(), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_table_has_a_row_per_model_radius_and_attack() -> None:
    lines = csv_text(result()).splitlines()
    assert len(lines) == 1 + 2 * (1 + (1 + 2) + (1 + 3))
    assert lines[1].startswith("default,default,linf,0.0,0,clean,,0.8,")
    assert sum(",square," in line for line in lines) == 2
    assert lines[-1].endswith("T09 T11")


def test_stamps_and_levels() -> None:
    assert stamps(result()) == ["lif: UNRELIABLE: T09, T11"]
    assert level("linf")(2 / 255) == "2/255"
    assert level("l2")(0.25) == "0.25"
