from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import evaluation_cases as cases
import numpy as np
import pytest
import torch
from torch import nn

from resnet_spiking.attacks.bundles import single
from resnet_spiking.attacks.evaluation import evaluate
from resnet_spiking.attacks.examples import Examples
from resnet_spiking.attacks.settings import make_settings
from resnet_spiking.attacks.subjects import Sample, Subject
from resnet_spiking.attacks.sweep import Watch, sweep
from resnet_spiking.attacks.target import attackable
from resnet_spiking.attacks.verify import compare, verify_result
from resnet_spiking.data.images import ImageSet
from resnet_spiking.environment import Environment
from resnet_spiking.errors import Interrupted, UserError
from resnet_spiking.network.classifier import Classifier, Decoder
from resnet_spiking.network.head import LinearHead
from resnet_spiking.storage.comparison import Comparison

SAMPLE = 14


def subjects() -> list[Subject]:
    return [
        Subject("default", cases.linear_digits(), "default", "runs/default"),
        Subject("lif", cases.spiking_digits("lif"), "lif", "runs/lif"),
    ]


def figures(result: dict[str, Any]) -> dict[str, Any]:
    """A result without what the clock and the machine decide."""

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: timeless(part) for key, part in value.items() if key not in ("seconds", "provenance")}
        return [timeless(part) for part in value] if isinstance(value, list) else value

    return timeless(result)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("evaluation") / "whole"
    evaluate(subjects(), cases.digits_sample(SAMPLE), cases.settings_for(eps=(0.02, 0.2)), path)
    return path


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def verified(folder: Path, models: list[Subject] | None = None, sample: Sample | None = None) -> list[Comparison]:
    found = compare(
        folder, read(folder), models or subjects(), sample or cases.digits_sample(SAMPLE), torch.device("cpu")
    )
    return [row for row in found if not row.agrees]


def test_a_result_has_everything_a_reader_needs(folder: Path) -> None:
    result = read(folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "adversarial-default.npz", "adversarial-lif.npz", "config.json", "curves.png", "panel.png", "result.json",
        "table.csv",
    ]  # fmt: skip
    assert result["eps"] == [0.02, 0.2]
    assert (result["bundle"], result["samples"], len(result["indices"])) == ("tiny", SAMPLE, SAMPLE)
    default, lif = result["models"]
    assert default["name"] == "default"
    assert "mcnemar" not in default
    assert [row["eps"] for row in lif["mcnemar"]] == [0.02, 0.2]
    assert [check["name"] for check in lif["checks"]] == [f"T{number:02d}" for number in range(1, 25)]
    assert all(set(check) >= {"title", "value", "threshold", "passed"} for check in lif["checks"])
    assert lif["unreliable"] == [check["name"] for check in lif["checks"] if check["passed"] is False]
    own = lif["robust"][0]["attacks"]["pgd-3"]
    assert own["backwards"] == 3 * own["tried"] or own["accuracy"] < 1
    assert own["forwards"] >= own["tried"] > 0
    assert [row["eps"] for row in lif["trap"]] == [0.02, 0.2]
    tables = [Examples.load(folder / entry["adversarial"]["file"]) for entry in result["models"]]
    assert np.array_equal(tables[0].index, tables[1].index)
    assert lif["details"] == {}
    assert [entry["devices"] for entry in result["models"]] == [["cpu"], ["cpu"]]
    assert result["provenance"]["versions"]["torch"]


def test_a_finished_result_verifies(folder: Path) -> None:
    assert verified(folder) == []


def test_a_result_in_descending_order_verifies_what_was_inferred_too(tmp_path: Path) -> None:
    model = subjects()[:1]
    settings = cases.settings_for(eps=(0.005, 0.02, 0.2), order="descending")
    rows = evaluate(model, cases.digits_sample(SAMPLE), settings, tmp_path / "down")["models"][0]["robust"]
    table = Examples.load(tmp_path / "down" / "adversarial-default.npz")
    above = [int((table.clean_correct & (table.broken > at)).sum()) for at in (1, 2, 3)]
    assert [row["inferred"] for row in rows] == above
    assert rows[0]["inferred"] > rows[2]["inferred"] == 0
    assert verified(tmp_path / "down", model) == []
    doctored(tmp_path / "down", lambda result: result["models"][0]["robust"][0].update(inferred=0))
    assert [row.figure for row in verified(tmp_path / "down", model)] == ["default: robust[0].inferred"]


def test_a_stopped_evaluation_resumes_to_the_same_result(folder: Path, tmp_path: Path) -> None:
    settings, sample = cases.settings_for(eps=(0.02, 0.2)), cases.digits_sample(SAMPLE)
    stops, again = 0, False
    for calls in (60, 200, 400):
        left = [calls]

        def should_stop(left: list[int] = left) -> bool:
            left[0] -= 1
            return left[0] < 0

        with pytest.raises(Interrupted):
            evaluate(subjects(), sample, settings, tmp_path / "e", Environment(should_stop=should_stop), resume=again)
        stops, again = stops + 1, True
        assert not (tmp_path / "e" / "result.json").exists()
    result = evaluate(subjects(), sample, settings, tmp_path / "e", resume=True)
    assert figures(result) == figures(read(folder))
    for name in ("adversarial-default.npz", "adversarial-lif.npz"):
        assert (tmp_path / "e" / name).read_bytes() == (folder / name).read_bytes()
    assert not (tmp_path / "e" / "state").exists()
    assert evaluate(subjects(), sample, settings, tmp_path / "e", resume=True) == result


def test_a_run_is_added_without_attacking_the_others_again(folder: Path, tmp_path: Path) -> None:
    """The result is the one of naming both at once."""
    settings, sample = cases.settings_for(eps=(0.02, 0.2)), cases.digits_sample(SAMPLE)
    default, lif = subjects()
    evaluate([default], sample, settings, tmp_path / "alone")
    reports: list[str] = []
    added = evaluate(
        [default, lif], sample, settings, tmp_path / "alone", Environment(report=reports.append), resume=True
    )
    assert figures(added) == figures(read(folder))
    assert reports[0] == "default: finished before, not attacked again"
    assert not any(line.startswith("default, ") for line in reports)
    for name in ("adversarial-default.npz", "adversarial-lif.npz"):
        assert (tmp_path / "alone" / name).read_bytes() == (folder / name).read_bytes()
    assert verified(tmp_path / "alone") == []


def test_processes_that_share_the_models_reach_the_same_result(folder: Path, tmp_path: Path) -> None:
    """Each model alone, with the others as sources of transfer, and put together by an evaluation that attacks none."""
    settings, sample = cases.settings_for(eps=(0.02, 0.2)), cases.digits_sample(SAMPLE)
    for name in ("lif", "default"):
        part = evaluate(subjects(), sample, settings, tmp_path / name, only=[name])
        assert [entry["name"] for entry in part["models"]] == [name]
        assert evaluate(subjects(), sample, settings, tmp_path / name, resume=True, only=[name]) == part
    reports: list[str] = []
    reuse = [tmp_path / "lif", tmp_path / "default"]
    whole = evaluate(subjects(), sample, settings, tmp_path / "whole", Environment(report=reports.append), reuse=reuse)
    assert reports == [f"{name}: finished before, not attacked again" for name in ("default", "lif")]
    assert figures(whole) == figures(read(folder))
    # What an attack cost stays with it.
    parts = [json.loads((tmp_path / name / "result.json").read_text())["seconds"] for name in ("lif", "default")]
    assert 0 < sum(parts) <= whole["seconds"]
    for name in ("adversarial-default.npz", "adversarial-lif.npz"):
        assert (tmp_path / "whole" / name).read_bytes() == (folder / name).read_bytes()
    assert verified(tmp_path / "whole") == []


def test_a_result_says_on_which_device_each_model_was_attacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever process puts the models together; both devices where an attack stopped on one and went on elsewhere."""
    settings, sample = cases.settings_for(eps=(0.2,)), cases.digits_sample(SAMPLE)
    left = [20]

    def should_stop() -> bool:
        left[0] -= 1
        return left[0] < 0

    def attack_on(device: str, name: str, *, stop: bool = False, resume: bool = False) -> dict[str, Any]:
        monkeypatch.setattr("resnet_spiking.attacks.sweep.device_name", lambda _: device)
        attacker = Environment(should_stop=should_stop) if stop else None
        return evaluate(subjects(), sample, settings, tmp_path / name, attacker, only=[name], resume=resume)

    assert attack_on("one GPU", "default")["models"][0]["devices"] == ["one GPU"]
    with pytest.raises(Interrupted):
        attack_on("one GPU", "lif", stop=True)
    assert attack_on("another GPU", "lif", resume=True)["models"][0]["devices"] == ["another GPU", "one GPU"]
    monkeypatch.undo()
    reuse = [tmp_path / "lif", tmp_path / "default"]
    here = [replace(subject, run=str(tmp_path / "here" / subject.name)) for subject in subjects()]
    whole = evaluate(here, sample, settings, tmp_path / "whole", reuse=reuse)
    assert [entry["way"] for entry in whole["models"]] == ["../here/default", "../here/lif"]
    assert [entry["devices"] for entry in whole["models"]] == [["one GPU"], ["another GPU", "one GPU"]]
    assert whole["provenance"]["device"] == "cpu"


@pytest.mark.parametrize(
    ("only", "said"), [(["lift"], "no model is called lift; there is default, lif"), ([], "name at least one")]
)
def test_models_to_attack_that_are_not_there_are_refused(tmp_path: Path, only: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        evaluate(subjects(), cases.digits_sample(SAMPLE), cases.settings_for(), tmp_path / "e", only=only)
    assert not (tmp_path / "e").exists()


def test_a_run_can_be_left_out_of_an_unfinished_evaluation(folder: Path, tmp_path: Path) -> None:
    settings, sample = cases.settings_for(eps=(0.02, 0.2)), cases.digits_sample(SAMPLE)
    left = [200]

    def should_stop() -> bool:
        left[0] -= 1
        return left[0] < 0

    with pytest.raises(Interrupted):
        evaluate(subjects(), sample, settings, tmp_path / "e", Environment(should_stop=should_stop))
    pieces = set((tmp_path / "e" / "state").iterdir())
    assert pieces
    evaluate(subjects()[:1], sample, settings, tmp_path / "e", resume=True)
    whole = evaluate(subjects(), sample, settings, tmp_path / "e", resume=True)
    assert figures(whole) == figures(read(folder))


def test_a_model_whose_attacks_would_change_is_attacked_again(folder: Path, tmp_path: Path) -> None:
    """With Default beside it a model is also attacked by transfer from Default."""
    settings, sample = cases.settings_for(eps=(0.02, 0.2)), cases.digits_sample(SAMPLE)
    default, lif = subjects()
    alone = evaluate([lif], sample, settings, tmp_path / "e")
    assert "transfer from default" in alone["models"][0]["skipped"]
    both = evaluate([default, lif], sample, settings, tmp_path / "e", resume=True)
    assert figures(both) == figures(read(folder))


def test_one_model_alone_is_not_finished_where_more_transfers_come(folder: Path, tmp_path: Path) -> None:
    settings, sample = cases.settings_for(eps=(0.02, 0.2)), cases.digits_sample(SAMPLE)
    default, lif = subjects()
    evaluate([lif], sample, settings, tmp_path / "e", only=["lif"])
    found = evaluate([default, lif], sample, settings, tmp_path / "e", only=["lif"], resume=True)
    (entry,) = found["models"]
    assert entry["others"] == ["default"]
    assert "transfer from default" in entry["stages"]
    assert figures(entry["robust"]) == figures(read(folder)["models"][1]["robust"])


def test_a_stop_is_seen_while_gradients_are_taken() -> None:
    """Those of a classifier are of its folded copy, through which no forward pass of the model itself goes."""
    stages = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    model = Classifier(nn.Sequential(nn.Identity()), Decoder(stages, LinearHead(4, 10), "fp32")).eval()
    sample = cases.digits_sample(SAMPLE)
    bundle = single("pgd")
    settings = cases.settings_for(bundle, (0.3,))
    asked: list[int] = []
    with attackable(model):
        target = cases.target_for(model, sample, settings)
        assert target.climbed is not model
        watch = Watch(should_stop=lambda: bool(asked.append(target.meter.backwards)))
        sweep(Subject("m", model), target, sample, settings, watch=watch)
    assert len(set(asked)) > 3


def test_other_terms_are_not_taken_over(folder: Path, tmp_path: Path) -> None:
    """Results of another radius, model or attack count for nothing, wherever they lie."""
    sample, default = cases.digits_sample(SAMPLE), subjects()[:1]
    reports: list[str] = []
    told = Environment(report=reports.append)
    evaluate(default, sample, cases.settings_for(eps=(0.02, 0.3)), tmp_path / "radius", told, reuse=[folder])
    assert not any("finished before" in line for line in reports)
    assert reports[0] == f"{folder}: nothing is taken over, it has other settings"
    with pytest.raises(UserError, match="holds no finished evaluation to take models from"):
        evaluate(default, sample, cases.settings_for(eps=(0.02, 0.2)), tmp_path / "none", told, reuse=[tmp_path])
    assert not (tmp_path / "none").exists()
    evaluate(default, sample, cases.settings_for(eps=(0.02, 0.2)), tmp_path / "same", told, reuse=[folder])
    assert reports[-1] == "default: finished before, not attacked again"


def test_damaged_images_are_not_taken_over(copy: Path) -> None:
    path = copy / "adversarial-default.npz"
    path.write_bytes(path.read_bytes()[:-1])
    more = [*subjects(), Subject("twin", cases.spiking_digits("lif", seed=1), "lif", "runs/twin")]
    with pytest.raises(UserError, match=r"adversarial-default\.npz is missing or is not what"):
        evaluate(more, cases.digits_sample(SAMPLE), cases.settings_for(eps=(0.02, 0.2)), copy, resume=True)


def test_an_existing_evaluation_is_kept_unless_told_otherwise(copy: Path) -> None:
    sample, settings = cases.digits_sample(SAMPLE), cases.settings_for(eps=(0.02, 0.2))
    before = (copy / "result.json").read_bytes()
    with pytest.raises(UserError, match="--resume to continue it, or --overwrite"):
        evaluate(subjects(), sample, settings, copy)
    with pytest.raises(UserError, match="other settings"):
        evaluate(subjects(), sample, cases.settings_for(eps=(0.02, 0.3)), copy, resume=True)
    other = [subjects()[0], Subject("lif", cases.spiking_digits("lif", seed=1), "lif", "runs/lif")]
    with pytest.raises(UserError, match="other model 'lif'"):
        evaluate(other, sample, settings, copy, resume=True)
    with pytest.raises(UserError, match="holds finished results of lif too"):
        evaluate(subjects()[:1], sample, settings, copy, resume=True)
    with pytest.raises(UserError, match="no evaluation to resume"):
        evaluate(subjects(), sample, settings, copy / "absent", resume=True)
    with pytest.raises(UserError, match="give one of them"):
        evaluate(subjects(), sample, settings, copy, resume=True, overwrite=True)
    assert (copy / "result.json").read_bytes() == before


def test_models_that_cannot_be_attacked_stop_it_before_any_work(tmp_path: Path) -> None:
    sample, settings = cases.digits_sample(SAMPLE), cases.settings_for(eps=(0.02,))
    broken = cases.linear_digits()
    layer = broken[1]
    assert isinstance(layer, torch.nn.Linear)
    with torch.no_grad():
        layer.weight[0, 0] = torch.nan
    models = [subjects()[0], Subject("broken", broken)]
    calls: list[str] = []
    with pytest.raises(UserError, match="broken: the model's logits are not finite"):
        evaluate(models, sample, settings, tmp_path / "a", Environment(report=calls.append))
    assert calls == []
    with pytest.raises(UserError, match="labels go up to 9"):
        evaluate(
            [Subject("two", torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2)))],
            sample,
            settings,
            tmp_path / "b",
        )
    with pytest.raises(UserError, match="same name"):
        evaluate([*subjects(), *subjects()], sample, settings, tmp_path / "c")


def test_what_nothing_attacks_is_not_compared_with(tmp_path: Path) -> None:
    """A transfer alone attacks no Default: its clean accuracy is no robust one."""
    sample, settings = cases.digits_sample(SAMPLE), cases.settings_for(single("transfer"), (0.2,))
    with pytest.raises(UserError, match=r"nothing can run against default \(transfer.*leave it out with --only lif"):
        evaluate(subjects(), sample, settings, tmp_path / "both")
    assert not (tmp_path / "both").exists()
    result = evaluate(subjects(), sample, settings, tmp_path / "one", only=["lif"])
    (model,) = result["models"]
    assert model["name"] == "lif"
    assert "mcnemar" not in model
    assert model["robust"][0]["attacks"]


def test_two_commands_do_not_write_into_one_evaluation(tmp_path: Path) -> None:
    sample, settings = cases.digits_sample(SAMPLE), cases.settings_for(eps=(0.2,))
    refused: list[str] = []

    def another(*_: object) -> None:
        if not refused:
            with pytest.raises(UserError) as stopped:
                evaluate(subjects(), sample, settings, tmp_path / "one", overwrite=True)
            refused.append(str(stopped.value))

    evaluate(subjects(), sample, settings, tmp_path / "one", Environment(report=another))
    assert refused == [f"another command writes to {tmp_path / 'one'}; wait for it, or choose another --output-dir"]


def test_a_model_is_left_as_it_was(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(64), cases.linear_digits()[1]).train()
    model[1].eval()
    bundle = cases.Bundle("b", "", (cases.Stage("fgsm"),), checking=cases.CHECKING)
    evaluate([Subject("m", model)], cases.digits_sample(8), cases.settings_for(bundle, (0.1,)), tmp_path / "e")
    assert [module.training for module in model] == [True, False, True]
    assert all(parameter.requires_grad for parameter in model.parameters())


def doctored(folder: Path, change: Any) -> None:
    result = read(folder)
    change(result)
    (folder / "result.json").write_text(json.dumps(result))


@pytest.mark.parametrize(
    ("figure", "change"),
    [
        ("lif: robust[1].accuracy", lambda r: r["models"][1]["robust"][1].update(accuracy=0.99)),
        ("lif: robust[0].interval[1]", lambda r: r["models"][1]["robust"][0]["interval"].__setitem__(1, 0.5)),
        ("default: clean.accuracy", lambda r: r["models"][0]["clean"].update(accuracy=0.5)),
        ("lif: minimum_norm.median", lambda r: r["models"][1]["minimum_norm"].update(median=0.9)),
        ("lif: mcnemar[1].p", lambda r: r["models"][1]["mcnemar"][1].update(p=1e-9)),
        ("lif: robust[0].attacks.fgsm.tried", lambda r: r["models"][1]["robust"][0]["attacks"]["fgsm"].update(tried=1)),
        ("lif: unreliable", lambda r: r["models"][1].update(unreliable=["T99"])),
        ("lif: checks", lambda r: r["models"][1].update(checks=[], unreliable=[])),
        ("lif: eps[0]", lambda r: r["eps"].__setitem__(0, 0.01)),
        ("lif: norm", lambda r: r.update(norm="l2")),
        ("indices[0]", lambda r: r["indices"].__setitem__(0, -1)),
    ],
)  # fmt: skip
def test_a_doctored_figure_is_named(copy: Path, figure: str, change: Any) -> None:
    doctored(copy, change)
    assert any(row.figure.startswith(figure) for row in verified(copy))


@pytest.mark.parametrize(
    ("said", "change"),
    [
        ("'seed' must be a whole number", lambda r: r.update(seed="0")),
        ("'samples' is missing", lambda r: r.pop("samples")),
        (r"'models\[1\].run' must be a text", lambda r: r["models"][1].update(run=["runs/lif"])),
        (r"'models\[0\].clean.interval' must be two numbers", lambda r: r["models"][0]["clean"].update(interval=[0.5])),
        (r"'models\[0\].robust\[0\].attacks.fgsm.tried' must be a whole number, 1 or more",
         lambda r: r["models"][0]["robust"][0]["attacks"]["fgsm"].update(tried=0)),
        (r"'models\[1\].checks\[0\].passed' is missing", lambda r: r["models"][1]["checks"][0].pop("passed")),
        (r"'models\[1\].adversarial' must be an object", lambda r: r["models"][1].update(adversarial="x.npz")),
        (r"'eps_labels' has 1 radii, default was attacked at 2", lambda r: r["eps_labels"].pop()),
    ],
)  # fmt: skip
def test_a_result_that_was_changed_by_hand_is_one_line(copy: Path, said: str, change: Any) -> None:
    doctored(copy, change)
    with pytest.raises(UserError, match=rf"copy/result\.json: the field {said}"):
        verify_result(copy)


def test_a_flipped_byte_in_a_stored_image_is_noticed(copy: Path) -> None:
    path = copy / "adversarial-lif.npz"
    table = Examples.load(path)
    row = int(table.is_broken.nonzero()[0][0])
    table.adversarial[row].view(np.uint8).reshape(-1)[0] ^= 1
    table.save(path)
    assert [row.figure for row in verified(copy)] == ["lif: stored images sha256"]


def test_stored_images_that_do_not_fool_are_noticed_even_with_a_new_hash(copy: Path) -> None:
    from resnet_spiking.storage.files import file_sha256

    path = copy / "adversarial-lif.npz"
    table = Examples.load(path)
    table.adversarial = table.clean()
    table.save(path)
    doctored(copy, lambda r: r["models"][1]["adversarial"].update(sha256=file_sha256(path)))
    assert "lif: accuracy at 0.2, rescored" in [row.figure for row in verified(copy)]
    table.adversarial = np.clip(table.clean() + 0.5, 0, 1)
    table.save(path)
    doctored(copy, lambda r: r["models"][1]["adversarial"].update(sha256=file_sha256(path)))
    assert "lif: ball, box, finite" in [row.figure for row in verified(copy)]


def test_a_changed_model_and_changed_data_are_noticed(folder: Path) -> None:
    models = subjects()
    models[1] = Subject("lif", cases.spiking_digits("lif", seed=1), "lif", "runs/lif")
    assert "lif: model sha256" in [row.figure for row in verified(folder, models)]
    sample = cases.digits_sample(SAMPLE)
    images = sample.images.images.clone()
    images[sample.indices[0]] = 255 - images[sample.indices[0]]
    other = Sample(ImageSet(images, sample.images.labels, sample.images.classes), sample.indices, "digits", "other")
    differing = [row.figure for row in verified(folder, sample=other)]
    assert {"data sha256", "default: clean images", "lif: clean images"} <= set(differing)


def test_a_changed_table_is_noticed(copy: Path) -> None:
    text = (copy / "table.csv").read_text()
    (copy / "table.csv").write_text(text.replace("worst case", "best case", 1))
    assert [row.figure for row in verified(copy)] == ["table.csv"]
    (copy / "table.csv").unlink()
    assert [row.figure for row in verified(copy)] == ["table.csv"]


def test_radii_are_read_sorted_and_named() -> None:
    settings = make_settings(cases.TINY, "linf", ["2/255", " 0.5/255", "2/255"])
    assert settings.labels == ("0.5/255", "2/255")
    assert settings.eps == (0.5 / 255, 2 / 255)
    with pytest.raises(UserError, match="malformed"):
        make_settings(cases.TINY, "linf", ["8/"])
