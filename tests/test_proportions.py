from __future__ import annotations

from math import comb, inf, sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_spiking.attacks.minimum import median
from resnet_spiking.proportions import mcnemar, wilson


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    # Computed by hand from Wilson's formula with z = 1.959964.
    [(8, 10, (0.490162, 0.943318)), (0, 10, (0.0, 0.277533)), (10, 10, (0.722467, 1.0)), (0, 0, (0.0, 1.0))],
)
def test_wilson(successes: int, trials: int, expected: tuple[float, float]) -> None:
    assert wilson(successes, trials) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=30)
@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_where_the_score_test_turns(case: tuple[int, int]) -> None:
    successes, trials = case
    share = successes / trials
    for limit in wilson(successes, trials):
        # At its limits the observed share lies z standard errors away, under the limit's own variance.
        if 0 < limit < 1:
            assert abs(share - limit) / sqrt(limit * (1 - limit) / trials) == pytest.approx(1.959964, rel=1e-4)


def test_mcnemar_by_hand() -> None:
    assert mcnemar(10, 2) == pytest.approx(2 * (1 + 12 + 66) / 2**12)
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 5) == 1.0


@settings(max_examples=30)
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_sums_the_binomial_tails(better: int, worse: int) -> None:
    count, least = better + worse, min(better, worse)
    tail = sum(comb(count, k) for k in range(least + 1)) / 2**count
    assert mcnemar(better, worse) == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar(better, worse) == mcnemar(worse, better)


def test_median_with_images_that_were_never_broken() -> None:
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert median([1.0, 2.0]) == 1.5
    assert median([1.0, 2.0, inf]) == 2.0
    assert median([1.0, inf, inf]) is None
    assert median([1.0, inf]) is None
    assert median([]) is None
