"""Square Attack: random search over square windows, which sees logits and no gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from resnet_spiking.attacks.best import Best, Outcome
from resnet_spiking.attacks.checks import check_count, check_positive
from resnet_spiking.attacks.target import Target
from resnet_spiking.attacks.threat import Threat, expand, norm_of

# After this many queries the window's share of the image is halved once more.
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def square(
    target: Target,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    generator: torch.Generator,
    queries: int = 5000,
    restarts: int = 1,
    p_init: float = 0.8,
) -> Outcome:
    """Change one random window of each image at a time and keep what increases the margin.

    Windows cover the share ``p_init`` of the image at first, halved after 10, 50, 200, 500, 1000, 2000, 4000, 6000 and
    8000 queries, whatever ``queries`` is (AutoAttack's setting; the window differs from image to image).
    L-infinity: start from vertical stripes, set each channel of the window to ``x + eps`` or ``x - eps``. L2: move
    the perturbation of one window, and what is left of eps, into another one in the shape of two bumps
    of opposite sign. A stochastic model is judged by the mean margin of ``target.draws`` draws.

    Source: Andriushchenko et al., "Square Attack: a query-efficient black-box adversarial attack via random
    search", ECCV 2020, algorithms 1 to 3.

    Raises ``UserError`` for a count below 1 or a share outside (0, 1].
    """
    check_count("queries", queries)
    check_count("restarts", restarts)
    check_positive("p_init", p_init, most=1)
    best = Best.of_clean(target, images, labels, generator)
    propose = _propose_linf if threat.norm == "linf" else _propose_l2
    begin = _stripes if threat.norm == "linf" else _bumps
    spent = 0
    for _ in range(restarts if threat.eps and images.numel() else 0):
        rows = best.active
        if not len(rows):
            break
        # The search keeps its own point: the clean image may have the larger margin at first, but no eps left to move.
        at = begin(threat, images[rows], generator)
        margin = target.margins(at, labels[rows], generator)
        spent += 1
        done = best.update(rows, at, margin, spent)
        for query in range(1, queries):
            rows, at, margin = rows[~done], at[~done], margin[~done]
            if not len(rows):
                break
            share = p_init / 2 ** sum(query - 1 > limit for limit in HALVINGS)
            clean, truth = images[rows], labels[rows]
            moved = propose(threat, clean, at, share, generator)
            found = target.margins(moved, truth, generator)
            spent += 1
            done = best.update(rows, moved, found, spent)
            better = (found > margin) | ~margin.isfinite()
            at = torch.where(expand(better, at), moved, at)
            margin = torch.where(better, found, margin)
    return best.outcome()


def _stripes(threat: Threat, images: Tensor, generator: torch.Generator) -> Tensor:
    count, channels, _, width = images.shape
    return threat.project(images + threat.eps * _signs((count, channels, 1, width), images, generator), images)


def _propose_linf(threat: Threat, clean: Tensor, at: Tensor, share: float, generator: torch.Generator) -> Tensor:
    count, channels, height, width = clean.shape
    side = max(round(math.sqrt(share * height * width)), 1)
    window = _Window(clean, min(side, height), min(side, width), generator)
    change = threat.eps * _signs((count, channels, 1, 1), clean, generator)
    return torch.where(window.inside, threat.project(clean + change, clean), at)


def _bumps(threat: Threat, images: Tensor, generator: torch.Generator) -> Tensor:
    """Fill a grid of five by five tiles with bumps of random sign, at length eps."""
    count, channels, height, width = images.shape
    side = max(min(height, width) // 5, 1)
    change = torch.zeros_like(images)
    for top in range(0, height - side + 1, side):
        for left in range(0, width - side + 1, side):
            tile = _pattern(side, side, images, generator) * _signs((count, channels, 1, 1), images, generator)
            change[:, :, top : top + side, left : left + side] = tile
    return _at_length(threat, change, images)


def _propose_l2(threat: Threat, clean: Tensor, at: Tensor, share: float, generator: torch.Generator) -> Tensor:
    count, channels, height, width = clean.shape
    side = max(round(math.sqrt(share * height * width)), 3)
    side = min(side + (side % 2 == 0), height, width)
    change = at - clean
    filled, emptied = (_Window(clean, side, side, generator) for _ in range(2))
    inside, union = filled.inside, filled.inside | emptied.inside
    tiny = torch.finfo(clean.dtype).tiny
    old = torch.where(inside, change, 0)
    bump = filled.place(_pattern(side, side, clean, generator)) * _signs((count, channels, 1, 1), clean, generator)
    new = bump + old / _length(old).clamp_min(tiny)
    unused = (threat.eps**2 - expand(norm_of(change, "l2"), change).square()).clamp_min(0) / channels
    freed = _length(torch.where(union, change, 0)).square()
    new = new / _length(new).clamp_min(tiny) * (unused + freed).sqrt()
    return _at_length(threat, torch.where(inside, new, torch.where(emptied.inside, 0, change)), clean)


class _Window:
    """A window of one size at a random place in each image; ``inside`` is ``[B, 1, H, W]``."""

    def __init__(self, images: Tensor, height: int, width: int, generator: torch.Generator) -> None:
        count, _, rows, columns = images.shape
        draw = {"generator": generator, "device": images.device}
        top = torch.randint(0, rows - height + 1, (count, 1), **draw)  # type: ignore[call-overload]
        left = torch.randint(0, columns - width + 1, (count, 1), **draw)  # type: ignore[call-overload]
        self.down = torch.arange(rows, device=images.device) - top
        self.right = torch.arange(columns, device=images.device) - left
        tall = (self.down >= 0) & (self.down < height)
        wide = (self.right >= 0) & (self.right < width)
        self.inside = (tall[:, :, None] & wide[:, None, :])[:, None]

    def place(self, pattern: Tensor) -> Tensor:
        """Return ``[B, 1, H, W]``: the pattern ``[h, w]`` in each image's window, zero outside."""
        down = self.down.clamp(0, len(pattern) - 1)
        right = self.right.clamp(0, pattern.shape[1] - 1)
        return pattern[down[:, :, None], right[:, None, :]][:, None] * self.inside


def _pattern(height: int, width: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """Return two bumps of opposite sign, one on each half ``[h, w]``, of length 1; which way it is cut is random."""
    half = height // 2
    bumps = torch.cat([_bump(half, width, like), -_bump(height - half, width, like)])
    bumps = bumps / bumps.norm()
    flip = bool(torch.rand((), generator=generator, device=like.device) > 0.5)
    return bumps.T if flip and height == width else bumps


def _bump(height: int, width: int, like: Tensor) -> Tensor:
    """Return ``sum_k 1 / (k + 1)^2`` from k = Chebyshev distance to the middle to half the longer side ``[h, w]``."""
    options = {"device": like.device, "dtype": like.dtype}
    rows = (torch.arange(height, **options) - height // 2).abs()  # type: ignore[call-overload]
    columns = (torch.arange(width, **options) - width // 2).abs()  # type: ignore[call-overload]
    distance = torch.maximum(rows[:, None], columns[None, :])
    orders = torch.arange(max(height, width) // 2 + 1, **options)  # type: ignore[call-overload]
    return ((distance[..., None] <= orders) / (orders + 1).square()).sum(-1)


def _length(values: Tensor) -> Tensor:
    """Return the L2 norm of each channel ``[B, C, 1, 1]``."""
    return values.square().sum((2, 3), keepdim=True).sqrt()


def _at_length(threat: Threat, change: Tensor, images: Tensor) -> Tensor:
    return threat.project(images + threat.eps * threat.steepest(change), images)


def _signs(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, shape, generator=generator, device=like.device).to(like.dtype) * 2 - 1
