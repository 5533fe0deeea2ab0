"""Pictures of matrices that were recovered from measurements."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .._checks import as_instance
from ..recovery import Determinacy, Solution
from ._canvas import canvas


def known(solution: Any) -> Figure:
    """The recovered matrix beside what is known about it: standard errors, or which entries are free.

    Entries that the measurements do not determine are left grey. Where it is not known which they are,
    there is the matrix alone.

    Raises TypeError for what is no `Solution`.
    """
    as_instance(solution, Solution, "solution", "pass what `flatrank.recover` returns")
    matrix = np.asarray(solution.matrix, float)
    decided = solution.determined.status != Determinacy.undecided
    determined = solution.determined.table() if decided else np.ones(matrix.shape, bool)
    figure, axes = canvas(9.0, 4.2, 2)
    noisy = decided and bool(np.isfinite(solution.noise)) and determined.any()
    if noisy:
        errors = np.where(determined, solution.standard_errors(), np.nan)
        right, title, colours = errors, "standard error", "magma"
    else:
        right, title, colours = determined.astype(float), "determined (1) or free (0)", "cividis"
    if not decided:
        axes[1].remove()
    shown = np.where(determined, matrix, np.nan)
    # Few free entries with huge values would take all the colours.
    low, high = np.quantile(matrix[determined], [0.01, 0.99]) if determined.any() else (0.0, 1.0)
    for axis, picture, name, limits, colour in (
        (axes[0], shown, f"the matrix, rank {int(solution.rank)}", (low, high), "viridis"),
        (axes[1], right, title, (None, None) if noisy else (0.0, 1.0), colours),
    )[: 2 if decided else 1]:
        axis.set_facecolor("#e6e6e6")
        image = axis.imshow(
            picture,
            vmin=limits[0],
            vmax=limits[1],
            cmap=colour,
            aspect="auto",
            interpolation="nearest",
        )
        figure.colorbar(image, ax=axis, shrink=0.85)
        axis.set(title=name, xlabel="column", ylabel="row")
    return figure
