"""A claim of a paper as a number with its uncertainty, the range that it claims, and a verdict."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from ._intervals import mean_and_reach, wilson_interval

# The least number that is more than none.
ABOVE_ZERO = math.nextafter(0.0, 1.0)


class Verdict(StrEnum):
    """What the numbers say about a claim."""

    holds = "holds"
    fails = "does not hold"
    undecided = "undecided"


@dataclass(frozen=True)
class Number:
    """A number and the interval that the data leave open for it; `how` says what interval it is."""

    value: float
    low: float
    high: float
    how: str

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.value:.4g} ({self.how})"
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}] ({self.how})"


def mean_of(values: Any, of: str = "seeds") -> Number:
    """The mean of independent values, with its 95% t interval; infinitely wide for a single one."""
    value, reach = mean_and_reach(values)
    if math.isinf(reach):
        return Number(value, -math.inf, math.inf, f"one of {of}: no interval")
    how = f"mean of {np.size(values)} {of}, 95% t interval"
    return Number(value, value - reach, value + reach, how)


def highest_mean(values: Mapping[Any, Any]) -> tuple[Any, Number]:
    """The key whose mean over seeds is the highest, and the interval of the highest of all means.

    It is at least the largest lower end and at most the largest upper end of any key. A key with NaN
    is first.
    """
    each = {key: mean_of(found) for key, found in values.items()}
    key, number = max(each.items(), key=lambda item: _first_if_nan(item[1].value))
    if math.isnan(number.value):
        return key, number
    low, high = (max(getattr(one, end) for one in each.values()) for end in ("low", "high"))
    return key, replace(number, low=low, high=high)


def lowest_mean(values: Mapping[Any, Any]) -> tuple[Any, Number]:
    """The key whose mean over seeds is the lowest, and its interval: see `highest_mean`."""
    negated = {key: -np.asarray(found, float) for key, found in values.items()}
    key, number = highest_mean(negated)
    return key, replace(
        number, value=0.0 - number.value, low=0.0 - number.high, high=0.0 - number.low
    )


def _first_if_nan(value: float) -> float:
    return math.inf if math.isnan(value) else value


def share_of(successes: Any) -> Number:
    """The share of trials that are true, with its 95% Wilson interval; NaN without any trials."""
    found = np.asarray(successes, bool).ravel()
    if not found.size:
        return Number(math.nan, math.nan, math.nan, "no trials")
    low, high = wilson_interval(int(found.sum()), found.size)
    how = f"{int(found.sum())} of {found.size} trials, 95% Wilson interval"
    return Number(float(found.mean()), low, high, how)


def largest_of(values: Any, of: str = "instances") -> Number:
    """The largest of all values, for a statement about each of them; NaN if one is."""
    found = np.asarray(values, float).ravel()
    value = float(found.max())
    return Number(value, value, value, f"largest of {found.size} {of}")


def smallest_of(values: Any, of: str = "instances") -> Number:
    """The smallest of all values, for a statement about each of them; NaN if one is."""
    found = np.asarray(values, float).ravel()
    value = float(found.min())
    return Number(value, value, value, f"smallest of {found.size} {of}")


@dataclass(frozen=True)
class Claim:
    """One sentence, the number that decides it, and the range in which that number has to be.

    It holds where the whole interval of the number is within [`least`, `most`], does not hold where
    all of it is outside, and is undecided otherwise: also where the number is not a number.
    """

    statement: str
    quantity: str
    number: Number
    least: float = -math.inf
    most: float = math.inf

    @property
    def verdict(self) -> Verdict:
        """Holds, does not hold, or undecided."""
        low, high = self.number.low, self.number.high
        if math.isnan(self.number.value) or math.isnan(low) or math.isnan(high):
            return Verdict.undecided
        if self.least <= low and high <= self.most:
            return Verdict.holds
        if high < self.least or low > self.most:
            return Verdict.fails
        return Verdict.undecided

    @property
    def range(self) -> str:
        """The range that is claimed, in words."""
        if math.isinf(self.least):
            return f"at most {self.most:.4g}"
        if math.isinf(self.most):
            return "above 0" if self.least == ABOVE_ZERO else f"at least {self.least:.4g}"
        return f"{self.least:.4g} to {self.most:.4g}"
