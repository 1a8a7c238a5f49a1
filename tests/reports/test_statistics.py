from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from resnet_spiking.proportions import wilson
from resnet_spiking.reports.statistics import paired, spread


def test_two_seeds_by_hand() -> None:
    # 0.90 and 0.92: mean 0.91, s = 0.02 / sqrt(2); t(0.975, 1) = 12.7062, from any table of Student's t.
    found = spread([0.90, 0.92], 100)
    assert (found.n, found.mean) == (2, pytest.approx(0.91))
    assert found.std == pytest.approx(0.02 / math.sqrt(2))
    assert found.mean - found.low == pytest.approx(12.7062 * 0.01, rel=1e-5)
    assert found.high == 1  # 0.91 + 0.127 is no accuracy


def test_one_seed_has_wilsons_interval_and_no_spread() -> None:
    # Wilson 1927 with z = 1.959964 for 81 of 100.
    z, p, n = 1.959964, 0.81, 100
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    found = spread([0.81], 100)
    assert found.std is None
    assert (found.low, found.high) == (pytest.approx(centre - half, rel=1e-6), pytest.approx(centre + half, rel=1e-6))


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=12))
def test_spread_agrees_with_the_standard_library_and_scipy(values: list[float]) -> None:
    found = spread(values, 50)
    assert found.std == pytest.approx(statistics.stdev(values), abs=1e-12)
    if statistics.stdev(values) > 1e-9:
        interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert found.low == pytest.approx(max(0, interval.low), abs=1e-9)
        assert found.high == pytest.approx(min(1, interval.high), abs=1e-9)


def test_mcnemar_of_one_seed_by_hand() -> None:
    # Both right 4 times, first alone 6 times, second alone once: p = 2 * (C(7,0) + C(7,1)) / 2**7 = 16/128.
    first = np.array([1] * 10 + [0] * 2, bool)
    second = np.array([1] * 4 + [0] * 6 + [1] + [0], bool)
    found = paired([first], [second])
    assert (found.better, found.worse) == (6, 1)
    assert found.p == pytest.approx(16 / 128)


def test_repeating_a_seed_does_not_make_p_smaller() -> None:
    chance = np.random.default_rng(3)
    first, second = chance.random(300) < 0.9, chance.random(300) < 0.86
    once, ten = paired([first], [second]), paired([first] * 10, [second] * 10)
    assert ten == once
    pooled = stats.binomtest(10 * once.better, 10 * (once.better + once.worse)).pvalue
    assert pooled < ten.p  # what counting every seed's images as new ones would have claimed


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=9))
def test_p_of_several_seeds_agrees_with_scipys_permutations(right: list[tuple[int, int]]) -> None:
    """``right``: for each image, in how many of three seeds either side is right."""
    first, second = (
        [np.array([image[side] > seed for image in right]) for seed in range(3)] for side in range(2)
    )  # fmt: skip
    flips = stats.permutation_test(
        [np.array([a for a, _ in right]), np.array([b for _, b in right])],
        lambda a, b: float(abs(np.sum(a - b))),
        permutation_type="samples",
        alternative="greater",
        n_resamples=np.inf,
        vectorized=False,
    )
    assert paired(first, second).p == pytest.approx(flips.pvalue, abs=1e-12)


@settings(max_examples=30)
@given(st.integers(0, 3000), st.integers(0, 3000))
def test_p_of_one_seed_agrees_with_scipys_binomial_test(better: int, worse: int) -> None:
    first = np.array([True] * better + [False] * worse, bool)
    expected = stats.binomtest(better, better + worse).pvalue if better + worse else 1.0
    assert paired([first], [~first]).p == pytest.approx(expected, rel=1e-9)


def test_an_image_that_every_seed_gains_weighs_more_than_one_that_a_single_seed_loses() -> None:
    # Ten heads on one Default: all of them gain 6 images, one of them loses 6 others: 60 against 6 in the difference.
    default = np.array([False] * 6 + [True] * 6)
    heads = [np.ones(12, bool) for _ in range(10)]
    heads[0][6:] = False
    found = paired(heads, [default] * 10)
    assert (found.better, found.worse) == (6, 6)
    assert found.p < 0.05


@pytest.mark.parametrize("shared", [False, True], ids=["a Default a seed", "one Default"])
def test_p_is_uniform_or_larger_when_nothing_differs(shared: bool) -> None:
    chance = np.random.default_rng(0)
    ps = []
    for _ in range(400):
        hard = chance.random(80)  # images differ in how hard they are, alike for both
        first = [chance.random(80) < hard for _ in range(3)]
        second = [chance.random(80) < hard for _ in range(3)]
        ps.append(paired(first, second[:1] * 3 if shared else second).p)
    for level in (0.01, 0.05, 0.2):
        # An exact test rejects at most this often; three standard errors of 400 draws are allowed for.
        assert np.mean(np.array(ps) <= level) <= level + 3 * math.sqrt(level * (1 - level) / 400)


def test_networks_that_agree_have_p_one() -> None:
    same = np.array([True, False, True])
    assert paired([same], [same]).p == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [([], []), ([np.ones(3, bool)], []), ([np.ones(3, bool)], [np.ones(4, bool)])],
    ids=["nothing", "other seeds", "other images"],
)
def test_what_is_no_pair_is_refused(first: list[np.ndarray], second: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="same seeds and the same images"):
        paired(first, second)


def test_nothing_has_no_spread() -> None:
    with pytest.raises(ValueError, match="an accuracy"):
        spread([], 10)


def test_successes_are_rounded_to_the_nearest() -> None:
    """29 of 100: in floating point 0.29 times 100 is below 29."""
    found = spread([29 / 100], 100)
    assert (found.low, found.high) == wilson(29, 100)
