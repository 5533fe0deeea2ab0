"""How many directions a table may have when nobody says."""

import numpy as np

DEFAULT_WIDTH = 32


def default_width(shape: tuple[int, int], count: int) -> int:
    """The largest rank with no more parameters than entries, at least 1 and at most 32."""
    m, n = shape
    rank = np.arange(1, min(m, n, DEFAULT_WIDTH) + 1)
    return max(1, int(np.sum(rank * (m + n - rank) <= count)))
