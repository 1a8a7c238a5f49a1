from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_spiking.attacks.names import RADII
from resnet_spiking.errors import UserError
from resnet_spiking.studies.checking import check_study
from resnet_spiking.studies.places import absolute, with_places
from resnet_spiking.studies.presets import PRESETS, load_preset
from resnet_spiking.studies.study_file import parse_study, read_study

WRONG = {
    "top": ("grids = 1\n", r"'grids' is unknown \(did you mean 'grid'\?\)"),
    "no grid": ("", r"has no \[\[grid\]\]"),
    "axis": ('[[grid]]\nneurons = "lif"', r"\[\[grid\]\] 1: 'neurons' is unknown \(did you mean 'neuron'\?\)"),
    "head seed": ("[[grid]]\nhead_seed = 1", "as seed and Default's as default_seed"),
    "twice": ("[[grid]]\nseed = [0, 1, 0]", "seed lists 0 twice"),
    "empty": ("[[grid]]\nseed = []", "empty list"),
    "type": ('[[grid]]\nbeta = "high"', "beta must be a number"),
    "boolean": ("[[grid]]\nseed = true", "seed must be a whole number"),
    "pair": ("[[grid]]\nepochs = [5, 5]", 'write a pair as "X,Y"'),
    "epochs": ('[[grid]]\nepochs = "5"', "malformed"),
    "both": ('[[grid]]\nepochs = "5,5"\ndefault_epochs = 3', "contradicts default_epochs"),
    "dataset": ('[[grid]]\ndataset = "cifar-10"', "did you mean 'cifar10'"),
    "folder": ('[[grid]]\ndataset = "folder"', "data_dir"),
    "kind": ('[datasets.mine]\ndata_dir = "x"\n[[grid]]', "add kind"),
    "digits": ('[datasets.digits]\ndata_dir = "x"\n[[grid]]', "leave data_dir out"),
    "dataset key": ('[datasets.cifar10]\npath = "x"\n[[grid]]', "'path' is unknown"),
    "backbone": ('[backbones.resnet81]\nweights = "x"\n[[grid]]', "did you mean 'resnet18'"),
    "name": ('name = "../x"\n[[grid]]', "names a folder"),
    "norm": ('[[grid]]\n[attack]\nnorm = "l1"', "choose from: linf, l2"),
    "order": ('[[grid]]\n[attack]\norder = "descend"', "did you mean 'descending'"),
    "attack": ("[[grid]]\n[attack]\nepsilon = 1", "'epsilon' is unknown"),
    "attack seed": ("[[grid]]\nseed = [0, 1]\n[attack]\nseeds = [2]", "seeds 2 is in no grid"),
    "eps": ('[[grid]]\n[attack]\neps = ["1/255", "1/255"]', "different values"),
    "eps truth": ("[[grid]]\n[attack]\neps = [true]", "eps must be a text such as .* or a number .*, not True"),
    "eps nested": ('[[grid]]\n[attack]\neps = [["1/255"]]', r"eps must be a text .*, not \['1/255'\]"),
    "eps space": ('[[grid]]\n[attack]\neps = ["1/255", "1/255 "]', "different values"),
    "dataset folder": ('[datasets."a/b"]\nkind = "digits"\n[[grid]]', "'a/b' names a folder; use letters"),
    "dataset elsewhere": ('[datasets."../../esc"]\nkind = "digits"\n[[grid]]', "names a folder"),
    "dataset size": ("[datasets.digits]\nimage_size = 0\n[[grid]]", "image-size must lie between 32 and 4096, not 0"),
    "attack seed list": ("[[grid]]\n[attack]\nseeds = [[0]]", r"seeds must be a whole number, .* not \[0\]"),
    "attack neuron table": ("[[grid]]\n[attack]\nneurons = [{a = 1}]", "neurons must be a text"),
    "nesting": ("[[grid]]\nseed = " + "[" * 3000 + "]" * 3000, "nests its lists too deeply"),
    "toml": ("[[grid]\n", "not valid TOML"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, case: str) -> None:
    text, message = WRONG[case]
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_study(path)
    assert "mine.toml" in str(caught.value)
    assert "\n" not in str(caught.value).rstrip() or case == "toml"


@pytest.mark.parametrize("radius", [float("nan"), float("inf"), -1, "-1/255", 2])
def test_a_radius_that_no_attack_has_is_refused_before_any_work(radius: object) -> None:
    study = parse_study({"name": "x", "grid": {}, "attack": [{}, {"eps": [radius]}]}, "x")
    with pytest.raises(UserError, match=r"^\[\[attack\]\] 2: eps must (be 0 or a positive number|lie in \[0, 1\])"):
        check_study(study.as_dict())


def test_a_setting_that_native_mode_would_not_hear_of_is_refused() -> None:
    given = {"neuron": ["lif", "norse-lifbox"], "mode": "native", "detach_reset": True}
    study = parse_study({"name": "x", "grid": [{}, given]}, "x")
    with pytest.raises(UserError, match=r"^\[\[grid\]\] 2: --detach-reset True does not reach norse-lifbox in native"):
        check_study(study.as_dict())
    check_study(parse_study({"name": "x", "grid": [{**given, "detach_reset": False}]}, "x").as_dict())
    check_study(parse_study({"name": "x", "grid": [{**given, "mode": "shared"}]}, "x").as_dict())


def test_a_missing_file_and_a_binary_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_study(tmp_path / "absent.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        read_study(tmp_path / "binary.toml")


axes = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.lists(st.integers(0, 99), min_size=1, unique=True),
        "default_seed": st.integers(0, 9),
        "neuron": st.lists(st.sampled_from(["lif", "none", "paralif-sb"]), min_size=1, unique=True),
        "beta": st.lists(st.floats(0, 1), min_size=1, unique=True),
        "alpha": st.sampled_from(["none", 0.5]),
        "hidden": st.lists(st.sampled_from([64, "32,16"]), min_size=1, unique=True),
        "epochs": st.sampled_from(["1,2", ["1,2", "3,4"]]),
        "flip": st.booleans(),
    },
)


@settings(max_examples=50)
@given(st.lists(axes, min_size=1, max_size=3))
def test_a_study_survives_being_stored(grids: list[dict[str, Any]]) -> None:
    study = parse_study({"name": "x", "grid": grids, "attack": {"eps": ["1/255"], "order": "descending"}}, "here")
    assert parse_study(study.as_dict(), "there") == study


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid(name: str) -> None:
    assert load_preset(name).name == name


def test_places_of_the_command_line_win_and_are_checked(tmp_path: Path, pictures: Path) -> None:
    study = with_places(load_preset("seed-table"), [f"cifar10={pictures}"], ["resnet18=w.pth"])
    assert (study.datasets["cifar10"].kind, study.datasets["cifar10"].data_dir) == ("folder", pictures)
    assert study.weights == {"resnet18": "w.pth"}
    with pytest.raises(UserError, match="did you mean 'cifar10'"):
        with_places(study, ["cifar=x"], [])
    with pytest.raises(UserError, match="no backbone 'resnet34'"):
        with_places(study, [], ["resnet34=x"])
    with pytest.raises(UserError, match="NAME=PLACE"):
        with_places(study, ["cifar10"], [])


def test_the_digits_lie_nowhere_but_may_be_replaced_by_pictures(tmp_path: Path, pictures: Path) -> None:
    study = load_preset("quick")
    with pytest.raises(UserError, match=r"digits=.*digits come with scikit-learn; leave it out"):
        with_places(study, [f"digits={tmp_path / 'absent'}"], [])
    placed = with_places(study, [f"digits={pictures}"], [])
    assert placed.datasets["digits"].kind == "folder"
    assert parse_study(placed.as_dict(), "stored") == placed


def test_paths_become_absolute_and_names_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pth").write_bytes(b"")
    values = {
        "name": "x",
        "datasets": {"mine": {"kind": "folder", "data_dir": "pictures"}},
        "backbones": {"resnet18": {"weights": "w.pth"}},
        "grid": [{"dataset": "mine", "weights": ["none", "w.pth"]}],
    }
    study = absolute(parse_study(values, "x"))
    assert study.datasets["mine"].data_dir == tmp_path / "pictures"
    assert study.weights["resnet18"] == str(tmp_path / "w.pth")
    assert study.grids[0]["weights"] == ("none", str(tmp_path / "w.pth"))


def test_a_mark_of_the_byte_order_is_no_part_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "marked.toml"
    path.write_bytes(b'\xef\xbb\xbf[[grid]]\nneuron = "lif"\n')
    assert read_study(path).name == "marked"


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_attack_without_radii_has_those_of_the_command(norm: str) -> None:
    study = parse_study({"name": "s", "grid": [{}], "attack": {"norm": norm}}, "s")
    assert study.attacks[0].eps == RADII[norm]
