"""What independent trials leave open: Student's interval for a mean, Wilson's for a share."""

import math
from typing import Any

import numpy as np

CONFIDENCE = 0.95


def mean_and_reach(values: Any) -> tuple[float, float]:
    """The mean of independent values and how far its t interval reaches; infinite for one value."""
    found = np.asarray(values, float).ravel()
    if len(found) < 2:
        return float(found.mean()), math.inf
    from scipy.stats import t

    quantile = float(t.ppf((1 + CONFIDENCE) / 2, len(found) - 1))
    return float(found.mean()), quantile * float(found.std(ddof=1)) / len(found) ** 0.5


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's interval for the share of successes among independent trials, at least one."""
    from scipy.stats import binomtest

    test = binomtest(successes, trials)
    interval = test.proportion_ci(CONFIDENCE, "wilson")
    return float(interval.low), float(interval.high)
