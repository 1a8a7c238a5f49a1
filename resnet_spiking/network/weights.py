"""Where a ResNet's weights come from, and what exactly was loaded."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models

from resnet_spiking.errors import UserError
from resnet_spiking.network.backbone import STEM, Backbone, Stages

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BUNDLED = "resnet18-cifar10.safetensors"
OFFLINE = "give --weights FILE (.safetensors or .pth), --weights bundled, or --weights none"


@dataclass(frozen=True)
class WeightsIdentity:
    """What a network started from.

    ``name``: ``imagenet``, ``bundled``, ``none`` or the file's name. ``sha256``: of the frozen
    part's tensors. ``loaded`` and ``random``: the parts (stem, layer1, …) that came from the
    weights and those left at random values.
    """

    name: str
    sha256: str
    loaded: tuple[str, ...]
    random: tuple[str, ...]


def load_weights(spec: str, backbone: Backbone, stages: Stages, *, name: str, depth: int) -> WeightsIdentity:
    """Load the weights ``spec`` names into both halves of a split ResNet.

    ``spec`` is ``imagenet`` (torchvision's), ``bundled`` (this package's small encoder), ``none``
    (keep the random values) or a file. A file must cover the frozen part; later stages are
    loaded when complete and stay random otherwise.

    Raises ``UserError`` when weights are missing, damaged, incomplete or of another architecture.
    """
    parts = _parts(backbone, stages)
    if spec == "none":
        return WeightsIdentity("none", frozen_sha256(backbone), (), tuple(parts))
    label = spec if spec in ("imagenet", "bundled") else Path(spec).name
    tensors = _clean(_read(spec, name, depth))
    frozen = ("stem", *(f"layer{stage}" for stage in range(1, depth + 1))) if depth else ()
    missing = {part: _missing(modules, tensors) for part, modules in parts.items()}
    lacking = [tensor for part in frozen for tensor in missing[part]]
    if lacking:
        shown = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else "")
        raise UserError(f"{label} lacks {shown}, which --freeze-depth {depth} needs; lower --freeze-depth or name other weights")
    loaded = tuple(part for part in parts if not missing[part])
    if not loaded:
        raise UserError(f"{label} holds no complete stage of {name}; {OFFLINE}")
    for part in loaded:
        _fill(parts[part], tensors, label, name)
    return WeightsIdentity(label, frozen_sha256(backbone), loaded, tuple(part for part in parts if part not in loaded))


def check_bundled_target(dataset: str, classes: tuple[str, ...]) -> None:
    """Refuse CIFAR-10 as target of the bundled encoder, which was trained on its labels."""
    if dataset == "cifar10" or tuple(sorted(classes)) == CIFAR10_CLASSES:
        raise UserError(
            "the bundled encoder was trained on CIFAR-10's own labels, so its accuracy there would mean nothing; "
            "use --weights imagenet, --weights FILE or --weights none"
        )


def frozen_sha256(backbone: Backbone) -> str:
    """Hash the frozen part's tensors (fp32 bytes, sorted by name); BatchNorm's batch counters are left out."""
    digest = hashlib.sha256()
    for name, tensor in sorted(backbone.extractor.state_dict().items()):
        if not name.endswith("num_batches_tracked"):
            digest.update(name.encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _parts(backbone: Backbone, stages: Stages) -> dict[str, dict[str, nn.Module]]:
    assert isinstance(backbone.extractor, Stages)
    children = {**dict(backbone.extractor.named_children()), **dict(stages.named_children())}
    stem = {name: children.pop(name) for name in STEM}
    return {"stem": stem, **{name: {name: module} for name, module in children.items()}}


def _expected(part: dict[str, nn.Module]) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": tensor
        for name, module in part.items()
        for key, tensor in module.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }


def _missing(part: dict[str, nn.Module], tensors: dict[str, Tensor]) -> list[str]:
    return [key for key in _expected(part) if key not in tensors]


def _fill(part: dict[str, nn.Module], tensors: dict[str, Tensor], label: str, architecture: str) -> None:
    with torch.no_grad():
        for key, target in _expected(part).items():
            if tensors[key].shape != target.shape:
                shapes = f"{tuple(tensors[key].shape)} instead of {tuple(target.shape)}"
                raise UserError(f"{label} does not fit {architecture}: {key} is {shapes}; name the matching --backbone")
            if not tensors[key].isfinite().all():
                raise UserError(f"{label} is damaged: {key} holds values that are not finite")
            target.copy_(tensors[key])


def _clean(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix("module."): tensor for key, tensor in tensors.items()}


def _read(spec: str, name: str, depth: int) -> dict[str, Tensor]:
    if spec == "bundled":
        if name != "resnet18" or depth > 3:
            raise UserError(f"the bundled encoder is resnet18 up to stage 3, not {name} frozen to {depth}; use --weights imagenet or FILE")
        with resources.as_file(resources.files("resnet_spiking.network") / "bundled" / BUNDLED) as path:
            return load_file(path)
    if spec == "imagenet":
        return _download(name)
    path = Path(spec)
    if not path.is_file():
        raise UserError(f"--weights {spec!r} is neither imagenet, bundled, none nor a file that exists; {OFFLINE}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, pickle.UnpicklingError):
        raise UserError(f"--weights {path.name} is damaged, or holds more than tensors (code is never loaded); {OFFLINE}") from None
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise UserError(f"--weights {path.name} holds no state_dict of tensors; {OFFLINE}")
    return content


def _download(name: str) -> dict[str, Tensor]:
    if name == "resnet50-v1":
        raise UserError(f"torchvision has no ImageNet weights for resnet50-v1; {OFFLINE}, or use --backbone resnet50")
    weights = models.get_model_weights(name)["IMAGENET1K_V1" if name != "resnext101_64x4d" else "DEFAULT"]
    try:
        return dict(weights.get_state_dict(progress=True, check_hash=True))
    except (URLError, OSError, RuntimeError) as error:
        raise UserError(f"ImageNet weights for {name} could not be downloaded ({error}); {OFFLINE}") from None
