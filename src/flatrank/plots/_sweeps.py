"""Pictures of sweeps: shares over a plane of two settings, and curves with bands over seeds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from .._checks import as_instance
from ._canvas import canvas, named, numbers
from ._dynamics import SERIES

_ACROSS = 4
_MOST_NUMBERS = 100  # cells of a panel in which the share is also written
_MOST_TICKS = 6


def success_map(
    shares: Any,
    x_ticks: Any,
    y_ticks: Any,
    x_label: str,
    y_label: str,
    title: str,
) -> Figure:
    """One panel a method, name -> shares (y, x) in [0, 1]; NaN, where there is none, is grey."""
    for name, ticks in (("x_ticks", x_ticks), ("y_ticks", y_ticks)):
        as_instance(ticks, list | tuple, name, "pass a list of words")
    shares = {
        name: numbers(plane, f"shares[{name!r}]", 2)
        for name, plane in named(shares, "shares", "array (y, x)").items()
    }
    for name, plane in shares.items():
        if plane.shape != (len(y_ticks), len(x_ticks)):
            raise ValueError(
                f"`shares[{name!r}]` has shape {plane.shape} and there are {len(y_ticks)} `y_ticks` and "
                f"{len(x_ticks)} `x_ticks`: pass one share for each pair."
            )
    across = min(_ACROSS, len(shares))
    down = -(-len(shares) // across)
    wide = max(2.4, 1.0 + 0.36 * len(x_ticks))
    figure, axes = canvas(
        1.3 + wide * across, 0.9 + (1.0 + 0.34 * len(y_ticks)) * down, len(shares), down
    )
    panels = np.atleast_1d(axes).ravel()
    for axis, (name, plane) in zip(panels, shares.items(), strict=False):
        axis.set_facecolor("#d8d8d8")
        image = axis.imshow(plane, vmin=0, vmax=1, cmap="viridis", origin="lower", aspect="auto")
        axis.set_title(name, fontsize=10)
        _name_ticks(axis.set_xticks, x_ticks, 10)
        _name_ticks(axis.set_yticks, y_ticks, 16)
        axis.set(xlabel=x_label, ylabel=y_label)
        axis.label_outer()
        for (i, j), value in np.ndenumerate(plane):
            if plane.size <= _MOST_NUMBERS and np.isfinite(value):
                colour = "black" if value > 0.6 else "white"
                axis.text(j, i, f"{value:.2g}", ha="center", va="center", fontsize=7, color=colour)
    # Above an empty place there is no other panel to name the axis.
    for axis in panels[max(0, len(shares) - across) : len(shares)]:
        axis.xaxis.set_tick_params(labelbottom=True)
        axis.set_xlabel(x_label)
    figure.colorbar(image, ax=axes, label="share of seeds recovered", shrink=0.9)
    figure.suptitle(title, fontsize=11)
    return figure


def curves_over_seeds(
    panels: Any,
    x_label: str,
    y_label: str,
    title: str,
    log_x: bool = False,
    log_y: bool = False,
) -> Figure:
    """One panel a setting, in it name -> line with "x", "middle", "low" and "high" (the band)."""
    for panel, lines in named(panels, "panels", "lines").items():
        for name, line in named(lines, f"panels[{panel!r}]", "line").items():
            which = f"panels[{panel!r}][{name!r}]"
            for key in ("x", "middle", "low", "high"):
                if key not in named(line, which, "array"):
                    raise ValueError(f"`{which}` has no {key!r}: add it.")
                if numbers(line[key], f"{which}[{key!r}]", 1).shape != np.shape(line["x"]):
                    raise ValueError(f"`{which}` has not one {key!r} for each 'x': pass one each.")
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    figure, axes = canvas(0.6 + 3.1 * across, 1.2 + 2.6 * down, len(panels), down)
    places = np.atleast_1d(axes).ravel()
    for axis, (panel, lines) in zip(places, panels.items(), strict=False):
        for name, line in lines.items():
            k = names.index(name)
            style = {"color": SERIES[k % len(SERIES)], "marker": "osD^v<>"[k // len(SERIES) % 7]}
            dashes = ("-", "--", ":", "-.")[k // len(SERIES) % 4]
            axis.plot(line["x"], line["middle"], dashes, ms=3.5, lw=1.3, label=name, **style)
            if len(line["x"]) > 1:
                axis.fill_between(
                    line["x"], line["low"], line["high"], color=style["color"], alpha=0.15, lw=0
                )
            else:
                reach = np.abs(np.asarray([line["low"], line["high"]]) - line["middle"])
                axis.errorbar(line["x"], line["middle"], reach, color=style["color"], lw=1)
        axis.set_xlabel(x_label)
        axis.set_title(panel, fontsize=10)
        axis.set_xscale("log" if log_x else "linear")
        axis.set_yscale("log" if log_y else "linear")
        if axis is not places[0]:
            axis.sharey(places[0])
        values = sorted({float(x) for line in lines.values() for x in line["x"]})
        axis.set_xticks(values[:: -(-len(values) // _MOST_TICKS)])
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
    for axis in places[: len(panels) : across]:
        axis.set_ylabel(y_label)
    if names != [""]:
        handles = {
            text: handle
            for axis in places[: len(panels)]
            for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower center",
            ncols=min(4, across + 1),
            frameon=False,
            fontsize=8,
        )
    figure.suptitle(title, fontsize=11)
    return figure


def _name_ticks(place: Any, names: Sequence[str], most: int) -> None:
    """All names, or every second, third... of them where there are more than `most`."""
    step = -(-len(names) // most)
    place(range(0, len(names), step), names[::step], fontsize=8)
