"""Pictures of matrices that were recovered from measurements."""

from contextlib import suppress
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .._checks import as_instance
from ..recovery import Determinacy, Solution
from ._canvas import canvas, heat_map


def known(solution: Any) -> Figure:
    """The recovered matrix beside what is known about it: standard errors, or which entries are free.

    Entries that the measurements do not determine are left grey. Where it is not known which they are,
    there is the matrix alone. A matrix whose factors have more than 10,000 numbers is too large for the
    standard errors of all its entries: beside it is what is determined.

    Raises TypeError for what is no `Solution`.
    """
    as_instance(solution, Solution, "solution", "pass what `flatrank.recover` returns")
    matrix = np.asarray(solution.matrix, float)
    decided = solution.determined.status != Determinacy.undecided
    determined = solution.determined.table() if decided else np.ones(matrix.shape, bool)
    figure, axes = canvas(9.0, 4.2, 2)
    # Few free entries with huge values would take all the colours.
    low, high = np.quantile(matrix[determined], [0.01, 0.99]) if determined.any() else (0.0, 1.0)
    shown = np.where(determined, matrix, np.nan)
    heat_map(axes[0], shown, f"the matrix, rank {int(solution.rank)}", (low, high), "viridis")
    if not decided:
        axes[1].remove()
        return figure
    errors = None
    if np.isfinite(solution.noise) and determined.any():
        # The matrix may be too large for the errors of all its entries.
        with suppress(MemoryError):
            errors = np.where(determined, solution.standard_errors(), np.nan)
    if errors is None:
        right = determined.astype(float)
        heat_map(axes[1], right, "determined (1) or free (0)", (0.0, 1.0), "cividis")
    else:
        heat_map(axes[1], errors, "standard error", (None, None), "magma")
    return figure
