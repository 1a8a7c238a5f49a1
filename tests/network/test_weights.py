from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from resnet_spiking.errors import UserError
from resnet_spiking.network import weights as weights_module
from resnet_spiking.network.backbone import build_resnet, split_resnet
from resnet_spiking.network.weights import WeightsIdentity, check_bundled_target, load_weights


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    torch.manual_seed(11)
    return build_resnet("resnet18").state_dict()


def load(spec: str | Path, depth: int = 2, name: str = "resnet18") -> tuple[dict[str, Tensor], WeightsIdentity]:
    backbone, stages = split_resnet(name, depth, side=32)
    identity = load_weights(str(spec), backbone, stages, name=name, depth=depth)
    return {**backbone.extractor.state_dict(), **stages.state_dict()}, identity


def only(state: dict[str, Tensor], *parts: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name.startswith(parts)}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module.", "backbone."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "model_state_dict"])
def test_a_whole_pth_file_fills_everything(
    tmp_path: Path, state: dict[str, Tensor], wrapper: str | None, prefix: str
) -> None:
    prefixed = {f"{prefix}{name}": tensor for name, tensor in state.items()}
    torch.save({wrapper: prefixed} if wrapper else prefixed, tmp_path / "w.pth")
    found, identity = load(tmp_path / "w.pth")
    assert all(torch.equal(found[name], state[name]) for name in found if not name.endswith("tracked"))
    assert identity.random == ()
    assert identity.name == "w.pth"


def test_a_partial_file_is_enough_when_it_covers_the_frozen_depth(tmp_path: Path, state: dict[str, Tensor]) -> None:
    save_file(only(state, "conv1", "bn1", "layer1", "layer2"), tmp_path / "w.safetensors")
    found, identity = load(tmp_path / "w.safetensors", depth=2)
    assert torch.equal(found["layer2.1.conv2.weight"], state["layer2.1.conv2.weight"])
    assert identity.random == ("layer3", "layer4")
    with pytest.raises(UserError, match=r"lacks layer3 \(25 of 25 tensors: layer3\.0\.conv1\.weight"):
        load(tmp_path / "w.safetensors", depth=3)


def test_an_incomplete_later_stage_stays_random_as_a_whole(tmp_path: Path, state: dict[str, Tensor]) -> None:
    partial = only(state, "conv1", "bn1", "layer1", "layer2", "layer3.0")
    save_file(partial, tmp_path / "w.safetensors")
    found, identity = load(tmp_path / "w.safetensors", depth=2)
    assert "layer3" in identity.random
    assert not torch.equal(found["layer3.0.conv1.weight"], state["layer3.0.conv1.weight"])


def test_the_hash_follows_the_frozen_weights(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save(state, tmp_path / "a.pth")
    torch.save({**state, "layer4.0.conv1.weight": state["layer4.0.conv1.weight"] + 1}, tmp_path / "b.pth")
    torch.save({**state, "layer1.0.conv1.weight": state["layer1.0.conv1.weight"] + 1}, tmp_path / "c.pth")
    a, b, c = (load(tmp_path / name)[1].sha256 for name in ("a.pth", "b.pth", "c.pth"))
    assert a == b != c


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_is_refused(tmp_path: Path, state: dict[str, Tensor], suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(UserError, match="damaged"):
        load(path)


def test_a_pickle_that_carries_code_is_not_executed(tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (marker,))

    torch.save({"conv1.weight": Bomb()}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="damaged, or holds more than tensors"):
        load(tmp_path / "w.pth")
    assert not marker.exists()


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    torch.save(build_resnet("resnet50").state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match="does not fit resnet18"):
        load(tmp_path / "w.pth")


def test_weights_that_are_not_finite_are_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save({**state, "bn1.weight": state["bn1.weight"] * float("nan")}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="not finite"):
        load(tmp_path / "w.pth")


def test_the_order_of_names_does_not_matter_and_two_networks_are_refused(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    last = {f"module.{name}": state[name] for name in sorted(state, reverse=True)}
    torch.save(last, tmp_path / "w.pth")
    assert torch.equal(load(tmp_path / "w.pth")[0]["conv1.weight"], state["conv1.weight"])
    torch.save({**last, **{f"encoder.{name}": tensor for name, tensor in state.items()}}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="lacks stem"):
        load(tmp_path / "w.pth")


def test_variances_below_zero_are_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save({**state, "bn1.running_var": state["bn1.running_var"] - 2}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"bn1\.running_var holds variances below 0"):
        load(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("name", "save"), [("W.SAFETENSORS", save_file), ("w.pth", save_file), ("w.safetensors", torch.save)]
)
def test_a_file_is_what_it_begins_as(tmp_path: Path, state: dict[str, Tensor], name: str, save: Any) -> None:
    save(state, tmp_path / name)
    assert torch.equal(load(tmp_path / name)[0]["conv1.weight"], state["conv1.weight"])


@pytest.mark.parametrize("kept", [torch.bool, torch.complex64, "meta"])
def test_weights_that_are_no_floats_are_refused(
    tmp_path: Path, state: dict[str, Tensor], kept: torch.dtype | str
) -> None:
    torch.save({**state, "bn1.weight": state["bn1.weight"].to(kept)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth holds bn1\.weight as .*; store it as dense floats"):
        load(tmp_path / "w.pth")


def test_weights_of_eight_bits_are_read(tmp_path: Path, state: dict[str, Tensor]) -> None:
    rounded = torch.linspace(0.7, 1.3, 64).to(torch.float8_e4m3fn)
    torch.save({**state, "bn1.weight": rounded}, tmp_path / "w.pth")
    loaded, _ = load(tmp_path / "w.pth")
    assert torch.equal(loaded["bn1.weight"], rounded.float())


def test_a_missing_file_and_a_missing_network_name_the_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="--weights bundled"):
        load(tmp_path / "absent.pth")

    class Offline:
        def get_state_dict(self, **_: object) -> None:
            raise URLError("no route")

    monkeypatch.setattr(weights_module.models, "get_model_weights", lambda name: {"IMAGENET1K_V1": Offline()})
    with pytest.raises(UserError, match=r"no route.*--weights FILE"):
        load("imagenet")
    with pytest.raises(UserError, match="resnet50-v1"):
        load("imagenet", name="resnet50-v1")


def test_the_bundled_encoder_fits_resnet18_only() -> None:
    _, identity = load("bundled", depth=3)
    assert identity.loaded == ("stem", "layer1", "layer2", "layer3")
    with pytest.raises(UserError, match="up to stage 3"):
        load("bundled", depth=4)
    with pytest.raises(UserError, match="not resnet34"):
        load("bundled", name="resnet34")


def test_cifar10_is_refused_as_target_of_the_bundled_encoder() -> None:
    with pytest.raises(UserError, match="own labels"):
        check_bundled_target("cifar10", ())
    with pytest.raises(UserError, match="own labels"):
        check_bundled_target("folder", tuple(reversed(weights_module.CIFAR10_CLASSES)))
    check_bundled_target("digits", ("0", "1"))
