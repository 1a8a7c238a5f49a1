from __future__ import annotations

import pytest

from resnet_spiking.attacks.api import check_options
from resnet_spiking.attacks.bundles import BUNDLES, Bundle, Stage, find_bundle, single, stages_for
from resnet_spiking.attacks.gradients.names import make_mode
from resnet_spiking.attacks.names import find_attack
from resnet_spiking.errors import UserError

KINDS = [(False, False), (True, False), (True, True)]


@pytest.mark.parametrize("bundle", BUNDLES.values(), ids=lambda bundle: bundle.name)
@pytest.mark.parametrize(("spiking", "stochastic"), KINDS)
def test_every_stage_can_run_and_has_its_own_label(bundle: Bundle, spiking: bool, stochastic: bool) -> None:
    wanted = (bundle.minimum_norm,) if bundle.minimum_norm else ()
    stages = stages_for((*wanted, *bundle.stages), spiking=spiking, stochastic=stochastic)
    assert len({stage.label for stage in stages}) == len(stages)
    for stage in stages:
        source = {"source": None} if stage.attack == "transfer" else {}
        check_options(find_attack(stage.attack), {**stage.options, **source})
        if stage.mode != "best":
            make_mode(stage.mode)


def test_without_spikes_there_is_one_gradient_and_no_stage_runs_twice() -> None:
    stages = (
        Stage("apgd-ce", "atan:2", {"steps": 9}),
        Stage("apgd-ce", "triangle:1", {"steps": 9}),
        Stage("apgd-ce", "atan:2", {"steps": 9}, copy=1),
        Stage("apgd-ce", "bptr", {"steps": 9}, only="spiking"),
    )
    labels = [stage.label for stage in stages_for(stages, spiking=False, stochastic=False)]
    assert labels == ["apgd-ce", "apgd-ce #2"]
    assert len(stages_for(stages, spiking=True, stochastic=False)) == 4


def test_the_diverse_mode_depends_on_the_head() -> None:
    stage = (Stage("apgd-margin", "diverse", only="spiking"),)
    assert stages_for(stage, spiking=True, stochastic=True)[0].mode == "expected"
    assert stages_for(stage, spiking=True, stochastic=False)[0].mode == "bptr"
    assert stages_for(stage, spiking=False, stochastic=False) == []


def test_only_the_whole_bundles_claim_anything() -> None:
    assert [name for name, bundle in BUNDLES.items() if not bundle.indicative] == ["standard", "thorough"]
    assert "not a robustness claim" in BUNDLES["quick"].description
    assert single("fmn").minimum_norm == Stage("fmn")
    assert single("sapgd").stages == (Stage("sapgd", "assg"),)
    assert single("pgd", "atan:8").stages[0].label == "pgd+atan:8"


def test_the_thorough_bundle_goes_on_as_long_as_the_check_that_asks_for_more() -> None:
    bundle = BUNDLES["thorough"]
    (stage,) = (stage for stage in bundle.stages if stage.options.get("steps", 0) > 100)
    assert stage.options["steps"] >= bundle.checking.long_steps
    assert stage.label == "apgd-ce+best-1000"


@pytest.mark.parametrize("attack", ["square", "noise", "transfer"])
def test_what_takes_no_gradient_has_no_mode_of_it(attack: str) -> None:
    with pytest.raises(UserError, match=f"--gradient atan:2 has no use for --attack {attack}"):
        single(attack, "atan:2")
    assert single(attack).stages


def test_unknown_names_come_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'standart' is unknown \(did you mean 'standard'\?\)"):
        find_bundle("standart")
    with pytest.raises(UserError, match="apgd-ce"):
        single("apgd-cee")


def test_stages_for_models_that_draw_leave_others_out() -> None:
    stages = (Stage("apgd-margin", "expected", only="stochastic"), Stage("fgsm"))
    assert [stage.attack for stage in stages_for(stages, spiking=True, stochastic=False)] == ["fgsm"]
    assert [stage.attack for stage in stages_for(stages, spiking=True, stochastic=True)] == ["apgd-margin", "fgsm"]
