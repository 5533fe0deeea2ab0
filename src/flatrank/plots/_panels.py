"""Panels of curves with bands over seeds: the form that papers' figures have."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from .._checks import as_instance, positive_integer
from .._checks import found as what
from ._canvas import canvas
from ._dynamics import SERIES as SERIES

BAND = "lines: medians over seeds, bands: from the least to the largest"


@dataclass(frozen=True)
class Curve:
    """One curve: `y` is (points,) or (seeds, points); `style` and `marker` as in matplotlib."""

    x: Any
    y: Any
    label: str | None = None
    colour: str = SERIES[0]
    style: str = "-"
    marker: str = ""


@dataclass(frozen=True)
class Panel:
    """Axes with their names, units in brackets, and curves; `logarithmic` names axes: "", "x", "xy"."""

    xlabel: str
    ylabel: str
    curves: Sequence[Curve]
    title: str = ""
    logarithmic: str = ""
    bottom: float | None = None
    top: float | None = None
    reverse: bool = False  # the x axis runs from large to small
    ticks: tuple[Any, ...] = ()  # of the x axis
    legend: bool = True


def panels(title: str, found: Any, across: int = 2) -> Figure:
    """The panels beside and below each other, each with a legend of its own."""
    if not isinstance(found, Sequence) or not found:
        raise TypeError(f"`found` must be a list of Panels, found {what(found)}: pass one or more.")
    for k, panel in enumerate(found):
        as_instance(panel, Panel, f"found[{k}]", "pass a Panel")
    across = min(positive_integer(across, "across"), len(found))
    rows = -(-len(found) // across)
    figure, axes = canvas(4.6 * across, 0.6 + 3.3 * rows, panels=len(found), rows=rows)
    for axis, panel in zip(np.atleast_1d(axes).ravel(), found, strict=False):
        _draw(axis, panel)
    figure.suptitle(title, fontsize=11)
    return figure


def _draw(axis: Any, panel: Panel) -> None:
    for name, dimension in (("x", axis.xaxis), ("y", axis.yaxis)):
        if name in panel.logarithmic:
            dimension.axes.set(**{f"{name}scale": "log"})
            # Within a decade matplotlib writes 2 x 10^0; plain numbers are shorter.
            dimension.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
    for curve in panel.curves:
        values = np.atleast_2d(np.asarray(curve.y, float))
        with warnings.catch_warnings():
            # Where no seed has a value, nothing is drawn.
            warnings.simplefilter("ignore", RuntimeWarning)
            low, middle, high = np.nanquantile(values, (0, 0.5, 1), axis=0)
        axis.plot(
            curve.x,
            middle,
            linestyle=curve.style or "none",
            marker=curve.marker,
            ms=5,
            color=curve.colour,
            lw=1.4,
            label=curve.label,
        )
        if len(values) > 1:
            axis.fill_between(curve.x, low, high, color=curve.colour, alpha=0.13, lw=0)
    axis.set(xlabel=panel.xlabel, ylabel=panel.ylabel)
    axis.set_title(panel.title, fontsize=10)
    if panel.bottom is not None:
        axis.set_ylim(bottom=panel.bottom)
    if panel.top is not None:
        axis.set_ylim(top=panel.top)
    if "x" not in panel.logarithmic and not panel.ticks:
        axis.locator_params(axis="x", nbins=5)
    if panel.ticks:
        axis.set_xticks(panel.ticks, [f"{tick:g}" for tick in panel.ticks])
        axis.minorticks_off()
    if panel.reverse:
        axis.invert_xaxis()
    if panel.legend and any(curve.label for curve in panel.curves):
        axis.legend(frameon=False, fontsize=7.5)
