"""Means, spreads, intervals and paired tests, each said in one sentence that tables print as a footnote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from resnet_spiking.proportions import wilson

CONFIDENCE = 0.95

UNEVEN = (
    "None is in bold where some stand on other seeds of Default than others: such means do not compare; the difference "
    "from Default is that of the same seeds."
)
SPREAD = "± is the sample standard deviation over seeds (n − 1 in the denominator); one seed has none."
INTERVAL = (
    "95 % interval: Student's t for the mean over seeds, cut to 0–100 %; with one seed, Wilson's interval of its "
    "accuracy over the test images."
)
PAIRED = (
    "p: exact two-sided sign-flip test of the difference from Default, same seed, over the test images; what the seeds "
    "say of one image is not taken apart. With one seed, McNemar's exact test. Not corrected for the number of rows."
)


@dataclass(frozen=True)
class Spread:
    """What n seeds gave. ``std`` is None for one; ``low`` and ``high`` bound the mean at 95 %."""

    n: int
    mean: float
    std: float | None
    low: float
    high: float


def spread(accuracies: list[float], images: int) -> Spread:
    """Summarise accuracies in [0, 1], one a seed, each measured on ``images`` test images.

    Two seeds or more: mean ± t_{0.975, n-1} s / √n with s² = Σ(a - mean)² / (n - 1), cut to [0, 1]. One seed: Wilson's
    score interval (JASA 22, 1927) of round(a · images) successes in ``images`` trials.

    Raises:
        ValueError: no accuracy, or fewer than one image.
    """
    n = len(accuracies)
    if n < 1 or images < 1:
        raise ValueError(f"needs an accuracy and an image at least, got {n} and {images}")
    mean = float(np.mean(accuracies))
    if n == 1:
        return Spread(1, mean, None, *wilson(round(mean * images), images))
    std = float(np.std(accuracies, ddof=1))
    half = half_interval(accuracies)
    return Spread(n, mean, std, max(0.0, mean - half), min(1.0, mean + half))


def half_interval(values: list[float]) -> float:
    """Return half of Student's 95 % interval of the mean of two values or more: t_{0.975, n-1} s / √n."""
    n = len(values)
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * float(np.std(values, ddof=1)) / n**0.5


@dataclass(frozen=True)
class Paired:
    """Images that the first classified correctly in more seeds than the second, and in fewer; p of no difference."""

    better: int
    worse: int
    p: float


def paired(first: list[NDArray[Any]], second: list[NDArray[Any]]) -> Paired:
    """Compare two networks on the same images, seed by seed.

    Args:
        first, second: for each seed, [images] of bool: classified correctly. Entry i of both is the same seed.

    With g_i the number of seeds in which the first is right on image i, less those in which the second is, the
    difference of their accuracies is sum(g_i) / (seeds images). ``p`` is the probability of a sum at least as far from
    zero when each g_i is as likely to have the other sign: Fisher's randomisation test of paired samples (The design of
    experiments, 1935, section 21), exact. The images of several seeds are the same images, not new ones; so the
    seeds' verdicts on an image change sign together. For one seed this is McNemar's exact test (Psychometrika 12,
    1947).

    Raises:
        ValueError: no seed, or another number of seeds or images on either side.
    """
    if not first or len(first) != len(second) or any(a.shape != b.shape for a, b in zip(first, second, strict=True)):
        raise ValueError("both sides need the same seeds and the same images")
    gain = np.sum(np.stack(first).astype(np.int64) - np.stack(second).astype(np.int64), axis=0)
    return Paired(int((gain > 0).sum()), int((gain < 0).sum()), _sign_flip(gain))


def _sign_flip(gain: NDArray[np.int64]) -> float:
    # The sum of the gains of one size is size (2 B - count) with B binomial; the sizes' distributions are convolved.
    differing = np.abs(gain[gain != 0])
    unit = np.gcd.reduce(differing) if len(differing) else 1
    sums = np.ones(1)
    total = 0
    for size, count in zip(*np.unique(differing // unit, return_counts=True), strict=True):
        steps = np.zeros(size * count + 1)
        steps[::size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        sums = np.convolve(sums, steps)
        total += int(size * count)
    distance = np.abs(2 * np.arange(len(sums)) - total)
    return min(1.0, float(sums[distance >= abs(int(gain.sum() // unit))].sum()))
