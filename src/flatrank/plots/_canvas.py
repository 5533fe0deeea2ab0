"""What all pictures share: matplotlib figures without global state, and their colours."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

COLOUR, ACCENT = "#2b5c8a", "#c8553d"


def canvas(
    width: float = 6.0, height: float = 3.6, panels: int = 1, rows: int = 1
) -> tuple[Figure, Any]:
    """A figure and its axes (an array of them for several panels), without the upper and right spine."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, -(-panels // rows))
    for unused in np.atleast_1d(axes).ravel()[panels:]:
        unused.set_visible(False)
    for axis in np.atleast_1d(axes).ravel():
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes
