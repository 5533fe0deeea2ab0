"""What all pictures share: matplotlib figures without global state, and their colours."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .._checks import as_numbers, found

COLOUR, ACCENT = "#2b5c8a", "#c8553d"


def numbers(value: Any, name: str, ndim: int) -> np.ndarray:
    """A float64 array of `ndim` axes that is not empty; or TypeError or ValueError."""
    array = np.asarray(as_numbers(value, name), np.float64)
    if array.ndim != ndim or not array.size:
        raise ValueError(
            f"`{name}` must be an array of {ndim} axes, found shape {array.shape}: reshape it."
        )
    return array


def named(value: Any, name: str, of: str) -> Mapping[str, Any]:
    """A dictionary that is not empty; or TypeError."""
    if not isinstance(value, Mapping) or not value:
        raise TypeError(f"`{name}` must be a dict, name -> {of}, found {found(value)}.")
    return value


def heat_map(
    axis: Any,
    picture: np.ndarray,
    title: str,
    limits: tuple[float | None, float | None],
    colours: str,
    **settings: Any,
) -> None:
    """A matrix in colours with a scale beside it; NaN is grey."""
    axis.set_facecolor("#e6e6e6")
    shown = axis.imshow(
        picture,
        vmin=limits[0],
        vmax=limits[1],
        cmap=colours,
        aspect="auto",
        interpolation="nearest",
        **settings,
    )
    axis.figure.colorbar(shown, ax=axis, shrink=0.85)
    axis.set(title=title, xlabel="column", ylabel="row")


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
