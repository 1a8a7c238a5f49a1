"""Did attacking leave traces, lose successes, or compute in less than fp32?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from resnet_spiking.attacks.gradients.names import make_mode
from resnet_spiking.attacks.losses import cross_entropy
from resnet_spiking.attacks.names import find_attack
from resnet_spiking.attacks.threat import Threat
from resnet_spiking.attacks.trust.check import Check
from resnet_spiking.attacks.trust.probe import Probe
from resnet_spiking.network.arithmetic import rounds_to_tf32
from resnet_spiking.network.build import state_sha256
from resnet_spiking.network.classifier import Decoder

FEW = 16


def silent_success(probe: Probe) -> Check:
    """T19: no attack met an adversarial image and returned one that is not.

    Source: Pintor et al., NeurIPS 2022 (indicator "silent success").
    """
    title, threshold = "no success is lost", "0"
    lost = sum(spent.silent for spent in probe.sweep.spent.values())
    if probe.target.stochastic:
        reason = f"the draws that decide are not those that steer ({lost} successes were not confirmed)"
        return Check.not_applicable("T19", title, threshold, reason)
    return Check("T19", title, float(lost), threshold, lost == 0)


def state_leak(probe: Probe) -> Check:
    """T20: the same seed gives the same images twice, and an image fares alone as it does in a batch.

    The second for a deterministic model, with one gradient step (which draws nothing): predicted labels agree.
    """
    title, threshold = "no state leaks", "equal images; equal labels"
    rows = np.arange(min(FEW, len(probe.sample)))
    images, labels = probe.batch(rows)
    threat = Threat(probe.settings.norm, probe.eps)

    def run(name: str, part: slice, **options: object) -> torch.Tensor:
        entry = find_attack(name)
        target = probe.target.using(make_mode(probe.mode))
        draw = probe.generator("T20")
        options = {**entry.preset, **options}
        return entry.load()(target, images[part], labels[part], threat, generator=draw, **options).images

    whole = slice(None)
    same = torch.equal(run("apgd-ce", whole, steps=10), run("apgd-ce", whole, steps=10))
    if probe.target.stochastic:
        return Check("T20", title, f"twice the same: {same}", "equal images", same)
    together = run("fgsm", whole)
    alone = torch.cat([run("fgsm", slice(row, row + 1)) for row in range(len(rows))])
    with torch.no_grad():
        one, other = (probe.target.logits(found)[0].argmax(1) for found in (together, alone))
    differing = int((one != other).sum())
    value = f"twice the same: {same}; {differing} of {len(rows)} labels depend on the batch"
    return Check("T20", title, value, threshold, same and not differing)


def precision(probe: Probe) -> Check:
    """T23: parameters, logits and gradients are fp32 (or fp64); TF32 and autocast are off."""
    images, labels = probe.batch(np.arange(min(2, len(probe.sample))))
    found = probe.target.using(make_mode(probe.mode))
    found.mode.start()
    gradient = found.step(images, labels, cross_entropy, probe.generator("T23")).gradient
    wide = (torch.float32, torch.float64)
    with torch.no_grad():
        logits = probe.target.logits(images, probe.generator("T23"))
    floating = {value.dtype for value in probe.subject.model.state_dict().values() if value.is_floating_point()}
    lossy = {
        "TF32": rounds_to_tf32(),
        "autocast": torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"),
        "bf16 stages": any(isinstance(m, Decoder) and m.precision != "fp32" for m in probe.subject.model.modules()),
    }
    kinds = sorted({str(dtype) for dtype in floating | {gradient.dtype, logits.dtype}})
    on = [name for name, active in lossy.items() if active]
    narrow = [dtype for dtype in floating | {gradient.dtype, logits.dtype} if dtype not in wide]
    value = ", ".join([*kinds, *on])
    return Check("T23", "full precision", value, "fp32; TF32, autocast and bf16 off", not narrow and not on)


def eval_mode(probe: Probe, before: Mapping[str, str]) -> Check:
    """T24: modules are in eval mode, and no parameter or buffer (BatchNorm's statistics among them) has changed."""
    training = [name or "model" for name, module in probe.subject.model.named_modules() if module.training]
    changed = before.get(probe.subject.name) != state_sha256(probe.subject.model)
    value = f"{len(training)} modules in train mode; state {'CHANGED' if changed else 'unchanged'}"
    return Check("T24", "eval mode, nothing changed", value, "0, unchanged", not training and not changed)


def hashes(models: Mapping[str, nn.Module]) -> dict[str, str]:
    """Return the hash of each model's state, for ``eval_mode``."""
    return {name: state_sha256(model) for name, model in models.items()}
