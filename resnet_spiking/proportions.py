"""How sure a figure is: intervals of proportions, and the comparison of two models on the same images."""

from __future__ import annotations

from scipy import stats


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion; ``(0, 1)`` without trials.

    ``(p + z^2/2n ± z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)``, z the normal quantile. Source: Wilson,
    "Probable inference, the law of succession, and statistical inference", JASA 22, 1927; computed by scipy.
    """
    if not trials:
        return 0.0, 1.0
    interval = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(better: int, worse: int) -> float:
    """Return the two-sided p value of McNemar's exact test: of ``better + worse`` images on which two
    models differ, the first survives alone on ``better``; under equality that is Binomial(n, 1/2).

    Source: McNemar, Psychometrika 12, 1947, in its exact form. Without differing images p = 1.
    """
    return float(stats.binomtest(better, better + worse, 0.5).pvalue) if better + worse else 1.0
