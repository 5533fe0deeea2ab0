"""Ranks and widths by counting: numbers that describe a matrix against measurements of it."""

import math

from ..measurements import AbstractMeasurements


def determined_rank(A: AbstractMeasurements, width: int | None) -> int:
    """The largest rank k with k (m + n - k) <= N, at least 1 and at most the width."""
    m, n = A.shape
    limit = min(m, n) if width is None else min(m, n, width)
    return max([k for k in range(1, limit + 1) if k * (m + n - k) <= A.count], default=1)


def sufficient_width(A: AbstractMeasurements) -> int:
    """A width that does not bind: the smaller side, or the largest k with k(k+1)/2 <= N."""
    return max(1, min(*A.shape, (math.isqrt(8 * A.count + 1) - 1) // 2))
