"""A verdict follows from the numbers alone, and turns when they do."""

import numpy as np
import pytest

from flatrank.reports._claims import (
    ABOVE_ZERO,
    Claim,
    Verdict,
    highest_mean,
    largest_of,
    lowest_mean,
    mean_of,
    share_of,
    smallest_of,
)


def verdict(number, **bounds):
    return Claim("a sentence", "a quantity", number, **bounds).verdict


def test_the_whole_interval_decides():
    values = np.asarray([0.9, 1.0, 1.1, 1.0])
    assert verdict(mean_of(values), most=1.2) is Verdict.holds
    assert verdict(mean_of(values + 1), most=1.2) is Verdict.fails
    assert verdict(mean_of(values + 0.2), most=1.2) is Verdict.undecided
    assert verdict(mean_of(values), least=0.8, most=1.2) is Verdict.holds
    assert verdict(mean_of(values - 1), least=0.8, most=1.2) is Verdict.fails


@pytest.mark.parametrize("values", [[1.0], [1.0, np.nan], [np.nan, np.nan]])
def test_one_seed_or_a_missing_number_decides_nothing(values):
    assert verdict(mean_of(values), most=2.0) is Verdict.undecided
    assert verdict(largest_of([*values, np.nan]), most=2.0) is Verdict.undecided


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says():
    rng = np.random.default_rng(0)
    numbers = [mean_of(rng.normal(3.0, 1.0, 4)) for _ in range(2000)]
    covered = np.mean([number.low <= 3.0 <= number.high for number in numbers])
    assert abs(covered - 0.95) < 0.02


def test_shares_have_the_interval_of_wilson():
    number = share_of([True] * 8 + [False] * 2)
    # Wilson 1927, z = 1.96: (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    z, n, p = 1.959964, 10, 0.8
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    away = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    np.testing.assert_allclose((number.low, number.high), (middle - away, middle + away), rtol=1e-6)


def test_a_tie_is_not_more():
    claim = Claim("More.", "difference", mean_of([0.0, 0.0, 0.0]), least=ABOVE_ZERO)
    assert claim.verdict is Verdict.fails
    assert claim.range == "above 0"


def test_no_trials_decide_nothing():
    assert verdict(share_of([]), least=0.5) is Verdict.undecided


def test_extremes_and_the_means_that_are_furthest_out():
    assert largest_of([1.0, 3.0]).value == 3.0
    assert smallest_of([1.0, 3.0]).value == 1.0
    # b has the smaller mean and the wider interval, within which the highest mean is not below a's.
    values = {"a": [2.0, 2.1, 1.9], "b": [0.0, 3.0, 1.5]}
    a, b = map(mean_of, values.values())
    key, highest = highest_mean(values)
    assert (key, highest.value, highest.low, highest.high) == ("a", a.value, a.low, b.high)
    key, lowest = lowest_mean(values)
    assert (key, lowest.value, lowest.low, lowest.high) == ("b", b.value, b.low, a.high)
    # One that is surely outside decides, however wide another is.
    assert verdict(highest_mean(values)[1], most=1.0) is Verdict.fails
    assert verdict(lowest_mean(values)[1], least=2.5) is Verdict.fails
    assert highest_mean(values | {"c": [0.0, np.nan]})[0] == "c"
    assert lowest_mean(values | {"c": [9.0, np.nan]})[0] == "c"
