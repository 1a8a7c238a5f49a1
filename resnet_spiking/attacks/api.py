"""Attack any model: one call, adversarial images back."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, cast

import torch
from torch import Tensor, nn

from resnet_spiking.attacks.best import Outcome
from resnet_spiking.attacks.checks import check_count, check_images, check_labels, check_model
from resnet_spiking.attacks.gradients.mode import GradientMode
from resnet_spiking.attacks.gradients.names import make_mode
from resnet_spiking.attacks.gradients.neurons import has_spikes
from resnet_spiking.attacks.minimum import MinimumNorm
from resnet_spiking.attacks.names import AttackEntry, find_attack
from resnet_spiking.attacks.target import Meter, Rule, Target, attackable, make_target
from resnet_spiking.attacks.threat import NORMS, Norm, Threat, parse_eps
from resnet_spiking.errors import UserError, check_known, nearest
from resnet_spiking.randomness import generator_for

ZEROS = 0.01
"""Share of zero gradients above which an attack is warned of, as in the trust check T09."""

# Parameters of an attack that are not its options.
_GIVEN = ("target", "images", "labels", "threat", "norm", "generator")


def attack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    name: str = "apgd-ce",
    *,
    norm: Norm = "linf",
    eps: float | str = "8/255",
    seed: int = 0,
    gradient: GradientMode | str | None = None,
    batch_size: int = 128,
    rule: Rule | None = None,
    draws: int = 20,
    **options: Any,
) -> Tensor:
    """Return adversarial images ``[B, C, H, W]``: ``||x' - x||_p <= eps``, pixels in [0, 1].

    ``model``: any module that maps pixels ``[B, C, H, W]`` in [0, 1] to logits ``[B, classes]``, normalisation
    inside. It is attacked in eval mode; its modules' modes and its parameters' ``requires_grad`` are restored
    afterwards, and torch's global generator stays as it was. ``images`` are fp32 or fp64, ``labels [B]`` whole
    numbers; ``seed`` and ``batch_size`` together fix every draw. ``name``: one of ``names.ATTACKS`` that has an eps.
    ``gradient``: how spikes are differentiated, a mode or its name (``atan:2``, ``assg``, …; default: the surrogate
    that each layer was trained with). ``rule`` and ``draws`` are for stochastic models: what counts as
    misclassified (``majority`` or ``expected``) and how many draws a gradient averages. ``options`` go to the attack.

    An image whose search fails comes back as the iterate of largest margin. Where gradients to the pixels were zero,
    a ``UserWarning`` says how often: such an attack says nothing of robustness. Another says so where ``gradient`` is
    named and the model has no neuron of ``neurons`` for it to reach: spikes of another making keep their own gradient.

    Raises ``UserError`` for a model, images, labels, eps, names or options that cannot be used, and for logits that
    are not finite.
    """
    entry = _entry(name, norm, minimum=False)
    threat = Threat(norm, parse_eps(eps))
    with torch.inference_mode(False):
        batches = _run(entry, model, images, labels, seed, gradient, batch_size, rule, draws, options, threat=threat)
        outcomes = list(batches)
    found = [cast(Outcome, outcome).images for outcome in outcomes]
    return torch.cat(found).to(images.device) if found else images.clone()


def minimum_norm(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    name: str = "fmn",
    *,
    norm: Norm = "linf",
    seed: int = 0,
    gradient: GradientMode | str | None = None,
    batch_size: int = 128,
    rule: Rule | None = None,
    draws: int = 20,
    **options: Any,
) -> MinimumNorm:
    """Return the nearest adversarial image found for each image, its norm, and whether there is one.

    As ``attack``, but the attack (``fmn``, ``ddn``, ``deepfool``) looks for the smallest change instead of
    being given an eps. Norms are in pixels of [0, 1], inf where nothing was found. Raises ``UserError`` as ``attack``.
    """
    entry = _entry(name, norm, minimum=True)
    with torch.inference_mode(False):
        batches = _run(entry, model, images, labels, seed, gradient, batch_size, rule, draws, options, norm=norm)
        outcomes = list(batches)
    found = [cast(MinimumNorm, result) for result in outcomes]
    if not found:
        return MinimumNorm(images.clone(), images.new_zeros(0), torch.zeros(0, dtype=torch.bool, device=images.device))
    return MinimumNorm(
        torch.cat([result.images for result in found]).to(images.device),
        torch.cat([result.norms for result in found]).to(images.device),
        torch.cat([result.found for result in found]).to(images.device),
    )


def check_options(entry: AttackEntry, options: dict[str, Any]) -> None:
    """Raise ``UserError`` for an option that the attack does not have, or one that it needs and lacks."""
    known = {
        option: parameter
        for option, parameter in inspect.signature(entry.load()).parameters.items()
        if option not in _GIVEN and option not in entry.preset
    }
    for option in options:
        if option not in known:
            raise UserError(
                f"{entry.name} has no option {option!r}{nearest(option, list(known))}; "
                f"choose from: {', '.join(known) or 'none'}"
            )
    for option, parameter in known.items():
        if parameter.default is parameter.empty and option not in options:
            raise UserError(f"{entry.name} needs the option {option!r}")


def _entry(name: str, norm: str, *, minimum: bool) -> AttackEntry:
    entry = find_attack(name)
    check_known("norm", norm, NORMS)
    if norm not in entry.norms:
        raise UserError(f"{name} works in {' and '.join(entry.norms)} only, not in {norm}")
    if minimum and entry.kind != "minimum-norm":
        raise UserError(f"{name} needs an eps and finds no minimum norm; use attack(…), or fmn, ddn or deepfool here")
    if not minimum and entry.kind == "minimum-norm":
        raise UserError(f"{name} looks for the smallest change and takes no eps; use minimum_norm(…)")
    return entry


def _run(
    entry: AttackEntry,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    seed: int,
    gradient: GradientMode | str | None,
    batch_size: int,
    rule: Rule | None,
    draws: int,
    options: dict[str, Any],
    **threat: Any,
) -> Iterator[Outcome | MinimumNorm]:
    """Yield the result of each batch."""
    check_count("batch_size", batch_size)
    check_count("draws", draws)
    check_images(images)
    check_model(model)
    check_options(entry, options)
    if not len(images):
        return
    # Of images that were made in inference mode no gradient can be kept, of those that have a graph none should be.
    images = images.detach().clone()
    parameter = next(model.parameters(), None)
    device = images.device if parameter is None else parameter.device
    mode = _mode(gradient)
    sample = images[:8].to(device)

    def targeted(network: nn.Module) -> Target:
        target = make_target(stack.enter_context(attackable(network)), sample, draws=draws, rule=rule, mode=mode)
        check_labels(labels, images, target.classes)
        return target

    with ExitStack() as stack:
        target = targeted(model)
        if mode is not None and mode.name != "own" and not has_spikes(model):
            warnings.warn(
                f"gradient={mode.name} reaches nothing: the model has no layer made with neurons.make_neuron, and is "
                "differentiated as it is; make its spiking layers so, or leave gradient out",
                stacklevel=3,
            )
        # A model among the options (the source of a transfer) is prepared like the one under attack.
        ready = {key: targeted(value) if isinstance(value, nn.Module) else value for key, value in options.items()}
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size].to(device)
            truth = labels[start : start + batch_size].to(device).long().clone()
            generator = generator_for(seed, entry.name, start, device=device)
            broken = int((~target.finite(batch, generator)).sum())
            if broken:
                raise UserError(f"the model's logits are not finite on {broken} clean images; nothing can be attacked")
            yield entry.load()(target, batch, truth, **threat, generator=generator, **entry.preset, **ready)
        if not entry.name.startswith("ta-"):
            # Of torchattacks' some have a loss that is flat where they have succeeded (Carlini and Wagner's).
            _warn_of_zeros(target.meter)


def _warn_of_zeros(meter: Meter) -> None:
    """Say where an attack had no direction to go: it then is a random search."""
    if meter.backwards and meter.zero_gradients > ZEROS * meter.backwards:
        warnings.warn(
            f"{meter.zero_gradients} of {meter.backwards} gradients to the pixels were zero: what this attack leaves "
            "standing says nothing of robustness; look for a forward under no_grad, a detach, rounding or logits so "
            "large that their softmax saturates (apgd-margin, or another gradient=…)",
            stacklevel=4,
        )


def _mode(gradient: GradientMode | str | None) -> GradientMode | None:
    if gradient is None or isinstance(gradient, GradientMode):
        return gradient
    if not isinstance(gradient, str):
        raise UserError(f"gradient must be a mode or its name, such as atan:2, not {gradient!r}")
    return make_mode(gradient)
