"""Where a ResNet's weights come from, and what exactly was loaded."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from dataclasses import dataclass
from http.client import HTTPException
from importlib import resources
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models

from resnet_spiking.errors import UserError
from resnet_spiking.network.backbone import STEM, Backbone, Stages

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BUNDLED = "resnet18-cifar10.safetensors"
WRAPPERS = ("module", "model", "net", "backbone", "encoder", "_orig_mod")
"""What DataParallel, compilers and the usual training loops put before the names of a network's tensors."""
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
    tensors = _without_prefix(_read(spec, name, depth))
    _check_names(parts, tensors, label, name)
    missing = {part: _missing(modules, tensors) for part, modules in parts.items()}
    frozen = ("stem", *(f"layer{stage}" for stage in range(1, depth + 1))) if depth else ()
    lacking = "; ".join(_describe(part, missing[part], parts[part]) for part in frozen if missing[part])
    if lacking:
        advice = f"lower --freeze-depth, or name other weights or the matching --backbone (now {name})"
        raise UserError(f"{label} lacks {lacking}, which --freeze-depth {depth} needs; {advice}")
    loaded = tuple(part for part in parts if not missing[part])
    if not loaded:
        raise UserError(f"{label} holds no complete stage of {name}; {OFFLINE}")
    expected = {key: target for part in loaded for key, target in _expected(parts[part]).items()}
    # All are checked before any is copied: a refused file leaves the network as it was.
    for key, target in expected.items():
        _check_values(key, tensors[key], target, label, name)
    with torch.no_grad():
        for key, target in expected.items():
            target.copy_(tensors[key])
    return WeightsIdentity(label, frozen_sha256(backbone), loaded, tuple(part for part in parts if part not in loaded))


def check_bundled_target(dataset: str, classes: tuple[str, ...]) -> None:
    """Raise ``UserError`` for CIFAR-10 as target of the bundled encoder, which was trained on its labels.

    An image folder whose classes are CIFAR-10's ten is CIFAR-10.
    """
    if dataset == "cifar10" or tuple(sorted(name.lower() for name in classes)) == CIFAR10_CLASSES:
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


def _describe(part: str, missing: list[str], modules: dict[str, nn.Module]) -> str:
    shown = ", ".join(missing[:2]) + (", …" if len(missing) > 2 else "")
    return f"{part} ({len(missing)} of {len(_expected(modules))} tensors: {shown})"


def _check_names(parts: dict[str, dict[str, nn.Module]], tensors: dict[str, Tensor], label: str, name: str) -> None:
    """Refuse tensors of blocks that the architecture lacks: resnet34 holds every name and shape of resnet18."""
    known = {key for modules in parts.values() for key in _expected(modules)}
    prefixes = tuple(f"{module}." for modules in parts.values() for module in modules)
    for key in tensors:
        if key.startswith(prefixes) and key not in known and not key.endswith("num_batches_tracked"):
            raise UserError(f"{label} does not fit {name}, which has no {key}; name the matching --backbone")


def _check_values(key: str, tensor: Tensor, target: Tensor, label: str, name: str) -> None:
    if tensor.shape != target.shape:
        shapes = f"{tuple(tensor.shape)} instead of {tuple(target.shape)}"
        raise UserError(f"{label} does not fit {name}: {key} is {shapes}; name the matching --backbone")
    if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.is_meta:
        kept = f"{str(tensor.layout).removeprefix('torch.')} {str(tensor.dtype).removeprefix('torch.')}"
        raise UserError(f"{label} holds {key} as {kept}; store it as dense floats")
    # Not every float is one that torch can test: there are some of 8 bits.
    if not tensor.float().isfinite().all():
        raise UserError(f"{label} is damaged: {key} holds values that are not finite")
    if key.endswith("running_var") and bool((tensor.float() < 0).any()):
        raise UserError(f"{label} is damaged: {key} holds variances below 0")


def _read(spec: str, name: str, depth: int) -> dict[str, Tensor]:
    if spec == "bundled":
        if name != "resnet18" or depth > 3:
            wanted = f"{name} frozen to stage {depth}"
            raise UserError(
                f"the bundled encoder is resnet18 up to stage 3, not {wanted}; use --weights imagenet or FILE"
            )
        with resources.as_file(resources.files("resnet_spiking.network") / "bundled" / BUNDLED) as path:
            return load_file(path)
    if spec == "imagenet":
        return _download(name)
    path = Path(spec)
    if not path.is_file():
        raise UserError(f"--weights {spec!r} is neither imagenet, bundled, none nor a file that exists; {OFFLINE}")
    return _read_file(path)


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is refused below
            # A safetensors file begins with the length of its header and the header, whatever its name says.
            safe = file.read(9)[8:] == b"{"
            file.seek(0)
            content = load_file(path) if safe else torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises almost anything: IndexError, struct.error, …
        reason = f"damaged, or holds more than tensors (code is never loaded; {type(error).__name__})"
        raise UserError(f"--weights {path.name} is {reason}; {OFFLINE}") from None
    for wrapper in ("state_dict", "model_state_dict", "model", "net"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in content.items()
    ):
        raise UserError(f"--weights {path.name} holds no state_dict of tensors; {OFFLINE}")
    return content


def _without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors by torchvision's names, where those of one network have what wrappers put before them."""
    first = f"{STEM[0]}.weight"
    before = [name.removesuffix(first).split(".") for name in tensors if name.endswith(f".{first}")]
    prefixes = [".".join(parts) for parts in before if all(part in WRAPPERS for part in parts[:-1])]
    if len(prefixes) != 1 or first in tensors:
        return tensors  # none, or more than one network
    return {name.removeprefix(prefixes[0]): tensor for name, tensor in tensors.items()}


def _download(name: str) -> dict[str, Tensor]:
    if name == "resnet50-v1":
        raise UserError(f"torchvision has no ImageNet weights for resnet50-v1; {OFFLINE}, or use --backbone resnet50")
    weights = models.get_model_weights(name)["IMAGENET1K_V1"]
    try:
        # The hash is checked when the file is downloaded; weights_only guards against a changed cached one.
        return dict(weights.get_state_dict(progress=True, check_hash=True, weights_only=True))
    except (OSError, HTTPException, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"ImageNet weights for {name} could not be downloaded ({reason}); {OFFLINE}") from None
